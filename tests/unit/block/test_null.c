/* SPDX-License-Identifier: BSD-3-Clause */
/* null.c: a disk of any size that reads as zeroes, keeps nothing, and takes its time. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/block/block_fixture.h"

static const struct block_driver *drivers[] = {&block_driver_null, NULL, NULL};

static int co_try_open(struct fixture *fixture, const char *const *paths_and_values,
                       struct error *err)
{
    struct node_options *options = node_options_new();
    assert_non_null(options);
    for (unsigned i = 0; paths_and_values[i]; i += 2)
        assert_int_equal(
            node_options_set(options, paths_and_values[i], paths_and_values[i + 1], NULL), 0);
    return block_co_open(&fixture->env, options, &fixture->node, err);
}

#define CO_TRY_OPEN(fixture, err, ...) \
    co_try_open(fixture, (const char *const[]){__VA_ARGS__, NULL}, err)

static void co_it_has_qemus_names_and_default_size(struct fixture *fixture, void *arg)
{
    struct error err;
    (void)arg;
    assert_int_equal(CO_TRY_OPEN(fixture, &err, "driver", "null"), 0);
    assert_int_equal(fixture->node->size_bytes, 1 << 30);
    fixture_co_close(fixture);
    assert_int_equal(CO_TRY_OPEN(fixture, &err, "driver", "null-co", "size", "12345", "aio",
                                 "threads", "cache.direct", "on", "discard", "unmap",
                                 "cache.no-flush", "on"),
                     0);
    assert_int_equal(fixture->node->size_bytes, 12345);
}

static void co_what_makes_no_sense_is_refused(struct fixture *fixture, void *arg)
{
    struct error err;
    (void)arg;
    assert_int_equal(CO_TRY_OPEN(fixture, &err, "driver", "null", "size", "much"), -EINVAL);
    assert_non_null(strstr(err.message, "size: "));
    assert_int_equal(CO_TRY_OPEN(fixture, &err, "driver", "null", "latency-ns", "1ms"), -EINVAL);
    assert_non_null(strstr(err.message, "latency-ns: "));
    assert_int_equal(CO_TRY_OPEN(fixture, &err, "driver", "null", "read-zeroes", "2"), -EINVAL);
    assert_non_null(strstr(err.message, "read-zeroes: "));
    assert_int_equal(CO_TRY_OPEN(fixture, &err, "driver", "null", "filename", "x"), -EINVAL);
    assert_non_null(strstr(err.message, "filename: "));
    assert_int_equal(CO_TRY_OPEN(fixture, &err, "driver", "null", "size", "16E"), -EINVAL);
    assert_int_equal(CO_TRY_OPEN(fixture, &err, "driver", "null", "size", "8E"), -EFBIG);
}

static void co_it_reads_as_zeroes_and_keeps_nothing(struct fixture *fixture, void *arg)
{
    uint8_t data[100], zeroes[100] = {0};
    struct block_extent extent;
    (void)arg;
    assert_int_equal(CO_TRY_OPEN(fixture, NULL, "driver", "null", "size", "4100"), 0);
    struct block_node *node = fixture->node;
    memset(data, 1, sizeof(data));
    assert_int_equal(fixture_co_write(node, 4000, data, 100, BLOCK_FUA), 0);
    assert_int_equal(fixture_co_write(node, 4001, data, 100, 0), -ENOSPC);
    assert_int_equal(fixture_co_read(node, 4000, data, 100), 0);
    assert_memory_equal(data, zeroes, 100);
    assert_int_equal(node_co_zero(node, 0, 4100, BLOCK_FUA | BLOCK_FAST | BLOCK_NO_UNMAP), 0);
    assert_int_equal(node_co_discard(node, 1, 4099, BLOCK_FUA), 0);
    assert_int_equal(node_co_cache(node, 0, 4100), 0);
    assert_int_equal(node_co_flush(node), 0);
    assert_int_equal(node_co_status(node, 0, 4100, &extent), 0);
    assert_int_equal(extent.length, 4100);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ZERO);
    node_status_remembered(node, 0, 4100, &extent);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ALLOCATED); /* data is sent, no hole */
    assert_true(node->driver->admin->has_zero_init(node));
}

static void co_without_zeroes_a_buffer_is_not_touched(struct fixture *fixture, void *arg)
{
    uint8_t data[100], old[100];
    struct block_extent extent;
    (void)arg;
    assert_int_equal(CO_TRY_OPEN(fixture, NULL, "driver", "null", "read-zeroes", "off"), 0);
    memset(data, 7, sizeof(data));
    memset(old, 7, sizeof(old));
    assert_int_equal(fixture_co_read(fixture->node, 4000, data, 100), 0);
    assert_memory_equal(data, old, 100);
    assert_int_equal(node_co_status(fixture->node, 0, 4100, &extent), 0);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ALLOCATED);
    assert_false(fixture->node->driver->admin->has_zero_init(fixture->node));
}

#define LATENCY_NS UINT64_C(20000000)

struct timed {
    struct fixture *fixture;
    unsigned kind;
};

static void co_timed(void *arg)
{
    const struct timed *timed = arg;
    struct block_node *node = timed->fixture->node;
    uint8_t data[1];
    uint64_t begin_ns = clock_monotonic.now_ns(&clock_monotonic);
    int rc = 0;
    switch (timed->kind) {
    case 0:
        rc = fixture_co_read(node, 0, data, 1);
        break;
    case 1:
        rc = fixture_co_write(node, 0, "x", 1, 0);
        break;
    case 2:
        rc = node_co_zero(node, 1, 1, 0);
        break;
    case 3:
        rc = node_co_discard(node, 2, 1, 0);
        break;
    default:
        rc = node_co_flush(node);
        break;
    }
    assert_int_equal(rc, 0);
    assert_true(clock_monotonic.now_ns(&clock_monotonic) - begin_ns >= LATENCY_NS);
}

static void co_requests_take_their_time_side_by_side(struct fixture *fixture, void *arg)
{
    struct group group;
    struct timed timed[500];
    (void)arg;
    assert_int_equal(CO_TRY_OPEN(fixture, NULL, "driver", "null", "latency-ns", "20000000"), 0);
    uint64_t begin_ns = clock_monotonic.now_ns(&clock_monotonic);
    group_init(&group, fixture->loop);
    for (unsigned i = 0; i < 500; i++) {
        timed[i] = (struct timed){.fixture = fixture, .kind = i % 5};
        group_start(&group, co_timed, &timed[i]);
    }
    group_co_wait(&group);
    /* One after the other they would take 10 s. */
    assert_true(clock_monotonic.now_ns(&clock_monotonic) - begin_ns < 250 * LATENCY_NS);
}

#define TESTS(X)                              \
    X(it_has_qemus_names_and_default_size)    \
    X(what_makes_no_sense_is_refused)         \
    X(it_reads_as_zeroes_and_keeps_nothing)   \
    X(without_zeroes_a_buffer_is_not_touched) \
    X(requests_take_their_time_side_by_side)

#define DEFINE_TEST(name) FIXTURE_TEST_WITH(name, drivers, 512, 512)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
