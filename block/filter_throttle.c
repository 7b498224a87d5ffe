/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter "throttle": requests wait until the throttle group that they belong to lets them go.
 *
 * What is asked of the node is what counts, not what becomes of it below: the node has no alignment
 * and no largest transfer of its own, so that a request is neither rounded up nor cut up here.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/env.h"
#include "block/filter.h"
#include "block/filters.h"
#include "block/node_options.h"
#include "block/throttle_group.h"

struct throttle_filter {
    struct throttle_member member;
};

static int take_group(struct block_node *node, struct node_options *options,
                      struct throttle_group **ret_group, struct error *err)
{
    static const char key[] = "throttle-group";
    const char *name = NULL;
    int rc = node_options_take_string(options, key, &name, err);
    if (rc < 0)
        return rc;
    if (!name)
        return node_options_refuse(options, key, -EINVAL, err,
                                   "missing; say the id of a group that --object "
                                   "throttle-group,id=... declares");
    struct throttle_group *group = throttle_groups_find(&node->env->throttle_groups, name);
    if (!group)
        return node_options_refuse(options, key, -EINVAL, err,
                                   "no group \"%.100s\"; groups are declared with --object "
                                   "throttle-group,id=...",
                                   name);
    *ret_group = group;
    return 0;
}

/* A larger block goes without extra work where the child would have to read for a smaller one. */
static struct block_limits limits_above(const struct block_limits *child)
{
    uint32_t preferred_bytes = child->preferred_bytes;
    if (preferred_bytes < child->request_alignment)
        preferred_bytes = child->request_alignment;
    return (struct block_limits){
        .request_alignment = 1,
        .memory_alignment = 1,
        .preferred_bytes = preferred_bytes,
    };
}

static int throttle_co_open(struct block_node *node, struct node_options *options,
                            struct error *err)
{
    struct throttle_group *group = NULL;
    int rc = take_group(node, options, &group, err);
    if (rc == 0)
        rc = filter_co_open(node, options, err);
    if (rc < 0)
        return rc;
    struct throttle_filter *filter = malloc(sizeof(*filter));
    if (!filter)
        return error_set(err, -ENOMEM, "no memory to open '%s'", node->name);
    throttle_member_init(&filter->member, group);
    node->state = filter;
    node->limits = limits_above(&node->file->limits);
    return 0;
}

static void throttle_co_close(struct block_node *node)
{
    struct throttle_filter *filter = node->state;
    throttle_member_fini(&filter->member);
    free(filter);
    node->state = NULL;
}

static void co_pass(struct block_node *node, enum throttle_direction direction, uint64_t length)
{
    struct throttle_filter *filter = node->state;
    throttle_member_co_pass(&filter->member, direction, length);
}

static int throttle_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    co_pass(node, THROTTLE_READ, vec->length);
    return filter_co_read(node, offset, vec);
}

static int throttle_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                             unsigned flags)
{
    co_pass(node, THROTTLE_WRITE, vec->length);
    return filter_co_write(node, offset, vec, flags);
}

static int throttle_co_zero(struct block_node *node, uint64_t offset, uint64_t length,
                            unsigned flags)
{
    co_pass(node, THROTTLE_WRITE, length);
    return filter_co_zero(node, offset, length, flags);
}

static int throttle_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    co_pass(node, THROTTLE_WRITE, length);
    return filter_co_discard(node, offset, length);
}

/* It reads what is not in memory yet. */
static int throttle_co_cache(struct block_node *node, uint64_t offset, uint64_t length)
{
    co_pass(node, THROTTLE_READ, length);
    return filter_co_cache(node, offset, length);
}

/* A loan cannot wait. */
static int throttle_lend(struct block_node *node, uint64_t offset, uint64_t length,
                         struct block_loan *loan)
{
    const struct throttle_filter *filter = node->state;
    if (throttle_group_limits(filter->member.group, THROTTLE_READ))
        return -ENOTSUP;
    return filter_lend(node, offset, length, loan);
}

static void throttle_hurry_begin(struct block_node *node)
{
    struct throttle_filter *filter = node->state;
    throttle_member_exempt_begin(&filter->member);
}

static void throttle_hurry_end(struct block_node *node)
{
    struct throttle_filter *filter = node->state;
    throttle_member_exempt_end(&filter->member);
}

/* Not those of the child alone, which filter_co_reopen_commit() takes: see limits_above(). */
static void throttle_co_reopen_commit(struct block_node *node, struct block_reopen *reopen)
{
    (void)reopen;
    node->limits = limits_above(&node->file->limits);
}

static const struct block_driver_admin throttle_admin = {
    .co_stored_size = filter_co_stored_size,
    .co_reopen_prepare = filter_co_reopen_prepare,
    .co_reopen_commit = throttle_co_reopen_commit,
    .co_resize = filter_co_resize,
    .has_zero_init = filter_has_zero_init,
};

/* Flushes are not limited. */
const struct block_driver block_filter_throttle = {
    .name = "throttle",
    .flags = FILTER_FLAGS,
    .co_open = throttle_co_open,
    .co_close = throttle_co_close,
    .co_read = throttle_co_read,
    .co_write = throttle_co_write,
    .co_zero = throttle_co_zero,
    .co_discard = throttle_co_discard,
    .co_cache = throttle_co_cache,
    .co_flush = filter_co_flush,
    .co_status = filter_co_status,
    .status_remembered = filter_status_remembered,
    .lend = throttle_lend,
    .hurry_begin = throttle_hurry_begin,
    .hurry_end = throttle_hurry_end,
    .admin = &throttle_admin,
};
