/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_FAULTS_H
#define TESTS_HARNESS_SIM_FAULTS_H

/*
 * Faults of the simulated disk: which call fails, with what, and who must hear of it. A plan is
 * drawn from the seed: a kind of call, its number, an errno, and how often. Every fault that
 * happened is written down, so that
 *
 * 1. an error that a client is told can be explained: there was a fault, while its request was in
 *    flight, in a range that it touches, and of that errno;
 * 2. a write that failed is told to a client whose request it may have been;
 * 3. once a sync has failed, no FLUSH or FUA that is sent later is answered with success, until the
 *    server is started again.
 *
 * That a success is no lie needs no book: the oracle looks at the bytes.
 */

#include <stdbool.h>
#include <stdint.h>

#include "tests/harness/sim.h"

enum sim_fault_kind {
    FAULT_READ,
    FAULT_WRITE,
    FAULT_SYNC,
    FAULT_FALLOCATE,
    FAULT_SEEK,
    FAULT_OPEN,
    FAULT_KINDS,
};

struct sim_fault {
    enum sim_fault_kind kind;
    int code; /* a negative errno */
    uint64_t offset, length, at_ns;
    bool is_told; /* rule 2 */
};

struct sim_fault_plan {
    enum sim_fault_kind kind;
    int code;
    uint64_t first;   /* the call that fails first, from 0 on */
    uint64_t count;   /* how many fail; UINT64_MAX: from then on all */
    unsigned once_in; /* after the first, one in so many; 1: each */
};

#define SIM_FAULT_PLANS_MAX 3

struct sim_faults {
    struct sim *sim;
    struct random random;
    bool is_armed;
    bool is_loose; /* a request's range says nothing of the calls it makes: an image with tables. An
                      error needs any fault of that kind of errno, and rule 2 is for the oracle */
    struct sim_fault_plan plans[SIM_FAULT_PLANS_MAX];
    unsigned plan_count;
    uint64_t calls, calls_of[FAULT_KINDS]; /* while armed */
    uint64_t cut_at_call;                  /* then `cut` is set; 0: never */
    struct sim_event *cut;
    struct sim_fault *happened;
    unsigned happened_count, happened_room;
    struct sim_fault *abandoned; /* ranges of changes whose client has gone */
    unsigned abandoned_count, abandoned_room;
    uint64_t sync_failed_ns; /* rule 3; 0: none has */
};

/* For one life of the server. */
void sim_faults_init(struct sim_faults *faults, struct sim *sim);
void sim_faults_fini(struct sim_faults *faults);
/* Adds a plan for calls of that kind, all the rest of it drawn. */
void sim_faults_plan(struct sim_faults *faults, enum sim_fault_kind kind);
void sim_faults_plan_any(struct sim_faults *faults);
void sim_faults_describe(const struct sim_faults *faults, char *text, size_t room);

/* A call is made: 0, or the errno it is to fail with. */
int sim_faults_draw(struct sim_faults *faults, enum sim_fault_kind kind);
/* It has failed, and that goes into the book. */
void sim_faults_happen(struct sim_faults *faults, enum sim_fault_kind kind, int code,
                       uint64_t offset, uint64_t length);
/* Both. */
int sim_faults_strike(struct sim_faults *faults, enum sim_fault_kind kind, uint64_t offset,
                      uint64_t length);

/* What a client knows of its request. */
struct sim_faults_request {
    uint64_t offset, length, sent_ns;
    bool reads, writes, zeroes, seeks, syncs;
};
/* Its answer is an error, an NBD_E...: whether that can be; rule 1. Settles rule 2. */
bool sim_faults_explain(struct sim_faults *faults, const struct sim_faults_request *request,
                        uint32_t error);
/* Its answer is success: whether rule 3 allows it. */
bool sim_faults_allow(const struct sim_faults *faults, const struct sim_faults_request *request);
/* It will have no answer: its client has gone. */
void sim_faults_abandon(struct sim_faults *faults, const struct sim_faults_request *request);
/* Nothing is in flight: a write that failed and that nobody was told of fails the run. */
void sim_faults_check_told(struct sim_faults *faults);

#endif
