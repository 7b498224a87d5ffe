/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * connection.c: what a client may count on when the server stops, and when it has more than one
 * connection.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/endian.h"
#include "protocol/wire.h"
#include "tests/unit/server/plant.h"

/* A request that is under way in the disk keeps the connection open, and what comes meanwhile is
 * refused; a refused write's payload is no request. */
static void requests_that_come_during_a_stop_are_eshutdown_and_then_it_closes(void **state)
{
    (void)state;
    struct plant plant;
    plant_open(&plant, &plant_usual);
    shake_hands(&plant);
    memory_disk_hold(&plant.fixture.disk, 1u << MEMORY_FLUSH);
    send_request(&plant, NBD_CMD_WRITE, 1, 0, 3);
    send_all(&plant, "abc", 3);
    expect_reply(&plant, 1, NBD_SUCCESS);
    send_request(&plant, NBD_CMD_FLUSH, 2, 0, 0);
    plant_turn(&plant);
    server_stop(plant.server);
    plant_turn(&plant);
    assert_false(plant.has_stopped);
    for (uint64_t cookie = 3; cookie < 6; cookie++) {
        send_request(&plant, NBD_CMD_WRITE, cookie, 0, 3);
        send_all(&plant, "xyz", 3);
        expect_reply(&plant, cookie, NBD_ESHUTDOWN);
        send_request(&plant, NBD_CMD_READ, cookie + 10, 0, 4096);
        expect_reply(&plant, cookie + 10, NBD_ESHUTDOWN);
    }
    memory_disk_release(&plant.fixture.disk);
    expect_reply(&plant, 2, NBD_SUCCESS);
    expect_end(&plant);
    assert_memory_equal(plant.fixture.disk.data, "abc", 3);
    plant_close(&plant);
}

/* All of it was in the socket when the stop came. */
static void a_large_batch_in_the_socket_is_answered_whole_at_a_stop(void **state)
{
    (void)state;
    enum { COUNT = 12, LENGTH = 16384 };
    static uint8_t write[NBD_REQUEST_SIZE + LENGTH];
    struct plant plant;
    unsigned sent = 0;
    plant_open(&plant, &plant_usual);
    shake_hands(&plant);
    for (; sent < COUNT; sent++) {
        put_request(write, NBD_CMD_WRITE, sent, 0, LENGTH);
        if (send(plant.fd, write, sizeof(write), MSG_DONTWAIT) != sizeof(write))
            break;
    }
    assert_true(sent > 2);
    server_stop(plant.server);
    for (unsigned i = 0; i < sent; i++)
        expect_reply(&plant, i, NBD_ESHUTDOWN);
    plant_close(&plant);
}

static void expect_option_reply(struct plant *plant, uint32_t option, uint32_t type)
{
    uint8_t head[NBD_OPTION_REPLY_SIZE], text[NBD_STRING_MAX];
    receive_all(plant, head, sizeof(head));
    assert_int_equal(load_be32(head + 8), option);
    assert_int_equal(load_be32(head + 12), type);
    assert_in_range(load_be32(head + 16), 0, sizeof(text));
    receive_all(plant, text, load_be32(head + 16));
}

static size_t put_option(uint8_t *to, uint32_t option)
{
    store_be64(to, NBD_OPTS_MAGIC);
    store_be32(to + 8, option);
    store_be32(to + 12, 0);
    return NBD_OPTION_HEADER_SIZE;
}

static void options_that_come_during_a_stop_are_err_shutdown(void **state)
{
    (void)state;
    uint8_t bytes[4 + NBD_OPTION_HEADER_SIZE];
    struct plant plant;
    plant_open(&plant, &plant_usual);
    receive_all(&plant, NULL, NBD_GREETING_SIZE);
    store_be32(bytes, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
    send_all(&plant, bytes, 4 + put_option(bytes + 4, NBD_OPT_LIST));
    expect_option_reply(&plant, NBD_OPT_LIST, NBD_REP_SERVER);
    expect_option_reply(&plant, NBD_OPT_LIST, NBD_REP_ACK);
    server_stop(plant.server);
    plant_turn(&plant);
    send_all(&plant, bytes, put_option(bytes, NBD_OPT_STRUCTURED_REPLY));
    expect_option_reply(&plant, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_SHUTDOWN);
    send_all(&plant, bytes, put_option(bytes, NBD_OPT_ABORT));
    expect_option_reply(&plant, NBD_OPT_ABORT, NBD_REP_ACK);
    expect_end(&plant);
    plant_close(&plant);
}

/* One that says nothing more is waited for a moment; one that never spoke, not at all. */
static void a_stop_gives_a_client_in_the_handshake_a_moment_if_it_ever_spoke(void **state)
{
    (void)state;
    uint8_t flags[4];
    struct plant plant;
    store_be32(flags, NBD_FLAG_C_FIXED_NEWSTYLE);
    for (int spoke = 0; spoke < 2; spoke++) {
        plant_open(&plant, &plant_usual);
        receive_all(&plant, NULL, NBD_GREETING_SIZE);
        send_all(&plant, flags, spoke ? sizeof(flags) : 0);
        uint64_t from_ms = plant_now_ms();
        server_stop(plant.server);
        plant_turn(&plant);
        assert_int_equal(plant.has_stopped, !spoke);
        while (!plant.has_stopped) {
            plant_turn(&plant);
            assert_true(plant_now_ms() - from_ms < LIMIT_MS);
        }
        plant_close(&plant);
    }
}

/* NBD_FLAG_CAN_MULTI_CONN: two connections, and the order of the disk's calls. */
static void a_flush_on_one_connection_is_a_sync_of_the_writes_answered_on_another(void **state)
{
    (void)state;
    struct plant plant;
    struct memory_disk *disk = &plant.fixture.disk;
    plant_open(&plant, &plant_usual);
    shake_hands(&plant);
    int first = plant.fd;
    plant_connect(&plant);
    shake_hands(&plant);
    int second = plant.fd;
    for (uint64_t round = 0; round < 5; round++) {
        memory_disk_forget_calls(disk);
        plant.fd = first;
        send_request(&plant, NBD_CMD_WRITE, 1, round, 1);
        send_all(&plant, "w", 1);
        expect_reply(&plant, 1, NBD_SUCCESS);
        assert_int_equal(disk->counts[MEMORY_FLUSH], 0);

        memory_disk_hold(disk, 1u << MEMORY_FLUSH);
        plant.fd = second;
        send_request(&plant, NBD_CMD_FLUSH, 2, 0, 0);
        plant_turn(&plant);
        uint8_t byte;
        assert_int_equal(recv(plant.fd, &byte, 1, MSG_DONTWAIT), -1); /* not before the disk */
        assert_int_equal(disk->log_count, 2);
        assert_int_equal(disk->log[0].op, MEMORY_WRITE);
        assert_int_equal(disk->log[1].op, MEMORY_FLUSH);
        memory_disk_release(disk);
        expect_reply(&plant, 2, NBD_SUCCESS);
    }
    plant_hang_up(&plant);
    plant.fd = first;
    plant_close(&plant);
}

/* Each command on a disk that fails: an error, no data, and the next request is understood. */
static void a_disk_error_is_answered_by_an_error_and_no_data(void **state)
{
    (void)state;
    static const uint16_t commands[] = {NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES,
                                        NBD_CMD_TRIM, NBD_CMD_CACHE};
    struct plant plant;
    struct memory_disk *disk = &plant.fixture.disk;
    plant_open(&plant, &plant_usual);
    shake_hands(&plant);
    for (uint64_t i = 0; i < 5; i++) {
        const uint32_t length = 4096;
        disk->fail_code = -EIO;
        disk->fail_ops = ~0u;
        static const uint8_t payload[4096];
        send_request(&plant, commands[i], i, 0, length);
        send_all(&plant, payload, commands[i] == NBD_CMD_WRITE ? length : 0);
        expect_reply(&plant, i, NBD_EIO);
        disk->fail_code = 0;
        send_request(&plant, NBD_CMD_READ, 100 + i, 0, 512);
        expect_reply(&plant, 100 + i, NBD_SUCCESS);
        receive_all(&plant, NULL, 512);
    }
    plant_close(&plant);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_that_come_during_a_stop_are_eshutdown_and_then_it_closes),
        cmocka_unit_test(a_large_batch_in_the_socket_is_answered_whole_at_a_stop),
        cmocka_unit_test(options_that_come_during_a_stop_are_err_shutdown),
        cmocka_unit_test(a_stop_gives_a_client_in_the_handshake_a_moment_if_it_ever_spoke),
        cmocka_unit_test(a_disk_error_is_answered_by_an_error_and_no_data),
        cmocka_unit_test(a_flush_on_one_connection_is_a_sync_of_the_writes_answered_on_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
