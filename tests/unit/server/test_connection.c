/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * connection.c, connection_input.c, dispatch.c, lane.c, server.c and stream_socket.c together: what
 * a client sends, cut anywhere, is the same session, and how a connection ends.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/endian.h"
#include "common/random.h"
#include "protocol/wire.h"
#include "server/connection.h"
#include "server/export.h"
#include "server/server.h"
#include "server/stream_socket.h"
#include "tests/unit/server/plant.h"

/* Handshake, a write, a refused write, a read of both, DISC. */
static size_t put_session(uint8_t *to)
{
    size_t at = put_handshake(to);
    at += put_request(to + at, NBD_CMD_WRITE, 1, 100, 7);
    memcpy(to + at, "payload", 7);
    at += 7;
    at += put_request(to + at, NBD_CMD_WRITE, 2, IMAGE_BYTES, 9);
    memcpy(to + at, "\x25\x60\x95\x13trash", 9); /* looks like a request, is none */
    at += 9;
    at += put_request(to + at, NBD_CMD_READ, 3, 98, 11);
    at += put_request(to + at, NBD_CMD_DISC, 4, 0, 0);
    return at;
}

#define SESSION_REPLY_BYTES (GREETING_BYTES + 3 * NBD_SIMPLE_REPLY_SIZE + 11)

static void check_session_reply(const uint8_t *reply)
{
    const uint8_t *at = reply + GREETING_BYTES;
    assert_int_equal(load_be64(reply + NBD_GREETING_SIZE), IMAGE_BYTES);
    assert_int_equal(load_be64(at + 8), 1);
    assert_int_equal(load_be32(at + 4), NBD_SUCCESS);
    at += NBD_SIMPLE_REPLY_SIZE;
    assert_int_equal(load_be64(at + 8), 2);
    assert_int_equal(load_be32(at + 4), NBD_ENOSPC);
    at += NBD_SIMPLE_REPLY_SIZE;
    assert_int_equal(load_be64(at + 8), 3);
    assert_int_equal(load_be32(at + 4), NBD_SUCCESS);
    at += NBD_SIMPLE_REPLY_SIZE;
    assert_memory_equal(at, "\0\0payload\0\0", 11);
}

static void bytes_in_two_pieces_cut_anywhere_are_the_same_session(void **state)
{
    (void)state;
    uint8_t session[256], reply[SESSION_REPLY_BYTES];
    size_t length = put_session(session);
    struct plant plant;
    plant_open(&plant, &plant_usual);
    for (size_t cut = 0; cut <= length; cut++) {
        send_all(&plant, session, cut);
        plant_turn(&plant);
        send_all(&plant, session + cut, length - cut);
        receive_all(&plant, reply, sizeof(reply));
        check_session_reply(reply);
        expect_end(&plant);
        plant_hang_up(&plant);
        plant_wait_ended(&plant, (unsigned)cut + 1);
        plant_connect(&plant);
    }
    plant_close(&plant);
}

static void bytes_that_come_one_by_one_are_the_same_session(void **state)
{
    (void)state;
    uint8_t session[256], reply[SESSION_REPLY_BYTES];
    size_t length = put_session(session);
    struct plant plant;
    plant_open(&plant, &plant_usual);
    for (size_t i = 0; i < length; i++)
        send_all(&plant, session + i, 1);
    receive_all(&plant, reply, sizeof(reply));
    check_session_reply(reply);
    expect_end(&plant);
    plant_close(&plant);
}

/* Writes of all sizes in pieces of all sizes, several on their way at once. */
static void payloads_arrive_whole_whatever_their_pieces(void **state)
{
    (void)state;
    enum { WRITES = 60, LENGTH_MAX = 700000 };
    const uint64_t seed = fixture_seed("payloads");
    struct random random;
    struct plant plant;
    uint8_t *expected = calloc(1, IMAGE_BYTES);
    size_t capacity = WRITES * ((size_t)LENGTH_MAX + NBD_REQUEST_SIZE), length = 0, sent = 0;
    uint8_t *stream = malloc(capacity);
    assert_non_null(expected);
    assert_non_null(stream);
    random_seed(&random, seed);
    for (unsigned i = 0; i < WRITES; i++) {
        uint32_t payload = 1 + (uint32_t)random_below(&random, i % 2 ? 9000 : LENGTH_MAX);
        /* Those under way together must not overlap: each has a stretch of its own. */
        uint64_t offset = i * (IMAGE_BYTES / WRITES);
        if (payload > IMAGE_BYTES / WRITES)
            payload = IMAGE_BYTES / WRITES;
        length += put_request(stream + length, NBD_CMD_WRITE, i, offset, payload);
        memset(stream + length, (int)i + 1, payload);
        memset(expected + offset, (int)i + 1, payload);
        length += payload;
    }
    plant_open(&plant, &plant_usual);
    plant.fixture.disk.pauses_max = 5;
    shake_hands(&plant);
    while (sent < length) {
        size_t piece = 1 + random_below(&random, random_once_in(&random, 3) ? 300000 : 3000);
        piece = piece < length - sent ? piece : length - sent;
        send_all(&plant, stream + sent, piece);
        sent += piece;
    }
    receive_all(&plant, NULL, WRITES * NBD_SIMPLE_REPLY_SIZE);
    assert_memory_equal(plant.fixture.disk.data, expected, IMAGE_BYTES);
    plant_close(&plant);
    free(stream);
    free(expected);
}

static void a_half_closed_client_gets_its_answers(void **state)
{
    (void)state;
    struct plant plant;
    plant_open(&plant, &plant_usual);
    plant.fixture.disk.pauses_max = 20;
    shake_hands(&plant);
    uint8_t bytes[NBD_REQUEST_SIZE];
    size_t length = put_request(bytes, NBD_CMD_READ, 9, 0, 4096);
    assert_int_equal(send(plant.fd, bytes, length, 0), length);
    shutdown(plant.fd, SHUT_WR);
    expect_reply(&plant, 9, NBD_SUCCESS);
    receive_all(&plant, NULL, 4096);
    expect_end(&plant);
    plant_close(&plant);
}

static void nonsense_is_answered_by_an_end_after_what_was_asked_before(void **state)
{
    (void)state;
    struct plant plant;
    uint8_t bytes[2 * NBD_REQUEST_SIZE] = {0};
    plant_open(&plant, &plant_usual);
    shake_hands(&plant);
    put_request(bytes, NBD_CMD_FLUSH, 5, 0, 0);
    send_all(&plant, bytes, sizeof(bytes));
    expect_reply(&plant, 5, NBD_SUCCESS);
    expect_end(&plant);
    /* It lingers for a moment, then ends though the client stays. */
    plant_wait_ended(&plant, 1);
    plant_close(&plant);
}

/* At each point of a session, with requests under way in the disk. */
static void a_client_that_vanishes_anywhere_costs_nothing_but_its_connection(void **state)
{
    (void)state;
    uint8_t session[256];
    size_t length = put_session(session);
    struct plant plant;
    plant_open(&plant, &plant_usual);
    plant.fixture.disk.pauses_max = 10;
    for (size_t cut = 0; cut < length; cut++) {
        assert_int_equal(send(plant.fd, session, cut, 0), cut);
        for (unsigned i = 0; i < cut % 4; i++)
            loop_turn(plant.fixture.loop, false);
        plant_hang_up(&plant);
        plant_wait_ended(&plant, (unsigned)cut + 1);
        plant_connect(&plant);
    }
    shake_hands(&plant);
    send_request(&plant, NBD_CMD_FLUSH, 1, 0, 0);
    expect_reply(&plant, 1, NBD_SUCCESS);
    plant_close(&plant);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_in_two_pieces_cut_anywhere_are_the_same_session),
        cmocka_unit_test(bytes_that_come_one_by_one_are_the_same_session),
        cmocka_unit_test(payloads_arrive_whole_whatever_their_pieces),
        cmocka_unit_test(a_half_closed_client_gets_its_answers),
        cmocka_unit_test(nonsense_is_answered_by_an_end_after_what_was_asked_before),
        cmocka_unit_test(a_client_that_vanishes_anywhere_costs_nothing_but_its_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
