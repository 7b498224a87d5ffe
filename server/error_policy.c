/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/error_policy.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "block/coroutine.h"
#include "block/loop.h"
#include "common/error.h"
#include "common/log.h"

/*
 * is_stopped is what every request looks at, without a lock; it may miss a stop of this very
 * moment, as it would have come a moment earlier. Who is held is on the list until another one
 * takes it off, under the mutex, with the word that it has from then on, and wakes it.
 */

/* On the held coroutine's stack. */
struct held_request {
    struct list_link link;
    struct coroutine *co;
    const void *owner;
    bool may_go_on;
};

void error_policy_init(struct error_policy *policy, enum error_action on_read,
                       enum error_action on_write, const char *export_name)
{
    *policy =
        (struct error_policy){.on_read = on_read, .on_write = on_write, .export_name = export_name};
    pthread_mutex_init(&policy->mutex, NULL);
    list_init(&policy->held);
}

void error_policy_fini(struct error_policy *policy)
{
    assert(list_is_empty(&policy->held));
    pthread_mutex_destroy(&policy->mutex);
}

/* --- holding --------------------------------------------------------------------------------- */

static bool has_left(const struct error_policy_client *client)
{
    return client->has_left && *client->has_left;
}

/* The mutex is held, and given up meanwhile. Whether the request may go on. */
static bool co_hold(struct error_policy *policy, const struct error_policy_client *client)
{
    struct held_request held = {.co = coroutine_self(), .owner = client->owner};
    list_append(&policy->held, &held.link);
    policy->held_count++;
    pthread_mutex_unlock(&policy->mutex);
    coroutine_yield();
    pthread_mutex_lock(&policy->mutex);
    return held.may_go_on;
}

/* The mutex is held. All, or those of one owner. */
static void release(struct error_policy *policy, const void *owner, bool may_go_on)
{
    list_for_each (link, &policy->held) {
        struct held_request *held = container_of(link, struct held_request, link);
        if (owner && held->owner != owner)
            continue;
        list_remove(link);
        policy->held_count--;
        held->may_go_on = may_go_on;
        coroutine_wake(held->co);
    }
}

int error_policy_co_enter(struct error_policy *policy, const struct error_policy_client *client)
{
    if (!error_policy_is_stopped(policy))
        return 0;
    bool may_go_on = true;
    pthread_mutex_lock(&policy->mutex);
    while (may_go_on && error_policy_is_stopped(policy))
        may_go_on = !has_left(client) && co_hold(policy, client);
    pthread_mutex_unlock(&policy->mutex);
    return may_go_on ? 0 : -ESHUTDOWN;
}

/* --- judging --------------------------------------------------------------------------------- */

/* What the disk, or the way to it, is to blame for; not what a client asked wrongly, or what was
 * refused with nothing done. */
static bool is_the_disks(int code)
{
    return code != -EINVAL && code != -EPERM && code != -ENOTSUP && code != -ENOMEM &&
           code != -EOVERFLOW && code != -ESHUTDOWN;
}

static enum error_action action_for(const struct error_policy *policy, bool is_read, int code)
{
    enum error_action action = is_read ? policy->on_read : policy->on_write;
    if (!is_the_disks(code))
        return ERROR_REPORT;
    if (action != ERROR_ENOSPC)
        return action;
    return code == -ENOSPC || code == -EDQUOT ? ERROR_STOP : ERROR_REPORT;
}

static void count_ignored(struct error_policy *policy, bool is_read, int code)
{
    pthread_mutex_lock(&policy->mutex);
    uint64_t *count = is_read ? &policy->ignored_read_count : &policy->ignored_write_count;
    bool is_first = (*count)++ == 0;
    pthread_mutex_unlock(&policy->mutex);
    if (is_first)
        log_warning("export \"%s\": a %s failed and is told to have succeeded, as asked for: %s; "
                    "others after it are only counted",
                    policy->export_name, is_read ? "read" : "write", error_text(code));
}

/* The mutex is held. */
static void stop(struct error_policy *policy, bool is_read, int code)
{
    if (error_policy_is_stopped(policy))
        return;
    policy->stopped_ns = loop_now_ns(loop_current());
    policy->stopped_code = code;
    policy->stop_count++;
    atomic_store_explicit(&policy->is_stopped, true, memory_order_release);
    log_error("export \"%s\" is stopped: a %s failed: %s; remove the cause, then resume it by "
              "kill -USR2 %ld",
              policy->export_name, is_read ? "read" : "write", error_text(code), (long)getpid());
}

static enum error_verdict co_stop(struct error_policy *policy,
                                  const struct error_policy_client *client, bool is_read, int code)
{
    bool may_go_on = false;
    pthread_mutex_lock(&policy->mutex);
    if (!policy->is_ending && !has_left(client)) {
        stop(policy, is_read, code);
        may_go_on = co_hold(policy, client);
        policy->retried_count += may_go_on;
    }
    pthread_mutex_unlock(&policy->mutex);
    return may_go_on ? ERROR_VERDICT_RETRY : ERROR_VERDICT_REPORT;
}

enum error_verdict error_policy_co_judge(struct error_policy *policy,
                                         const struct error_policy_client *client, bool is_read,
                                         int code)
{
    switch (action_for(policy, is_read, code)) {
    case ERROR_IGNORE:
        count_ignored(policy, is_read, code);
        return ERROR_VERDICT_SUCCEED;
    case ERROR_STOP:
        return co_stop(policy, client, is_read, code);
    default:
        return ERROR_VERDICT_REPORT;
    }
}

/* --- from outside ---------------------------------------------------------------------------- */

bool error_policy_resume(struct error_policy *policy)
{
    pthread_mutex_lock(&policy->mutex);
    bool was_stopped = error_policy_is_stopped(policy);
    atomic_store_explicit(&policy->is_stopped, false, memory_order_release);
    release(policy, NULL, true);
    pthread_mutex_unlock(&policy->mutex);
    return was_stopped;
}

void error_policy_abandon(struct error_policy *policy, const void *owner)
{
    if (!error_policy_is_stopped(policy))
        return;
    pthread_mutex_lock(&policy->mutex);
    release(policy, owner, false);
    pthread_mutex_unlock(&policy->mutex);
}

void error_policy_end(struct error_policy *policy)
{
    pthread_mutex_lock(&policy->mutex);
    policy->is_ending = true;
    atomic_store_explicit(&policy->is_stopped, false, memory_order_release);
    release(policy, NULL, false);
    pthread_mutex_unlock(&policy->mutex);
}

void error_policy_look(struct error_policy *policy, struct error_policy_status *ret)
{
    pthread_mutex_lock(&policy->mutex);
    *ret = (struct error_policy_status){
        .is_stopped = error_policy_is_stopped(policy),
        .stopped_ns = policy->stopped_ns,
        .stopped_code = policy->stopped_code,
        .held_count = policy->held_count,
        .stop_count = policy->stop_count,
        .retried_count = policy->retried_count,
        .ignored_read_count = policy->ignored_read_count,
        .ignored_write_count = policy->ignored_write_count,
    };
    pthread_mutex_unlock(&policy->mutex);
}

const char *error_action_name(enum error_action action)
{
    static const char *const names[] = {
        [ERROR_REPORT] = "report",
        [ERROR_IGNORE] = "ignore",
        [ERROR_STOP] = "stop",
        [ERROR_ENOSPC] = "enospc",
    };
    return names[action];
}
