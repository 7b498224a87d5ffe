/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/dispatch_status.h"

#include "block/block.h"
#include "block/dirty_bitmap.h"
#include "protocol/metacontext.h"
#include "protocol/reply_status.h"
#include "protocol/wire.h"
#include "server/dispatch.h"
#include "server/export.h"

#define STATE_DIRTY UINT32_C(1) /* of qemu:dirty-bitmap: */

/* Descriptors, and questions to the block layer, for one context. */
#define DESCRIPTORS_MAX 512u

size_t dispatch_status_bytes(const struct request *wire, unsigned context_count)
{
    return context_count *
           (REPLY_CHUNK_BLOCK_STATUS_MAX + DESCRIPTORS_MAX * reply_status_descriptor_size(wire));
}

static uint32_t allocation_flags(const struct block_extent *extent)
{
    return ((extent->flags & BLOCK_EXTENT_ALLOCATED) ? 0 : NBD_STATE_HOLE) |
           ((extent->flags & BLOCK_EXTENT_ZERO) ? NBD_STATE_ZERO : 0);
}

/* One context of a request, and what the block layer said beyond what was asked for. */
struct look {
    const struct server_request *request;
    const struct export_context *context;
    struct block_extents extents;
    unsigned used;
};

static int co_look_at_allocation(struct look *look, uint64_t offset, uint64_t length,
                                 uint64_t *ret_length, uint32_t *ret_flags)
{
    struct block_backend *backend = look->request->export->backend;
    struct block_extents *extents = &look->extents;
    if (look->used == extents->count) {
        bool is_one = look->request->wire.flags & NBD_CMD_FLAG_REQ_ONE;
        extents->count = 1;
        look->used = 0;
        int code = is_one ? block_co_status(backend, offset, length, &extents->all[0])
                          : block_co_statuses(backend, offset, length, extents);
        if (code < 0)
            return code;
    }
    const struct block_extent *extent = &extents->all[look->used++];
    *ret_flags = allocation_flags(extent);
    *ret_length = extent->length;
    return 0;
}

/* What the context says from there on, and for how long, `length` at most. */
static int co_look(struct look *look, uint64_t offset, uint64_t length, uint64_t *ret_length,
                   uint32_t *ret_flags)
{
    const struct export_context *context = look->context;
    switch (context->kind) {
    case EXPORT_CONTEXT_DEPTH:
        return block_co_depth(look->request->export->backend, offset, length, ret_flags,
                              ret_length);
    case EXPORT_CONTEXT_BITMAP:
        *ret_flags =
            dirty_bitmap_look(context->bitmap, offset, length, ret_length) ? STATE_DIRTY : 0;
        return 0;
    case EXPORT_CONTEXT_ALLOCATION:
    default:
        return co_look_at_allocation(look, offset, length, ret_length, ret_flags);
    }
}

/* Fills descriptors with what one context says of the request's range, or of its beginning. */
static int co_collect(const struct server_request *request, const struct export_context *context,
                      uint8_t *descriptors, struct reply_status *status)
{
    const struct request *wire = &request->wire;
    struct look look = {.request = request, .context = context};
    bool more = true;
    reply_status_init(status, wire, request->size_bytes, descriptors, DESCRIPTORS_MAX);
    for (unsigned i = 0; more && status->covered < wire->length && i < DESCRIPTORS_MAX; i++) {
        uint64_t length;
        uint32_t flags;
        int code = co_look(&look, wire->offset + status->covered, wire->length - status->covered,
                           &length, &flags);
        if (code < 0)
            return code;
        more = reply_status_add(status, length, flags);
    }
    return 0;
}

/* One chunk, at `to`; its head is as long whatever it says. */
static int co_put_chunk(const struct server_request *request, unsigned index, bool is_last,
                        uint8_t *to, size_t *ret_size)
{
    const struct request *wire = &request->wire;
    uint32_t id = metacontext_id(index);
    size_t head = reply_chunk_block_status(to, wire, is_last, id, 1);
    struct reply_status status;
    int code = co_collect(request, &request->export->contexts.all[index], to + head, &status);
    if (code < 0)
        return code;
    reply_chunk_block_status(to, wire, is_last, id, status.count);
    *ret_size = head + reply_status_bytes(&status);
    return 0;
}

int dispatch_co_status(struct server_request *request)
{
    uint8_t *bytes = request->buffer;
    uint64_t left = request->context_mask;
    size_t used = 0;
    while (left != 0) {
        unsigned index = (unsigned)__builtin_ctzll(left);
        size_t size = 0;
        left &= left - 1;
        int code = co_put_chunk(request, index, left == 0, bytes + used, &size);
        if (code < 0)
            return code;
        used += size;
    }
    request->iov[0] = (struct iovec){.iov_base = bytes, .iov_len = used};
    dispatch_set_reply(request, 1);
    return 0;
}
