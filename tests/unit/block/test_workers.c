/* SPDX-License-Identifier: BSD-3-Clause */
/* workers.h: where work and its end run, how many threads there are, and what happens with none. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/coroutine.h"
#include "block/loop.h"
#include "block/workers.h"

#define THREADS_MAX 3

struct fixture {
    struct loop *loop;
    struct workers *workers;
};

static int setup(void **state)
{
    static struct fixture fixture;
    *state = &fixture;
    int rc = loop_new(&fixture.loop, 0, &poller_ev, &clock_monotonic, NULL);
    return rc < 0 ? rc : workers_new(&fixture.workers, THREADS_MAX, NULL);
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    workers_free(fixture->workers);
    loop_free(fixture->loop);
    return 0;
}

/* All jobs of a test meet here. */
struct meeting {
    struct loop *loop;
    pthread_t home;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned inside, inside_max, hold_until; /* work() stays inside until so many came */
    unsigned done;                           /* home loop's thread only */
    bool elsewhere, signals_blocked, named;
};

struct meeting_job {
    struct worker_job job;
    struct meeting *meeting;
};

static void meeting_work(struct worker_job *job)
{
    struct meeting *meeting = container_of(job, struct meeting_job, job)->meeting;
    char name[16];
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    pthread_getname_np(pthread_self(), name, sizeof(name));
    pthread_mutex_lock(&meeting->mutex);
    meeting->elsewhere &= !pthread_equal(pthread_self(), meeting->home);
    meeting->signals_blocked &= sigismember(&blocked, SIGTERM) == 1;
    meeting->named &= strcmp(name, "platter-worker") == 0;
    if (++meeting->inside > meeting->inside_max)
        meeting->inside_max = meeting->inside;
    pthread_cond_broadcast(&meeting->changed);
    while (meeting->inside_max < meeting->hold_until)
        pthread_cond_wait(&meeting->changed, &meeting->mutex);
    meeting->inside--;
    pthread_mutex_unlock(&meeting->mutex);
}

static void meeting_done(struct worker_job *job)
{
    struct meeting *meeting = container_of(job, struct meeting_job, job)->meeting;
    assert_true(pthread_equal(pthread_self(), meeting->home));
    assert_ptr_equal(loop_current(), meeting->loop);
    meeting->done++;
}

static void meeting_hold(struct fixture *fixture, struct meeting *meeting, struct meeting_job *jobs,
                         unsigned count, unsigned hold_until)
{
    *meeting = (struct meeting){.loop = fixture->loop,
                                .home = pthread_self(),
                                .hold_until = hold_until,
                                .elsewhere = true,
                                .signals_blocked = true,
                                .named = true};
    pthread_mutex_init(&meeting->mutex, NULL);
    pthread_cond_init(&meeting->changed, NULL);
    for (unsigned i = 0; i < count; i++) {
        jobs[i] = (struct meeting_job){{.work = meeting_work, .done = meeting_done}, meeting};
        workers_submit(fixture->workers, fixture->loop, &jobs[i].job);
        assert_int_equal(meeting->done, 0);
    }
    while (meeting->done < count)
        loop_turn(fixture->loop, true);
    pthread_cond_destroy(&meeting->changed);
    pthread_mutex_destroy(&meeting->mutex);
}

static void work_runs_on_a_named_thread_without_signals_and_its_end_at_home(void **state)
{
    struct meeting meeting;
    struct meeting_job jobs[1];
    meeting_hold(*state, &meeting, jobs, 1, 1);
    assert_true(meeting.elsewhere);
    assert_true(meeting.signals_blocked);
    assert_true(meeting.named);
}

static void as_many_jobs_run_at_once_as_there_may_be_threads(void **state)
{
    struct meeting meeting;
    struct meeting_job jobs[50];
    meeting_hold(*state, &meeting, jobs, 50, THREADS_MAX); /* would hang with fewer */
    assert_int_equal(meeting.inside_max, THREADS_MAX);
}

static void idle_threads_are_called_again(void **state)
{
    struct meeting meeting;
    struct meeting_job jobs[THREADS_MAX];
    for (unsigned i = 0; i < 200; i++)
        meeting_hold(*state, &meeting, jobs, 1 + i % THREADS_MAX, 1 + i % THREADS_MAX);
}

/* --- their policy ------------------------------------------------------------------------------
 */

struct policy_job {
    struct worker_job job;
    struct fixture *fixture;
    int ours; /* of who submits it, and so begins the thread */
    int policy;
    bool done;
};

static void policy_work(struct worker_job *job)
{
    container_of(job, struct policy_job, job)->policy = sched_getscheduler(0);
}

static void policy_done(struct worker_job *job)
{
    container_of(job, struct policy_job, job)->done = true;
}

static void *submit_with_policy(void *arg)
{
    struct policy_job *job = arg;
    sched_setscheduler(0, job->ours, &(struct sched_param){0});
    workers_submit(job->fixture->workers, job->fixture->loop, &job->job);
    return NULL;
}

static int policy_of_worker(struct fixture *fixture, int ours)
{
    struct policy_job job = {{.work = policy_work, .done = policy_done}, fixture, ours, -1, false};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, submit_with_policy, &job), 0);
    while (!job.done)
        loop_turn(fixture->loop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    return job.policy;
}

static void workers_give_way_to_who_calls_them(void **state)
{
    assert_int_equal(policy_of_worker(*state, SCHED_OTHER), SCHED_BATCH);
}

static void workers_keep_a_policy_that_somebody_chose(void **state)
{
    assert_int_equal(policy_of_worker(*state, SCHED_IDLE), SCHED_IDLE);
}

/* --- their processors ----------------------------------------------------------------------------
 */

static int count_processors(void *arg)
{
    cpu_set_t set;
    (void)arg;
    return sched_getaffinity(0, sizeof(set), &set) < 0 ? -1 : CPU_COUNT(&set);
}

static void keep_off_main(void *arg)
{
    struct fixture *fixture = arg;
    cpu_set_t all;
    assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
    int count = CPU_COUNT(&all), others = count > 1 ? count - 1 : 1;
    for (int i = 0; i < 3; i++) { /* the same thread: it went idle last */
        int off = workers_co_run_off(fixture->workers, sched_getcpu(), count_processors, NULL);
        assert_int_equal(off, others);
    }
    assert_int_equal(workers_co_run(fixture->workers, count_processors, NULL), count);
}

static void a_job_keeps_off_a_processor_and_the_next_one_does_not(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(loop_run_co(fixture->loop, keep_off_main, fixture), 0);
}

/* --- coroutines --------------------------------------------------------------------------------
 */

static int add_one(void *arg)
{
    assert_null(loop_current());
    assert_false(coroutine_inside());
    return *(int *)arg + 1;
}

static void counting_main(void *arg)
{
    struct fixture *fixture = arg;
    int count = 0;
    while (count < 100) {
        int next = workers_co_run(fixture->workers, add_one, &count);
        assert_int_equal(next, count + 1);
        assert_ptr_equal(loop_current(), fixture->loop);
        count = next;
    }
}

static void a_coroutine_waits_for_a_job_and_gets_its_result(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(loop_run_co(fixture->loop, counting_main, fixture), 0);
}

struct spot {
    struct worker_job job;
    pthread_t home;
    bool worked_at_home, done;
};

static void spot_work(struct worker_job *job)
{
    struct spot *spot = container_of(job, struct spot, job);
    spot->worked_at_home = pthread_equal(pthread_self(), spot->home);
}

static void spot_done(struct worker_job *job)
{
    container_of(job, struct spot, job)->done = true;
}

/* In a process of its own: a limit of no more address space lets no thread have a stack. */
static int run_without_threads(void)
{
    struct loop *loop;
    struct workers *workers;
    struct rlimit limit = {0, 0};
    struct spot spot = {.job = {.work = spot_work, .done = spot_done}, .home = pthread_self()};
    if (loop_new(&loop, 1, &poller_ev, &clock_monotonic, NULL) < 0 ||
        workers_new(&workers, 1, NULL) < 0)
        return 1;
    /* larger than any stack that libc kept of the tests before */
    pthread_attr_t large;
    pthread_attr_init(&large);
    pthread_attr_setstacksize(&large, 64 << 20);
    pthread_setattr_default_np(&large);
    setrlimit(RLIMIT_AS, &limit);
    workers_submit(workers, loop, &spot.job);
    if (!spot.worked_at_home || spot.done)
        return 2; /* the end is told by the loop, never inside of submit */
    loop_turn(loop, false);
    if (!spot.done)
        return 3;
    workers_free(workers);
    loop_free(loop);
    return 0;
}

static void with_no_thread_to_be_had_the_job_is_done_on_the_spot(void **state)
{
    (void)state;
    if (unit_tool_shares_memory())
        skip_because("the memory of a sanitizer or of valgrind does not fit into a limit");
    pid_t pid = fork();
    if (pid == 0)
        _exit(run_without_threads());
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            work_runs_on_a_named_thread_without_signals_and_its_end_at_home, setup, teardown),
        cmocka_unit_test_setup_teardown(as_many_jobs_run_at_once_as_there_may_be_threads, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(idle_threads_are_called_again, setup, teardown),
        cmocka_unit_test_setup_teardown(workers_give_way_to_who_calls_them, setup, teardown),
        cmocka_unit_test_setup_teardown(workers_keep_a_policy_that_somebody_chose, setup, teardown),
        cmocka_unit_test_setup_teardown(a_job_keeps_off_a_processor_and_the_next_one_does_not,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_coroutine_waits_for_a_job_and_gets_its_result, setup,
                                        teardown),
        cmocka_unit_test(with_no_thread_to_be_had_the_job_is_done_on_the_spot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
