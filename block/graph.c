/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/graph.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/coroutine.h"
#include "block/env.h"
#include "block/node.h"
#include "block/node_options.h"
#include "block/probe.h"
#include "common/align.h"

/*
 * Opening a graph of nodes: a tree of options becomes a tree of nodes. Each node is opened by its
 * driver, which asks here for its children, so the recursion is through the drivers and is bounded
 * by BLOCK_GRAPH_DEPTH_MAX: an image that names itself as its own child ends there.
 */

/* --- drivers --------------------------------------------------------------------------------- */

const struct block_driver *graph_find_driver(const struct block_env *env, const char *name)
{
    for (unsigned i = 0; env->drivers[i]; i++) {
        if (strcmp(env->drivers[i]->name, name) == 0)
            return env->drivers[i];
    }
    return NULL;
}

/* "a, b, c" into text, cut when it does not fit. skip_flags: drivers that have none of them. */
static void list_drivers(const struct block_env *env, unsigned skip_flags, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (unsigned i = 0; env->drivers[i] && used < size; i++) {
        if (env->drivers[i]->flags & skip_flags)
            continue;
        int added =
            snprintf(text + used, size - used, "%s%s", used > 0 ? ", " : "", env->drivers[i]->name);
        used += added > 0 ? (size_t)added : 0;
    }
}

int graph_check_format(const struct block_env *env, const char *format, struct error *err)
{
    const struct block_driver *driver = graph_find_driver(env, format);
    if (driver && !(driver->flags & BLOCK_DRIVER_PROTOCOL))
        return 0;
    char known[200];
    list_drivers(env, BLOCK_DRIVER_PROTOCOL, known, sizeof(known));
    return error_set(err, -EINVAL,
                     "the image format '%.100s' is not supported; supported formats: %s", format,
                     known);
}

static int take_driver(const struct block_env *env, struct node_options *options,
                       const struct block_driver **ret_driver, struct error *err)
{
    char known[200];
    const char *name = node_options_take(options, "driver");
    const struct block_driver *driver = name ? graph_find_driver(env, name) : NULL;
    if (driver) {
        *ret_driver = driver;
        return 0;
    }
    list_drivers(env, 0, known, sizeof(known));
    if (!name)
        return error_set(err, -EINVAL, "a node has no option 'driver'; say one of: %s", known);
    return error_set(err, -EINVAL, "the driver '%.100s' is not known; known drivers: %s", name,
                     known);
}

/* --- options that are passed down ------------------------------------------------------------- */

/* What is said of a node is true of the nodes below it, unless these say otherwise. A format does
 * nothing with it itself. */
static const char *const passed_down[] = {"cache.direct", "cache.no-flush", "discard", "aio", NULL};

int graph_pass_down(const struct node_options *options, struct node_options *child,
                    struct error *err)
{
    int rc = 0;
    for (unsigned i = 0; passed_down[i] && rc == 0; i++) {
        const char *value = node_options_get(options, passed_down[i]);
        if (value && !node_options_has(child, passed_down[i]))
            rc = node_options_set(child, passed_down[i], value, err);
    }
    return rc;
}

static void take_passed_down(struct node_options *options)
{
    for (unsigned i = 0; passed_down[i]; i++)
        node_options_take(options, passed_down[i]);
}

/* --- nodes ----------------------------------------------------------------------------------- */

/* What a driver says of itself is its own promise; the size may come from an image. */
static int check_opened(const struct block_node *node, struct error *err)
{
    const struct block_limits *limits = &node->limits;
    assert(is_power_of_two(limits->request_alignment));
    assert(limits->request_alignment <= NODE_REQUEST_ALIGNMENT_MAX);
    assert(is_power_of_two(limits->memory_alignment));
    assert(limits->memory_alignment <= BUFFER_ALIGNMENT);
    assert(is_aligned(limits->transfer_bytes_max, limits->request_alignment));
    assert(is_aligned(limits->zero_bytes_max, limits->request_alignment));
    assert(!(node->driver->flags & BLOCK_DRIVER_PROTOCOL) || node->child_count == 0);
    if (node_size(node) > NODE_SIZE_MAX)
        return error_set(
            err, -EFBIG, "'%s' has a size of %llu bytes; the most that is served is %llu",
            node->name, (unsigned long long)node_size(node), (unsigned long long)NODE_SIZE_MAX);
    return 0;
}

static int node_co_open(struct block_node *node, struct node_options *options,
                        const struct block_node *parent, struct error *err)
{
    const char *filename = node_options_get(options, "filename");
    if (filename && node_set_name(node, filename) < 0)
        return error_set(err, -ENOMEM, "no memory to open '%.200s'", filename);

    node->read_only = parent && parent->read_only;
    int rc = node_options_take_bool(options, "read-only", &node->read_only, err);
    if (rc < 0)
        return rc;
    if (!(node->driver->flags & BLOCK_DRIVER_PROTOCOL))
        take_passed_down(options);
    if (!node->driver->co_write && !node->read_only)
        return error_set(err, -EROFS, "'%s': the driver %s can only read; open it read-only",
                         node->name, node->driver->name);

    rc = node->driver->co_open(node, options, err);
    if (rc < 0)
        return rc;
    node->opened = true;
    rc = check_opened(node, err);
    if (rc < 0)
        return rc;
    char owner[64];
    snprintf(owner, sizeof(owner), "the driver %s", node->driver->name);
    return node_options_check_all_taken(options, owner, err);
}

/* Takes options in any case. is_guess: the driver is what probing came to. */
static int co_open(struct block_env *env, struct node_options *options,
                   const struct block_node *parent, bool is_guess, struct block_node **ret_node,
                   struct error *err)
{
    const struct block_driver *driver = NULL;
    struct block_node *node = NULL;
    assert(coroutine_inside());
    int rc = take_driver(env, options, &driver, err);
    if (rc < 0)
        goto out;
    if (parent && parent->depth >= BLOCK_GRAPH_DEPTH_MAX) {
        rc = error_set(err, -ELOOP,
                       "'%s' has more than %d nodes below each other; does an image "
                       "name itself?",
                       parent->name, BLOCK_GRAPH_DEPTH_MAX);
        goto out;
    }
    node = node_new(env, driver, parent);
    if (!node) {
        rc = error_set(err, -ENOMEM, "no memory to open a node with the driver %s", driver->name);
        goto out;
    }
    node->is_guess = is_guess;
    rc = node_co_open(node, options, parent, err);
    if (rc < 0)
        node_co_free(node);
    else
        *ret_node = node;
out:
    node_options_free(options);
    return rc;
}

int block_co_open(struct block_env *env, struct node_options *options, struct block_node **ret_node,
                  struct error *err)
{
    return co_open(env, options, NULL, false, ret_node, err);
}

/* What of a child's options need not be said: a path alone is a file. */
static int complete_child(const struct block_node *parent, const struct node_options *options,
                          const char *key, struct node_options *subtree, struct error *err)
{
    const char *reference = node_options_get(options, key);
    if (reference)
        return error_set(err, -EINVAL,
                         "the option '%s' cannot be '%.100s': nodes have no names here; describe "
                         "the node by %s.driver and %s.filename",
                         key, reference, key, key);
    int rc = graph_pass_down(options, subtree, err);
    if (rc < 0 || node_options_has(subtree, "driver"))
        return rc;
    if (!node_options_has(subtree, "filename"))
        return error_set(err, -EINVAL, "the driver %s needs a node below it; say %s.filename=PATH",
                         parent->driver->name, key);
    return node_options_set(subtree, "driver", "file", err);
}

/* The child that holds the image's bytes serves every request of its parent. */
static int check_child_rights(const struct block_node *parent, const struct block_node *child,
                              const char *key, struct error *err)
{
    if (strcmp(key, "file") != 0 || parent->read_only || !child->read_only)
        return 0;
    return error_set(err, -EROFS,
                     "'%s' is read-only, but the node above it is to be written; say read-only=on "
                     "for both",
                     child->name);
}

int block_co_open_child(struct block_node *parent, struct node_options *options, const char *key,
                        struct block_node **ret_child, struct error *err)
{
    struct block_node *child = NULL;
    assert(parent->child_count < BLOCK_CHILDREN_MAX);
    assert(!parent->opened);
    struct node_options *subtree = node_options_take_subtree(options, key);
    if (!subtree)
        return error_set(err, -ENOMEM, "no memory to open the child '%s'", key);
    int rc = complete_child(parent, options, key, subtree, err);
    if (rc < 0) {
        node_options_free(subtree);
        return rc;
    }
    rc = co_open(parent->env, subtree, parent, false, &child, err);
    if (rc < 0)
        return rc;
    parent->children[parent->child_count++] = child;
    /* An image is spoken of by the name of the file that holds it. */
    if (strcmp(key, "file") == 0)
        (void)node_set_name(parent, child->name);
    rc = check_child_rights(parent, child, key, err);
    if (rc == 0)
        *ret_child = child;
    return rc;
}

/* --- images ---------------------------------------------------------------------------------- */

static int add_defaults(struct node_options *options, const char *filename, struct error *err)
{
    int rc = 0;
    if (!node_options_has(options, "file.driver"))
        rc = node_options_set(options, "file.driver", "file", err);
    if (rc == 0 && !node_options_has(options, "file.filename"))
        rc = node_options_set(options, "file.filename", filename, err);
    return rc;
}

int block_co_open_image(struct block_env *env, const char *filename, const char *format,
                        struct node_options *options, struct block_node **ret_node,
                        struct error *err)
{
    if (!format && node_options_has(options, "driver"))
        return block_co_open(env, options, ret_node, err);
    bool is_guess = !format;
    int rc = format ? graph_check_format(env, format, err) : 0;
    if (rc == 0)
        rc = add_defaults(options, filename, err);
    if (rc == 0 && is_guess) {
        rc = probe_co_image(env, node_options_get(options, "file.filename"), options, err);
        format = "raw";
    }
    if (rc == 0)
        rc = node_options_set(options, "driver", format, err);
    if (rc < 0) {
        node_options_free(options);
        return rc;
    }
    return co_open(env, options, NULL, is_guess, ret_node, err);
}
