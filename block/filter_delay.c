/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter "delay": every request waits for a time before it is handed on. The options are those
 * of nbdkit's filter of that name, one a kind of request, and have a time each (2, 300ms, 40us);
 * what is not given is not delayed:
 *
 *   rdelay, wdelay, zdelay, tdelay, fdelay, edelay, cdelay
 *                 read, write, zero, trim, flush, block status, cache; each also by its long name,
 *                 delay-read and so on
 *
 * Timers of the loops do the waiting, so any number of requests waits side by side, and no thread
 * sleeps. A request in its delay is in flight: what overlaps it and must not, waits for it.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/filter.h"
#include "block/filters.h"
#include "block/node_options.h"
#include "block/sleep.h"

enum delay_kind {
    DELAY_READ,
    DELAY_WRITE,
    DELAY_ZERO,
    DELAY_TRIM,
    DELAY_FLUSH,
    DELAY_STATUS,
    DELAY_CACHE,
    DELAY_KIND_COUNT,
};

static const struct {
    const char *name, *long_name;
} names[DELAY_KIND_COUNT] = {
    [DELAY_READ] = {"rdelay", "delay-read"},   [DELAY_WRITE] = {"wdelay", "delay-write"},
    [DELAY_ZERO] = {"zdelay", "delay-zero"},   [DELAY_TRIM] = {"tdelay", "delay-trim"},
    [DELAY_FLUSH] = {"fdelay", "delay-flush"}, [DELAY_STATUS] = {"edelay", "delay-extents"},
    [DELAY_CACHE] = {"cdelay", "delay-cache"},
};

struct delay {
    uint64_t ns[DELAY_KIND_COUNT];
};

static int take_delays(struct node_options *options, struct delay *delay, struct error *err)
{
    int rc = 0;
    for (unsigned i = 0; i < DELAY_KIND_COUNT && rc == 0; i++) {
        if (node_options_has(options, names[i].name) &&
            node_options_has(options, names[i].long_name))
            return node_options_refuse(options, names[i].long_name, -EINVAL, err,
                                       "the same as '%s', which is given too; give one",
                                       names[i].name);
        rc = node_options_take_duration(options, names[i].name, &delay->ns[i], err);
        if (rc == 0)
            rc = node_options_take_duration(options, names[i].long_name, &delay->ns[i], err);
    }
    return rc;
}

static int delay_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    struct delay delay = {.ns = {0}};
    int rc = take_delays(options, &delay, err);
    if (rc == 0)
        rc = filter_co_open(node, options, err);
    if (rc < 0)
        return rc;
    struct delay *copy = malloc(sizeof(*copy));
    if (!copy)
        return error_set(err, -ENOMEM, "no memory to open '%s'", node->name);
    *copy = delay;
    node->state = copy;
    return 0;
}

static void delay_co_close(struct block_node *node)
{
    free(node->state);
}

static void co_wait(const struct block_node *node, enum delay_kind kind)
{
    const struct delay *delay = node->state;
    sleep_co_ns(delay->ns[kind]);
}

static int delay_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    co_wait(node, DELAY_READ);
    return filter_co_read(node, offset, vec);
}

static int delay_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                          unsigned flags)
{
    co_wait(node, DELAY_WRITE);
    return filter_co_write(node, offset, vec, flags);
}

static int delay_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    co_wait(node, DELAY_ZERO);
    return filter_co_zero(node, offset, length, flags);
}

static int delay_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    co_wait(node, DELAY_TRIM);
    return filter_co_discard(node, offset, length);
}

static int delay_co_cache(struct block_node *node, uint64_t offset, uint64_t length)
{
    co_wait(node, DELAY_CACHE);
    return filter_co_cache(node, offset, length);
}

static int delay_co_flush(struct block_node *node)
{
    co_wait(node, DELAY_FLUSH);
    return filter_co_flush(node);
}

static int delay_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                           struct block_extent *ret_extent)
{
    co_wait(node, DELAY_STATUS);
    return filter_co_status(node, offset, length, ret_extent);
}

/* A loan is a read that does not wait. */
static int delay_lend(struct block_node *node, uint64_t offset, uint64_t length,
                      struct block_loan *loan)
{
    const struct delay *delay = node->state;
    return delay->ns[DELAY_READ] > 0 ? -ENOTSUP : filter_lend(node, offset, length, loan);
}

const struct block_driver block_filter_delay = {
    .name = "delay",
    .flags = FILTER_FLAGS,
    .co_open = delay_co_open,
    .co_close = delay_co_close,
    .co_read = delay_co_read,
    .co_write = delay_co_write,
    .co_zero = delay_co_zero,
    .co_discard = delay_co_discard,
    .co_cache = delay_co_cache,
    .co_flush = delay_co_flush,
    .co_status = delay_co_status,
    .status_remembered = filter_status_remembered,
    .lend = delay_lend,
    .admin = &filter_admin,
};
