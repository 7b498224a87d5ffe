/* SPDX-License-Identifier: BSD-3-Clause */
/* coroutine.h: order of starts, waits and wake-ups, the pool of stacks, and the guard below them.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/coroutine.h"
#include "block/coroutine_pool.h"
#include "block/coroutine_private.h"
#include "block/loop.h"

static int loop_setup(void **state)
{
    struct loop *loop;
    int rc = loop_new(&loop, 0, &poller_ev, &clock_monotonic, NULL);
    *state = loop;
    return rc;
}

static int loop_teardown(void **state)
{
    loop_free(*state);
    return 0;
}

struct trace {
    char text[64];
    unsigned length;
};

static void trace_add(struct trace *trace, char letter)
{
    assert_true(trace->length + 1 < sizeof(trace->text));
    trace->text[trace->length++] = letter;
    trace->text[trace->length] = 0;
}

struct actor {
    struct loop *loop;
    struct trace *trace;
    struct coroutine *co;
    struct actor *child;
    unsigned waits;
    char letter;
};

static void actor_main(void *arg)
{
    struct actor *actor = arg;
    actor->co = coroutine_self();
    assert_ptr_equal(coroutine_loop(actor->co), actor->loop);
    assert_ptr_equal(loop_current(), actor->loop);
    trace_add(actor->trace, actor->letter);
    if (actor->child) {
        assert_int_equal(coroutine_start(actor->loop, actor_main, actor->child), 0);
        assert_ptr_equal(coroutine_self(), actor->co);
    }
    for (unsigned i = 0; i < actor->waits; i++) {
        coroutine_yield();
        assert_ptr_equal(coroutine_self(), actor->co);
        trace_add(actor->trace, actor->letter);
    }
    actor->co = NULL;
}

static void a_start_runs_up_to_the_first_wait_and_then_returns(void **state)
{
    struct trace trace = {{0}, 0};
    struct actor actor = {.loop = *state, .trace = &trace, .letter = 'a', .waits = 1};
    assert_int_equal(coroutine_start(*state, actor_main, &actor), 0);
    trace_add(&trace, '-');
    assert_false(coroutine_inside());
    assert_null(loop_current());
    coroutine_wake(actor.co);
    assert_string_equal(trace.text, "a-");
    while (actor.co)
        loop_turn(*state, false);
    assert_string_equal(trace.text, "a-a");
}

static void a_coroutine_starts_another_and_goes_on_when_that_one_waits(void **state)
{
    struct trace trace = {{0}, 0};
    struct actor child = {.loop = *state, .trace = &trace, .letter = 'c', .waits = 2};
    struct actor parent = {
        .loop = *state, .trace = &trace, .letter = 'p', .waits = 1, .child = &child};
    assert_int_equal(coroutine_start(*state, actor_main, &parent), 0);
    assert_string_equal(trace.text, "pc");
    coroutine_wake(child.co);
    coroutine_wake(parent.co);
    while (parent.co)
        loop_turn(*state, false);
    assert_string_equal(trace.text, "pccp");
    coroutine_wake(child.co);
    while (child.co)
        loop_turn(*state, false);
    assert_string_equal(trace.text, "pccpc");
}

static void woken_coroutines_go_on_in_the_order_they_were_woken(void **state)
{
    struct trace trace = {{0}, 0};
    struct actor actors[4];
    for (unsigned i = 0; i < 4; i++) {
        actors[i] =
            (struct actor){.loop = *state, .trace = &trace, .letter = (char)('0' + i), .waits = 1};
        assert_int_equal(coroutine_start(*state, actor_main, &actors[i]), 0);
    }
    coroutine_wake(actors[2].co);
    coroutine_wake(actors[0].co);
    coroutine_wake(actors[3].co);
    coroutine_wake(actors[1].co);
    while (actors[1].co)
        loop_turn(*state, false);
    assert_string_equal(trace.text, "01232031");
}

static void pausing_main(void *arg)
{
    struct actor *actor = arg;
    for (unsigned i = 0; i < 3; i++) {
        trace_add(actor->trace, actor->letter);
        coroutine_co_pause();
    }
    actor->waits = 0;
}

static void a_pause_lets_the_others_go_first(void **state)
{
    struct trace trace = {{0}, 0};
    struct actor actors[2] = {{.trace = &trace, .letter = 'a', .waits = 1},
                              {.trace = &trace, .letter = 'b', .waits = 1}};
    assert_int_equal(coroutine_start(*state, pausing_main, &actors[0]), 0);
    assert_int_equal(coroutine_start(*state, pausing_main, &actors[1]), 0);
    while (actors[0].waits || actors[1].waits)
        loop_turn(*state, false);
    assert_string_equal(trace.text, "ababab");
}

static void waking_itself_main(void *arg)
{
    unsigned *count = arg;
    for (unsigned i = 0; i < 100; i++) {
        coroutine_wake(coroutine_self());
        coroutine_yield();
        ++*count;
    }
}

static void a_wake_up_before_the_yield_is_not_lost(void **state)
{
    unsigned count = 0;
    assert_int_equal(loop_run_co(*state, waking_itself_main, &count), 0);
    assert_int_equal(count, 100);
}

static void *wake_from_a_thread(void *arg)
{
    usleep(2000);
    coroutine_wake(arg);
    return NULL;
}

static void waiting_for_a_thread_main(void *arg)
{
    unsigned *count = arg;
    for (unsigned i = 0; i < 10; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, wake_from_a_thread, coroutine_self()), 0);
        coroutine_yield();
        pthread_join(thread, NULL);
        ++*count;
    }
}

static void another_threads_wake_up_ends_the_loops_sleep(void **state)
{
    unsigned count = 0;
    assert_int_equal(loop_run_co(*state, waiting_for_a_thread_main, &count), 0);
    assert_int_equal(count, 10);
}

/* Values in registers that a call keeps, across switches among coroutines that use them all. */
static void computing_main(void *arg)
{
    uint64_t *result = arg;
    volatile uint64_t seed = *result;
    uint64_t a = seed, b = seed + 1, c = seed + 2, d = seed + 3, e = seed + 4, f = seed + 5;
    double g = (double)seed;
    for (unsigned i = 0; i < 1000; i++) {
        coroutine_co_pause();
        a += b, b += c, c += d, d += e, e += f, f += a, g += 0.5;
    }
    *result = a ^ b ^ c ^ d ^ e ^ f ^ (uint64_t)g;
}

static uint64_t computed(uint64_t seed)
{
    uint64_t a = seed, b = seed + 1, c = seed + 2, d = seed + 3, e = seed + 4, f = seed + 5;
    double g = (double)seed;
    for (unsigned i = 0; i < 1000; i++)
        a += b, b += c, c += d, d += e, e += f, f += a, g += 0.5;
    return a ^ b ^ c ^ d ^ e ^ f ^ (uint64_t)g;
}

static void a_switch_keeps_what_a_call_keeps(void **state)
{
    uint64_t results[8];
    for (unsigned i = 0; i < 8; i++) {
        results[i] = i * 1000;
        assert_int_equal(coroutine_start(*state, computing_main, &results[i]), 0);
    }
    while (loop_turn(*state, false))
        ;
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(results[i], computed(i * 1000));
}

static void stack_address_main(void *arg)
{
    char here;
    *(uintptr_t *)arg = (uintptr_t)&here;
    assert_int_equal((uintptr_t)__builtin_frame_address(0) % 16, 0);
}

static void an_ended_coroutines_stack_is_used_again(void **state)
{
    uintptr_t first, second;
    assert_int_equal(coroutine_start(*state, stack_address_main, &first), 0);
    assert_int_equal(coroutine_start(*state, stack_address_main, &second), 0);
    assert_int_equal(loop_coroutine_pool(*state)->idle_count, 1);
    assert_int_equal(loop_coroutine_pool(*state)->used_count, 0);
}

static void the_pool_keeps_only_its_maximum(void **state)
{
    enum { COUNT = COROUTINE_POOL_MAX + 50 };
    struct actor *actors = calloc(COUNT, sizeof(*actors));
    struct trace trace = {{0}, 0};
    for (unsigned i = 0; i < COUNT; i++) {
        actors[i] = (struct actor){.loop = *state, .trace = &trace, .letter = 'x', .waits = 1};
        assert_int_equal(coroutine_start(*state, actor_main, &actors[i]), 0);
        trace.length = 0;
    }
    assert_int_equal(loop_coroutine_pool(*state)->used_count, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        coroutine_wake(actors[i].co);
        while (actors[i].co)
            loop_turn(*state, false);
        trace.length = 0;
    }
    assert_int_equal(loop_coroutine_pool(*state)->idle_count, COROUTINE_POOL_MAX);
    assert_int_equal(loop_coroutine_pool(*state)->used_count, 0);
    free(actors);
}

static void deep_main(void *arg)
{
    volatile char buffer[COROUTINE_STACK_BYTES - 8192];
    for (size_t i = 0; i < sizeof(buffer); i += 512)
        buffer[i] = (char)i;
    coroutine_co_pause();
    for (size_t i = 0; i < sizeof(buffer); i += 512)
        assert_int_equal(buffer[i], (char)i);
    *(unsigned *)arg = 1;
}

static void nearly_all_of_the_promised_stack_can_be_used(void **state)
{
    unsigned done = 0;
    assert_int_equal(loop_run_co(*state, deep_main, &done), 0);
    assert_int_equal(done, 1);
}

static __attribute__((noinline)) unsigned fill_the_stack(volatile unsigned depth)
{
    volatile char frame[1024];
    if (depth > 1000000)
        return 0;
    memset((char *)frame, (int)depth, sizeof(frame));
    unsigned below = fill_the_stack(depth + 1);
    return below + (unsigned)frame[depth % sizeof(frame)];
}

static void overflowing_main(void *arg)
{
    *(unsigned *)arg = fill_the_stack(0);
}

static void overrunning_a_stack_hits_the_guard(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit no_core = {0, 0};
        struct loop *loop;
        unsigned never;
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would end with a status of its own */
        if (loop_new(&loop, 1, &poller_ev, &clock_monotonic, NULL) < 0)
            _exit(1);
        loop_run_co(loop, overflowing_main, &never);
        _exit(2);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
}

static void without_memory_for_a_stack_nothing_is_run(void **state)
{
    (void)state;
    if (unit_tool_shares_memory())
        skip_because("the memory of a sanitizer or of valgrind does not fit into a limit");
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit limit = {0, 0};
        struct loop *loop;
        uintptr_t untouched = 0;
        if (loop_new(&loop, 1, &poller_ev, &clock_monotonic, NULL) < 0)
            _exit(1);
        setrlimit(RLIMIT_AS, &limit);
        int rc = loop_run_co(loop, stack_address_main, &untouched);
        _exit(rc == -ENOMEM && untouched == 0 ? 0 : 2);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* --- entered from outside ----------------------------------------------------------------------
 */

struct visit {
    struct loop *loop;
    unsigned steps, others_steps;
};

static void others_main(void *arg)
{
    struct visit *visit = arg;
    for (unsigned i = 0; i < 50; i++) {
        coroutine_co_pause();
        visit->others_steps++;
    }
}

static void visit_main(void *arg)
{
    struct visit *visit = arg;
    assert_int_equal(coroutine_start(visit->loop, others_main, visit), 0);
    coroutine_co_pause();
    visit->steps++;
}

static void who_comes_from_outside_waits_for_one_coroutine_or_for_all(void **state)
{
    struct visit visit = {.loop = *state};
    assert_int_equal(loop_run_all_co(*state, visit_main, &visit), 0);
    assert_int_equal(visit.steps, 1);
    assert_int_equal(visit.others_steps, 50);
    assert_int_equal(loop_run_co(*state, visit_main, &visit), 0);
    assert_int_equal(visit.steps, 2);
    assert_in_range(visit.others_steps, 50, 99);
    while (visit.others_steps < 100)
        loop_turn(*state, false);
}

/* A poller that nothing ever comes from, and that says how often it was asked. */
static int open_counter(struct loop *loop, void **ret_poller, struct error *err)
{
    (void)loop, (void)err;
    *ret_poller = calloc(1, sizeof(unsigned));
    return 0;
}

static bool count_wait(void *poller, int64_t timeout_ns)
{
    (void)timeout_ns;
    ++*(unsigned *)poller;
    return false;
}

static const struct poller_ops poller_counting = {
    .name = "counting", .open = open_counter, .close = free, .wait = count_wait};

static void pause_once_main(void *arg)
{
    (void)arg;
    coroutine_co_pause();
}

static void what_memory_answers_needs_no_look_at_the_poller(void **state)
{
    struct loop *loop;
    (void)state;
    assert_int_equal(loop_new(&loop, 1, &poller_counting, &clock_monotonic, NULL), 0);
    assert_int_equal(loop_run_co(loop, pause_once_main, NULL), 0);
    assert_int_equal(*(unsigned *)loop_poller(loop), 0);
    loop_free(loop);
}

#define with_loop(test) cmocka_unit_test_setup_teardown(test, loop_setup, loop_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_loop(a_start_runs_up_to_the_first_wait_and_then_returns),
        with_loop(a_coroutine_starts_another_and_goes_on_when_that_one_waits),
        with_loop(woken_coroutines_go_on_in_the_order_they_were_woken),
        with_loop(a_pause_lets_the_others_go_first),
        with_loop(a_wake_up_before_the_yield_is_not_lost),
        with_loop(another_threads_wake_up_ends_the_loops_sleep),
        with_loop(a_switch_keeps_what_a_call_keeps),
        with_loop(an_ended_coroutines_stack_is_used_again),
        with_loop(the_pool_keeps_only_its_maximum),
        with_loop(nearly_all_of_the_promised_stack_can_be_used),
        with_loop(who_comes_from_outside_waits_for_one_coroutine_or_for_all),
        cmocka_unit_test(what_memory_answers_needs_no_look_at_the_poller),
        cmocka_unit_test(overrunning_a_stack_hits_the_guard),
        cmocka_unit_test(without_memory_for_a_stack_nothing_is_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
