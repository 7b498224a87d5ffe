/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/reopen.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/backend.h"
#include "block/coroutine.h"
#include "block/flush.h"
#include "block/graph.h"
#include "block/node.h"
#include "block/node_options.h"
#include "block/tracked.h"
#include "common/align.h"

/*
 * A graph opened again in two phases. Each node is a *step*: on the list in the order in which they
 * are prepared, parents before their children, so that a format can still write to its file (its
 * caches, a clean mark) while it prepares to be read-only, and before the file itself does.
 *
 * States of a step: listed -> exclusive (nothing of anyone is in flight on the node) -> prepared ->
 * carried out, or aborted; carried out -> finished. The exclusive requests are kept until the last
 * step is carried out or aborted, and given up from the bottom to the top: so no request meets a
 * graph that is half of each. What finishes comes after that, while the backend is still drained.
 * Two reopens of one graph follow each other, for each begins with the top node.
 */

struct step {
    struct list_link link;
    struct block_node *node;
    const struct step *parent; /* NULL for the top node */
    struct tracked_request request;
    bool is_exclusive, is_prepared;
    struct block_reopen reopen;
};

/* Takes options in any case. */
static int add_step(struct list *steps, struct block_node *node, struct node_options *options,
                    const struct step *parent, struct error *err)
{
    struct step *step = calloc(1, sizeof(*step));
    if (!step) {
        node_options_free(options);
        return error_set(err, -ENOMEM, "no memory to open '%.200s' again", node->name);
    }
    step->node = node;
    step->parent = parent;
    step->reopen.options = options;
    list_append(steps, &step->link);
    return 0;
}

static int add_children(struct list *steps, const struct step *step, struct error *err)
{
    struct node_options *options = step->reopen.options;
    int rc = 0;
    for (unsigned i = 0; i < step->node->child_count && rc == 0; i++) {
        struct node_options *subtree =
            node_options_take_subtree(options, step->node->child_keys[i]);
        if (!subtree)
            return error_set(err, -ENOMEM, "no memory to open '%.200s' again", step->node->name);
        rc = graph_pass_down(options, subtree, err);
        if (rc < 0)
            node_options_free(subtree);
        else
            rc = add_step(steps, step->node->children[i], subtree, step, err);
    }
    if (!(step->node->driver->flags & BLOCK_DRIVER_PROTOCOL))
        graph_take_passed_down(options);
    return rc;
}

/* --- the first phase ---------------------------------------------------------------------------
 */

/* What the node may do afterwards. */
static int choose_rights(struct step *step, struct error *err)
{
    const struct step *parent = step->parent;
    struct block_node *node = step->node;
    /* A backing file is not written because the image above it is. */
    bool follows = parent && parent->reopen.read_only != parent->node->read_only &&
                   parent->node->backing != node;
    bool read_only = follows ? parent->reopen.read_only : node->read_only;
    int rc = node_options_take_bool(step->reopen.options, "read-only", &read_only, err);
    if (rc < 0)
        return rc;
    if (!read_only && !node->driver->co_write)
        return node_options_refuse(step->reopen.options, "read-only", -EROFS, err,
                                   "must be on for '%.200s': the driver %s can only read",
                                   node->name, node->driver->name);
    bool is_main = parent && parent->node->file == node;
    if (is_main && read_only && !parent->reopen.read_only)
        return node_options_refuse(step->reopen.options, "read-only", -EROFS, err,
                                   "'%.200s' is read-only, but the node above it is to be written; "
                                   "say read-only=on for both",
                                   node->name);
    step->reopen.read_only = read_only;
    return 0;
}

static int co_prepare(struct list *steps, struct step *step, struct error *err)
{
    struct block_node *node = step->node;
    const struct block_driver_admin *admin = node->driver->admin;
    bool asks_nothing = node_options_is_empty(step->reopen.options);
    tracked_co_begin_exclusive(node, &step->request);
    step->is_exclusive = true;
    int rc = choose_rights(step, err);
    if (rc < 0)
        return rc;
    if (admin && admin->co_reopen_prepare) {
        rc = add_children(steps, step, err);
        if (rc == 0)
            rc = admin->co_reopen_prepare(node, &step->reopen, err);
        step->is_prepared = rc == 0;
    } else if (!asks_nothing || step->reopen.read_only != node->read_only) {
        rc = node_options_refuse(step->reopen.options, "", -ENOTSUP, err,
                                 "'%.200s' cannot be changed while it is open: the driver %s has "
                                 "no way to",
                                 node->name, node->driver->name);
    }
    if (rc < 0)
        return rc;
    char owner[80];
    snprintf(owner, sizeof(owner), "a change of the open driver %s", node->driver->name);
    return node_options_check_all_taken(step->reopen.options, owner, err);
}

static int co_prepare_all(struct list *steps, struct error *err)
{
    int rc = 0;
    /* The list grows at its end while it is gone through. */
    for (struct list_link *link = steps->head.next; link != &steps->head && rc == 0;
         link = link->next)
        rc = co_prepare(steps, container_of(link, struct step, link), err);
    return rc;
}

/* --- the second phase --------------------------------------------------------------------------
 */

static void co_carry_out(struct step *step)
{
    struct block_node *node = step->node;
    const struct block_driver_admin *admin = node->driver->admin;
    if (step->is_prepared && admin->co_reopen_commit)
        admin->co_reopen_commit(node, &step->reopen);
    node->read_only = step->reopen.read_only;
    assert(is_power_of_two(node->limits.request_alignment));
    assert(is_power_of_two(node->limits.memory_alignment));
}

static void co_finish(struct step *step)
{
    const struct block_driver_admin *admin = step->node->driver->admin;
    if (step->is_prepared && admin->co_reopen_finish)
        admin->co_reopen_finish(step->node, &step->reopen);
}

static void co_abort(struct step *step)
{
    const struct block_driver_admin *admin = step->node->driver->admin;
    if (step->is_prepared && admin->co_reopen_abort)
        admin->co_reopen_abort(step->node, &step->reopen);
}

static void co_finish_all(struct list *steps, bool is_success)
{
    for (struct list_link *link = steps->head.prev; link != &steps->head; link = link->prev) {
        struct step *step = container_of(link, struct step, link);
        if (is_success)
            co_carry_out(step);
        else
            co_abort(step);
    }
    for (struct list_link *link = steps->head.prev; link != &steps->head; link = link->prev) {
        struct step *step = container_of(link, struct step, link);
        if (step->is_exclusive)
            tracked_end(step->node, &step->request, false);
    }
    while (!list_is_empty(steps)) {
        struct step *step = container_of(steps->head.prev, struct step, link);
        if (is_success)
            co_finish(step);
        node_options_free(step->reopen.options);
        list_remove(&step->link);
        free(step);
    }
}

/* --- the graph ---------------------------------------------------------------------------------
 */

static int co_reopen_graph(struct block_backend *backend, struct node_options *options,
                           struct error *err)
{
    struct list steps;
    struct block_node *node = backend->node;
    bool names_rights = node_options_has(options, "read-only");
    /* What is lost is told here, and not after the files that lost it are closed. */
    int rc = flush_co_changes(node);
    if (rc < 0) {
        node_options_free(options);
        return error_set(err, rc,
                         "'%.200s' is left as it is: what was written to it could not be made "
                         "durable: %s",
                         node->name, error_text(rc));
    }
    list_init(&steps);
    if (backend->is_inactive) {
        node_options_free(options);
        return error_set(err, -EPERM, "'%.200s' is inactive, and stays as it is", node->name);
    }
    rc = add_step(&steps, node, options, NULL, err);
    if (rc == 0)
        rc = co_prepare_all(&steps, err);
    co_finish_all(&steps, rc == 0);
    if (rc == 0 && names_rights)
        atomic_store(&backend->read_only, node->read_only);
    return rc;
}

int block_co_reopen(struct block_backend *backend, struct node_options *options, struct error *err)
{
    assert(coroutine_inside());
    block_co_backend_drain(backend);
    int rc = co_reopen_graph(backend, options, err);
    block_backend_resume(backend);
    return rc;
}
