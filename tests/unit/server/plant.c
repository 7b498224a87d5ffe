/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/server/plant.h"

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

void plant_connect(struct plant *plant)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct stream *stream = stream_socket_new(fds[0], "the client");
    assert_non_null(stream);
    assert_true(server_has_room(plant->server));
    server_accept_stream(plant->server, stream);
    plant->fd = fds[1];
}

void plant_open(struct plant *plant, const struct server_options *options)
{
    const struct server_events events = {
        .room = room, .last_left = room, .stopped = stopped, .ctx = plant};
    struct error err;
    *plant = (struct plant){.fd = -1};
    fixture_init(&plant->fixture, memory_drivers, IMAGE_BYTES, IMAGE_BYTES, 1);
    fixture_run(&plant->fixture, co_open_export, plant);
    assert_int_equal(
        server_new(&plant->server, &plant->fixture.env, plant->export, options, &events, &err), 0);
    plant_connect(plant);
}

const struct server_options plant_usual = {
    .persistent = true,
    .stop_timeout_ms = 60000,
    .placement = &placement_fewest,
};

uint64_t plant_now_ms(void)
{
    return clock_monotonic.now_ns(&clock_monotonic) / NS_PER_MS;
}

void plant_turn(struct plant *plant)
{
    while (loop_turn(plant->fixture.loop, false))
        ;
}

void plant_hang_up(struct plant *plant)
{
    if (plant->fd >= 0)
        close(plant->fd);
    plant->fd = -1;
}

void plant_wait_ended(struct plant *plant, unsigned count)
{
    uint64_t until_ms = plant_now_ms() + LIMIT_MS;
    while (plant->ended_count < count) {
        plant_turn(plant);
        assert_true(plant_now_ms() < until_ms);
    }
}

void plant_close(struct plant *plant)
{
    uint64_t until_ms = plant_now_ms() + LIMIT_MS;
    plant_hang_up(plant);
    server_stop(plant->server);
    while (!plant->has_stopped) {
        plant_turn(plant);
        assert_true(plant_now_ms() < until_ms);
    }
    server_free(plant->server);
    fixture_run(&plant->fixture, co_close_export, plant);
    fixture_fini(&plant->fixture);
}

/* --- the client's side --------------------------------------------------------------------------
 */

void send_all(struct plant *plant, const void *bytes, size_t length)
{
    const char *at = bytes;
    uint64_t until_ms = plant_now_ms() + LIMIT_MS;
    while (length > 0) {
        ssize_t put = send(plant->fd, at, length, MSG_NOSIGNAL);
        assert_true(put > 0 || errno == EAGAIN);
        at += put > 0 ? put : 0;
        length -= put > 0 ? (size_t)put : 0;
        plant_turn(plant);
        assert_true(plant_now_ms() < until_ms);
    }
}

void receive_all(struct plant *plant, void *to, size_t length)
{
    static char nowhere[1 << 16];
    size_t done = 0;
    uint64_t until_ms = plant_now_ms() + LIMIT_MS;
    while (done < length) {
        size_t want = length - done;
        char *at = to ? (char *)to + done : nowhere;
        if (!to && want > sizeof(nowhere))
            want = sizeof(nowhere);
        ssize_t got = recv(plant->fd, at, want, 0);
        assert_true(got > 0 || (got < 0 && errno == EAGAIN));
        done += got > 0 ? (size_t)got : 0;
        plant_turn(plant);
        assert_true(plant_now_ms() < until_ms);
    }
}

void expect_end(struct plant *plant)
{
    char byte;
    uint64_t until_ms = plant_now_ms() + LIMIT_MS;
    ssize_t got;
    while ((got = recv(plant->fd, &byte, 1, 0)) < 0 && errno == EAGAIN) {
        plant_turn(plant);
        assert_true(plant_now_ms() < until_ms);
    }
    assert_true(got == 0 || (got < 0 && errno == ECONNRESET));
}

size_t put_handshake(uint8_t *to)
{
    store_be32(to, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
    store_be64(to + 4, NBD_OPTS_MAGIC);
    store_be32(to + 12, NBD_OPT_EXPORT_NAME);
    store_be32(to + 16, 0);
    return HANDSHAKE_BYTES;
}

size_t put_request(uint8_t *to, uint16_t command, uint64_t cookie, uint64_t offset, uint32_t length)
{
    store_be32(to, NBD_REQUEST_MAGIC);
    store_be16(to + 4, 0);
    store_be16(to + 6, command);
    store_be64(to + 8, cookie);
    store_be64(to + 16, offset);
    store_be32(to + 24, length);
    return NBD_REQUEST_SIZE;
}

void shake_hands(struct plant *plant)
{
    uint8_t bytes[HANDSHAKE_BYTES];
    send_all(plant, bytes, put_handshake(bytes));
    receive_all(plant, NULL, GREETING_BYTES);
}

void send_request(struct plant *plant, uint16_t command, uint64_t cookie, uint64_t offset,
                  uint32_t length)
{
    uint8_t bytes[NBD_REQUEST_SIZE];
    send_all(plant, bytes, put_request(bytes, command, cookie, offset, length));
}

void expect_reply(struct plant *plant, uint64_t cookie, uint32_t error)
{
    uint8_t bytes[NBD_SIMPLE_REPLY_SIZE];
    receive_all(plant, bytes, sizeof(bytes));
    assert_int_equal(load_be32(bytes), NBD_SIMPLE_REPLY_MAGIC);
    assert_int_equal(load_be32(bytes + 4), error);
    assert_int_equal(load_be64(bytes + 8), cookie);
}

/* --- tests --------------------------------------------------------------------------------------
 */
