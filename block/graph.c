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
        const struct block_driver *driver = env->drivers[i];
        if (strcmp(driver->name, name) == 0 || (driver->alias && strcmp(driver->alias, name) == 0))
            return driver;
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

#define NO_FORMAT (BLOCK_DRIVER_PROTOCOL | BLOCK_DRIVER_FILTER)

int graph_check_format(const struct block_env *env, const char *format, struct error *err)
{
    const struct block_driver *driver = graph_find_driver(env, format);
    if (driver && !(driver->flags & NO_FORMAT))
        return 0;
    char known[200];
    list_drivers(env, NO_FORMAT, known, sizeof(known));
    return error_set(err, -EINVAL,
                     "the image format '%.100s' is not supported; supported formats: %s", format,
                     known);
}

static int take_driver(const struct block_env *env, struct node_options *options,
                       const struct block_driver **ret_driver, struct error *err)
{
    char known[300];
    const char *name = NULL;
    int rc = node_options_take_string(options, "driver", &name, err);
    if (rc < 0)
        return rc;
    const struct block_driver *driver = name ? graph_find_driver(env, name) : NULL;
    if (driver) {
        *ret_driver = driver;
        return 0;
    }
    list_drivers(env, 0, known, sizeof(known));
    if (!name)
        return node_options_refuse(options, "driver", -EINVAL, err, "missing; say one of: %s",
                                   known);
    return node_options_refuse(options, "driver", -EINVAL, err,
                               "the driver '%.100s' is not known; known drivers: %s", name, known);
}

/* --- options that are passed down ------------------------------------------------------------- */

/* What is said of a node is true of the nodes below it, unless these say otherwise. A format does
 * nothing with it itself. */
static const char *const passed_down[] = {"cache.direct", "cache.no-flush", "discard",
                                          "aio",          "allow-path",     NULL};

int graph_pass_down(const struct node_options *options, struct node_options *child,
                    struct error *err)
{
    int rc = 0;
    for (unsigned i = 0; passed_down[i] && rc == 0; i++)
        rc = node_options_inherit(child, options, passed_down[i], err);
    return rc;
}

void graph_take_passed_down(struct node_options *options)
{
    for (unsigned i = 0; passed_down[i]; i++)
        node_options_take(options, passed_down[i]);
}

/* --- options of every node ----------------------------------------------------------------------
 */

/* Before the options that are passed down are taken: this one asks for one of them. */
static int take_detect_zeroes(struct block_node *node, struct node_options *options,
                              struct error *err)
{
    static const char *const names[] = {
        [BLOCK_DETECT_OFF] = "off",
        [BLOCK_DETECT_ON] = "on",
        [BLOCK_DETECT_UNMAP] = "unmap",
        NULL,
    };
    unsigned index = BLOCK_DETECT_OFF;
    int rc = node_options_take_choice(options, "detect-zeroes", names, &index, err);
    if (rc < 0)
        return rc;
    node->detect_zeroes = (enum block_detect_zeroes)index;
    const char *discard = node_options_get(options, "discard");
    bool may_unmap = discard && (strcmp(discard, "unmap") == 0 || strcmp(discard, "on") == 0);
    if (index == BLOCK_DETECT_UNMAP && !may_unmap)
        return node_options_refuse(options, "detect-zeroes", -EINVAL, err,
                                   "cannot be unmap where a discard is ignored; say discard=unmap "
                                   "too (--discard=unmap)");
    return 0;
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
    assert(is_aligned(limits->discard_bytes_max, limits->request_alignment));
    assert(!(node->driver->flags & BLOCK_DRIVER_PROTOCOL) || node->child_count == 0);
    if (node_size(node) > NODE_SIZE_MAX)
        return error_set(err, -EFBIG,
                         "'%s' has a size of %llu bytes; the most that is served is %llu",
                         node_label(node), (unsigned long long)node_size(node),
                         (unsigned long long)NODE_SIZE_MAX);
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
    rc = take_detect_zeroes(node, options, err);
    if (rc == 0)
        rc = node_names_take(node, options, err);
    if (rc < 0)
        return rc;
    if (!(node->driver->flags & BLOCK_DRIVER_PROTOCOL))
        graph_take_passed_down(options);
    if (!node->driver->co_write && !node->read_only)
        return node_options_refuse(options, "read-only", -EROFS, err,
                                   "must be on for '%.200s': the driver %s can only read",
                                   node_label(node), node->driver->name);

    rc = node->driver->co_open(node, options, err);
    if (rc < 0)
        return rc;
    node->opened = true;
    if (node->driver->admin && node->driver->admin->co_event)
        node->event_filter = node;
    rc = check_opened(node, err);
    if (rc < 0)
        return rc;
    char owner[64];
    snprintf(owner, sizeof(owner), "the driver %s", node->driver->name);
    rc = node_options_check_all_taken(options, owner, err);
    if (rc == 0)
        node_names_publish(node);
    return rc;
}

/* Where in the graph a node is opened, and how its driver came to be known. */
struct place {
    const struct block_node *parent; /* NULL on top */
    bool is_image;
    bool is_guess;              /* the driver is what probing came to */
    struct block_node *backing; /* the image's, whatever is said; NULL: as it is said */
};

/* Takes options in any case. */
static int co_open(struct block_env *env, struct node_options *options, const struct place *place,
                   struct block_node **ret_node, struct error *err)
{
    const struct block_driver *driver = NULL;
    const struct block_node *parent = place->parent;
    struct block_node *node = NULL;
    assert(coroutine_inside());
    int rc = take_driver(env, options, &driver, err);
    if (rc < 0)
        goto out;
    if (parent && parent->depth >= BLOCK_GRAPH_DEPTH_MAX) {
        rc = node_options_refuse(options, "", -ELOOP, err,
                                 "more than %d nodes below each other; does an image name itself?",
                                 BLOCK_GRAPH_DEPTH_MAX);
        goto out;
    }
    node = node_new(env, driver, parent);
    if (!node) {
        rc = error_set(err, -ENOMEM, "no memory to open a node with the driver %s", driver->name);
        goto out;
    }
    node->is_image = place->is_image;
    node->is_guess = place->is_guess;
    node->given_backing = place->backing;
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
    return co_open(env, options, &(struct place){.is_image = true}, ret_node, err);
}

/* How many nodes are below each other, from this one on. */
static unsigned height_of(const struct block_node *node)
{
    unsigned highest = 0;
    for (unsigned i = 0; i < node->child_count; i++) {
        unsigned height = height_of(node->children[i]);
        highest = height > highest ? height : highest;
    }
    return highest + 1;
}

int block_co_open_above(struct block_env *env, struct node_options *options, const char *name,
                        struct block_node *backing, struct block_node **ret_node, struct error *err)
{
    struct place place = {.is_image = true, .backing = backing};
    if (height_of(backing) >= BLOCK_GRAPH_DEPTH_MAX) {
        node_options_free(options);
        return error_set(err, -ELOOP,
                         "'%s' has %d nodes below each other already, which is the limit",
                         node_label(backing), BLOCK_GRAPH_DEPTH_MAX);
    }
    int rc = co_open(env, options, &place, ret_node, err);
    if (rc < 0)
        backing->parent = NULL;
    else
        (void)node_set_name(*ret_node, name);
    return rc;
}

/* --- images ---------------------------------------------------------------------------------- */

/* What is no file or device has no path, or, as a filter, further down. */
static bool has_path(const struct block_env *env, const char *driver_name)
{
    const struct block_driver *driver = graph_find_driver(env, driver_name);
    return strcmp(driver_name, "file") == 0 || (driver && driver->probe_path);
}

/* filename may be NULL. */
static int co_add_defaults(const struct block_env *env, struct node_options *options,
                           const char *filename, struct error *err)
{
    const char *driver = node_options_get(options, "file.driver");
    bool is_wanted = filename && !node_options_has(options, "file.filename") &&
                     (!driver || has_path(env, driver));
    int rc = is_wanted ? node_options_set(options, "file.filename", filename, err) : 0;
    if (rc < 0 || driver)
        return rc;
    const char *path = node_options_get(options, "file.filename");
    return node_options_set(options, "file.driver", path ? graph_co_protocol_of(env, path) : "file",
                            err);
}

/* Options without a driver, whose file is below "file". Takes them in any case. */
static int co_open_probed(struct block_env *env, struct node_options *options, const char *filename,
                          const struct block_node *parent, struct block_node **ret_node,
                          struct error *err)
{
    int rc = co_add_defaults(env, options, filename, err);
    const char *path = node_options_get(options, "file.filename"), *driver = NULL;
    if (rc == 0)
        rc = probe_co_image(env,
                            path       ? path
                            : filename ? filename
                                       : "the image",
                            options, &driver, err);
    if (rc == 0)
        rc = node_options_set(options, "driver", driver, err);
    if (rc < 0) {
        node_options_free(options);
        return rc;
    }
    struct place place = {.parent = parent, .is_image = true, .is_guess = true};
    return co_open(env, options, &place, ret_node, err);
}

int block_co_open_image(struct block_env *env, const char *filename, const char *format,
                        struct node_options *options, struct block_node **ret_node,
                        struct error *err)
{
    if (!format && node_options_has(options, "driver"))
        return block_co_open(env, options, ret_node, err);
    if (!format)
        return co_open_probed(env, options, filename, NULL, ret_node, err);
    int rc = graph_check_format(env, format, err);
    if (rc == 0)
        rc = co_add_defaults(env, options, filename, err);
    if (rc == 0)
        rc = node_options_set(options, "driver", format, err);
    if (rc < 0) {
        node_options_free(options);
        return rc;
    }
    return block_co_open(env, options, ret_node, err);
}

/* --- children -------------------------------------------------------------------------------- */

static int refuse_reference(const struct node_options *options, const char *key,
                            const char *reference, struct error *err)
{
    char child[NODE_OPTIONS_WHOLE_PATH_MAX];
    node_options_whole_path(options, key, child, sizeof(child));
    return node_options_refuse(options, key, -EINVAL, err,
                               "cannot be '%.100s': a node has one place in a graph, and is not "
                               "named for another; describe it here by %.160s.driver and "
                               "%.160s.filename",
                               reference, child, child);
}

/* The options of the child under key, moved out of its parent's. */
static int take_child(const struct block_node *parent, struct node_options *options,
                      const char *key, struct node_options **ret_subtree, struct error *err)
{
    const char *reference = node_options_get(options, key);
    if (reference)
        return refuse_reference(options, key, reference, err);
    struct node_options *subtree = node_options_take_subtree(options, key);
    if (!subtree)
        return error_set(err, -ENOMEM, "no memory to open the child '%s' of '%s'", key,
                         parent->name);
    *ret_subtree = subtree;
    return 0;
}

static int refuse_missing(const struct block_node *parent, const struct node_options *subtree,
                          struct error *err)
{
    char child[NODE_OPTIONS_WHOLE_PATH_MAX];
    node_options_whole_path(subtree, "", child, sizeof(child));
    if (node_options_is_empty(subtree))
        return node_options_refuse(
            subtree, "", -EINVAL, err,
            "missing; the driver %s needs a node below it; say %.160s.filename=PATH",
            parent->driver->name, child);
    return node_options_refuse(subtree, "filename", -EINVAL, err,
                               "missing; say the path of a file, or %.160s.driver for another kind "
                               "of node",
                               child);
}

/* Also where it is of the wrong type: whoever opens the node says so. */
static bool names_driver(const struct node_options *options)
{
    return node_options_has(options, "driver") || node_options_has_below(options, "driver");
}

/* What of a child's options need not be said: a path alone is a file or a device. */
static int co_complete_file(const struct block_node *parent, struct node_options *subtree,
                            struct error *err)
{
    if (names_driver(subtree))
        return 0;
    if (!node_options_has(subtree, "filename"))
        return refuse_missing(parent, subtree, err);
    const char *path = node_options_get(subtree, "filename");
    return node_options_set(subtree, "driver", graph_co_protocol_of(parent->env, path), err);
}

/* In an image's place a path alone is an image. Its options go to the file that holds it, what is
 * said of rights to both; the name is the image's. */
static int complete_image(const struct block_node *parent, struct node_options *subtree,
                          struct error *err)
{
    if (node_options_has(subtree, "file.filename") || node_options_has(subtree, "file.driver"))
        return 0;
    if (!node_options_has(subtree, "filename"))
        return refuse_missing(parent, subtree, err);
    int rc = node_options_move_below(subtree, "file", err);
    const char *read_only = node_options_get(subtree, "file.read-only");
    if (rc == 0 && read_only)
        rc = node_options_set(subtree, "read-only", read_only, err);
    if (rc == 0)
        rc = node_options_move(subtree, "file.node-name", "node-name", err);
    return rc;
}

static int check_child_rights(const struct block_node *parent, const struct node_options *options,
                              const char *key, const struct block_node *child, struct error *err)
{
    char path[64];
    if (parent->read_only || !child->read_only)
        return 0;
    snprintf(path, sizeof(path), "%s.read-only", key);
    return node_options_refuse(options, path, -EROFS, err,
                               "'%.200s' is read-only, but the node above it is to be written; say "
                               "read-only=on for both",
                               node_label(child));
}

/* Hangs an open child below its parent. */
static int adopt(struct block_node *parent, const struct node_options *options, const char *key,
                 bool is_main, struct block_node *child, struct error *err)
{
    assert(strlen(key) < BLOCK_CHILD_KEY_BYTES);
    strcpy(parent->child_keys[parent->child_count], key);
    parent->children[parent->child_count++] = child;
    child->parent = parent;
    if (strcmp(key, "backing") == 0)
        parent->backing = child;
    if (!is_main)
        return 0;
    /* An image is spoken of by the name of the file that holds it. */
    (void)node_set_name(parent, child->name);
    parent->event_filter = child->event_filter;
    return check_child_rights(parent, options, key, child, err);
}

int block_co_open_child(struct block_node *parent, struct node_options *options, const char *key,
                        struct block_node **ret_child, struct error *err)
{
    struct node_options *subtree = NULL;
    struct block_node *child;
    assert(parent->child_count < BLOCK_CHILDREN_MAX);
    assert(!parent->opened);
    int rc = take_child(parent, options, key, &subtree, err);
    if (rc < 0)
        return rc;
    rc = co_complete_file(parent, subtree, err);
    if (rc == 0)
        rc = graph_pass_down(options, subtree, err);
    if (rc < 0) {
        node_options_free(subtree);
        return rc;
    }
    rc = co_open(parent->env, subtree, &(struct place){.parent = parent}, &child, err);
    /* The child that holds the image's bytes serves every request of its parent. */
    if (rc == 0)
        rc = adopt(parent, options, key, strcmp(key, "file") == 0, child, err);
    if (rc == 0)
        *ret_child = child;
    return rc;
}

int block_co_open_image_child(struct block_node *parent, struct node_options *options,
                              const char *key, const char *filename, const char *format,
                              struct block_node **ret_child, struct error *err)
{
    struct node_options *subtree = NULL;
    struct block_node *child;
    assert(parent->child_count < BLOCK_CHILDREN_MAX);
    assert(!parent->opened);
    if (parent->given_backing && strcmp(key, "backing") == 0) {
        *ret_child = block_node_ref(parent->given_backing);
        return adopt(parent, options, key, false, *ret_child, err);
    }
    int rc = take_child(parent, options, key, &subtree, err);
    if (rc < 0)
        return rc;
    bool is_probed = !format && !names_driver(subtree);
    if (format && !names_driver(subtree)) {
        rc = graph_check_format(parent->env, format, err);
        if (rc == 0)
            rc = node_options_set(subtree, "driver", format, err);
    }
    if (rc == 0 && filename)
        rc = co_add_defaults(parent->env, subtree, filename, err);
    if (rc == 0)
        rc = graph_pass_down(options, subtree, err);
    if (rc < 0) {
        node_options_free(subtree);
        return rc;
    }
    struct place place = {.parent = parent, .is_image = true};
    rc = is_probed ? co_open_probed(parent->env, subtree, filename, parent, &child, err)
                   : co_open(parent->env, subtree, &place, &child, err);
    if (rc == 0)
        rc = adopt(parent, options, key, false, child, err);
    if (rc == 0)
        *ret_child = child;
    return rc;
}

int block_co_open_filtered(struct block_node *parent, struct node_options *options, const char *key,
                           struct block_node **ret_child, struct error *err)
{
    struct node_options *subtree = NULL;
    struct block_node *child;
    assert(parent->child_count < BLOCK_CHILDREN_MAX);
    assert(!parent->opened && (parent->driver->flags & BLOCK_DRIVER_FILTER));
    int rc = take_child(parent, options, key, &subtree, err);
    if (rc < 0)
        return rc;
    bool is_probed = parent->is_image && !names_driver(subtree);
    rc = is_probed ? complete_image(parent, subtree, err) : co_complete_file(parent, subtree, err);
    if (rc == 0)
        rc = graph_pass_down(options, subtree, err);
    if (rc < 0) {
        node_options_free(subtree);
        return rc;
    }
    struct place place = {.parent = parent, .is_image = parent->is_image};
    rc = is_probed ? co_open_probed(parent->env, subtree, NULL, parent, &child, err)
                   : co_open(parent->env, subtree, &place, &child, err);
    if (rc == 0)
        rc = adopt(parent, options, key, true, child, err);
    if (rc == 0)
        *ret_child = child;
    return rc;
}
