/* SPDX-License-Identifier: BSD-3-Clause */
/* resize.c: growing, shrinking, what is refused, and what a failure leaves. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "tests/unit/formats/gow1/gow1_fixture.h"

#define BLOCKS 20
#define CAPACITY 100
#define MAP_READS 64 /* in so many pieces the map is read at first */

static int co_resize(struct fixture *fixture, uint64_t size_bytes, const char *why)
{
    struct error err = {.message = ""};
    int rc = node_co_resize(fixture->node, size_bytes, &err);
    if (why && !strstr(err.message, why))
        fail_msg("'%s' does not say '%s'", err.message, why);
    assert_true(rc == 0 || why);
    return rc;
}

static void co_put(struct fixture *fixture, uint32_t block, int byte)
{
    uint8_t data[100];
    memset(data, byte, sizeof(data));
    assert_int_equal(
        fixture_co_write(fixture->node, (uint64_t)block * GOW_BLOCK + 7, data, sizeof(data), 0), 0);
}

static void co_expect(struct fixture *fixture, uint32_t block, int byte)
{
    static uint8_t data[GOW_BLOCK];
    assert_int_equal(fixture_co_read(fixture->node, (uint64_t)block * GOW_BLOCK, data, GOW_BLOCK),
                     0);
    for (unsigned i = 0; i < GOW_BLOCK; i++)
        assert_int_equal(data[i], i >= 7 && i < 107 ? byte : 0);
}

static void check_file(const struct memory_disk *disk, uint32_t size, uint32_t allocated)
{
    struct gow_faults faults = gow_check(disk);
    assert_int_equal(faults.errors, 0);
    assert_int_equal(faults.leaks, 0);
    assert_int_equal(gow_field(disk, 1), size);
    assert_int_equal(gow_field(disk, 2), allocated);
}

static void co_what_is_added_reads_as_zeroes(struct fixture *fixture, void *arg)
{
    (void)arg;
    gow_set_blocks(&fixture->disk, 1, 0x99);
    gow_set_entry(&fixture->disk, 0, 0);
    gow_set_entry(&fixture->disk, 22, 0); /* somebody left it there, behind the end */
    gow_co_open(fixture, GOW_PLAIN);
    co_put(fixture, 5, 1);
    assert_int_equal(co_resize(fixture, 22 * GOW_BLOCK + 1, NULL), 0);
    assert_int_equal(atomic_load(&fixture->node->size_bytes), 23 * GOW_BLOCK); /* rounded up */
    co_expect(fixture, 5, 1);
    co_expect(fixture, 22, 0);
    co_put(fixture, 22, 2);
    co_expect(fixture, 22, 2);
    fixture_co_close(fixture);
    check_file(&fixture->disk, 23, 3);
}
GOW_TEST(what_is_added_reads_as_zeroes, BLOCKS, CAPACITY)

static void co_sizes_that_no_image_has_are_refused(struct fixture *fixture, void *arg)
{
    (void)arg;
    gow_co_open(fixture, GOW_PLAIN);
    assert_int_equal(co_resize(fixture, 0, "a gow1 disk has 1 byte to 64 GiB"), -EINVAL);
    assert_int_equal(co_resize(fixture, (UINT64_C(64) << 30) + 1, "68719476737 bytes"), -EFBIG);
    assert_int_equal(co_resize(fixture, BLOCKS * GOW_BLOCK, NULL), 0);
    assert_int_equal(co_resize(fixture, UINT64_C(64) << 30, NULL), 0);
    fixture_co_close(fixture);
    check_file(&fixture->disk, 1048576, 0);
}
GOW_TEST(sizes_that_no_image_has_are_refused, BLOCKS, CAPACITY)

static void co_shrinking_does_not_lose_data_unless_told(struct fixture *fixture, void *arg)
{
    (void)arg;
    gow_co_open(fixture, GOW_PLAIN);
    co_put(fixture, 12, 1);
    co_put(fixture, 15, 2);
    assert_int_equal(co_resize(fixture, 10 * GOW_BLOCK, "2 blocks with data would be cut off"),
                     -EPERM);
    assert_int_equal(atomic_load(&fixture->node->size_bytes), BLOCKS * GOW_BLOCK);
    co_expect(fixture, 15, 2);
    assert_int_equal(co_resize(fixture, 16 * GOW_BLOCK, NULL), 0); /* nothing is there */
    co_put(fixture, 1, 3);
    fixture_co_close(fixture);
    check_file(&fixture->disk, 16, 3);
}
GOW_TEST(shrinking_does_not_lose_data_unless_told, BLOCKS, CAPACITY)

/* Blocks are written from the disk's end to its begin, so those that stay lie at the file's end. */
static void co_write_backwards(struct fixture *fixture)
{
    gow_co_open(fixture, GOW_EXTRA("shrink", "on"));
    for (uint32_t i = BLOCKS; i-- > 0;)
        co_put(fixture, i, (int)i + 1);
}

static void co_a_shrunken_disk_has_its_blocks_at_the_front(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_write_backwards(fixture);
    assert_int_equal(co_resize(fixture, 6 * GOW_BLOCK, NULL), 0);
    for (uint32_t i = 0; i < 6; i++)
        co_expect(fixture, i, (int)i + 1);
    assert_int_equal(co_resize(fixture, 10 * GOW_BLOCK, NULL), 0);
    co_expect(fixture, 6, 0);
    co_put(fixture, 8, 0x55);
    co_expect(fixture, 8, 0x55); /* zeroes around, whatever lay there once */
    for (uint32_t i = 0; i < 6; i++)
        co_expect(fixture, i, (int)i + 1);
    fixture_co_close(fixture);
    check_file(&fixture->disk, 10, 7);
    assert_int_equal(fixture->disk.size_bytes, GOW_DATA + 7 * GOW_BLOCK);
}
GOW_TEST(a_shrunken_disk_has_its_blocks_at_the_front, BLOCKS, CAPACITY)

static size_t borrow(struct block_loan *loan, int fd, uint64_t host_offset, size_t length)
{
    (void)loan;
    (void)fd;
    (void)host_offset;
    return length;
}

static void co_what_was_lent_does_not_change_hands(struct fixture *fixture, void *arg)
{
    struct block_loan loan = {.use = borrow};
    (void)arg;
    fixture->disk.lend_fd = 7;
    co_write_backwards(fixture);
    assert_int_equal(node_lend(fixture->node, 0, 100, &loan), 0);
    assert_int_equal(co_resize(fixture, 6 * GOW_BLOCK, "it has been served since it was opened"),
                     -EBUSY);
    co_put(fixture, 3, 9);
    assert_int_equal(co_resize(fixture, 2 * BLOCKS * GOW_BLOCK, NULL), 0);
    fixture_co_close(fixture);
    check_file(&fixture->disk, 2 * BLOCKS, BLOCKS);
}
GOW_TEST(what_was_lent_does_not_change_hands, BLOCKS, CAPACITY)

/* --- failures -----------------------------------------------------------------------------------
 */

struct cut {
    uint64_t at;
    uint64_t size_bytes;
    bool happened;
};

/* The image is sound afterwards, and what stays is there. */
static void co_cut(struct fixture *fixture, void *arg)
{
    struct cut *cut = arg;
    struct memory_disk *disk = &fixture->disk;
    struct error err;
    co_write_backwards(fixture);
    assert_int_equal(node_co_flush(fixture->node), 0);
    memory_disk_forget_calls(disk);
    disk->fail_at_call = cut->at;
    disk->fail_code = -EIO;
    int rc = node_co_resize(fixture->node, cut->size_bytes, &err);
    cut->happened = disk->call_count > cut->at;
    disk->fail_code = 0;
    uint64_t size = rc == 0 ? cut->size_bytes : BLOCKS * GOW_BLOCK;
    assert_int_equal(atomic_load(&fixture->node->size_bytes), size);
    for (uint32_t i = 0; i < 6; i++)
        co_expect(fixture, i, (int)i + 1);
    fixture_co_close(fixture);
    assert_int_equal(gow_check(disk).errors, 0);
    gow_co_open(fixture, GOW_EXTRA("repair", "leaks"));
    for (uint32_t i = 0; i < 6; i++)
        co_expect(fixture, i, (int)i + 1);
    fixture_co_close(fixture);
    check_file(disk, gow_field(disk, 1), gow_field(disk, 2));
}

static void a_failure_at_any_call_leaves_a_sound_image(void **state)
{
    static const uint64_t sizes[] = {6 * GOW_BLOCK, 50 * GOW_BLOCK};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct cut cut = {.size_bytes = sizes[i], .happened = true};
        for (; cut.happened; cut.at += cut.at < MAP_READS ? 32 : 1) {
            struct fixture fixture;
            fixture_init(&fixture, gow_drivers(), 0, GOW_DATA + (uint64_t)CAPACITY * GOW_BLOCK, 1);
            gow_make(&fixture.disk, BLOCKS);
            fixture_run(&fixture, co_cut, &cut);
            fixture_fini(&fixture);
        }
        assert_true(cut.at > MAP_READS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_added_reads_as_zeroes),
        cmocka_unit_test(sizes_that_no_image_has_are_refused),
        cmocka_unit_test(shrinking_does_not_lose_data_unless_told),
        cmocka_unit_test(a_shrunken_disk_has_its_blocks_at_the_front),
        cmocka_unit_test(what_was_lent_does_not_change_hands),
        cmocka_unit_test(a_failure_at_any_call_leaves_a_sound_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
