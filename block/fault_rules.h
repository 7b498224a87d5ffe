/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_FAULT_RULES_H
#define BLOCK_FAULT_RULES_H

/*
 * Inside the filter "fault": its rules, and what they make of events and requests; see
 * fault_rules.c. Everything here is guarded by the mutex of struct fault.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/coroutine_lock.h"
#include "block/driver.h"
#include "common/error.h"
#include "common/list.h"

/* Kinds of requests, as bits of a rule's mask. */
enum fault_request {
    FAULT_READ = 1 << 0,
    FAULT_WRITE = 1 << 1,
    FAULT_ZERO = 1 << 2,
    FAULT_DISCARD = 1 << 3,
    FAULT_FLUSH = 1 << 4,
    FAULT_STATUS = 1 << 5,
    /* what a rule without a kind is for, as in qemu */
    FAULT_ANY = FAULT_READ | FAULT_WRITE | FAULT_ZERO | FAULT_DISCARD | FAULT_FLUSH,
};

enum fault_action { FAULT_INJECT, FAULT_SET_STATE, FAULT_SUSPEND };

#define FAULT_STATE_ANY 0
#define FAULT_STATE_FIRST 1
#define FAULT_EVENT_NONE "none" /* comes once, when the node is opened */

struct fault_rule {
    struct list_link link;
    enum fault_action action;
    char *event;    /* what makes it act; NULL in an inject rule: it stands from the begin on */
    uint64_t state; /* it acts in this one alone, or FAULT_STATE_ANY */

    /* inject */
    int code;          /* 0: what it is for passes; else a negative errno */
    unsigned requests; /* enum fault_request */
    bool has_range;    /* only for requests that touch [offset, offset + length) */
    uint64_t offset, length;
    uint64_t nth;     /* the first request to fail, counted from 1 */
    uint64_t partial; /* so many bytes are transferred before it fails */
    bool once;        /* goes with the first request that fails */
    bool immediately; /* fails without a wait; else others run first */
    bool is_active;   /* its event has come */
    uint64_t match_count;

    uint64_t new_state; /* set-state */
    char *tag;          /* suspend */
};

struct fault {
    pthread_mutex_t mutex;
    struct list rules;     /* in the order they were given */
    struct list suspended; /* coroutines, oldest first */
    struct co_queue waiters;
    uint64_t state;
    _Atomic unsigned rule_count;

    /* constant while the node is open; 0: no such bound */
    uint64_t zero_multiple, discard_multiple;
    uint64_t read_bytes_max, write_bytes_max;
};

void fault_init(struct fault *fault);
/* Nobody is suspended. */
void fault_fini(struct fault *fault);

/* NULL when there is no memory. */
struct fault_rule *fault_rule_new(enum fault_action action);
void fault_rule_free(struct fault_rule *rule);
/* Takes the rule. */
void fault_add_rule(struct fault *fault, struct fault_rule *rule);

/* What an event does: rules become active, the state changes, the caller is held up. */
void fault_co_event(struct fault *fault, const char *event);

/* What a rule makes of a request. */
struct fault_verdict {
    int code; /* 0: it passes */
    uint64_t partial;
};
/* Waits where the rule is not immediate. */
struct fault_verdict fault_co_check(struct fault *fault, enum fault_request request,
                                    uint64_t offset, uint64_t length);

/* See fault.h. False: nobody waits. */
bool fault_rules_resume(struct fault *fault, const char *tag);
bool fault_rules_are_suspended(struct fault *fault, const char *tag);

/* --- fault_options.c ------------------------------------------------------------------------- */

/* Whether any driver of env, or the pipeline, announces this event. */
bool fault_knows_event(const struct block_env *env, const char *event);
/* Takes inject-error, set-state and config out of options. May wait. */
int fault_co_take_rules(struct fault *fault, struct block_env *env, struct node_options *options,
                        struct error *err);

#endif
