/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A whole image. Input: the image's file; its last byte says whether it is opened for writing, and
 * whether as a snapshot. It is opened from memory as qcow2, read here and there, asked for its
 * extents and its bitmaps, written (compressed too) and flushed, given other sizes, checked, and
 * closed. Properties: a refusal says something; extents are inside the disk; what is called zero
 * reads as zeroes; the same range reads the same twice; what was written is read.
 */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "block/chain.h"
#include "block/dirty_bitmap.h"
#include "block/node_options.h"
#include "common/zero_scan.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/resize.h"
#include "tests/fuzz/fuzz_image.h"

#define FILE_BYTES_MAX ((size_t)4 << 20)

/* A second image that a stored name leads to: none. */
static const struct block_driver *const drivers[] = {&format_qcow2, &fuzz_file, NULL};

static int co_transfer(struct block_node *node, bool is_write, uint64_t offset, uint8_t *data)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, FUZZ_BYTES);
    return is_write ? node_co_write(node, offset, &vec, BLOCK_COMPRESS)
                    : node_co_read(node, offset, &vec);
}

static void co_compress(struct block_node *node, uint64_t offset)
{
    static uint8_t written[FUZZ_BYTES], read[FUZZ_BYTES];
    memset(written, (int)(offset / 512) | 1, sizeof(written));
    if (co_transfer(node, true, offset, written) == 0 &&
        co_transfer(node, false, offset, read) == 0)
        FUZZ_CHECK(memcmp(written, read, sizeof(read)) == 0);
}

static void co_expect_zeroes(struct block_node *node, uint64_t offset)
{
    static uint8_t data[FUZZ_BYTES];
    if (co_transfer(node, false, offset, data) < 0)
        return;
    FUZZ_CHECK(zero_scan(data, sizeof(data)));
}

/* What is added reads as zeroes, whatever the tables had there. */
static void co_resize(struct block_node *node)
{
    uint64_t size = atomic_load(&node->size_bytes);
    struct qcow2_resize smaller = {.size_bytes = size / 2, .may_shrink = true};
    struct qcow2_resize larger = {.size_bytes = size / 2 + (1u << 20), .has_tables = size % 3 == 0};
    struct error err = {.message = ""};
    if (qcow2_co_resize_as(node, &smaller, &err) < 0) {
        FUZZ_CHECK(err.message[0] != '\0');
        return;
    }
    uint64_t half = atomic_load(&node->size_bytes);
    fuzz_co_walk(node);
    if (qcow2_co_resize_as(node, &larger, &err) < 0)
        return;
    co_expect_zeroes(node, half);
    co_expect_zeroes(node, half + (1u << 19));
    node_co_flush(node);
    fuzz_co_walk(node);
}

static void co_change(struct block_node *node)
{
    uint64_t size = atomic_load(&node->size_bytes);
    for (uint64_t at = 0; at + FUZZ_BYTES <= size && at < 16 * FUZZ_BYTES; at += 3 * FUZZ_BYTES / 2)
        fuzz_co_write_and_read(node, at, at % 1024 ? 700 : FUZZ_BYTES);
    for (uint64_t at = 0; at + FUZZ_BYTES <= size && at < 8 * FUZZ_BYTES; at += 2 * FUZZ_BYTES)
        co_compress(node, at);
    if (size >= FUZZ_BYTES) {
        fuzz_co_write_and_read(node, size - FUZZ_BYTES, FUZZ_BYTES);
        node_co_zero(node, FUZZ_BYTES / 2, FUZZ_BYTES / 2, 0);
        node_co_discard(node, 0, FUZZ_BYTES, 0);
    }
    node_co_flush(node);
    fuzz_co_walk(node);
}

/* A bitmap can be asked for every byte, or there is a reason why not. */
static void co_look_at_bitmap(struct block_node *node, const char *name)
{
    uint64_t length, size = atomic_load(&node->size_bytes);
    const struct dirty_bitmap *bitmap;
    struct error err = {.message = ""};
    if (chain_co_find_bitmap(node, name, &bitmap, &err) < 0) {
        FUZZ_CHECK(err.message[0] != '\0');
        return;
    }
    for (uint64_t at = 0, steps = 0; at < size && steps < 1000; at += length, steps++) {
        dirty_bitmap_look(bitmap, at, size - at, &length);
        FUZZ_CHECK(length > 0 && length <= size - at);
    }
}

static unsigned how;

static void co_run(void *arg)
{
    struct block_node *node;
    struct qcow2_check check;
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    struct block_env *env = arg;
    node_options_set(options, "read-only", how < 2 ? "on" : "off", NULL);
    if (how == 1)
        node_options_set(options, "load-snapshot", "1", NULL);
    if (block_co_open_image(env, "fuzz.qcow2", "qcow2", options, &node, &err) < 0) {
        FUZZ_CHECK(err.message[0] != '\0');
        return;
    }
    fuzz_co_walk(node);
    co_look_at_bitmap(node, "a");
    co_look_at_bitmap(node, "b");
    if (how >= 2)
        co_change(node);
    if (how == 3)
        co_resize(node);
    qcow2_co_check(node, NULL, NULL, &check, &err);
    block_co_node_unref(node);
}

static void fill(const uint8_t *data, size_t size)
{
    fuzz_file_put(0, data, size);
    file_length = size;
    how = size > 0 ? data[size - 1] % 4 : 0;
}

static const struct fuzz_image image = {
    .drivers = drivers, .bytes_max = FILE_BYTES_MAX, .fill = fill, .co_run = co_run};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size <= FILE_BYTES_MAX)
        fuzz_image_run(&image, data, size);
    return 0;
}
