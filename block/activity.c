/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/activity.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/backend.h"
#include "block/coroutine.h"
#include "block/flush.h"
#include "block/node.h"
#include "common/log.h"

/*
 * The nodes of a graph, parents before their children. They become inactive in this order, so that
 * a format writes what it has before its file gives up its locks, and active in the other one, so
 * that its file is nobody else's before a format reads it. Nothing is in flight: the backend is
 * drained, and drivers do nothing by themselves in between (what waits in a format for its turn is
 * done while it becomes inactive).
 */

struct nodes {
    struct block_node **all;
    unsigned count, room;
};

static int add(struct nodes *nodes, struct block_node *node)
{
    if (nodes->count == nodes->room) {
        unsigned room = nodes->room ? 2 * nodes->room : 16;
        struct block_node **all = realloc(nodes->all, room * sizeof(struct block_node *));
        if (!all)
            return -ENOMEM;
        nodes->all = all;
        nodes->room = room;
    }
    nodes->all[nodes->count++] = node;
    return 0;
}

static int list_nodes(const struct block_backend *backend, struct nodes *nodes, struct error *err)
{
    *nodes = (struct nodes){.all = NULL};
    int rc = add(nodes, backend->node);
    for (unsigned i = 0; i < nodes->count && rc == 0; i++) {
        for (unsigned c = 0; c < nodes->all[i]->child_count && rc == 0; c++)
            rc = add(nodes, nodes->all[i]->children[c]);
    }
    if (rc == 0)
        return 0;
    free(nodes->all);
    return error_set(err, rc, "no memory to look at '%.200s'", node_label(backend->node));
}

/* --- one node ---------------------------------------------------------------------------------
 */

static int co_inactivate_node(struct block_node *node, struct error *err)
{
    const struct block_driver_admin *admin = node->driver->admin;
    return admin && admin->co_inactivate ? admin->co_inactivate(node, err) : 0;
}

/* Of what was done in vain: it was well a moment ago. */
static void say_undo_failed(const struct block_node *node, const struct error *why)
{
    log_error("'%.200s' cannot be put back to what it was: %s", node_label(node), why->message);
}

/* A node that cannot be asked has a fixed size, or has set its own. */
static int co_take_size(struct block_node *node, struct error *err)
{
    const struct block_driver_admin *admin = node->driver->admin;
    uint64_t size;
    if (!admin || !admin->co_stored_size)
        return 0;
    int rc = admin->co_stored_size(node, &size);
    if (rc == 0 && size > NODE_SIZE_MAX)
        rc = -EFBIG;
    if (rc < 0)
        return error_set(err, rc, "the size of '%.200s' is not known: %s", node_label(node),
                         error_text(rc));
    atomic_store(&node->size_bytes, size);
    return 0;
}

static int co_invalidate_node(struct block_node *node, struct error *err)
{
    const struct block_driver_admin *admin = node->driver->admin;
    struct error why;
    flush_forget(node); /* of the server that had it, which may have been killed */
    int rc = admin && admin->co_invalidate ? admin->co_invalidate(node, err) : 0;
    if (rc < 0)
        return rc;
    rc = co_take_size(node, err);
    if (rc < 0 && co_inactivate_node(node, &why) < 0)
        say_undo_failed(node, &why);
    return rc;
}

/* --- the graph ---------------------------------------------------------------------------------
 */

/* The lowest first; those from *ret_first on are active afterwards. */
static int co_invalidate_all(const struct nodes *nodes, unsigned *ret_first, struct error *err)
{
    unsigned first = nodes->count;
    int rc = 0;
    while (first > 0 && rc == 0) {
        rc = co_invalidate_node(nodes->all[first - 1], err);
        first -= rc == 0;
    }
    *ret_first = first;
    return rc;
}

static int co_inactivate_graph(struct block_backend *backend, const struct nodes *nodes,
                               struct error *err)
{
    struct error why;
    unsigned done = 0;
    int rc = flush_co_changes(backend->node);
    if (rc < 0)
        return error_set(err, rc,
                         "'%.200s' stays active: what was written to it could not be made durable: "
                         "%s",
                         node_label(backend->node), error_text(rc));
    for (; done < nodes->count && rc == 0; done++)
        rc = co_inactivate_node(nodes->all[done], err);
    backend->is_inactive = true;
    if (rc == 0)
        return 0;
    /* The last one stays as it is; those above it are put back. */
    for (unsigned i = done - 1; i > 0; i--) {
        if (co_invalidate_node(nodes->all[i - 1], &why) < 0) {
            say_undo_failed(nodes->all[i - 1], &why);
            return rc;
        }
    }
    backend->is_inactive = false;
    return rc;
}

static int co_invalidate_graph(struct block_backend *backend, const struct nodes *nodes,
                               struct error *err)
{
    struct error why;
    unsigned first;
    int rc = backend->is_inactive ? 0 : co_inactivate_graph(backend, nodes, err);
    if (rc < 0)
        return rc;
    rc = co_invalidate_all(nodes, &first, err);
    for (unsigned i = first; i < nodes->count && rc < 0; i++) {
        if (co_inactivate_node(nodes->all[i], &why) < 0)
            say_undo_failed(nodes->all[i], &why);
    }
    backend->is_inactive = rc < 0;
    return rc;
}

/* --- the calls ---------------------------------------------------------------------------------
 */

static int co_with_nodes(struct block_backend *backend, struct error *err,
                         int (*co_run)(struct block_backend *backend, const struct nodes *nodes,
                                       struct error *err))
{
    struct nodes nodes;
    assert(coroutine_inside());
    block_co_backend_drain(backend);
    int rc = list_nodes(backend, &nodes, err);
    if (rc == 0) {
        rc = co_run(backend, &nodes, err);
        free(nodes.all);
    }
    block_backend_resume(backend);
    return rc;
}

static int co_inactivate(struct block_backend *backend, const struct nodes *nodes,
                         struct error *err)
{
    return backend->is_inactive ? 0 : co_inactivate_graph(backend, nodes, err);
}

int block_co_inactivate(struct block_backend *backend, struct error *err)
{
    return co_with_nodes(backend, err, co_inactivate);
}

int block_co_invalidate(struct block_backend *backend, struct error *err)
{
    return co_with_nodes(backend, err, co_invalidate_graph);
}
