/* SPDX-License-Identifier: BSD-3-Clause */
/* processor.c: what Linux' scheduler tells of a thread, and where it runs. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/processor.h"

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
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(processor_current(), &one);
    assert_int_equal(sched_getaffinity(0, sizeof(*before), before), 0);
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

static void who_leaves_a_processor_runs_on_the_others_until_he_returns(void **state)
{
    (void)state;
    struct processor_leave leave;
    cpu_set_t before, away, after;
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    int left = processor_current();
    processor_leave(&leave, left);
    assert_int_equal(sched_getaffinity(0, sizeof(away), &away), 0);
    if (CPU_COUNT(&before) > 1) {
        assert_int_equal(CPU_COUNT(&away), CPU_COUNT(&before) - 1);
        assert_false(CPU_ISSET(left, &away));
        assert_int_not_equal(processor_current(), left);
    }
    processor_return(&leave);
    assert_int_equal(sched_getaffinity(0, sizeof(after), &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
}

static void assert_stays(int processor)
{
    struct processor_leave leave;
    cpu_set_t before, after;
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    processor_leave(&leave, processor);
    assert_false(leave.has_left);
    assert_int_equal(sched_getaffinity(0, sizeof(after), &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
    processor_return(&leave);
}

static void who_may_use_no_other_or_need_not_leave_stays(void **state)
{
    (void)state;
    cpu_set_t before, one;
    int here = processor_current();
    assert_stays(-1);
    assert_stays(CPU_SETSIZE);
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    CPU_ZERO(&one);
    CPU_SET(here, &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_stays(here);     /* the only one */
    assert_stays(here + 1); /* which it may not use anyhow */
    assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_beside_another_has_waited),
        cmocka_unit_test(what_cannot_be_read_is_nothing),
        cmocka_unit_test(who_leaves_a_processor_runs_on_the_others_until_he_returns),
        cmocka_unit_test(who_may_use_no_other_or_need_not_leave_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
