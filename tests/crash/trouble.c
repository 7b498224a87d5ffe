/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/crash/trouble.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "block/driver.h"
#include "tests/crash/life.h"

#define PAUSES_MAX 3

/* A workload whose failures are those of one client: what it did is in one order. */
static void draw_workload(struct crash_life *life, bool is_memory)
{
    struct crash_runner *runner = life->runner;
    do {
        crash_workload_draw(&runner->workload, &runner->bench, &life->random);
    } while (is_memory && runner->workload.client_count > 1);
    life->alignment = random_once_in(&life->random, 3) ? 512 : 1;
    life->pauses_max = is_memory ? 0 : PAUSES_MAX;
    life->slow_once_in = 30;
}

static bool is_told(const struct crash_trouble *trouble)
{
    return trouble->open_code < 0 || trouble->close_code < 0 || trouble->failed_requests > 0 ||
           trouble->is_logged;
}

/* What fails once may be made good by another try; what is a hint may fail without a word. */
static bool must_be_told(const struct crash_trouble *trouble)
{
    unsigned calls = trouble->faults.failed_calls;
    if (calls & 1u << CRASH_CALL_FLUSH)
        return true;
    return trouble->faults.is_sticky && (calls & (1u << CRASH_CALL_WRITE | 1u << CRASH_CALL_SIZE));
}

/* A write that failed, once, and was a client's own: all that it had taken is given back. And where
 * nothing failed in the end. */
static bool must_not_leak(const struct crash_trouble *trouble)
{
    if (trouble->host != CRASH_HOST_NONE)
        return trouble->is_leak_known;
    return trouble->is_leak_known && !trouble->is_sticky && !trouble->faults.is_sticky &&
           trouble->failed_requests == 1 && !trouble->is_logged &&
           trouble->faults.failed_calls == 1u << CRASH_CALL_WRITE;
}

static void look_at(struct crash_life *life, uint64_t leaks_before, struct crash_trouble_sums *sums)
{
    const struct crash_trouble *trouble = life->trouble;
    sums->lives++;
    sums->failed_calls += trouble->faults.failed + trouble->failed_allocations + trouble->host_hits;
    sums->leakless += must_not_leak(trouble);
    if (trouble->faults.failed + trouble->failed_allocations > 0)
        *(is_told(trouble) ? &sums->told : &sums->quiet) += 1;
    if (must_be_told(trouble) && !is_told(trouble))
        sim_fail(&life->sim, "a failed write or flush was told to nobody");
    if (must_not_leak(trouble) && trouble->leaks > leaks_before)
        sim_fail(&life->sim, "a write failed, or was carried on, and %" PRIu64 " clusters leak",
                 trouble->leaks);
    if (trouble->is_leak_known && trouble->leaks > leaks_before) {
        sums->leaky++;
        if (trouble->leaks > sums->leaks_max)
            sums->leaks_max = trouble->leaks;
    }
}

static bool is_of_disks(const struct crash_spot *spot)
{
    return !spot->is_memory && spot->host == CRASH_HOST_NONE;
}

static void say_spot(const struct crash_runner *runner, uint64_t seed,
                     const struct crash_spot *spot)
{
    const char *how = spot->is_memory                 ? "fails"
                      : spot->host != CRASH_HOST_NONE ? crash_host_fault_names[spot->host]
                                                      : error_text(spot->code);
    printf("  %s %" PRIu64 " %s%s; again: --format %s --shape %s --seed %" PRIu64 " --at %" PRIu64,
           spot->is_memory ? "allocation" : "call", spot->at, how,
           spot->is_sticky ? ", and all behind it" : "", runner->bench.format->name,
           runner->bench.shape->name, seed, spot->at);
    if (spot->host != CRASH_HOST_NONE)
        printf(" --host %s", crash_host_fault_names[spot->host]);
    printf("%s%s%s\n", spot->is_memory ? " --memory" : "", spot->is_sticky ? " --sticky" : "",
           spot->code == -ENOSPC ? " --enospc" : "");
}

#define HANG_S 60 /* a life that takes so long hangs: it takes milliseconds */

/* Gives the number of calls (allocations) there were, and how much leaked. */
static bool try_one(struct crash_runner *runner, uint64_t seed, const struct crash_spot *spot,
                    uint64_t leaks_before, struct crash_trouble *ret_trouble,
                    struct crash_trouble_sums *sums)
{
    struct crash_life life;
    struct crash_trouble trouble = {
        .lacks_memory = spot->is_memory,
        .host = spot->host,
        .fail_at = is_of_disks(spot) ? 0 : spot->at,
        .is_sticky = !is_of_disks(spot) && spot->is_sticky,
        .faults = {.fail_at = is_of_disks(spot) ? spot->at : 0,
                   .is_sticky = spot->is_sticky,
                   .code = spot->code},
    };
    random_seed(&trouble.faults.random, seed + spot->at);
    alarm(HANG_S);
    crash_life_init(&life, runner, seed);
    life.trouble = &trouble;
    draw_workload(&life, spot->is_memory);
    crash_life_record(&life);
    if (!sim_failed(&life.sim))
        crash_life_play(&life);
    if (!sim_failed(&life.sim) && spot->at > 0)
        look_at(&life, leaks_before, sums);
    bool is_good = !sim_failed(&life.sim);
    if (!is_good) {
        crash_life_say_failure(&life, 0);
        say_spot(runner, seed, spot);
    }
    *ret_trouble = trouble;
    crash_life_fini(&life);
    alarm(0);
    return is_good;
}

struct start {
    struct crash_runner *runner;
    uint64_t leaks;
};

static void co_count_leaks(void *arg)
{
    struct start *start = arg;
    struct crash_bench *bench = &start->runner->bench;
    struct block_node *node;
    struct block_check check = {.leaks = 0};
    struct error err = {.message = ""};
    struct crash_open how = {.disks = start->runner->live, .alignment = 1};
    if (crash_bench_co_open(bench, &how, &node, &err) < 0)
        crash_die("%s: %s", bench->shape->name, err.message);
    block_co_check(bench->shape->filter ? node->file : node, NULL, NULL, &check, &err);
    start->leaks = check.leaks;
    block_co_node_unref(node);
}

/* Of the image at the beginning: a write that fails may be the one that would have used them. */
static uint64_t leaks_at_start(struct crash_runner *runner)
{
    struct start start = {.runner = runner};
    for (unsigned i = 0; i < runner->bench.disk_count; i++)
        crash_disk_copy(&runner->live[i], &runner->bench.start[i]);
    crash_bench_run(&runner->bench, co_count_leaks, &start);
    return start.leaks;
}

/* Without a failure: how many calls there are, and what leaks all the same. */
static bool count_calls(struct crash_runner *runner, uint64_t seed, const struct crash_spot *wanted,
                        uint64_t *ret_calls, uint64_t *ret_leaks)
{
    struct crash_trouble trouble;
    struct crash_spot spot = {.is_memory = wanted->is_memory, .host = wanted->host};
    if (!try_one(runner, seed, &spot, UINT64_MAX, &trouble, NULL))
        return false;
    *ret_calls = is_of_disks(&spot)  ? trouble.faults.calls
                 : wanted->is_memory ? trouble.allocations
                                     : trouble.host_calls;
    uint64_t at_start = leaks_at_start(runner);
    *ret_leaks = trouble.leaks > at_start ? trouble.leaks : at_start;
    return true;
}

bool crash_try_spot(struct crash_runner *runner, uint64_t seed, const struct crash_spot *spot,
                    struct crash_trouble_sums *sums)
{
    struct crash_trouble trouble;
    uint64_t calls, leaks;
    return count_calls(runner, seed, spot, &calls, &leaks) &&
           try_one(runner, seed, spot, leaks, &trouble, sums);
}

static bool try_each(struct crash_runner *runner, uint64_t seed, uint64_t stride,
                     struct crash_spot spot, struct crash_trouble_sums *sums)
{
    struct crash_trouble trouble;
    uint64_t calls, leaks;
    bool is_good = count_calls(runner, seed, &spot, &calls, &leaks);
    for (spot.at = 1 + seed % stride; is_good && spot.at <= calls; spot.at += stride)
        is_good = try_one(runner, seed, &spot, leaks, &trouble, sums);
    return is_good;
}

bool crash_try_faults(struct crash_runner *runner, uint64_t seed, uint64_t stride,
                      struct crash_trouble_sums *sums)
{
    static const int codes[] = {-EIO, -ENOSPC};
    bool is_good = true;
    for (unsigned i = 0; i < 4 && is_good; i++) {
        struct crash_spot spot = {.is_sticky = i % 2, .code = codes[i / 2]};
        is_good = try_each(runner, seed, stride, spot, sums);
    }
    return is_good;
}

bool crash_try_host(struct crash_runner *runner, uint64_t seed, enum crash_host_fault wanted,
                    uint64_t stride, struct crash_trouble_sums *sums)
{
    bool is_good = true;
    for (enum crash_host_fault host = CRASH_HOST_NONE + 1; host < CRASH_HOST_FAULTS; host++) {
        struct crash_spot once = {.host = host}, sticky = {.host = host, .is_sticky = true};
        if (wanted != CRASH_HOST_NONE && wanted != host)
            continue;
        is_good = is_good && try_each(runner, seed, stride, once, sums) &&
                  try_each(runner, seed, stride, sticky, sums);
    }
    return is_good;
}

bool crash_try_no_memory(struct crash_runner *runner, uint64_t seed, uint64_t stride,
                         struct crash_trouble_sums *sums)
{
    struct crash_spot once = {.is_memory = true}, sticky = {.is_memory = true, .is_sticky = true};
    return try_each(runner, seed, stride, once, sums) &&
           try_each(runner, seed, stride, sticky, sums);
}
