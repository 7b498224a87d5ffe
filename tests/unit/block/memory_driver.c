/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/block/memory_driver.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/coroutine.h"
#include "common/align.h"
#include "common/checked.h"

void memory_disk_init(struct memory_disk *disk, uint64_t size_bytes, uint64_t capacity_bytes,
                      uint64_t seed)
{
    memset(disk, 0, sizeof(*disk));
    disk->size_bytes = size_bytes;
    disk->capacity_bytes = capacity_bytes;
    disk->limits = (struct block_limits){.request_alignment = 1, .memory_alignment = 1};
    pthread_mutex_init(&disk->mutex, NULL);
    disk->data = calloc(1, capacity_bytes + 1);
    assert(disk->data);
    random_seed(&disk->random, seed);
    co_queue_init(&disk->held);
    memory_kept_init(&disk->kept);
    disk->fail_at_call = UINT64_MAX;
    disk->fail_from_call = UINT64_MAX;
    disk->lends_refused_from = UINT_MAX;
}

void memory_disk_fini(struct memory_disk *disk)
{
    assert(disk->held_count == 0);
    memory_kept_fini(&disk->kept);
    pthread_mutex_destroy(&disk->mutex);
    free(disk->data);
}

void memory_disk_forget_calls(struct memory_disk *disk)
{
    pthread_mutex_lock(&disk->mutex);
    memset(disk->counts, 0, sizeof(disk->counts));
    disk->log_count = 0;
    disk->call_count = 0;
    pthread_mutex_unlock(&disk->mutex);
}

void memory_disk_hold(struct memory_disk *disk, unsigned ops)
{
    pthread_mutex_lock(&disk->mutex);
    disk->hold_ops = ops;
    pthread_mutex_unlock(&disk->mutex);
}

void memory_disk_release(struct memory_disk *disk)
{
    pthread_mutex_lock(&disk->mutex);
    disk->hold_ops = 0;
    co_queue_wake_all(&disk->held);
    pthread_mutex_unlock(&disk->mutex);
}

void memory_disk_co_wait_held(struct memory_disk *disk, unsigned count)
{
    for (unsigned turns = 0;; turns++) {
        pthread_mutex_lock(&disk->mutex);
        unsigned held = disk->held_count;
        pthread_mutex_unlock(&disk->mutex);
        if (held == count)
            return;
        assert(held < count && turns < 10000000);
        coroutine_co_pause();
    }
}

void memory_disk_options(struct memory_disk *disk, struct node_options *options, const char *prefix,
                         const char *driver)
{
    char path[64], value[32];
    snprintf(path, sizeof(path), "%sdriver", prefix);
    int rc = node_options_set(options, path, driver, NULL);
    snprintf(path, sizeof(path), "%sdisk", prefix);
    snprintf(value, sizeof(value), "%" PRIxPTR, (uintptr_t)disk);
    if (rc == 0)
        rc = node_options_set(options, path, value, NULL);
    assert(rc == 0);
    (void)rc;
}

/* --- the disk's driver ----------------------------------------------------------------------- */

static void co_pause_somewhat(struct memory_disk *disk)
{
    if (disk->pauses_max == 0)
        return;
    pthread_mutex_lock(&disk->mutex);
    uint64_t pauses = random_below(&disk->random, disk->pauses_max + 1);
    pthread_mutex_unlock(&disk->mutex);
    for (uint64_t i = 0; i < pauses; i++)
        coroutine_co_pause();
}

/* Counts, logs, holds up, and says what the call answers: 0 or its injected error. */
static int co_begin_call(struct memory_disk *disk, enum memory_op op, uint64_t offset,
                         uint64_t length, unsigned flags)
{
    pthread_mutex_lock(&disk->mutex);
    bool fails = disk->fail_code < 0 &&
                 ((disk->fail_ops & (1u << op)) || disk->call_count == disk->fail_at_call ||
                  disk->call_count >= disk->fail_from_call);
    void (*at_call)(struct memory_disk *) =
        disk->call_count == disk->fail_at_call ? disk->at_call : NULL;
    disk->call_count++;
    disk->active_count++;
    disk->active_flush_count += op == MEMORY_FLUSH;
    disk->counts[op]++;
    if (disk->log_count < MEMORY_LOG_MAX)
        disk->log[disk->log_count++] = (struct memory_call){
            .op = op, .offset = offset, .length = length, .flags = flags, .co = coroutine_self()};
    disk->held_count++;
    while (disk->hold_ops & (1u << op))
        co_queue_wait(&disk->held, &disk->mutex);
    disk->held_count--;
    pthread_mutex_unlock(&disk->mutex);
    if (at_call)
        at_call(disk);
    co_pause_somewhat(disk);
    return fails ? disk->fail_code : 0;
}

static void co_end_call(struct memory_disk *disk, enum memory_op op)
{
    co_pause_somewhat(disk);
    pthread_mutex_lock(&disk->mutex);
    disk->active_count--;
    disk->active_flush_count -= op == MEMORY_FLUSH;
    pthread_mutex_unlock(&disk->mutex);
}

static int memory_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    uintptr_t address = 0;
    const char *value = node_options_take(options, "disk");
    node_options_take(options, "filename");
    const char *discard = node_options_get(options, "discard");
    if (discard && (strcmp(discard, "unmap") == 0 || strcmp(discard, "on") == 0))
        node_options_take(options, "discard");
    if (!value || sscanf(value, "%" SCNxPTR, &address) != 1)
        return error_set(err, -EINVAL, "the option 'disk' names no disk in memory");
    struct memory_disk *disk = (void *)address;
    int rc = co_begin_call(disk, MEMORY_OPEN, 0, 0, node->read_only);
    co_end_call(disk, MEMORY_OPEN);
    if (rc < 0)
        return error_set(err, rc, "'%s' cannot be opened", node->name);
    node->state = disk;
    node->limits = disk->limits;
    atomic_store(&node->size_bytes, disk->size_bytes);
    return 0;
}

static void memory_co_close(struct block_node *node)
{
    co_begin_call(node->state, MEMORY_CLOSE, 0, 0, 0);
    co_end_call(node->state, MEMORY_CLOSE);
}

static int memory_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    struct memory_disk *disk = node->state;
    int rc = co_begin_call(disk, MEMORY_READ, offset, vec->length, 0);
    pthread_mutex_lock(&disk->mutex);
    if (rc == 0)
        vec_copy_from(vec, disk->data + offset);
    pthread_mutex_unlock(&disk->mutex);
    co_end_call(disk, MEMORY_READ);
    return rc;
}

/* The mutex is held. */
static int grow_to(struct block_node *node, uint64_t end)
{
    struct memory_disk *disk = node->state;
    if (end > disk->capacity_bytes)
        return -ENOSPC;
    if (end > disk->size_bytes) {
        disk->size_bytes = end;
        atomic_store(&node->size_bytes, end);
    }
    return 0;
}

static int memory_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                           unsigned flags)
{
    struct memory_disk *disk = node->state;
    int rc = co_begin_call(disk, MEMORY_WRITE, offset, vec->length, flags);
    pthread_mutex_lock(&disk->mutex);
    if (rc == 0)
        rc = grow_to(node, offset + vec->length);
    if (rc == 0)
        vec_copy_to(vec, disk->data + offset);
    pthread_mutex_unlock(&disk->mutex);
    co_end_call(disk, MEMORY_WRITE);
    return rc;
}

static int memory_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err)
{
    struct memory_disk *disk = node->state;
    int rc = co_begin_call(disk, MEMORY_RESIZE, size_bytes, 0, 0);
    pthread_mutex_lock(&disk->mutex);
    if (rc == 0 && size_bytes > disk->capacity_bytes)
        rc = -ENOSPC;
    if (rc == 0) {
        if (size_bytes < disk->size_bytes)
            memset(disk->data + size_bytes, 0, disk->size_bytes - size_bytes);
        disk->size_bytes = size_bytes;
        atomic_store(&node->size_bytes, size_bytes);
    }
    pthread_mutex_unlock(&disk->mutex);
    co_end_call(disk, MEMORY_RESIZE);
    return rc < 0 ? error_set(err, rc, "cannot resize '%s'", node->name) : 0;
}

static int memory_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    struct memory_disk *disk = node->state;
    int rc = co_begin_call(disk, MEMORY_ZERO, offset, length, flags);
    if (rc == 0 && disk->refuses_zero)
        rc = -ENOTSUP;
    pthread_mutex_lock(&disk->mutex);
    if (rc == 0)
        rc = grow_to(node, offset + length);
    if (rc == 0)
        memset(disk->data + offset, 0, length);
    pthread_mutex_unlock(&disk->mutex);
    co_end_call(disk, MEMORY_ZERO);
    return rc;
}

static int memory_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct memory_disk *disk = node->state;
    int rc = co_begin_call(disk, MEMORY_DISCARD, offset, length, 0);
    pthread_mutex_lock(&disk->mutex);
    if (rc == 0)
        memset(disk->data + offset, 0, length);
    pthread_mutex_unlock(&disk->mutex);
    co_end_call(disk, MEMORY_DISCARD);
    return rc;
}

static int memory_co_flush(struct block_node *node)
{
    int rc = co_begin_call(node->state, MEMORY_FLUSH, 0, 0, 0);
    co_end_call(node->state, MEMORY_FLUSH);
    return rc;
}

static int memory_co_cache(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct memory_disk *disk = node->state;
    int rc = co_begin_call(disk, MEMORY_CACHE, offset, length, 0);
    co_end_call(disk, MEMORY_CACHE);
    return rc == 0 && disk->refuses_cache ? -ENOTSUP : rc;
}

static int memory_lend(struct block_node *node, uint64_t offset, uint64_t length,
                       struct block_loan *loan)
{
    struct memory_disk *disk = node->state;
    if (loan->copy_to ? !disk->lends_copies : disk->lend_fd == 0)
        return -ENOTSUP;
    if (disk->lend_count >= disk->lends_refused_from)
        return -EAGAIN;
    disk->lend_count++;
    if (loan->copy_to) {
        if (disk->at_copy)
            disk->at_copy(disk);
        if (disk->lend_bytes_max > 0 && length > disk->lend_bytes_max)
            length = disk->lend_bytes_max;
        memcpy(loan->copy_to, disk->data + offset, length);
        loop_count_work(loop_current(), length);
    }
    loan->use(loan, disk->lend_fd, offset, length);
    return 0;
}

/* A block of so many bytes that is all zero is a hole. */
static void find_extent(struct memory_disk *disk, uint64_t offset, uint64_t length, uint32_t bytes,
                        struct block_extent *ret_extent)
{
    static const uint8_t zeroes[4096];
    uint64_t block = align_down(offset, bytes);
    uint64_t left = block + bytes - offset;
    pthread_mutex_lock(&disk->mutex);
    bool is_hole =
        block + bytes <= disk->size_bytes && memcmp(disk->data + block, zeroes, bytes) == 0;
    pthread_mutex_unlock(&disk->mutex);
    ret_extent->length = left < length ? left : length;
    ret_extent->flags = is_hole ? BLOCK_EXTENT_ZERO : BLOCK_EXTENT_ALLOCATED;
}

static int memory_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                            struct block_extent *ret_extent)
{
    struct memory_disk *disk = node->state;
    int rc = co_begin_call(disk, MEMORY_STATUS, offset, length, 0);
    co_end_call(disk, MEMORY_STATUS);
    if (rc == 0)
        find_extent(disk, offset, length, 16, ret_extent);
    return rc;
}

static void memory_status_remembered(struct block_node *node, uint64_t offset, uint64_t length,
                                     struct block_extent *ret_extent)
{
    struct memory_disk *disk = node->state;
    if (disk->remembers_holes)
        find_extent(disk, offset, length, 4096, ret_extent);
}

/* --- the format that hands on ---------------------------------------------------------------- */

static int pass_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    int rc = block_co_open_child(node, options, "file", &node->file, err);
    if (rc < 0)
        return rc;
    atomic_store(&node->size_bytes, atomic_load(&node->file->size_bytes));
    return 0;
}

static void pass_co_close(struct block_node *node)
{
    (void)node;
}

static int pass_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    return node_co_read(node->file, offset, vec);
}

static int pass_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                         unsigned flags)
{
    return node_co_write(node->file, offset, vec, flags);
}

static int pass_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    return node_co_zero(node->file, offset, length, flags);
}

static int pass_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    return node_co_discard(node->file, offset, length, 0);
}

static int pass_co_cache(struct block_node *node, uint64_t offset, uint64_t length)
{
    return node_co_cache(node->file, offset, length);
}

static int pass_lend(struct block_node *node, uint64_t offset, uint64_t length,
                     struct block_loan *loan)
{
    return node_lend(node->file, offset, length, loan);
}

static int pass_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                          struct block_extent *ret_extent)
{
    return node_co_status(node->file, offset, length, ret_extent);
}

static int memory_co_keep(struct block_node *node, size_t length, bool only_look,
                          struct kept_memory **ret_kept, struct error *err)
{
    struct memory_disk *disk = node->state;
    return memory_kept_open(&disk->kept, length, only_look, ret_kept, err);
}

/* --- tables ---------------------------------------------------------------------------------- */

#define MEMORY_CALLS                                                                   \
    .co_open = memory_co_open, .co_close = memory_co_close, .co_read = memory_co_read, \
    .co_write = memory_co_write

#define MEMORY_MORE_CALLS                                                                    \
    .co_zero = memory_co_zero, .co_discard = memory_co_discard, .co_flush = memory_co_flush, \
    .co_status = memory_co_status, .co_cache = memory_co_cache, .lend = memory_lend,         \
    .status_remembered = memory_status_remembered

static const struct block_driver_admin memory_file_admin = {.co_keep = memory_co_keep};

static const struct block_driver memory_file = {.name = "file",
                                                .flags = BLOCK_DRIVER_PROTOCOL,
                                                .admin = &memory_file_admin,
                                                MEMORY_CALLS,
                                                MEMORY_MORE_CALLS};

static const struct block_driver_admin memory_growing_admin = {.co_resize = memory_co_resize,
                                                               .co_keep = memory_co_keep};

static const struct block_driver memory_growing = {.name = "growing",
                                                   .flags = BLOCK_DRIVER_PROTOCOL |
                                                            BLOCK_DRIVER_GROWS | BLOCK_DRIVER_FUA,
                                                   .admin = &memory_growing_admin,
                                                   MEMORY_CALLS,
                                                   MEMORY_MORE_CALLS};

static const struct block_driver memory_bare = {
    .name = "bare", .flags = BLOCK_DRIVER_PROTOCOL, MEMORY_CALLS};

static const struct block_driver memory_pass = {
    .name = "pass",
    .flags = BLOCK_DRIVER_FUA,
    .co_open = pass_co_open,
    .co_close = pass_co_close,
    .co_read = pass_co_read,
    .co_write = pass_co_write,
    .co_zero = pass_co_zero,
    .co_discard = pass_co_discard,
    .co_status = pass_co_status,
    .co_cache = pass_co_cache,
    .lend = pass_lend,
};

const struct block_driver *const memory_drivers[] = {&memory_file, &memory_growing, &memory_bare,
                                                     &memory_pass, NULL};
