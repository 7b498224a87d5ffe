/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A whole image. Input: the image's file; its last byte says whether it is opened for writing, and
 * whether as a snapshot. It is opened from memory as qcow2, read here and there, asked for its
 * extents, written and flushed, checked, and closed. Properties: a refusal says something; extents
 * are inside the disk; what is called zero reads as zeroes; the same range reads the same twice;
 * what was written is read.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

#include "block/driver.h"
#include "block/env.h"
#include "block/loop.h"
#include "block/node_options.h"
#include "block/workers.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/driver.h"

#define READ_BYTES 8192
#define EXTENTS_MAX 40

/* --- the file in memory -------------------------------------------------------------------------
 */

#define FILE_BYTES_MAX ((size_t)4 << 20)

static uint8_t *file_bytes; /* FILE_BYTES_MAX of them, zeroes from file_length on */
static size_t file_length;

static int memory_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    (void)err;
    node_options_take(options, "filename");
    node_options_take(options, "within");
    node_options_take(options, "allow-path");
    atomic_store(&node->size_bytes, file_length);
    return 0;
}

static void memory_co_close(struct block_node *node)
{
    (void)node;
}

static int memory_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    (void)node;
    FUZZ_CHECK(offset <= file_length && vec->length <= file_length - offset);
    vec_copy_from(vec, file_bytes + offset);
    return 0;
}

static int memory_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                           unsigned flags)
{
    (void)flags;
    if (offset > FILE_BYTES_MAX || vec->length > FILE_BYTES_MAX - offset)
        return -ENOSPC;
    vec_copy_to(vec, file_bytes + offset);
    if (offset + vec->length > file_length) {
        file_length = offset + vec->length;
        atomic_store(&node->size_bytes, file_length);
    }
    return 0;
}

static const struct block_driver memory_file = {
    .name = "file",
    .flags = BLOCK_DRIVER_PROTOCOL | BLOCK_DRIVER_GROWS,
    .co_write = memory_co_write,
    .co_open = memory_co_open,
    .co_close = memory_co_close,
    .co_read = memory_co_read,
};

/* A second image that a stored name leads to: none. */
static const struct block_driver *const drivers[] = {&format_qcow2, &memory_file, NULL};

/* Work is done on the spot: no threads, so that every run is the same. */
static void submit_now(struct workers *workers, struct worker_job *job)
{
    (void)workers;
    job->work(job);
    job->done(job);
}

static void free_nothing(struct workers *workers)
{
    (void)workers;
}

static const struct workers_ops workers_on_the_spot = {.submit = submit_now, .free = free_nothing};

/* --- what is done -------------------------------------------------------------------------------
 */

static struct loop *loop;
static struct workers workers = {.ops = &workers_on_the_spot};
static struct block_env env;

static int co_read(struct block_node *node, uint64_t offset, uint8_t *data, size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    return node_co_read(node, offset, &vec);
}

static void co_check_range(struct block_node *node, uint64_t offset, size_t length, bool is_zero)
{
    static uint8_t first[READ_BYTES], second[READ_BYTES];
    memset(first, 0xaa, length);
    memset(second, 0x55, length);
    int ret = co_read(node, offset, first, length);
    FUZZ_CHECK(ret == co_read(node, offset, second, length));
    if (ret < 0)
        return;
    FUZZ_CHECK(memcmp(first, second, length) == 0);
    for (size_t i = 0; i < length && is_zero; i++)
        FUZZ_CHECK(first[i] == 0);
}

static void co_walk(struct block_node *node)
{
    uint64_t size = atomic_load(&node->size_bytes);
    uint64_t at = 0;
    for (unsigned i = 0; i < EXTENTS_MAX && at < size; i++) {
        struct block_extent extent;
        if (node_co_status(node, at, size - at, &extent) < 0) {
            at += 65536;
            continue;
        }
        FUZZ_CHECK(extent.length >= 1 && extent.length <= size - at);
        struct block_extent remembered;
        node_status_remembered(node, at, extent.length, &remembered);
        FUZZ_CHECK(remembered.length >= 1 && remembered.length <= extent.length);
        FUZZ_CHECK((extent.flags & BLOCK_EXTENT_ZERO) || !(remembered.flags & BLOCK_EXTENT_ZERO));
        size_t length = extent.length < READ_BYTES ? (size_t)extent.length : READ_BYTES;
        co_check_range(node, at, length, extent.flags & BLOCK_EXTENT_ZERO);
        co_check_range(node, at + extent.length - length, length, extent.flags & BLOCK_EXTENT_ZERO);
        at += extent.length;
    }
    if (size > READ_BYTES)
        co_check_range(node, size - READ_BYTES, READ_BYTES, false);
}

static int co_write(struct block_node *node, uint64_t offset, uint8_t *data, size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    return node_co_write(node, offset, &vec, 0);
}

static void co_write_and_read(struct block_node *node, uint64_t offset, size_t length)
{
    static uint8_t written[READ_BYTES], read[READ_BYTES];
    memset(written, (int)(offset / 512) | 1, length);
    if (co_write(node, offset, written, length) < 0)
        return;
    if (co_read(node, offset, read, length) == 0)
        FUZZ_CHECK(memcmp(written, read, length) == 0);
}

static void co_change(struct block_node *node)
{
    uint64_t size = atomic_load(&node->size_bytes);
    for (uint64_t at = 0; at + READ_BYTES <= size && at < 16 * READ_BYTES; at += 3 * READ_BYTES / 2)
        co_write_and_read(node, at, at % 1024 ? 700 : READ_BYTES);
    if (size >= READ_BYTES) {
        co_write_and_read(node, size - READ_BYTES, READ_BYTES);
        node_co_zero(node, READ_BYTES / 2, READ_BYTES / 2, 0);
        node_co_discard(node, 0, READ_BYTES, 0);
    }
    node_co_flush(node);
    co_walk(node);
}

static void run(void *arg)
{
    struct block_node *node;
    struct qcow2_check check;
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    (void)arg;
    unsigned how = file_length > 0 ? file_bytes[file_length - 1] % 4 : 0;
    node_options_set(options, "read-only", how < 2 ? "on" : "off", NULL);
    if (how == 1)
        node_options_set(options, "load-snapshot", "1", NULL);
    if (block_co_open_image(&env, "fuzz.qcow2", "qcow2", options, &node, &err) < 0) {
        FUZZ_CHECK(err.message[0] != '\0');
        return;
    }
    co_walk(node);
    if (how >= 2)
        co_change(node);
    qcow2_co_check(node, NULL, NULL, &check, &err);
    block_co_node_unref(node);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!loop) {
        struct error err;
        FUZZ_CHECK(loop_new(&loop, 0, &poller_ev, &clock_monotonic, &err) == 0);
        file_bytes = malloc(FILE_BYTES_MAX);
        FUZZ_CHECK(file_bytes);
        FUZZ_CHECK(block_env_init(&env, &loop, 1, &workers, NULL, drivers, &err) == 0);
    }
    if (size > FILE_BYTES_MAX)
        return 0;
    memset(file_bytes, 0, FILE_BYTES_MAX);
    memcpy(file_bytes, data, size);
    file_length = size;
    FUZZ_CHECK(loop_run_co(loop, run, NULL) == 0);
    return 0;
}
