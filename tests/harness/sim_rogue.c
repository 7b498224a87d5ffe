/* SPDX-License-Identifier: BSD-3-Clause */
#include <assert.h>

#include "protocol/wire.h"
#include "tests/harness/sim_client.h"

enum rogue_kind {
    /* In the handshake. */
    ROGUE_SILENT,
    ROGUE_GARBAGE,
    ROGUE_HALF_OPTION,
    ROGUE_GIANT_OPTION,
    ROGUE_ENDLESS_OPTIONS,
    /* In transmission. */
    ROGUE_GARBAGE_REQUEST,
    ROGUE_HALF_REQUEST,
    ROGUE_GIANT_WRITE,
    ROGUE_HALF_WRITE, /* none of it may ever be seen */
    ROGUE_NEVER_READS,
    ROGUE_KINDS,
};

#define ROGUE_BYTE 0xbb /* what a rogue writes; no byte of it may reach the image */

void sim_rogue_draw(struct sim_client *client)
{
    client->rogue_kind = (unsigned)random_below(&client->random, ROGUE_KINDS);
    client->leave = LEAVE_AFTER_ALL;
    client->requests_left = 0;
    client->idles_at = 0;
    client->is_slow_reader = false;
    client->lingers = client->rogue_kind == ROGUE_NEVER_READS && random_once_in(&client->random, 2);
}

bool sim_rogue_negotiates(const struct sim_client *client)
{
    return client->rogue_kind >= ROGUE_GARBAGE_REQUEST;
}

bool sim_rogue_reads(const struct sim_client *client)
{
    return client->rogue_kind != ROGUE_NEVER_READS;
}

static void put_random(struct sim_client *client, size_t length)
{
    uint8_t *to = bytes_append(&client->output, length);
    for (size_t i = 0; i < length; i++)
        to[i] = (uint8_t)random_u64(&client->random);
}

static void put_filler(struct sim_client *client, size_t length)
{
    uint8_t *to = bytes_append(&client->output, length);
    for (size_t i = 0; i < length; i++)
        to[i] = ROGUE_BYTE;
}

static void put_option(struct sim_client *client, uint32_t option, uint32_t length)
{
    bytes_append_be64(&client->output, NBD_OPTS_MAGIC);
    bytes_append_be32(&client->output, option);
    bytes_append_be32(&client->output, length);
}

static void put_request(struct sim_client *client, uint16_t command, uint64_t offset,
                        uint32_t length)
{
    bytes_append_be32(&client->output, NBD_REQUEST_MAGIC);
    bytes_append_be16(&client->output, 0);
    bytes_append_be16(&client->output, command);
    bytes_append_be64(&client->output, random_u64(&client->random));
    bytes_append_be64(&client->output, offset);
    bytes_append_be32(&client->output, length);
}

static void put_half_request(struct sim_client *client)
{
    size_t before = client->output.length;
    put_request(client, NBD_CMD_WRITE, 0, 512);
    client->output.length = before + draw_between(&client->random, 1, NBD_REQUEST_SIZE - 1);
}

static void put_half_write(struct sim_client *client)
{
    uint64_t size = client->all->oracle->size_bytes;
    uint32_t length = (uint32_t)draw_scaled(&client->random, 2, size < 262144 ? size : 262144);
    uint64_t offset = random_below(&client->random, size - length + 1);
    put_request(client, NBD_CMD_WRITE, offset, length);
    put_filler(client, random_below(&client->random, length));
}

static void put_many_reads(struct sim_client *client)
{
    uint64_t size = client->all->oracle->size_bytes;
    uint32_t length = size < 262144 ? (uint32_t)size : 262144;
    for (unsigned i = 0; i < 200; i++)
        put_request(client, NBD_CMD_READ, 0, length);
}

bool sim_rogue_send(struct sim_client *client)
{
    switch ((enum rogue_kind)client->rogue_kind) {
    case ROGUE_SILENT:
        return false;
    case ROGUE_GARBAGE:
        put_random(client, draw_scaled(&client->random, 1, 65536));
        return false;
    case ROGUE_HALF_OPTION:
        bytes_append_be32(&client->output, NBD_FLAG_C_FIXED_NEWSTYLE);
        bytes_append_be64(&client->output, NBD_OPTS_MAGIC);
        return random_once_in(&client->random, 2);
    case ROGUE_GIANT_OPTION:
        bytes_append_be32(&client->output, NBD_FLAG_C_FIXED_NEWSTYLE);
        put_option(client, NBD_OPT_GO, UINT32_MAX);
        put_filler(client, 5000);
        return false;
    case ROGUE_ENDLESS_OPTIONS:
        bytes_append_be32(&client->output, NBD_FLAG_C_FIXED_NEWSTYLE);
        for (unsigned i = 0; i < 3000; i++)
            put_option(client, NBD_OPT_LIST, 0);
        return false;
    case ROGUE_GARBAGE_REQUEST:
        put_random(client, draw_scaled(&client->random, NBD_REQUEST_SIZE, 65536));
        return false;
    case ROGUE_HALF_REQUEST:
        put_half_request(client);
        return random_once_in(&client->random, 2);
    case ROGUE_GIANT_WRITE:
        put_request(client, NBD_CMD_WRITE, 0, UINT32_MAX - 15);
        put_filler(client, 5000);
        return random_once_in(&client->random, 2);
    case ROGUE_HALF_WRITE:
        put_half_write(client);
        return random_once_in(&client->random, 2);
    case ROGUE_NEVER_READS:
        put_many_reads(client);
        return !client->lingers;
    case ROGUE_KINDS:
        break;
    }
    assert(!"a rogue's kind");
    return true;
}
