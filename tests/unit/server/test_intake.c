/* SPDX-License-Identifier: BSD-3-Clause */
/* intake.c: WRITEs that come in part wait for each other, and none for ever. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "protocol/wire.h"
#include "server/intake.h"
#include "server/server.h"
#include "tests/unit/server/plant.h"

#define CLIENTS 4
#define WRITE_BYTES (200u << 10)
#define HALF_BYTES (WRITE_BYTES / 2)

/* Room for the first piece of one, and a reserve for the rest of one. */
static const struct intake_limits little = {
    .small_bytes = 4096,
    .room_bytes = 64 << 10,
    .reserve_bytes = WRITE_BYTES + 1000,
    .behind_bytes = 512,
    .idle_ms = 100,
    .slowest_bytes = 1 << 20,
};

static const struct server_options with_little = {
    .persistent = true,
    .stop_timeout_ms = 60000,
    .placement = &placement_fewest,
    .intake = &little,
};

/* Several clients of one plant; plant.fd is that of who speaks. */
struct crowd {
    struct plant plant;
    int fds[CLIENTS];
    uint8_t *data; /* CLIENTS writes */
};

static void speak_as(struct crowd *crowd, unsigned who)
{
    crowd->plant.fd = crowd->fds[who];
}

static void crowd_open(struct crowd *crowd, const struct server_options *options)
{
    plant_open(&crowd->plant, options);
    crowd->data = malloc(CLIENTS * WRITE_BYTES);
    assert_non_null(crowd->data);
    for (size_t i = 0; i < CLIENTS * WRITE_BYTES; i++)
        crowd->data[i] = (uint8_t)(i * 7 + i / 4096);
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (i > 0)
            plant_connect(&crowd->plant);
        crowd->fds[i] = crowd->plant.fd;
        shake_hands(&crowd->plant);
    }
}

static void hang_up(struct crowd *crowd, unsigned who)
{
    speak_as(crowd, who);
    plant_hang_up(&crowd->plant);
    crowd->fds[who] = -1;
}

static void crowd_close(struct crowd *crowd)
{
    for (unsigned i = 0; i < CLIENTS; i++)
        hang_up(crowd, i);
    plant_close(&crowd->plant);
    free(crowd->data);
}

/* The header and half of the data, in one piece, whether the server reads it or not. */
static void begin_write(struct crowd *crowd, unsigned who)
{
    uint8_t *bytes = malloc(NBD_REQUEST_SIZE + HALF_BYTES);
    assert_non_null(bytes);
    put_request(bytes, NBD_CMD_WRITE, who, who * (uint64_t)WRITE_BYTES, WRITE_BYTES);
    memcpy(bytes + NBD_REQUEST_SIZE, crowd->data + who * (size_t)WRITE_BYTES, HALF_BYTES);
    ssize_t sent = send(crowd->fds[who], bytes, NBD_REQUEST_SIZE + HALF_BYTES, MSG_NOSIGNAL);
    assert_int_equal(sent, NBD_REQUEST_SIZE + HALF_BYTES);
    free(bytes);
    plant_turn(&crowd->plant);
}

static void send_part(struct crowd *crowd, unsigned who, size_t from, size_t length)
{
    speak_as(crowd, who);
    send_all(&crowd->plant, crowd->data + who * (size_t)WRITE_BYTES + from, length);
}

/* Puts it into the socket, whether the server reads or not. */
static void send_part_blindly(struct crowd *crowd, unsigned who, size_t from, size_t length)
{
    const uint8_t *data = crowd->data + who * (size_t)WRITE_BYTES + from;
    assert_int_equal(send(crowd->fds[who], data, length, MSG_NOSIGNAL), length);
    plant_turn(&crowd->plant);
}

/* Of what it sent, in the socket's own measure. */
static int unread_bytes(const struct crowd *crowd, unsigned who)
{
    int unread;
    assert_int_equal(ioctl(crowd->fds[who], SIOCOUTQ, &unread), 0);
    return unread;
}

static bool is_held_back(const struct crowd *crowd, unsigned who)
{
    return unread_bytes(crowd, who) > 0;
}

static void expect_done(struct crowd *crowd, unsigned who)
{
    speak_as(crowd, who);
    expect_reply(&crowd->plant, who, NBD_SUCCESS);
    send_request(&crowd->plant, NBD_CMD_READ, 100 + who, who * (uint64_t)WRITE_BYTES, WRITE_BYTES);
    expect_reply(&crowd->plant, 100 + who, NBD_SUCCESS);
    uint8_t *got = malloc(WRITE_BYTES);
    assert_non_null(got);
    receive_all(&crowd->plant, got, WRITE_BYTES);
    assert_memory_equal(got, crowd->data + who * (size_t)WRITE_BYTES, WRITE_BYTES);
    free(got);
}

/* The first fills the room; the second has the reserve; the others wait. */
static void begin_all(struct crowd *crowd)
{
    for (unsigned i = 0; i < CLIENTS; i++)
        begin_write(crowd, i);
    assert_false(is_held_back(crowd, 0));
    assert_false(is_held_back(crowd, 1));
    assert_true(is_held_back(crowd, 2));
    assert_true(is_held_back(crowd, 3));
}

static void writes_that_do_not_fit_wait_for_their_turn_and_come_out_right(void **state)
{
    (void)state;
    struct crowd crowd;
    crowd_open(&crowd, &with_little);
    begin_all(&crowd);
    /* There is no room for more of the first one's, and others came before. */
    send_part_blindly(&crowd, 0, HALF_BYTES, 1000);
    assert_true(is_held_back(&crowd, 0));
    static const unsigned order[CLIENTS] = {1, 2, 3, 0};
    for (unsigned i = 0; i < CLIENTS; i++) {
        unsigned who = order[i];
        size_t sent = HALF_BYTES + (who == 0 ? 1000 : 0);
        assert_false(is_held_back(&crowd, who));
        send_part(&crowd, who, sent, WRITE_BYTES - sent);
        expect_done(&crowd, who);
    }
    crowd_close(&crowd);
}

static void who_hangs_up_gives_its_place_to_the_next(void **state)
{
    (void)state;
    struct crowd crowd;
    crowd_open(&crowd, &with_little);
    begin_all(&crowd);
    hang_up(&crowd, 1); /* it had the reserve */
    hang_up(&crowd, 2); /* it is next, and is not read: nobody knows yet */
    plant_wait_ended(&crowd.plant, 2);
    assert_false(is_held_back(&crowd, 3));
    send_part(&crowd, 3, HALF_BYTES, WRITE_BYTES - HALF_BYTES);
    expect_done(&crowd, 3);
    crowd_close(&crowd);
}

static void small_writes_and_reads_go_on_beside_a_full_room(void **state)
{
    (void)state;
    struct crowd crowd;
    uint8_t got[4096];
    crowd_open(&crowd, &with_little);
    for (unsigned i = 0; i < CLIENTS - 1; i++)
        begin_write(&crowd, i);
    assert_true(is_held_back(&crowd, 2));
    speak_as(&crowd, 3);
    for (unsigned i = 0; i < 10; i++) {
        uint64_t offset = IMAGE_BYTES - 4096 * (i + 1);
        send_request(&crowd.plant, NBD_CMD_WRITE, i, offset, 4096);
        send_all(&crowd.plant, crowd.data + i, 1); /* in part, too */
        send_all(&crowd.plant, crowd.data + i + 1, 4095);
        expect_reply(&crowd.plant, i, NBD_SUCCESS);
        send_request(&crowd.plant, NBD_CMD_READ, i, offset, 4096);
        expect_reply(&crowd.plant, i, NBD_SUCCESS);
        receive_all(&crowd.plant, got, sizeof(got));
        assert_memory_equal(got, crowd.data + i, sizeof(got));
    }
    crowd_close(&crowd);
}

static void turn_for_ms(struct crowd *crowd, uint64_t ms)
{
    uint64_t from_ms = plant_now_ms();
    while (plant_now_ms() - from_ms < ms)
        plant_turn(&crowd->plant);
}

static void room_that_is_given_back_is_used_in_pieces(void **state)
{
    (void)state;
    struct crowd crowd;
    struct server_options options = with_little;
    struct intake_limits patient = little;
    patient.idle_ms = 60000;
    options.intake = &patient;
    options.stall_timeout_ms = 400;
    crowd_open(&crowd, &options);
    begin_all(&crowd);
    int unread = unread_bytes(&crowd, 2);
    size_t sent = HALF_BYTES;
    for (; crowd.plant.ended_count == 0; sent++) { /* until the first, which has the room, stalls */
        assert_true(sent < WRITE_BYTES);
        send_part(&crowd, 1, sent, 1);
        turn_for_ms(&crowd, 20);
    }
    turn_for_ms(&crowd, 1);
    assert_true(unread_bytes(&crowd, 2) < unread);
    assert_true(is_held_back(&crowd, 2) && is_held_back(&crowd, 3));
    send_part(&crowd, 1, sent, WRITE_BYTES - sent);
    expect_done(&crowd, 1);
    send_part(&crowd, 3, HALF_BYTES, WRITE_BYTES - HALF_BYTES); /* before who had a piece */
    expect_done(&crowd, 3);
    send_part(&crowd, 2, HALF_BYTES, WRITE_BYTES - HALF_BYTES);
    expect_done(&crowd, 2);
    crowd_close(&crowd);
}

static void who_sends_nothing_while_others_wait_is_closed_and_they_go_on(void **state)
{
    (void)state;
    struct crowd crowd;
    struct server_options options = with_little;
    options.stall_timeout_ms = 60000;
    crowd_open(&crowd, &options);
    begin_write(&crowd, 0);
    begin_write(&crowd, 1);
    turn_for_ms(&crowd, 3 * little.idle_ms);
    assert_int_equal(crowd.plant.ended_count, 0); /* nobody waits for its part */
    begin_write(&crowd, 2);
    plant_wait_ended(&crowd.plant, 1);
    speak_as(&crowd, 1);
    expect_end(&crowd.plant);
    send_part(&crowd, 2, HALF_BYTES, WRITE_BYTES - HALF_BYTES);
    expect_done(&crowd, 2);
    assert_int_equal(crowd.plant.ended_count, 1); /* who has no part of the reserve may be slow */
    crowd_close(&crowd);
}

static void who_trickles_while_others_wait_is_closed_after_a_while(void **state)
{
    (void)state;
    struct crowd crowd;
    struct server_options options = with_little;
    options.stall_timeout_ms = 60000;
    crowd_open(&crowd, &options);
    uint64_t from_ms = plant_now_ms();
    begin_all(&crowd);
    for (size_t at = HALF_BYTES; crowd.plant.ended_count == 0; at++) {
        assert_true(at < WRITE_BYTES && plant_now_ms() - from_ms < LIMIT_MS);
        (void)!send(crowd.fds[1], crowd.data + WRITE_BYTES + at, 1, MSG_NOSIGNAL);
        turn_for_ms(&crowd, 5);
    }
    assert_true(plant_now_ms() - from_ms >= little.idle_ms);
    speak_as(&crowd, 1);
    expect_end(&crowd.plant);
    crowd_close(&crowd);
}

static void who_waits_has_not_stalled(void **state)
{
    (void)state;
    struct crowd crowd;
    struct server_options options = with_little;
    struct intake_limits patient = little;
    patient.idle_ms = 60000;
    options.intake = &patient;
    options.stall_timeout_ms = 400;
    crowd_open(&crowd, &options);
    begin_all(&crowd);
    send_part_blindly(&crowd, 0, HALF_BYTES, 1000); /* it waits as well */
    for (size_t at = 0; at < 30; at++) {            /* in all, twice the limit */
        send_part(&crowd, 1, HALF_BYTES + at, 1);
        turn_for_ms(&crowd, 30);
    }
    assert_int_equal(crowd.plant.ended_count, 0);
    send_part(&crowd, 1, HALF_BYTES + 30, WRITE_BYTES - HALF_BYTES - 30);
    expect_done(&crowd, 1);
    send_part(&crowd, 2, HALF_BYTES, WRITE_BYTES - HALF_BYTES);
    expect_done(&crowd, 2);
    crowd_close(&crowd);
}

static void a_stop_waits_for_nobody_who_waits(void **state)
{
    (void)state;
    struct crowd crowd;
    crowd_open(&crowd, &with_little);
    begin_all(&crowd);
    /* All of the last one's lies in its socket: it is written, though it waited. */
    send_part_blindly(&crowd, 3, HALF_BYTES, 1000);
    server_stop(crowd.plant.server);
    uint64_t until_ms = plant_now_ms() + LIMIT_MS;
    while (!crowd.plant.has_stopped) {
        for (unsigned i = 0; i < CLIENTS; i++)
            shutdown(crowd.fds[i], SHUT_WR);
        plant_turn(&crowd.plant);
        assert_true(plant_now_ms() < until_ms);
    }
    crowd_close(&crowd);
}

static void a_write_that_waits_and_came_whole_is_done_at_a_stop(void **state)
{
    (void)state;
    struct crowd crowd;
    crowd_open(&crowd, &with_little);
    for (unsigned i = 0; i < 2; i++)
        begin_write(&crowd, i);
    speak_as(&crowd, 2);
    send_request(&crowd.plant, NBD_CMD_WRITE, 2, 0, HALF_BYTES);
    send_part_blindly(&crowd, 2, 0, HALF_BYTES);
    assert_true(is_held_back(&crowd, 2));
    server_stop(crowd.plant.server);
    expect_reply(&crowd.plant, 2, NBD_SUCCESS);
    expect_end(&crowd.plant);
    crowd_close(&crowd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_that_do_not_fit_wait_for_their_turn_and_come_out_right),
        cmocka_unit_test(who_hangs_up_gives_its_place_to_the_next),
        cmocka_unit_test(room_that_is_given_back_is_used_in_pieces),
        cmocka_unit_test(small_writes_and_reads_go_on_beside_a_full_room),
        cmocka_unit_test(who_sends_nothing_while_others_wait_is_closed_and_they_go_on),
        cmocka_unit_test(who_trickles_while_others_wait_is_closed_after_a_while),
        cmocka_unit_test(who_waits_has_not_stalled),
        cmocka_unit_test(a_stop_waits_for_nobody_who_waits),
        cmocka_unit_test(a_write_that_waits_and_came_whole_is_done_at_a_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
