/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The format "raw": the image is the bytes of the file below, or a part of them, and nothing else.
 * It is the smallest driver there is; read it first, then block/driver.h, before you write another.
 * Options:
 *
 *   offset   the image begins at this byte of the file; 0 without it
 *   size     it is this long; without it, it goes on to the file's end
 *
 * A driver is a table of functions (at the end of this file) and some state a node: here, where the
 * image lies in the file. Each call gets the node; what the driver wants from the file below it
 * asks of the child `node->file` by the node_co_ functions, never of the host: so the same format
 * works on a local file, on a device, over a network, and in a test's memory. A call with `_co_` in
 * its name may wait, and is written as if it did not: straight on, one step after the other.
 */
#include "formats/raw.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "block/env.h"
#include "block/node_options.h"
#include "common/align.h"
#include "common/checked.h"
#include "formats/raw_guard.h"

struct raw {
    uint64_t start;         /* where in the file the image begins */
    bool is_fixed_size;     /* "size" was given */
    struct raw_guard guard; /* of a node whose format was guessed */
};

/* Where an offset in the image lies in the file. */
static uint64_t in_file(const struct block_node *node, uint64_t offset)
{
    const struct raw *raw = node->state;
    return raw->start + offset;
}

/* A part of the file, as the options ask for it. */
struct range {
    uint64_t start, size_bytes;
    bool is_fixed_size;
};

static int take_range(struct node_options *options, const struct block_node *file,
                      struct range *ret_range, struct error *err)
{
    uint64_t file_bytes = atomic_load(&file->size_bytes);
    uint64_t start = 0;
    bool is_fixed_size = node_options_has(options, "size");
    int ret = node_options_take_size(options, "offset", &start, err);
    if (ret < 0)
        return ret;
    if (start > file_bytes)
        return node_options_refuse(options, "offset", -EINVAL, err,
                                   "%" PRIu64 " is past the end of '%.200s', which has %" PRIu64
                                   " bytes; give one that is not larger",
                                   start, file->name, file_bytes);
    uint64_t size_bytes = file_bytes - start;
    ret = node_options_take_size(options, "size", &size_bytes, err);
    if (ret < 0)
        return ret;
    if (size_bytes > file_bytes - start)
        return node_options_refuse(options, "size", -EINVAL, err,
                                   "%" PRIu64 " at the offset %" PRIu64
                                   " reaches past the end of '%.200s', which has %" PRIu64
                                   " bytes; give at most %" PRIu64,
                                   size_bytes, start, file->name, file_bytes, file_bytes - start);
    *ret_range =
        (struct range){.start = start, .size_bytes = size_bytes, .is_fixed_size = is_fixed_size};
    return 0;
}

/* Blocks of the image are blocks of the file where the image begins with one; then what fits us
 * fits the child, and nothing is split or aligned twice. Where it does not, all is left to the
 * child. */
static struct block_limits limits_at(const struct block_limits *file, uint64_t start)
{
    if (is_aligned(start, file->request_alignment)) {
        struct block_limits limits = *file;
        if (limits.compress_bytes > 0 && !is_aligned(start, limits.compress_bytes))
            limits.compress_bytes = 0;
        return limits;
    }
    return (struct block_limits){
        .request_alignment = 1,
        .memory_alignment = 1,
        .preferred_bytes = file->preferred_bytes,
    };
}

/* Opens its child, takes what it understands of the options, and says how large the image is and
 * what may be asked of it. Who opens a node has its errors told to a person, so they are sentences.
 * On failure nothing of ours may be left behind; a child that was opened is closed by the graph. */
static int raw_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    struct range range = {0};
    int ret = block_co_open_child(node, options, "file", &node->file, err);
    if (ret == 0)
        ret = take_range(options, node->file, &range, err);
    if (ret < 0)
        return ret;
    struct raw *raw = malloc(sizeof(*raw));
    if (!raw)
        return error_set(err, -ENOMEM, "no memory to open '%s'", node->name);
    raw->start = range.start;
    raw->is_fixed_size = range.is_fixed_size;
    raw_guard_init(&raw->guard);
    node->state = raw;
    node->limits = limits_at(&node->file->limits, raw->start);
    atomic_store(&node->size_bytes, range.size_bytes);
    return 0;
}

/* The graph lets the children go. */
static void raw_co_close(struct block_node *node)
{
    struct raw *raw = node->state;
    raw_guard_fini(&raw->guard);
    free(raw);
    node->state = NULL;
}

/* Whether a change at this offset of the file needs the guard's leave. */
static bool is_guarded(const struct block_node *node, uint64_t file_offset)
{
    return node->is_guess && raw_guard_concerns(file_offset);
}

/* The data path. Bounds, alignment and overlap were seen to before a driver is called; it returns 0
 * or a negative errno. A format with a mapping would look up here where the range lies. */
static int raw_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    node_co_event(node, "read_aio");
    return node_co_read(node->file, in_file(node, offset), vec);
}

static int raw_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                        unsigned flags)
{
    struct raw *raw = node->state;
    uint64_t file_offset = in_file(node, offset);
    node_co_event(node, "write_aio");
    if (is_guarded(node, file_offset))
        return raw_guard_co_write(&raw->guard, node, file_offset, vec, flags);
    return node_co_write(node->file, file_offset, vec, flags);
}

static int raw_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    struct raw *raw = node->state;
    uint64_t file_offset = in_file(node, offset);
    if (is_guarded(node, file_offset))
        return raw_guard_co_zero(&raw->guard, node, file_offset, length, flags);
    return node_co_zero(node->file, file_offset, length, flags);
}

static int raw_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    uint64_t file_offset = in_file(node, offset);
    if (is_guarded(node, file_offset))
        return raw_guard_co_discard(node, file_offset, length);
    return node_co_discard(node->file, file_offset, length, 0);
}

static int raw_co_cache(struct block_node *node, uint64_t offset, uint64_t length)
{
    return node_co_cache(node->file, in_file(node, offset), length);
}

static int raw_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                         struct block_extent *ret_extent)
{
    return node_co_status(node->file, in_file(node, offset), length, ret_extent);
}

static int raw_co_statuses(struct block_node *node, uint64_t offset, uint64_t length,
                           struct block_extents *ret_extents)
{
    return node_co_statuses(node->file, in_file(node, offset), length, ret_extents);
}

static void raw_status_remembered(struct block_node *node, uint64_t offset, uint64_t length,
                                  struct block_extent *ret_extent)
{
    node_status_remembered(node->file, in_file(node, offset), length, ret_extent);
}

/* Where the range lies without a copy: in the child. */
static int raw_lend(struct block_node *node, uint64_t offset, uint64_t length,
                    struct block_loan *loan)
{
    return node_lend(node->file, in_file(node, offset), length, loan);
}

/* --- what a person asks for now and then --------------------------------------------------------
 */

static const struct block_driver *find_driver(const struct block_env *env, const char *name)
{
    for (const struct block_driver *const *driver = env->drivers; *driver; driver++) {
        if (strcmp((*driver)->name, name) == 0)
            return *driver;
    }
    return NULL;
}

/* A new raw image is a new file and nothing in it, so the options are the file's. */
static int raw_co_create(struct block_env *env, struct node_options *options, struct error *err)
{
    const struct block_driver *file = find_driver(env, "file");
    if (!file || !file->admin || !file->admin->co_create)
        return error_set(err, -ENOTSUP,
                         "cannot make a raw image: there is no driver 'file' that makes files");
    return file->admin->co_create(env, options, err);
}

static int raw_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err)
{
    const struct raw *raw = node->state;
    uint64_t file_bytes;
    if (raw->is_fixed_size)
        return error_set(err, -ENOTSUP,
                         "cannot resize '%s': its size was given as an option; leave that out",
                         node->name);
    if (!checked_add(raw->start, size_bytes, &file_bytes))
        return error_set(err, -EFBIG, "cannot resize '%s' to %" PRIu64 " bytes: too many",
                         node->name, size_bytes);
    int ret = node_co_resize(node->file, file_bytes, err);
    if (ret == 0)
        atomic_store(&node->size_bytes, size_bytes);
    return ret;
}

static int raw_co_stored_size(struct block_node *node, uint64_t *ret_size_bytes)
{
    const struct raw *raw = node->state;
    uint64_t file_bytes;
    if (raw->is_fixed_size) {
        *ret_size_bytes = atomic_load(&node->size_bytes);
        return 0;
    }
    int ret = node_co_stored_size(node->file, &file_bytes);
    if (ret == 0)
        *ret_size_bytes = file_bytes > raw->start ? file_bytes - raw->start : 0;
    return ret;
}

/* Of raw's own options none can be changed while it is open; those of its file are the file's
 * affair. */
static int raw_co_reopen_prepare(struct block_node *node, struct block_reopen *reopen,
                                 struct error *err)
{
    (void)node;
    (void)reopen;
    (void)err;
    return 0;
}

/* The file may want other blocks now. */
static void raw_co_reopen_commit(struct block_node *node, struct block_reopen *reopen)
{
    const struct raw *raw = node->state;
    (void)reopen;
    node->limits = limits_at(&node->file->limits, raw->start);
}

static bool raw_has_zero_init(struct block_node *node)
{
    const struct block_driver_admin *admin = node->file->driver->admin;
    return admin && admin->has_zero_init && admin->has_zero_init(node->file);
}

/* The points that tests can hook: see node_co_event() in block/driver.h. */
static const char *const raw_events[] = {"read_aio", "write_aio", NULL};

static const struct block_driver_admin raw_admin = {
    .events = raw_events,
    .co_create = raw_co_create,
    .co_resize = raw_co_resize,
    .co_stored_size = raw_co_stored_size,
    .co_reopen_prepare = raw_co_reopen_prepare,
    .co_reopen_commit = raw_co_reopen_commit,
    .has_zero_init = raw_has_zero_init,
};

/* What is not here has a default, made in block/doorway: a NULL co_flush flushes the child; a NULL
 * probe is never asked, since any bytes at all are a raw image. BLOCK_DRIVER_FUA: the flag is
 * passed on, and the child sees to it. */
const struct block_driver format_raw = {
    .name = "raw",
    .flags = BLOCK_DRIVER_FUA,
    .co_open = raw_co_open,
    .co_close = raw_co_close,
    .co_read = raw_co_read,
    .co_write = raw_co_write,
    .co_zero = raw_co_zero,
    .co_discard = raw_co_discard,
    .co_cache = raw_co_cache,
    .co_status = raw_co_status,
    .co_statuses = raw_co_statuses,
    .status_remembered = raw_status_remembered,
    .lend = raw_lend,
    .admin = &raw_admin,
};
