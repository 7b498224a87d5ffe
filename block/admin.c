/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a person asks for now and then: new images, new sizes. The way from the caller to the
 * driver's second table, with the same checks before and after as a request has.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "block/backend.h"
#include "block/coroutine.h"
#include "block/env.h"
#include "block/graph.h"
#include "block/node.h"
#include "block/node_options.h"
#include "block/tracked.h"

static int create(struct block_env *env, struct node_options *options, struct error *err)
{
    const char *name = node_options_take(options, "driver");
    if (!name)
        return error_set(err, -EINVAL, "a new image needs the option 'driver': its format");
    const struct block_driver *driver = graph_find_driver(env, name);
    if (!driver)
        return graph_check_format(env, name, err);
    if (!driver->admin || !driver->admin->co_create)
        return error_set(err, -ENOTSUP, "the driver %s cannot make new images", name);
    return driver->admin->co_create(env, options, err);
}

int block_co_create(struct block_env *env, struct node_options *options, struct error *err)
{
    assert(coroutine_inside());
    int rc = create(env, options, err);
    node_options_free(options);
    return rc;
}

/* --- files for formats --------------------------------------------------------------------------
 */

static int file_options(const char *path, struct node_options **ret_options, struct error *err)
{
    struct node_options *options = node_options_new();
    int rc = options ? node_options_set(options, "driver", "file", err)
                     : error_set(err, -ENOMEM, "no memory to make '%s'", path);
    if (rc == 0)
        rc = node_options_set(options, "filename", path, err);
    if (rc == 0)
        *ret_options = options;
    else
        node_options_free(options);
    return rc;
}

int block_co_create_file(struct block_env *env, const char *path, uint64_t size_bytes,
                         struct error *err)
{
    return block_co_create_file_as(env, path, size_bytes, "off", err);
}

int block_co_create_file_as(struct block_env *env, const char *path, uint64_t size_bytes,
                            const char *preallocation, struct error *err)
{
    struct node_options *options = NULL;
    char size[24];
    int rc = file_options(path, &options, err);
    if (rc < 0)
        return rc;
    snprintf(size, sizeof(size), "%" PRIu64, size_bytes);
    rc = node_options_set(options, "size", size, err);
    if (rc == 0)
        rc = node_options_set(options, "preallocation", preallocation, err);
    if (rc < 0) {
        node_options_free(options);
        return rc;
    }
    return block_co_create(env, options, err);
}

int block_co_open_file(struct block_env *env, const char *path, struct block_node **ret_file,
                       struct error *err)
{
    struct node_options *options = NULL;
    int rc = file_options(path, &options, err);
    return rc < 0 ? rc : block_co_open(env, options, ret_file, err);
}

/* --- open images --------------------------------------------------------------------------------
 */

int block_co_check(struct block_node *node, block_check_report *report, void *arg,
                   struct block_check *ret_check, struct error *err)
{
    struct tracked_request request;
    const struct block_driver_admin *admin = node->driver->admin;
    assert(coroutine_inside());
    if (!admin || !admin->co_check)
        return error_set(err, -ENOTSUP, "cannot check '%s': the driver %s has nothing to check",
                         node_label(node), node->driver->name);
    node_hurry_begin(node);
    tracked_co_begin_exclusive(node, &request);
    int rc = admin->co_check(node, report, arg, ret_check, err);
    tracked_end(node, &request, false);
    node_hurry_end(node);
    return rc;
}

int node_co_alone(struct block_node *node, int (*co_run)(void *arg), void *arg)
{
    struct tracked_request request;
    node_hurry_begin(node);
    tracked_co_begin_exclusive(node, &request);
    int rc = co_run(arg);
    tracked_end(node, &request, true);
    node_hurry_end(node);
    return rc;
}

struct resize {
    struct block_node *node;
    uint64_t size_bytes;
    struct error *err;
};

static int co_resize_alone(void *arg)
{
    const struct resize *resize = arg;
    struct block_node *node = resize->node;
    int rc = node->driver->admin->co_resize(node, resize->size_bytes, resize->err);
    assert(rc < 0 || node_size(node) >= resize->size_bytes); /* a format may round up */
    return rc;
}

int node_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err)
{
    const struct block_driver_admin *admin = node->driver->admin;
    assert(coroutine_inside());
    if (node->read_only)
        return error_set(err, -EPERM, "cannot resize '%s': it is open read-only", node_label(node));
    if (!admin || !admin->co_resize)
        return error_set(err, -ENOTSUP, "cannot resize '%s': the driver %s has a fixed size",
                         node_label(node), node->driver->name);
    if (size_bytes > NODE_SIZE_MAX)
        return error_set(err, -EFBIG, "cannot resize '%s' to %llu bytes: the most is %llu",
                         node_label(node), (unsigned long long)size_bytes,
                         (unsigned long long)NODE_SIZE_MAX);
    return node_co_alone(node, co_resize_alone, &(struct resize){node, size_bytes, err});
}

int block_co_resize(struct block_backend *backend, uint64_t size_bytes, struct error *err)
{
    if (backend->read_only)
        return error_set(err, -EPERM, "cannot resize '%s': it is open read-only",
                         node_label(backend->node));
    if (backend->is_inactive)
        return error_set(err, -EPERM, "cannot resize '%s': it is inactive",
                         node_label(backend->node));
    return node_co_resize(backend->node, size_bytes, err);
}
