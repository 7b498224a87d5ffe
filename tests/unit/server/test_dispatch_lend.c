/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dispatch_lend.c with connection.c, sendq.c and stream_socket.c: large READs come whole and right
 * when the bytes are lent from a file, when they are not any more, when the file was cut, and when
 * the client reads late; and nobody waits for them who need not.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/endian.h"
#include "common/random.h"
#include "protocol/wire.h"
#include "server/connection.h"
#include "server/dispatch_lend.h"
#include "server/export.h"
#include "server/pressure.h"
#include "tests/unit/server/plant.h"

#define READ_BYTES (6u << 20) /* more than a socket has room for */
#define FETCHES_MAX (READ_BYTES / PRESSURE_SMALL_BYTES)
#define LOANS_OF_ONE_LOOK 1 /* of the disk in memory, which lends any length at once */

/* The image in memory and the file that is lent hold the same. */
static void lending_plant_open(struct plant *plant)
{
    struct random random;
    plant_open(plant, &plant_usual);
    struct memory_disk *disk = &plant->fixture.disk;
    random_seed(&random, 1);
    for (size_t i = 0; i < IMAGE_BYTES; i += 8)
        store_be64(disk->data + i, random_below(&random, UINT64_MAX));
    disk->lend_fd = memfd_create("lent", MFD_CLOEXEC);
    assert_true(disk->lend_fd > 0);
    assert_int_equal(write(disk->lend_fd, disk->data, IMAGE_BYTES), IMAGE_BYTES);
    shake_hands(plant);
}

static void lending_plant_close(struct plant *plant)
{
    close(plant->fixture.disk.lend_fd);
    plant_close(plant);
}

static void expect_data(struct plant *plant, uint64_t cookie, uint64_t offset, uint32_t length)
{
    uint8_t *data = malloc(length);
    assert_non_null(data);
    expect_reply(plant, cookie, NBD_SUCCESS);
    receive_all(plant, data, length);
    assert_memory_equal(data, plant->fixture.disk.data + offset, length);
    free(data);
}

static void large_reads_are_lent_and_small_ones_are_not(void **state)
{
    (void)state;
    struct plant plant;
    lending_plant_open(&plant);
    struct memory_disk *disk = &plant.fixture.disk;
    send_request(&plant, NBD_CMD_READ, 1, 4711, DISPATCH_LEND_BYTES_MIN);
    expect_data(&plant, 1, 4711, DISPATCH_LEND_BYTES_MIN);
    assert_true(disk->lend_count > LOANS_OF_ONE_LOOK);
    assert_int_equal(disk->counts[MEMORY_READ], 0);
    disk->lend_count = 0;
    send_request(&plant, NBD_CMD_READ, 2, 4711, DISPATCH_LEND_BYTES_MIN - 1);
    expect_data(&plant, 2, 4711, DISPATCH_LEND_BYTES_MIN - 1);
    assert_int_equal(disk->lend_count, 0);
    assert_int_equal(disk->counts[MEMORY_READ], 1);
    lending_plant_close(&plant);
}

/* Of all sizes, many on their way at once, so the socket is full at any place. */
static void lent_and_copied_replies_keep_their_bytes_whatever_their_order(void **state)
{
    (void)state;
    enum { READS = 200 };
    const uint64_t seed = fixture_seed("lent reads");
    struct random random;
    struct plant plant;
    uint64_t offsets[READS];
    uint32_t lengths[READS];
    lending_plant_open(&plant);
    random_seed(&random, seed);
    for (unsigned i = 0; i < READS; i++) {
        lengths[i] = 1 + (uint32_t)random_below(&random, i % 2 ? 8000 : IMAGE_BYTES / 2);
        offsets[i] = random_below(&random, IMAGE_BYTES - lengths[i]);
        if (random_once_in(&random, 4)) /* some are not in memory when they are sent */
            plant.fixture.disk.lends_refused_from =
                plant.fixture.disk.lend_count + (unsigned)random_below(&random, 4);
        else
            plant.fixture.disk.lends_refused_from = UINT_MAX;
        send_request(&plant, NBD_CMD_READ, i, offsets[i], lengths[i]);
        if (i % 4 != 3)
            continue;
        for (unsigned of = 0; of < 4; of++) {
            uint8_t header[NBD_SIMPLE_REPLY_SIZE];
            receive_all(&plant, header, sizeof(header));
            uint64_t which = load_be64(header + 8);
            assert_int_equal(load_be32(header + 4), NBD_SUCCESS);
            assert_in_range(which, i - 3, i);
            uint8_t *data = malloc(lengths[which]);
            assert_non_null(data);
            receive_all(&plant, data, lengths[which]);
            assert_memory_equal(data, plant.fixture.disk.data + offsets[which], lengths[which]);
            free(data);
        }
    }
    lending_plant_close(&plant);
}

/* Starts a READ of which the socket takes a part; refuses all further loans. */
static void start_and_refuse(struct plant *plant)
{
    struct memory_disk *disk = &plant->fixture.disk;
    send_request(plant, NBD_CMD_READ, 1, 4096, READ_BYTES);
    plant_turn(plant);
    assert_true(disk->lend_count > LOANS_OF_ONE_LOOK);
    assert_int_equal(disk->counts[MEMORY_READ], 0);
    disk->lends_refused_from = 0;
}

static void a_read_that_was_begun_goes_on_by_copying(void **state)
{
    (void)state;
    struct plant plant;
    lending_plant_open(&plant);
    start_and_refuse(&plant);
    expect_data(&plant, 1, 4096, READ_BYTES);
    assert_in_range(plant.fixture.disk.counts[MEMORY_READ], 2, FETCHES_MAX);
    send_request(&plant, NBD_CMD_READ, 2, 0, 100);
    expect_data(&plant, 2, 0, 100);
    lending_plant_close(&plant);
}

static void a_file_that_was_cut_goes_on_by_reading(void **state)
{
    (void)state;
    struct plant plant;
    lending_plant_open(&plant);
    send_request(&plant, NBD_CMD_READ, 1, 4096, READ_BYTES);
    plant_turn(&plant);
    assert_int_equal(ftruncate(plant.fixture.disk.lend_fd, 5000000), 0);
    expect_data(&plant, 1, 4096, READ_BYTES);
    assert_in_range(plant.fixture.disk.counts[MEMORY_READ], 2, FETCHES_MAX);
    lending_plant_close(&plant);
}

/* The header is out and promises bytes: only the end of the connection is honest. */
static void a_read_that_fails_after_its_header_ends_the_connection(void **state)
{
    (void)state;
    struct plant plant;
    static char rest[2 * READ_BYTES];
    lending_plant_open(&plant);
    start_and_refuse(&plant);
    plant.fixture.disk.fail_ops = 1 << MEMORY_READ;
    plant.fixture.disk.fail_code = -EIO;
    size_t got = 0;
    ssize_t part;
    uint64_t until_ms = plant_now_ms() + LIMIT_MS;
    while ((part = recv(plant.fd, rest + got, sizeof(rest) - got, 0)) != 0) {
        assert_true(part > 0 || errno == EAGAIN || errno == ECONNRESET);
        got += part > 0 ? (size_t)part : 0;
        plant_turn(&plant);
        assert_true(plant_now_ms() < until_ms);
    }
    assert_true(got < NBD_SIMPLE_REPLY_SIZE + READ_BYTES);
    plant_wait_ended(&plant, 1);
    lending_plant_close(&plant);
}

/* Refused once: a piece is read, and the rest is lent. */
static void what_is_there_again_is_lent_again(void **state)
{
    (void)state;
    struct plant plant;
    lending_plant_open(&plant);
    struct memory_disk *disk = &plant.fixture.disk;
    memory_disk_hold(disk, 1 << MEMORY_READ);
    disk->lends_refused_from = LOANS_OF_ONE_LOOK;
    send_request(&plant, NBD_CMD_READ, 1, 4096, READ_BYTES);
    while (disk->held_count == 0)
        plant_turn(&plant);
    disk->lends_refused_from = UINT_MAX;
    memory_disk_release(disk);
    expect_data(&plant, 1, 4096, READ_BYTES);
    assert_int_equal(disk->counts[MEMORY_READ], 1);
    lending_plant_close(&plant);
}

/* Found in memory, then neither lent nor readable when it is to be sent: an error, as ever. */
static void a_read_that_fails_before_its_header_is_an_error(void **state)
{
    (void)state;
    struct plant plant;
    lending_plant_open(&plant);
    plant.fixture.disk.lends_refused_from = LOANS_OF_ONE_LOOK;
    plant.fixture.disk.fail_ops = 1 << MEMORY_READ;
    plant.fixture.disk.fail_code = -EIO;
    send_request(&plant, NBD_CMD_READ, 1, 0, READ_BYTES);
    expect_reply(&plant, 1, NBD_EIO);
    plant.fixture.disk.fail_code = 0;
    plant.fixture.disk.fail_ops = 0;
    send_request(&plant, NBD_CMD_READ, 2, 0, READ_BYTES);
    expect_data(&plant, 2, 0, READ_BYTES);
    lending_plant_close(&plant);
}

static void a_client_that_leaves_meanwhile_costs_nothing(void **state)
{
    (void)state;
    struct plant plant;
    lending_plant_open(&plant);
    memory_disk_hold(&plant.fixture.disk, 1 << MEMORY_READ);
    start_and_refuse(&plant);
    /* Some room in the socket, so that the rest is wanted, and held by the disk. */
    static char some[300000];
    size_t got = 0;
    while (plant.fixture.disk.held_count == 0) {
        ssize_t part = recv(plant.fd, some, sizeof(some), 0);
        got += part > 0 ? (size_t)part : 0;
        assert_true(got < READ_BYTES);
        plant_turn(&plant);
    }
    plant_hang_up(&plant);
    plant_turn(&plant);
    memory_disk_release(&plant.fixture.disk);
    plant_wait_ended(&plant, 1);
    lending_plant_close(&plant);
}

/* Nothing is held by a reader that does not read: a drain ends, a write over the range too. */
static void co_drain_and_resume(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = arg;
    (void)fixture;
    block_co_backend_drain(backend);
    block_backend_resume(backend);
}

static void a_client_that_does_not_read_holds_up_no_drain(void **state)
{
    (void)state;
    struct plant plant;
    lending_plant_open(&plant);
    send_request(&plant, NBD_CMD_READ, 1, 4096, READ_BYTES);
    plant_turn(&plant);
    fixture_run(&plant.fixture, co_drain_and_resume, plant.export->backend);
    expect_data(&plant, 1, 4096, READ_BYTES);
    lending_plant_close(&plant);
}

/* --- who does not wait --------------------------------------------------------------------------
 */

#define LARGE_BYTES (1u << 20)
#define SMALL_BYTES 100u

/* And then a READ of 100 bytes, whose cookie is their count. */
static void send_large_reads(struct plant *plant, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        send_request(plant, NBD_CMD_READ, i, 0, LARGE_BYTES);
    plant_turn(plant);
    send_request(plant, NBD_CMD_READ, count, 0, SMALL_BYTES);
    plant_turn(plant);
}

/* Receives the answers to those; returns how many came before that to the small one. */
static unsigned answers_before_small(struct plant *plant, unsigned count)
{
    unsigned before = count;
    for (unsigned i = 0; i <= count; i++) {
        static uint8_t data[LARGE_BYTES];
        uint8_t header[NBD_SIMPLE_REPLY_SIZE];
        receive_all(plant, header, sizeof(header));
        assert_int_equal(load_be32(header + 4), NBD_SUCCESS);
        bool is_small = load_be64(header + 8) == count;
        uint32_t bytes = is_small ? SMALL_BYTES : LARGE_BYTES;
        receive_all(plant, data, bytes);
        assert_memory_equal(data, plant->fixture.disk.data, bytes);
        if (is_small)
            before = i;
    }
    return before;
}

/* Answers that wait for the client to read, and are lent, cost nothing: so what comes behind them
 * is begun, too. The socket takes two or three before the small one is looked at. */
static void a_small_read_does_not_wait_for_large_ones(void **state)
{
    (void)state;
    enum { LARGE_READS = 64 };
    struct plant plant;
    lending_plant_open(&plant);
    send_large_reads(&plant, LARGE_READS);
    assert_in_range(answers_before_small(&plant, LARGE_READS), 1, 8);
    lending_plant_close(&plant);
}

static void large_reads_are_bounded_by_their_number(void **state)
{
    (void)state;
    enum { LARGE_READS = CONNECTION_REQUESTS_MAX + 16 }; /* and more than the socket takes */
    struct plant plant;
    lending_plant_open(&plant);
    send_large_reads(&plant, LARGE_READS);
    assert_int_equal(plant.fixture.disk.counts[MEMORY_READ], 0);
    assert_in_range(answers_before_small(&plant, LARGE_READS), 1, LARGE_READS - 1);
    lending_plant_close(&plant);
}

/* It may have memory that others wait for. */
static void a_write_that_has_begun_to_come_is_received_beside_them(void **state)
{
    (void)state;
    enum { LARGE_READS = 16, WRITE_BYTES = 256 << 10, FIRST_BYTES = 8 << 10 };
    static uint8_t bytes[(LARGE_READS + 1) * NBD_REQUEST_SIZE + WRITE_BYTES];
    struct plant plant;
    size_t length = 0;
    lending_plant_open(&plant);
    for (unsigned i = 0; i < LARGE_READS; i++)
        length += put_request(bytes + length, NBD_CMD_READ, i, 0, LARGE_BYTES);
    length += put_request(bytes + length, NBD_CMD_WRITE, LARGE_READS, 0, WRITE_BYTES);
    send_all(&plant, bytes, length + FIRST_BYTES);
    plant_turn(&plant);
    send_all(&plant, bytes + length + FIRST_BYTES, WRITE_BYTES - FIRST_BYTES);
    plant_turn(&plant);
    assert_int_equal(plant.fixture.disk.counts[MEMORY_WRITE], 1);
    lending_plant_close(&plant);
}

#define OTHERS 11 /* more than the lane has room for */

/* Each asks for all that it may have at a time, and the disk holds all of it up. */
static void fill_lane(struct plant *plant, int *fds)
{
    int own = plant->fd;
    plant->fixture.disk.lends_refused_from = 0;
    memory_disk_hold(&plant->fixture.disk, 1u << MEMORY_READ);
    for (unsigned i = 0; i < OTHERS; i++) {
        plant_connect(plant);
        fds[i] = plant->fd;
        shake_hands(plant);
        for (unsigned j = 0; j < CONNECTION_BYTES_MAX / IMAGE_BYTES; j++)
            send_request(plant, NBD_CMD_READ, j, 0, IMAGE_BYTES);
    }
    plant_turn(plant);
    plant->fd = own;
    plant->fixture.disk.lends_refused_from = UINT_MAX;
}

/* What first waits for its own connection's reads, and then for room that others have. */
static void who_finds_no_room_in_a_later_round_gets_it_when_others_leave(void **state)
{
    (void)state;
    enum { FIRST_BYTES = 64 << 10, SECOND_BYTES = 512 << 10 };
    struct plant plant;
    int fds[OTHERS];
    uint8_t bytes[2 * NBD_REQUEST_SIZE];
    lending_plant_open(&plant);
    fill_lane(&plant, fds);
    put_request(bytes, NBD_CMD_READ, 1, 0, FIRST_BYTES);
    put_request(bytes + NBD_REQUEST_SIZE, NBD_CMD_READ, 2, 0, SECOND_BYTES);
    send_all(&plant, bytes, sizeof(bytes));
    expect_data(&plant, 1, 0, FIRST_BYTES);
    plant_turn(&plant);
    assert_int_equal(recv(plant.fd, bytes, 1, MSG_DONTWAIT | MSG_PEEK), -1);
    memory_disk_release(&plant.fixture.disk);
    for (unsigned i = 0; i < OTHERS; i++)
        close(fds[i]);
    plant_wait_ended(&plant, OTHERS);
    expect_data(&plant, 2, 0, SECOND_BYTES);
    lending_plant_close(&plant);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_reads_are_lent_and_small_ones_are_not),
        cmocka_unit_test(lent_and_copied_replies_keep_their_bytes_whatever_their_order),
        cmocka_unit_test(a_read_that_was_begun_goes_on_by_copying),
        cmocka_unit_test(a_file_that_was_cut_goes_on_by_reading),
        cmocka_unit_test(what_is_there_again_is_lent_again),
        cmocka_unit_test(a_read_that_fails_after_its_header_ends_the_connection),
        cmocka_unit_test(a_read_that_fails_before_its_header_is_an_error),
        cmocka_unit_test(a_client_that_leaves_meanwhile_costs_nothing),
        cmocka_unit_test(a_client_that_does_not_read_holds_up_no_drain),
        cmocka_unit_test(a_small_read_does_not_wait_for_large_ones),
        cmocka_unit_test(large_reads_are_bounded_by_their_number),
        cmocka_unit_test(a_write_that_has_begun_to_come_is_received_beside_them),
        cmocka_unit_test(who_finds_no_room_in_a_later_round_gets_it_when_others_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
