/* SPDX-License-Identifier: BSD-3-Clause */
/* throttle.c: what goes in a simulated time, and which limits make no sense. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "block/throttle.h"
#include "common/clock.h"
#include "common/random.h"

#define MIB (UINT64_C(1) << 20)

/* Somebody who always has the next request ready. */
struct greedy {
    struct throttle throttle;
    uint64_t now_ns;
    uint64_t requests, bytes;
};

static void greedy_init(struct greedy *greedy, const struct throttle_limits *limits)
{
    *greedy = (struct greedy){.now_ns = 12345 * NS_PER_S};
    assert_int_equal(throttle_limits_check(limits, NULL), 0);
    throttle_init(&greedy->throttle, limits);
}

/* Makes requests until end_ns. */
static void run_until(struct greedy *greedy, enum throttle_direction direction, uint64_t length,
                      uint64_t end_ns)
{
    for (;;) {
        uint64_t wait_ns = throttle_wait_ns(&greedy->throttle, direction, greedy->now_ns);
        if (wait_ns > 0 && greedy->now_ns + wait_ns >= end_ns)
            break;
        greedy->now_ns += wait_ns;
        if (wait_ns > 0)
            continue; /* and there is room then: else this would not end */
        throttle_account(&greedy->throttle, direction, length);
        greedy->requests++;
        greedy->bytes += length;
    }
    greedy->now_ns = end_ns;
}

static struct throttle_limits limits_of(enum throttle_rate rate, uint64_t average, uint64_t burst,
                                        uint64_t burst_length_s)
{
    struct throttle_limits limits;
    throttle_limits_init(&limits);
    limits.rates[rate] = (struct throttle_limit){average, burst, burst_length_s};
    return limits;
}

static void assert_between(uint64_t value, uint64_t low, uint64_t high)
{
    if (value < low || value > high)
        fail_msg("%llu is not from %llu to %llu", (unsigned long long)value,
                 (unsigned long long)low, (unsigned long long)high);
}

static void no_limit_never_waits(void **state)
{
    (void)state;
    struct throttle_limits limits;
    struct throttle throttle;
    throttle_limits_init(&limits);
    assert_int_equal(throttle_limits_check(&limits, NULL), 0);
    assert_false(throttle_limits_concern(&limits, THROTTLE_READ));
    assert_false(throttle_limits_concern(&limits, THROTTLE_WRITE));
    throttle_init(&throttle, &limits);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(throttle_wait_ns(&throttle, THROTTLE_WRITE, 1), 0);
        throttle_account(&throttle, THROTTLE_WRITE, UINT64_MAX);
    }
}

static void bytes_go_at_the_average(void **state)
{
    (void)state;
    struct greedy greedy;
    struct throttle_limits limits = limits_of(THROTTLE_BPS_TOTAL, 10 * MIB, 0, 1);
    greedy_init(&greedy, &limits);
    run_until(&greedy, THROTTLE_READ, 4096, greedy.now_ns + 100 * NS_PER_S);
    /* the time, the bucket of a tenth of a second, and one request over its rim */
    assert_between(greedy.bytes, 1000 * MIB, 1001 * MIB + 4096);
}

static void operations_go_at_the_average(void **state)
{
    (void)state;
    struct greedy greedy;
    struct throttle_limits limits = limits_of(THROTTLE_IOPS_WRITE, 500, 0, 1);
    greedy_init(&greedy, &limits);
    run_until(&greedy, THROTTLE_WRITE, 1 << 20, greedy.now_ns + 10 * NS_PER_S);
    assert_between(greedy.requests, 5000, 5051);
}

static void one_operation_a_second_is_a_rate_too(void **state)
{
    (void)state;
    struct greedy greedy;
    struct throttle_limits limits = limits_of(THROTTLE_IOPS_TOTAL, 1, 0, 1);
    greedy_init(&greedy, &limits);
    run_until(&greedy, THROTTLE_READ, 512, greedy.now_ns + 60 * NS_PER_S);
    assert_between(greedy.requests, 59, 61);
}

static void a_request_larger_than_the_bucket_goes_and_the_next_one_pays(void **state)
{
    (void)state;
    struct throttle throttle;
    struct throttle_limits limits = limits_of(THROTTLE_BPS_WRITE, MIB, 0, 1);
    uint64_t now_ns = NS_PER_S;
    throttle_init(&throttle, &limits);
    assert_int_equal(throttle_wait_ns(&throttle, THROTTLE_WRITE, now_ns), 0);
    throttle_account(&throttle, THROTTLE_WRITE, 10 * MIB);
    uint64_t wait_ns = throttle_wait_ns(&throttle, THROTTLE_WRITE, now_ns);
    assert_between(wait_ns, 9900 * NS_PER_MS, 9901 * NS_PER_MS);
    assert_true(throttle_wait_ns(&throttle, THROTTLE_WRITE, now_ns + wait_ns - NS_PER_MS) > 0);
    assert_int_equal(throttle_wait_ns(&throttle, THROTTLE_WRITE, now_ns + wait_ns), 0);
}

static void reads_and_writes_have_their_own_buckets(void **state)
{
    (void)state;
    struct throttle throttle;
    struct throttle_limits limits = limits_of(THROTTLE_BPS_READ, MIB, 0, 1);
    throttle_init(&throttle, &limits);
    throttle_account(&throttle, THROTTLE_READ, 10 * MIB);
    throttle_account(&throttle, THROTTLE_WRITE, 10 * MIB);
    assert_true(throttle_wait_ns(&throttle, THROTTLE_READ, 0) > 0);
    assert_int_equal(throttle_wait_ns(&throttle, THROTTLE_WRITE, 0), 0);
    assert_true(throttle_limits_concern(&limits, THROTTLE_READ));
    assert_false(throttle_limits_concern(&limits, THROTTLE_WRITE));
    assert_false(throttle_limits_have_total(&limits));
}

static void a_total_holds_up_both(void **state)
{
    (void)state;
    struct throttle throttle;
    struct throttle_limits limits = limits_of(THROTTLE_IOPS_TOTAL, 10, 0, 1);
    throttle_init(&throttle, &limits);
    throttle_account(&throttle, THROTTLE_READ, 1);
    throttle_account(&throttle, THROTTLE_READ, 1);
    assert_true(throttle_wait_ns(&throttle, THROTTLE_READ, 0) > 0);
    assert_true(throttle_wait_ns(&throttle, THROTTLE_WRITE, 0) > 0);
    assert_true(throttle_limits_have_total(&limits));
}

static void the_slower_of_two_limits_rules(void **state)
{
    (void)state;
    struct greedy greedy;
    struct throttle_limits limits = limits_of(THROTTLE_BPS_TOTAL, 100 * MIB, 0, 1);
    limits.rates[THROTTLE_IOPS_READ].average = 100;
    greedy_init(&greedy, &limits);
    run_until(&greedy, THROTTLE_READ, 4096, greedy.now_ns + 10 * NS_PER_S);
    assert_between(greedy.requests, 1000, 1011);
    greedy_init(&greedy, &limits);
    run_until(&greedy, THROTTLE_READ, 2 * MIB, greedy.now_ns + 10 * NS_PER_S);
    assert_between(greedy.bytes, 1000 * MIB, 1012 * MIB);
}

static void a_burst_goes_at_once_and_then_the_average(void **state)
{
    (void)state;
    struct greedy greedy;
    struct throttle_limits limits = limits_of(THROTTLE_IOPS_TOTAL, 100, 2000, 1);
    greedy_init(&greedy, &limits);
    uint64_t start_ns = greedy.now_ns;
    run_until(&greedy, THROTTLE_READ, 512, start_ns + 1);
    assert_between(greedy.requests, 2000, 2001);
    run_until(&greedy, THROTTLE_READ, 512, start_ns + 10 * NS_PER_S);
    assert_between(greedy.requests, 3000, 3002);
    /* after a rest as long as the bucket takes to run out, the burst is there again */
    greedy.now_ns += 20 * NS_PER_S;
    uint64_t before = greedy.requests;
    run_until(&greedy, THROTTLE_READ, 512, greedy.now_ns + 1);
    assert_between(greedy.requests - before, 2000, 2001);
}

static void a_burst_with_a_length_goes_no_faster_than_its_rate(void **state)
{
    (void)state;
    struct greedy greedy;
    struct throttle_limits limits = limits_of(THROTTLE_IOPS_TOTAL, 100, 2000, 60);
    greedy_init(&greedy, &limits);
    uint64_t start_ns = greedy.now_ns;
    run_until(&greedy, THROTTLE_READ, 512, start_ns + 1);
    assert_between(greedy.requests, 200, 201); /* a tenth of a second of the burst */
    run_until(&greedy, THROTTLE_READ, 512, start_ns + 60 * NS_PER_S);
    assert_between(greedy.requests, 120000, 120201);
    /* The bucket, 60 times 2000 large, is full after 60 / (1 - 100 / 2000) seconds. */
    run_until(&greedy, THROTTLE_READ, 512, start_ns + 64 * NS_PER_S);
    uint64_t before = greedy.requests;
    run_until(&greedy, THROTTLE_READ, 512, start_ns + 74 * NS_PER_S);
    assert_between(greedy.requests - before, 999, 1001);
}

static void a_long_request_is_several_operations(void **state)
{
    (void)state;
    struct greedy greedy;
    struct throttle_limits limits = limits_of(THROTTLE_IOPS_TOTAL, 1000, 0, 1);
    limits.iops_size_bytes = 4096;
    greedy_init(&greedy, &limits);
    run_until(&greedy, THROTTLE_READ, 16384, greedy.now_ns + 10 * NS_PER_S);
    assert_between(greedy.requests, 2500, 2526);
    greedy_init(&greedy, &limits);
    run_until(&greedy, THROTTLE_READ, 6144, greedy.now_ns + 10 * NS_PER_S); /* one and a half */
    assert_between(greedy.requests, 6666, 6734);
    greedy_init(&greedy, &limits);
    run_until(&greedy, THROTTLE_READ, 512, greedy.now_ns + 10 * NS_PER_S); /* never less than one */
    assert_between(greedy.requests, 10000, 10101);
}

static void a_clock_that_is_behind_lets_no_time_pass(void **state)
{
    (void)state;
    struct throttle throttle;
    struct throttle_limits limits = limits_of(THROTTLE_BPS_TOTAL, 1000, 0, 1);
    throttle_init(&throttle, &limits);
    assert_int_equal(throttle_wait_ns(&throttle, THROTTLE_READ, 5 * NS_PER_S), 0);
    throttle_account(&throttle, THROTTLE_READ, 1100);
    uint64_t wait_ns = throttle_wait_ns(&throttle, THROTTLE_READ, 4 * NS_PER_S);
    assert_between(wait_ns, NS_PER_S, NS_PER_S + 1);
    assert_true(throttle_wait_ns(&throttle, THROTTLE_READ, 5 * NS_PER_S) == wait_ns);
}

static void the_longest_wait_has_a_bound(void **state)
{
    (void)state;
    struct throttle throttle;
    struct throttle_limits limits = limits_of(THROTTLE_BPS_WRITE, 1, 0, 1);
    throttle_init(&throttle, &limits);
    throttle_account(&throttle, THROTTLE_WRITE, UINT64_MAX);
    assert_true(throttle_wait_ns(&throttle, THROTTLE_WRITE, 0) == THROTTLE_WAIT_MAX_NS);
}

/* Whatever the sizes and pauses, the sum over any time is the average times it, the bucket, and one
 * request over the rim; and nobody is told to wait longer than that needs. */
static void random_requests_keep_the_rate(void **state)
{
    (void)state;
    const char *given = getenv("SEED");
    uint64_t seed =
        given ? strtoull(given, NULL, 0) : clock_monotonic.now_ns(&clock_monotonic) / 1000;
    print_message("SEED=%llu\n", (unsigned long long)seed);
    struct random random;
    random_seed(&random, seed);
    for (unsigned round = 0; round < 200; round++) {
        uint64_t average = 1000 + random_below(&random, 100 * MIB);
        uint64_t largest = 1 + random_below(&random, 4 * MIB);
        struct throttle_limits limits = limits_of(THROTTLE_BPS_TOTAL, average, 0, 1);
        struct throttle throttle;
        throttle_init(&throttle, &limits);
        uint64_t now_ns = 0, bytes = 0, start_ns = 0;
        double rim = (double)average / 10 + (double)largest + 1;
        for (unsigned i = 0; i < 500; i++) {
            uint64_t length = 1 + random_below(&random, largest);
            enum throttle_direction direction = random_once_in(&random, 2);
            uint64_t wait_ns = throttle_wait_ns(&throttle, direction, now_ns);
            double allowed = (double)average * (double)(now_ns - start_ns) / 1e9;
            if (wait_ns > 0) /* all of the average was used: nothing is lost by waiting */
                assert_true((double)bytes + 1 >= allowed);
            now_ns += wait_ns;
            assert_int_equal(throttle_wait_ns(&throttle, direction, now_ns), 0);
            throttle_account(&throttle, direction, length);
            bytes += length;
            allowed = (double)average * (double)(now_ns - start_ns) / 1e9;
            assert_true((double)bytes <= allowed * (1 + 1e-9) + rim);
        }
    }
}

/* --- limits that make no sense -----------------------------------------------------------------
 */

static void expect_refused(const struct throttle_limits *limits, const char *sentence)
{
    struct error err = {.message = ""};
    assert_int_equal(throttle_limits_check(limits, &err), -EINVAL);
    assert_string_equal(err.message, sentence);
}

static void a_total_and_a_part_are_not_mixed(void **state)
{
    (void)state;
    struct throttle_limits limits = limits_of(THROTTLE_BPS_TOTAL, 100, 0, 1);
    limits.rates[THROTTLE_BPS_WRITE].average = 10;
    expect_refused(&limits, "bps-total and bps-write cannot be limited together; limit the total, "
                            "or reads and writes each");
    limits = limits_of(THROTTLE_IOPS_TOTAL, 100, 0, 1);
    limits.rates[THROTTLE_IOPS_READ] = (struct throttle_limit){0, 200, 1};
    expect_refused(&limits, "iops-total and iops-read cannot be limited together; limit the total, "
                            "or reads and writes each");
    /* bytes and operations are different things */
    limits = limits_of(THROTTLE_IOPS_TOTAL, 100, 0, 1);
    limits.rates[THROTTLE_BPS_READ].average = 100;
    limits.rates[THROTTLE_BPS_WRITE].average = 50;
    assert_int_equal(throttle_limits_check(&limits, NULL), 0);
}

static void a_burst_stands_on_an_average(void **state)
{
    (void)state;
    struct throttle_limits limits = limits_of(THROTTLE_BPS_READ, 0, 100, 1);
    expect_refused(&limits, "bps-read-max is given without bps-read; give the average as well");
    limits = limits_of(THROTTLE_BPS_READ, 100, 99, 1);
    expect_refused(&limits, "bps-read-max, 99, is below bps-read, 100; a burst is not slower than "
                            "the average");
    limits = limits_of(THROTTLE_BPS_READ, 100, 100, 1);
    assert_int_equal(throttle_limits_check(&limits, NULL), 0);
}

static void a_burst_length_stands_on_a_burst(void **state)
{
    (void)state;
    struct throttle_limits limits = limits_of(THROTTLE_IOPS_WRITE, 100, 0, 2);
    expect_refused(&limits, "iops-write-max-length is given without iops-write-max; give the rate "
                            "of the burst as well");
    limits = limits_of(THROTTLE_IOPS_WRITE, 100, 200, 0);
    expect_refused(&limits, "iops-write-max-length is 0; a burst lasts at least 1 second");
    limits = limits_of(THROTTLE_IOPS_WRITE, 100, 200, THROTTLE_VALUE_MAX / 200 + 1);
    expect_refused(&limits, "iops-write-max-length, 5000000000001, is too long for iops-write-max, "
                            "200; the two multiplied give at most 1000000000000000");
    limits.rates[THROTTLE_IOPS_WRITE].burst_length_s--;
    assert_int_equal(throttle_limits_check(&limits, NULL), 0);
}

static void values_have_a_bound(void **state)
{
    (void)state;
    struct throttle_limits limits = limits_of(THROTTLE_BPS_TOTAL, THROTTLE_VALUE_MAX + 1, 0, 1);
    expect_refused(&limits, "bps-total is 1000000000000001; the most is 1000000000000000");
    limits = limits_of(THROTTLE_BPS_TOTAL, THROTTLE_VALUE_MAX, THROTTLE_VALUE_MAX + 1, 1);
    expect_refused(&limits, "bps-total-max is 1000000000000001; the most is 1000000000000000");
    limits = limits_of(THROTTLE_IOPS_TOTAL, 1, 0, 1);
    limits.iops_size_bytes = UINT64_MAX;
    expect_refused(&limits, "iops-size is 18446744073709551615; the most is 1000000000000000");
}

static void iops_size_needs_iops(void **state)
{
    (void)state;
    struct throttle_limits limits = limits_of(THROTTLE_BPS_TOTAL, 100, 0, 1);
    limits.iops_size_bytes = 4096;
    expect_refused(&limits, "iops-size is given, but no iops are limited; give iops-total, "
                            "iops-read or iops-write");
    limits.rates[THROTTLE_IOPS_WRITE].average = 1;
    assert_int_equal(throttle_limits_check(&limits, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_limit_never_waits),
        cmocka_unit_test(bytes_go_at_the_average),
        cmocka_unit_test(operations_go_at_the_average),
        cmocka_unit_test(one_operation_a_second_is_a_rate_too),
        cmocka_unit_test(a_request_larger_than_the_bucket_goes_and_the_next_one_pays),
        cmocka_unit_test(reads_and_writes_have_their_own_buckets),
        cmocka_unit_test(a_total_holds_up_both),
        cmocka_unit_test(the_slower_of_two_limits_rules),
        cmocka_unit_test(a_burst_goes_at_once_and_then_the_average),
        cmocka_unit_test(a_burst_with_a_length_goes_no_faster_than_its_rate),
        cmocka_unit_test(a_long_request_is_several_operations),
        cmocka_unit_test(a_clock_that_is_behind_lets_no_time_pass),
        cmocka_unit_test(the_longest_wait_has_a_bound),
        cmocka_unit_test(random_requests_keep_the_rate),
        cmocka_unit_test(a_total_and_a_part_are_not_mixed),
        cmocka_unit_test(a_burst_stands_on_an_average),
        cmocka_unit_test(a_burst_length_stands_on_a_burst),
        cmocka_unit_test(values_have_a_bound),
        cmocka_unit_test(iops_size_needs_iops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
