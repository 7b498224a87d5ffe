/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Extended headers, by a client that speaks them by hand: lengths past 4 GiB, 32 bytes both ways,
 * payload where the flag says.
 */
#include "tests/integration/fixture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/integration/raw_client.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define LARGE (9 * GIB + 512)

static const char *const persistent[] = {"-t", "-e", "0", NULL};
static const char *const unmapping[] = {"-t", "-e", "0", "--discard=unmap", NULL};

static struct raw_client start_large(struct server *server, const char *const options[])
{
    struct raw_client client;
    assert_int_equal(truncate(server->image, LARGE), 0);
    server_start(server, options);
    assert_int_equal(raw_open_extended(&client, server->socket, ""), 0);
    assert_true(client.export_size_bytes == LARGE);
    return client;
}

static void stop(struct server *server, struct raw_client *client)
{
    assert_int_equal(raw_request_long(client, 0, RAW_CMD_DISC, 0, 0, 0), 0);
    assert_int_equal(raw_wait_closed(client), 0);
    raw_close(client);
    server_stop(server);
}

/* One command without data either way. */
static struct raw_reply ask(struct raw_client *client, uint16_t flags, uint16_t command,
                            uint64_t offset, uint64_t length)
{
    static uint64_t cookie = 100;
    struct raw_reply reply;
    assert_int_equal(raw_request_long(client, flags, command, ++cookie, offset, length), 0);
    assert_int_equal(raw_receive_reply(client, &reply, NULL, offset, 0), 0);
    assert_true(reply.cookie == cookie);
    assert_false(reply.simple);
    return reply;
}

static void write_at(struct raw_client *client, const void *data, size_t length, uint64_t offset)
{
    struct raw_reply reply;
    assert_int_equal(
        raw_request_long(client, RAW_FLAG_PAYLOAD_LEN, RAW_CMD_WRITE, 7, offset, length), 0);
    assert_int_equal(raw_send(client, data, length), 0);
    assert_int_equal(raw_receive_reply(client, &reply, NULL, offset, 0), 0);
    assert_int_equal(reply.error, 0);
    assert_int_equal(reply.chunk_count, 1);
}

static void read_at(struct raw_client *client, void *data, uint32_t length, uint64_t offset)
{
    struct raw_reply reply;
    assert_int_equal(raw_request_long(client, 0, RAW_CMD_READ, 8, offset, length), 0);
    assert_int_equal(raw_receive_reply(client, &reply, data, offset, length), 0);
    assert_int_equal(reply.error, 0);
}

static void reads_and_writes_come_in_extended_chunks(void **state)
{
    struct server *server = *state;
    uint8_t want[100000], got[100000];
    fill_random(want, sizeof(want), 71);
    struct raw_client client = start_large(server, persistent);
    write_at(&client, want, sizeof(want), 5 * GIB + 3);
    read_at(&client, got, sizeof(got), 5 * GIB + 3);
    assert_memory_equal(got, want, sizeof(want));
    write_at(&client, want, 1, LARGE - 1);
    read_at(&client, got, 1, LARGE - 1);
    assert_int_equal(got[0], want[0]);
    assert_int_equal(ask(&client, 0, RAW_CMD_FLUSH, 0, 0).error, 0);
    stop(server, &client);
}

static void the_largest_write_is_taken_and_one_byte_more_ends_the_connection(void **state)
{
    struct server *server = *state;
    size_t length = 32 * MIB;
    uint8_t *data = malloc(length), *got = malloc(length);
    fill_random(data, length, 72);
    struct raw_client client = start_large(server, persistent), witness;
    assert_int_equal(raw_open_extended(&witness, server->socket, ""), 0);
    write_at(&client, data, length, 1);
    read_at(&client, got, length, 1);
    assert_int_equal(memcmp(got, data, length), 0);
    assert_int_equal(
        raw_request_long(&client, RAW_FLAG_PAYLOAD_LEN, RAW_CMD_WRITE, 9, 0, length + 1), 0);
    assert_int_equal(raw_wait_closed(&client), 0);
    raw_close(&client);
    read_at(&witness, got, 4096, 1);
    assert_memory_equal(got, data, 4096);
    stop(server, &witness);
    free(data);
    free(got);
}

static void trim_and_zeroes_of_more_than_4_gib_reach_the_last_byte(void **state)
{
    struct server *server = *state;
    static const uint64_t places[] = {0, 4 * GIB - 1, 4 * GIB, 8 * GIB + 77, LARGE - 600};
    uint8_t data[512], got[512], zeroes[512] = {0};
    fill_random(data, sizeof(data), 73);
    struct raw_client client = start_large(server, unmapping);
    for (int trim = 0; trim < 2; trim++) {
        for (size_t i = 0; i < 5; i++) {
            write_at(&client, data, sizeof(data), places[i]);
        }
        uint16_t command = trim ? RAW_CMD_TRIM : RAW_CMD_WRITE_ZEROES;
        assert_int_equal(ask(&client, RAW_FLAG_FUA, command, 1, LARGE - 1 - 100).error, 0);
        for (size_t i = 0; i < 5; i++) {
            read_at(&client, got, sizeof(got), places[i]);
            /* The first byte and the last 100 were spared. */
            size_t from = places[i] == 0 ? 1 : 0;
            size_t to =
                places[i] + sizeof(got) > LARGE - 100 ? LARGE - 100 - places[i] : sizeof(got);
            if (!trim) {
                assert_memory_equal(got + from, zeroes, to - from);
            }
            assert_memory_equal(got + to, data + to, sizeof(got) - to);
            if (from) {
                assert_int_equal(got[0], data[0]);
            }
        }
    }
    /* What is past the end is refused, also where 32 bits would wrap into the export. */
    assert_int_equal(ask(&client, 0, RAW_CMD_WRITE_ZEROES, 1, LARGE).error, RAW_ENOSPC);
    assert_int_equal(ask(&client, 0, RAW_CMD_WRITE_ZEROES, 0, UINT64_MAX).error, RAW_ENOSPC);
    assert_int_equal(ask(&client, 0, RAW_CMD_TRIM, UINT64_MAX, 2).error, RAW_EINVAL);
    stop(server, &client);
}

static void status_of_more_than_4_gib_is_answered_with_64_bits(void **state)
{
    struct server *server = *state;
    uint8_t data[65536];
    fill_random(data, sizeof(data), 74);
    struct raw_client client = start_large(server, persistent);
    struct raw_reply reply = ask(&client, 0, RAW_CMD_BLOCK_STATUS, 0, LARGE);
    assert_int_equal(reply.error, 0);
    assert_true(reply.extended_status);
    assert_int_equal(reply.extent_count, 1);
    assert_true(reply.extents[0].length == LARGE);
    assert_int_equal(reply.extents[0].flags, 3); /* a hole that reads as zeroes */

    write_at(&client, data, sizeof(data), 6 * GIB);
    reply = ask(&client, 0, RAW_CMD_BLOCK_STATUS, 0, LARGE);
    assert_int_equal(reply.extent_count, 3);
    assert_true(reply.extents[0].length == 6 * GIB);
    assert_true(reply.extents[1].length == sizeof(data));
    assert_int_equal(reply.extents[1].flags, 0);
    assert_true(reply.extents[0].length + reply.extents[1].length + reply.extents[2].length ==
                LARGE);

    reply = ask(&client, RAW_FLAG_REQ_ONE, RAW_CMD_BLOCK_STATUS, 0, 5 * GIB);
    assert_int_equal(reply.extent_count, 1);
    assert_true(reply.extents[0].length == 5 * GIB);
    stop(server, &client);
}

static void holes_in_reads_are_shown_with_extended_headers_too(void **state)
{
    struct server *server = *state;
    uint8_t *got = malloc(MIB);
    memset(got, 1, MIB);
    struct raw_client client = start_large(server, persistent);
    struct raw_reply reply;
    assert_int_equal(raw_request_long(&client, 0, RAW_CMD_READ, 3, GIB, MIB), 0);
    assert_int_equal(raw_receive_reply(&client, &reply, got, GIB, MIB), 0);
    assert_int_equal(reply.error, 0);
    assert_int_equal(reply.hole_count, 1);
    assert_int_equal(got[0] | got[MIB - 1], 0);
    stop(server, &client);
    free(got);
}

static void refusals_are_chunks_with_a_text_and_the_stream_stays_in_sync(void **state)
{
    struct server *server = *state;
    struct raw_client client = start_large(server, persistent);
    static const struct {
        uint16_t flags, command;
        uint64_t offset, length;
        uint32_t error;
    } table[] = {
        {0, RAW_CMD_READ, 0, 4 * GIB, RAW_EOVERFLOW},
        {0, RAW_CMD_READ, LARGE, 1, RAW_EINVAL},
        {0, RAW_CMD_WRITE, 0, 512, RAW_EINVAL}, /* no flag, so no payload either */
        {0, RAW_CMD_BLOCK_STATUS, 0, 0, RAW_EINVAL},
        {0, RAW_CMD_FLUSH, 1, 0, RAW_EINVAL},
        {0, 99, 0, 0, RAW_EINVAL},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct raw_reply reply =
            ask(&client, table[i].flags, table[i].command, table[i].offset, table[i].length);
        assert_int_equal(reply.error, table[i].error);
        assert_true(strlen(reply.text) > 10);
    }
    /* A payload that the command does not take is thrown away; the filter form of BLOCK_STATUS is
     * not offered (NBD_FLAG_BLOCK_STATUS_PAYLOAD). */
    static const uint16_t with_payload[] = {RAW_CMD_READ, RAW_CMD_TRIM, RAW_CMD_BLOCK_STATUS, 99};
    uint8_t payload[12] = {0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1};
    assert_false(client.export_flags & 0x1000);
    for (size_t i = 0; i < 4; i++) {
        struct raw_reply reply;
        assert_int_equal(raw_request_long(&client, RAW_FLAG_PAYLOAD_LEN, with_payload[i], 5, 0, 12),
                         0);
        assert_int_equal(raw_send(&client, payload, sizeof(payload)), 0);
        assert_int_equal(raw_receive_reply(&client, &reply, NULL, 0, 0), 0);
        assert_int_equal(reply.error, RAW_EINVAL);
    }
    assert_int_equal(ask(&client, 0, RAW_CMD_FLUSH, 0, 0).error, 0);
    stop(server, &client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_and_writes_come_in_extended_chunks, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(
            the_largest_write_is_taken_and_one_byte_more_ends_the_connection, fixture_setup,
            fixture_teardown),
        cmocka_unit_test_setup_teardown(trim_and_zeroes_of_more_than_4_gib_reach_the_last_byte,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(status_of_more_than_4_gib_is_answered_with_64_bits,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(holes_in_reads_are_shown_with_extended_headers_too,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(
            refusals_are_chunks_with_a_text_and_the_stream_stays_in_sync, fixture_setup,
            fixture_teardown),
    };
    fixture_require_server();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
