/* SPDX-License-Identifier: BSD-3-Clause */
/* poller_ev.c: readiness, sleep and wake-ups of a loop on real descriptors. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "block/loop.h"

/* libev's calls come here: the kernel may be without memory for a watch. */
static unsigned epoll_failures;

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    if (epoll_failures > 0) {
        epoll_failures--;
        errno = ENOMEM;
        return -1;
    }
    return (int)syscall(SYS_epoll_ctl, epoll, operation, fd, event);
}

static int real_setup(void **state)
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

struct piped {
    struct loop *loop;
    struct loop_watch watch;
    int fds[2];
    unsigned calls;
    unsigned events;
};

static void on_piped(struct loop_watch *watch, unsigned events)
{
    struct piped *piped = container_of(watch, struct piped, watch);
    piped->calls++;
    piped->events = events;
    assert_ptr_equal(loop_current(), piped->loop);
}

static void piped_open(struct piped *piped, struct loop *loop)
{
    *piped = (struct piped){.loop = loop};
    assert_int_equal(pipe2(piped->fds, O_NONBLOCK | O_CLOEXEC), 0);
    loop_watch_init(&piped->watch, piped->fds[0], on_piped);
}

static void piped_close(struct piped *piped)
{
    loop_watch_set(piped->loop, &piped->watch, 0);
    close(piped->fds[0]);
    close(piped->fds[1]);
}

static void a_watch_tells_while_it_is_on_and_the_descriptor_is_ready(void **state)
{
    struct piped piped;
    piped_open(&piped, *state);
    loop_watch_set(*state, &piped.watch, LOOP_READABLE);
    assert_false(loop_turn(*state, false));
    assert_int_equal(write(piped.fds[1], "x", 1), 1);
    assert_true(loop_turn(*state, true));
    assert_int_equal(piped.calls, 1);
    assert_int_equal(piped.events, LOOP_READABLE);
    loop_turn(*state, true); /* still readable: told again */
    assert_int_equal(piped.calls, 2);
    loop_watch_set(*state, &piped.watch, 0);
    assert_false(loop_turn(*state, false));
    loop_watch_set(*state, &piped.watch, LOOP_READABLE);
    loop_watch_set(*state, &piped.watch, 0);
    loop_watch_set(*state, &piped.watch, LOOP_READABLE);
    loop_turn(*state, true);
    assert_int_equal(piped.calls, 3);
    piped_close(&piped);
}

static void a_descriptor_number_used_again_is_watched_anew(void **state)
{
    struct piped piped;
    for (unsigned i = 0; i < 3; i++) {
        piped_open(&piped, *state);
        loop_watch_set(*state, &piped.watch, LOOP_READABLE);
        assert_int_equal(write(piped.fds[1], "x", 1), 1);
        loop_turn(*state, true);
        assert_int_equal(piped.calls, 1);
        piped_close(&piped); /* no turn between: libev has not seen it go */
    }
}

static void a_writable_descriptor_is_told_as_such(void **state)
{
    struct piped piped;
    piped_open(&piped, *state);
    loop_watch_init(&piped.watch, piped.fds[1], on_piped);
    loop_watch_set(*state, &piped.watch, LOOP_WRITABLE);
    loop_turn(*state, true);
    assert_int_equal(piped.events, LOOP_WRITABLE);
    piped_close(&piped);
}

static void hanging_up_tells_the_reader(void **state)
{
    struct piped piped;
    piped_open(&piped, *state);
    loop_watch_set(*state, &piped.watch, LOOP_READABLE);
    close(piped.fds[1]);
    piped.fds[1] = -1;
    loop_turn(*state, true);
    assert_int_equal(piped.calls, 1);
    piped_close(&piped);
}

static unsigned expired_count;

static void note_expiry(struct loop_timer *timer)
{
    (void)timer;
    expired_count++;
}

static void a_timer_sleeps_about_as_long_as_it_should(void **state)
{
    struct loop_timer timer = {.expired = note_expiry};
    link_init(&timer.link);
    expired_count = 0;
    uint64_t start_ns = loop_now_ns(*state);
    loop_timer_set(*state, &timer, start_ns + 20 * NS_PER_MS);
    unsigned turns = 0;
    while (expired_count == 0) {
        loop_turn(*state, true);
        turns++;
    }
    uint64_t slept_ns = clock_monotonic.now_ns(&clock_monotonic) - start_ns;
    assert_true(slept_ns >= 20 * NS_PER_MS);
    assert_true(slept_ns < 500 * NS_PER_MS); /* a busy machine */
    assert_true(turns <= 3);
}

static void a_nap_is_as_long_as_it_should_be(void **state)
{
    uint64_t shortest_ns = UINT64_MAX;
    for (unsigned i = 0; i < 100; i++) {
        uint64_t start_ns = clock_monotonic.now_ns(&clock_monotonic);
        poller_ev.nap(loop_poller(*state), 20000);
        uint64_t took_ns = clock_monotonic.now_ns(&clock_monotonic) - start_ns;
        assert_true(took_ns >= 20000);
        if (took_ns < shortest_ns)
            shortest_ns = took_ns;
    }
    assert_true(shortest_ns < 500000);
}

static void *stop_from_a_thread(void *arg)
{
    usleep(5000);
    loop_stop(arg);
    return NULL;
}

static void another_thread_stops_a_sleeping_loop(void **state)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stop_from_a_thread, *state), 0);
    loop_run(*state);
    pthread_join(thread, NULL);
}

static void without_descriptors_a_loop_is_refused_with_a_sentence(void **state)
{
    (void)state;
    struct loop *loop = NULL;
    struct error err;
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int rc = loop_new(&loop, 0, &poller_ev, &clock_monotonic, &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(rc, -EMFILE);
    assert_null(loop);
    assert_non_null(strstr(err.message, "ulimit -n"));
}

/* This thread's second number; 0 where the kernel does not count. */
static uint64_t waited_ns_by_proc(void)
{
    uint64_t ran_ns = 0, waited_ns = 0;
    FILE *file = fopen("/proc/thread-self/schedstat", "r");
    if (!file)
        return 0;
    assert_int_equal(fscanf(file, "%" SCNu64 " %" SCNu64, &ran_ns, &waited_ns), 2);
    fclose(file);
    return waited_ns;
}

static void a_loop_is_told_how_long_it_has_waited_for_a_processor(void **state)
{
    void *poller = loop_poller(*state);
    for (int i = 0; i < 3; i++) {
        uint64_t before_ns = waited_ns_by_proc();
        uint64_t waited_ns = poller_ev.waited_ns(poller);
        assert_in_range(waited_ns, before_ns, waited_ns_by_proc());
        usleep(1000);
    }
}

#define on_real(test) cmocka_unit_test_setup_teardown(test, real_setup, loop_teardown)

static void a_watch_that_the_kernel_refuses_for_a_while_works_afterwards(void **state)
{
    struct piped piped;
    piped_open(&piped, *state);
    epoll_failures = 5;
    loop_watch_set(*state, &piped.watch, LOOP_READABLE);
    for (unsigned i = 0; i < 20 && epoll_failures > 0; i++)
        loop_turn(*state, false);
    assert_int_equal(epoll_failures, 0);
    assert_true(piped.calls > 0); /* its owner was asked to look itself meanwhile */
    loop_turn(*state, false);
    unsigned calls = piped.calls;
    loop_turn(*state, false);
    assert_int_equal(piped.calls, calls);
    assert_int_equal(write(piped.fds[1], "x", 1), 1);
    loop_turn(*state, false);
    assert_int_equal(piped.calls, calls + 1);
    assert_int_equal(piped.events, LOOP_READABLE);
    piped_close(&piped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_real(a_watch_tells_while_it_is_on_and_the_descriptor_is_ready),
        on_real(a_descriptor_number_used_again_is_watched_anew),
        on_real(a_writable_descriptor_is_told_as_such),
        on_real(hanging_up_tells_the_reader),
        on_real(a_timer_sleeps_about_as_long_as_it_should),
        on_real(a_nap_is_as_long_as_it_should_be),
        on_real(a_loop_is_told_how_long_it_has_waited_for_a_processor),
        on_real(another_thread_stops_a_sleeping_loop),
        on_real(a_watch_that_the_kernel_refuses_for_a_while_works_afterwards),
        cmocka_unit_test(without_descriptors_a_loop_is_refused_with_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
