/* SPDX-License-Identifier: BSD-3-Clause */
/* How many clients are let in, when the server ends, and what it owes them at the end. */
#include "tests/integration/fixture.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/integration/raw_client.h"

#define NOT_YET_MS 300 /* long enough that a server which does greet would have */
#define ESHUTDOWN_ON_THE_WIRE 108

/* A connection without a word from either side. */
static struct raw_client connect_only(const struct server *server)
{
    struct raw_client client;
    assert_int_equal(raw_connect(&client, server->socket), 0);
    return client;
}

static bool is_readable(const struct raw_client *client, int timeout_ms)
{
    struct pollfd readable = {.fd = client->fd, .events = POLLIN};
    return poll(&readable, 1, timeout_ms) > 0;
}

static void finish_handshake(struct raw_client *client)
{
    assert_int_equal(raw_greet(client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES), 0);
    assert_int_equal(raw_go(client, ""), 0);
}

static void disconnect(struct raw_client *client)
{
    assert_int_equal(raw_request(client, 0, RAW_CMD_DISC, 0, 0, 0), 0);
    assert_int_equal(raw_wait_closed(client), 0);
    raw_close(client);
}

static void one_client_at_a_time_is_let_in(struct server *server, const char *const options[])
{
    server_start(server, options);
    struct raw_client one = connect_only(server);
    finish_handshake(&one);
    struct raw_client two = connect_only(server);
    assert_false(is_readable(&two, NOT_YET_MS));
    disconnect(&one);
    assert_true(is_readable(&two, RAW_TIMEOUT_S * 1000));
    finish_handshake(&two);
    disconnect(&two);
    server_stop(server);
}

static void shared_by_1_makes_the_second_client_wait(void **state)
{
    one_client_at_a_time_is_let_in(*state, (const char *const[]){"-t", "-e", "1", NULL});
}

static void shared_by_1_is_the_default(void **state)
{
    one_client_at_a_time_is_let_in(*state, (const char *const[]){"-t", NULL});
}

static void shared_by_2_lets_two_in_and_the_third_wait(void **state)
{
    struct server *server = *state;
    server_start(server, (const char *const[]){"-t", "-e", "2", NULL});
    struct raw_client one = connect_only(server), two = connect_only(server);
    finish_handshake(&one);
    finish_handshake(&two);
    struct raw_client three = connect_only(server);
    assert_false(is_readable(&three, NOT_YET_MS));
    disconnect(&two);
    assert_true(is_readable(&three, RAW_TIMEOUT_S * 1000));
    finish_handshake(&three);
    disconnect(&one);
    disconnect(&three);
    server_stop(server);
}

static void shared_by_0_is_no_limit(void **state)
{
    enum { COUNT = 50 };
    struct server *server = *state;
    struct raw_client clients[COUNT];
    server_start(server, (const char *const[]){"-t", "-e", "0", NULL});
    for (size_t i = 0; i < COUNT; i++) {
        clients[i] = connect_only(server);
        finish_handshake(&clients[i]);
    }
    for (size_t i = 0; i < COUNT; i++) {
        disconnect(&clients[i]);
    }
    server_stop(server);
}

static void without_t_the_server_ends_with_its_last_client(void **state)
{
    struct server *server = *state;
    struct raw_reply reply;
    server_start(server, (const char *const[]){"-e", "2", NULL});
    struct raw_client one = connect_only(server), two = connect_only(server);
    finish_handshake(&one);
    finish_handshake(&two);
    disconnect(&one);
    /* The other is served on. */
    assert_int_equal(raw_request(&two, 0, RAW_CMD_READ, 1, 0, 512), 0);
    assert_int_equal(raw_receive_reply(&two, &reply, NULL, 0, 512), 0);
    assert_int_equal(reply.error, 0);
    assert_true(server_is_alive(server));
    disconnect(&two);
    server_expect_end(server);
}

static void without_t_a_client_that_vanishes_ends_it_too(void **state)
{
    struct server *server = *state;
    server_start(server, NULL);
    struct raw_client client = connect_only(server);
    finish_handshake(&client);
    raw_close(&client);
    server_expect_end(server);
}

static void clients_that_do_not_finish_the_handshake_do_not_end_it(void **state)
{
    struct server *server = *state;
    uint32_t type;
    server_start(server, NULL);
    struct raw_client client = connect_only(server); /* says nothing */
    assert_true(is_readable(&client, RAW_TIMEOUT_S * 1000));
    raw_close(&client);
    client = connect_only(server); /* lists, then aborts */
    assert_int_equal(raw_greet(&client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES), 0);
    assert_int_equal(raw_negotiate(&client, RAW_OPT_LIST, NULL, 0, &type), 0);
    assert_int_equal(type, RAW_REP_ACK);
    assert_int_equal(raw_negotiate(&client, RAW_OPT_ABORT, NULL, 0, &type), 0);
    assert_int_equal(type, RAW_REP_ACK);
    assert_int_equal(raw_wait_closed(&client), 0);
    raw_close(&client);
    client = connect_only(server); /* lists, then vanishes */
    assert_int_equal(raw_greet(&client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES), 0);
    assert_int_equal(raw_negotiate(&client, RAW_OPT_LIST, NULL, 0, &type), 0);
    raw_close(&client);
    client = connect_only(server); /* asks for an export that is not there */
    assert_int_equal(raw_greet(&client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES), 0);
    assert_int_equal(raw_go(&client, "nowhere"), -ENOENT);
    raw_close(&client);
    client = connect_only(server);
    finish_handshake(&client);
    assert_true(server_is_alive(server));
    disconnect(&client);
    server_expect_end(server);
}

/* What was sent before SIGTERM is answered, by success or by ESHUTDOWN; success is on the disk. */
static void SIGTERM_with_requests_in_flight_answers_them(void **state)
{
    enum { COUNT = 8, LENGTH = 4096 };
    struct server *server = *state;
    struct raw_reply reply;
    uint8_t batch[COUNT * (RAW_REQUEST_BYTES + LENGTH)], got[LENGTH], want[LENGTH];
    bool answered[COUNT] = {false}, written[COUNT] = {false};
    server_start(server, (const char *const[]){"-t", NULL});
    struct raw_client client = connect_only(server);
    finish_handshake(&client);
    for (unsigned int i = 0; i < COUNT; i++) {
        uint8_t *at = batch + i * (RAW_REQUEST_BYTES + LENGTH);
        raw_fill_request(at, RAW_FLAG_FUA, RAW_CMD_WRITE, i, i * LENGTH, LENGTH);
        fill_random(at + RAW_REQUEST_BYTES, LENGTH, 400 + i);
    }
    assert_int_equal(raw_send(&client, batch, sizeof(batch)), 0);
    assert_true(
        is_readable(&client, RAW_TIMEOUT_S * 1000)); /* the first answer: it has the batch */
    kill(server->pid, SIGTERM);
    for (unsigned int i = 0; i < COUNT; i++) {
        int code = raw_receive_reply(&client, &reply, NULL, 0, 0);
        if (code < 0) {
            fail_msg("%u of %u writes were answered", i, COUNT);
        }
        assert_true(reply.cookie < COUNT);
        assert_false(answered[reply.cookie]);
        answered[reply.cookie] = true;
        assert_true(reply.error == 0 || reply.error == ESHUTDOWN_ON_THE_WIRE);
        written[reply.cookie] = reply.error == 0;
    }
    assert_int_equal(raw_wait_closed(&client), 0);
    raw_close(&client);
    server_expect_end(server);
    for (unsigned int i = 0; i < COUNT; i++) {
        image_read(server, got, LENGTH, i * LENGTH);
        fill_random(want, LENGTH, 400 + i);
        assert_true(!written[i] || memcmp(got, want, LENGTH) == 0);
    }
}

static void SIGTERM_with_idle_and_half_open_clients_ends_it(void **state)
{
    struct server *server = *state;
    server_start(server, (const char *const[]){"-t", "-e", "0", NULL});
    struct raw_client silent = connect_only(server), idle = connect_only(server);
    assert_true(is_readable(&silent, RAW_TIMEOUT_S * 1000));
    finish_handshake(&idle);
    struct raw_client halfway = connect_only(server);
    finish_handshake(&halfway);
    assert_int_equal(raw_request(&halfway, 0, RAW_CMD_WRITE, 1, 0, 4096), 0);
    assert_int_equal(raw_send(&halfway, "half", 4), 0);
    server_stop(server);
    assert_int_equal(raw_wait_closed(&silent), 0);
    assert_int_equal(raw_wait_closed(&idle), 0);
    assert_int_equal(raw_wait_closed(&halfway), 0);
    raw_close(&silent);
    raw_close(&idle);
    raw_close(&halfway);
}

int main(void)
{
    fixture_require_server();
#define with_server(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        with_server(shared_by_1_makes_the_second_client_wait),
        with_server(shared_by_1_is_the_default),
        with_server(shared_by_2_lets_two_in_and_the_third_wait),
        with_server(shared_by_0_is_no_limit),
        with_server(without_t_the_server_ends_with_its_last_client),
        with_server(without_t_a_client_that_vanishes_ends_it_too),
        with_server(clients_that_do_not_finish_the_handshake_do_not_end_it),
        with_server(SIGTERM_with_requests_in_flight_answers_them),
        with_server(SIGTERM_with_idle_and_half_open_clients_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
