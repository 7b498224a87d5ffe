/* SPDX-License-Identifier: BSD-3-Clause */
/* coroutine_lock.h on one loop: order, and who is woken. Across loops: tests/stress. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <string.h>

#include "block/coroutine.h"
#include "block/coroutine_lock.h"
#include "block/loop.h"

struct gate {
    pthread_mutex_t mutex;
    struct co_queue waiters;
    unsigned permits;
    char trace[32];
    unsigned trace_length;
};

struct visitor {
    struct gate *gate;
    char letter;
};

static void visitor_main(void *arg)
{
    struct visitor *visitor = arg;
    struct gate *gate = visitor->gate;
    pthread_mutex_lock(&gate->mutex);
    while (gate->permits == 0)
        co_queue_wait(&gate->waiters, &gate->mutex);
    gate->permits--;
    gate->trace[gate->trace_length++] = visitor->letter;
    /* still held: nobody else may have it */
    assert_int_not_equal(pthread_mutex_trylock(&gate->mutex), 0);
    pthread_mutex_unlock(&gate->mutex);
}

struct fixture {
    struct loop *loop;
    struct gate gate;
    struct visitor visitors[4];
};

static int setup(void **state)
{
    static struct fixture fixture;
    memset(&fixture, 0, sizeof(fixture));
    pthread_mutex_init(&fixture.gate.mutex, NULL);
    co_queue_init(&fixture.gate.waiters);
    int rc = loop_new(&fixture.loop, 0, &poller_ev, &clock_monotonic, NULL);
    for (unsigned i = 0; i < 4 && rc == 0; i++) {
        fixture.visitors[i] = (struct visitor){&fixture.gate, (char)('0' + i)};
        rc = coroutine_start(fixture.loop, visitor_main, &fixture.visitors[i]);
    }
    *state = &fixture;
    return rc;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    loop_free(fixture->loop);
    pthread_mutex_destroy(&fixture->gate.mutex);
    return 0;
}

static void turn_all(struct fixture *fixture)
{
    while (loop_turn(fixture->loop, false))
        ;
}

static void waiters_leave_in_the_order_they_came(void **state)
{
    struct fixture *fixture = *state;
    struct gate *gate = &fixture->gate;
    assert_false(co_queue_is_empty(&gate->waiters));
    for (unsigned i = 0; i < 4; i++) {
        pthread_mutex_lock(&gate->mutex);
        gate->permits = 1;
        assert_true(co_queue_wake_one(&gate->waiters));
        pthread_mutex_unlock(&gate->mutex);
        turn_all(fixture);
        assert_int_equal(gate->trace_length, i + 1);
    }
    assert_string_equal(gate->trace, "0123");
    assert_false(co_queue_wake_one(&gate->waiters));
    assert_true(co_queue_is_empty(&gate->waiters));
}

static void waking_all_wakes_each_in_order(void **state)
{
    struct fixture *fixture = *state;
    struct gate *gate = &fixture->gate;
    pthread_mutex_lock(&gate->mutex);
    gate->permits = 4;
    co_queue_wake_all(&gate->waiters);
    assert_true(co_queue_is_empty(&gate->waiters));
    pthread_mutex_unlock(&gate->mutex);
    turn_all(fixture);
    assert_string_equal(gate->trace, "0123");
}

static void one_who_finds_the_state_changed_back_waits_again(void **state)
{
    struct fixture *fixture = *state;
    struct gate *gate = &fixture->gate;
    pthread_mutex_lock(&gate->mutex);
    gate->permits = 1;
    co_queue_wake_all(&gate->waiters);
    pthread_mutex_unlock(&gate->mutex);
    turn_all(fixture);
    assert_string_equal(gate->trace, "0");
    pthread_mutex_lock(&gate->mutex);
    gate->permits = 3;
    co_queue_wake_all(&gate->waiters);
    pthread_mutex_unlock(&gate->mutex);
    turn_all(fixture);
    assert_string_equal(gate->trace, "0123");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(waiters_leave_in_the_order_they_came, setup, teardown),
        cmocka_unit_test_setup_teardown(waking_all_wakes_each_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(one_who_finds_the_state_changed_back_waits_again, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
