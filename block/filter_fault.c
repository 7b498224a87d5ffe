/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter "fault", qemu's "blkdebug": fails requests by rules, holds up who passes a named point
 * above it, and makes its child look narrower than it is. Options:
 *
 *   inject-error.N.*  a rule that fails requests
 *   set-state.N.*     changes the state that rules ask for
 *   config            a file with such rules; they come before those of the options
 *   align             request_alignment of this node
 *   max-transfer, max-write-zero, max-discard
 *                     what is longer comes here in pieces
 *   opt-write-zero, opt-discard
 *                     only whole multiples are handed on: the ends of a zero are written, those of
 *                     a discard left alone, and a zero that has no whole one in it is not supported
 *   short-read, short-write
 *                     the child is asked for so many bytes at a time
 *
 * The child is "file", or "image" as qemu calls it. fault_rules.c has the rules, docs/filters.md
 * their keys, and fault.h is for tests that hold requests up. Nothing is lent here: a loan would
 * pass the rules by.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/buffer.h"
#include "block/env.h"
#include "block/fault.h"
#include "block/fault_rules.h"
#include "block/filter.h"
#include "block/filters.h"
#include "block/node.h"
#include "block/node_options.h"
#include "common/align.h"

/* --- opening --------------------------------------------------------------------------------- */

static int take_alignment(struct block_limits *limits, struct node_options *options,
                          struct error *err)
{
    uint64_t align = 0;
    int rc = node_options_take_size(options, "align", &align, err);
    if (rc < 0 || align == 0)
        return rc;
    if (!is_power_of_two(align) || align > NODE_REQUEST_ALIGNMENT_MAX)
        return node_options_refuse(options, "align", -EINVAL, err,
                                   "cannot be %llu; say a power of two up to %u",
                                   (unsigned long long)align, NODE_REQUEST_ALIGNMENT_MAX);
    limits->request_alignment = (uint32_t)align;
    /* The child's own bounds are for its own alignment; it cuts what is too long for it itself. */
    limits->transfer_bytes_max = limits->zero_bytes_max = limits->discard_bytes_max = 0;
    return 0;
}

/* A length that is a multiple of the alignment; 0 is as good as not said. */
static int take_multiple(const struct block_limits *limits, const char *name, uint64_t *ret_bytes,
                         struct node_options *options, struct error *err)
{
    uint64_t bytes = 0;
    int rc = node_options_take_size(options, name, &bytes, err);
    if (rc < 0 || bytes == 0)
        return rc;
    if (!is_aligned(bytes, limits->request_alignment))
        return node_options_refuse(options, name, -EINVAL, err,
                                   "cannot be %llu; say a multiple of the alignment, %u",
                                   (unsigned long long)bytes, limits->request_alignment);
    *ret_bytes = bytes;
    return 0;
}

static int take_limits(struct fault *fault, struct block_limits *limits,
                       struct node_options *options, struct error *err)
{
    int rc = take_alignment(limits, options, err);
    if (rc == 0)
        rc = take_multiple(limits, "max-transfer", &limits->transfer_bytes_max, options, err);
    if (rc == 0)
        rc = take_multiple(limits, "max-write-zero", &limits->zero_bytes_max, options, err);
    if (rc == 0)
        rc = take_multiple(limits, "max-discard", &limits->discard_bytes_max, options, err);
    if (rc == 0)
        rc = take_multiple(limits, "opt-write-zero", &fault->zero_multiple, options, err);
    if (rc == 0)
        rc = take_multiple(limits, "opt-discard", &fault->discard_multiple, options, err);
    if (rc == 0)
        rc = node_options_take_size(options, "short-read", &fault->read_bytes_max, err);
    if (rc == 0)
        rc = node_options_take_size(options, "short-write", &fault->write_bytes_max, err);
    return rc;
}

static int co_open_with(struct fault *fault, struct block_node *node, struct node_options *options,
                        struct error *err)
{
    int rc = filter_co_open_key(node, options, filter_child_key(options), err);
    if (rc == 0)
        rc = take_limits(fault, &node->limits, options, err);
    if (rc == 0)
        rc = fault_co_take_rules(fault, node->env, options, err);
    return rc;
}

static int fault_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    struct fault *fault = malloc(sizeof(*fault));
    if (!fault)
        return error_set(err, -ENOMEM, "no memory to open '%s'", node->name);
    fault_init(fault);
    int rc = co_open_with(fault, node, options, err);
    if (rc < 0) {
        fault_fini(fault);
        free(fault);
        return rc;
    }
    fault_co_event(fault, FAULT_EVENT_NONE);
    node->state = fault;
    return 0;
}

static void fault_co_close(struct block_node *node)
{
    fault_fini(node->state);
    free(node->state);
}

/* --- requests -------------------------------------------------------------------------------- */

static uint64_t piece_length(uint64_t left, uint64_t bytes_max)
{
    return bytes_max > 0 ? smaller(left, bytes_max) : left;
}

static int co_read_pieces(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    const struct fault *fault = node->state;
    int rc = 0;
    for (uint64_t done = 0; done < vec->length && rc == 0;) {
        uint64_t length = piece_length(vec->length - done, fault->read_bytes_max);
        struct block_vec piece = vec_slice(vec, done, length);
        rc = filter_co_read(node, offset + done, &piece);
        done += length;
    }
    return rc;
}

static int co_write_pieces(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                           unsigned flags)
{
    const struct fault *fault = node->state;
    int rc = 0;
    for (uint64_t done = 0; done < vec->length && rc == 0;) {
        uint64_t length = piece_length(vec->length - done, fault->write_bytes_max);
        struct block_vec piece = vec_slice(vec, done, length);
        rc = filter_co_write(node, offset + done, &piece, flags);
        done += length;
    }
    return rc;
}

static int fault_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    struct fault_verdict verdict = fault_co_check(node->state, FAULT_READ, offset, vec->length);
    if (verdict.code == 0)
        return co_read_pieces(node, offset, vec);
    struct block_vec part = vec_slice(vec, 0, smaller(verdict.partial, vec->length));
    (void)co_read_pieces(node, offset, &part);
    return verdict.code;
}

static int fault_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                          unsigned flags)
{
    struct fault_verdict verdict = fault_co_check(node->state, FAULT_WRITE, offset, vec->length);
    if (verdict.code == 0)
        return co_write_pieces(node, offset, vec, flags);
    struct block_vec part = vec_slice(vec, 0, smaller(verdict.partial, vec->length));
    (void)co_write_pieces(node, offset, &part, 0);
    return verdict.code;
}

#define ZERO_BUFFER_BYTES ((size_t)64 << 10)

static int co_write_zeroes(struct block_node *node, uint64_t offset, uint64_t length,
                           unsigned flags)
{
    struct buffer_pool *pool = &block_env_local(node->env)->buffers;
    size_t size = smaller(length, ZERO_BUFFER_BYTES);
    if (length == 0)
        return 0;
    void *zeroes = buffer_get(pool, size);
    if (!zeroes)
        return -ENOMEM;
    memset(zeroes, 0, size);
    int rc = 0;
    for (uint64_t done = 0; done < length && rc == 0;) {
        struct iovec iov;
        struct block_vec vec = vec_of_buffer(&iov, zeroes, smaller(length - done, size));
        rc = co_write_pieces(node, offset + done, &vec, flags & (unsigned)BLOCK_FUA);
        done += vec.length;
    }
    buffer_put(pool, zeroes, size);
    return rc;
}

/* The whole multiples within [offset, offset + length); empty ones are at its end. */
struct body {
    uint64_t start, end;
};

static struct body whole_multiples(uint64_t multiple, uint64_t offset, uint64_t length)
{
    uint64_t end = offset + length;
    if (multiple == 0)
        return (struct body){.start = offset, .end = end};
    uint64_t skipped = offset % multiple == 0 ? 0 : multiple - offset % multiple;
    if (skipped > length || length - skipped < multiple)
        return (struct body){.start = end, .end = end};
    return (struct body){.start = offset + skipped, .end = end - end % multiple};
}

static int co_zero_body(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    const struct fault *fault = node->state;
    struct body body = whole_multiples(fault->zero_multiple, offset, length);
    bool is_whole = body.end - body.start == length;
    if (body.start == body.end || (!is_whole && (flags & BLOCK_FAST)))
        return -ENOTSUP;
    int rc = co_write_zeroes(node, offset, body.start - offset, flags);
    if (rc == 0)
        rc = filter_co_zero(node, body.start, body.end - body.start, flags);
    if (rc == 0)
        rc = co_write_zeroes(node, body.end, offset + length - body.end, flags);
    return rc;
}

static int fault_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    struct fault_verdict verdict = fault_co_check(node->state, FAULT_ZERO, offset, length);
    if (verdict.code == 0)
        return co_zero_body(node, offset, length, flags);
    if (verdict.partial > 0 && !(flags & BLOCK_FAST))
        (void)filter_co_zero(node, offset, smaller(verdict.partial, length), 0);
    return verdict.code;
}

static int fault_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    const struct fault *fault = node->state;
    struct fault_verdict verdict = fault_co_check(node->state, FAULT_DISCARD, offset, length);
    if (verdict.code < 0)
        return verdict.code;
    struct body body = whole_multiples(fault->discard_multiple, offset, length);
    if (body.start == body.end)
        return 0;
    return filter_co_discard(node, body.start, body.end - body.start);
}

static int fault_co_flush(struct block_node *node)
{
    struct fault_verdict verdict = fault_co_check(node->state, FAULT_FLUSH, 0, 0);
    return verdict.code < 0 ? verdict.code : filter_co_flush(node);
}

static int fault_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                           struct block_extent *ret_extent)
{
    struct fault_verdict verdict = fault_co_check(node->state, FAULT_STATUS, offset, length);
    return verdict.code < 0 ? verdict.code : filter_co_status(node, offset, length, ret_extent);
}

/* --- events ---------------------------------------------------------------------------------- */

static void fault_node_co_event(struct block_node *node, const char *event)
{
    fault_co_event(node->state, event);
    node_co_event(node->file, event); /* there may be another one below */
}

/* The uppermost filter of this kind, from node on down. */
static struct block_node *find_fault(struct block_node *node)
{
    while (node && node->driver != &block_filter_fault)
        node = node->file;
    return node;
}

int fault_suspend(struct block_node *node, const char *event, const char *tag)
{
    struct block_node *filter = find_fault(node);
    if (!filter)
        return -ENOENT;
    if (!fault_knows_event(filter->env, event))
        return -EINVAL;
    struct fault_rule *rule = fault_rule_new(FAULT_SUSPEND);
    if (!rule)
        return -ENOMEM;
    rule->event = strdup(event);
    rule->tag = strdup(tag);
    if (!rule->event || !rule->tag) {
        fault_rule_free(rule);
        return -ENOMEM;
    }
    fault_add_rule(filter->state, rule);
    return 0;
}

bool fault_is_suspended(struct block_node *node, const char *tag)
{
    struct block_node *filter = find_fault(node);
    return filter && fault_rules_are_suspended(filter->state, tag);
}

int fault_resume(struct block_node *node, const char *tag)
{
    struct block_node *filter = find_fault(node);
    return filter && fault_rules_resume(filter->state, tag) ? 0 : -ENOENT;
}

/* --- table ----------------------------------------------------------------------------------- */

static const struct block_driver_admin fault_admin = {
    .co_resize = filter_co_resize,
    .has_zero_init = filter_has_zero_init,
    .co_event = fault_node_co_event,
};

const struct block_driver block_filter_fault = {
    .name = "fault",
    .alias = "blkdebug",
    .flags = FILTER_FLAGS,
    .co_open = fault_co_open,
    .co_close = fault_co_close,
    .co_read = fault_co_read,
    .co_write = fault_co_write,
    .co_zero = fault_co_zero,
    .co_discard = fault_co_discard,
    .co_cache = filter_co_cache,
    .co_flush = fault_co_flush,
    .co_status = fault_co_status,
    .status_remembered = filter_status_remembered,
    .admin = &fault_admin,
};
