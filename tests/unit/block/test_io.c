/* SPDX-License-Identifier: BSD-3-Clause */
/* io.c and what it calls: random requests against a flat array, on nodes of every alignment and odd
 * sizes, alone and many at a time, with and without errors. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/coroutine.h"
#include "block/tracked.h"
#include "common/align.h"
#include "tests/unit/block/block_fixture.h"

#define REQUEST_BYTES_MAX (200u << 10) /* beyond what align.c takes as short */

struct oracle {
    uint8_t *bytes; /* all zero from size on */
    uint64_t size;
    uint64_t capacity;
};

struct geometry {
    const char *driver;
    bool through_pass;
    uint32_t request_alignment, memory_alignment;
    uint64_t size, capacity;
    uint64_t transfer_bytes_max, zero_bytes_max;
    bool refuses_zero;
};

/* Cuts data into some iovecs at random places. */
static struct block_vec scatter(struct random *random, struct iovec *iov, unsigned iov_max,
                                uint8_t *data, size_t length)
{
    unsigned used = 0;
    size_t done = 0;
    while (done < length) {
        size_t piece = length - done;
        if (used + 1 < iov_max)
            piece = 1 + random_below(random, piece);
        iov[used++] = (struct iovec){.iov_base = data + done, .iov_len = piece};
        done += piece;
    }
    return (struct block_vec){.iov = iov, .length = length};
}

static void fill_random(struct random *random, uint8_t *data, size_t length)
{
    uint8_t start = (uint8_t)random_u64(random);
    for (size_t i = 0; i < length; i++)
        data[i] = (uint8_t)(start + i * 7 + (i >> 8));
}

/* A place and a length that like blocks' edges and the node's end. */
static void pick_range(struct random *random, uint64_t size, uint32_t alignment, uint64_t *offset,
                       uint64_t *length)
{
    *offset = random_below(random, size + 1);
    if (random_once_in(random, 2))
        *offset = align_down(*offset, alignment);
    uint64_t most = random_once_in(random, 4) ? REQUEST_BYTES_MAX : 2 * (uint64_t)alignment + 10;
    *length = random_below(random, most);
    if (random_once_in(random, 2))
        *length = align_down(*length, alignment);
    if (random_once_in(random, 4) || *length > size - *offset)
        *length = size - *offset < REQUEST_BYTES_MAX ? size - *offset : *length;
    if (*length > size - *offset)
        *length = size - *offset;
}

static void co_check_read(struct block_node *node, struct oracle *oracle, struct random *random,
                          uint8_t *buffer, uint64_t offset, uint64_t length)
{
    struct iovec iov[5];
    struct block_vec vec = scatter(random, iov, 5, buffer, length);
    memset(buffer, 0xee, length);
    assert_int_equal(node_co_read(node, offset, &vec), 0);
    assert_memory_equal(buffer, oracle->bytes + offset, length);
}

static void oracle_grow(struct oracle *oracle, uint64_t end)
{
    if (end > oracle->size)
        oracle->size = end;
}

static void co_write_both(struct block_node *node, struct oracle *oracle, struct random *random,
                          uint8_t *buffer, uint64_t offset, uint64_t length)
{
    struct iovec iov[5];
    struct block_vec vec = scatter(random, iov, 5, buffer, length);
    fill_random(random, buffer, length);
    unsigned flags = random_once_in(random, 4) ? BLOCK_FUA : 0;
    assert_int_equal(node_co_write(node, offset, &vec, flags), 0);
    memcpy(oracle->bytes + offset, buffer, length);
    if (length > 0)
        oracle_grow(oracle, offset + length);
}

static void co_zero_both(struct block_node *node, struct oracle *oracle, struct random *random,
                         uint64_t offset, uint64_t length)
{
    unsigned flags = (random_once_in(random, 4) ? BLOCK_FUA : 0u) |
                     (random_once_in(random, 4) ? BLOCK_NO_UNMAP : 0u);
    assert_int_equal(node_co_zero(node, offset, length, flags), 0);
    memset(oracle->bytes + offset, 0, length);
    if (length > 0)
        oracle_grow(oracle, offset + length);
}

/* The memory disk's discard zeroes: whole blocks inside the range and nothing else. */
static void co_discard_both(struct block_node *node, const struct geometry *geometry,
                            struct oracle *oracle, uint64_t offset, uint64_t length)
{
    uint64_t end = offset + length;
    uint64_t first = align_up(offset, geometry->request_alignment);
    uint64_t last = end == oracle->size ? end : align_down(end, geometry->request_alignment);
    assert_int_equal(node_co_discard(node, offset, length, 0), 0);
    if (length > 0 && first < last)
        memset(oracle->bytes + first, 0, last - first);
}

static void co_check_status(struct block_node *node, const struct oracle *oracle, uint64_t offset,
                            uint64_t length)
{
    struct block_extent extent;
    if (length == 0)
        return;
    assert_int_equal(node_co_status(node, offset, length, &extent), 0);
    assert_in_range(extent.length, 1, length);
    for (uint64_t i = 0; (extent.flags & BLOCK_EXTENT_ZERO) && i < extent.length; i++)
        assert_int_equal(oracle->bytes[offset + i], 0);
}

static void co_one_request(struct block_node *node, const struct geometry *geometry,
                           struct oracle *oracle, struct random *random, uint8_t *buffer)
{
    uint64_t offset, length;
    bool grows = oracle->capacity > oracle->size && random_once_in(random, 8);
    uint64_t range =
        grows ? oracle->size + random_below(random, oracle->capacity - oracle->size) : oracle->size;
    pick_range(random, range, geometry->request_alignment, &offset, &length);
    switch (random_below(random, 6)) {
    case 0:
    case 1:
        co_check_read(node, oracle, random, buffer, offset, length);
        break;
    case 2:
    case 3:
        co_write_both(node, oracle, random, buffer, offset, length);
        break;
    case 4:
        co_zero_both(node, oracle, random, offset, length);
        break;
    default:
        if (strcmp(geometry->driver, "file") == 0)
            co_discard_both(node, geometry, oracle, offset, length);
        co_check_status(node, oracle, offset, length);
    }
}

static void open_geometry(struct fixture *fixture, const struct geometry *geometry, uint64_t seed)
{
    fixture_init(fixture, memory_drivers, geometry->size, geometry->capacity, seed);
    fixture->disk.limits = (struct block_limits){
        .request_alignment = geometry->request_alignment,
        .memory_alignment = geometry->memory_alignment,
        .transfer_bytes_max = geometry->transfer_bytes_max,
        .zero_bytes_max = geometry->zero_bytes_max,
        .discard_bytes_max = geometry->zero_bytes_max,
    };
    fixture->disk.refuses_zero = geometry->refuses_zero;
}

struct oracle_run {
    const struct geometry *geometry;
    uint64_t seed;
};

static void co_compare_with_oracle(struct fixture *fixture, void *arg)
{
    const struct oracle_run *run = arg;
    const struct geometry *geometry = run->geometry;
    struct random random;
    struct oracle oracle = {.size = geometry->size, .capacity = geometry->capacity};
    uint8_t *buffer = malloc(REQUEST_BYTES_MAX + 1);
    oracle.bytes = calloc(1, geometry->capacity + 1);
    assert_true(buffer && oracle.bytes);
    random_seed(&random, run->seed);
    fixture_co_open(fixture, geometry->driver, geometry->through_pass);
    for (unsigned i = 0; i < 1500; i++)
        co_one_request(fixture->node, geometry, &oracle, &random, buffer);
    assert_int_equal(fixture->disk.size_bytes, oracle.size);
    assert_memory_equal(fixture->disk.data, oracle.bytes, oracle.size);
    free(oracle.bytes);
    free(buffer);
}

static const struct geometry geometries[] = {
    {"file", false, 1, 1, 300001, 300001, 0, 0, false},
    {"file", true, 1, 1, 4096, 4096, 1000, 3000, false},
    {"file", false, 512, 1, 300000, 300000, 0, 0, false},
    {"file", true, 512, 512, 300000, 300000, 65536, 1024, false},
    {"file", false, 512, 512, 511, 511, 512, 512, true},
    {"file", false, 4096, 1, 409600, 409600, 0, 0, true},
    {"file", true, 4096, 4096, 400001, 400001, 8192, 4096, false},
    {"file", false, 4096, 512, 1, 1, 0, 0, false},
    {"bare", false, 512, 1, 70000, 70000, 1536, 0, false},
    {"growing", false, 1, 1, 0, 500000, 0, 0, false},
    {"growing", false, 512, 512, 1000, 500001, 0, 0, false},
    {"growing", false, 4096, 1, 8192, 500000, 16384, 12288, true},
    {"growing", false, 65536, 4096, 100, 700000, 0, 0, false},
};

static void random_requests_agree_with_a_flat_array(void **state)
{
    (void)state;
    uint64_t seed = fixture_seed(__func__);
    for (unsigned i = 0; i < sizeof(geometries) / sizeof(*geometries); i++) {
        struct fixture fixture;
        struct oracle_run run = {.geometry = &geometries[i], .seed = seed + i};
        open_geometry(&fixture, &geometries[i], seed);
        fixture_run(&fixture, co_compare_with_oracle, &run);
        fixture_fini(&fixture);
    }
}

/* --- many at a time: every writer owns bytes that lie between the others' ----------------------
 */

#define WRITERS 24
#define ROUNDS 60

struct writer {
    struct block_node *node;
    struct oracle *oracle;
    struct random random;
    unsigned index;
};

/* Byte b belongs to the writer (b / 37) % WRITERS, so each block is shared by many. */
static void writer_entry(void *arg)
{
    struct writer *writer = arg;
    uint8_t data[37];
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t stripes = writer->oracle->size / (37 * WRITERS);
        uint64_t stripe = random_below(&writer->random, stripes);
        uint64_t start = (stripe * WRITERS + writer->index) * 37;
        uint64_t from = random_below(&writer->random, 37);
        uint64_t length = 1 + random_below(&writer->random, 37 - from);
        fill_random(&writer->random, data, length);
        if (random_once_in(&writer->random, 5)) {
            memset(data, 0, length);
            assert_int_equal(node_co_zero(writer->node, start + from, length, 0), 0);
        } else {
            assert_int_equal(fixture_co_write(writer->node, start + from, data, length, 0), 0);
        }
        memcpy(writer->oracle->bytes + start + from, data, length);
        assert_int_equal(fixture_co_read(writer->node, start, data, 37), 0);
        assert_memory_equal(data, writer->oracle->bytes + start, 37);
    }
}

static void co_no_byte_is_lost(struct fixture *fixture, void *arg)
{
    const struct oracle_run *run = arg;
    struct writer writers[WRITERS];
    struct group group;
    struct oracle oracle = {.size = run->geometry->size};
    oracle.bytes = calloc(1, oracle.size);
    fixture->disk.pauses_max = 3;
    fixture_co_open(fixture, run->geometry->driver, run->geometry->through_pass);
    group_init(&group, fixture->loop);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.node = fixture->node, .oracle = &oracle, .index = i};
        random_seed(&writers[i].random, run->seed + i);
        group_start(&group, writer_entry, &writers[i]);
    }
    group_co_wait(&group);
    assert_memory_equal(fixture->disk.data, oracle.bytes, oracle.size);
    free(oracle.bytes);
}

static void unaligned_writers_of_shared_blocks_lose_no_byte(void **state)
{
    (void)state;
    static const struct geometry shared[] = {
        {"file", false, 512, 1, 2000, 2000, 0, 0, false},
        {"file", true, 4096, 512, 10001, 10001, 4096, 0, false},
        {"growing", false, 4096, 1, 3000, 3000, 0, 0, true},
    };
    uint64_t seed = fixture_seed(__func__);
    for (unsigned i = 0; i < sizeof(shared) / sizeof(*shared); i++) {
        struct fixture fixture;
        struct oracle_run run = {.geometry = &shared[i], .seed = seed + 100 * i};
        open_geometry(&fixture, &shared[i], seed);
        fixture_run(&fixture, co_no_byte_is_lost, &run);
        fixture_fini(&fixture);
    }
}

/* --- growth: writers append at odd places at the same time ------------------------------------ */

struct grower {
    struct block_node *node;
    struct random random;
    uint8_t *expected;
    uint64_t start, length;
};

static void grower_entry(void *arg)
{
    struct grower *grower = arg;
    for (uint64_t done = 0; done < grower->length;) {
        uint8_t data[700];
        uint64_t left = grower->length - done;
        uint64_t piece = 1 + random_below(&grower->random, left < 700 ? left : 700);
        fill_random(&grower->random, data, piece);
        assert_int_equal(fixture_co_write(grower->node, grower->start + done, data, piece, 0), 0);
        memcpy(grower->expected + grower->start + done, data, piece);
        done += piece;
    }
}

static void co_growers_agree(struct fixture *fixture, void *arg)
{
    const struct oracle_run *run = arg;
    struct grower growers[12];
    struct group group;
    uint8_t *expected = calloc(1, run->geometry->capacity);
    fixture->disk.pauses_max = 3;
    fixture_co_open(fixture, "growing", false);
    group_init(&group, fixture->loop);
    for (unsigned i = 0; i < 12; i++) {
        growers[i] = (struct grower){.node = fixture->node,
                                     .expected = expected,
                                     .start = run->geometry->size + i * 3001,
                                     .length = 3001};
        random_seed(&growers[i].random, run->seed + i);
        group_start(&group, grower_entry, &growers[i]);
    }
    group_co_wait(&group);
    uint64_t end = run->geometry->size + UINT64_C(12) * 3001;
    assert_int_equal(fixture->disk.size_bytes, end);
    assert_memory_equal(fixture->disk.data, expected, end);
    free(expected);
}

static void growing_from_and_to_odd_ends_at_once_loses_no_byte(void **state)
{
    (void)state;
    static const struct geometry growing[] = {
        {"growing", false, 1, 1, 0, 100000, 0, 0, false},
        {"growing", false, 512, 1, 1000, 100000, 0, 0, false},
        {"growing", false, 4096, 4096, 4096, 100000, 4096, 0, false},
    };
    uint64_t seed = fixture_seed(__func__);
    for (unsigned i = 0; i < sizeof(growing) / sizeof(*growing); i++) {
        struct fixture fixture;
        struct oracle_run run = {.geometry = &growing[i], .seed = seed + 100 * i};
        open_geometry(&fixture, &growing[i], seed);
        fixture_run(&fixture, co_growers_agree, &run);
        fixture_fini(&fixture);
    }
}

struct late {
    struct block_node *node;
    uint64_t offset;
    int rc;
};

static void late_write_entry(void *arg)
{
    struct late *late = arg;
    uint8_t data[488];
    memset(data, 0x77, sizeof(data));
    late->rc = fixture_co_write(late->node, late->offset, data, sizeof(data), 0);
}

static bool newest_is_serialising(const struct block_node *node)
{
    const struct list *requests = &node->serialising.requests;
    return !list_is_empty(requests) &&
           container_of(requests->head.prev, struct tracked_request, link)->serialising;
}

/* The second write ends at the node's odd end when it comes, and in the midst of a block when it
 * may go: it must see that, and read and modify the block that has become longer. */
static void co_a_write_that_waited_for_growth_sees_the_new_end(struct fixture *fixture, void *arg)
{
    struct group group;
    struct late grower = {.offset = 1000, .rc = 1}, late = {.offset = 512, .rc = 1};
    uint8_t data[1488];
    (void)arg;
    fixture->disk.limits.request_alignment = 512;
    fixture_co_open(fixture, "growing", false);
    grower.node = late.node = fixture->node;
    group_init(&group, fixture->loop);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_WRITE);
    group_start(&group, late_write_entry, &grower);
    memory_disk_co_wait_held(&fixture->disk, 1);
    group_start(&group, late_write_entry, &late);
    for (unsigned i = 0; i < 10; i++)
        coroutine_co_pause();
    assert_int_equal(fixture->disk.held_count, 1);
    memory_disk_release(&fixture->disk);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
    for (unsigned i = 0; i < 10; i++)
        coroutine_co_pause();
    assert_int_equal(grower.rc, 0);
    assert_int_equal(fixture->disk.held_count, 1);
    assert_true(newest_is_serialising(fixture->node));
    memory_disk_release(&fixture->disk);
    group_co_wait(&group);
    assert_int_equal(grower.rc, 0);
    assert_int_equal(late.rc, 0);
    assert_int_equal(fixture->disk.size_bytes, 1488);
    assert_int_equal(fixture_co_read(fixture->node, 0, data, 1488), 0);
    for (unsigned i = 0; i < 1488; i++)
        assert_int_equal(data[i], i < 512 ? 0 : 0x77);
}

/* --- errors ---------------------------------------------------------------------------------- */

/* A fixed workload that touches every branch: heads, bodies, tails, pieces, fall-backs. */
static int co_workload(struct block_node *node, uint8_t *buffer)
{
    struct block_extent extent;
    int worst = 0;
    int results[] = {
        fixture_co_write(node, 100, buffer, 50, 0),
        fixture_co_write(node, 1000, buffer, 100000, BLOCK_FUA),
        fixture_co_read(node, 77, buffer, 100000),
        fixture_co_read(node, 4096, buffer, 8192),
        node_co_zero(node, 5, 90000, 0),
        node_co_zero(node, 8192, 4096, BLOCK_FUA),
        node_co_discard(node, 100, 30000, BLOCK_FUA),
        node_co_status(node, 3, 1000, &extent),
        fixture_co_write(node, 120000, buffer, 1, 0),
    };
    for (unsigned i = 0; i < sizeof(results) / sizeof(*results); i++)
        worst = results[i] < worst ? results[i] : worst;
    int flushed = node_co_flush(node);
    return flushed < worst ? flushed : worst;
}

static void co_fail_each_call(struct fixture *fixture, void *arg)
{
    uint8_t *buffer = calloc(1, 100000);
    (void)arg;
    fixture_co_open(fixture, "file", true);
    memory_disk_forget_calls(&fixture->disk);
    assert_int_equal(co_workload(fixture->node, buffer), 0);
    unsigned calls = fixture->disk.call_count;
    assert_true(calls > 30);
    fixture_co_close(fixture);
    for (unsigned i = 0; i < calls; i++) {
        fixture_co_open(fixture, "file", true);
        memory_disk_forget_calls(&fixture->disk);
        fixture->disk.fail_at_call = i;
        fixture->disk.fail_code = -EIO;
        assert_int_equal(co_workload(fixture->node, buffer), -EIO);
        fixture->disk.fail_code = 0;
        /* Nothing was left behind: the same range works again, and nobody waits for ever. */
        assert_int_equal(fixture_co_write(fixture->node, 1, buffer, 99999, 0), 0);
        assert_int_equal(atomic_load(&fixture->node->serialising.count), 0);
        assert_int_equal(atomic_load(&fixture->node->file->serialising.count), 0);
        fixture_co_close(fixture);
    }
    free(buffer);
}

static void an_error_of_any_driver_call_reaches_the_caller_and_leaves_nothing_behind(void **state)
{
    (void)state;
    static const struct geometry geometry = {"file", true, 512,   512,  120001,
                                             120001, 8192, 16384, false};
    struct fixture fixture;
    open_geometry(&fixture, &geometry, 1);
    fixture_run(&fixture, co_fail_each_call, NULL);
    fixture_fini(&fixture);
}

/* --- single rules ---------------------------------------------------------------------------- */

static void co_a_read_past_the_end_gives_zeroes(struct fixture *fixture, void *arg)
{
    uint8_t data[300];
    (void)arg;
    fixture->disk.limits.request_alignment = 512;
    memset(fixture->disk.data, 0x55, 1000);
    fixture_co_open(fixture, "file", false);
    assert_int_equal(fixture_co_read(fixture->node, 900, data, 300), 0);
    for (unsigned i = 0; i < 300; i++)
        assert_int_equal(data[i], i < 100 ? 0x55 : 0);
    unsigned calls = fixture->disk.call_count;
    assert_int_equal(fixture_co_read(fixture->node, 5000, data, 300), 0);
    assert_int_equal(data[0], 0);
    assert_int_equal(fixture->disk.call_count, calls);
}

static void co_a_change_past_the_end_is_refused_where_the_driver_cannot_grow(
    struct fixture *fixture, void *arg)
{
    uint8_t data[2] = {0};
    (void)arg;
    fixture_co_open(fixture, "file", false);
    assert_int_equal(fixture_co_write(fixture->node, 999, data, 2, 0), -ENOSPC);
    assert_int_equal(node_co_zero(fixture->node, 1000, 1, 0), -ENOSPC);
    assert_int_equal(node_co_zero(fixture->node, UINT64_MAX, 1, 0), -ENOSPC);
    assert_int_equal(node_co_discard(fixture->node, UINT64_MAX - 1, UINT64_MAX, 0), -ENOSPC);
    assert_int_equal(fixture_co_read(fixture->node, UINT64_MAX, data, 2), -EINVAL);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 0);
}

static void co_nothing_is_asked_for_a_length_of_zero(struct fixture *fixture, void *arg)
{
    struct block_extent extent;
    (void)arg;
    fixture_co_open(fixture, "file", false);
    unsigned calls = fixture->disk.call_count;
    assert_int_equal(fixture_co_read(fixture->node, 5, NULL, 0), 0);
    assert_int_equal(fixture_co_write(fixture->node, 5, NULL, 0, BLOCK_FUA), 0);
    assert_int_equal(node_co_zero(fixture->node, 5, 0, 0), 0);
    assert_int_equal(node_co_discard(fixture->node, 5, 0, 0), 0);
    assert_int_equal(node_co_status(fixture->node, 5, 0, &extent), -EINVAL);
    assert_int_equal(fixture->disk.call_count, calls);
}

static void co_status_past_the_end_is_a_hole(struct fixture *fixture, void *arg)
{
    struct block_extent extent;
    (void)arg;
    memset(fixture->disk.data, 0x55, 1000);
    fixture_co_open(fixture, "file", true);
    assert_int_equal(node_co_status(fixture->node, 999, 5000, &extent), 0);
    assert_int_equal(extent.length, 1);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ALLOCATED);
    assert_int_equal(node_co_status(fixture->node, 1000, 5000, &extent), 0);
    assert_int_equal(extent.length, 5000);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ZERO);
    node_status_remembered(fixture->node, 10, 5000, &extent);
    assert_int_equal(extent.length, 990);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ALLOCATED);
}

static void co_what_a_driver_lacks_has_a_default(struct fixture *fixture, void *arg)
{
    struct block_extent extent;
    uint8_t data[10];
    (void)arg;
    memset(fixture->disk.data, 0x55, 1000);
    fixture_co_open(fixture, "bare", false);
    assert_int_equal(node_co_zero(fixture->node, 5, 100, BLOCK_NO_UNMAP), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 1);
    assert_int_equal(node_co_discard(fixture->node, 500, 100, 0), 0);
    assert_int_equal(fixture_co_read(fixture->node, 500, data, 10), 0);
    assert_int_equal(data[0], 0x55);
    assert_int_equal(node_co_flush(fixture->node), 0);
    assert_int_equal(node_co_status(fixture->node, 5, 100, &extent), 0);
    assert_int_equal(extent.length, 100);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ALLOCATED);
}

FIXTURE_TEST(a_write_that_waited_for_growth_sees_the_new_end, 1000, 4096)
FIXTURE_TEST(a_read_past_the_end_gives_zeroes, 1000, 1000)
FIXTURE_TEST(a_change_past_the_end_is_refused_where_the_driver_cannot_grow, 1000, 1000)
FIXTURE_TEST(nothing_is_asked_for_a_length_of_zero, 1000, 1000)
FIXTURE_TEST(status_past_the_end_is_a_hole, 1000, 1000)
FIXTURE_TEST(what_a_driver_lacks_has_a_default, 1000, 1000)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_requests_agree_with_a_flat_array),
        cmocka_unit_test(unaligned_writers_of_shared_blocks_lose_no_byte),
        cmocka_unit_test(growing_from_and_to_odd_ends_at_once_loses_no_byte),
        cmocka_unit_test(an_error_of_any_driver_call_reaches_the_caller_and_leaves_nothing_behind),
        cmocka_unit_test(a_write_that_waited_for_growth_sees_the_new_end),
        cmocka_unit_test(a_read_past_the_end_gives_zeroes),
        cmocka_unit_test(a_change_past_the_end_is_refused_where_the_driver_cannot_grow),
        cmocka_unit_test(nothing_is_asked_for_a_length_of_zero),
        cmocka_unit_test(status_past_the_end_is_a_hole),
        cmocka_unit_test(what_a_driver_lacks_has_a_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
