/* SPDX-License-Identifier: BSD-3-Clause */
/* stand.c: which thread runs what, and the end. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "block/background.h"
#include "block/coroutine.h"
#include "block/workers.h"
#include "contrib/nbdkit-plugin/stand.h"

#define LOOPS 4

struct note {
    pthread_t thread;
    unsigned loop_index;
    bool has_run;
};

static void take_note(void *arg)
{
    struct note *note = arg;
    coroutine_co_pause();
    *note = (struct note){
        .thread = pthread_self(), .loop_index = loop_index(loop_current()), .has_run = true};
}

static void a_request_runs_on_the_thread_that_brings_it(void **state)
{
    struct stand stand;
    struct note note = {.has_run = false};
    (void)state;
    assert_int_equal(stand_init(&stand, LOOPS, NULL), 0);
    assert_int_equal(stand_start(&stand, NULL), 0);
    assert_int_equal(stand_run_co(&stand, take_note, &note), 0);
    assert_true(note.has_run && pthread_equal(note.thread, pthread_self()));
    assert_in_range(note.loop_index, 1, LOOPS - 1);
    stand_end_requests(&stand);
    note.has_run = false;
    assert_int_equal(stand_run_co(&stand, take_note, &note), -ESHUTDOWN);
    assert_false(note.has_run);
    stand_stop(&stand);
    stand_fini(&stand);
}

static void what_is_for_home_runs_there(void **state)
{
    struct stand stand;
    struct note note = {.has_run = false};
    (void)state;
    assert_int_equal(stand_init(&stand, 2, NULL), 0);
    assert_int_equal(stand_run_home_co(&stand, take_note, &note), 0);
    assert_true(note.has_run && pthread_equal(note.thread, pthread_self()));
    assert_int_equal(note.loop_index, 0);
    assert_int_equal(stand_start(&stand, NULL), 0);
    for (unsigned i = 0; i < 100; i++) {
        note.has_run = false;
        assert_int_equal(stand_run_home_co(&stand, take_note, &note), 0);
        assert_true(note.has_run && !pthread_equal(note.thread, pthread_self()));
        assert_int_equal(note.loop_index, 0);
    }
    stand_stop(&stand);
    assert_int_equal(stand_run_home_co(&stand, take_note, &note), 0);
    assert_true(pthread_equal(note.thread, pthread_self()));
    stand_fini(&stand);
}

/* --- behind a request ------------------------------------------------------------------------- */

struct behind {
    struct background work;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    struct note note;
};

static int wait_a_moment(void *arg)
{
    (void)arg;
    return 0;
}

static void co_behind(struct background *work)
{
    struct behind *behind = container_of(work, struct behind, work);
    workers_co_run(work->env->workers, wait_a_moment, NULL);
    pthread_mutex_lock(&behind->mutex);
    behind->note = (struct note){
        .thread = pthread_self(), .loop_index = loop_index(loop_current()), .has_run = true};
    pthread_cond_signal(&behind->ended);
    pthread_mutex_unlock(&behind->mutex);
}

static void no_stack(struct background *work)
{
    (void)work;
    fail_msg("there is no stack");
}

static void begin_work(void *arg)
{
    struct behind *behind = arg;
    background_start(&behind->work);
}

static void what_goes_on_behind_a_request_goes_on_at_home(void **state)
{
    struct stand stand;
    struct behind behind = {.mutex = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    (void)state;
    assert_int_equal(stand_init(&stand, LOOPS, NULL), 0);
    assert_int_equal(stand_start(&stand, NULL), 0);
    behind.work = (struct background){.env = &stand.env, .co_run = co_behind, .refused = no_stack};
    assert_int_equal(stand_run_co(&stand, begin_work, &behind), 0);
    /* Nobody turns the request's loop any more. */
    pthread_mutex_lock(&behind.mutex);
    while (!behind.note.has_run)
        pthread_cond_wait(&behind.ended, &behind.mutex);
    pthread_mutex_unlock(&behind.mutex);
    assert_int_equal(behind.note.loop_index, 0);
    assert_false(pthread_equal(behind.note.thread, pthread_self()));
    stand_end_requests(&stand);
    stand_stop(&stand);
    stand_fini(&stand);
}

/* --- life ------------------------------------------------------------------------------------- */

static void note_signals(void *arg)
{
    sigset_t *blocked = arg;
    pthread_sigmask(SIG_SETMASK, NULL, blocked);
}

static void signals_are_left_to_the_hosts_threads(void **state)
{
    struct stand stand;
    sigset_t before, blocked;
    (void)state;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_int_equal(stand_init(&stand, 2, NULL), 0);
    assert_int_equal(stand_start(&stand, NULL), 0);
    assert_int_equal(stand_run_home_co(&stand, note_signals, &blocked), 0);
    assert_true(sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGINT));
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    assert_int_equal(sigismember(&blocked, SIGTERM), sigismember(&before, SIGTERM));
    stand_stop(&stand);
    stand_fini(&stand);
}

static void it_can_be_taken_down_at_every_stage(void **state)
{
    struct stand stand = {.loop_count = 0};
    (void)state;
    stand_fini(&stand);
    assert_int_equal(stand_init(&stand, LOOP_COUNT_MAX, NULL), 0);
    stand_stop(&stand); /* was never started */
    stand_fini(&stand);
    stand_fini(&stand);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_runs_on_the_thread_that_brings_it),
        cmocka_unit_test(what_is_for_home_runs_there),
        cmocka_unit_test(what_goes_on_behind_a_request_goes_on_at_home),
        cmocka_unit_test(signals_are_left_to_the_hosts_threads),
        cmocka_unit_test(it_can_be_taken_down_at_every_stage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
