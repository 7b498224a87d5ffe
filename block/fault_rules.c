/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rules of the filter "fault", as qemu's blkdebug has them.
 *
 * Words: an *event* is a named point that a node above announces. A rule with an event *acts* when
 * it comes and the state is the rule's: an inject rule becomes *active*, a set-state rule changes
 * the state, a suspend rule holds the coroutine up and is gone. A request is held against the
 * active rules, in the order they were given, and fails by the first that is for it.
 *
 * 1. All rules of one event see the state from before it.
 * 2. An event that makes a rule active makes all rules of other events inactive: what is active is
 *    what the last such event said. So an event's rule fails the requests that come after it, until
 *    another event says something else.
 * 3. Rules without an event, which qemu has not, are active whenever the state is theirs.
 */
#include "block/fault_rules.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "block/coroutine.h"

/* On the stack of the coroutine that waits. */
struct suspended {
    struct list_link link;
    const char *tag;
    bool is_resumed;
};

void fault_init(struct fault *fault)
{
    *fault = (struct fault){.state = FAULT_STATE_FIRST};
    pthread_mutex_init(&fault->mutex, NULL);
    list_init(&fault->rules);
    list_init(&fault->suspended);
    co_queue_init(&fault->waiters);
}

void fault_fini(struct fault *fault)
{
    assert(list_is_empty(&fault->suspended));
    list_for_each (link, &fault->rules)
        fault_rule_free(container_of(link, struct fault_rule, link));
    pthread_mutex_destroy(&fault->mutex);
}

struct fault_rule *fault_rule_new(enum fault_action action)
{
    struct fault_rule *rule = calloc(1, sizeof(*rule));
    if (!rule)
        return NULL;
    link_init(&rule->link);
    rule->action = action;
    rule->requests = FAULT_ANY;
    rule->nth = 1;
    return rule;
}

void fault_rule_free(struct fault_rule *rule)
{
    list_remove(&rule->link);
    free(rule->event);
    free(rule->tag);
    free(rule);
}

void fault_add_rule(struct fault *fault, struct fault_rule *rule)
{
    pthread_mutex_lock(&fault->mutex);
    list_append(&fault->rules, &rule->link);
    atomic_fetch_add(&fault->rule_count, 1);
    pthread_mutex_unlock(&fault->mutex);
}

/* --- events ---------------------------------------------------------------------------------- */

/* The mutex is held, and given up meanwhile. */
static void co_suspend(struct fault *fault, const struct fault_rule *rule)
{
    struct suspended suspended = {.tag = rule->tag};
    link_init(&suspended.link);
    list_append(&fault->suspended, &suspended.link);
    while (!suspended.is_resumed)
        co_queue_wait(&fault->waiters, &fault->mutex);
    list_remove(&suspended.link);
}

static void deactivate_all(struct fault *fault)
{
    list_for_each (link, &fault->rules)
        container_of(link, struct fault_rule, link)->is_active = false;
}

static bool is_state(const struct fault *fault, const struct fault_rule *rule)
{
    return rule->state == FAULT_STATE_ANY || rule->state == fault->state;
}

void fault_co_event(struct fault *fault, const char *event)
{
    struct list breakpoints;
    bool has_activated = false;
    if (atomic_load_explicit(&fault->rule_count, memory_order_relaxed) == 0)
        return;
    list_init(&breakpoints);
    pthread_mutex_lock(&fault->mutex);
    uint64_t new_state = fault->state;
    list_for_each (link, &fault->rules) {
        struct fault_rule *rule = container_of(link, struct fault_rule, link);
        if (!rule->event || strcmp(rule->event, event) != 0 || !is_state(fault, rule))
            continue;
        switch (rule->action) {
        case FAULT_INJECT:
            if (!has_activated)
                deactivate_all(fault);
            has_activated = rule->is_active = true;
            break;
        case FAULT_SET_STATE:
            new_state = rule->new_state;
            break;
        case FAULT_SUSPEND:
            list_remove(&rule->link);
            list_append(&breakpoints, &rule->link);
            atomic_fetch_sub(&fault->rule_count, 1);
            break;
        }
    }
    fault->state = new_state;
    list_for_each (link, &breakpoints) {
        struct fault_rule *rule = container_of(link, struct fault_rule, link);
        co_suspend(fault, rule);
        fault_rule_free(rule);
    }
    pthread_mutex_unlock(&fault->mutex);
}

/* --- requests -------------------------------------------------------------------------------- */

static bool is_for(const struct fault *fault, const struct fault_rule *rule,
                   enum fault_request request, uint64_t offset, uint64_t length)
{
    if (rule->action != FAULT_INJECT || !(rule->requests & request))
        return false;
    if (rule->event ? !rule->is_active : !is_state(fault, rule))
        return false;
    if (!rule->has_range)
        return true;
    /* A flush has no range, and none touches it. */
    return offset < rule->offset + rule->length && rule->offset < offset + length;
}

struct fault_verdict fault_co_check(struct fault *fault, enum fault_request request,
                                    uint64_t offset, uint64_t length)
{
    struct fault_verdict verdict = {.code = 0};
    bool is_immediate = true;
    if (atomic_load_explicit(&fault->rule_count, memory_order_relaxed) == 0)
        return verdict;
    pthread_mutex_lock(&fault->mutex);
    list_for_each (link, &fault->rules) {
        struct fault_rule *rule = container_of(link, struct fault_rule, link);
        if (!is_for(fault, rule, request, offset, length) || ++rule->match_count < rule->nth)
            continue;
        verdict = (struct fault_verdict){.code = rule->code, .partial = rule->partial};
        is_immediate = rule->immediately || rule->code == 0;
        if (rule->once) {
            fault_rule_free(rule);
            atomic_fetch_sub(&fault->rule_count, 1);
        }
        break;
    }
    pthread_mutex_unlock(&fault->mutex);
    if (!is_immediate)
        coroutine_co_pause();
    return verdict;
}

/* --- what tests ask -------------------------------------------------------------------------- */

static bool resume(struct fault *fault, const char *tag)
{
    bool any = false;
    list_for_each (link, &fault->suspended) {
        struct suspended *suspended = container_of(link, struct suspended, link);
        if (strcmp(suspended->tag, tag) == 0)
            any = suspended->is_resumed = true;
    }
    if (any)
        co_queue_wake_all(&fault->waiters);
    return any;
}

bool fault_rules_resume(struct fault *fault, const char *tag)
{
    pthread_mutex_lock(&fault->mutex);
    bool any = resume(fault, tag);
    pthread_mutex_unlock(&fault->mutex);
    return any;
}

bool fault_rules_are_suspended(struct fault *fault, const char *tag)
{
    bool any = false;
    pthread_mutex_lock(&fault->mutex);
    list_for_each (link, &fault->suspended) {
        const struct suspended *suspended = container_of(link, struct suspended, link);
        any |= strcmp(suspended->tag, tag) == 0 && !suspended->is_resumed;
    }
    pthread_mutex_unlock(&fault->mutex);
    return any;
}
