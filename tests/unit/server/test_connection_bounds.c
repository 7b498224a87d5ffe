/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * connection.c and connection_input.c: what one client can make the server hold, in requests, in
 * bytes and in time.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/loop_backlog.h"
#include "common/endian.h"
#include "common/random.h"
#include "protocol/wire.h"
#include "server/connection.h"
#include "server/export.h"
#include "server/server.h"
#include "server/stream_socket.h"
#include "tests/unit/server/plant.h"

static void send_reads(struct plant *plant, unsigned count, uint32_t length)
{
    for (unsigned i = 0; i < count; i++)
        send_request(plant, NBD_CMD_READ, i, 0, length);
    plant_turn(plant);
}

static void a_slow_disk_gets_requests_up_to_the_bytes_bound(void **state)
{
    (void)state;
    enum { COUNT = 200, LENGTH = 1 << 20 };
    struct plant plant;
    plant_open(&plant, &plant_usual);
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
    plant_open(&plant, &plant_usual);
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
    plant_open(&plant, &plant_usual);
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

static void grow_backlog(struct plant *plant)
{
    while (!loop_is_backlogged(plant->fixture.loop))
        loop_backlog_grew(plant->fixture.loop);
}

static void a_loop_with_much_to_begin_receives_nothing_and_does_not_spin(void **state)
{
    (void)state;
    struct plant plant;
    plant_open(&plant, &plant_usual);
    shake_hands(&plant);
    grow_backlog(&plant);
    uint8_t request[NBD_REQUEST_SIZE];
    put_request(request, NBD_CMD_READ, 7, 0, 4096);
    send_all(&plant, request, sizeof(request));
    plant_turn(&plant); /* ends: the socket is not looked at again and again */
    assert_int_equal(plant.fixture.disk.counts[MEMORY_READ], 0);
    loop_backlog_fell(plant.fixture.loop, LOOP_BACKLOG_MAX);
    plant_turn(&plant);
    assert_int_equal(plant.fixture.disk.counts[MEMORY_READ], 1);
    expect_reply(&plant, 7, NBD_SUCCESS);
    receive_all(&plant, NULL, 4096);
    /* And it is looked at again. */
    send_request(&plant, NBD_CMD_READ, 8, 0, 4096);
    expect_reply(&plant, 8, NBD_SUCCESS);
    receive_all(&plant, NULL, 4096);
    plant_close(&plant);
}

static void who_is_not_received_from_may_be_closed(void **state)
{
    (void)state;
    struct plant plant;
    plant_open(&plant, &plant_usual);
    shake_hands(&plant);
    grow_backlog(&plant);
    send_all(&plant, "x", 1);
    plant_turn(&plant);
    server_stop(plant.server); /* nothing of it is under way: it is closed at once */
    expect_end(&plant);
    loop_backlog_fell(plant.fixture.loop, LOOP_BACKLOG_MAX);
    plant_turn(&plant);
    plant_close(&plant);
}

static void one_request_goes_on_however_large(void **state)
{
    (void)state;
    struct plant plant;
    plant_open(&plant, &plant_usual);
    shake_hands(&plant);
    send_request(&plant, NBD_CMD_READ, 1, 0, IMAGE_BYTES);
    for (unsigned i = 0; i < 5; i++)
        send_request(&plant, NBD_CMD_READ, 2 + i, 0, IMAGE_BYTES);
    receive_all(&plant, NULL, 6 * (IMAGE_BYTES + NBD_SIMPLE_REPLY_SIZE));
    plant_close(&plant);
}

static void who_does_not_finish_the_handshake_in_time_is_left(void **state)
{
    (void)state;
    struct plant plant;
    struct server_options hasty = plant_usual;
    hasty.handshake_timeout_ms = 30;
    plant_open(&plant, &hasty);
    uint64_t from_ms = plant_now_ms();
    receive_all(&plant, NULL, NBD_GREETING_SIZE);
    expect_end(&plant);
    assert_true(plant_now_ms() - from_ms >= 20);
    plant_hang_up(&plant);
    /* Who does is not. */
    plant_connect(&plant);
    shake_hands(&plant);
    from_ms = plant_now_ms();
    while (plant_now_ms() - from_ms < 60)
        plant_turn(&plant);
    send_request(&plant, NBD_CMD_FLUSH, 1, 0, 0);
    expect_reply(&plant, 1, NBD_SUCCESS);
    plant_close(&plant);
}

/* A connection that stalled has ended within the limit and not long before. */
static void expect_stall_end(struct plant *plant, unsigned ended_count)
{
    uint64_t from_ms = plant_now_ms();
    plant_wait_ended(plant, ended_count);
    assert_true(plant_now_ms() - from_ms >= 20);
    plant_hang_up(plant);
    plant_connect(plant);
}

static void who_sends_a_part_of_a_request_and_no_more_is_left(void **state)
{
    (void)state;
    struct plant plant;
    struct server_options hasty = plant_usual;
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
    struct server_options hasty = plant_usual;
    uint8_t bytes[NBD_REQUEST_SIZE + 20] = {0};
    hasty.stall_timeout_ms = 200;
    plant_open(&plant, &hasty);
    shake_hands(&plant);
    put_request(bytes, NBD_CMD_WRITE, 1, 0, 20);
    for (size_t i = 0; i < sizeof(bytes); i++) { /* in all, more than twice the limit */
        uint64_t from_ms = plant_now_ms();
        send_all(&plant, bytes + i, 1);
        while (plant_now_ms() - from_ms < 10)
            plant_turn(&plant);
    }
    expect_reply(&plant, 1, NBD_SUCCESS);
    uint64_t from_ms = plant_now_ms();
    while (plant_now_ms() - from_ms < 450)
        plant_turn(&plant);
    send_request(&plant, NBD_CMD_FLUSH, 2, 0, 0);
    expect_reply(&plant, 2, NBD_SUCCESS);
    plant_close(&plant);
}

static void a_stop_answers_what_was_sent_and_does_not_wait_for_the_idle(void **state)
{
    (void)state;
    struct plant plant;
    uint8_t bytes[3 * NBD_REQUEST_SIZE];
    plant_open(&plant, &plant_usual);
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

    plant_open(&plant, &plant_usual);
    shake_hands(&plant);
    server_stop(plant.server);
    plant_turn(&plant);
    assert_true(plant.has_stopped);
    plant_close(&plant);
}

static void a_client_that_does_not_read_holds_up_a_stop_for_the_timeout_only(void **state)
{
    (void)state;
    struct plant plant;
    struct server_options hasty = plant_usual;
    hasty.stop_timeout_ms = 40;
    plant_open(&plant, &hasty);
    shake_hands(&plant);
    for (unsigned i = 0; i < 20; i++)
        send_request(&plant, NBD_CMD_READ, i, 0, 1 << 20);
    uint64_t from_ms = plant_now_ms();
    server_stop(plant.server);
    while (!plant.has_stopped) {
        plant_turn(&plant);
        assert_true(plant_now_ms() - from_ms < LIMIT_MS);
    }
    assert_true(plant_now_ms() - from_ms >= 30);
    plant_close(&plant);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_disk_gets_requests_up_to_the_bytes_bound),
        cmocka_unit_test(a_client_that_does_not_read_is_not_read_ahead_of),
        cmocka_unit_test(a_client_that_does_not_read_is_not_read_past_the_requests_bound),
        cmocka_unit_test(a_loop_with_much_to_begin_receives_nothing_and_does_not_spin),
        cmocka_unit_test(who_is_not_received_from_may_be_closed),
        cmocka_unit_test(one_request_goes_on_however_large),
        cmocka_unit_test(who_does_not_finish_the_handshake_in_time_is_left),
        cmocka_unit_test(who_sends_a_part_of_a_request_and_no_more_is_left),
        cmocka_unit_test(who_is_silent_between_requests_or_slow_within_one_is_not_left),
        cmocka_unit_test(a_stop_answers_what_was_sent_and_does_not_wait_for_the_idle),
        cmocka_unit_test(a_client_that_does_not_read_holds_up_a_stop_for_the_timeout_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
