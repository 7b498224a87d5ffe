/* SPDX-License-Identifier: BSD-3-Clause */
/* filter_delay.c: each kind of request waits for its own time before it goes on, and no other. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "block/filters.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 4096
#define DELAY_NS UINT64_C(30000000)

static const struct block_driver *drivers[] = {&block_filter_delay, NULL, NULL};

static int co_try_open(struct fixture *fixture, const char *name, const char *value,
                       struct error *err)
{
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_set(options, "driver", "delay", NULL), 0);
    assert_int_equal(node_options_set(options, name, value, NULL), 0);
    memory_disk_options(&fixture->disk, options, "file.", "file");
    return block_co_open(&fixture->env, options, &fixture->node, err);
}

/* One request of that kind; how long it took. */
static uint64_t co_request(struct block_node *node, unsigned kind)
{
    struct block_extent extent;
    uint8_t data[16];
    int rc;
    uint64_t begin_ns = clock_monotonic.now_ns(&clock_monotonic);
    switch (kind) {
    case 0:
        rc = fixture_co_read(node, 0, data, 16);
        break;
    case 1:
        rc = fixture_co_write(node, 0, "x", 1, BLOCK_FUA);
        break;
    case 2:
        rc = node_co_zero(node, 1, 1, 0);
        break;
    case 3:
        rc = node_co_discard(node, 2, 1, 0);
        break;
    case 4:
        rc = node_co_flush(node);
        break;
    case 5:
        rc = node_co_status(node, 0, 1, &extent);
        break;
    default:
        rc = node_co_cache(node, 0, 1);
        break;
    }
    assert_int_equal(rc, 0);
    return clock_monotonic.now_ns(&clock_monotonic) - begin_ns;
}

static const enum memory_op ops[7] = {MEMORY_READ,  MEMORY_WRITE,  MEMORY_ZERO, MEMORY_DISCARD,
                                      MEMORY_FLUSH, MEMORY_STATUS, MEMORY_CACHE};

static void co_each_kind_has_its_own_delay(struct fixture *fixture, void *arg)
{
    static const char *const short_names[7] = {"rdelay", "wdelay", "zdelay", "tdelay",
                                               "fdelay", "edelay", "cdelay"};
    static const char *const long_names[7] = {"delay-read", "delay-write", "delay-zero",
                                              "delay-trim", "delay-flush", "delay-extents",
                                              "delay-cache"};
    (void)arg;
    for (unsigned kind = 0; kind < 7; kind++) {
        struct error err = {""};
        const char *const *names = kind % 2 ? long_names : short_names;
        assert_int_equal(co_try_open(fixture, names[kind], "30ms", &err), 0);
        memory_disk_forget_calls(&fixture->disk);
        assert_true(co_request(fixture->node, kind) >= DELAY_NS);
        assert_int_equal(fixture->disk.counts[ops[kind]], 1);
        fixture_co_close(fixture);
    }
}

static bool is_done;

static void co_undelayed(void *arg)
{
    struct fixture *fixture = arg;
    co_request(fixture->node, 0);
    co_request(fixture->node, 1);
    co_request(fixture->node, 2);
    co_request(fixture->node, 3);
    co_request(fixture->node, 4);
    co_request(fixture->node, 5);
    is_done = true;
}

static void co_other_kinds_do_not_wait(struct fixture *fixture, void *arg)
{
    struct group group;
    (void)arg;
    is_done = false;
    assert_int_equal(co_try_open(fixture, "cdelay", "1000000", NULL), 0);
    group_init(&group, fixture->loop);
    group_start(&group, co_undelayed, fixture);
    group_co_wait(&group);
    assert_true(is_done);
}

static void co_nothing_is_handed_on_before_its_time(struct fixture *fixture, void *arg)
{
    struct group group;
    (void)arg;
    is_done = false;
    assert_int_equal(co_try_open(fixture, "rdelay", "50ms", NULL), 0);
    memory_disk_forget_calls(&fixture->disk);
    group_init(&group, fixture->loop);
    group_start(&group, co_undelayed, fixture);
    assert_int_equal(fixture->disk.call_count, 0);
    group_co_wait(&group);
    assert_int_equal(fixture->disk.log[0].op, MEMORY_READ);
    struct block_loan loan = {.begins = true};
    assert_int_equal(node_lend(fixture->node, 0, 10, &loan), -ENOTSUP);
}

static void co_what_makes_no_sense_is_refused(struct fixture *fixture, void *arg)
{
    struct error err;
    (void)arg;
    assert_int_equal(co_try_open(fixture, "wdelay", "soon", &err), -EINVAL);
    assert_non_null(strstr(err.message, "wdelay: cannot be 'soon'"));
    assert_int_equal(co_try_open(fixture, "xdelay", "1", &err), -EINVAL);
    assert_non_null(strstr(err.message, "xdelay: the driver delay"));
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_parse(options, "driver=delay,rdelay=1,delay-read=2", NULL), 0);
    memory_disk_options(&fixture->disk, options, "file.", "file");
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, &err), -EINVAL);
    assert_non_null(strstr(err.message, "delay-read: the same as 'rdelay'"));
    assert_int_equal(fixture->disk.counts[MEMORY_OPEN], fixture->disk.counts[MEMORY_CLOSE]);
}

#define TESTS(X)                            \
    X(each_kind_has_its_own_delay)          \
    X(other_kinds_do_not_wait)              \
    X(nothing_is_handed_on_before_its_time) \
    X(what_makes_no_sense_is_refused)

#define DEFINE_TEST(name) FIXTURE_TEST_WITH(name, drivers, SIZE, SIZE)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    drivers[1] = memory_drivers[0];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
