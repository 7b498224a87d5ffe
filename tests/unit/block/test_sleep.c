/* SPDX-License-Identifier: BSD-3-Clause */
/* sleep.c: coroutines that wait for a time do so side by side, and wake in the order of their time.
 */
#include "tests/unit/unit.h"

#include "block/sleep.h"
#include "tests/unit/block/block_fixture.h"

struct nap {
    uint64_t duration_ns;
    unsigned *woken; /* how many have woken before */
    unsigned place;
};

static void co_nap(void *arg)
{
    struct nap *nap = arg;
    uint64_t begin_ns = clock_monotonic.now_ns(&clock_monotonic);
    sleep_co_ns(nap->duration_ns);
    assert_true(clock_monotonic.now_ns(&clock_monotonic) - begin_ns >= nap->duration_ns);
    nap->place = (*nap->woken)++;
}

static void co_the_shortest_wakes_first(struct fixture *fixture, void *arg)
{
    unsigned woken = 0;
    struct nap naps[] = {{60000000, &woken, 9}, {1000000, &woken, 9}, {30000000, &woken, 9}};
    struct group group;
    (void)arg;
    group_init(&group, fixture->loop);
    for (unsigned i = 0; i < 3; i++)
        group_start(&group, co_nap, &naps[i]);
    group_co_wait(&group);
    assert_int_equal(naps[0].place, 2);
    assert_int_equal(naps[1].place, 0);
    assert_int_equal(naps[2].place, 1);
}

static void co_no_time_is_no_wait(struct fixture *fixture, void *arg)
{
    unsigned woken = 0;
    struct nap nap = {.woken = &woken, .place = 9};
    struct group group;
    (void)arg;
    group_init(&group, fixture->loop);
    group_start(&group, co_nap, &nap);
    assert_int_equal(nap.place, 0); /* it ran to its end at once */
    group_co_wait(&group);
}

FIXTURE_TEST(the_shortest_wakes_first, 512, 512)
FIXTURE_TEST(no_time_is_no_wait, 512, 512)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shortest_wakes_first),
        cmocka_unit_test(no_time_is_no_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
