/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An account that four loops count on while others read and settle it, and accounts that go on one
 * loop while the turn in which another counted on them has not ended.
 *
 * Checked: sums only grow while anybody counts, and are exact at the end; no time is lost. What is
 * touched after its end is for the sanitizers to see.
 */
#include "tests/stress/stress.h"

#include <errno.h>

#include "block/account.h"
#include "block/env.h"

#define COUNTERS_PER_LOOP 4
#define ROUNDS 3000
#define SHORT_LIVES 400

struct shared {
    struct stress stress;
    struct block_env env;
    struct account account;
    unsigned counter;
    atomic_uint numbers;
    atomic_uint counters_left;
};

static void count_for_long(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    stress_random(&shared->stress, &random, atomic_fetch_add(&shared->numbers, 1));
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct loop_moment start = loop_moment();
        enum account_kind kind = (enum account_kind)(i % ACCOUNT_KIND_COUNT);
        if (random_once_in(&random, 8))
            stress_co_dawdle(&shared->stress, &random);
        account_end(&shared->account, kind, start, 3, i % 10 == 0 ? -EIO : 0);
        account_count(&shared->account, shared->counter, 2);
        if (i % 10 == 5)
            account_invalid(&shared->account, kind);
    }
    atomic_fetch_sub(&shared->counters_left, 1);
}

static void read_for_long(void *arg)
{
    struct shared *shared = arg;
    uint64_t operations = 0, counted = 0, times = 0;
    while (atomic_load(&shared->counters_left) > 0) {
        struct account_counts counts;
        struct latency_summary summary;
        account_read_counts(&shared->account, ACCOUNT_READ, &counts);
        account_read_latency(&shared->account, ACCOUNT_READ, LATENCY_LIFE, &summary);
        uint64_t counter = account_counter(&shared->account, shared->counter);
        check(counts.operations >= operations && summary.count >= times && counter >= counted);
        check(counts.bytes <= 3 * (uint64_t)ROUNDS * STRESS_LOOPS * COUNTERS_PER_LOOP);
        operations = counts.operations;
        times = summary.count;
        counted = counter;
        account_co_settle(&shared->env);
        coroutine_co_pause();
    }
    account_co_settle(&shared->env);
}

/* --- short lives ----------------------------------------------------------------------------- */

struct short_life {
    struct shared *shared;
    struct account account;
    atomic_uint counting;
};

/* The last of them to count ends the account, mid-turn, on its own loop. */
static void count_once(void *arg)
{
    struct short_life *life = arg;
    account_end(&life->account, ACCOUNT_WRITE, loop_moment(), 1, 0);
    if (atomic_fetch_sub(&life->counting, 1) != 1)
        return;
    account_fini(&life->account);
    free(life);
}

static void begin_short_lives(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    stress_random(&shared->stress, &random, atomic_fetch_add(&shared->numbers, 1));
    for (unsigned i = 0; i < SHORT_LIVES; i++) {
        struct short_life *life = calloc(1, sizeof(*life));
        check(life);
        life->shared = shared;
        check(account_init(&life->account, &shared->env) == 0);
        atomic_store(&life->counting, STRESS_LOOPS);
        for (unsigned j = 0; j < STRESS_LOOPS; j++)
            stress_spawn(&shared->stress, j, count_once, life);
        stress_co_dawdle(&shared->stress, &random);
    }
}

static void check_sums(struct shared *shared)
{
    uint64_t operations = 0, bytes = 0, failed = 0, invalid = 0, times = 0;
    const uint64_t all = (uint64_t)ROUNDS * STRESS_LOOPS * COUNTERS_PER_LOOP;
    for (enum account_kind kind = 0; kind < ACCOUNT_KIND_COUNT; kind++) {
        struct account_counts counts;
        struct latency_summary summary;
        account_read_counts(&shared->account, kind, &counts);
        account_read_latency(&shared->account, kind, LATENCY_LIFE, &summary);
        operations += counts.operations;
        bytes += counts.bytes;
        failed += counts.failed;
        invalid += counts.invalid;
        times += summary.count;
    }
    check(failed == all / 10 && operations == all - failed && invalid == all / 10);
    check(bytes == 3 * operations && times == all);
    check(account_counter(&shared->account, shared->counter) == 2 * all);
}

int main(void)
{
    struct shared *shared = calloc(1, sizeof(*shared));
    static const struct block_driver *const no_drivers[] = {NULL};
    check(shared);
    stress_init(&shared->stress, "accounts");
    check(block_env_init(&shared->env, shared->stress.loops, STRESS_LOOPS, shared->stress.workers,
                         NULL, no_drivers, NULL) == 0);
    check(account_init(&shared->account, &shared->env) == 0);
    shared->counter = account_new_counter(&shared->account, "cache_hits");
    atomic_store(&shared->counters_left, STRESS_LOOPS * COUNTERS_PER_LOOP);
    for (unsigned i = 0; i < STRESS_LOOPS; i++) {
        for (unsigned j = 0; j < COUNTERS_PER_LOOP; j++)
            stress_spawn(&shared->stress, i, count_for_long, shared);
    }
    stress_spawn(&shared->stress, 0, read_for_long, shared);
    stress_spawn(&shared->stress, 3, read_for_long, shared);
    stress_spawn(&shared->stress, 1, begin_short_lives, shared);
    stress_run(&shared->stress);
    check_sums(shared);
    account_fini(&shared->account);
    block_env_fini(&shared->env);
    stress_fini(&shared->stress);
    free(shared);
    return 0;
}
