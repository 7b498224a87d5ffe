/* SPDX-License-Identifier: BSD-3-Clause */
#include "protocol/reply_status.h"

#include "common/endian.h"

#include <assert.h>

/* Where an extent is too long for 32 bits, its descriptor ends on a multiple of any minimum block
 * size, as the specification wishes. */
#define DESCRIPTOR_LENGTH_MAX (UINT32_MAX - (NBD_BLOCK_MINIMUM_MAX - 1))

void reply_status_init(struct reply_status *status, const struct request *request,
                       uint64_t size_bytes, uint8_t *descriptors, uint32_t count_max)
{
    assert(count_max > 0);
    assert(request->length > 0);
    assert(request->offset < size_bytes && request->length <= size_bytes - request->offset);
    *status = (struct reply_status){
        .descriptors = descriptors,
        .count_max = count_max < NBD_DESCRIPTORS_MAX ? count_max : NBD_DESCRIPTORS_MAX,
        .request_length = request->length,
        .export_left = size_bytes - request->offset,
        .extended = request->headers == NBD_HEADERS_EXTENDED,
        .one = request->flags & NBD_CMD_FLAG_REQ_ONE,
    };
}

/* How long the descriptor may become that begins `before` bytes into the request. */
static uint64_t length_limit(const struct reply_status *status, uint64_t before)
{
    uint64_t in_request = status->request_length - before;
    uint64_t in_export = status->export_left - before;
    if (status->one)
        return in_request;
    if (status->extended)
        return in_export;
    uint64_t limit = in_export < DESCRIPTOR_LENGTH_MAX ? in_export : DESCRIPTOR_LENGTH_MAX;
    /* A request of nearly 4 GiB is covered to its end all the same. */
    return limit < in_request ? in_request : limit;
}

static void store_descriptor(const struct reply_status *status)
{
    uint32_t index = status->count - 1;
    if (status->extended) {
        uint8_t *to = status->descriptors + (size_t)index * NBD_EXTENDED_DESCRIPTOR_SIZE;
        store_be64(to, status->last_length);
        store_be32(to + 8, 0);
        store_be32(to + 12, status->last_flags);
        return;
    }
    uint8_t *to = status->descriptors + (size_t)index * NBD_DESCRIPTOR_SIZE;
    store_be32(to, (uint32_t)status->last_length);
    store_be32(to + 4, status->last_flags);
}

size_t reply_status_bytes(const struct reply_status *status)
{
    return status->count *
           (size_t)(status->extended ? NBD_EXTENDED_DESCRIPTOR_SIZE : NBD_DESCRIPTOR_SIZE);
}

bool reply_status_add(struct reply_status *status, uint64_t length_bytes, uint32_t flags)
{
    assert(length_bytes > 0);
    if (status->ended)
        return false;

    bool merges = status->count > 0 && status->last_flags == flags;
    if (!merges && status->count == (status->one ? 1 : status->count_max)) {
        status->ended = true; /* there is a gap now: what comes later must not be merged */
        return false;
    }

    uint64_t already = merges ? status->last_length : 0;
    uint64_t room = length_limit(status, status->covered - already) - already;
    uint64_t taken = length_bytes < room ? length_bytes : room;
    assert(taken > 0);

    if (!merges)
        status->count++;
    status->last_length = already + taken;
    status->last_flags = flags;
    status->covered += taken;
    store_descriptor(status);
    status->ended = status->covered >= status->request_length;
    return !status->ended;
}
