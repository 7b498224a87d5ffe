/* SPDX-License-Identifier: BSD-3-Clause */
/* The rules of the filter "fault" as options say them, or a file in the form of qemu's blkdebug. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/env.h"
#include "block/fault_config.h"
#include "block/fault_rules.h"
#include "block/node_options.h"
#include "common/checked.h"

#define SECTOR_BYTES 512
#define ERRNO_MAX 4095

/* --- one rule -------------------------------------------------------------------------------- */

static bool is_among(const char *const *names, const char *name)
{
    for (unsigned i = 0; names && names[i]; i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return false;
}

bool fault_knows_event(const struct block_env *env, const char *event)
{
    if (strcmp(event, FAULT_EVENT_NONE) == 0 || is_among(pipeline_events, event))
        return true;
    for (unsigned i = 0; env->drivers[i]; i++) {
        const struct block_driver_admin *admin = env->drivers[i]->admin;
        if (admin && is_among(admin->events, event))
            return true;
    }
    return false;
}

static int take_event(struct fault_rule *rule, const struct block_env *env,
                      struct node_options *options, struct error *err)
{
    const char *event = NULL;
    int rc = node_options_take_string(options, "event", &event, err);
    if (rc < 0)
        return rc;
    if (!event && rule->action != FAULT_INJECT)
        return node_options_refuse(options, "event", -EINVAL, err,
                                   "missing; say what changes the state");
    if (!event)
        return 0;
    if (!fault_knows_event(env, event))
        return node_options_refuse(options, "event", -EINVAL, err,
                                   "no driver announces '%.100s'; docs/filters.md lists the events",
                                   event);
    rule->event = strdup(event);
    return rule->event ? 0 : error_set(err, -ENOMEM, "no memory for a rule");
}

/* As a number of Linux, or by name. */
static int take_errno(struct fault_rule *rule, struct node_options *options, struct error *err)
{
    static const struct {
        const char *name;
        int number;
    } known[] = {{"EIO", EIO},       {"ENOSPC", ENOSPC},       {"EPERM", EPERM},
                 {"ENOMEM", ENOMEM}, {"EINVAL", EINVAL},       {"EAGAIN", EAGAIN},
                 {"EACCES", EACCES}, {"EBUSY", EBUSY},         {"EROFS", EROFS},
                 {"EDQUOT", EDQUOT}, {"ENOTSUP", ENOTSUP},     {"ETIMEDOUT", ETIMEDOUT},
                 {"ENODEV", ENODEV}, {"ENXIO", ENXIO},         {"EINTR", EINTR},
                 {"ESTALE", ESTALE}, {"EREMOTEIO", EREMOTEIO}, {"ESHUTDOWN", ESHUTDOWN}};
    const char *value = node_options_take(options, "errno");
    uint64_t number = EIO;
    for (unsigned i = 0; value && i < sizeof(known) / sizeof(*known); i++) {
        if (strcmp(value, known[i].name) == 0) {
            rule->code = -known[i].number;
            return 0;
        }
    }
    if (value && (*value < '0' || *value > '9'))
        return node_options_refuse(options, "errno", -EINVAL, err,
                                   "cannot be '%.100s'; say a number, or a name as EIO or ENOSPC",
                                   value);
    int rc = node_options_take_number(options, "errno", &number, err);
    if (rc == 0 && number > ERRNO_MAX)
        rc = node_options_refuse(options, "errno", -EINVAL, err, "cannot be %.100s; say 0 to %d",
                                 value, ERRNO_MAX);
    if (rc == 0)
        rule->code = -(int)number;
    return rc;
}

static int take_requests(struct fault_rule *rule, struct node_options *options, struct error *err)
{
    static const char *const names[] = {"read",  "write",        "write-zeroes", "zero", "discard",
                                        "flush", "block-status", "status",       NULL};
    static const unsigned masks[] = {FAULT_READ,    FAULT_WRITE, FAULT_ZERO,   FAULT_ZERO,
                                     FAULT_DISCARD, FAULT_FLUSH, FAULT_STATUS, FAULT_STATUS};
    unsigned index = 0;
    bool is_given = node_options_has(options, "iotype");
    int rc = node_options_take_choice(options, "iotype", names, &index, err);
    if (rc == 0 && is_given)
        rule->requests = masks[index];
    return rc;
}

static int take_range(struct fault_rule *rule, struct node_options *options, struct error *err)
{
    uint64_t sector = 0, end;
    bool has_sector = node_options_has(options, "sector");
    rule->has_range = has_sector || node_options_has(options, "offset");
    if (has_sector && node_options_has(options, "offset"))
        return node_options_refuse(options, "sector", -EINVAL, err,
                                   "not together with 'offset'; give one");
    if (!rule->has_range && node_options_has(options, "length"))
        return node_options_refuse(options, "length", -EINVAL, err,
                                   "without 'offset'; say where the range begins");
    rule->length = has_sector ? SECTOR_BYTES : 1;
    int rc = node_options_take_number(options, "sector", &sector, err);
    if (rc == 0 && !checked_multiply(sector, SECTOR_BYTES, &rule->offset))
        rc = node_options_refuse(options, "sector", -EINVAL, err, "too large");
    if (rc == 0)
        rc = node_options_take_size(options, "offset", &rule->offset, err);
    if (rc == 0)
        rc = node_options_take_size(options, "length", &rule->length, err);
    if (rc == 0 && (rule->length == 0 || !checked_add(rule->offset, rule->length, &end)))
        rc = node_options_refuse(options, rule->length == 0 ? "length" : "offset", -EINVAL, err,
                                 "the range is empty, or ends past 2^64");
    return rc;
}

static int take_inject(struct fault_rule *rule, struct node_options *options, struct error *err)
{
    int rc = take_errno(rule, options, err);
    if (rc == 0)
        rc = take_requests(rule, options, err);
    if (rc == 0)
        rc = take_range(rule, options, err);
    if (rc == 0)
        rc = node_options_take_bool(options, "once", &rule->once, err);
    if (rc == 0)
        rc = node_options_take_bool(options, "immediately", &rule->immediately, err);
    if (rc == 0)
        rc = node_options_take_number(options, "nth", &rule->nth, err);
    if (rc == 0 && rule->nth == 0)
        rc = node_options_refuse(options, "nth", -EINVAL, err, "cannot be 0; the first one is 1");
    if (rc == 0)
        rc = node_options_take_size(options, "partial", &rule->partial, err);
    return rc;
}

static int take_set_state(struct fault_rule *rule, struct node_options *options, struct error *err)
{
    if (!node_options_has(options, "new_state"))
        return node_options_refuse(options, "new_state", -EINVAL, err,
                                   "missing; say what the state becomes");
    int rc = node_options_take_number(options, "new_state", &rule->new_state, err);
    if (rc == 0 && rule->new_state == FAULT_STATE_ANY)
        rc = node_options_refuse(options, "new_state", -EINVAL, err,
                                 "cannot be 0, which means any state");
    return rc;
}

static int take_rule(struct fault *fault, enum fault_action action, const struct block_env *env,
                     struct node_options *options, struct error *err)
{
    struct fault_rule *rule = fault_rule_new(action);
    if (!rule)
        return error_set(err, -ENOMEM, "no memory for a rule");
    int rc = take_event(rule, env, options, err);
    if (rc == 0)
        rc = node_options_take_number(options, "state", &rule->state, err);
    if (rc == 0)
        rc = action == FAULT_INJECT ? take_inject(rule, options, err)
                                    : take_set_state(rule, options, err);
    if (rc == 0)
        rc = node_options_check_all_taken(options, "a rule of the driver fault", err);
    if (rc < 0)
        fault_rule_free(rule);
    else
        fault_add_rule(fault, rule);
    return rc;
}

/* --- all of them ----------------------------------------------------------------------------- */

/* KEY.0, KEY.1, and so on. */
static int take_list(struct fault *fault, const char *key, enum fault_action action,
                     const struct block_env *env, struct node_options *options, struct error *err)
{
    struct node_options *list = node_options_take_subtree(options, key);
    int rc = list ? 0 : error_set(err, -ENOMEM, "no memory for the rules");
    for (unsigned i = 0; rc == 0; i++) {
        char number[16];
        snprintf(number, sizeof(number), "%u", i);
        if (!node_options_has_below(list, number))
            break;
        struct node_options *rule = node_options_take_subtree(list, number);
        rc = rule ? take_rule(fault, action, env, rule, err)
                  : error_set(err, -ENOMEM, "no memory for the rules");
        node_options_free(rule);
    }
    if (rc == 0) /* a number that was left out hides those after it */
        rc = node_options_check_all_taken(list, "the driver fault, whose rules count from 0,", err);
    node_options_free(list);
    return rc;
}

static int take_both(struct fault *fault, const struct block_env *env, struct node_options *options,
                     struct error *err)
{
    int rc = take_list(fault, "inject-error", FAULT_INJECT, env, options, err);
    if (rc == 0)
        rc = take_list(fault, "set-state", FAULT_SET_STATE, env, options, err);
    return rc;
}

static int co_take_config(struct fault *fault, struct block_env *env, const char *path,
                          struct error *err)
{
    struct error inner = {.message = ""};
    struct node_options *rules = node_options_new();
    int rc = rules ? fault_config_co_read(env, path, rules, &inner)
                   : error_set(&inner, -ENOMEM, "no memory");
    if (rc == 0)
        rc = take_both(fault, env, rules, &inner);
    node_options_free(rules);
    return rc == 0 ? 0 : error_set(err, rc, "config '%.200s': %.250s", path, inner.message);
}

int fault_co_take_rules(struct fault *fault, struct block_env *env, struct node_options *options,
                        struct error *err)
{
    const char *path = NULL;
    int rc = node_options_take_string(options, "config", &path, err);
    if (rc == 0 && path)
        rc = co_take_config(fault, env, path, err);
    if (rc == 0)
        rc = take_both(fault, env, options, err);
    return rc;
}
