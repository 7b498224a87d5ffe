/* SPDX-License-Identifier: BSD-3-Clause */
/* filter_verify.c: both images get every change, reads are held against each other, and requests
 * that overlap come to both in one order. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/filters.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 65536

static const struct block_driver *drivers[] = {&block_filter_verify, NULL, NULL, NULL, NULL};

/* The disk of the fixture is the reference. */
static struct memory_disk tested;

static int co_try_open(struct fixture *fixture, const char *name, const char *reference,
                       struct error *err)
{
    struct node_options *options = node_options_new();
    char prefix[32];
    snprintf(prefix, sizeof(prefix), "%s.", reference);
    node_options_set(options, "driver", name, NULL);
    memory_disk_options(&fixture->disk, options, prefix, "growing");
    memory_disk_options(&tested, options, "test.", "growing");
    return block_co_open(&fixture->env, options, &fixture->node, err);
}

static struct block_node *co_open(struct fixture *fixture)
{
    struct error err = {""};
    if (co_try_open(fixture, "verify", "raw", &err) < 0)
        fail_msg("%s", err.message);
    return fixture->node;
}

static void co_both_images_get_every_change(struct fixture *fixture, void *arg)
{
    uint8_t data[3000], again[3000];
    (void)arg;
    struct block_node *node = co_open(fixture);
    memset(data, 7, sizeof(data));
    assert_int_equal(fixture_co_write(node, 100, data, 3000, BLOCK_FUA), 0);
    assert_int_equal(node_co_zero(node, 200, 1000, BLOCK_NO_UNMAP), 0);
    assert_int_equal(fixture_co_write(node, SIZE - 1, data, 100, 0), 0); /* both grow */
    assert_int_equal(node_co_zero(node, SIZE + 99, 1, 0), 0);
    assert_int_equal(node->size_bytes, SIZE + 100);
    assert_int_equal(fixture->disk.size_bytes, SIZE + 100);
    assert_memory_equal(fixture->disk.data, tested.data, SIZE + 100);
    assert_int_equal(tested.data[100], 7);
    assert_int_equal(tested.data[200], 0);
    assert_int_equal(fixture_co_read(node, 100, again, 3000), 0);
    memset(data + 100, 0, 1000);
    assert_memory_equal(data, again, 3000);
    assert_int_equal(node_co_flush(node), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 1);
    assert_int_equal(tested.counts[MEMORY_FLUSH], 1);
    assert_int_equal(node_co_cache(node, 0, 100), 0);
    assert_int_equal(tested.counts[MEMORY_CACHE], 1);
    assert_int_equal(node_co_discard(node, 0, SIZE, 0), 0); /* is not handed on */
    assert_int_equal(tested.counts[MEMORY_DISCARD] + fixture->disk.counts[MEMORY_DISCARD], 0);
    assert_int_equal(node_co_zero(node, 0, 512, BLOCK_FAST), -ENOTSUP);
    assert_int_equal(tested.counts[MEMORY_ZERO], 2);
}

/* What the log says meanwhile. */
static char said[4000];

static void begin_listening(int *ret_old, FILE **ret_file)
{
    fflush(stderr);
    *ret_file = tmpfile();
    assert_non_null(*ret_file);
    *ret_old = dup(STDERR_FILENO);
    dup2(fileno(*ret_file), STDERR_FILENO);
}

static void end_listening(int old, FILE *file)
{
    fflush(stderr);
    dup2(old, STDERR_FILENO);
    close(old);
    rewind(file);
    said[fread(said, 1, sizeof(said) - 1, file)] = '\0';
    fclose(file);
}

static void co_the_first_difference_is_told_with_its_bytes(struct fixture *fixture, void *arg)
{
    uint8_t data[3000];
    int old;
    FILE *file;
    (void)arg;
    struct block_node *node = co_open(fixture);
    tested.data[5000] = 0xab;
    fixture->disk.data[5001] = 0xcd;
    assert_int_equal(fixture_co_read(node, 4000, data, 1000), 0);
    begin_listening(&old, &file);
    assert_int_equal(fixture_co_read(node, 4000, data, 1001), -EIO);
    assert_int_equal(fixture_co_read(node, 4000, data, 3000), -EIO);
    end_listening(old, file);
    const char *line = strstr(said, "at offset 5000: it has ab, and should have 00;");
    assert_non_null(line);
    assert_null(strstr(line + 1, "at offset")); /* once */
    fixture_co_close(fixture);

    node = co_open(fixture);
    begin_listening(&old, &file);
    assert_int_equal(fixture_co_read(node, 4000, data, 1003), -EIO);
    end_listening(old, file);
    assert_non_null(strstr(said, "it has ab 00 00, and should have 00 cd 00;"));
    assert_int_equal(fixture_co_read(node, 5001, data, 1), -EIO);
    assert_int_equal(fixture_co_read(node, 5002, data, 100), 0);
    assert_int_equal(fixture_co_write(node, 5000, data, 2, 0), 0); /* the same again */
    assert_int_equal(fixture_co_read(node, 4000, data, 3000), 0);
}

static void co_a_difference_is_found_in_scattered_memory(struct fixture *fixture, void *arg)
{
    uint8_t data[4000];
    struct iovec iov[40];
    (void)arg;
    struct block_node *node = co_open(fixture);
    for (unsigned i = 0; i < 40; i++)
        iov[i] = (struct iovec){.iov_base = data + 100 * i, .iov_len = 100};
    struct block_vec vec = {.iov = iov, .skip = 50, .length = 3900};
    assert_int_equal(node_co_read(node, 1000, &vec), 0);
    for (unsigned at = 0; at < 3900; at += 433) {
        tested.data[1000 + at] = 1;
        assert_int_equal(node_co_read(node, 1000, &vec), -EIO);
        tested.data[1000 + at] = 0;
        assert_int_equal(node_co_read(node, 1000, &vec), 0);
    }
}

static void co_one_that_fails_alone_is_a_difference(struct fixture *fixture, void *arg)
{
    uint8_t data[100] = {0};
    int old;
    FILE *file;
    (void)arg;
    struct block_node *node = co_open(fixture);
    tested.fail_ops = 1u << MEMORY_WRITE | 1u << MEMORY_READ;
    tested.fail_code = -ENOSPC;
    begin_listening(&old, &file);
    assert_int_equal(fixture_co_write(node, 300, data, 100, 0), -EIO);
    end_listening(old, file);
    assert_non_null(strstr(said, "a write of 100 bytes at offset 300 gives 'No space left on "
                                 "device', and should give 'no error'"));
    assert_int_equal(fixture_co_read(node, 300, data, 100), -EIO);
    fixture->disk.fail_ops = tested.fail_ops;
    fixture->disk.fail_code = -ENOSPC;
    assert_int_equal(fixture_co_write(node, 300, data, 100, 0), -ENOSPC); /* both alike */
    assert_int_equal(fixture_co_read(node, 300, data, 100), -ENOSPC);
    tested.fail_ops = fixture->disk.fail_ops = 1u << MEMORY_FLUSH | 1u << MEMORY_CACHE;
    assert_int_equal(node_co_cache(node, 0, 1), -ENOSPC);
    assert_int_equal(node_co_flush(node), -ENOSPC);
    tested.fail_code = fixture->disk.fail_code = 0;
}

struct writer {
    struct block_node *node;
    struct random random;
};

#define BLOCK 64
#define BLOCKS 8

static void co_write_at_random(void *arg)
{
    struct writer *writer = arg;
    uint8_t data[BLOCK * BLOCKS];
    for (int i = 0; i < 200; i++) {
        uint64_t offset = random_below(&writer->random, BLOCKS * BLOCK - 1);
        size_t length = 1 + random_below(&writer->random, BLOCKS * BLOCK - offset);
        if (random_once_in(&writer->random, 3)) {
            assert_int_equal(fixture_co_read(writer->node, offset, data, length), 0);
        } else if (random_once_in(&writer->random, 5)) {
            assert_int_equal(node_co_zero(writer->node, offset, length, 0), 0);
        } else {
            memset(data, (int)random_below(&writer->random, 256), length);
            assert_int_equal(fixture_co_write(writer->node, offset, data, length, 0), 0);
        }
    }
}

static void co_overlapping_changes_come_to_both_in_one_order(struct fixture *fixture, void *arg)
{
    struct group group;
    struct writer writers[16];
    (void)arg;
    uint64_t seed = fixture_seed("overlapping");
    fixture->disk.pauses_max = tested.pauses_max = 3;
    random_seed(&fixture->disk.random, seed);
    random_seed(&tested.random, seed + 1);
    struct block_node *node = co_open(fixture);
    group_init(&group, fixture->loop);
    for (unsigned i = 0; i < 16; i++) {
        writers[i].node = node;
        random_seed(&writers[i].random, seed + 2 + i);
        group_start(&group, co_write_at_random, &writers[i]);
    }
    group_co_wait(&group);
    assert_memory_equal(fixture->disk.data, tested.data, SIZE);
}

static int resize(struct block_node *node, uint64_t size_bytes, struct error *err)
{
    struct memory_disk *disk = node->state;
    if (size_bytes > disk->capacity_bytes)
        return error_set(err, -ENOSPC, "no room");
    disk->size_bytes = size_bytes;
    atomic_store(&node->size_bytes, size_bytes);
    return 0;
}

static void co_both_are_resized_or_none(struct fixture *fixture, void *arg)
{
    struct block_driver sized = *memory_drivers[1];
    static const struct block_driver_admin admin = {.co_resize = resize};
    struct error err;
    (void)arg;
    sized.admin = &admin;
    drivers[2] = &sized;
    struct block_node *node = co_open(fixture);
    assert_int_equal(node_co_resize(node, 1000, &err), 0);
    assert_int_equal(tested.size_bytes, 1000);
    assert_int_equal(fixture->disk.size_bytes, 1000);
    assert_int_equal(node->size_bytes, 1000);
    fixture->disk.capacity_bytes = 1000;
    assert_int_equal(node_co_resize(node, 2000, &err), -ENOSPC);
    assert_int_equal(tested.size_bytes, 1000);
    assert_int_equal(node->size_bytes, 1000);
    assert_int_equal(node_co_resize(node, 500, &err), 0);
    fixture_co_close(fixture);
    drivers[2] = memory_drivers[1];
}

static void co_limits_suit_both(struct fixture *fixture, void *arg)
{
    uint8_t data[100] = {1};
    (void)arg;
    fixture->disk.limits = (struct block_limits){.request_alignment = 512, .memory_alignment = 64};
    tested.limits = (struct block_limits){
        .request_alignment = 64, .memory_alignment = 512, .transfer_bytes_max = 192};
    struct block_node *node = co_open(fixture);
    assert_int_equal(node->limits.request_alignment, 512);
    assert_int_equal(node->limits.memory_alignment, 512);
    assert_int_equal(fixture_co_write(node, 77, data, 100, 0), 0);
    assert_int_equal(fixture_co_read(node, 77, data, 100), 0);
    assert_memory_equal(fixture->disk.data, tested.data, SIZE);
}

static void co_what_makes_no_sense_is_refused(struct fixture *fixture, void *arg)
{
    struct error err;
    (void)arg;
    assert_int_equal(co_try_open(fixture, "blkverify", "file", &err), 0);
    fixture_co_close(fixture);
    tested.size_bytes--;
    assert_int_equal(co_try_open(fixture, "verify", "raw", &err), -EINVAL);
    assert_non_null(strstr(err.message, "test: 'growing' has 65535 bytes, and the reference "
                                        "'growing' 65536"));
    tested.size_bytes++;
    struct node_options *options = node_options_new();
    node_options_set(options, "driver", "verify", NULL);
    memory_disk_options(&fixture->disk, options, "raw.", "growing");
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, &err), -EINVAL);
    assert_non_null(strstr(err.message, "test: missing"));
    options = node_options_new();
    node_options_set(options, "driver", "verify", NULL);
    memory_disk_options(&tested, options, "test.", "growing");
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, &err), -EINVAL);
    assert_non_null(strstr(err.message, "raw: missing"));
    options = node_options_new();
    node_options_set(options, "driver", "verify", NULL);
    node_options_set(options, "test.read-only", "on", NULL);
    memory_disk_options(&fixture->disk, options, "raw.", "growing");
    memory_disk_options(&tested, options, "test.", "growing");
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, &err), -EROFS);
    assert_int_equal(tested.counts[MEMORY_OPEN], tested.counts[MEMORY_CLOSE]);
    assert_int_equal(fixture->disk.counts[MEMORY_OPEN], fixture->disk.counts[MEMORY_CLOSE]);
}

#define TESTS(X)                                     \
    X(both_images_get_every_change)                  \
    X(the_first_difference_is_told_with_its_bytes)   \
    X(a_difference_is_found_in_scattered_memory)     \
    X(one_that_fails_alone_is_a_difference)          \
    X(overlapping_changes_come_to_both_in_one_order) \
    X(both_are_resized_or_none)                      \
    X(limits_suit_both)                              \
    X(what_makes_no_sense_is_refused)

#define DEFINE_TEST(name)                                   \
    static void name(void **state)                          \
    {                                                       \
        struct fixture fixture;                             \
        (void)state;                                        \
        fixture_init(&fixture, drivers, SIZE, 2 * SIZE, 1); \
        memory_disk_init(&tested, SIZE, 2 * SIZE, 2);       \
        fixture_run(&fixture, co_##name, NULL);             \
        fixture_fini(&fixture);                             \
        memory_disk_fini(&tested);                          \
    }
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    memcpy(&drivers[1], memory_drivers, 2 * sizeof(*drivers));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
