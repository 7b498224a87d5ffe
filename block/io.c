/* SPDX-License-Identifier: BSD-3-Clause */
#include <assert.h>
#include <errno.h>

#include "block/align.h"
#include "block/buffer.h"
#include "block/doorway.h"
#include "block/driver.h"
#include "block/env.h"
#include "block/flush.h"
#include "block/node.h"
#include "block/tracked.h"
#include "common/checked.h"

/*
 * The pipeline: what every request to a node goes through, from the backend above the top node as
 * from a driver to its child.
 *
 *     node_co_write
 *       zeroes    are another request: node_co_zero (the option detect-zeroes)
 *       tracked   in flight from here on; waits for what must not interleave
 *       align     whole blocks for this node, by read-modify-write of the ends
 *       split     pieces that the driver's limits allow
 *       bounce    memory as the driver wants it
 *       doorway   asserts, observers before a change, the driver's call, asserts
 *       tracked   out of flight; the generation is raised
 *       flush     where BLOCK_FUA was asked for and the driver lacks it
 *
 * The request that matters is aligned, short and finds no serialising one: it costs one lock and
 * unlock of its loop's own lane at its begin and one at its end, both uncontended. Nothing is
 * allocated, nothing is copied, and no cache line is written that another loop writes.
 *
 * A request that fails in the middle may have done a part of its work, so its generation is raised
 * in any case.
 */

#define NOTHING_BYTES ((size_t)256 << 10) /* of memory, to read into and forget */

/* What a node's requests announce on their way, in io.c, align.c and flush.c: every write and zero;
 * the reads that a write of parts of blocks begins with; and, to the node below, every flush. */
const char *const pipeline_events[] = {
    "pwritev",
    "pwritev_zero",
    "pwritev_done",
    "pwritev_rmw_head",
    "pwritev_rmw_after_head",
    "pwritev_rmw_tail",
    "pwritev_rmw_after_tail",
    "flush_to_os",
    "flush_to_disk",
    NULL,
};

static int check_request(const struct block_node *node, uint64_t offset, uint64_t length,
                         bool changes)
{
    if (changes && node->read_only)
        return -EPERM;
    if (!range_is_inside(offset, length, NODE_SIZE_MAX))
        return changes ? -ENOSPC : -EINVAL;
    bool may_grow = node->driver->flags & BLOCK_DRIVER_GROWS;
    if (changes && !may_grow && offset + length > node_size(node))
        return -ENOSPC;
    return 0;
}

typedef struct align_cover cover_rule(const struct block_node *node, uint64_t offset,
                                      uint64_t length, uint64_t size);

/* The cover depends on the node's size. A request that waited, or raced with one that made the node
 * grow, may find another size than it was covered for, and then begins again. */
static void co_begin(struct block_node *node, struct tracked_request *request, cover_rule *rule,
                     uint64_t offset, uint64_t length)
{
    for (;;) {
        uint64_t size = node_size(node);
        struct align_cover cover = rule(node, offset, length, size);
        tracked_co_begin(node, request, cover.offset, cover.length, cover.serialising);
        if (node_size(node) == size)
            return;
        tracked_end(node, request, false);
    }
}

/* For a change, which a resize that it waited for may have put past the end. */
static int co_begin_change(struct block_node *node, struct tracked_request *request,
                           cover_rule *rule, uint64_t offset, uint64_t length)
{
    co_begin(node, request, rule, offset, length);
    int rc = check_request(node, offset, length, true);
    if (rc < 0)
        tracked_end(node, request, false);
    return rc;
}

/* What of the flags the driver is handed. */
static unsigned driver_flags(const struct block_node *node, unsigned flags)
{
    assert((flags & ~(unsigned)(BLOCK_FUA | BLOCK_NO_UNMAP | BLOCK_FAST | BLOCK_COMPRESS)) == 0);
    if (node->limits.compress_bytes == 0)
        flags &= ~(unsigned)BLOCK_COMPRESS;
    return node->driver->flags & BLOCK_DRIVER_FUA ? flags : flags & ~(unsigned)BLOCK_FUA;
}

/* The end of every change: rc is what the driver made of it. */
static int co_end_change(struct block_node *node, struct tracked_request *request, int rc,
                         bool must_flush, bool is_fua)
{
    tracked_end(node, request, true);
    if (rc < 0 || !is_fua)
        return rc;
    return must_flush ? flush_co_node(node) : flush_failed(node);
}

/* --- accounting ------------------------------------------------------------------------------ */

/* It ended before anything was begun: it is refused, or there is nothing to do. */
static int not_carried_out(struct block_node *node, enum account_kind kind, int rc)
{
    if (rc < 0)
        account_invalid(&node->account, kind);
    return rc;
}

static int carried_out(struct block_node *node, enum account_kind kind, struct loop_moment start,
                       uint64_t bytes, int rc)
{
    account_end(&node->account, kind, start, bytes, rc);
    return rc;
}

/* What stands between a borrower and the node's driver: it counts what was taken. */
struct counted_loan {
    struct block_loan loan;
    struct block_loan *borrower;
    struct block_node *node;
};

static size_t use_counted(struct block_loan *loan, int fd, uint64_t host_offset, size_t length)
{
    struct counted_loan *counted = container_of(loan, struct counted_loan, loan);
    struct account *account = &counted->node->account;
    size_t taken = counted->borrower->use(counted->borrower, fd, host_offset, length);
    if (taken > 0 && loan->begins)
        account_end(account, ACCOUNT_READ, loop_moment(), taken, 0);
    else if (taken > 0)
        account_bytes(account, ACCOUNT_READ, taken);
    return taken;
}

/* --- requests -------------------------------------------------------------------------------- */

int node_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    struct tracked_request request;
    struct loop_moment start = loop_moment();
    int rc = check_request(node, offset, vec->length, false);
    if (rc < 0 || vec->length == 0)
        return not_carried_out(node, ACCOUNT_READ, rc);
    co_begin(node, &request, align_cover_read, offset, vec->length);
    rc = align_co_read(node, offset, vec);
    tracked_end(node, &request, false);
    return carried_out(node, ACCOUNT_READ, start, vec->length, rc);
}

/* The option detect-zeroes. A driver that cannot make zeroes would write them all the same. */
static bool is_detected(const struct block_node *node, const struct block_vec *vec)
{
    return node->detect_zeroes != BLOCK_DETECT_OFF && node->driver->co_zero && vec_is_zero(vec);
}

int node_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                  unsigned flags)
{
    struct tracked_request request;
    struct loop_moment start = loop_moment();
    if (is_detected(node, vec)) {
        unsigned keep = node->detect_zeroes == BLOCK_DETECT_UNMAP ? 0 : BLOCK_NO_UNMAP;
        return node_co_zero(node, offset, vec->length, (flags & BLOCK_FUA) | keep);
    }
    int rc = check_request(node, offset, vec->length, true);
    if (rc < 0 || vec->length == 0)
        return not_carried_out(node, ACCOUNT_WRITE, rc);
    unsigned passed = driver_flags(node, flags) & (unsigned)(BLOCK_FUA | BLOCK_COMPRESS);
    rc = co_begin_change(node, &request, align_cover_write, offset, vec->length);
    if (rc < 0)
        return not_carried_out(node, ACCOUNT_WRITE, rc);
    node_co_event(node, "pwritev");
    rc = align_co_write(node, offset, vec, passed);
    node_co_event(node, "pwritev_done");
    rc = co_end_change(node, &request, rc, !(passed & BLOCK_FUA), flags & BLOCK_FUA);
    return carried_out(node, ACCOUNT_WRITE, start, vec->length, rc);
}

int node_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    struct tracked_request request;
    struct loop_moment start = loop_moment();
    int rc = check_request(node, offset, length, true);
    if (rc < 0 || length == 0)
        return not_carried_out(node, ACCOUNT_ZERO, rc);
    unsigned passed = driver_flags(node, flags);
    rc = co_begin_change(node, &request, align_cover_write, offset, length);
    if (rc < 0)
        return not_carried_out(node, ACCOUNT_ZERO, rc);
    node_co_event(node, "pwritev_zero");
    rc = align_co_zero(node, offset, length, passed);
    node_co_event(node, "pwritev_done");
    rc = co_end_change(node, &request, rc, !(passed & BLOCK_FUA), flags & BLOCK_FUA);
    return carried_out(node, ACCOUNT_ZERO, start, length, rc);
}

int node_co_discard(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    struct tracked_request request;
    struct loop_moment start = loop_moment();
    int rc = check_request(node, offset, length, true);
    if (rc < 0 || length == 0)
        return not_carried_out(node, ACCOUNT_DISCARD, rc);
    driver_flags(node, flags);
    /* Only whole blocks inside the range are touched, so it covers blocks as a read does. */
    rc = co_begin_change(node, &request, align_cover_read, offset, length);
    if (rc < 0)
        return not_carried_out(node, ACCOUNT_DISCARD, rc);
    rc = align_co_discard(node, offset, length);
    rc = co_end_change(node, &request, rc, true, flags & BLOCK_FUA);
    return carried_out(node, ACCOUNT_DISCARD, start, length, rc);
}

/* What "cached" means where the driver knows nothing better. */
static int co_read_into_nothing(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct buffer_pool *pool = &block_env_local(node->env)->buffers;
    size_t size = length < NOTHING_BYTES ? length : NOTHING_BYTES;
    void *nothing = buffer_get(pool, size);
    if (!nothing)
        return -ENOMEM;
    int rc = 0;
    for (uint64_t done = 0; done < length && rc == 0;) {
        struct iovec iov;
        size_t piece = length - done < size ? length - done : size;
        struct block_vec vec = vec_of_buffer(&iov, nothing, piece);
        rc = align_co_read(node, offset + done, &vec);
        done += piece;
    }
    buffer_put(pool, nothing, size);
    return rc;
}

int node_co_cache(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct tracked_request request;
    struct loop_moment start = loop_moment();
    int rc = check_request(node, offset, length, false);
    if (rc < 0 || length == 0)
        return not_carried_out(node, ACCOUNT_CACHE, rc);
    co_begin(node, &request, align_cover_read, offset, length);
    uint64_t size = node_size(node);
    uint64_t stored = offset < size ? size - offset : 0;
    uint64_t inside = length < stored ? length : stored;
    if (inside > 0)
        rc = doorway_co_cache(node, offset, inside);
    if (rc == -ENOTSUP)
        rc = co_read_into_nothing(node, offset, inside);
    tracked_end(node, &request, false);
    return carried_out(node, ACCOUNT_CACHE, start, length, rc);
}

int node_co_flush(struct block_node *node)
{
    return flush_co_node(node);
}

/* Past the end there is nothing, and it reads as zeroes. Returns how much of length is inside. */
static uint64_t status_inside(const struct block_node *node, uint64_t offset, uint64_t length,
                              struct block_extent *ret_extent)
{
    uint64_t size = node_size(node);
    if (offset >= size) {
        *ret_extent = (struct block_extent){.length = length, .flags = BLOCK_EXTENT_ZERO};
        return 0;
    }
    return length < size - offset ? length : size - offset;
}

/* extents NULL: one is asked for. */
static int co_status(struct block_node *node, uint64_t offset, uint64_t length,
                     struct block_extent *extent, struct block_extents *extents)
{
    struct tracked_request request;
    struct loop_moment start = loop_moment();
    if (length == 0)
        return -EINVAL;
    int rc = check_request(node, offset, length, false);
    if (rc < 0)
        return not_carried_out(node, ACCOUNT_STATUS, rc);
    co_begin(node, &request, align_cover_read, offset, length);
    uint64_t inside = status_inside(node, offset, length, extent);
    if (inside > 0)
        rc = extents ? doorway_co_statuses(node, offset, inside, extents)
                     : doorway_co_status(node, offset, inside, extent);
    tracked_end(node, &request, false);
    return carried_out(node, ACCOUNT_STATUS, start, length, rc);
}

int node_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                   struct block_extent *ret_extent)
{
    return co_status(node, offset, length, ret_extent, NULL);
}

int node_co_statuses(struct block_node *node, uint64_t offset, uint64_t length,
                     struct block_extents *ret_extents)
{
    ret_extents->count = 1;
    return co_status(node, offset, length, &ret_extents->all[0], ret_extents);
}

int node_co_is_own(struct block_node *node, uint64_t offset, uint64_t length, bool *ret_is_own,
                   uint64_t *ret_length)
{
    struct tracked_request request;
    while ((node->driver->flags & BLOCK_DRIVER_FILTER) && !node->driver->co_is_own)
        node = node->file;
    int rc = 0;
    *ret_is_own = true;
    *ret_length = length;
    if (!node->driver->co_is_own)
        return 0;
    co_begin(node, &request, align_cover_read, offset, length);
    uint64_t size = node_size(node);
    uint64_t stored = offset < size ? size - offset : 0;
    uint64_t inside = length < stored ? length : stored;
    if (inside > 0)
        rc = doorway_co_is_own(node, offset, inside, ret_is_own, ret_length);
    tracked_end(node, &request, false);
    return rc;
}

void node_status_remembered(struct block_node *node, uint64_t offset, uint64_t length,
                            struct block_extent *ret_extent)
{
    assert(length > 0);
    uint64_t inside = status_inside(node, offset, length, ret_extent);
    if (inside > 0)
        doorway_status_remembered(node, offset, inside, ret_extent);
}

int node_lend(struct block_node *node, uint64_t offset, uint64_t length, struct block_loan *loan)
{
    struct tracked_request request;
    uint64_t size = node_size(node);
    if (!node->driver->lend)
        return -ENOTSUP;
    if (length == 0 || !range_is_inside(offset, length, size))
        return -EAGAIN;
    struct align_cover cover = align_cover_read(node, offset, length, size);
    if (!tracked_try_begin(node, &request, cover.offset, cover.length))
        return -EAGAIN;
    int rc = -EAGAIN;
    struct counted_loan counted = {.loan = *loan, .borrower = loan, .node = node};
    counted.loan.use = use_counted;
    if (node_size(node) == size)
        rc = doorway_lend(node, offset, length, &counted.loan);
    tracked_end(node, &request, false);
    return rc;
}
