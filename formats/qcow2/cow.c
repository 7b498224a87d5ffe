/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A write that is smaller than the cluster it goes to: what the guest sees around it is read and
 * written along, in one piece where the request has few enough pieces of memory.
 */
#include <errno.h>
#include <string.h>

#include "block/buffer.h"
#include "block/env.h"
#include "formats/qcow2/writer.h"

#define IOV_MAX_HERE 32

/* What the guest sees there; past the disk's end, zeroes. */
static int co_read_around(struct qcow2_image *image, uint64_t guest_offset, uint8_t *to,
                          size_t length)
{
    struct iovec iov;
    uint64_t size = atomic_load(&image->node->size_bytes);
    uint64_t inside = guest_offset < size ? size - guest_offset : 0;
    size_t read = length < inside ? length : (size_t)inside;
    memset(to + read, 0, length - read);
    if (read == 0)
        return 0;
    struct block_vec vec = vec_of_buffer(&iov, to, read);
    return qcow2_co_read(image->node, guest_offset, &vec);
}

static bool is_zero(const uint8_t *bytes, size_t length)
{
    return length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

static int co_write_bytes(struct qcow2_image *image, uint64_t host_offset, uint8_t *bytes,
                          size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, bytes, length);
    return length > 0 ? qcow2_co_write_to(image, image->data, host_offset, &vec) : 0;
}

struct around {
    uint8_t *head, *tail;
    size_t head_length, tail_length;
};

static int co_write_apart(struct qcow2_image *image, const struct qcow2_cow *cow,
                          const struct around *around, const struct block_vec *vec)
{
    uint64_t at = cow->host_offset + (cow->guest_offset - cow->guest_from);
    int ret = co_write_bytes(image, at - around->head_length, around->head, around->head_length);
    if (ret == 0)
        ret = qcow2_co_write_to(image, image->data, at, vec);
    if (ret == 0)
        ret = co_write_bytes(image, at + vec->length, around->tail, around->tail_length);
    return ret;
}

static int co_write_together(struct qcow2_image *image, const struct qcow2_cow *cow,
                             const struct around *around, const struct block_vec *vec)
{
    struct iovec iov[IOV_MAX_HERE + 2];
    size_t bytes;
    unsigned count = vec_to_iovec(vec, iov + 1, IOV_MAX_HERE, &bytes);
    if (bytes < vec->length)
        return co_write_apart(image, cow, around, vec);
    iov[0] = (struct iovec){.iov_base = around->head, .iov_len = around->head_length};
    iov[count + 1] = (struct iovec){.iov_base = around->tail, .iov_len = around->tail_length};
    bool has_head = around->head_length > 0;
    struct block_vec all = {
        .iov = has_head ? iov : iov + 1,
        .length = around->head_length + vec->length + around->tail_length,
    };
    uint64_t at = cow->host_offset + (cow->guest_offset - cow->guest_from) - around->head_length;
    return qcow2_co_write_to(image, image->data, at, &all);
}

static int co_read_both(struct qcow2_image *image, const struct qcow2_cow *cow,
                        const struct around *around, size_t vec_length)
{
    int ret = co_read_around(image, cow->guest_from, around->head, around->head_length);
    if (ret == 0)
        ret = co_read_around(image, cow->guest_offset + vec_length, around->tail,
                             around->tail_length);
    return ret;
}

int qcow2_co_write_cow(struct qcow2_image *image, const struct qcow2_cow *cow,
                       const struct block_vec *vec)
{
    struct around around = {
        .head_length = (size_t)(cow->guest_offset - cow->guest_from),
        .tail_length = (size_t)(cow->guest_to - cow->guest_offset - vec->length),
    };
    size_t length = around.head_length + around.tail_length;
    if (qcow2_is_corrupt(image))
        return -EIO;
    if (length == 0) {
        node_co_event(image->node, "write_aio");
        return qcow2_co_write_to(image, image->data, cow->host_offset, vec);
    }
    struct buffer_pool *pool = &block_env_local(image->node->env)->buffers;
    uint8_t *buffer = buffer_get(pool, length);
    if (!buffer)
        return -ENOMEM;
    around.head = buffer;
    around.tail = buffer + around.head_length;
    node_co_event(image->node, "cow_read");
    int ret = co_read_both(image, cow, &around, vec->length);
    if (ret == 0 && cow->skips_zeroes) {
        if (is_zero(around.head, around.head_length))
            around.head_length = 0;
        if (is_zero(around.tail, around.tail_length))
            around.tail_length = 0;
    }
    if (ret == 0 && qcow2_is_corrupt(image)) /* perhaps what was read along has shown it */
        ret = -EIO;
    if (ret == 0) {
        node_co_event(image->node, "cow_write");
        ret = co_write_together(image, cow, &around, vec);
    }
    buffer_put(pool, buffer, length);
    return ret;
}
