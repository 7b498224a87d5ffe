/* SPDX-License-Identifier: BSD-3-Clause */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/wire.h"
#include "tests/harness/sim_client.h"

#define UNKNOWN_COMMAND 99
#define UNKNOWN_FLAG UINT16_C(0x8000)

void sim_request_name(const struct sim_client *client, const struct sim_request *request,
                      char *text, size_t room)
{
    static const char *const names[] = {"READ", "WRITE", "DISC",         "FLUSH",
                                        "TRIM", "CACHE", "WRITE_ZEROES", "BLOCK_STATUS"};
    const char *name = request->command < 8 ? names[request->command] : "an unknown command";
    snprintf(text, room, "request %" PRIu64 " (%s flags %#x %#" PRIx64 "+%#" PRIx32 "%s)",
             request->number, name, request->flags, request->offset, request->length,
             client->handshake.structured_replies ? ", structured" : "");
}

void sim_request_end(struct sim_client *client, struct sim_request *request)
{
    oracle_view_close(&request->view);
    free(request->data);
    free(request->parts);
    *request = (struct sim_request){0};
    client->outstanding--;
}

struct sim_faults_request sim_request_for_faults(const struct sim_client *client,
                                                 const struct sim_request *request)
{
    bool writes = request->command == NBD_CMD_WRITE;
    bool zeroes = request->command == NBD_CMD_WRITE_ZEROES || request->command == NBD_CMD_TRIM;
    bool is_fua = request->flags & NBD_CMD_FLAG_FUA ||
                  (client->all->write_through && request->command != NBD_CMD_TRIM);
    return (struct sim_faults_request){
        .offset = request->offset,
        .length = request->length,
        .sent_ns = request->sent_ns,
        .reads = request->command == NBD_CMD_READ || request->command == NBD_CMD_CACHE,
        .writes = writes,
        .zeroes = zeroes,
        .seeks = request->command == NBD_CMD_BLOCK_STATUS,
        .syncs = request->command == NBD_CMD_FLUSH ||
                 ((writes || zeroes) && is_fua && request->length > 0),
    };
}

static struct sim_request *free_request(struct sim_client *client)
{
    unsigned at = 0;
    while (client->requests[at].is_used)
        at++;
    assert(at < SIM_DEPTH_MAX);
    return &client->requests[at];
}

/* --- what to ask for ------------------------------------------------------------------------- */

static bool has_flag(const struct sim_client *client, uint16_t flag)
{
    return client->handshake.transmission_flags & flag;
}

/* A place and a length inside the export; hot spots make the clients meet. */
static void draw_range(struct sim_client *client, struct sim_request *request)
{
    struct random *random = &client->random;
    uint64_t size = client->all->oracle->size_bytes;
    uint64_t offset;
    switch (random_below(random, 8)) {
    case 0:
    case 1:
        offset = random_below(random, size);
        break;
    case 2: /* the end, where odd sizes are */
        offset = size - draw_scaled(random, 1, size < 65536 ? size : 65536);
        break;
    case 3: /* behind the last one */
        offset = client->last_end < size ? client->last_end : 0;
        break;
    default:
        offset = client->all->hot_spots[random_below(random, 4)] + random_below(random, 16384);
        offset %= size;
    }
    uint64_t minimum = client->handshake.block_minimum;
    uint64_t alignment = random_once_in(random, 8) ? 1 : client->alignment;
    if (alignment < minimum)
        alignment = minimum;
    offset -= offset % alignment;
    uint64_t length = draw_scaled(random, 1, client->length_max);
    if (length > alignment)
        length -= length % alignment;
    if (length > size - offset)
        length = size - offset;
    if (length < minimum)
        length = minimum;
    request->offset = offset;
    request->length = (uint32_t)(length - length % minimum);
    client->last_end = offset + request->length;
}

static uint16_t draw_command(struct sim_client *client)
{
    struct random *random = &client->random;
    uint64_t drawn = random_below(random, 100);
    if (client->changes_much && drawn < 40)
        drawn += 50;
    if (drawn < 35)
        return NBD_CMD_READ;
    if (drawn < 45 && client->handshake.has_context)
        return NBD_CMD_BLOCK_STATUS;
    if (drawn < 47 && has_flag(client, NBD_FLAG_SEND_CACHE))
        return NBD_CMD_CACHE;
    if (drawn < 52)
        return has_flag(client, NBD_FLAG_SEND_FLUSH) ? NBD_CMD_FLUSH : NBD_CMD_READ;
    /* On a read-only export changes are refused; that is tried now and then. */
    if (client->all->read_only && !random_once_in(random, 5))
        return client->handshake.has_context ? NBD_CMD_BLOCK_STATUS : NBD_CMD_READ;
    if (drawn < 62 && has_flag(client, NBD_FLAG_SEND_WRITE_ZEROES))
        return NBD_CMD_WRITE_ZEROES;
    if (drawn < 70 && has_flag(client, NBD_FLAG_SEND_TRIM))
        return NBD_CMD_TRIM;
    return NBD_CMD_WRITE;
}

static void draw_flags(struct sim_client *client, struct sim_request *request)
{
    struct random *random = &client->random;
    bool changes = request->command != NBD_CMD_READ && request->command != NBD_CMD_BLOCK_STATUS &&
                   request->command != NBD_CMD_CACHE;
    if (has_flag(client, NBD_FLAG_SEND_FUA) && random_once_in(random, changes ? 5 : 40))
        request->flags |= NBD_CMD_FLAG_FUA;
    if (request->command == NBD_CMD_WRITE_ZEROES && random_once_in(random, 2))
        request->flags |= NBD_CMD_FLAG_NO_HOLE;
    if (request->command == NBD_CMD_WRITE_ZEROES && has_flag(client, NBD_FLAG_SEND_FAST_ZERO) &&
        random_once_in(random, 3))
        request->flags |= NBD_CMD_FLAG_FAST_ZERO;
    if (request->command == NBD_CMD_BLOCK_STATUS && random_once_in(random, 2))
        request->flags |= NBD_CMD_FLAG_REQ_ONE;
    if (request->command == NBD_CMD_READ && has_flag(client, NBD_FLAG_SEND_DF) &&
        request->length <= 65536 && random_once_in(random, 8))
        request->flags |= NBD_CMD_FLAG_DF;
}

static bool is_change(uint16_t command)
{
    return command == NBD_CMD_WRITE || command == NBD_CMD_WRITE_ZEROES || command == NBD_CMD_TRIM;
}

/* Now and then a request that must be refused; the stream must stay in step. */
static void make_bad(struct sim_client *client, struct sim_request *request)
{
    uint64_t size = client->all->oracle->size_bytes;
    switch (random_below(&client->random, 6)) {
    case 0:
        request->command = UNKNOWN_COMMAND;
        request->expected_error = NBD_EINVAL;
        break;
    case 1:
        request->flags |= UNKNOWN_FLAG;
        request->expected_error = NBD_EINVAL;
        break;
    case 2:
        if (request->command == NBD_CMD_FLUSH)
            break;
        request->offset = size - random_below(&client->random, request->length);
        request->expected_error =
            request->command == NBD_CMD_WRITE || request->command == NBD_CMD_WRITE_ZEROES
                ? NBD_ENOSPC
                : NBD_EINVAL;
        break;
    case 3: /* empty: a client should not ask, and nothing may come of it */
        request->length = 0;
        if (request->command == NBD_CMD_BLOCK_STATUS)
            request->expected_error = NBD_EINVAL;
        break;
    case 4:
        request->command = NBD_CMD_READ;
        request->flags = 0;
        request->length = UINT32_MAX - 4095;
        request->offset = 0;
        request->expected_error = client->handshake.structured_replies ? NBD_EOVERFLOW : NBD_EINVAL;
        break;
    case 5:
        request->command = NBD_CMD_BLOCK_STATUS;
        request->flags = 0;
        if (client->handshake.has_context)
            request->length = 0;
        request->expected_error = NBD_EINVAL;
        break;
    }
}

/* --- sending --------------------------------------------------------------------------------- */

static void put_header(struct sim_client *client, const struct sim_request *request)
{
    struct sim_bytes *output = &client->output;
    bytes_append_be32(output, NBD_REQUEST_MAGIC);
    bytes_append_be16(output, request->flags);
    bytes_append_be16(output, request->command);
    bytes_append_be64(output, request->cookie);
    bytes_append_be64(output, request->offset);
    bytes_append_be32(output, request->length);
}

static void tell_oracle(struct sim_client *client, struct sim_request *request)
{
    struct oracle *oracle = client->all->oracle;
    static const enum oracle_kind kinds[] = {[NBD_CMD_WRITE] = ORACLE_WRITE,
                                             [NBD_CMD_TRIM] = ORACLE_TRIM,
                                             [NBD_CMD_WRITE_ZEROES] = ORACLE_ZERO};
    if (request->expected_error)
        return;
    if (is_change(request->command))
        request->op = oracle_send(oracle, client->number, kinds[request->command], request->offset,
                                  request->length);
    else if (request->command == NBD_CMD_FLUSH)
        request->flush_sent = oracle_flush_send(oracle);
    else
        oracle_view_open(oracle, &request->view, request->offset, request->length);
}

static void send_request(struct sim_client *client, struct sim_request *request)
{
    request->is_used = true;
    request->sent_ns = client->all->sim->now_ns;
    request->number = client->next_number++;
    request->cookie = request->number << 32 | (uint32_t)random_u64(&client->random);
    client->outstanding++;
    tell_oracle(client, request);
    put_header(client, request);
    if (request->command == NBD_CMD_WRITE) {
        uint8_t *payload = bytes_append(&client->output, request->length);
        if (request->op)
            oracle_pattern(client->all->oracle, request->op, payload);
        else
            memset(payload, 0xee, request->length); /* must never be seen again */
    }
    if (request->command == NBD_CMD_READ && !request->expected_error) {
        request->data = malloc(request->length);
        assert(request->data);
        memset(request->data, 0xdd, request->length);
    }
    sim_note(client->all->sim, "request", client->number,
             (uint64_t)request->command << 16 | request->flags, request->offset);
}

static void send_drawn(struct sim_client *client)
{
    struct sim_request *request = free_request(client);
    request->command = draw_command(client);
    if (request->command != NBD_CMD_FLUSH)
        draw_range(client, request);
    draw_flags(client, request);
    if (client->all->read_only && is_change(request->command))
        request->expected_error = NBD_EPERM;
    else if (client->phase == PHASE_TRANSMISSION && random_once_in(&client->random, 40))
        make_bad(client, request);
    send_request(client, request);
}

/* Reads the export from one end to the other, then flushes. */
static void send_verifying(struct sim_client *client)
{
    struct sim_request *request = free_request(client);
    uint64_t left = client->all->oracle->size_bytes - client->verify_offset;
    if (left == 0) {
        request->command = NBD_CMD_FLUSH;
        client->requests_left = 0;
    } else {
        request->command = NBD_CMD_READ;
        request->offset = client->verify_offset;
        request->length = left < 65536 ? (uint32_t)left : 65536;
        client->verify_offset += request->length;
    }
    send_request(client, request);
}

void sim_client_send_requests(struct sim_client *client)
{
    while (client->requests_left > 0 && client->outstanding < client->depth &&
           client->output.length < (1 << 20)) {
        if (client->kind == SIM_CLIENT_VERIFIER) {
            send_verifying(client);
        } else {
            client->requests_left--;
            send_drawn(client);
        }
    }
}

void sim_client_send_eagerly(struct sim_client *client)
{
    client->is_eager = false;
    for (unsigned i = 0; i < 4 && client->outstanding < client->depth; i++) {
        if (client->requests_left == 0)
            return;
        client->requests_left--;
        send_drawn(client);
    }
}

void sim_client_send_disconnect(struct sim_client *client)
{
    struct sim_request disconnect = {.command = NBD_CMD_DISC,
                                     .cookie = random_u64(&client->random)};
    put_header(client, &disconnect);
}
