/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/node.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/flush.h"
#include "block/observer.h"
#include "block/tracked.h"
#include "common/log.h"

struct block_node *node_new(struct block_env *env, const struct block_driver *driver,
                            const struct block_node *parent)
{
    struct block_node *node = calloc(1, sizeof(*node));
    if (!node)
        return NULL;
    node->driver = driver;
    node->env = env;
    node->limits = (struct block_limits){.request_alignment = 1, .memory_alignment = 1};
    node->parent = parent;
    node->depth = parent ? parent->depth + 1 : 1;
    atomic_store(&node->references, 1);
    flush_init(node);
    observer_init(node);
    if (tracked_init(node) < 0 || account_init(&node->account, env) < 0 ||
        node_set_name(node, driver->name) < 0) {
        node_co_free(node);
        return NULL;
    }
    flush_init_counters(node);
    return node;
}

void node_co_free(struct block_node *node)
{
    if (node->opened)
        node->driver->co_close(node);
    node->opened = false;
    for (unsigned i = 0; i < node->child_count; i++)
        block_co_node_unref(node->children[i]);
    tracked_fini(node);
    flush_fini(node);
    observer_fini(node);
    account_fini(&node->account);
    node_names_remove(node);
    free(node->name);
    free(node);
}

unsigned node_counter(struct block_node *node, const char *name)
{
    return account_new_counter(&node->account, name);
}

void node_count(struct block_node *node, unsigned counter, uint64_t by)
{
    account_count(&node->account, counter, by);
}

uint64_t node_counted(const struct block_node *node, unsigned counter)
{
    return account_counter(&node->account, counter);
}

static bool is_file(const struct block_node *node, uint64_t device, uint64_t inode)
{
    return (node->file_device != 0 || node->file_inode != 0) && node->file_device == device &&
           node->file_inode == inode;
}

int node_check_circle(const struct block_node *node, const char *path, uint64_t device,
                      uint64_t inode, struct error *err)
{
    for (const struct block_node *above = node->parent; above; above = above->parent) {
        for (unsigned i = 0; i < above->child_count; i++) {
            if (is_file(above->children[i], device, inode))
                return error_set(err, -ELOOP,
                                 "cannot open '%s': '%s' above it is in the same file; a chain of "
                                 "images cannot go in a circle",
                                 path, node_label(above));
        }
    }
    return 0;
}

int node_set_name(struct block_node *node, const char *name)
{
    char *copy = strdup(name);
    if (!copy)
        return -ENOMEM;
    free(node->name);
    node->name = copy;
    return 0;
}

/* Nodes are a tree, of at most BLOCK_GRAPH_DEPTH_MAX levels. */
void node_hurry_begin(struct block_node *node)
{
    if (node->driver->hurry_begin)
        node->driver->hurry_begin(node);
    for (unsigned i = 0; i < node->child_count; i++)
        node_hurry_begin(node->children[i]);
}

void node_hurry_end(struct block_node *node)
{
    if (node->driver->hurry_end)
        node->driver->hurry_end(node);
    for (unsigned i = 0; i < node->child_count; i++)
        node_hurry_end(node->children[i]);
}

struct block_node *block_node_ref(struct block_node *node)
{
    unsigned before = atomic_fetch_add(&node->references, 1);
    assert(before > 0);
    return node;
}

void block_co_node_unref(struct block_node *node)
{
    if (!node)
        return;
    unsigned before = atomic_fetch_sub(&node->references, 1);
    assert(before > 0);
    if (before > 1)
        return;
    bool was_told = flush_failed(node) != 0;
    int rc = flush_co_changes(node);
    if (rc < 0 && !was_told)
        log_error("'%s': what was written last could not be made durable: %s", node_label(node),
                  error_text(rc));
    node_co_free(node);
}

const char *block_node_driver_name(const struct block_node *node)
{
    return node->driver->name;
}

uint64_t block_node_size_bytes(const struct block_node *node)
{
    return node_size(node);
}

struct block_env *block_node_env(const struct block_node *node)
{
    return node->env;
}

const char *block_node_name(const struct block_node *node)
{
    return node->name;
}

const char *block_node_given_name(const struct block_node *node)
{
    return *node->node_name ? node->node_name : NULL;
}

const struct account *block_node_account(const struct block_node *node)
{
    return &node->account;
}

void block_node_tell_numbers(const struct block_node *node, block_tell_number *tell, void *arg)
{
    const struct account *account = &node->account;
    const struct block_driver_admin *admin = node->driver->admin;
    for (unsigned i = 0; i < account->counter_count; i++)
        tell(arg, account->counter_names[i], account_counter(account, i));
    if (node->opened && admin && admin->tell_numbers)
        admin->tell_numbers(node, tell, arg);
}

const struct block_node *block_node_child(const struct block_node *node, unsigned index)
{
    return index < node->child_count ? node->children[index] : NULL;
}
