/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check.c, repair.c, rewrite.c: each kind of damage is found, mended, and nothing that could be
 * read before is lost; also when the repair is cut off by an error and made again.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>

#include "tests/unit/formats/gow1/gow1_fixture.h"

#define BLOCKS 20
#define MAP_READS 64 /* in so many pieces the map is read at first */
#define SHOWN (12 * GOW_BLOCK)

/* Each block of the file has its own byte. */
static void make(struct memory_disk *disk, uint32_t count)
{
    gow_set_blocks(disk, count, 0);
    for (uint32_t i = 0; i < count; i++)
        memset(disk->data + GOW_DATA + (uint64_t)i * GOW_BLOCK, 0x40 + (int)i, GOW_BLOCK);
}

static void damage_nothing(struct memory_disk *disk)
{
    gow_set_entry(disk, 1, 0);
    for (uint32_t i = 1; i < 6; i++)
        gow_set_entry(disk, 12 - 2 * i, i);
}

static void damage_past_file(struct memory_disk *disk)
{
    damage_nothing(disk);
    gow_set_field(disk, 2, 9);
    gow_set_entry(disk, 3, 6);
    gow_set_entry(disk, 5, 0xfffffffe);
}

static void damage_past_allocated(struct memory_disk *disk)
{
    damage_nothing(disk);
    gow_set_field(disk, 2, 3);
}

static void damage_twice(struct memory_disk *disk)
{
    damage_nothing(disk);
    gow_set_entry(disk, 0, 4);
    gow_set_entry(disk, 3, 4);
    gow_set_entry(disk, 11, 1);
}

static void damage_past_size(struct memory_disk *disk)
{
    damage_nothing(disk);
    gow_set_entry(disk, BLOCKS, 3);
    gow_set_entry(disk, 1048575, 0);
}

static void damage_allocated_above_size(struct memory_disk *disk)
{
    damage_nothing(disk);
    gow_set_field(disk, 2, BLOCKS + 1);
}

/* And the blocks lie further out than the disk is large. */
static void damage_far_out(struct memory_disk *disk)
{
    make(disk, BLOCKS + 10);
    gow_set_entry(disk, 2, BLOCKS + 9);
    gow_set_entry(disk, 3, BLOCKS + 1);
    gow_set_entry(disk, 7, 3);
}

static void damage_leaks(struct memory_disk *disk)
{
    damage_nothing(disk);
    gow_set_entry(disk, 10, GOW_FREE);
    gow_set_entry(disk, 8, GOW_FREE);
}

static void damage_all(struct memory_disk *disk)
{
    damage_twice(disk);
    damage_past_size(disk);
    gow_set_entry(disk, 9, 1000);
    gow_set_field(disk, 2, 0xffffffff);
}

static const struct damage {
    const char *name;
    void (*make)(struct memory_disk *disk);
    uint64_t errors, leaks;
    bool opens;  /* for reading, at least */
    bool is_cut; /* the repair of this one fails in a test: those that move most */
} damages[] = {
    {"nothing", damage_nothing, 0, 0, true, false},
    {"past the file", damage_past_file, 2, 3, true, false},
    {"past allocated", damage_past_allocated, 3, 0, true, false},
    {"twice", damage_twice, 3, 0, true, true},
    {"past the size", damage_past_size, 2, 0, true, false},
    {"allocated above size", damage_allocated_above_size, 0, 0, false, false},
    {"far out", damage_far_out, 0, 0, false, true},
    {"leaks", damage_leaks, 0, 2, true, false},
    {"all", damage_all, 0, 0, false, true},
};
#define DAMAGES (sizeof(damages) / sizeof(*damages))

static void count_sentence(void *arg, const char *sentence)
{
    (void)sentence;
    (*(unsigned *)arg)++;
}

static void co_check(struct fixture *fixture, uint64_t errors, uint64_t leaks)
{
    struct block_check check;
    struct error err;
    unsigned sentences = 0;
    gow_co_open(fixture, GOW_EXTRA("read-only", "on"));
    assert_int_equal(block_co_check(fixture->node, count_sentence, &sentences, &check, &err), 0);
    assert_int_equal(check.errors, errors);
    assert_int_equal(check.leaks, leaks);
    assert_int_equal(sentences, errors);
    assert_int_equal(check.unreadable, 0);
    fixture_co_close(fixture);
}

static void co_repair(struct fixture *fixture, const char *what)
{
    gow_co_open(fixture, GOW_EXTRA("repair", what));
    fixture_co_close(fixture);
}

static void co_mend(struct fixture *fixture, void *arg)
{
    static uint8_t before[SHOWN], after[SHOWN];
    const struct damage *damage = arg;
    struct memory_disk *disk = &fixture->disk;
    make(disk, 6);
    damage->make(disk);
    gow_read(disk, 0, before, SHOWN);
    if (damage->opens)
        co_check(fixture, damage->errors, damage->leaks);
    co_repair(fixture, "all");
    co_check(fixture, 0, 0);
    gow_read(disk, 0, after, SHOWN);
    assert_memory_equal(before, after, SHOWN);
    struct gow_faults faults = gow_check(disk);
    assert_int_equal(faults.errors, 0);
    assert_int_equal(faults.leaks, 0);
    assert_true(disk->size_bytes <= GOW_DATA + (uint64_t)gow_field(disk, 2) * GOW_BLOCK);
}

static void run_with(void (*test)(struct fixture *fixture, void *arg), void *arg)
{
    struct fixture fixture;
    fixture_init(&fixture, gow_drivers(), 0, GOW_DATA + 64 * GOW_BLOCK, 1);
    gow_make(&fixture.disk, BLOCKS);
    fixture_run(&fixture, test, arg);
    fixture_fini(&fixture);
}

static void every_damage_is_found_and_mended(void **state)
{
    (void)state;
    for (size_t i = 0; i < DAMAGES; i++) {
        printf("damage: %s\n", damages[i].name);
        run_with(co_mend, (void *)(uintptr_t)&damages[i]);
    }
}

/* --- what is not asked for ----------------------------------------------------------------------
 */

static void co_leave(struct fixture *fixture, void *arg)
{
    (void)arg;
    make(&fixture->disk, 6);
    damage_twice(&fixture->disk);
    gow_co_refuse(fixture, GOW_PLAIN, "which another entry before it is as well");
    gow_co_refuse(fixture, GOW_EXTRA("repair", "leaks"),
                  "which another entry before it is as well");
    co_check(fixture, 3, 0);
}

static void leaks_alone_are_not_errors(void **state)
{
    (void)state;
    run_with(co_leave, NULL);
}

static void co_leaks(struct fixture *fixture, void *arg)
{
    (void)arg;
    make(&fixture->disk, 6);
    damage_leaks(&fixture->disk);
    co_repair(fixture, "leaks");
    co_check(fixture, 0, 0);
    assert_int_equal(gow_field(&fixture->disk, 2), 4);
    gow_co_open(fixture, GOW_PLAIN); /* and without it, it opens as well */
}

static void leaks_are_given_back(void **state)
{
    (void)state;
    run_with(co_leaks, NULL);
}

/* --- cut off ------------------------------------------------------------------------------------
 */

struct cut {
    const struct damage *damage;
    uint64_t at;
    bool happened;
};

static void co_cut(struct fixture *fixture, void *arg)
{
    static uint8_t before[SHOWN], after[SHOWN];
    struct cut *cut = arg;
    struct memory_disk *disk = &fixture->disk;
    make(disk, 6);
    cut->damage->make(disk);
    gow_read(disk, 0, before, SHOWN);
    memory_disk_forget_calls(disk);
    disk->fail_at_call = 1 + cut->at; /* not the open */
    disk->fail_code = -EIO;
    struct error err;
    struct node_options *options = node_options_new();
    memory_disk_options(disk, options, "file.", "growing");
    node_options_set(options, "driver", "gow1", NULL);
    node_options_set(options, "repair", "all", NULL);
    int rc = block_co_open(&fixture->env, options, &fixture->node, &err);
    if (rc == 0)
        fixture_co_close(fixture);
    cut->happened = disk->call_count > 1 + cut->at;
    disk->fail_code = 0;
    gow_read(disk, 0, after, SHOWN);
    assert_memory_equal(before, after, SHOWN);
    co_repair(fixture, "all");
    co_check(fixture, 0, 0);
    gow_read(disk, 0, after, SHOWN);
    assert_memory_equal(before, after, SHOWN);
}

static void a_repair_that_fails_at_any_call_can_be_made_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < DAMAGES; i++) {
        struct cut cut = {.damage = &damages[i], .happened = true};
        if (!damages[i].is_cut)
            continue;
        for (; cut.happened; cut.at += cut.at < MAP_READS ? 32 : 1)
            run_with(co_cut, &cut);
        assert_true(cut.at > MAP_READS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_damage_is_found_and_mended),
        cmocka_unit_test(leaks_alone_are_not_errors),
        cmocka_unit_test(leaks_are_given_back),
        cmocka_unit_test(a_repair_that_fails_at_any_call_can_be_made_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
