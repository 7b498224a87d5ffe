/* SPDX-License-Identifier: BSD-3-Clause */
/* align.c: exactly which calls an unaligned request makes to the driver, and what it is tracked as.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/align.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 300100 /* the last block of 512 holds 68 bytes */
#define BLOCK 512
#define LARGE 200000

struct expected {
    enum memory_op op;
    uint64_t offset, length;
};

static void expect_calls(struct fixture *fixture, const struct expected *expected, unsigned count)
{
    const struct memory_disk *disk = &fixture->disk;
    assert_int_equal(disk->log_count, count);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(disk->log[i].op, expected[i].op);
        assert_int_equal(disk->log[i].offset, expected[i].offset);
        assert_int_equal(disk->log[i].length, expected[i].length);
    }
    memory_disk_forget_calls(&fixture->disk);
}

#define EXPECT(...)                                               \
    expect_calls(fixture, (const struct expected[]){__VA_ARGS__}, \
                 sizeof((const struct expected[]){__VA_ARGS__}) / sizeof(struct expected))

static void co_open_in_blocks(struct fixture *fixture, const char *driver)
{
    fixture->disk.limits.request_alignment = BLOCK;
    fixture_co_open(fixture, driver, false);
    memory_disk_forget_calls(&fixture->disk);
}

static void co_an_aligned_request_is_handed_on_as_it_is(struct fixture *fixture, void *arg)
{
    uint8_t *data = calloc(1, LARGE);
    (void)arg;
    co_open_in_blocks(fixture, "file");
    assert_int_equal(fixture_co_write(fixture->node, 1024, data, 1024, 0), 0);
    EXPECT({MEMORY_WRITE, 1024, 1024});
    assert_int_equal(fixture_co_read(fixture->node, 0, data, 512), 0);
    EXPECT({MEMORY_READ, 0, 512});
    assert_int_equal(node_co_zero(fixture->node, 512, 512, 0), 0);
    EXPECT({MEMORY_ZERO, 512, 512});
    free(data);
}

static void co_a_short_unaligned_write_reads_its_ends_and_writes_once(struct fixture *fixture,
                                                                      void *arg)
{
    uint8_t data[4096] = {0};
    (void)arg;
    co_open_in_blocks(fixture, "file");
    assert_int_equal(fixture_co_write(fixture->node, 10, data, 20, 0), 0);
    EXPECT({MEMORY_READ, 0, 512}, {MEMORY_WRITE, 0, 512});
    assert_int_equal(fixture_co_write(fixture->node, 500, data, 100, 0), 0); /* two blocks */
    EXPECT({MEMORY_READ, 0, 1024}, {MEMORY_WRITE, 0, 1024});
    assert_int_equal(fixture_co_write(fixture->node, 500, data, 2000, 0), 0);
    EXPECT({MEMORY_READ, 0, 512}, {MEMORY_READ, 2048, 512}, {MEMORY_WRITE, 0, 2560});
    assert_int_equal(fixture_co_write(fixture->node, 512, data, 1000, 0), 0); /* a tail alone */
    EXPECT({MEMORY_READ, 1024, 512}, {MEMORY_WRITE, 512, 1024});
    assert_int_equal(fixture_co_write(fixture->node, 700, data, 836, 0), 0); /* a head alone */
    EXPECT({MEMORY_READ, 512, 512}, {MEMORY_WRITE, 512, 1024});
}

static void co_a_long_unaligned_write_copies_only_its_ends(struct fixture *fixture, void *arg)
{
    uint8_t *data = calloc(1, LARGE);
    (void)arg;
    co_open_in_blocks(fixture, "file");
    assert_int_equal(fixture_co_write(fixture->node, 500, data, LARGE, 0), 0);
    EXPECT({MEMORY_READ, 0, 512}, {MEMORY_WRITE, 0, 512}, {MEMORY_WRITE, 512, 199680},
           {MEMORY_READ, 200192, 512}, {MEMORY_WRITE, 200192, 512});
    free(data);
}

static void co_an_unaligned_read_reads_whole_blocks(struct fixture *fixture, void *arg)
{
    uint8_t *data = calloc(1, LARGE);
    (void)arg;
    for (unsigned i = 0; i < SIZE; i++)
        fixture->disk.data[i] = (uint8_t)(i % 251);
    co_open_in_blocks(fixture, "file");
    assert_int_equal(fixture_co_read(fixture->node, 600, data, 600), 0);
    EXPECT({MEMORY_READ, 512, 1024});
    assert_memory_equal(data, fixture->disk.data + 600, 600);
    assert_int_equal(fixture_co_read(fixture->node, 500, data, LARGE), 0);
    EXPECT({MEMORY_READ, 0, 512}, {MEMORY_READ, 512, 199680}, {MEMORY_READ, 200192, 512});
    assert_memory_equal(data, fixture->disk.data + 500, LARGE);
    free(data);
}

static void co_the_nodes_odd_end_is_never_passed(struct fixture *fixture, void *arg)
{
    uint8_t data[4096] = {0};
    const uint64_t last = SIZE - SIZE % BLOCK;
    (void)arg;
    co_open_in_blocks(fixture, "file");
    assert_int_equal(fixture_co_write(fixture->node, last, data, SIZE - last, 0), 0);
    EXPECT({MEMORY_WRITE, last, SIZE - last});
    assert_int_equal(fixture_co_write(fixture->node, SIZE - 1, data, 1, 0), 0);
    EXPECT({MEMORY_READ, last, SIZE - last}, {MEMORY_WRITE, last, SIZE - last});
    assert_int_equal(fixture_co_write(fixture->node, last, data, 1, 0), 0);
    EXPECT({MEMORY_READ, last, SIZE - last}, {MEMORY_WRITE, last, SIZE - last});
    assert_int_equal(fixture_co_read(fixture->node, SIZE - 2, data, 4096), 0);
    EXPECT({MEMORY_READ, last, SIZE - last});
    assert_int_equal(node_co_zero(fixture->node, last - BLOCK, SIZE - last + BLOCK, 0), 0);
    EXPECT({MEMORY_ZERO, last - BLOCK, SIZE - last + BLOCK});
    assert_int_equal(fixture->disk.size_bytes, SIZE);
}

static void co_a_zero_makes_its_ends_by_writing(struct fixture *fixture, void *arg)
{
    (void)arg;
    memset(fixture->disk.data, 0x55, SIZE);
    co_open_in_blocks(fixture, "file");
    assert_int_equal(node_co_zero(fixture->node, 100, LARGE, BLOCK_NO_UNMAP), 0);
    EXPECT({MEMORY_READ, 0, 512}, {MEMORY_WRITE, 0, 512}, {MEMORY_ZERO, 512, 199168},
           {MEMORY_READ, 199680, 512}, {MEMORY_WRITE, 199680, 512});
    for (unsigned i = 0; i < SIZE; i++)
        assert_int_equal(fixture->disk.data[i], i < 100 || i >= 100 + LARGE ? 0x55 : 0);
}

static void co_a_discard_leaves_its_ends_alone(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_open_in_blocks(fixture, "file");
    assert_int_equal(node_co_discard(fixture->node, 100, 2000, 0), 0);
    EXPECT({MEMORY_DISCARD, 512, 1536});
    assert_int_equal(node_co_discard(fixture->node, 600, 800, 0), 0);
    assert_int_equal(node_co_discard(fixture->node, 513, 511, 0), 0);
    assert_int_equal(fixture->disk.log_count, 0);
    assert_int_equal(node_co_discard(fixture->node, SIZE - 600, 600, 0), 0);
    EXPECT({MEMORY_DISCARD, 299520, SIZE - 299520});
}

static void co_growing_from_an_odd_end_fills_the_old_block(struct fixture *fixture, void *arg)
{
    uint8_t data[2000];
    const uint64_t last = SIZE - SIZE % BLOCK;
    (void)arg;
    memset(fixture->disk.data, 0x55, SIZE);
    memset(data, 0x66, sizeof(data));
    co_open_in_blocks(fixture, "growing");
    assert_int_equal(fixture_co_write(fixture->node, SIZE + 10, data, 2000, 0), 0);
    EXPECT({MEMORY_READ, last, SIZE - last}, {MEMORY_WRITE, last, SIZE + 2010 - last});
    assert_int_equal(fixture->disk.size_bytes, SIZE + 2010);
    for (unsigned i = 0; i < SIZE + 2010; i++)
        assert_int_equal(fixture->disk.data[i], i < SIZE ? 0x55 : i < SIZE + 10 ? 0 : 0x66);
}

static void co_what_a_request_covers_follows_the_rules_of_growth(struct fixture *fixture, void *arg)
{
    static const struct {
        uint64_t offset, length, size;
        uint64_t cover, cover_length;
        bool serialising;
    } cases[] = {
        {512, 1024, 8192, 512, 1024, false},              /* whole blocks */
        {512, 1000, 8192, 512, 1024, true},               /* a tail */
        {600, 424, 8192, 512, 512, true},                 /* a head */
        {512, 1000, 1512, 512, 1024, false},              /* up to an odd end */
        {8192, 512, 8192, 8192, 512, false},              /* growth by whole blocks */
        {9216, 512, 8192, 8192, 1536, false},             /* with a gap: from the old end on */
        {8192, 100, 8192, 8192, UINT64_MAX - 8192, true}, /* growth to an odd end */
        {8704, 512, 8200, 8192, UINT64_MAX - 8192, true}, /* growth from an odd end */
        {100, 9000, 8192, 0, UINT64_MAX, true},           /* growth with a head */
    };
    (void)arg;
    co_open_in_blocks(fixture, "growing");
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct align_cover cover =
            align_cover_write(fixture->node, cases[i].offset, cases[i].length, cases[i].size);
        assert_int_equal(cover.offset, cases[i].cover);
        assert_int_equal(cover.length, cases[i].cover_length);
        assert_int_equal(cover.serialising, cases[i].serialising);
    }
    struct align_cover read = align_cover_read(fixture->node, 600, 500, 8192);
    assert_int_equal(read.offset, 512);
    assert_int_equal(read.length, 1024);
    assert_false(read.serialising);
}

static void co_a_fast_zero_of_parts_of_blocks_is_refused_untouched(struct fixture *fixture,
                                                                   void *arg)
{
    static const struct {
        uint64_t offset, length;
    } parts[] = {{1, 511}, {512, 511}, {100, LARGE}, {512, LARGE - 1}, {SIZE - 10, 9}};
    (void)arg;
    memset(fixture->disk.data, 0x55, SIZE);
    co_open_in_blocks(fixture, "growing");
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(node_co_zero(fixture->node, parts[i].offset, parts[i].length, BLOCK_FAST),
                         -ENOTSUP);
    /* Nor does it make a node grow. */
    assert_int_equal(node_co_zero(fixture->node, 0, SIZE + 512, BLOCK_FAST), -ENOTSUP);
    assert_int_equal(fixture->disk.log_count, 0);
    for (unsigned i = 0; i < SIZE; i++)
        assert_int_equal(fixture->disk.data[i], 0x55);
    assert_int_equal(node_co_zero(fixture->node, 512, SIZE - 512, BLOCK_FAST), 0);
    assert_int_equal(fixture->disk.log[0].flags, BLOCK_FAST);
    EXPECT({MEMORY_ZERO, 512, SIZE - 512});
}

#define TESTS(X)                                              \
    X(an_aligned_request_is_handed_on_as_it_is)               \
    X(a_short_unaligned_write_reads_its_ends_and_writes_once) \
    X(a_long_unaligned_write_copies_only_its_ends)            \
    X(an_unaligned_read_reads_whole_blocks)                   \
    X(the_nodes_odd_end_is_never_passed)                      \
    X(a_zero_makes_its_ends_by_writing)                       \
    X(a_discard_leaves_its_ends_alone)                        \
    X(growing_from_an_odd_end_fills_the_old_block)            \
    X(what_a_request_covers_follows_the_rules_of_growth)      \
    X(a_fast_zero_of_parts_of_blocks_is_refused_untouched)

#define DEFINE_TEST(name) FIXTURE_TEST(name, SIZE, 2 * SIZE)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
