/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_ERROR_POLICY_H
#define SERVER_ERROR_POLICY_H

/*
 * What becomes of a request that the disk failed: --rerror and --werror, of an export.
 *
 *     report  the client gets the error
 *     ignore  the client is told that it succeeded; a read gives zeroes. It loses data
 *     stop    the export stops: the request is held, and tried again when the export is resumed
 *     enospc  stop where the disk is full, else report
 *
 * A *stopped* export is to its clients as a virtual machine that qemu stopped: what is under way
 * ends, or fails and is held too; what comes waits until error_policy_resume(). Held requests are
 * their connections' requests in flight, so the bounds of memory are the same as ever.
 *
 * Nobody waits for a request whose client has left, or while the server stops: it fails with its
 * own error, and one that was not tried yet with -ESHUTDOWN.
 *
 * All functions are called on any loop.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"

enum error_action {
    ERROR_REPORT,
    ERROR_IGNORE,
    ERROR_STOP,
    ERROR_ENOSPC,
};

struct error_policy {
    enum error_action on_read, on_write;
    const char *export_name; /* for the log */

    _Atomic bool is_stopped; /* changed under the mutex */
    pthread_mutex_t mutex;   /* guards all below */
    bool is_ending;          /* the server stops: nothing is held any more */
    struct list held;        /* struct held_request.link, the longest first */
    unsigned held_count;
    uint64_t stopped_ns; /* since when, by the loop's clock */
    int stopped_code;    /* the negative errno that did it */
    uint64_t stop_count, retried_count, ignored_read_count, ignored_write_count;
};

/* A moment's look at it. */
struct error_policy_status {
    bool is_stopped;
    uint64_t stopped_ns;
    int stopped_code;
    unsigned held_count; /* failed ones, and those that wait to be tried */
    uint64_t stop_count, retried_count, ignored_read_count, ignored_write_count;
};

/* Whose request it is. */
struct error_policy_client {
    const void *owner;
    const bool *has_left; /* read on the client's loop alone; NULL: never */
};

enum error_verdict { ERROR_VERDICT_REPORT, ERROR_VERDICT_SUCCEED, ERROR_VERDICT_RETRY };

void error_policy_init(struct error_policy *policy, enum error_action on_read,
                       enum error_action on_write, const char *export_name);
/* Nothing is held. */
void error_policy_fini(struct error_policy *policy);

/* A moment's look, without a lock, for who cannot wait: he lets the request wait, as ever. */
static inline bool error_policy_is_stopped(const struct error_policy *policy)
{
    return atomic_load_explicit(&policy->is_stopped, memory_order_acquire);
}
/* Before a request is tried: waits while the export is stopped. 0, or -ESHUTDOWN. */
int error_policy_co_enter(struct error_policy *policy, const struct error_policy_client *client);
/* A request failed with this negative errno: what now; waits while the export is stopped. */
enum error_verdict error_policy_co_judge(struct error_policy *policy,
                                         const struct error_policy_client *client, bool is_read,
                                         int code);

/* Lets what is held go on. False when the export was not stopped. */
bool error_policy_resume(struct error_policy *policy);
/* This owner's client has left, which *has_left says already. */
void error_policy_abandon(struct error_policy *policy, const void *owner);
/* The server stops: from now on nothing is held. */
void error_policy_end(struct error_policy *policy);

void error_policy_look(struct error_policy *policy, struct error_policy_status *ret);

const char *error_action_name(enum error_action action); /* "report", ... */

#endif
