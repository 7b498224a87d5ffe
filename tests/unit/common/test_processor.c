/* SPDX-License-Identifier: BSD-3-Clause */
/* processor.c: what Linux' scheduler tells of a thread, and where it runs. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/processor.h"

static cpu_set_t allowed(void)
{
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
    return set;
}

static cpu_set_t only(int processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    return set;
}

static atomic_bool is_over;

static void *use_processor(void *arg)
{
    (void)arg;
    while (!is_over)
        ;
    return NULL;
}

/* Both on the processor that the caller has. */
static void share_processor(pthread_t *other, cpu_set_t *before)
{
    cpu_set_t one = only(processor_current());
    *before = allowed();
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    is_over = false;
    assert_int_equal(pthread_create(other, NULL, use_processor, NULL), 0);
}

static void a_thread_beside_another_has_waited(void **state)
{
    (void)state;
    int fd = processor_open_waited();
    if (fd < 0)
        skip(); /* a kernel without it */
    pthread_t other;
    cpu_set_t before;
    uint64_t waited_ns = processor_waited_ns(fd);
    uint64_t end_ns = clock_monotonic.now_ns(&clock_monotonic) + 20 * NS_PER_S;
    share_processor(&other, &before);
    while (processor_waited_ns(fd) <= waited_ns &&
           clock_monotonic.now_ns(&clock_monotonic) < end_ns)
        ;
    is_over = true;
    pthread_join(other, NULL);
    assert_true(processor_waited_ns(fd) > waited_ns);
    assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
    close(fd);
}

static void what_cannot_be_read_is_nothing(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(processor_waited_ns(-1), 0);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(processor_waited_ns(fds[0]), 0); /* has no offsets */
    close(fds[0]);
    close(fds[1]);
}

static void assert_allowed(cpu_set_t expected)
{
    cpu_set_t now = allowed();
    assert_true(CPU_EQUAL(&now, &expected));
}

static cpu_set_t without(cpu_set_t set, int processor)
{
    CPU_CLR(processor, &set);
    return set;
}

static void who_keeps_off_a_processor_runs_on_the_others(void **state)
{
    (void)state;
    struct processor_place place = PROCESSOR_ANY;
    cpu_set_t all = allowed();
    int left = processor_current();
    processor_keep_off(&place, left);
    if (CPU_COUNT(&all) > 1) {
        assert_allowed(without(all, left));
        int other = processor_current();
        assert_int_not_equal(other, left);
        processor_keep_off(&place, other); /* another one, not one more */
        assert_allowed(without(all, other));
    }
    processor_keep_off(&place, -1);
    assert_allowed(all);
}

static void who_may_use_no_other_stays(void **state)
{
    (void)state;
    struct processor_place place = PROCESSOR_ANY;
    cpu_set_t all = allowed(), one = only(processor_current());
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    processor_keep_off(&place, processor_current());
    assert_allowed(one);
    processor_keep_off(&place, processor_current() + 1); /* which it may not use anyhow */
    assert_allowed(one);
    processor_keep_off(&place, CPU_SETSIZE);
    assert_allowed(one);
    assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

static void what_others_allow_meanwhile_is_taken_over(void **state)
{
    (void)state;
    struct processor_place place = PROCESSOR_ANY;
    cpu_set_t all = allowed();
    if (CPU_COUNT(&all) < 2)
        skip();
    int left = processor_current();
    processor_keep_off(&place, left);
    cpu_set_t one = only(left);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    processor_keep_off(&place, -1);
    assert_allowed(one);
    assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_beside_another_has_waited),
        cmocka_unit_test(what_cannot_be_read_is_nothing),
        cmocka_unit_test(who_keeps_off_a_processor_runs_on_the_others),
        cmocka_unit_test(who_may_use_no_other_stays),
        cmocka_unit_test(what_others_allow_meanwhile_is_taken_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
