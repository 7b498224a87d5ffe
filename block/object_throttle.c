/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * --object throttle-group,id=ID: limits for the filter "throttle". Each limit has two spellings, as
 * in qemu: "x-bps-total", and "limits.bps-total", which in JSON is a member of the object "limits".
 */
#include <errno.h>
#include <stdio.h>

#include "block/env.h"
#include "block/node_options.h"
#include "block/throttle_group.h"
#include "block/objects.h"

#define KEY_MAX 64

/* Which of a limit's two spellings was used, into key: 1, or 0 for neither. */
static int find_key(const struct node_options *options, const char *name, char *key,
                    struct error *err)
{
    char nested[KEY_MAX];
    snprintf(key, KEY_MAX, "x-%s", name);
    snprintf(nested, sizeof(nested), "limits.%s", name);
    bool is_flat = node_options_has(options, key);
    if (!node_options_has(options, nested))
        return is_flat;
    if (is_flat)
        return error_set(err, -EINVAL, "%s and %s are the same limit; give one of them", key,
                         nested);
    snprintf(key, KEY_MAX, "%s", nested);
    return 1;
}

static int take(struct node_options *options, const char *name, bool is_bytes, uint64_t *ret_value,
                struct error *err)
{
    char key[KEY_MAX];
    int rc = find_key(options, name, key, err);
    if (rc <= 0)
        return rc;
    if (is_bytes)
        return node_options_take_size(options, key, ret_value, err);
    return node_options_take_number(options, key, ret_value, err);
}

static int take_rate(struct node_options *options, enum throttle_rate rate,
                     struct throttle_limit *limit, struct error *err)
{
    const char *name = throttle_rate_names[rate];
    bool is_bytes = rate <= THROTTLE_BPS_WRITE;
    char burst[KEY_MAX], length[KEY_MAX];
    snprintf(burst, sizeof(burst), "%s-max", name);
    snprintf(length, sizeof(length), "%s-max-length", name);
    int rc = take(options, name, is_bytes, &limit->average, err);
    if (rc == 0)
        rc = take(options, burst, is_bytes, &limit->burst, err);
    if (rc == 0)
        rc = take(options, length, false, &limit->burst_length_s, err);
    return rc;
}

static int create(struct block_env *env, const char *id, struct node_options *options,
                  void **ret_state, struct error *err)
{
    struct throttle_limits limits;
    throttle_limits_init(&limits);
    int rc = take(options, "iops-size", true, &limits.iops_size_bytes, err);
    for (enum throttle_rate rate = 0; rate < THROTTLE_RATE_COUNT && rc == 0; rate++)
        rc = take_rate(options, rate, &limits.rates[rate], err);
    struct throttle_group *group = NULL;
    if (rc == 0)
        rc = throttle_group_new(&group, &env->throttle_groups, id, &limits, err);
    if (rc == 0)
        *ret_state = group;
    return rc;
}

static void group_free(void *state)
{
    throttle_group_free(state);
}

const struct object_type object_throttle_group = {
    .name = "throttle-group",
    .create = create,
    .free = group_free,
};
