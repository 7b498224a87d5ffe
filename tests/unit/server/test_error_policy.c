/* SPDX-License-Identifier: BSD-3-Clause */
/* error_policy: through a server and a client, over a disk that fails. */
#include "tests/unit/server/plant.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "protocol/wire.h"
#include "server/dispatch.h"
#include "server/export.h"

#define LENGTH 4096

static void open_with(struct plant *plant, enum error_action on_read, enum error_action on_write)
{
    plant_open(plant, &plant_usual);
    plant->export->error_policy.on_read = on_read;
    plant->export->error_policy.on_write = on_write;
    shake_hands(plant);
}

static void fail_calls(struct plant *plant, unsigned ops, int code)
{
    plant->fixture.disk.fail_ops = ops;
    plant->fixture.disk.fail_code = code;
}

static void send_write(struct plant *plant, uint64_t cookie, uint64_t offset, uint8_t byte)
{
    uint8_t bytes[NBD_REQUEST_SIZE + LENGTH];
    put_request(bytes, NBD_CMD_WRITE, cookie, offset, LENGTH);
    memset(bytes + NBD_REQUEST_SIZE, byte, LENGTH);
    send_all(plant, bytes, sizeof(bytes));
}

static void expect_silence(struct plant *plant)
{
    char byte;
    for (unsigned i = 0; i < 20; i++)
        plant_turn(plant);
    assert_int_equal(recv(plant->fd, &byte, 1, MSG_PEEK), -1);
    assert_int_equal(errno, EAGAIN);
}

static void expect_data(struct plant *plant, uint64_t cookie, uint8_t byte)
{
    uint8_t data[LENGTH];
    expect_reply(plant, cookie, NBD_SUCCESS);
    receive_all(plant, data, LENGTH);
    for (unsigned i = 0; i < LENGTH; i++)
        assert_int_equal(data[i], byte);
}

static struct error_policy_status look(struct plant *plant)
{
    struct error_policy_status status;
    error_policy_look(&plant->export->error_policy, &status);
    return status;
}

static void resume(struct plant *plant)
{
    assert_true(error_policy_resume(&plant->export->error_policy));
}

static void by_default_errors_are_reported(void **state)
{
    struct plant plant;
    (void)state;
    plant_open(&plant, &plant_usual);
    shake_hands(&plant);
    fail_calls(&plant, 1u << MEMORY_READ | 1u << MEMORY_WRITE, -EIO);
    send_request(&plant, NBD_CMD_READ, 1, 0, LENGTH);
    expect_reply(&plant, 1, NBD_EIO);
    send_write(&plant, 2, 0, 7);
    expect_reply(&plant, 2, NBD_EIO);
    assert_int_equal(look(&plant).stop_count, 0);
    assert_false(error_policy_resume(&plant.export->error_policy));
    plant_close(&plant);
}

static void stop_holds_what_failed_and_what_comes_until_it_is_resumed(void **state)
{
    struct plant plant;
    (void)state;
    open_with(&plant, ERROR_STOP, ERROR_STOP);
    fail_calls(&plant, 1u << MEMORY_WRITE, -EIO);
    send_write(&plant, 1, 0, 7);
    send_request(&plant, NBD_CMD_READ, 2, LENGTH, LENGTH);
    send_request(&plant, NBD_CMD_FLUSH, 3, 0, 0);
    expect_silence(&plant);
    struct error_policy_status status = look(&plant);
    assert_true(status.is_stopped);
    assert_int_equal(status.stopped_code, -EIO);
    assert_int_equal(status.held_count, 3);
    assert_int_equal(plant.fixture.disk.counts[MEMORY_READ], 0);

    resume(&plant); /* nothing is repaired yet: it fails again, before others have begun */
    expect_silence(&plant);
    assert_int_equal(look(&plant).held_count, 3);
    assert_int_equal(look(&plant).stop_count, 2);

    fail_calls(&plant, 0, 0);
    resume(&plant);
    expect_reply(&plant, 1, NBD_SUCCESS);
    expect_reply(&plant, 2, NBD_SUCCESS);
    receive_all(&plant, NULL, LENGTH);
    expect_reply(&plant, 3, NBD_SUCCESS);
    assert_int_equal(look(&plant).retried_count, 2);
    assert_false(look(&plant).is_stopped);
    send_request(&plant, NBD_CMD_READ, 4, 0, LENGTH);
    expect_data(&plant, 4, 7);
    plant_close(&plant);
}

static void a_held_read_is_tried_again(void **state)
{
    struct plant plant;
    (void)state;
    open_with(&plant, ERROR_STOP, ERROR_REPORT);
    send_write(&plant, 1, 0, 9);
    expect_reply(&plant, 1, NBD_SUCCESS);
    fail_calls(&plant, 1u << MEMORY_READ, -EIO);
    send_request(&plant, NBD_CMD_READ, 2, 0, LENGTH);
    expect_silence(&plant);
    fail_calls(&plant, 0, 0);
    resume(&plant);
    expect_data(&plant, 2, 9);
    plant_close(&plant);
}

static void enospc_stops_for_a_full_disk_alone(void **state)
{
    struct plant plant;
    (void)state;
    open_with(&plant, ERROR_REPORT, ERROR_ENOSPC);
    fail_calls(&plant, 1u << MEMORY_WRITE, -EIO);
    send_write(&plant, 1, 0, 7);
    expect_reply(&plant, 1, NBD_EIO);
    fail_calls(&plant, 1u << MEMORY_WRITE, -ENOSPC);
    send_write(&plant, 2, 0, 7);
    expect_silence(&plant);
    fail_calls(&plant, 0, 0);
    resume(&plant);
    expect_reply(&plant, 2, NBD_SUCCESS);
    plant_close(&plant);
}

static void ignore_reads_zeroes_and_loses_writes(void **state)
{
    struct plant plant;
    (void)state;
    open_with(&plant, ERROR_IGNORE, ERROR_IGNORE);
    fail_calls(&plant, 1u << MEMORY_READ | 1u << MEMORY_WRITE, -EIO);
    for (uint64_t cookie = 0; cookie < 6; cookie += 2) {
        send_write(&plant, cookie, 0, 7);
        expect_reply(&plant, cookie, NBD_SUCCESS);
        send_request(&plant, NBD_CMD_READ, cookie + 1, 0, LENGTH);
        expect_data(&plant, cookie + 1, 0);
    }
    assert_int_equal(look(&plant).ignored_write_count, 3);
    assert_int_equal(look(&plant).ignored_read_count, 3);
    plant_close(&plant);
}

static void what_was_refused_stops_nothing(void **state)
{
    struct plant plant;
    (void)state;
    open_with(&plant, ERROR_STOP, ERROR_STOP);
    fail_calls(&plant, 1u << MEMORY_WRITE, -EPERM); /* as raw answers who forges a header */
    send_write(&plant, 1, 0, 7);
    expect_reply(&plant, 1, NBD_EPERM);
    send_request(&plant, NBD_CMD_READ, 2, IMAGE_BYTES, LENGTH);
    expect_reply(&plant, 2, NBD_EINVAL);
    assert_false(look(&plant).is_stopped);
    plant_close(&plant);
}

static void a_client_that_leaves_is_not_waited_for(void **state)
{
    struct plant plant;
    (void)state;
    open_with(&plant, ERROR_STOP, ERROR_STOP);
    fail_calls(&plant, 1u << MEMORY_WRITE, -EIO);
    send_write(&plant, 1, 0, 7);
    send_request(&plant, NBD_CMD_READ, 2, LENGTH, LENGTH);
    expect_silence(&plant);
    plant_hang_up(&plant);
    plant_wait_ended(&plant, 1);
    assert_int_equal(look(&plant).held_count, 0);
    assert_true(look(&plant).is_stopped);

    plant_connect(&plant); /* the next one waits as the first did */
    shake_hands(&plant);
    send_request(&plant, NBD_CMD_READ, 3, LENGTH, LENGTH);
    expect_silence(&plant);
    resume(&plant);
    expect_reply(&plant, 3, NBD_SUCCESS);
    receive_all(&plant, NULL, LENGTH);
    plant_close(&plant);
}

static void a_server_that_stops_fails_what_is_held(void **state)
{
    struct plant plant;
    (void)state;
    open_with(&plant, ERROR_STOP, ERROR_STOP);
    fail_calls(&plant, 1u << MEMORY_WRITE, -ENOSPC);
    send_write(&plant, 1, 0, 7);
    send_request(&plant, NBD_CMD_READ, 2, LENGTH, LENGTH);
    expect_silence(&plant);
    server_stop(plant.server);
    expect_reply(&plant, 1, NBD_ENOSPC);
    expect_reply(&plant, 2, NBD_ESHUTDOWN);
    expect_end(&plant);
    plant_close(&plant);
}

static void co_drain(struct fixture *fixture, void *arg)
{
    struct plant *plant = arg;
    (void)fixture;
    block_co_backend_drain(plant->export->backend);
    block_backend_resume(plant->export->backend);
}

static void a_drain_does_not_wait_for_what_is_held(void **state)
{
    struct plant plant;
    (void)state;
    open_with(&plant, ERROR_STOP, ERROR_STOP);
    fail_calls(&plant, 1u << MEMORY_WRITE, -EIO);
    send_write(&plant, 1, 0, 7);
    expect_silence(&plant);
    fixture_run(&plant.fixture, co_drain, &plant);
    fail_calls(&plant, 0, 0);
    resume(&plant);
    expect_reply(&plant, 1, NBD_SUCCESS);
    plant_close(&plant);
}

static void clients_requests_are_counted_once(void **state)
{
    struct plant plant;
    struct account_counts counts;
    struct account *account;
    (void)state;
    open_with(&plant, ERROR_REPORT, ERROR_REPORT);
    account = &plant.export->account;
    send_write(&plant, 1, 0, 7);
    expect_reply(&plant, 1, NBD_SUCCESS);
    send_request(&plant, NBD_CMD_WRITE, 2, IMAGE_BYTES, 0); /* empty: good */
    expect_reply(&plant, 2, NBD_SUCCESS);
    send_write(&plant, 3, IMAGE_BYTES, 7);
    expect_reply(&plant, 3, NBD_ENOSPC);
    send_request(&plant, 99, 4, 0, 0);
    expect_reply(&plant, 4, NBD_EINVAL);
    fail_calls(&plant, 1u << MEMORY_READ, -EIO);
    send_request(&plant, NBD_CMD_READ, 5, 0, LENGTH);
    expect_reply(&plant, 5, NBD_EIO);
    account_read_counts(account, ACCOUNT_WRITE, &counts);
    assert_int_equal(counts.operations, 2);
    assert_int_equal(counts.bytes, LENGTH);
    assert_int_equal(counts.invalid, 1);
    assert_int_equal(counts.failed, 0);
    account_read_counts(account, ACCOUNT_READ, &counts);
    assert_int_equal(counts.operations, 0);
    assert_int_equal(counts.bytes, 0);
    assert_int_equal(counts.failed, 1);
    assert_int_equal(account_counter(account, plant.export->unknown_counter), 1);
    plant_close(&plant);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_default_errors_are_reported),
        cmocka_unit_test(stop_holds_what_failed_and_what_comes_until_it_is_resumed),
        cmocka_unit_test(a_held_read_is_tried_again),
        cmocka_unit_test(enospc_stops_for_a_full_disk_alone),
        cmocka_unit_test(ignore_reads_zeroes_and_loses_writes),
        cmocka_unit_test(what_was_refused_stops_nothing),
        cmocka_unit_test(a_client_that_leaves_is_not_waited_for),
        cmocka_unit_test(a_server_that_stops_fails_what_is_held),
        cmocka_unit_test(a_drain_does_not_wait_for_what_is_held),
        cmocka_unit_test(clients_requests_are_counted_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
