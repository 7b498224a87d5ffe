/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dispatch_room.c and connection_pipe.c with connection.c and stream_socket.c: large WRITEs go from
 * the socket to the file, and from any byte on by copies where that does not go.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/endian.h"
#include "common/random.h"
#include "protocol/wire.h"
#include "server/dispatch_room.h"
#include "server/export.h"
#include "server/payload_pipe.h"
#include "tests/unit/server/plant.h"

#define WRITE_BYTES (1u << 20)

static uint8_t *payload; /* random; IMAGE_BYTES of them */

/* The disk's memory is that of a file, which is lent. */
static void roomy_plant_open(struct plant *plant)
{
    struct random random;
    plant_open(plant, &plant_usual);
    struct memory_disk *disk = &plant->fixture.disk;
    disk->lend_fd = memfd_create("room", MFD_CLOEXEC);
    assert_true(disk->lend_fd > 0);
    assert_int_equal(ftruncate(disk->lend_fd, IMAGE_BYTES), 0);
    free(disk->data);
    disk->data = mmap(NULL, IMAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, disk->lend_fd, 0);
    assert_true(disk->data != MAP_FAILED);
    disk->lends_room = true;
    payload = malloc(IMAGE_BYTES);
    assert_non_null(payload);
    random_seed(&random, 1);
    for (size_t i = 0; i < IMAGE_BYTES; i += 8)
        store_be64(payload + i, random_below(&random, UINT64_MAX));
    shake_hands(plant);
}

static void roomy_plant_close(struct plant *plant)
{
    struct memory_disk *disk = &plant->fixture.disk;
    munmap(disk->data, IMAGE_BYTES);
    disk->data = NULL;
    plant_close(plant);
    close(disk->lend_fd);
    free(payload);
}

static void begin_write(struct plant *plant, uint64_t cookie, uint16_t flags, uint64_t offset,
                        uint32_t length)
{
    uint8_t header[NBD_REQUEST_SIZE];
    put_request(header, NBD_CMD_WRITE, cookie, offset, length);
    store_be16(header + 4, flags);
    send_all(plant, header, sizeof(header));
}

/* Of the payload's bytes at the same place as in the image. */
static void write_whole(struct plant *plant, uint64_t cookie, uint64_t offset, uint32_t length)
{
    begin_write(plant, cookie, 0, offset, length);
    send_all(plant, payload + offset, length);
    expect_reply(plant, cookie, NBD_SUCCESS);
    assert_memory_equal(plant->fixture.disk.data + offset, payload + offset, length);
}

/* From here on a WRITE's header is received alone. */
static void make_it_expect_large_ones(struct plant *plant)
{
    write_whole(plant, 0, 0, DISPATCH_ROOM_BYTES_MIN);
    plant->fixture.disk.room_bytes = 0;
    memory_disk_forget_calls(&plant->fixture.disk);
}

static void large_writes_go_to_lent_room_and_others_do_not(void **state)
{
    (void)state;
    struct plant plant;
    roomy_plant_open(&plant);
    struct memory_disk *disk = &plant.fixture.disk;
    make_it_expect_large_ones(&plant);
    write_whole(&plant, 1, 4711, WRITE_BYTES);
    assert_int_equal(disk->room_bytes, WRITE_BYTES);
    assert_int_equal(disk->counts[MEMORY_WRITE], 0);
    write_whole(&plant, 2, 0, DISPATCH_ROOM_BYTES_MIN - 1);
    assert_int_equal(disk->room_bytes, WRITE_BYTES);
    assert_int_equal(disk->counts[MEMORY_WRITE], 1);
    make_it_expect_large_ones(&plant);
    begin_write(&plant, 3, NBD_CMD_FLAG_FUA, 0, WRITE_BYTES);
    send_all(&plant, payload, WRITE_BYTES);
    expect_reply(&plant, 3, NBD_SUCCESS);
    assert_int_equal(disk->room_bytes, 0);
    assert_int_equal(disk->counts[MEMORY_WRITE], 1);
    roomy_plant_close(&plant);
}

/* Parts of any length, some sent late, some refused at any byte, and READs between. */
static void written_bytes_are_right_whatever_goes_by_copies(void **state)
{
    (void)state;
    enum { WRITES = 300 };
    const uint64_t seed = fixture_seed("writes to lent room");
    struct random random;
    struct plant plant;
    roomy_plant_open(&plant);
    struct memory_disk *disk = &plant.fixture.disk;
    uint8_t *model = calloc(1, IMAGE_BYTES);
    assert_non_null(model);
    random_seed(&random, seed);
    for (unsigned i = 0; i < WRITES; i++) {
        uint32_t length =
            1 + (uint32_t)random_below(&random, random_once_in(&random, 3) ? 8000 : WRITE_BYTES);
        uint64_t offset = random_below(&random, IMAGE_BYTES - length);
        uint64_t from = random_below(&random, IMAGE_BYTES - length);
        disk->rooms_refused_from = random_once_in(&random, 3)
                                       ? disk->room_count + (unsigned)random_below(&random, 5)
                                       : UINT_MAX;
        begin_write(&plant, i, 0, offset, length);
        for (uint32_t done = 0; done < length;) {
            uint32_t part = 1 + (uint32_t)random_below(&random, length - done);
            send_all(&plant, payload + from + done, part);
            done += part;
            plant_turn(&plant);
        }
        expect_reply(&plant, i, NBD_SUCCESS);
        memcpy(model + offset, payload + from, length);
        if (random_once_in(&random, 4)) {
            send_request(&plant, NBD_CMD_READ, WRITES + i, offset, 10);
            expect_reply(&plant, WRITES + i, NBD_SUCCESS);
            receive_all(&plant, NULL, 10);
        }
    }
    assert_memory_equal(disk->data, model, IMAGE_BYTES);
    assert_true(disk->room_bytes > 0 && disk->counts[MEMORY_WRITE] > 0);
    free(model);
    roomy_plant_close(&plant);
}

/* A WRITE at 0 with cookie 1, the first bytes of its payload only, and what the server does of it.
 */
static void send_part_of_write(struct plant *plant, size_t length)
{
    make_it_expect_large_ones(plant);
    begin_write(plant, 1, 0, 0, WRITE_BYTES);
    send_all(plant, payload, length);
    plant_turn(plant);
}

/* More small pieces than a pipe has places, and no page yet. */
static void a_payload_in_crumbs_comes_whole(void **state)
{
    (void)state;
    enum { CRUMBS = 100 };
    struct plant plant;
    roomy_plant_open(&plant);
    make_it_expect_large_ones(&plant);
    begin_write(&plant, 1, 0, 100, WRITE_BYTES);
    for (unsigned i = 0; i < CRUMBS; i++) {
        send_all(&plant, payload + i, 1);
        plant_turn(&plant);
    }
    send_all(&plant, payload + CRUMBS, WRITE_BYTES - CRUMBS);
    expect_reply(&plant, 1, NBD_SUCCESS);
    assert_memory_equal(plant.fixture.disk.data + 100, payload, WRITE_BYTES);
    roomy_plant_close(&plant);
}

/* Half of the second WRITE is in the image when the file does not take any more. */
static void a_write_that_fails_half_way_is_an_error_and_the_next_is_not(void **state)
{
    (void)state;
    struct plant plant;
    roomy_plant_open(&plant);
    struct memory_disk *disk = &plant.fixture.disk;
    send_part_of_write(&plant, WRITE_BYTES / 2);
    assert_int_equal(disk->room_bytes, WRITE_BYTES / 2);
    int usual_fd = disk->lend_fd;
    disk->lend_fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    disk->fail_ops = 1 << MEMORY_WRITE;
    disk->fail_code = -ENOSPC;
    send_all(&plant, payload + WRITE_BYTES / 2, WRITE_BYTES / 2);
    expect_reply(&plant, 1, NBD_ENOSPC);
    assert_memory_equal(disk->data, payload, WRITE_BYTES / 2);
    close(disk->lend_fd);
    disk->lend_fd = usual_fd;
    disk->fail_ops = 0;
    disk->fail_code = 0;
    make_it_expect_large_ones(&plant);
    write_whole(&plant, 2, 0, WRITE_BYTES);
    assert_int_equal(disk->room_bytes, WRITE_BYTES);
    roomy_plant_close(&plant);
}

static void co_drain_and_resume(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = arg;
    (void)fixture;
    block_co_backend_drain(backend);
    block_backend_resume(backend);
}

static void a_client_that_stops_half_way_holds_up_no_drain(void **state)
{
    (void)state;
    struct plant plant;
    roomy_plant_open(&plant);
    send_part_of_write(&plant, 300001);
    assert_int_equal(plant.fixture.disk.room_bytes, 300001 / 4096 * 4096); /* whole pages */
    fixture_run(&plant.fixture, co_drain_and_resume, plant.export->backend);
    send_all(&plant, payload + 300001, WRITE_BYTES - 300001);
    expect_reply(&plant, 1, NBD_SUCCESS);
    assert_memory_equal(plant.fixture.disk.data, payload, WRITE_BYTES);
    roomy_plant_close(&plant);
}

static void a_client_that_hangs_up_half_way_costs_nothing(void **state)
{
    (void)state;
    struct plant plant;
    roomy_plant_open(&plant);
    send_part_of_write(&plant, 300001);
    plant_hang_up(&plant);
    plant_wait_ended(&plant, 1);
    plant_connect(&plant);
    shake_hands(&plant);
    write_whole(&plant, 2, 12345, WRITE_BYTES);
    roomy_plant_close(&plant); /* nothing was left behind: the lane's pipes are all back */
}

static void a_server_that_stops_forgets_what_is_not_whole(void **state)
{
    (void)state;
    struct plant plant;
    roomy_plant_open(&plant);
    send_part_of_write(&plant, 300001);
    server_stop(plant.server);
    expect_end(&plant); /* and nothing more is read: the client's half is still open */
    roomy_plant_close(&plant);
}

/* A stopped export: the rest of a WRITE waits as any other does. */
static void a_stopped_export_is_not_written_to(void **state)
{
    (void)state;
    struct plant plant;
    roomy_plant_open(&plant);
    struct memory_disk *disk = &plant.fixture.disk;
    send_part_of_write(&plant, WRITE_BYTES / 2);
    atomic_store(&plant.export->error_policy.is_stopped, true);
    send_all(&plant, payload + WRITE_BYTES / 2, WRITE_BYTES / 2);
    plant_turn(&plant);
    assert_int_equal(disk->room_bytes, WRITE_BYTES / 2);
    assert_int_equal(disk->counts[MEMORY_WRITE], 0);
    assert_true(error_policy_resume(&plant.export->error_policy));
    expect_reply(&plant, 1, NBD_SUCCESS);
    assert_int_equal(disk->counts[MEMORY_WRITE], 1);
    assert_memory_equal(disk->data, payload, WRITE_BYTES);
    roomy_plant_close(&plant);
}

static void without_descriptors_it_is_copied(void **state)
{
    (void)state;
    struct plant plant;
    struct rlimit before, none;
    roomy_plant_open(&plant);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    write_whole(&plant, 1, 0, WRITE_BYTES);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(plant.fixture.disk.room_bytes, 0);
    make_it_expect_large_ones(&plant);
    write_whole(&plant, 2, 0, WRITE_BYTES);
    assert_int_equal(plant.fixture.disk.room_bytes, WRITE_BYTES);
    roomy_plant_close(&plant);
}

/* A refused WRITE's payload is thrown away by large receives, and those behind it are served. */
static void a_refused_write_between_large_ones_is_thrown_away(void **state)
{
    (void)state;
    struct plant plant;
    roomy_plant_open(&plant);
    make_it_expect_large_ones(&plant);
    begin_write(&plant, 1, 0, IMAGE_BYTES, WRITE_BYTES);
    send_all(&plant, payload, WRITE_BYTES);
    expect_reply(&plant, 1, NBD_ENOSPC);
    write_whole(&plant, 2, 0, WRITE_BYTES);
    roomy_plant_close(&plant);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_writes_go_to_lent_room_and_others_do_not),
        cmocka_unit_test(written_bytes_are_right_whatever_goes_by_copies),
        cmocka_unit_test(a_payload_in_crumbs_comes_whole),
        cmocka_unit_test(a_write_that_fails_half_way_is_an_error_and_the_next_is_not),
        cmocka_unit_test(a_client_that_stops_half_way_holds_up_no_drain),
        cmocka_unit_test(a_client_that_hangs_up_half_way_costs_nothing),
        cmocka_unit_test(a_server_that_stops_forgets_what_is_not_whole),
        cmocka_unit_test(a_stopped_export_is_not_written_to),
        cmocka_unit_test(without_descriptors_it_is_copied),
        cmocka_unit_test(a_refused_write_between_large_ones_is_thrown_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
