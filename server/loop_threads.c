/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/loop_threads.h"

#include <assert.h>
#include <stdio.h>

int loop_threads_init(struct loop_threads *threads, unsigned loop_count, struct error *err)
{
    assert(loop_count >= 1 && loop_count <= LOOP_COUNT_MAX);
    *threads = (struct loop_threads){0};
    for (unsigned i = 0; i < loop_count; i++) {
        int code = loop_new(&threads->loops[i], i, &poller_ev, &clock_monotonic, err);
        if (code < 0) {
            loop_threads_fini(threads);
            return code;
        }
        threads->loop_count++;
    }
    return 0;
}

void loop_threads_fini(struct loop_threads *threads)
{
    assert(threads->started_count == 0);
    while (threads->loop_count > 0)
        loop_free(threads->loops[--threads->loop_count]);
}

static void *turn_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

int loop_threads_start(struct loop_threads *threads, struct error *err)
{
    threads->started_count = 1;
    for (unsigned i = 1; i < threads->loop_count; i++) {
        int code = pthread_create(&threads->threads[i], NULL, turn_loop, threads->loops[i]);
        if (code != 0) {
            loop_threads_stop(threads);
            return error_set(err, -code, "cannot start thread %u of %u: %s; give a lower --threads",
                             i + 1, threads->loop_count, error_text(code));
        }
        char name[24]; /* the kernel takes 15 characters; there are at most 64 loops */
        snprintf(name, sizeof(name), "platter-%u", i);
        pthread_setname_np(threads->threads[i], name);
        threads->started_count++;
    }
    return 0;
}

void loop_threads_stop(struct loop_threads *threads)
{
    for (unsigned i = 1; i < threads->started_count; i++)
        loop_stop(threads->loops[i]);
    for (unsigned i = 1; i < threads->started_count; i++)
        pthread_join(threads->threads[i], NULL);
    threads->started_count = 0;
}
