/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/backend.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/chain.h"
#include "block/env.h"
#include "block/flush.h"
#include "block/loop.h"
#include "block/node.h"
#include "common/align.h"
#include "common/checked.h"

/*
 * A user's doorway to the top node of a graph: what is outside the node's size or against the
 * user's rights is answered here, so the nodes below see only requests that make sense. A backend
 * never makes its node grow. Requests are counted in the lane of their loop and pass the door that
 * block/drain keeps.
 */

static void backend_lane_init(struct backend_lane *lane)
{
    *lane = (struct backend_lane){.in_flight = 0};
    aio_lane_init(&lane->aio);
}

int block_backend_new(struct block_backend **ret_backend, struct block_node *node, bool read_only,
                      struct error *err)
{
    if (!read_only && node->read_only)
        return error_set(err, -EROFS, "'%s' is opened read-only; serve it with --read-only",
                         node_label(node));
    unsigned lane_count = node->env->loop_count;
    struct block_backend *backend = calloc(1, sizeof(*backend));
    struct backend_lane *lanes =
        aligned_alloc(_Alignof(struct backend_lane), lane_count * sizeof(*lanes));
    if (!backend || !lanes) {
        free(backend);
        free(lanes);
        return error_set(err, -ENOMEM, "no memory to use '%s'", node_label(node));
    }
    for (unsigned i = 0; i < lane_count; i++)
        backend_lane_init(&lanes[i]);
    backend->node = block_node_ref(node);
    backend->read_only = read_only;
    backend->lane_count = lane_count;
    backend->lanes = lanes;
    drain_init(backend);
    *ret_backend = backend;
    return 0;
}

int block_co_backend_free(struct block_backend *backend)
{
    if (!backend)
        return 0;
    block_co_backend_drain(backend);
    drain_settle(backend);
    int rc = backend->read_only ? 0 : flush_co_changes(backend->node);
    node_hurry_end(backend->node); /* the drain's */
    if (backend->hurries)
        node_hurry_end(backend->node);
    block_co_node_unref(backend->node);
    drain_fini(backend);
    for (unsigned i = 0; i < backend->lane_count; i++)
        aio_lane_fini(&backend->lanes[i].aio);
    free(backend->lanes);
    free(backend);
    return rc;
}

const struct block_node *block_backend_node(const struct block_backend *backend)
{
    return backend->node;
}

uint64_t block_backend_size_bytes(const struct block_backend *backend)
{
    return node_size(backend->node);
}

bool block_backend_is_read_only(const struct block_backend *backend)
{
    return backend->read_only;
}

const struct block_limits *block_backend_limits(const struct block_backend *backend)
{
    return &backend->node->limits;
}

uint32_t block_backend_preferred_bytes(const struct block_backend *backend, uint32_t minimum,
                                       uint32_t maximum)
{
    const struct block_limits *limits = &backend->node->limits;
    uint32_t preferred = limits->preferred_bytes;
    if (!is_power_of_two(preferred) || preferred < minimum)
        preferred = minimum;
    if (preferred < limits->request_alignment)
        preferred = limits->request_alignment;
    return preferred < maximum ? preferred : maximum;
}

void block_backend_hurry(struct block_backend *backend)
{
    if (backend->hurries)
        return;
    backend->hurries = true;
    node_hurry_begin(backend->node);
}

/* --- counters -------------------------------------------------------------------------------- */

struct backend_lane *backend_lane(struct block_backend *backend)
{
    unsigned index = loop_index(loop_current());
    assert(index < backend->lane_count);
    return &backend->lanes[index];
}

static void count(struct backend_lane *lane, enum backend_counter counter, uint64_t by)
{
    uint64_t value = atomic_load_explicit(&lane->counters[counter], memory_order_relaxed);
    atomic_store_explicit(&lane->counters[counter], value + by, memory_order_relaxed);
}

static uint64_t sum(const struct block_backend *backend, enum backend_counter counter)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < backend->lane_count; i++)
        total += atomic_load_explicit(&backend->lanes[i].counters[counter], memory_order_relaxed);
    return total;
}

void block_backend_counters(const struct block_backend *backend, struct block_counters *ret)
{
    *ret = (struct block_counters){
        .reads = sum(backend, BACKEND_READS),
        .writes = sum(backend, BACKEND_WRITES),
        .zeroes = sum(backend, BACKEND_ZEROES),
        .discards = sum(backend, BACKEND_DISCARDS),
        .flushes = sum(backend, BACKEND_FLUSHES),
        .statuses = sum(backend, BACKEND_STATUSES),
        .caches = sum(backend, BACKEND_CACHES),
        .read_bytes = sum(backend, BACKEND_READ_BYTES),
        .written_bytes = sum(backend, BACKEND_WRITTEN_BYTES),
        .failed = sum(backend, BACKEND_FAILED),
    };
}

/* --- requests, once they are in ----------------------------------------------------------------
 */

static int counted(struct backend_lane *lane, enum backend_counter counter, int rc)
{
    count(lane, counter, 1);
    if (rc < 0)
        count(lane, BACKEND_FAILED, 1);
    return rc;
}

static int check_read(const struct block_backend *backend, uint64_t offset, uint64_t length)
{
    if (backend->is_inactive)
        return -EPERM;
    return range_is_inside(offset, length, node_size(backend->node)) ? 0 : -EINVAL;
}

/* past_end: what a range past the end is answered with. */
static int check_change(const struct block_backend *backend, uint64_t offset, uint64_t length,
                        int past_end)
{
    if (backend->read_only || backend->is_inactive)
        return -EPERM;
    return range_is_inside(offset, length, node_size(backend->node)) ? 0 : past_end;
}

int backend_co_read(struct block_backend *backend, struct backend_lane *lane, uint64_t offset,
                    const struct block_vec *vec)
{
    int rc = check_read(backend, offset, vec->length);
    if (rc == 0)
        rc = node_co_read(backend->node, offset, vec);
    if (rc == 0)
        count(lane, BACKEND_READ_BYTES, vec->length);
    return counted(lane, BACKEND_READS, rc);
}

int backend_co_write(struct block_backend *backend, struct backend_lane *lane, uint64_t offset,
                     const struct block_vec *vec, unsigned flags)
{
    int rc = check_change(backend, offset, vec->length, -ENOSPC);
    if (rc == 0)
        rc = node_co_write(backend->node, offset, vec, flags);
    if (rc == 0)
        count(lane, BACKEND_WRITTEN_BYTES, vec->length);
    return counted(lane, BACKEND_WRITES, rc);
}

int backend_co_zero(struct block_backend *backend, struct backend_lane *lane, uint64_t offset,
                    uint64_t length, unsigned flags)
{
    int rc = check_change(backend, offset, length, -ENOSPC);
    if (rc == 0)
        rc = node_co_zero(backend->node, offset, length, flags);
    return counted(lane, BACKEND_ZEROES, rc);
}

int backend_co_discard(struct block_backend *backend, struct backend_lane *lane, uint64_t offset,
                       uint64_t length, unsigned flags)
{
    int rc = check_change(backend, offset, length, -EINVAL);
    if (rc == 0)
        rc = node_co_discard(backend->node, offset, length, flags);
    return counted(lane, BACKEND_DISCARDS, rc);
}

int backend_co_flush(struct block_backend *backend, struct backend_lane *lane)
{
    return counted(lane, BACKEND_FLUSHES, node_co_flush(backend->node));
}

/* --- requests ----------------------------------------------------------------------------------
 */

static struct backend_lane *co_enter(struct block_backend *backend)
{
    struct backend_lane *lane = backend_lane(backend);
    drain_co_enter(backend, lane);
    return lane;
}

static int leave(struct block_backend *backend, struct backend_lane *lane, int rc)
{
    drain_leave(backend, lane);
    return rc;
}

int block_co_read(struct block_backend *backend, uint64_t offset, const struct block_vec *vec)
{
    struct backend_lane *lane = co_enter(backend);
    return leave(backend, lane, backend_co_read(backend, lane, offset, vec));
}

int block_co_write(struct block_backend *backend, uint64_t offset, const struct block_vec *vec,
                   unsigned flags)
{
    struct backend_lane *lane = co_enter(backend);
    return leave(backend, lane, backend_co_write(backend, lane, offset, vec, flags));
}

int block_co_zero(struct block_backend *backend, uint64_t offset, uint64_t length, unsigned flags)
{
    struct backend_lane *lane = co_enter(backend);
    return leave(backend, lane, backend_co_zero(backend, lane, offset, length, flags));
}

int block_co_discard(struct block_backend *backend, uint64_t offset, uint64_t length,
                     unsigned flags)
{
    struct backend_lane *lane = co_enter(backend);
    return leave(backend, lane, backend_co_discard(backend, lane, offset, length, flags));
}

int block_co_flush(struct block_backend *backend)
{
    struct backend_lane *lane = co_enter(backend);
    return leave(backend, lane, backend_co_flush(backend, lane));
}

int block_co_cache(struct block_backend *backend, uint64_t offset, uint64_t length)
{
    struct backend_lane *lane = co_enter(backend);
    int rc = check_read(backend, offset, length);
    if (rc == 0)
        rc = node_co_cache(backend->node, offset, length);
    return leave(backend, lane, counted(lane, BACKEND_CACHES, rc));
}

int block_co_status(struct block_backend *backend, uint64_t offset, uint64_t length,
                    struct block_extent *ret_extent)
{
    struct backend_lane *lane = co_enter(backend);
    int rc = length > 0 ? check_read(backend, offset, length) : -EINVAL;
    if (rc == 0)
        rc = node_co_status(backend->node, offset, length, ret_extent);
    return leave(backend, lane, counted(lane, BACKEND_STATUSES, rc));
}

int block_co_statuses(struct block_backend *backend, uint64_t offset, uint64_t length,
                      struct block_extents *ret_extents)
{
    struct backend_lane *lane = co_enter(backend);
    int rc = length > 0 ? check_read(backend, offset, length) : -EINVAL;
    if (rc == 0)
        rc = node_co_statuses(backend->node, offset, length, ret_extents);
    return leave(backend, lane, counted(lane, BACKEND_STATUSES, rc));
}

int block_co_depth(struct block_backend *backend, uint64_t offset, uint64_t length,
                   uint32_t *ret_depth, uint64_t *ret_length)
{
    struct backend_lane *lane = co_enter(backend);
    int rc = length > 0 ? check_read(backend, offset, length) : -EINVAL;
    if (rc == 0)
        rc = chain_co_depth(backend->node, offset, length, ret_depth, ret_length);
    return leave(backend, lane, counted(lane, BACKEND_STATUSES, rc));
}

int block_co_find_bitmap(struct block_backend *backend, const char *name,
                         const struct dirty_bitmap **ret_bitmap, struct error *err)
{
    if (backend->is_inactive)
        return error_set(err, -EPERM, "'%.200s' is inactive", node_label(backend->node));
    return chain_co_find_bitmap(backend->node, name, ret_bitmap, err);
}

void block_status_remembered(struct block_backend *backend, uint64_t offset, uint64_t length,
                             struct block_extent *ret_extent)
{
    struct backend_lane *lane = backend_lane(backend);
    assert(range_is_inside(offset, length, node_size(backend->node)));
    *ret_extent = (struct block_extent){.length = length, .flags = BLOCK_EXTENT_ALLOCATED};
    if (!drain_try_enter(backend, lane))
        return; /* the graph may be another one in a moment */
    if (!backend->is_inactive)
        node_status_remembered(backend->node, offset, length, ret_extent);
    drain_leave(backend, lane);
}

/* What stands between the borrower and the node: it counts what was taken. */
struct counted_loan {
    struct block_loan loan;
    struct block_loan *borrower;
    struct backend_lane *lane;
};

static size_t use_counted(struct block_loan *loan, int fd, uint64_t host_offset, size_t length)
{
    struct counted_loan *counted = container_of(loan, struct counted_loan, loan);
    size_t taken = counted->borrower->use(counted->borrower, fd, host_offset, length);
    assert(taken <= length);
    if (taken > 0 && loan->begins)
        count(counted->lane, BACKEND_READS, 1);
    count(counted->lane, BACKEND_READ_BYTES, taken);
    return taken;
}

int block_lend(struct block_backend *backend, uint64_t offset, uint64_t length,
               struct block_loan *loan)
{
    struct backend_lane *lane = backend_lane(backend);
    struct counted_loan counted = {.loan = *loan, .borrower = loan, .lane = lane};
    counted.loan.use = use_counted;
    if (!drain_try_enter(backend, lane))
        return -EAGAIN;
    int rc =
        backend->is_inactive ? -ENOTSUP : node_lend(backend->node, offset, length, &counted.loan);
    drain_leave(backend, lane);
    return rc;
}

struct copied_loan {
    struct block_loan loan;
    uint32_t wanted;
    bool is_whole;
};

static size_t take_copy(struct block_loan *loan, int fd, uint64_t host_offset, size_t length)
{
    struct copied_loan *copied = container_of(loan, struct copied_loan, loan);
    (void)fd;
    (void)host_offset;
    copied->is_whole = length == copied->wanted;
    return copied->is_whole ? length : 0;
}

int block_read_at_once(struct block_backend *backend, uint64_t offset, void *to, uint32_t length)
{
    assert(length <= BLOCK_READ_AT_ONCE_MAX);
    struct copied_loan copied = {.loan = {.use = take_copy, .begins = true, .copy_to = to},
                                 .wanted = length};
    int rc = block_lend(backend, offset, length, &copied.loan);
    if (rc == -ENOTSUP)
        backend_lane(backend)->reads_not_at_once = BLOCK_READS_NOT_AT_ONCE;
    return rc == 0 && !copied.is_whole ? -EAGAIN : rc;
}

bool block_may_read_at_once(struct block_backend *backend)
{
    struct backend_lane *lane = backend_lane(backend);
    if (lane->reads_not_at_once == 0)
        return true;
    lane->reads_not_at_once--;
    return false;
}
