/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/virtio_request.h"

#include <string.h>

#include "common/align.h"
#include "common/endian.h"

#define HEADER_BYTES sizeof(struct virtio_blk_outhdr)
#define SEGMENT_BYTES sizeof(struct virtio_blk_discard_write_zeroes)

uint64_t virtio_request_offset(const struct virtio_request *request)
{
    return request->sector * VIRTIO_SECTOR;
}

bool virtio_request_is_read(const struct virtio_request *request)
{
    return request->type == VIRTIO_BLK_T_IN;
}

/* Whole blocks, at least one, inside of the disk. */
static bool is_range(const struct virtio_blk_shape *shape, uint64_t sector, uint64_t count)
{
    uint32_t block_sectors = shape->block_bytes / VIRTIO_SECTOR;
    return count > 0 && is_aligned(sector, block_sectors) && is_aligned(count, block_sectors) &&
           sector <= shape->sector_count && count <= shape->sector_count - sector;
}

/* The header, from the front of what we may read. What is behind it is data. */
static struct block_vec take_header(struct virtio_request *request)
{
    const struct virtio_chain *chain = &request->chain;
    struct block_vec readable = {.iov = chain->iov, .length = chain->readable_bytes};
    struct block_vec head = vec_slice(&readable, 0, HEADER_BYTES);
    uint8_t header[HEADER_BYTES];
    vec_copy_to(&head, header);
    request->type = load_le32(header);
    request->sector = load_le64(header + 8);
    return vec_slice(&readable, HEADER_BYTES, chain->readable_bytes - HEADER_BYTES);
}

/* The status is the last byte that we may write. What is before it is room for data. */
static struct block_vec take_status(struct virtio_request *request)
{
    const struct virtio_chain *chain = &request->chain;
    const struct iovec *iov = chain->iov + chain->readable_count;
    const struct iovec *last = &iov[chain->writable_count - 1];
    request->status = (uint8_t *)last->iov_base + last->iov_len - 1;
    return (struct block_vec){.iov = iov, .length = chain->writable_bytes - 1};
}

static enum virtio_verdict parse_transfer(struct virtio_request *request,
                                          const struct virtio_blk_shape *shape)
{
    uint64_t bytes = request->data.length;
    if (bytes % VIRTIO_SECTOR != 0 || bytes > VIRTIO_DATA_BYTES_MAX)
        return VIRTIO_ANSWER_IOERR;
    if (!is_range(shape, request->sector, bytes / VIRTIO_SECTOR))
        return VIRTIO_ANSWER_IOERR;
    if (!virtio_request_is_read(request) && shape->is_read_only)
        return VIRTIO_ANSWER_IOERR;
    return VIRTIO_CARRY_OUT;
}

/* 5.2.6.2: a flag that the type does not know is not supported; a range that is wrong fails. */
static enum virtio_verdict parse_segment(struct virtio_segment *segment, const uint8_t *bytes,
                                         bool is_discard, const struct virtio_blk_shape *shape)
{
    uint32_t flags = load_le32(bytes + 12);
    *segment = (struct virtio_segment){
        .sector = load_le64(bytes),
        .sector_count = load_le32(bytes + 8),
        .may_unmap = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
    };
    if (flags & ~(is_discard ? 0u : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
        return VIRTIO_ANSWER_UNSUPP;
    if (segment->sector_count > VIRTIO_SEGMENT_SECTORS_MAX ||
        !is_range(shape, segment->sector, segment->sector_count))
        return VIRTIO_ANSWER_IOERR;
    return VIRTIO_CARRY_OUT;
}

/* All of it is copied here: the guest may change its memory while the first is carried out. */
static enum virtio_verdict parse_segments(struct virtio_request *request, const uint64_t features,
                                          const struct virtio_blk_shape *shape)
{
    bool is_discard = request->type == VIRTIO_BLK_T_DISCARD;
    unsigned bit = is_discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES;
    size_t length = request->data.length;
    uint8_t bytes[VIRTIO_SEGMENTS_MAX * SEGMENT_BYTES];
    if (!(features & VIRTIO_FEATURE(bit)))
        return VIRTIO_ANSWER_UNSUPP;
    if (length == 0 || length % SEGMENT_BYTES != 0 || length > sizeof(bytes))
        return VIRTIO_ANSWER_IOERR;
    vec_copy_to(&request->data, bytes);
    request->segment_count = (unsigned)(length / SEGMENT_BYTES);
    request->segment_next = 0;
    for (unsigned i = 0; i < request->segment_count; i++) {
        enum virtio_verdict verdict =
            parse_segment(&request->segments[i], bytes + i * SEGMENT_BYTES, is_discard, shape);
        if (verdict != VIRTIO_CARRY_OUT)
            return verdict;
    }
    return VIRTIO_CARRY_OUT;
}

static enum virtio_verdict answer_id(const struct virtio_request *request,
                                     const struct virtio_blk_shape *shape)
{
    size_t length = (size_t)smaller(request->data.length, sizeof(shape->serial));
    struct block_vec room = vec_slice(&request->data, 0, length);
    if (length == 0)
        return VIRTIO_ANSWER_IOERR;
    vec_copy_from(&room, shape->serial);
    return VIRTIO_ANSWER_OK;
}

enum virtio_verdict virtio_request_parse(struct virtio_request *request,
                                         const struct virtio_blk_shape *shape, uint64_t features,
                                         const char **ret_why)
{
    const struct virtio_chain *chain = &request->chain;
    struct block_vec out, in;
    request->next_merged = NULL;
    request->segment_count = 0;
    if (chain->readable_bytes < HEADER_BYTES) {
        *ret_why = "a request's header is too short";
        return VIRTIO_BROKEN;
    }
    if (chain->writable_bytes < 1) {
        *ret_why = "a request has no room for its status";
        return VIRTIO_BROKEN;
    }
    out = take_header(request);
    in = take_status(request);
    switch (request->type) {
    case VIRTIO_BLK_T_IN:
        request->data = in;
        return parse_transfer(request, shape);
    case VIRTIO_BLK_T_OUT:
        request->data = out;
        return parse_transfer(request, shape);
    case VIRTIO_BLK_T_FLUSH:
        return VIRTIO_CARRY_OUT;
    case VIRTIO_BLK_T_GET_ID:
        request->data = in;
        return answer_id(request, shape);
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        request->data = out;
        return parse_segments(request, features, shape);
    default:
        return VIRTIO_ANSWER_UNSUPP;
    }
}
