/* SPDX-License-Identifier: BSD-3-Clause */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "common/endian.h"
#include "protocol/wire.h"
#include "tests/harness/sim_client.h"

static struct sim_request *find_request(struct sim_client *client, uint64_t cookie)
{
    for (unsigned i = 0; i < SIM_DEPTH_MAX; i++)
        if (client->requests[i].is_used && client->requests[i].cookie == cookie)
            return &client->requests[i];
    sim_client_fail(client, NULL, "a reply to no request, with cookie %#" PRIx64, cookie);
    return NULL;
}

/* --- the whole reply ------------------------------------------------------------------------- */

/* NO_HOLE: the whole blocks of the range take space. */
static void check_space(struct sim_client *client, const struct sim_request *request)
{
    const struct sim_file *file = client->all->file;
    if (!file || request->length == 0 || !(request->flags & NBD_CMD_FLAG_NO_HOLE) ||
        !oracle_keeps_space(client->all->oracle, request->op))
        return;
    uint64_t end = request->offset + request->length;
    for (uint64_t at = request->offset / SIM_FILE_BLOCK; at * SIM_FILE_BLOCK < end; at++)
        if (file->blocks[at] == SIM_BLOCK_HOLE)
            sim_client_fail(client, request, "there is a hole at %#" PRIx64 " in spite of NO_HOLE",
                            at * SIM_FILE_BLOCK);
}

static void check_success(struct sim_client *client, struct sim_request *request)
{
    struct sim_clients *all = client->all;
    const uint8_t *durable = all->file ? all->file->durable : NULL;
    char name[160], who[SIM_WHO_MAX + 170];
    sim_request_name(client, request, name, sizeof(name));
    snprintf(who, sizeof(who), "%s, %s", client->who, name);
    switch (request->command) {
    case NBD_CMD_READ:
        oracle_view_check(all->oracle, &request->view, request->data, who);
        break;
    case NBD_CMD_WRITE:
    case NBD_CMD_TRIM:
    case NBD_CMD_WRITE_ZEROES:
        oracle_answer(all->oracle, request->op);
        if (!all->is_unsafe && (request->flags & NBD_CMD_FLAG_FUA || all->write_through))
            oracle_forced(all->oracle, request->op, durable, who);
        check_space(client, request);
        break;
    case NBD_CMD_FLUSH:
        if (!all->is_unsafe)
            oracle_flushed(all->oracle, request->flush_sent, durable, who);
        break;
    case NBD_CMD_BLOCK_STATUS:
        if (!request->status_came)
            sim_client_fail(client, request, "ended without a status");
        break;
    }
}

/* An error that the request itself does not explain. */
static void check_error(struct sim_client *client, struct sim_request *request, uint32_t error)
{
    struct sim_clients *all = client->all;
    struct sim_faults_request wanted = sim_request_for_faults(client, request);
    bool is_shutdown = error == NBD_ESHUTDOWN && all->is_stopping;
    bool is_too_slow = error == NBD_ENOTSUP && request->command == NBD_CMD_WRITE_ZEROES &&
                       request->flags & NBD_CMD_FLAG_FAST_ZERO;
    if (!is_shutdown && !is_too_slow && !sim_faults_explain(all->faults, &wanted, error))
        sim_client_fail(client, request, "answered with error %" PRIu32 " for no reason", error);
    if (request->op)
        oracle_fail(all->oracle, request->op);
}

static void finish(struct sim_client *client, struct sim_request *request, uint32_t error)
{
    struct sim_clients *all = client->all;
    struct sim_faults_request wanted = sim_request_for_faults(client, request);
    sim_note(all->sim, "reply", client->number, request->number, error);
    if (request->expected_error && error != request->expected_error && error != NBD_ESHUTDOWN)
        sim_client_fail(client, request, "answered with error %" PRIu32 ", not %" PRIu32, error,
                        request->expected_error);
    else if (error != 0 && error != request->expected_error)
        check_error(client, request, error);
    else if (error == 0 && !sim_faults_allow(all->faults, &wanted))
        sim_client_fail(client, request,
                        "answered with success, and what was to be on stable storage may be lost: "
                        "a sync had failed before it was sent");
    else if (error == 0)
        check_success(client, request);
    sim_request_end(client, request);
    all->requests_checked++;
    if (all->requests_checked == all->stop_at)
        all->stop(all);
    if (all->requests_checked == all->cut_at)
        all->cut_soon(all);
}

/* --- simple replies -------------------------------------------------------------------------- */

static bool take_simple(struct sim_client *client)
{
    struct sim_bytes *input = &client->input;
    if (input->length < NBD_SIMPLE_REPLY_SIZE)
        return false;
    const uint8_t *header = bytes_begin(input);
    uint32_t error = load_be32(header + 4);
    struct sim_request *request = find_request(client, load_be64(header + 8));
    if (!request)
        return false;
    bool is_read = request->command == NBD_CMD_READ;
    if (client->handshake.structured_replies &&
        (is_read || request->command == NBD_CMD_BLOCK_STATUS)) {
        sim_client_fail(client, request, "a simple reply where only a structured one may be");
        return false;
    }
    size_t data_length = is_read && error == 0 ? request->length : 0;
    if (input->length < NBD_SIMPLE_REPLY_SIZE + data_length)
        return false;
    if (data_length > 0 && request->data)
        memcpy(request->data, header + NBD_SIMPLE_REPLY_SIZE, data_length);
    bytes_drop(input, NBD_SIMPLE_REPLY_SIZE + data_length);
    finish(client, request, error);
    return true;
}

/* --- structured replies ---------------------------------------------------------------------- */

/* Content for [offset, offset + length): inside the request, and told once. */
static bool add_part(struct sim_client *client, struct sim_request *request, uint64_t offset,
                     uint64_t length)
{
    if (request->command != NBD_CMD_READ || length == 0 || offset < request->offset ||
        !range_is_inside(offset - request->offset, length, request->length)) {
        sim_client_fail(client, request, "content for %#" PRIx64 "+%#" PRIx64, offset, length);
        return false;
    }
    for (unsigned i = 0; i < request->part_count; i++)
        if (ranges_overlap(request->parts[i].offset, request->parts[i].length, offset, length)) {
            sim_client_fail(client, request, "content for %#" PRIx64 " twice", offset);
            return false;
        }
    if (request->part_count > 0 && request->flags & NBD_CMD_FLAG_DF) {
        sim_client_fail(client, request, "more than one chunk of content with DF");
        return false;
    }
    request->parts = realloc(request->parts, (request->part_count + 1) * sizeof(*request->parts));
    assert(request->parts);
    request->parts[request->part_count++] = (struct sim_range){offset, length};
    return true;
}

static void take_content(struct sim_client *client, struct sim_request *request, uint16_t type,
                         const uint8_t *payload, uint32_t length)
{
    bool is_hole = type == NBD_REPLY_TYPE_OFFSET_HOLE;
    if (is_hole ? length != 12 : length < 9) {
        sim_client_fail(client, request, "a content chunk of length %" PRIu32, length);
        return;
    }
    uint64_t offset = load_be64(payload);
    uint64_t content_length = is_hole ? load_be32(payload + 8) : length - 8;
    if (!add_part(client, request, offset, content_length) || !request->data)
        return;
    uint8_t *to = request->data + (offset - request->offset);
    if (is_hole)
        memset(to, 0, content_length);
    else
        memcpy(to, payload + 8, content_length);
}

static void take_extent(struct sim_client *client, struct sim_request *request, uint64_t offset,
                        uint64_t length, uint32_t flags)
{
    uint64_t view_end = request->offset + request->length;
    char who[SIM_WHO_MAX + 64];
    if (flags & ~(NBD_STATE_HOLE | NBD_STATE_ZERO))
        sim_client_fail(client, request, "an extent with flags %#" PRIx32, flags);
    if (!(flags & NBD_STATE_ZERO) || offset >= view_end)
        return;
    snprintf(who, sizeof(who), "%s, request %" PRIu64 " (BLOCK_STATUS)", client->who,
             request->number);
    oracle_view_check_zero(client->all->oracle, &request->view, offset,
                           length < view_end - offset ? length : view_end - offset, who);
}

static void take_status(struct sim_client *client, struct sim_request *request,
                        const uint8_t *payload, uint32_t length)
{
    uint32_t count = length / NBD_DESCRIPTOR_SIZE;
    bool one = request->flags & NBD_CMD_FLAG_REQ_ONE;
    if (request->command != NBD_CMD_BLOCK_STATUS || request->status_came || count == 0 ||
        length != 4 + count * NBD_DESCRIPTOR_SIZE || (one && count != 1) ||
        load_be32(payload) != client->handshake.context_id || !request->view.since) {
        sim_client_fail(client, request, "a status chunk of length %" PRIu32 " for context %u",
                        length, length >= 4 ? load_be32(payload) : 0);
        return;
    }
    request->status_came = true;
    uint64_t offset = request->offset, size = client->all->oracle->size_bytes;
    for (uint32_t i = 0; i < count && !sim_failed(client->all->sim); i++) {
        const uint8_t *descriptor = payload + 4 + i * NBD_DESCRIPTOR_SIZE;
        uint64_t extent = load_be32(descriptor), end = request->offset + request->length;
        bool is_last = i == count - 1;
        if (extent == 0 || extent > size - offset || (!is_last && offset + extent >= end) ||
            (one && offset + extent > end))
            sim_client_fail(client, request,
                            "extent %" PRIu32 " of %" PRIu32 " is %#" PRIx64 " long, at %#" PRIx64,
                            i, count, extent, offset);
        else
            take_extent(client, request, offset, extent, load_be32(descriptor + 4));
        offset += extent;
    }
}

static void take_error(struct sim_client *client, struct sim_request *request, uint16_t type,
                       const uint8_t *payload, uint32_t length)
{
    uint32_t rest = type == NBD_REPLY_TYPE_ERROR_OFFSET ? 8 : 0;
    if (length < 6 + rest || load_be16(payload + 4) != length - 6 - rest || load_be32(payload) == 0)
        sim_client_fail(client, request, "an error chunk of length %" PRIu32, length);
    else if (request->error == 0)
        request->error = load_be32(payload);
}

static void end_structured(struct sim_client *client, struct sim_request *request)
{
    uint64_t covered = 0;
    for (unsigned i = 0; i < request->part_count; i++)
        covered += request->parts[i].length;
    if (request->command == NBD_CMD_READ && request->error == 0 && covered != request->length)
        sim_client_fail(client, request, "ended with %" PRIu64 " bytes of content", covered);
    else
        finish(client, request, request->error);
}

static void take_payload(struct sim_client *client, struct sim_request *request, uint16_t type,
                         const uint8_t *payload, uint32_t length)
{
    switch (type) {
    case NBD_REPLY_TYPE_NONE:
        if (length != 0)
            sim_client_fail(client, request, "an empty chunk of length %" PRIu32, length);
        break;
    case NBD_REPLY_TYPE_OFFSET_DATA:
    case NBD_REPLY_TYPE_OFFSET_HOLE:
        take_content(client, request, type, payload, length);
        break;
    case NBD_REPLY_TYPE_BLOCK_STATUS:
        take_status(client, request, payload, length);
        break;
    case NBD_REPLY_TYPE_ERROR:
    case NBD_REPLY_TYPE_ERROR_OFFSET:
        take_error(client, request, type, payload, length);
        break;
    default:
        sim_client_fail(client, request, "a chunk of type %#x", type);
    }
}

static bool take_chunk(struct sim_client *client)
{
    struct sim_bytes *input = &client->input;
    if (input->length < NBD_CHUNK_SIZE)
        return false;
    const uint8_t *header = bytes_begin(input);
    uint16_t flags = load_be16(header + 4), type = load_be16(header + 6);
    uint32_t length = load_be32(header + 16);
    struct sim_request *request = find_request(client, load_be64(header + 8));
    if (!request)
        return false;
    if (!client->handshake.structured_replies || length > (64 << 20) ||
        flags & ~NBD_REPLY_FLAG_DONE ||
        (type == NBD_REPLY_TYPE_NONE && !(flags & NBD_REPLY_FLAG_DONE))) {
        sim_client_fail(client, request, "a chunk with flags %#x, type %#x, length %" PRIu32, flags,
                        type, length);
        return false;
    }
    if (input->length < NBD_CHUNK_SIZE + length)
        return false;
    take_payload(client, request, type, header + NBD_CHUNK_SIZE, length);
    bytes_drop(input, NBD_CHUNK_SIZE + length);
    if (flags & NBD_REPLY_FLAG_DONE && !sim_failed(client->all->sim))
        end_structured(client, request);
    return true;
}

void sim_client_take_replies(struct sim_client *client)
{
    bool any = true;
    while (any && !sim_failed(client->all->sim) && client->input.length >= 4) {
        uint32_t magic = load_be32(bytes_begin(&client->input));
        if (magic == NBD_SIMPLE_REPLY_MAGIC) {
            any = take_simple(client);
        } else if (magic == NBD_STRUCTURED_REPLY_MAGIC) {
            any = take_chunk(client);
        } else {
            sim_client_fail(client, NULL, "a reply that begins with %#" PRIx32, magic);
            return;
        }
    }
}
