/* SPDX-License-Identifier: BSD-3-Clause */
#include "contrib/nbdkit-plugin/stand.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>

#include "block/coroutine.h"
#include "block/host_files.h"
#include "block/workers.h"
#include "common/clock.h"
#include "formats/registry.h"

static struct loop *home_of(const struct stand *stand)
{
    return stand->loops[0];
}

static int make_loops(struct stand *stand, unsigned loop_count, struct error *err)
{
    while (stand->loop_count < loop_count) {
        int code = loop_new(&stand->loops[stand->loop_count], stand->loop_count, &poller_ev,
                            &clock_monotonic, err);
        if (code < 0)
            return code;
        stand->loop_count++;
    }
    return loop_share_init(&stand->share, stand->loops + 1, loop_count - 1, err);
}

int stand_init(struct stand *stand, unsigned loop_count, struct error *err)
{
    assert(loop_count >= 2 && loop_count <= LOOP_COUNT_MAX);
    *stand = (struct stand){.loop_count = 0};
    int code = make_loops(stand, loop_count, err);
    if (code == 0)
        code = workers_new(&stand->workers, WORKERS_THREADS_MAX, err);
    if (code == 0)
        code = block_env_init(&stand->env, stand->loops, loop_count, stand->workers,
                              &host_files_linux, formats_registry, err);
    if (code < 0) {
        stand_fini(stand);
        return code;
    }
    stand->has_env = true;
    stand->env.background_loop = home_of(stand);
    return 0;
}

void stand_fini(struct stand *stand)
{
    assert(!stand->is_started);
    if (stand->has_env)
        block_env_fini(&stand->env);
    workers_free(stand->workers);
    loop_share_fini(&stand->share);
    while (stand->loop_count > 0)
        loop_free(stand->loops[--stand->loop_count]);
    *stand = (struct stand){.loop_count = 0};
}

/* --- the home loop ---------------------------------------------------------------------------- */

static void *home_main(void *arg)
{
    loop_run(arg);
    return NULL;
}

int stand_start(struct stand *stand, struct error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&stand->home_thread, NULL, home_main, home_of(stand));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0)
        return error_set(err, -code, "cannot start a thread: %s", error_text(code));
    pthread_setname_np(stand->home_thread, "platter-home");
    stand->is_started = true;
    return 0;
}

void stand_end_requests(struct stand *stand)
{
    loop_share_end(&stand->share);
}

void stand_stop(struct stand *stand)
{
    if (!stand->is_started)
        return;
    loop_stop(home_of(stand));
    pthread_join(stand->home_thread, NULL);
    stand->is_started = false;
}

/* Somebody on another thread waits for it. */
struct home_call {
    struct loop_job job;
    struct loop *home;
    void (*entry)(void *arg);
    void *arg;
    int code;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool has_ended;
};

static void tell_ended(struct home_call *call, int code)
{
    pthread_mutex_lock(&call->mutex);
    call->code = code;
    call->has_ended = true;
    pthread_cond_signal(&call->ended);
    pthread_mutex_unlock(&call->mutex);
}

static void home_call_main(void *arg)
{
    struct home_call *call = arg;
    call->entry(call->arg);
    tell_ended(call, 0);
}

static void home_call_posted(struct loop_job *job)
{
    struct home_call *call = container_of(job, struct home_call, job);
    int code = coroutine_start(call->home, home_call_main, call);
    if (code < 0)
        tell_ended(call, code);
}

int stand_run_home_co(struct stand *stand, void (*entry)(void *arg), void *arg)
{
    if (!stand->is_started)
        return loop_run_co(home_of(stand), entry, arg);
    struct home_call call = {.job = {.run = home_call_posted},
                             .home = home_of(stand),
                             .entry = entry,
                             .arg = arg,
                             .mutex = PTHREAD_MUTEX_INITIALIZER,
                             .ended = PTHREAD_COND_INITIALIZER};
    loop_post(call.home, &call.job);
    pthread_mutex_lock(&call.mutex);
    while (!call.has_ended)
        pthread_cond_wait(&call.ended, &call.mutex);
    pthread_mutex_unlock(&call.mutex);
    pthread_mutex_destroy(&call.mutex);
    pthread_cond_destroy(&call.ended);
    return call.code;
}
