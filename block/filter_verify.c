/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter "verify", qemu's "blkverify": two images that must always have the same content. Reads
 * go to both and are compared; writes, zeroes and flushes go to both. Children:
 *
 *   raw    the reference, whose bytes are right; also "file"
 *   test   the image under test
 *
 * A difference is an error: the first one of a node is told in one line with its offset and the
 * bytes there, and the read fails with EIO. So it is where one of the two fails and the other does
 * not, for writes too.
 *
 * Requests that overlap have no order, so each image could make another one of them, and differ
 * then by right. Hence a change keeps out what overlaps it, until both images have it. Discards are
 * not handed on: what is discarded may read as the old bytes or as zeroes, in each image as it
 * likes. What is allocated is the reference's to say.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "block/buffer.h"
#include "block/env.h"
#include "block/filter.h"
#include "block/filters.h"
#include "block/node.h"
#include "block/node_options.h"
#include "block/range_lock.h"
#include "common/log.h"

/* Bounds the memory of one read; any alignment divides it. */
#define TRANSFER_BYTES_MAX (1u << 20)

struct verify {
    struct block_node *test; /* the reference is node->file */
    _Atomic bool has_told;
    struct range_lock ranges; /* a change takes its range alone, a read shares it */
};

/* --- opening --------------------------------------------------------------------------------- */

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static struct block_limits joined_limits(const struct block_limits *a, const struct block_limits *b)
{
    return (struct block_limits){
        .request_alignment = larger(a->request_alignment, b->request_alignment),
        .memory_alignment = larger(a->memory_alignment, b->memory_alignment),
        .preferred_bytes = larger(a->preferred_bytes, b->preferred_bytes),
        .transfer_bytes_max = TRANSFER_BYTES_MAX,
    };
}

static int co_open_both(struct block_node *node, struct node_options *options,
                        struct block_node **ret_test, struct error *err)
{
    bool is_file = node_options_has_below(options, "file") || node_options_has(options, "file");
    int rc = filter_co_open_key(node, options, is_file ? "file" : "raw", err);
    if (rc == 0)
        rc = block_co_open_filtered(node, options, "test", ret_test, err);
    if (rc < 0)
        return rc;
    if (node_size(*ret_test) != node_size(node->file))
        return node_options_refuse(options, "test", -EINVAL, err,
                                   "'%.120s' has %" PRIu64 " bytes, and the reference '%.120s' "
                                   "%" PRIu64 "; make both of one size",
                                   (*ret_test)->name, node_size(*ret_test), node->file->name,
                                   node_size(node->file));
    return 0;
}

static int verify_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    struct block_node *test = NULL;
    int rc = co_open_both(node, options, &test, err);
    if (rc < 0)
        return rc;
    struct verify *verify = calloc(1, sizeof(*verify));
    if (!verify)
        return error_set(err, -ENOMEM, "no memory to open '%s'", node->name);
    verify->test = test;
    range_lock_init(&verify->ranges);
    node->state = verify;
    node->limits = joined_limits(&node->file->limits, &test->limits);
    return 0;
}

static void verify_co_close(struct block_node *node)
{
    struct verify *verify = node->state;
    range_lock_fini(&verify->ranges);
    free(verify);
}

/* --- differences ----------------------------------------------------------------------------- */

static bool is_first(struct verify *verify)
{
    return !atomic_exchange(&verify->has_told, true);
}

#define SHOWN_BYTES 16

/* "00 ff 12 " */
static void to_hex(char *text, const uint8_t *data, size_t length)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < length; i++) {
        *text++ = digits[data[i] >> 4];
        *text++ = digits[data[i] & 15];
        *text++ = i + 1 < length ? ' ' : '\0';
    }
}

/* at: where in the read the first difference is. */
static int tell_difference(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                           const uint8_t *right, size_t at)
{
    struct verify *verify = node->state;
    uint8_t wrong[SHOWN_BYTES];
    char right_text[3 * SHOWN_BYTES], wrong_text[3 * SHOWN_BYTES];
    size_t length = vec->length - at < SHOWN_BYTES ? vec->length - at : SHOWN_BYTES;
    if (!is_first(verify))
        return -EIO;
    struct block_vec shown = vec_slice(vec, at, length);
    vec_copy_to(&shown, wrong);
    to_hex(right_text, right + at, length);
    to_hex(wrong_text, wrong, length);
    log_error("'%s' differs from its reference '%s' at offset %" PRIu64
              ": it has %s, and should have %s; later differences are not told",
              verify->test->name, node->file->name, offset + at, wrong_text, right_text);
    return -EIO;
}

/* What both said of one request. */
static int compare_results(struct block_node *node, const char *what, uint64_t offset,
                           uint64_t length, int right, int tested)
{
    struct verify *verify = node->state;
    if (right == tested)
        return right;
    if (is_first(verify))
        log_error("'%s' differs from its reference '%s': a %s of %" PRIu64 " bytes at offset "
                  "%" PRIu64 " gives '%s', and should give '%s'; later differences are not told",
                  verify->test->name, node->file->name, what, length, offset,
                  tested == 0 ? "no error" : error_text(tested),
                  right == 0 ? "no error" : error_text(right));
    return -EIO;
}

/* Where vec and the buffer differ first; vec->length: nowhere. */
static size_t find_difference(const struct block_vec *vec, const uint8_t *right)
{
    struct iovec iov[16];
    for (size_t done = 0; done < vec->length;) {
        size_t bytes;
        struct block_vec rest = vec_slice(vec, done, vec->length - done);
        unsigned count = vec_to_iovec(&rest, iov, 16, &bytes);
        for (unsigned i = 0; i < count; i++) {
            const uint8_t *data = iov[i].iov_base;
            if (memcmp(data, right + done, iov[i].iov_len) != 0) {
                size_t at = 0;
                while (data[at] == right[done + at])
                    at++;
                return done + at;
            }
            done += iov[i].iov_len;
        }
    }
    return vec->length;
}

/* --- requests -------------------------------------------------------------------------------- */

static int co_read_both(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                        uint8_t *buffer)
{
    struct verify *verify = node->state;
    struct locked_range range;
    struct iovec iov;
    struct block_vec right_vec = vec_of_buffer(&iov, buffer, vec->length);
    range_lock_co_take(&verify->ranges, &range, offset, vec->length, false);
    int right = node_co_read(node->file, offset, &right_vec);
    int tested = node_co_read(verify->test, offset, vec);
    range_lock_release(&verify->ranges, &range);
    int rc = compare_results(node, "read", offset, vec->length, right, tested);
    if (rc < 0)
        return rc;
    size_t at = find_difference(vec, buffer);
    return at == vec->length ? 0 : tell_difference(node, offset, vec, buffer, at);
}

static int verify_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    struct buffer_pool *pool = &block_env_local(node->env)->buffers;
    uint8_t *buffer = buffer_get(pool, vec->length);
    if (!buffer)
        return -ENOMEM;
    int rc = co_read_both(node, offset, vec, buffer);
    buffer_put(pool, buffer, vec->length);
    return rc;
}

static int verify_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                           unsigned flags)
{
    struct verify *verify = node->state;
    struct locked_range range;
    range_lock_co_take(&verify->ranges, &range, offset, vec->length, true);
    int right = filter_co_write(node, offset, vec, flags);
    int tested = node_co_write(verify->test, offset, vec, flags);
    range_lock_release(&verify->ranges, &range);
    return compare_results(node, "write", offset, vec->length, right, tested);
}

/* With BLOCK_FAST one could refuse what the other has done already. */
static int verify_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    struct verify *verify = node->state;
    struct locked_range range;
    if (flags & BLOCK_FAST)
        return -ENOTSUP;
    range_lock_co_take(&verify->ranges, &range, offset, length, true);
    int right = filter_co_zero(node, offset, length, flags);
    int tested = node_co_zero(verify->test, offset, length, flags);
    range_lock_release(&verify->ranges, &range);
    return compare_results(node, "zero", offset, length, right, tested);
}

static int verify_co_cache(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct verify *verify = node->state;
    int rc = node_co_cache(node->file, offset, length);
    return rc < 0 ? rc : node_co_cache(verify->test, offset, length);
}

static int verify_co_flush(struct block_node *node)
{
    struct verify *verify = node->state;
    int rc = node_co_flush(node->file);
    return rc < 0 ? rc : node_co_flush(verify->test);
}

/* --- admin ----------------------------------------------------------------------------------- */

static int verify_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err)
{
    struct verify *verify = node->state;
    uint64_t old_bytes = node_size(node);
    int rc = node_co_resize(verify->test, size_bytes, err);
    if (rc < 0)
        return rc;
    rc = node_co_resize(node->file, node_size(verify->test), err);
    if (rc < 0) {
        (void)node_co_resize(verify->test, old_bytes, NULL);
        return rc;
    }
    atomic_store(&node->size_bytes, node_size(node->file));
    return 0;
}

static const struct block_driver_admin verify_admin = {
    .co_resize = verify_co_resize,
    .has_zero_init = filter_has_zero_init,
};

const struct block_driver block_filter_verify = {
    .name = "verify",
    .alias = "blkverify",
    .flags = FILTER_FLAGS,
    .co_open = verify_co_open,
    .co_close = verify_co_close,
    .co_read = verify_co_read,
    .co_write = verify_co_write,
    .co_zero = verify_co_zero,
    .co_cache = verify_co_cache,
    .co_flush = verify_co_flush,
    .co_status = filter_co_status,
    .admin = &verify_admin,
};
