/* SPDX-License-Identifier: BSD-3-Clause */
/* loop_inbox.c: every job arrives once, in order, and who finds the loop asleep owes a wake-up. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>

#include "block/loop.h"
#include "block/loop_inbox.h"
#include "common/list.h"

#define POSTERS 3
#define JOBS_EACH 20000

struct numbered_job {
    struct loop_job job;
    unsigned poster, number;
};

static unsigned number_of(const struct loop_job *job)
{
    return container_of(job, struct numbered_job, job)->number;
}

static void what_was_pushed_first_is_taken_first(void **state)
{
    (void)state;
    struct loop_inbox inbox = {.top = NULL};
    struct numbered_job jobs[3] = {{.number = 1}, {.number = 2}, {.number = 3}};
    assert_null(loop_inbox_take(&inbox));
    assert_false(loop_inbox_has_jobs(&inbox));
    for (unsigned i = 0; i < 3; i++)
        assert_false(loop_inbox_push(&inbox, &jobs[i].job)); /* nobody sleeps */
    assert_true(loop_inbox_has_jobs(&inbox));
    struct loop_job *job = loop_inbox_take(&inbox);
    for (unsigned i = 0; i < 3; i++, job = job->next)
        assert_int_equal(number_of(job), i + 1);
    assert_null(job);
    assert_null(loop_inbox_take(&inbox));
}

static void one_of_those_that_find_a_sleeper_owes_a_wake_up(void **state)
{
    (void)state;
    struct loop_inbox inbox = {.top = NULL};
    struct numbered_job jobs[2] = {{.number = 1}, {.number = 2}};
    assert_true(loop_inbox_sleep(&inbox));
    assert_false(loop_inbox_has_jobs(&inbox));
    assert_true(loop_inbox_push(&inbox, &jobs[0].job));
    assert_false(loop_inbox_push(&inbox, &jobs[1].job));
    assert_true(loop_inbox_has_jobs(&inbox));
    loop_inbox_woken(&inbox);
    loop_inbox_wake_up(&inbox);
    assert_false(loop_inbox_sleep(&inbox)); /* there is something to do */
    struct loop_job *job = loop_inbox_take(&inbox);
    assert_int_equal(number_of(job), 1);
    assert_int_equal(number_of(job->next), 2);
    assert_null(job->next->next);
    loop_inbox_settle(&inbox);
}

static void who_woke_up_by_himself_is_owed_nothing(void **state)
{
    (void)state;
    struct loop_inbox inbox = {.top = NULL};
    struct numbered_job job = {.number = 1};
    assert_true(loop_inbox_sleep(&inbox));
    loop_inbox_wake_up(&inbox);
    assert_null(loop_inbox_take(&inbox));
    assert_false(loop_inbox_push(&inbox, &job.job));
    assert_ptr_equal(loop_inbox_take(&inbox), &job.job);
    loop_inbox_settle(&inbox);
}

/* --- threads ------------------------------------------------------------------------------------
 */

struct poster {
    struct loop_inbox *inbox;
    sem_t *bell;
    struct numbered_job jobs[JOBS_EACH];
};

static void *post_all(void *arg)
{
    struct poster *poster = arg;
    for (unsigned i = 0; i < JOBS_EACH; i++) {
        if (!loop_inbox_push(poster->inbox, &poster->jobs[i].job))
            continue;
        sem_post(poster->bell);
        loop_inbox_woken(poster->inbox);
    }
    return NULL;
}

/* The sleeper would sleep for ever if a wake-up were lost. */
static void no_job_is_lost_between_threads(void **state)
{
    (void)state;
    static struct poster posters[POSTERS];
    struct loop_inbox inbox = {.top = NULL};
    pthread_t threads[POSTERS];
    unsigned taken[POSTERS] = {0}, left = POSTERS * JOBS_EACH;
    sem_t bell;
    sem_init(&bell, 0, 0);
    for (unsigned p = 0; p < POSTERS; p++) {
        posters[p].inbox = &inbox;
        posters[p].bell = &bell;
        for (unsigned i = 0; i < JOBS_EACH; i++)
            posters[p].jobs[i] = (struct numbered_job){.poster = p, .number = i};
        assert_int_equal(pthread_create(&threads[p], NULL, post_all, &posters[p]), 0);
    }
    while (left > 0) {
        if (loop_inbox_sleep(&inbox)) {
            sem_wait(&bell);
            loop_inbox_wake_up(&inbox);
        }
        struct loop_job *job = loop_inbox_take(&inbox);
        for (; job; job = job->next, left--) {
            struct numbered_job *numbered = container_of(job, struct numbered_job, job);
            assert_int_equal(numbered->number, taken[numbered->poster]++);
        }
    }
    loop_inbox_settle(&inbox);
    for (unsigned p = 0; p < POSTERS; p++)
        pthread_join(threads[p], NULL);
    assert_int_equal(sem_trywait(&bell), -1); /* as many as were owed */
    sem_destroy(&bell);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_pushed_first_is_taken_first),
        cmocka_unit_test(one_of_those_that_find_a_sleeper_owes_a_wake_up),
        cmocka_unit_test(who_woke_up_by_himself_is_owed_nothing),
        cmocka_unit_test(no_job_is_lost_between_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
