/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dispatch_read.c with connection_input.c: small READs that are in memory are answered at once,
 * some in a round, in every form; all others the usual way.
 */
#include "tests/unit/server/plant.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "block/loop.h"
#include "common/endian.h"
#include "common/random.h"
#include "protocol/wire.h"
#include "server/dispatch_read.h"
#include "server/export.h"

#define LENGTH 4096u
#define CHUNK_BYTES 20 /* the head of one */

static void open_plant(struct plant *plant)
{
    struct random random;
    plant_open(plant, &plant_usual);
    struct memory_disk *disk = &plant->fixture.disk;
    random_seed(&random, 1);
    for (size_t i = 0; i < IMAGE_BYTES; i += 8)
        store_be64(disk->data + i, random_below(&random, UINT64_MAX) | 1);
    disk->lends_copies = true;
    disk->remembers_holes = true;
}

static void open_simple(struct plant *plant)
{
    open_plant(plant);
    shake_hands(plant);
}

static void open_structured(struct plant *plant)
{
    uint8_t bytes[4 + 2 * NBD_OPTION_HEADER_SIZE];
    open_plant(plant);
    store_be32(bytes, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *option = bytes + 4 + i * NBD_OPTION_HEADER_SIZE;
        store_be64(option, NBD_OPTS_MAGIC);
        store_be32(option + 8, i == 0 ? NBD_OPT_STRUCTURED_REPLY : NBD_OPT_EXPORT_NAME);
        store_be32(option + 12, 0);
    }
    send_all(plant, bytes, sizeof(bytes));
    receive_all(plant, NULL, GREETING_BYTES + NBD_OPTION_REPLY_SIZE);
}

static void expect_data(struct plant *plant, uint64_t offset, uint32_t length)
{
    uint8_t data[DISPATCH_READ_AT_ONCE_BYTES];
    receive_all(plant, data, length);
    assert_memory_equal(data, plant->fixture.disk.data + offset, length);
}

static void expect_chunk(struct plant *plant, uint16_t flags, uint16_t type, uint64_t cookie,
                         uint64_t offset)
{
    uint8_t head[CHUNK_BYTES + 8];
    receive_all(plant, head, sizeof(head));
    assert_int_equal(load_be32(head), NBD_STRUCTURED_REPLY_MAGIC);
    assert_int_equal(load_be16(head + 4), flags);
    assert_int_equal(load_be16(head + 6), type);
    assert_int_equal(load_be64(head + 8), cookie);
    assert_int_equal(load_be64(head + CHUNK_BYTES), offset);
}

/* How many went which way since the last time. */
static void assert_ways(struct plant *plant, unsigned at_once, unsigned usual)
{
    struct memory_disk *disk = &plant->fixture.disk;
    assert_int_equal(disk->lend_count, at_once);
    assert_int_equal(disk->counts[MEMORY_READ], usual);
    disk->lend_count = disk->counts[MEMORY_READ] = 0;
}

static void small_reads_are_answered_at_once_and_large_ones_are_not(void **state)
{
    (void)state;
    struct plant plant;
    open_simple(&plant);
    send_request(&plant, NBD_CMD_READ, 1, 4711, LENGTH);
    expect_reply(&plant, 1, NBD_SUCCESS);
    expect_data(&plant, 4711, LENGTH);
    assert_ways(&plant, 1, 0);
    send_request(&plant, NBD_CMD_READ, 2, IMAGE_BYTES - DISPATCH_READ_AT_ONCE_BYTES + 1,
                 DISPATCH_READ_AT_ONCE_BYTES - 1);
    expect_reply(&plant, 2, NBD_SUCCESS);
    expect_data(&plant, IMAGE_BYTES - DISPATCH_READ_AT_ONCE_BYTES + 1,
                DISPATCH_READ_AT_ONCE_BYTES - 1);
    assert_ways(&plant, 1, 0);
    send_request(&plant, NBD_CMD_READ, 3, 0, DISPATCH_READ_AT_ONCE_BYTES);
    expect_reply(&plant, 3, NBD_SUCCESS);
    expect_data(&plant, 0, DISPATCH_READ_AT_ONCE_BYTES);
    assert_ways(&plant, 0, 1);
    plant_close(&plant);
}

static void what_is_not_in_memory_is_read_the_usual_way(void **state)
{
    (void)state;
    struct plant plant;
    open_simple(&plant);
    plant.fixture.disk.lends_refused_from = 0;
    send_request(&plant, NBD_CMD_READ, 1, 8192, LENGTH);
    expect_reply(&plant, 1, NBD_SUCCESS);
    expect_data(&plant, 8192, LENGTH);
    assert_ways(&plant, 0, 1);
    plant.fixture.disk.fail_ops = 1 << MEMORY_READ;
    plant.fixture.disk.fail_code = -EIO;
    send_request(&plant, NBD_CMD_READ, 2, 8192, LENGTH);
    expect_reply(&plant, 2, NBD_EIO);
    plant_close(&plant);
}

/* --- structured ones ----------------------------------------------------------------------------
 */

static void expect_hole(struct plant *plant, uint16_t flags, uint64_t cookie, uint64_t offset)
{
    uint8_t length[4];
    expect_chunk(plant, flags, NBD_REPLY_TYPE_OFFSET_HOLE, cookie, offset);
    receive_all(plant, length, sizeof(length));
    assert_int_equal(load_be32(length), LENGTH);
}

static void a_structured_read_is_one_chunk_of_data_or_a_hole(void **state)
{
    (void)state;
    struct plant plant;
    open_structured(&plant);
    memset(plant.fixture.disk.data + 2 * LENGTH, 0, LENGTH);
    send_request(&plant, NBD_CMD_READ, 1, LENGTH, LENGTH);
    expect_chunk(&plant, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_OFFSET_DATA, 1, LENGTH);
    expect_data(&plant, LENGTH, LENGTH);
    assert_ways(&plant, 1, 0);
    send_request(&plant, NBD_CMD_READ, 2, 2 * LENGTH, LENGTH);
    expect_hole(&plant, NBD_REPLY_FLAG_DONE, 2, 2 * LENGTH);
    assert_ways(&plant, 0, 0);
    plant_close(&plant);
}

static void a_structured_read_of_several_pieces_takes_the_usual_way(void **state)
{
    (void)state;
    struct plant plant;
    open_structured(&plant);
    memset(plant.fixture.disk.data + 2 * LENGTH, 0, LENGTH);
    send_request(&plant, NBD_CMD_READ, 1, LENGTH, 3 * LENGTH);
    expect_chunk(&plant, 0, NBD_REPLY_TYPE_OFFSET_DATA, 1, LENGTH);
    expect_data(&plant, LENGTH, LENGTH);
    expect_hole(&plant, 0, 1, 2 * LENGTH);
    expect_chunk(&plant, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_OFFSET_DATA, 1, 3 * LENGTH);
    expect_data(&plant, 3 * LENGTH, LENGTH);
    assert_ways(&plant, 0, 2);
    plant_close(&plant);
}

/* --- errors -------------------------------------------------------------------------------------
 */

static void a_stopped_export_answers_nothing_at_once(void **state)
{
    (void)state;
    struct plant plant;
    char byte;
    open_simple(&plant);
    plant.export->error_policy.on_read = ERROR_STOP;
    plant.fixture.disk.lends_refused_from = 0;
    plant.fixture.disk.fail_ops = 1 << MEMORY_READ;
    plant.fixture.disk.fail_code = -EIO;
    send_request(&plant, NBD_CMD_READ, 1, 0, LENGTH);
    plant_turn(&plant);
    plant.fixture.disk.lends_refused_from = UINT_MAX;
    plant.fixture.disk.fail_ops = 0;
    send_request(&plant, NBD_CMD_READ, 2, 0, LENGTH);
    plant_turn(&plant);
    assert_int_equal(recv(plant.fd, &byte, 1, MSG_PEEK), -1);
    assert_int_equal(plant.fixture.disk.lend_count, 0);
    assert_true(error_policy_resume(&plant.export->error_policy));
    expect_reply(&plant, 1, NBD_SUCCESS);
    expect_data(&plant, 0, LENGTH);
    expect_reply(&plant, 2, NBD_SUCCESS);
    expect_data(&plant, 0, LENGTH);
    plant_close(&plant);
}

/* --- rounds -------------------------------------------------------------------------------------
 */

#define READS 40

struct watch {
    struct plant *plant;
    unsigned made;
    unsigned most_unsent;
};

/* How many are made and not sent when the next one is. */
static void look_at_socket(struct memory_disk *disk)
{
    struct watch *watch = disk->at_call_arg;
    int bytes = 0;
    assert_int_equal(ioctl(watch->plant->fd, FIONREAD, &bytes), 0);
    unsigned sent = (unsigned)bytes / (NBD_SIMPLE_REPLY_SIZE + 512);
    assert_true(sent <= watch->made);
    if (watch->made - sent > watch->most_unsent)
        watch->most_unsent = watch->made - sent;
    watch->made++;
}

static void of_many_the_first_are_sent_before_the_last_are_read(void **state)
{
    (void)state;
    struct plant plant;
    uint8_t requests[READS * NBD_REQUEST_SIZE];
    open_simple(&plant);
    struct watch watch = {.plant = &plant};
    plant.fixture.disk.at_copy = look_at_socket;
    plant.fixture.disk.at_call_arg = &watch;
    for (unsigned i = 0; i < READS; i++)
        put_request(requests + i * NBD_REQUEST_SIZE, NBD_CMD_READ, i, i * 512, 512);
    send_all(&plant, requests, sizeof(requests));
    for (unsigned i = 0; i < READS; i++) {
        expect_reply(&plant, i, NBD_SUCCESS);
        expect_data(&plant, i * 512, 512);
    }
    assert_int_equal(watch.made, READS);
    assert_in_range(watch.most_unsent, LOOP_ROUND_OPERATIONS - 1, READS / 2);
    plant_close(&plant);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_reads_are_answered_at_once_and_large_ones_are_not),
        cmocka_unit_test(what_is_not_in_memory_is_read_the_usual_way),
        cmocka_unit_test(a_structured_read_is_one_chunk_of_data_or_a_hole),
        cmocka_unit_test(a_structured_read_of_several_pieces_takes_the_usual_way),
        cmocka_unit_test(a_stopped_export_answers_nothing_at_once),
        cmocka_unit_test(of_many_the_first_are_sent_before_the_last_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
