/* SPDX-License-Identifier: BSD-3-Clause */
/* account: what is counted, how time is taken with one look at the clock, and what becomes of the
 * times of an account that is gone. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/account.h"
#include "block/coroutine.h"
#include "block/workers.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 65536

/* --- of a node ------------------------------------------------------------------------------- */

static void assert_counts(struct account *account, enum account_kind kind, uint64_t operations,
                          uint64_t bytes, uint64_t failed, uint64_t invalid)
{
    struct account_counts counts;
    account_read_counts(account, kind, &counts);
    assert_int_equal(counts.operations, operations);
    assert_int_equal(counts.bytes, bytes);
    assert_int_equal(counts.failed, failed);
    assert_int_equal(counts.invalid, invalid);
    assert_int_equal(counts.merged, 0);
}

static uint64_t timed(struct account *account, enum account_kind kind)
{
    struct latency_summary summary;
    account_read_latency(account, kind, LATENCY_LIFE, &summary);
    return summary.count;
}

static void co_every_kind_is_counted_once_on_every_node(struct fixture *fixture, void *arg)
{
    static uint8_t data[1024];
    struct block_extent extent;
    (void)arg;
    fixture_co_open(fixture, "file", true);
    struct block_node *top = fixture->node, *nodes[] = {top, top->file};
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(fixture_co_read(top, i, data, 1000), 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(fixture_co_write(top, i, data, 500, 0), 0);
    assert_int_equal(node_co_zero(top, 0, 4096, 0), 0);
    assert_int_equal(node_co_discard(top, 0, 8192, 0), 0);
    assert_int_equal(node_co_status(top, 0, SIZE, &extent), 0);
    assert_int_equal(node_co_cache(top, 0, 16384), 0);
    assert_int_equal(node_co_flush(top), 0);
    account_co_settle(&fixture->env);
    for (unsigned i = 0; i < 2; i++) {
        struct account *account = &nodes[i]->account;
        assert_counts(account, ACCOUNT_READ, 3, 3000, 0, 0);
        assert_counts(account, ACCOUNT_WRITE, 2, 1000, 0, 0);
        assert_counts(account, ACCOUNT_ZERO, 1, 4096, 0, 0);
        assert_counts(account, ACCOUNT_DISCARD, 1, 8192, 0, 0);
        assert_counts(account, ACCOUNT_STATUS, 1, SIZE, 0, 0);
        assert_counts(account, ACCOUNT_CACHE, 1, 16384, 0, 0);
        assert_counts(account, ACCOUNT_FLUSH, 1, 0, 0, 0);
        assert_int_equal(timed(account, ACCOUNT_READ), 3);
        assert_int_equal(timed(account, ACCOUNT_WRITE), 2);
        assert_int_equal(timed(account, ACCOUNT_FLUSH), 1);
    }
}

static void co_failed_and_refused_requests_are_told_apart(struct fixture *fixture, void *arg)
{
    static uint8_t data[512];
    (void)arg;
    fixture_co_open(fixture, "file", false);
    struct account *account = &fixture->node->account;
    fixture->disk.fail_code = -EIO;
    fixture->disk.fail_ops = 1u << MEMORY_READ | 1u << MEMORY_WRITE;
    assert_int_equal(fixture_co_read(fixture->node, 0, data, 512), -EIO);
    assert_int_equal(fixture_co_write(fixture->node, 0, data, 512, 0), -EIO);
    fixture->disk.fail_code = 0;
    assert_int_equal(fixture_co_write(fixture->node, SIZE, data, 512, 0), -ENOSPC);
    assert_int_equal(fixture_co_read(fixture->node, UINT64_MAX - 100, data, 512), -EINVAL);
    assert_int_equal(fixture_co_read(fixture->node, 0, data, 0), 0); /* nothing to do */
    account_co_settle(&fixture->env);
    assert_counts(account, ACCOUNT_READ, 0, 0, 1, 1);
    assert_counts(account, ACCOUNT_WRITE, 0, 0, 1, 1);
    assert_int_equal(timed(account, ACCOUNT_READ), 1); /* a failure takes its time too */
}

static void co_a_driver_has_counters_of_its_own(struct fixture *fixture, void *arg)
{
    (void)arg;
    fixture_co_open(fixture, "file", false);
    unsigned hits = node_counter(fixture->node, "cache_hits");
    unsigned misses = node_counter(fixture->node, "cache_misses");
    assert_int_not_equal(hits, misses);
    node_count(fixture->node, hits, 1);
    node_count(fixture->node, hits, 41);
    assert_int_equal(node_counted(fixture->node, hits), 42);
    assert_int_equal(node_counted(fixture->node, misses), 0);
    assert_string_equal(fixture->node->account.counter_names[hits], "cache_hits");
}

static void co_what_was_merged_or_turned_bad_is_told(struct fixture *fixture, void *arg)
{
    struct account account;
    struct account_counts counts;
    (void)arg;
    assert_int_equal(account_init(&account, &fixture->env), 0);
    account_end(&account, ACCOUNT_WRITE, loop_moment(), 4096, 0);
    account_end(&account, ACCOUNT_WRITE, loop_moment(), 4096, 0);
    account_merged(&account, ACCOUNT_WRITE, 1);
    account_end(&account, ACCOUNT_READ, loop_moment(), 100, 0);
    account_bytes(&account, ACCOUNT_READ, 50);
    account_end(&account, ACCOUNT_READ, loop_moment(), 4096, 0);
    account_turned_bad(&account, ACCOUNT_READ, 4096);
    account_read_counts(&account, ACCOUNT_WRITE, &counts);
    assert_int_equal(counts.operations, 2);
    assert_int_equal(counts.bytes, 8192);
    assert_int_equal(counts.merged, 1);
    assert_counts(&account, ACCOUNT_READ, 1, 150, 1, 0);
    account_fini(&account);
}

/* --- time ------------------------------------------------------------------------------------ */

/* A loop whose time the test makes. */
struct hourglass {
    struct clock clock;
    uint64_t ns;
    unsigned readings;
    struct loop *loop;
    struct workers *workers;
    struct block_env env;
    struct account account;
};

static uint64_t look(struct clock *clock)
{
    struct hourglass *hourglass = container_of(clock, struct hourglass, clock);
    hourglass->readings++;
    return hourglass->ns;
}

static int set_up(void **state)
{
    struct hourglass *hourglass = calloc(1, sizeof(*hourglass));
    struct error err;
    assert_non_null(hourglass);
    hourglass->clock.now_ns = look;
    hourglass->ns = 1000 * NS_PER_S;
    assert_int_equal(loop_new(&hourglass->loop, 0, &poller_ev, &hourglass->clock, &err), 0);
    assert_int_equal(workers_new(&hourglass->workers, 1, &err), 0);
    assert_int_equal(block_env_init(&hourglass->env, &hourglass->loop, 1, hourglass->workers, NULL,
                                    memory_drivers, &err),
                     0);
    assert_int_equal(account_init(&hourglass->account, &hourglass->env), 0);
    *state = hourglass;
    return 0;
}

static int tear_down(void **state)
{
    struct hourglass *hourglass = *state;
    account_fini(&hourglass->account);
    block_env_fini(&hourglass->env);
    workers_free(hourglass->workers);
    loop_free(hourglass->loop);
    free(hourglass);
    return 0;
}

static void settle_entry(void *arg)
{
    account_co_settle(arg);
}

static void settle(struct hourglass *hourglass)
{
    assert_int_equal(loop_run_co(hourglass->loop, settle_entry, &hourglass->env), 0);
}

static struct latency_summary read_span(struct hourglass *hourglass, enum account_kind kind,
                                        enum latency_span span)
{
    struct latency_summary summary;
    account_read_latency(&hourglass->account, kind, span, &summary);
    return summary;
}

/* A thousand reads and writes by turns; the disk takes 7 us for all of them. */
static void end_many_in_a_round(void *arg)
{
    struct hourglass *hourglass = arg;
    struct loop_moment start = loop_moment();
    hourglass->readings = 0;
    for (unsigned i = 0; i < 1000; i++)
        account_end(&hourglass->account, i % 2 ? ACCOUNT_WRITE : ACCOUNT_READ, start, 1, 0);
    assert_int_equal(hourglass->readings, 0);
    hourglass->ns += 7000;
    coroutine_co_pause(); /* into a round */
    coroutine_co_pause(); /* and past its end */
    assert_int_equal(hourglass->readings, 1);
}

static void requests_of_one_round_take_the_round_and_one_look_at_the_clock(void **state)
{
    struct hourglass *hourglass = *state;
    assert_int_equal(loop_run_co(hourglass->loop, end_many_in_a_round, hourglass), 0);
    for (enum account_kind kind = ACCOUNT_READ; kind <= ACCOUNT_WRITE; kind++) {
        struct latency_summary summary = read_span(hourglass, kind, LATENCY_LIFE);
        assert_int_equal(summary.count, 500);
        assert_int_equal(summary.min_ns, 7000);
        assert_int_equal(summary.p50_ns, 7000);
        assert_int_equal(summary.max_ns, 7000);
    }
}

/* Requests that all began at moments of their own, more than a batch keeps apart. */
static void end_many_of_old(void *arg)
{
    struct hourglass *hourglass = arg;
    struct loop_moment start = loop_moment();
    for (unsigned i = 0; i < 1000; i++) {
        start.now_ns = hourglass->ns - 1000 * (i + 1);
        account_end(&hourglass->account, ACCOUNT_READ, start, 1, 0);
    }
}

static void none_is_lost_however_many_began_apart(void **state)
{
    struct hourglass *hourglass = *state;
    assert_int_equal(loop_run_co(hourglass->loop, end_many_of_old, hourglass), 0);
    settle(hourglass);
    struct latency_summary summary = read_span(hourglass, ACCOUNT_READ, LATENCY_LIFE);
    assert_int_equal(summary.count, 1000);
    assert_int_equal(summary.min_ns, 1000);
    assert_int_equal(summary.max_ns, 1000000);
    assert_int_equal(summary.avg_ns, 500500);
}

static void end_one(void *arg)
{
    struct hourglass *hourglass = arg;
    account_end(&hourglass->account, ACCOUNT_FLUSH, loop_moment(), 0, -EIO);
}

static void a_window_ends_with_the_clock(void **state)
{
    struct hourglass *hourglass = *state;
    assert_int_equal(loop_run_co(hourglass->loop, end_one, hourglass), 0);
    settle(hourglass);
    assert_int_equal(read_span(hourglass, ACCOUNT_FLUSH, LATENCY_MINUTE).count, 1);
    hourglass->ns += 61 * NS_PER_S;
    assert_int_equal(read_span(hourglass, ACCOUNT_FLUSH, LATENCY_MINUTE).count, 0);
    assert_int_equal(read_span(hourglass, ACCOUNT_FLUSH, LATENCY_TEN_MINUTES).count, 1);
    hourglass->ns += 7200 * NS_PER_S;
    assert_int_equal(read_span(hourglass, ACCOUNT_FLUSH, LATENCY_HOUR).count, 0);
    assert_int_equal(read_span(hourglass, ACCOUNT_FLUSH, LATENCY_LIFE).count, 1);
}

/* Accounts that go before the round in which their requests ended: AddressSanitizer looks on. */
static void come_and_go(void *arg)
{
    struct hourglass *hourglass = arg;
    for (unsigned i = 0; i < 10; i++) {
        struct account account;
        assert_int_equal(account_init(&account, &hourglass->env), 0);
        account_end(&account, ACCOUNT_READ, loop_moment(), 1, 0);
        account_end(&hourglass->account, ACCOUNT_READ, loop_moment(), 1, 0);
        account_fini(&account);
        if (i % 3 == 0)
            coroutine_co_pause();
    }
}

static void an_account_may_go_before_its_round_has_ended(void **state)
{
    struct hourglass *hourglass = *state;
    assert_int_equal(loop_run_co(hourglass->loop, come_and_go, hourglass), 0);
    settle(hourglass);
    assert_int_equal(read_span(hourglass, ACCOUNT_READ, LATENCY_LIFE).count, 10);
}

static void an_account_that_was_never_made_can_go(void **state)
{
    struct account account = {.env = NULL};
    (void)state;
    account_fini(&account);
}

#define TESTS(X)                                  \
    X(every_kind_is_counted_once_on_every_node)   \
    X(failed_and_refused_requests_are_told_apart) \
    X(a_driver_has_counters_of_its_own)           \
    X(what_was_merged_or_turned_bad_is_told)

#define DEFINE_TEST(name) FIXTURE_TEST(name, SIZE, SIZE)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
#define TIMED_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TESTS(LIST_TEST) TIMED_TEST(requests_of_one_round_take_the_round_and_one_look_at_the_clock),
        TIMED_TEST(none_is_lost_however_many_began_apart),
        TIMED_TEST(a_window_ends_with_the_clock),
        TIMED_TEST(an_account_may_go_before_its_round_has_ended),
        cmocka_unit_test(an_account_that_was_never_made_can_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
