/* SPDX-License-Identifier: BSD-3-Clause */
/* latency: percentiles against a sorted list, and windows that forget. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <time.h>

#include "block/latency.h"
#include "common/clock.h"
#include "common/random.h"

#define VALUES 5000

static struct latency_summary summary_of(const struct latency *latency, enum latency_span span,
                                         uint64_t now_ns)
{
    struct histogram sum = {.count = 0};
    struct latency_summary summary;
    latency_merge(latency, span, now_ns, &sum);
    histogram_summarise(&sum, &summary);
    return summary;
}

static void nothing_added_is_all_zero(void **state)
{
    static struct latency latency;
    const struct latency_summary none = {.count = 0};
    (void)state;
    for (enum latency_span span = LATENCY_LIFE; span < LATENCY_SPAN_COUNT; span++) {
        struct latency_summary summary = summary_of(&latency, span, 5 * NS_PER_S);
        assert_memory_equal(&summary, &none, sizeof(none));
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void assert_near(uint64_t value, uint64_t truth)
{
    /* A bucket is an eighth of its power of two wide, or 512 ns. */
    uint64_t error = value > truth ? value - truth : truth - value;
    assert_true(error <= truth / 8 + 512);
}

static void percentiles_are_within_an_eighth(void **state)
{
    static struct latency latency;
    static uint64_t values[VALUES];
    struct random random;
    const char *given = getenv("TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    (void)state;
    print_message("TEST_SEED=%llu\n", (unsigned long long)seed);
    random_seed(&random, seed);
    uint64_t sum = 0;
    for (unsigned i = 0; i < VALUES; i++) {
        values[i] = random_below(&random, UINT64_C(1) << (1 + random_below(&random, 36)));
        sum += values[i];
        latency_add(&latency, NS_PER_S, values[i], 1);
    }
    qsort(values, VALUES, sizeof(*values), compare);
    struct latency_summary summary = summary_of(&latency, LATENCY_HOUR, NS_PER_S);
    assert_int_equal(summary.count, VALUES);
    assert_int_equal(summary.min_ns, values[0]);
    assert_int_equal(summary.max_ns, values[VALUES - 1]);
    assert_int_equal(summary.avg_ns, sum / VALUES);
    assert_near(summary.p50_ns, values[VALUES / 2 - 1]);
    assert_near(summary.p99_ns, values[VALUES / 100 * 99 - 1]);
}

static void one_value_is_every_percentile(void **state)
{
    static const uint64_t values[] = {0,
                                      1,
                                      511,
                                      512,
                                      1000,
                                      (UINT64_C(1) << LATENCY_LAST_BIT) - 1,
                                      UINT64_C(1) << LATENCY_LAST_BIT,
                                      UINT64_C(1) << 50};
    (void)state;
    for (unsigned i = 0; i < sizeof(values) / sizeof(*values); i++) {
        struct latency *latency = calloc(1, sizeof(*latency));
        assert_non_null(latency);
        latency_add(latency, NS_PER_S, values[i], 3);
        for (enum latency_span span = LATENCY_LIFE; span < LATENCY_SPAN_COUNT; span++) {
            struct latency_summary summary = summary_of(latency, span, NS_PER_S);
            assert_int_equal(summary.count, 3);
            assert_int_equal(summary.min_ns, values[i]);
            assert_int_equal(summary.avg_ns, values[i]);
            assert_int_equal(summary.p50_ns, values[i]);
            assert_int_equal(summary.p99_ns, values[i]);
            assert_int_equal(summary.max_ns, values[i]);
        }
        free(latency);
    }
}

static void a_window_forgets_and_the_life_does_not(void **state)
{
    static const uint64_t length_s[] = {
        [LATENCY_MINUTE] = 60, [LATENCY_TEN_MINUTES] = 600, [LATENCY_HOUR] = 3600};
    static struct latency latency;
    uint64_t then_ns = 12345 * NS_PER_S;
    (void)state;
    latency_add(&latency, then_ns, 1000, 7);
    for (enum latency_span span = LATENCY_MINUTE; span < LATENCY_SPAN_COUNT; span++) {
        uint64_t length_ns = length_s[span] * NS_PER_S;
        assert_int_equal(summary_of(&latency, span, then_ns).count, 7);
        assert_int_equal(summary_of(&latency, span, then_ns + length_ns * 3 / 4 - 1).count, 7);
        assert_int_equal(summary_of(&latency, span, then_ns + length_ns).count, 0);
    }
    assert_int_equal(summary_of(&latency, LATENCY_LIFE, then_ns + 86400 * NS_PER_S).count, 7);
}

static void a_slot_that_is_used_again_begins_anew(void **state)
{
    static struct latency latency;
    (void)state;
    /* Every slot of the minute, several times round: 15 s each, one value a slot. */
    for (unsigned i = 0; i < 40; i++) {
        uint64_t now_ns = i * 15 * NS_PER_S;
        latency_add(&latency, now_ns, 1000 + i, 1);
        struct latency_summary summary = summary_of(&latency, LATENCY_MINUTE, now_ns);
        assert_int_equal(summary.count, i < 3 ? i + 1 : 4);
        assert_int_equal(summary.min_ns, i < 3 ? 1000 : 1000 + i - 3);
        assert_int_equal(summary.max_ns, 1000 + i);
    }
}

static void what_was_added_after_the_readers_moment_counts(void **state)
{
    static struct latency latency;
    (void)state;
    latency_add(&latency, 30 * NS_PER_S, 1000, 1);
    assert_int_equal(summary_of(&latency, LATENCY_MINUTE, 29 * NS_PER_S).count, 1);
}

static void loops_are_summed(void **state)
{
    static struct latency latencies[2];
    struct histogram sum = {.count = 0};
    struct latency_summary summary;
    (void)state;
    latency_add(&latencies[0], NS_PER_S, 10000, 1);
    latency_add(&latencies[1], NS_PER_S, 30000, 3);
    for (unsigned i = 0; i < 2; i++)
        latency_merge(&latencies[i], LATENCY_LIFE, NS_PER_S, &sum);
    histogram_summarise(&sum, &summary);
    assert_int_equal(summary.count, 4);
    assert_int_equal(summary.min_ns, 10000);
    assert_int_equal(summary.max_ns, 30000);
    assert_int_equal(summary.avg_ns, 25000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_added_is_all_zero),
        cmocka_unit_test(percentiles_are_within_an_eighth),
        cmocka_unit_test(one_value_is_every_percentile),
        cmocka_unit_test(a_window_forgets_and_the_life_does_not),
        cmocka_unit_test(a_slot_that_is_used_again_begins_anew),
        cmocka_unit_test(what_was_added_after_the_readers_moment_counts),
        cmocka_unit_test(loops_are_summed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
