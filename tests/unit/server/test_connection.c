/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * connection.c, connection_input.c, dispatch.c, lane.c, server.c and stream_socket.c together: a
 * server on one loop, an image in memory, and a client at the other end of a socket pair, all on
 * this thread.
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
#include "tests/unit/block/block_fixture.h"

#define IMAGE_BYTES ((uint64_t)8 << 20)
#define HANDSHAKE_BYTES (4 + 16)                /* flags, EXPORT_NAME of "" */
#define GREETING_BYTES (NBD_GREETING_SIZE + 10) /* the server's, and its answer, without zeroes */
#define LIMIT_MS 20000

struct plant {
    struct fixture fixture;
    struct export *export;
    struct server *server;
    struct server_options options;
    int fd; /* the client's end; -1: closed */
    bool has_stopped;
    unsigned ended_count;
};

/* --- the server's side --------------------------------------------------------------------------
 */

static void room(void *ctx)
{
    ((struct plant *)ctx)->ended_count++;
}

static void stopped(void *ctx)
{
    ((struct plant *)ctx)->has_stopped = true;
}

static void co_open_export(struct fixture *fixture, void *arg)
{
    struct plant *plant = arg;
    const struct export_options options = {.name = "", .multi_conn = true};
    struct error err;
    fixture_co_open(fixture, "file", false);
    assert_int_equal(export_co_open(&plant->export, fixture->node, &options, &err), 0);
}

static void co_close_export(struct fixture *fixture, void *arg)
{
    struct plant *plant = arg;
    (void)fixture;
    assert_int_equal(export_co_close(plant->export), 0);
}

static void connect_client(struct plant *plant)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct stream *stream = stream_socket_new(fds[0], "the client");
    assert_non_null(stream);
    assert_true(server_has_room(plant->server));
    server_accept_stream(plant->server, stream);
    plant->fd = fds[1];
}

static void plant_open(struct plant *plant, const struct server_options *options)
{
    const struct server_events events = {
        .room = room, .last_left = room, .stopped = stopped, .ctx = plant};
    struct error err;
    *plant = (struct plant){.fd = -1};
    fixture_init(&plant->fixture, memory_drivers, IMAGE_BYTES, IMAGE_BYTES, 1);
    fixture_run(&plant->fixture, co_open_export, plant);
    assert_int_equal(
        server_new(&plant->server, &plant->fixture.env, plant->export, options, &events, &err), 0);
    connect_client(plant);
}

static const struct server_options usual = {
    .persistent = true,
    .stop_timeout_ms = 60000,
    .placement = &placement_fewest,
};

static uint64_t now_ms(void)
{
    return clock_monotonic.now_ns(&clock_monotonic) / NS_PER_MS;
}

static void turn(struct plant *plant)
{
    while (loop_turn(plant->fixture.loop, false))
        ;
}

static void hang_up(struct plant *plant)
{
    if (plant->fd >= 0)
        close(plant->fd);
    plant->fd = -1;
}

static void wait_ended(struct plant *plant, unsigned count)
{
    uint64_t until_ms = now_ms() + LIMIT_MS;
    while (plant->ended_count < count) {
        turn(plant);
        assert_true(now_ms() < until_ms);
    }
}

static void plant_close(struct plant *plant)
{
    uint64_t until_ms = now_ms() + LIMIT_MS;
    hang_up(plant);
    server_stop(plant->server);
    while (!plant->has_stopped) {
        turn(plant);
        assert_true(now_ms() < until_ms);
    }
    server_free(plant->server);
    fixture_run(&plant->fixture, co_close_export, plant);
    fixture_fini(&plant->fixture);
}

/* --- the client's side --------------------------------------------------------------------------
 */

static void send_all(struct plant *plant, const void *bytes, size_t length)
{
    const char *at = bytes;
    uint64_t until_ms = now_ms() + LIMIT_MS;
    while (length > 0) {
        ssize_t put = send(plant->fd, at, length, MSG_NOSIGNAL);
        assert_true(put > 0 || errno == EAGAIN);
        at += put > 0 ? put : 0;
        length -= put > 0 ? (size_t)put : 0;
        turn(plant);
        assert_true(now_ms() < until_ms);
    }
}

/* Exactly length bytes; to may be NULL. */
static void receive_all(struct plant *plant, void *to, size_t length)
{
    static char nowhere[1 << 16];
    size_t done = 0;
    uint64_t until_ms = now_ms() + LIMIT_MS;
    while (done < length) {
        size_t want = length - done;
        char *at = to ? (char *)to + done : nowhere;
        if (!to && want > sizeof(nowhere))
            want = sizeof(nowhere);
        ssize_t got = recv(plant->fd, at, want, 0);
        assert_true(got > 0 || (got < 0 && errno == EAGAIN));
        done += got > 0 ? (size_t)got : 0;
        turn(plant);
        assert_true(now_ms() < until_ms);
    }
}

static void expect_end(struct plant *plant)
{
    char byte;
    uint64_t until_ms = now_ms() + LIMIT_MS;
    ssize_t got;
    while ((got = recv(plant->fd, &byte, 1, 0)) < 0 && errno == EAGAIN) {
        turn(plant);
        assert_true(now_ms() < until_ms);
    }
    assert_true(got == 0 || (got < 0 && errno == ECONNRESET));
}

static size_t put_handshake(uint8_t *to)
{
    store_be32(to, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
    store_be64(to + 4, NBD_OPTS_MAGIC);
    store_be32(to + 12, NBD_OPT_EXPORT_NAME);
    store_be32(to + 16, 0);
    return HANDSHAKE_BYTES;
}

static size_t put_request(uint8_t *to, uint16_t command, uint64_t cookie, uint64_t offset,
                          uint32_t length)
{
    store_be32(to, NBD_REQUEST_MAGIC);
    store_be16(to + 4, 0);
    store_be16(to + 6, command);
    store_be64(to + 8, cookie);
    store_be64(to + 16, offset);
    store_be32(to + 24, length);
    return NBD_REQUEST_SIZE;
}

static void shake_hands(struct plant *plant)
{
    uint8_t bytes[HANDSHAKE_BYTES];
    send_all(plant, bytes, put_handshake(bytes));
    receive_all(plant, NULL, GREETING_BYTES);
}

static void send_request(struct plant *plant, uint16_t command, uint64_t cookie, uint64_t offset,
                         uint32_t length)
{
    uint8_t bytes[NBD_REQUEST_SIZE];
    send_all(plant, bytes, put_request(bytes, command, cookie, offset, length));
}

static void expect_reply(struct plant *plant, uint64_t cookie, uint32_t error)
{
    uint8_t bytes[NBD_SIMPLE_REPLY_SIZE];
    receive_all(plant, bytes, sizeof(bytes));
    assert_int_equal(load_be32(bytes), NBD_SIMPLE_REPLY_MAGIC);
    assert_int_equal(load_be32(bytes + 4), error);
    assert_int_equal(load_be64(bytes + 8), cookie);
}

/* --- tests --------------------------------------------------------------------------------------
 */

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
    plant_open(&plant, &usual);
    for (size_t cut = 0; cut <= length; cut++) {
        send_all(&plant, session, cut);
        turn(&plant);
        send_all(&plant, session + cut, length - cut);
        receive_all(&plant, reply, sizeof(reply));
        check_session_reply(reply);
        expect_end(&plant);
        hang_up(&plant);
        wait_ended(&plant, (unsigned)cut + 1);
        connect_client(&plant);
    }
    plant_close(&plant);
}

static void bytes_that_come_one_by_one_are_the_same_session(void **state)
{
    (void)state;
    uint8_t session[256], reply[SESSION_REPLY_BYTES];
    size_t length = put_session(session);
    struct plant plant;
    plant_open(&plant, &usual);
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
    plant_open(&plant, &usual);
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

static void send_reads(struct plant *plant, unsigned count, uint32_t length)
{
    for (unsigned i = 0; i < count; i++)
        send_request(plant, NBD_CMD_READ, i, 0, length);
    turn(plant);
}

static void a_slow_disk_gets_requests_up_to_the_bytes_bound(void **state)
{
    (void)state;
    enum { COUNT = 200, LENGTH = 1 << 20 };
    struct plant plant;
    plant_open(&plant, &usual);
    shake_hands(&plant);
    memory_disk_hold(&plant.fixture.disk, 1u << MEMORY_READ);
    send_reads(&plant, COUNT, LENGTH);
    assert_int_equal(plant.fixture.disk.counts[MEMORY_READ], CONNECTION_BYTES_MAX / LENGTH);
    memory_disk_release(&plant.fixture.disk);
    receive_all(&plant, NULL, COUNT * ((size_t)LENGTH + NBD_SIMPLE_REPLY_SIZE));
    plant_close(&plant);
}

static void a_client_that_does_not_read_is_not_read_ahead_of(void **state)
{
    (void)state;
    enum { COUNT = 200, LENGTH = 1 << 18 };
    struct plant plant;
    plant_open(&plant, &usual);
    shake_hands(&plant);
    send_reads(&plant, COUNT, LENGTH);
    /* The socket took what one of them brought, or less. */
    unsigned ahead = CONNECTION_READ_AHEAD_BYTES / LENGTH;
    assert_in_range(plant.fixture.disk.counts[MEMORY_READ], ahead, ahead + 1);
    receive_all(&plant, NULL, COUNT * ((size_t)LENGTH + NBD_SIMPLE_REPLY_SIZE));
    plant_close(&plant);
}

static void a_client_that_does_not_read_is_not_read_past_the_requests_bound(void **state)
{
    (void)state;
    enum { COUNT = 2000, LENGTH = 2048 };
    struct plant plant;
    uint8_t *batch = malloc(COUNT * NBD_REQUEST_SIZE);
    assert_non_null(batch);
    plant_open(&plant, &usual);
    shake_hands(&plant);
    for (unsigned i = 0; i < COUNT; i++)
        put_request(batch + i * NBD_REQUEST_SIZE, NBD_CMD_READ, i, 0, LENGTH);
    /* In one piece: many small ones would fill the socket. */
    send_all(&plant, batch, COUNT * NBD_REQUEST_SIZE);
    free(batch);
    unsigned read = plant.fixture.disk.counts[MEMORY_READ];
    assert_in_range(read, CONNECTION_REQUESTS_MAX, CONNECTION_REQUESTS_MAX + 128);
    receive_all(&plant, NULL, COUNT * ((size_t)LENGTH + NBD_SIMPLE_REPLY_SIZE));
    assert_int_equal(plant.fixture.disk.counts[MEMORY_READ], COUNT);
    plant_close(&plant);
}

static void one_request_goes_on_however_large(void **state)
{
    (void)state;
    struct plant plant;
    plant_open(&plant, &usual);
    shake_hands(&plant);
    send_request(&plant, NBD_CMD_READ, 1, 0, IMAGE_BYTES);
    for (unsigned i = 0; i < 5; i++)
        send_request(&plant, NBD_CMD_READ, 2 + i, 0, IMAGE_BYTES);
    receive_all(&plant, NULL, 6 * (IMAGE_BYTES + NBD_SIMPLE_REPLY_SIZE));
    plant_close(&plant);
}

static void a_half_closed_client_gets_its_answers(void **state)
{
    (void)state;
    struct plant plant;
    plant_open(&plant, &usual);
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
    plant_open(&plant, &usual);
    shake_hands(&plant);
    put_request(bytes, NBD_CMD_FLUSH, 5, 0, 0);
    send_all(&plant, bytes, sizeof(bytes));
    expect_reply(&plant, 5, NBD_SUCCESS);
    expect_end(&plant);
    /* It lingers for a moment, then ends though the client stays. */
    wait_ended(&plant, 1);
    plant_close(&plant);
}

static void who_does_not_finish_the_handshake_in_time_is_left(void **state)
{
    (void)state;
    struct plant plant;
    struct server_options hasty = usual;
    hasty.handshake_timeout_ms = 30;
    plant_open(&plant, &hasty);
    uint64_t from_ms = now_ms();
    receive_all(&plant, NULL, NBD_GREETING_SIZE);
    expect_end(&plant);
    assert_true(now_ms() - from_ms >= 20);
    hang_up(&plant);
    /* Who does is not. */
    connect_client(&plant);
    shake_hands(&plant);
    from_ms = now_ms();
    while (now_ms() - from_ms < 60)
        turn(&plant);
    send_request(&plant, NBD_CMD_FLUSH, 1, 0, 0);
    expect_reply(&plant, 1, NBD_SUCCESS);
    plant_close(&plant);
}

/* A connection that stalled has ended within the limit and not long before. */
static void expect_stall_end(struct plant *plant, unsigned ended_count)
{
    uint64_t from_ms = now_ms();
    wait_ended(plant, ended_count);
    assert_true(now_ms() - from_ms >= 20);
    hang_up(plant);
    connect_client(plant);
}

static void who_sends_a_part_of_a_request_and_no_more_is_left(void **state)
{
    (void)state;
    struct plant plant;
    struct server_options hasty = usual;
    uint8_t bytes[NBD_REQUEST_SIZE + 100] = {0};
    hasty.stall_timeout_ms = 30;
    plant_open(&plant, &hasty);
    shake_hands(&plant); /* a part of a header */
    put_request(bytes, NBD_CMD_WRITE, 1, 0, 100000);
    send_all(&plant, bytes, 5);
    expect_stall_end(&plant, 1);
    shake_hands(&plant); /* a part of a payload */
    send_all(&plant, bytes, sizeof(bytes));
    expect_stall_end(&plant, 2);
    shake_hands(&plant); /* a part of a payload that is thrown away */
    put_request(bytes, NBD_CMD_WRITE, 1, IMAGE_BYTES, 100000);
    send_all(&plant, bytes, sizeof(bytes));
    expect_stall_end(&plant, 3);
    plant_close(&plant);
}

static void who_is_silent_between_requests_or_slow_within_one_is_not_left(void **state)
{
    (void)state;
    struct plant plant;
    struct server_options hasty = usual;
    uint8_t bytes[NBD_REQUEST_SIZE + 20] = {0};
    hasty.stall_timeout_ms = 200;
    plant_open(&plant, &hasty);
    shake_hands(&plant);
    put_request(bytes, NBD_CMD_WRITE, 1, 0, 20);
    for (size_t i = 0; i < sizeof(bytes); i++) { /* in all, more than twice the limit */
        uint64_t from_ms = now_ms();
        send_all(&plant, bytes + i, 1);
        while (now_ms() - from_ms < 10)
            turn(&plant);
    }
    expect_reply(&plant, 1, NBD_SUCCESS);
    uint64_t from_ms = now_ms();
    while (now_ms() - from_ms < 450)
        turn(&plant);
    send_request(&plant, NBD_CMD_FLUSH, 2, 0, 0);
    expect_reply(&plant, 2, NBD_SUCCESS);
    plant_close(&plant);
}

static void a_stop_answers_what_was_sent_and_does_not_wait_for_the_idle(void **state)
{
    (void)state;
    struct plant plant;
    uint8_t bytes[3 * NBD_REQUEST_SIZE];
    plant_open(&plant, &usual);
    shake_hands(&plant);
    for (unsigned i = 0; i < 3; i++)
        put_request(bytes + i * NBD_REQUEST_SIZE, NBD_CMD_FLUSH, i, 0, 0);
    assert_int_equal(send(plant.fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    server_stop(plant.server);
    assert_false(server_has_room(plant.server));
    for (unsigned i = 0; i < 3; i++)
        expect_reply(&plant, i, NBD_ESHUTDOWN);
    expect_end(&plant);
    plant_close(&plant);

    plant_open(&plant, &usual);
    shake_hands(&plant);
    server_stop(plant.server);
    turn(&plant);
    assert_true(plant.has_stopped);
    plant_close(&plant);
}

static void a_client_that_does_not_read_holds_up_a_stop_for_the_timeout_only(void **state)
{
    (void)state;
    struct plant plant;
    struct server_options hasty = usual;
    hasty.stop_timeout_ms = 40;
    plant_open(&plant, &hasty);
    shake_hands(&plant);
    for (unsigned i = 0; i < 20; i++)
        send_request(&plant, NBD_CMD_READ, i, 0, 1 << 20);
    uint64_t from_ms = now_ms();
    server_stop(plant.server);
    while (!plant.has_stopped) {
        turn(&plant);
        assert_true(now_ms() - from_ms < LIMIT_MS);
    }
    assert_true(now_ms() - from_ms >= 30);
    plant_close(&plant);
}

/* At each point of a session, with requests under way in the disk. */
static void a_client_that_vanishes_anywhere_costs_nothing_but_its_connection(void **state)
{
    (void)state;
    uint8_t session[256];
    size_t length = put_session(session);
    struct plant plant;
    plant_open(&plant, &usual);
    plant.fixture.disk.pauses_max = 10;
    for (size_t cut = 0; cut < length; cut++) {
        assert_int_equal(send(plant.fd, session, cut, 0), cut);
        for (unsigned i = 0; i < cut % 4; i++)
            loop_turn(plant.fixture.loop, false);
        hang_up(&plant);
        wait_ended(&plant, (unsigned)cut + 1);
        connect_client(&plant);
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
        cmocka_unit_test(a_slow_disk_gets_requests_up_to_the_bytes_bound),
        cmocka_unit_test(a_client_that_does_not_read_is_not_read_ahead_of),
        cmocka_unit_test(a_client_that_does_not_read_is_not_read_past_the_requests_bound),
        cmocka_unit_test(one_request_goes_on_however_large),
        cmocka_unit_test(a_half_closed_client_gets_its_answers),
        cmocka_unit_test(nonsense_is_answered_by_an_end_after_what_was_asked_before),
        cmocka_unit_test(who_does_not_finish_the_handshake_in_time_is_left),
        cmocka_unit_test(who_sends_a_part_of_a_request_and_no_more_is_left),
        cmocka_unit_test(who_is_silent_between_requests_or_slow_within_one_is_not_left),
        cmocka_unit_test(a_stop_answers_what_was_sent_and_does_not_wait_for_the_idle),
        cmocka_unit_test(a_client_that_does_not_read_holds_up_a_stop_for_the_timeout_only),
        cmocka_unit_test(a_client_that_vanishes_anywhere_costs_nothing_but_its_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
