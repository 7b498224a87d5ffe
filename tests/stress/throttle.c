/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One throttle group, four members, each used from four loops.
 *
 * Phase 1: everybody always has the next request ready, one member twice as many as the others.
 * Checked: no more went than the limit allows for the time that passed, and the members had equal
 * shares, within a fifth.
 *
 * Phase 2: reads and writes of any size under limits of every kind, while members are exempted and
 * limited again, also while they wait. Checked: every request comes to its end (a wake-up that is
 * lost is a hang), and nothing is left in the group.
 */
#include "tests/stress/stress.h"

#include "block/throttle_group.h"

#define MEMBERS 4
/* The bucket, a tenth of this, has room for fewer than wait for each member: so on a machine that
 * is busy too, whatever a late loop lets go together is chosen in turn. */
#define RATE 500
#define FAIR_FROM_MS 300 /* what went at once at the beginning went to whoever came first */
#define FAIR_MS 3000
#define FAIR_ACTORS 8 /* on each loop, for each member */
#define PASSES 1500
#define CHAOS_ACTORS 4

struct shared {
    struct stress stress;
    struct throttle_groups groups;
    struct throttle_group *group;
    struct throttle_member members[MEMBERS];
    atomic_uint numbers; /* hands every actor one */
    atomic_uint actors_left;
    uint64_t start_ns;
    atomic_uint gone[MEMBERS]; /* while all of them wanted more */
    atomic_uint gone_in_all;
};

static void make_group(struct shared *shared, const struct throttle_limits *limits)
{
    check(throttle_group_new(&shared->group, &shared->groups, "g", limits, NULL) == 0);
    for (unsigned i = 0; i < MEMBERS; i++)
        throttle_member_init(&shared->members[i], shared->group);
}

static void free_group(struct shared *shared)
{
    for (unsigned i = 0; i < MEMBERS; i++)
        throttle_member_fini(&shared->members[i]);
    throttle_group_free(shared->group);
}

static uint64_t now_ns(void)
{
    return clock_monotonic.now_ns(&clock_monotonic);
}

/* --- phase 1 -----------------------------------------------------------------------------------
 */

/* Two of five actors ask for member 0. */
static void fair_actor(void *arg)
{
    struct shared *shared = arg;
    unsigned number = atomic_fetch_add(&shared->numbers, 1) % (MEMBERS + 1);
    unsigned member = number % MEMBERS;
    for (;;) {
        throttle_member_co_pass(&shared->members[member], THROTTLE_READ, 1);
        atomic_fetch_add(&shared->gone_in_all, 1);
        uint64_t passed_ns = now_ns() - shared->start_ns;
        if (passed_ns > FAIR_MS * NS_PER_MS)
            break;
        if (passed_ns > FAIR_FROM_MS * NS_PER_MS)
            atomic_fetch_add(&shared->gone[member], 1);
    }
    atomic_fetch_sub(&shared->actors_left, 1);
}

static void check_shares(struct shared *shared)
{
    double passed_s = (double)(now_ns() - shared->start_ns) / (double)NS_PER_S;
    unsigned sum = atomic_load(&shared->gone_in_all), least = UINT32_MAX, most = 0;
    for (unsigned i = 0; i < MEMBERS; i++) {
        unsigned gone = atomic_load(&shared->gone[i]);
        least = gone < least ? gone : least;
        most = gone > most ? gone : most;
    }
    printf("throttle: %u requests in %.3f s at %u a second; shares from %u to %u\n", sum, passed_s,
           RATE, least, most);
    fflush(stdout);
    check((double)sum <= RATE * passed_s + RATE / 10 + 1);
    check((double)sum >= RATE * passed_s / 10); /* a busy machine loses some */
    check(most <= least + least / 5);
}

/* --- phase 2 -----------------------------------------------------------------------------------
 */

static void passer(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    stress_random(&shared->stress, &random, atomic_fetch_add(&shared->numbers, 1));
    for (unsigned i = 0; i < PASSES; i++) {
        struct throttle_member *member = &shared->members[random_below(&random, MEMBERS)];
        throttle_member_co_pass(member, random_once_in(&random, 2) ? THROTTLE_WRITE : THROTTLE_READ,
                                1 + random_below(&random, 4096));
        if (random_once_in(&random, 20))
            stress_co_dawdle(&shared->stress, &random);
    }
    atomic_fetch_sub(&shared->actors_left, 1);
}

static void exempter(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    stress_random(&shared->stress, &random, atomic_fetch_add(&shared->numbers, 1));
    while (atomic_load(&shared->actors_left) > 0) {
        struct throttle_member *member = &shared->members[random_below(&random, MEMBERS)];
        throttle_member_exempt_begin(member);
        if (random_once_in(&random, 4))
            stress_co_dawdle(&shared->stress, &random);
        throttle_member_exempt_end(member);
        for (unsigned i = 0; i < 5; i++)
            stress_co_dawdle(&shared->stress, &random);
    }
}

/* --- both --------------------------------------------------------------------------------------
 */

static void spawn(struct shared *shared, unsigned count, coroutine_entry *entry)
{
    for (unsigned i = 0; i < count; i++)
        stress_spawn(&shared->stress, i % STRESS_LOOPS, entry, shared);
}

static void co_wait_actors(struct shared *shared)
{
    struct random random;
    random_seed(&random, 1);
    while (atomic_load(&shared->actors_left) > 0)
        stress_co_dawdle(&shared->stress, &random);
}

static void director(void *arg)
{
    struct shared *shared = arg;
    struct throttle_limits limits;
    unsigned count = FAIR_ACTORS * STRESS_LOOPS * (MEMBERS + 1);
    throttle_limits_init(&limits);
    limits.rates[THROTTLE_IOPS_TOTAL].average = RATE;
    make_group(shared, &limits);
    atomic_store(&shared->actors_left, count);
    shared->start_ns = now_ns();
    spawn(shared, count, fair_actor);
    co_wait_actors(shared);
    check_shares(shared);
    free_group(shared);

    throttle_limits_init(&limits);
    limits.rates[THROTTLE_IOPS_TOTAL].average = 30000;
    limits.rates[THROTTLE_BPS_READ] = (struct throttle_limit){30000000, 60000000, 2};
    limits.rates[THROTTLE_BPS_WRITE].average = 30000000;
    limits.iops_size_bytes = 1024;
    make_group(shared, &limits);
    count = CHAOS_ACTORS * STRESS_LOOPS;
    atomic_store(&shared->actors_left, count);
    spawn(shared, count, passer);
    spawn(shared, 2, exempter);
    co_wait_actors(shared);
}

int main(void)
{
    struct shared *shared = calloc(1, sizeof(*shared));
    check(shared);
    stress_init(&shared->stress, "throttle");
    throttle_groups_init(&shared->groups);
    stress_spawn(&shared->stress, 0, director, shared);
    stress_run(&shared->stress);
    free_group(shared);
    throttle_groups_fini(&shared->groups);
    stress_fini(&shared->stress);
    free(shared);
    return 0;
}
