/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_ACCOUNT_H
#define BLOCK_ACCOUNT_H

/*
 * What went through an object, for people: every node has an account, and so has every user of a
 * backend that wants one (the server's export). Requests are counted by kind and by how they ended,
 * and timed; besides, the owner may have counters with names of its own.
 *
 * What counting costs, and how time is taken, is in account.c. Counting is done on a loop; reading
 * on any thread, at any time. Nothing here waits but account_co_settle().
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "block/latency.h"
#include "block/loop.h"

struct account_book;
struct block_env;

enum account_kind {
    ACCOUNT_READ,
    ACCOUNT_WRITE,
    ACCOUNT_ZERO,
    ACCOUNT_DISCARD,
    ACCOUNT_FLUSH,
    ACCOUNT_STATUS,
    ACCOUNT_CACHE,
    ACCOUNT_KIND_COUNT,
};

/* A request is counted once: in operations, failed, or invalid. */
struct account_counts {
    uint64_t operations; /* succeeded */
    uint64_t bytes;      /* of those; what a flush has is 0 */
    uint64_t failed;     /* carried out, with an error */
    uint64_t invalid;    /* refused before they reached a driver */
    uint64_t merged;     /* of the operations: were carried out as a part of another */
};

#define ACCOUNT_COUNTERS_MAX 16

/* One loop's share: written by that loop alone, so plain stores do. */
struct account_lane {
    struct {
        _Atomic uint64_t operations, bytes, failed, invalid, merged;
    } kinds[ACCOUNT_KIND_COUNT];
    _Atomic uint64_t counters[ACCOUNT_COUNTERS_MAX];
    _Atomic(struct account_book *) book; /* the latencies; made at first use */
} __attribute__((aligned(64)));

struct account {
    struct block_env *env;
    struct account_lane *lanes; /* env->loop_count of them */
    const char *counter_names[ACCOUNT_COUNTERS_MAX];
    unsigned counter_count;
};

/* What the accounts of one loop share; in struct env_local. */
struct account_batch {
    struct loop *loop;
    struct loop_task task;               /* listed while pending is not NULL */
    struct account_book *pending;        /* have requests that ended in this round */
    pthread_mutex_t mutex;               /* guards the latencies in all of the loop's books */
    _Atomic(struct account_book *) dead; /* of accounts that are gone */
};

void account_batch_init(struct account_batch *batch, struct loop *loop);
/* The loop does not turn. */
void account_batch_fini(struct account_batch *batch);

/* -ENOMEM. */
int account_init(struct account *account, struct block_env *env);
/* Nobody counts on it any more; on any thread. Also for one that is all zero. */
void account_fini(struct account *account);

/* --- counting, on a loop --------------------------------------------------------------------- */

/* A request begins at loop_moment(), and ends here, on the same loop: code is 0 or its negative
 * errno, bytes what it transferred if it succeeded. */
void account_end(struct account *account, enum account_kind kind, struct loop_moment start,
                 uint64_t bytes, int code);
/* It was refused. */
void account_invalid(struct account *account, enum account_kind kind);
/* More of a request that was counted already: a loan that is taken in parts. */
void account_bytes(struct account *account, enum account_kind kind, uint64_t bytes);
/* What was counted as a success, with so many bytes, turned out to be a failure. */
void account_turned_bad(struct account *account, enum account_kind kind, uint64_t bytes);
/* So many requests became a part of another one. */
void account_merged(struct account *account, enum account_kind kind, uint64_t count);

/* --- named counters -------------------------------------------------------------------------- */

/* Before the first request: a counter of that name (static, in the manner of "cache_hits"). Returns
 * its index; at most ACCOUNT_COUNTERS_MAX. */
unsigned account_new_counter(struct account *account, const char *name);
/* On a loop. */
void account_count(struct account *account, unsigned counter, uint64_t by);
uint64_t account_counter(const struct account *account, unsigned counter);

/* --- reading --------------------------------------------------------------------------------- */

const char *account_kind_name(enum account_kind kind); /* "read", ... */

/* Sums over the loops; each alone is exact, together they are of slightly different moments. */
void account_read_counts(const struct account *account, enum account_kind kind,
                         struct account_counts *ret);
/* Of requests that were carried out, failed ones too; without those that ended in the round that a
 * loop is in. A loop that had no memory for its book has none. */
void account_read_latency(const struct account *account, enum account_kind kind,
                          enum latency_span span, struct latency_summary *ret);

/* Every loop turns: waits until each has taken the time for what ended before, so that nothing of
 * it is missing. */
void account_co_settle(struct block_env *env);

#endif
