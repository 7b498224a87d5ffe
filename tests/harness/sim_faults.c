/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_faults.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/align.h"
#include "common/checked.h"
#include "protocol/wire.h"

#define REACH_BYTES 4096 /* a request touches whole blocks of at most this size */
#define CODES_MAX 4

static const char *const kind_names[FAULT_KINDS] = {
    [FAULT_READ] = "read",           [FAULT_WRITE] = "write", [FAULT_SYNC] = "sync",
    [FAULT_FALLOCATE] = "fallocate", [FAULT_SEEK] = "seek",   [FAULT_OPEN] = "open",
};

/* What each kind of call may fail with, for a reason that is not the caller's. */
static const int codes[FAULT_KINDS][CODES_MAX] = {
    [FAULT_READ] = {-EIO, -EIO, -ENOMEM, -ETIMEDOUT},
    [FAULT_WRITE] = {-EIO, -ENOSPC, -ENOSPC, -EDQUOT},
    [FAULT_SYNC] = {-EIO, -EIO, -ENOSPC, -EDQUOT},
    [FAULT_FALLOCATE] = {-EIO, -ENOSPC, -ENOSPC, -EOPNOTSUPP},
    [FAULT_SEEK] = {-EIO, -EIO, -EINVAL, -ENOMEM},
    [FAULT_OPEN] = {-EACCES, -EMFILE, -EIO, -ENOENT},
};

void sim_faults_init(struct sim_faults *faults, struct sim *sim)
{
    *faults = (struct sim_faults){.sim = sim, .random = sim_random(sim, "faults", 0)};
}

void sim_faults_fini(struct sim_faults *faults)
{
    free(faults->happened);
    free(faults->abandoned);
    faults->happened = faults->abandoned = NULL;
}

void sim_faults_plan(struct sim_faults *faults, enum sim_fault_kind kind)
{
    struct random *random = &faults->random;
    static const uint64_t counts[] = {1, 1, 3, 10, UINT64_MAX};
    assert(faults->plan_count < SIM_FAULT_PLANS_MAX);
    faults->plans[faults->plan_count++] = (struct sim_fault_plan){
        .kind = kind,
        .code = codes[kind][random_below(random, CODES_MAX)],
        .first = draw_scaled(random, 1, kind == FAULT_WRITE || kind == FAULT_READ ? 100 : 20) - 1,
        .count = counts[random_below(random, 5)],
        .once_in = random_once_in(random, 2) ? 1 : (unsigned)draw_between(random, 2, 10),
    };
}

void sim_faults_plan_any(struct sim_faults *faults)
{
    sim_faults_plan(faults, (enum sim_fault_kind)random_below(&faults->random, FAULT_OPEN));
}

void sim_faults_describe(const struct sim_faults *faults, char *text, size_t room)
{
    size_t used = 0;
    text[0] = '\0';
    for (unsigned i = 0; i < faults->plan_count && used < room; i++) {
        const struct sim_fault_plan *plan = &faults->plans[i];
        used += (size_t)snprintf(text + used, room - used, ", %s %" PRIu64 " fails with errno %d",
                                 kind_names[plan->kind], plan->first, -plan->code);
    }
}

static void append(struct sim_fault **list, unsigned *count, unsigned *room, struct sim_fault fault)
{
    if (*count == *room) {
        *room = *room ? *room * 2 : 16;
        *list = realloc(*list, *room * sizeof(**list));
        assert(*list);
    }
    (*list)[(*count)++] = fault;
}

static bool plan_strikes(struct sim_faults *faults, struct sim_fault_plan *plan, uint64_t call)
{
    if (plan->count == 0 || call < plan->first)
        return false;
    if (call > plan->first && !random_once_in(&faults->random, plan->once_in))
        return false;
    if (plan->count != UINT64_MAX)
        plan->count--;
    return true;
}

int sim_faults_draw(struct sim_faults *faults, enum sim_fault_kind kind)
{
    if (!faults->is_armed)
        return 0;
    uint64_t call = faults->calls_of[kind]++;
    if (++faults->calls == faults->cut_at_call)
        event_set(faults->cut, draw_scaled(&faults->random, 1, 50000));
    for (unsigned i = 0; i < faults->plan_count; i++)
        if (faults->plans[i].kind == kind && plan_strikes(faults, &faults->plans[i], call))
            return faults->plans[i].code;
    return 0;
}

void sim_faults_happen(struct sim_faults *faults, enum sim_fault_kind kind, int code,
                       uint64_t offset, uint64_t length)
{
    append(&faults->happened, &faults->happened_count, &faults->happened_room,
           (struct sim_fault){.kind = kind,
                              .code = code,
                              .offset = offset,
                              .length = length,
                              .at_ns = faults->sim->now_ns});
    if (kind == FAULT_SYNC && faults->sync_failed_ns == 0)
        faults->sync_failed_ns = faults->sim->now_ns;
    sim_note(faults->sim, "disk fails", kind, offset, (uint64_t)-code);
}

int sim_faults_strike(struct sim_faults *faults, enum sim_fault_kind kind, uint64_t offset,
                      uint64_t length)
{
    int code = sim_faults_draw(faults, kind);
    if (code < 0)
        sim_faults_happen(faults, kind, code, offset, length);
    return code;
}

/* --- who must hear of it --------------------------------------------------------------------- */

static bool touches(const struct sim_faults_request *request, const struct sim_fault *fault)
{
    uint64_t begin = align_down(request->offset, REACH_BYTES);
    uint64_t end = align_up(request->offset + request->length, REACH_BYTES);
    return fault->length > 0 && end > begin &&
           ranges_overlap(begin, end - begin, fault->offset, fault->length);
}

/* As doc/proto.md has it: ENOSPC where there is no space left, EIO for the medium. */
static uint32_t told_as(int code)
{
    switch (code) {
    case -ENOSPC:
    case -EDQUOT:
        return NBD_ENOSPC;
    case -ENOMEM:
        return NBD_ENOMEM;
    default:
        return NBD_EIO;
    }
}

static bool may_be_cause(const struct sim_faults_request *request, const struct sim_fault *fault)
{
    if (fault->kind == FAULT_SYNC)
        return request->syncs; /* of any time: it is never forgotten */
    if (fault->at_ns < request->sent_ns || !touches(request, fault))
        return false;
    switch (fault->kind) {
    case FAULT_READ:
        return request->reads || request->writes || request->zeroes;
    case FAULT_WRITE:
        return request->writes || request->zeroes;
    case FAULT_FALLOCATE:
        return request->zeroes && fault->code != -EOPNOTSUPP;
    case FAULT_SEEK:
        return request->seeks;
    default:
        return false;
    }
}

bool sim_faults_explain(struct sim_faults *faults, const struct sim_faults_request *request,
                        uint32_t error)
{
    bool is_explained = false;
    for (unsigned i = 0; i < faults->happened_count; i++) {
        struct sim_fault *fault = &faults->happened[i];
        if (!faults->is_loose && !may_be_cause(request, fault))
            continue;
        fault->is_told = true;
        is_explained |= told_as(fault->code) == error || (faults->is_loose && error == NBD_EIO);
    }
    return is_explained;
}

bool sim_faults_allow(const struct sim_faults *faults, const struct sim_faults_request *request)
{
    return !request->syncs || faults->sync_failed_ns == 0 ||
           request->sent_ns <= faults->sync_failed_ns;
}

void sim_faults_abandon(struct sim_faults *faults, const struct sim_faults_request *request)
{
    if (request->writes || request->zeroes)
        append(&faults->abandoned, &faults->abandoned_count, &faults->abandoned_room,
               (struct sim_fault){.offset = request->offset, .length = request->length});
}

static bool is_abandoned(const struct sim_faults *faults, const struct sim_fault *fault)
{
    for (unsigned i = 0; i < faults->abandoned_count; i++) {
        struct sim_faults_request request = {.offset = faults->abandoned[i].offset,
                                             .length = faults->abandoned[i].length};
        if (touches(&request, fault))
            return true;
    }
    return false;
}

void sim_faults_check_told(struct sim_faults *faults)
{
    for (unsigned i = 0; i < faults->happened_count; i++) {
        const struct sim_fault *fault = &faults->happened[i];
        if (fault->kind == FAULT_WRITE && !faults->is_loose && !fault->is_told &&
            !is_abandoned(faults, fault))
            sim_fail(faults->sim,
                     "a write of %#" PRIx64 "+%#" PRIx64 " failed with errno %d, and no client "
                     "was told",
                     fault->offset, fault->length, -fault->code);
    }
}
