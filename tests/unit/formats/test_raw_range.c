/* SPDX-License-Identifier: BSD-3-Clause */
/* raw.c with "offset" and "size": a part of the file, and not a byte of what lies around it, on
 * disks of any alignment. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/node_options.h"
#include "common/align.h"
#include "formats/raw.h"
#include "tests/unit/block/block_fixture.h"

#define DISK_BYTES 20001
#define MEMORY_FILE 0 /* of memory_drivers */

static const struct block_driver *drivers[3];

/* A disk of that alignment with a pattern in it. */
static void set_up(struct fixture *fixture, uint32_t alignment)
{
    drivers[0] = memory_drivers[MEMORY_FILE];
    drivers[1] = &format_raw;
    fixture_init(fixture, drivers, DISK_BYTES, DISK_BYTES, 1);
    fixture->disk.limits.request_alignment = alignment;
    fixture->disk.limits.memory_alignment = alignment;
    fixture->disk.limits.transfer_bytes_max = align_up(4000, alignment);
    for (size_t i = 0; i < DISK_BYTES; i++)
        fixture->disk.data[i] = (uint8_t)(i % 251 + 1);
}

/* NULL: the option is not given. */
static int co_open(struct fixture *fixture, const char *offset, const char *size, struct error *err)
{
    struct node_options *options = node_options_new();
    memory_disk_options(&fixture->disk, options, "file.", "file");
    node_options_set(options, "file.filename", "disk.img", NULL);
    node_options_set(options, "driver", "raw", NULL);
    if (offset)
        node_options_set(options, "offset", offset, NULL);
    if (size)
        node_options_set(options, "size", size, NULL);
    return block_co_open(&fixture->env, options, &fixture->node, err);
}

/* --- options ------------------------------------------------------------------------------------
 */

static void co_check_ranges(struct fixture *fixture, void *arg)
{
    static const struct {
        const char *offset, *size;
        uint64_t size_bytes;
    } good[] = {
        {NULL, NULL, 20001}, {"0", NULL, 20001}, {"1", NULL, 20000},     {"20000", NULL, 1},
        {"20001", NULL, 0},  {NULL, "0", 0},     {NULL, "20001", 20001}, {"1", "20000", 20000},
        {"20001", "0", 0},   {"4K", "8K", 8192},
    };
    (void)arg;
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        assert_int_equal(co_open(fixture, good[i].offset, good[i].size, NULL), 0);
        assert_int_equal(atomic_load(&fixture->node->size_bytes), good[i].size_bytes);
        fixture_co_close(fixture);
    }
}

static void co_refuse_ranges(struct fixture *fixture, void *arg)
{
    static const struct {
        const char *offset, *size, *sentence;
    } bad[] = {
        {"20002", NULL,
         "offset: 20002 is past the end of 'disk.img', which has 20001 bytes; "
         "give one that is not larger"},
        {"20002", "0",
         "offset: 20002 is past the end of 'disk.img', which has 20001 bytes; "
         "give one that is not larger"},
        {"18446744073709551615", "1",
         "offset: 18446744073709551615 is past the end of 'disk.img', which has 20001 bytes; "
         "give one that is not larger"},
        {NULL, "20002",
         "size: 20002 at the offset 0 reaches past the end of 'disk.img', which has 20001 "
         "bytes; give at most 20001"},
        {"1", "20001",
         "size: 20001 at the offset 1 reaches past the end of 'disk.img', which has 20001 "
         "bytes; give at most 20000"},
        {"1", "18446744073709551615",
         "size: 18446744073709551615 at the offset 1 reaches past the end of 'disk.img', which "
         "has 20001 bytes; give at most 20000"},
        {"-1", NULL,
         "offset: cannot be '-1'; say a number of bytes below 2^64, as 4096, 64K, "
         "10M, 1G or 2T"},
        {NULL, "all",
         "size: cannot be 'all'; say a number of bytes below 2^64, as 4096, 64K, 10M, "
         "1G or 2T"},
    };
    (void)arg;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct error err;
        assert_int_equal(co_open(fixture, bad[i].offset, bad[i].size, &err), -EINVAL);
        assert_string_equal(err.message, bad[i].sentence);
        assert_null(fixture->node);
    }
    assert_int_equal(fixture->disk.counts[MEMORY_OPEN], fixture->disk.counts[MEMORY_CLOSE]);
}

static void run_on(uint32_t alignment, void (*test)(struct fixture *fixture, void *arg), void *arg)
{
    struct fixture fixture;
    set_up(&fixture, alignment);
    fixture_run(&fixture, test, arg);
    fixture_fini(&fixture);
}

static void any_range_inside_the_file_is_an_image(void **state)
{
    (void)state;
    run_on(1, co_check_ranges, NULL);
    run_on(512, co_check_ranges, NULL);
}

static void a_range_that_reaches_past_the_file_is_refused(void **state)
{
    (void)state;
    run_on(512, co_refuse_ranges, NULL);
}

static void co_check_limits(struct fixture *fixture, void *arg)
{
    (void)arg;
    assert_int_equal(co_open(fixture, "1024", NULL, NULL), 0);
    assert_int_equal(fixture->node->limits.request_alignment, 512);
    assert_int_equal(fixture->node->limits.transfer_bytes_max, 4096);
    fixture_co_close(fixture);
    assert_int_equal(co_open(fixture, "1000", NULL, NULL), 0);
    assert_int_equal(fixture->node->limits.request_alignment, 1);
    assert_int_equal(fixture->node->limits.transfer_bytes_max, 0);
    fixture_co_close(fixture);
}

static void blocks_are_the_files_where_the_image_begins_with_one(void **state)
{
    (void)state;
    run_on(512, co_check_limits, NULL);
}

/* --- data ---------------------------------------------------------------------------------------
 */

/* The image is [start, end) of the disk; model is what the whole disk should hold. */
struct part {
    uint64_t start, end;
    uint8_t model[DISK_BYTES];
    struct random random;
};

static void check_disk(const struct fixture *fixture, const struct part *part)
{
    for (size_t i = 0; i < DISK_BYTES; i++) {
        if (fixture->disk.data[i] != part->model[i])
            fail_msg("byte %zu of the disk is %u, not %u; the image is [%llu, %llu)", i,
                     fixture->disk.data[i], part->model[i], (unsigned long long)part->start,
                     (unsigned long long)part->end);
    }
}

static void co_check_read(struct fixture *fixture, const struct part *part, uint64_t offset,
                          uint64_t length)
{
    static uint8_t data[DISK_BYTES];
    assert_int_equal(fixture_co_read(fixture->node, offset, data, length), 0);
    assert_memory_equal(data, part->model + part->start + offset, length);
}

static void co_write(struct fixture *fixture, struct part *part, uint64_t offset, uint64_t length)
{
    uint8_t *model = part->model + part->start + offset;
    for (size_t i = 0; i < length; i++)
        model[i] = (uint8_t)random_below(&part->random, 256);
    unsigned flags = random_below(&part->random, 2) ? BLOCK_FUA : 0;
    assert_int_equal(fixture_co_write(fixture->node, offset, model, length, flags), 0);
}

static void co_zero(struct fixture *fixture, struct part *part, uint64_t offset, uint64_t length)
{
    memset(part->model + part->start + offset, 0, length);
    assert_int_equal(node_co_zero(fixture->node, offset, length, 0), 0);
}

/* Bytes of the range are the old ones or zeroes, all others the old ones. */
static void co_discard(struct fixture *fixture, struct part *part, uint64_t offset, uint64_t length)
{
    assert_int_equal(node_co_discard(fixture->node, offset, length, 0), 0);
    for (uint64_t i = part->start + offset; i < part->start + offset + length; i++) {
        if (fixture->disk.data[i] == 0)
            part->model[i] = 0;
    }
}

static void co_check_status(struct fixture *fixture, const struct part *part, uint64_t offset,
                            uint64_t length)
{
    for (uint64_t end = offset + length; offset < end;) {
        struct block_extent extent;
        assert_int_equal(node_co_status(fixture->node, offset, end - offset, &extent), 0);
        assert_in_range(extent.length, 1, end - offset);
        for (uint64_t i = 0; i < extent.length && (extent.flags & BLOCK_EXTENT_ZERO); i++)
            assert_int_equal(part->model[part->start + offset + i], 0);
        offset += extent.length;
    }
}

static void co_check_edges(struct fixture *fixture, struct part *part)
{
    uint64_t size = part->end - part->start;
    uint8_t bytes[2] = {1, 2};
    struct iovec iov;
    struct block_vec beyond = vec_of_buffer(&iov, bytes, 2);
    co_write(fixture, part, 0, 1);
    co_write(fixture, part, size - 1, 1);
    check_disk(fixture, part);
    co_zero(fixture, part, 0, 1);
    co_zero(fixture, part, size - 1, 1);
    co_discard(fixture, part, 0, size < 700 ? size : 700);
    co_discard(fixture, part, size < 700 ? 0 : size - 700, size < 700 ? size : 700);
    check_disk(fixture, part);
    co_zero(fixture, part, 0, size);
    co_write(fixture, part, 0, size);
    co_check_read(fixture, part, 0, size);
    co_check_read(fixture, part, size - 1, 1);
    assert_int_equal(node_co_write(fixture->node, size - 1, &beyond, 0), -ENOSPC);
    assert_int_equal(node_co_write(fixture->node, size, &beyond, 0), -ENOSPC);
    assert_int_equal(node_co_zero(fixture->node, size - 1, 2, 0), -ENOSPC);
    assert_int_equal(node_co_discard(fixture->node, size, 1, 0), -ENOSPC);
    assert_int_equal(node_co_read(fixture->node, size - 1, &beyond), 0);
    assert_int_equal(bytes[1], 0); /* past the image's end, whatever the file has there */
    check_disk(fixture, part);
}

static void co_work_on_part(struct fixture *fixture, void *arg)
{
    static const unsigned rounds = 120;
    struct part *part = arg;
    uint64_t size = part->end - part->start;
    char offset_text[24], size_text[24];
    snprintf(offset_text, sizeof(offset_text), "%llu", (unsigned long long)part->start);
    snprintf(size_text, sizeof(size_text), "%llu", (unsigned long long)size);
    memcpy(part->model, fixture->disk.data, DISK_BYTES);
    assert_int_equal(
        co_open(fixture, offset_text, part->end == DISK_BYTES ? NULL : size_text, NULL), 0);
    if (size > 0)
        co_check_edges(fixture, part);
    for (unsigned i = 0; i < rounds && size > 0; i++) {
        static void (*const steps[])(struct fixture *, struct part *, uint64_t,
                                     uint64_t) = {co_write, co_zero, co_discard};
        uint64_t offset = random_below(&part->random, size);
        uint64_t most = size - offset;
        uint64_t length = 1 + random_below(&part->random, most < 3000 ? most : 3000);
        steps[random_below(&part->random, 3)](fixture, part, offset, length);
        co_check_read(fixture, part, offset, length);
        co_check_status(fixture, part, offset, length);
        check_disk(fixture, part);
    }
    fixture_co_close(fixture);
    check_disk(fixture, part);
}

static void every_edge_keeps_to_its_part_of_the_disk(void **state)
{
    static const uint32_t alignments[] = {1, 512, 4096};
    static const uint64_t starts[] = {0, 1, 511, 512, 513, 4096, 4097, 19999, 20000, 20001};
    static const uint64_t ends[] = {512, 513, 4096, 8191, 8192, 8193, 19968, 20000, 20001};
    (void)state;
    uint64_t seed = fixture_seed("raw_range");
    for (size_t a = 0; a < 3; a++) {
        for (size_t s = 0; s < sizeof(starts) / sizeof(*starts); s++) {
            for (size_t e = 0; e < sizeof(ends) / sizeof(*ends); e++) {
                static struct part part;
                if (ends[e] < starts[s])
                    continue;
                part.start = starts[s];
                part.end = ends[e];
                random_seed(&part.random, seed);
                run_on(alignments[a], co_work_on_part, &part);
            }
        }
    }
}

static void co_resize(struct fixture *fixture, void *arg)
{
    struct error err;
    (void)arg;
    assert_int_equal(co_open(fixture, "5", "10", NULL), 0);
    assert_int_equal(format_raw.admin->co_resize(fixture->node, 11, &err), -ENOTSUP);
    assert_string_equal(err.message, "cannot resize 'disk.img': its size was given as an option; "
                                     "leave that out");
    fixture_co_close(fixture);
    assert_int_equal(co_open(fixture, "5", NULL, NULL), 0);
    assert_int_equal(format_raw.admin->co_resize(fixture->node, UINT64_MAX - 4, &err), -EFBIG);
    assert_int_equal(format_raw.admin->co_resize(fixture->node, 11, &err), -ENOTSUP);
    assert_string_equal(err.message, "cannot resize 'disk.img': the driver file has a fixed size");
    fixture_co_close(fixture);
}

static void a_part_of_fixed_size_is_not_resized(void **state)
{
    (void)state;
    run_on(1, co_resize, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_range_inside_the_file_is_an_image),
        cmocka_unit_test(a_range_that_reaches_past_the_file_is_refused),
        cmocka_unit_test(blocks_are_the_files_where_the_image_begins_with_one),
        cmocka_unit_test(every_edge_keeps_to_its_part_of_the_disk),
        cmocka_unit_test(a_part_of_fixed_size_is_not_resized),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
