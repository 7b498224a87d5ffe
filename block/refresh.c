/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A graph whose file another program made longer. Asking is one call of the host on a worker, while
 * requests go on; only when the file has really grown are the nodes taken one after the other, from
 * the top, and given their new sizes from the bottom up.
 */
#include <assert.h>
#include <errno.h>

#include "block/backend.h"
#include "block/coroutine.h"
#include "block/node.h"
#include "block/reopen.h"
#include "block/tracked.h"

int node_co_stored_size(struct block_node *node, uint64_t *ret_size_bytes)
{
    const struct block_driver_admin *admin = node->driver->admin;
    if (admin && admin->co_stored_size)
        return admin->co_stored_size(node, ret_size_bytes);
    *ret_size_bytes = node_size(node);
    return 0;
}

/* As deep as the graph, which has a bound. */
static int co_grow(struct block_node *node)
{
    struct tracked_request request;
    uint64_t stored = 0;
    /* The size stays as it is while anything is in flight, as driver.h promises the drivers. */
    tracked_co_begin_exclusive(node, &request);
    int rc = node->file ? co_grow(node->file) : 0;
    if (rc == 0)
        rc = node_co_stored_size(node, &stored);
    if (rc == 0 && stored > NODE_SIZE_MAX)
        rc = -EFBIG;
    if (rc == 0 && stored > node_size(node))
        atomic_store(&node->size_bytes, stored);
    tracked_end(node, &request, false);
    return rc;
}

int block_co_refresh_size(struct block_backend *backend)
{
    struct backend_lane *lane = backend_lane(backend);
    uint64_t stored = 0;
    assert(coroutine_inside());
    drain_co_enter(backend, lane); /* nobody opens the graph again meanwhile */
    int rc = backend->is_inactive ? 0 : node_co_stored_size(backend->node, &stored);
    if (rc == 0 && stored > node_size(backend->node))
        rc = co_grow(backend->node);
    drain_leave(backend, lane);
    return rc;
}
