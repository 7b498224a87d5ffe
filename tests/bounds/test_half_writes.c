/* SPDX-License-Identifier: BSD-3-Clause */
/* A hundred clients that have sent a part of a WRITE: what that may cost, and who may go on. */
#include "tests/bounds/measure.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"

#define MIB (1u << 20)
#define COUNT 100
#define STAY_COUNT 8      /* of them go on to the end */
#define SHIFT_BYTES 4096u /* one client's data begin so far behind another's */
#define RESIDENT_MAX_KIB (64ul * 1024)

static const char *const open_house[] = {"-t", "-e", "0", NULL};
/* Nobody is closed for being slow: the figures are those of the moment. */
static const char *const patient_house[] = {"-t", "-e", "0", "--stall-limit=0", NULL};

struct writer {
    struct raw_client client;
    size_t sent;
};

/* Clients that write at the same time; this process is all of them. */
struct writers {
    struct writer each[COUNT];
    unsigned count;
    uint32_t length; /* of every write */
    uint8_t *data;   /* length and COUNT shifts */
};

static const uint8_t *data_of(const struct writers *writers, unsigned who)
{
    return writers->data + who * (size_t)SHIFT_BYTES;
}

static void writers_begin(struct writers *writers, struct server *server, uint32_t length)
{
    *writers = (struct writers){.count = COUNT, .length = length};
    writers->data = malloc(length + COUNT * (size_t)SHIFT_BYTES);
    assert_non_null(writers->data);
    fill_random(writers->data, length + COUNT * (size_t)SHIFT_BYTES, 31);
    for (unsigned i = 0; i < COUNT; i++) {
        struct raw_client *client = &writers->each[i].client;
        uint64_t offset = i < STAY_COUNT ? i * (uint64_t)length : 0;
        *client = measure_open(server);
        assert_int_equal(raw_request(client, 0, RAW_CMD_WRITE, i, offset, length), 0);
    }
}

static void hang_up(struct writers *writers, unsigned from, unsigned end)
{
    for (unsigned i = from; i < end; i++) {
        raw_close(&writers->each[i].client);
    }
}

static void writers_end(struct writers *writers)
{
    hang_up(writers, 0, writers->count);
    free(writers->data);
}

/* Sends what the sockets take; false: they take nothing for a while, or there is no more. */
static bool push(struct writers *writers, size_t end, int patience_ms)
{
    struct pollfd fds[COUNT];
    unsigned waiting = 0;
    for (unsigned i = 0; i < writers->count; i++) {
        bool has_more = writers->each[i].sent < end;
        fds[i] =
            (struct pollfd){.fd = has_more ? writers->each[i].client.fd : -1, .events = POLLOUT};
        waiting += has_more;
    }
    if (waiting == 0 || poll(fds, writers->count, patience_ms) <= 0) {
        return false;
    }
    for (unsigned i = 0; i < writers->count; i++) {
        struct writer *writer = &writers->each[i];
        if (!fds[i].revents) {
            continue;
        }
        ssize_t put = send(writer->client.fd, data_of(writers, i) + writer->sent,
                           end - writer->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        assert_true(put > 0); /* nobody is hung up on */
        writer->sent += (size_t)put;
    }
    return true;
}

static size_t push_all(struct writers *writers, size_t end, int patience_ms)
{
    size_t sent = 0;
    while (push(writers, end, patience_ms)) {
    }
    for (unsigned i = 0; i < writers->count; i++) {
        sent += writers->each[i].sent;
    }
    return sent;
}

/* Median of 21 writes of 64 KiB one after the other, in microseconds, behind all that is written
 * here. */
static uint64_t write_us(const struct raw_client *client)
{
    enum { ROUNDS = 21, LENGTH = 64 << 10 };
    static uint8_t data[LENGTH];
    uint64_t took_us[ROUNDS];
    struct raw_reply reply;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t from_ns = clock_monotonic.now_ns(&clock_monotonic);
        uint64_t offset = client->export_size_bytes - LENGTH;
        assert_int_equal(raw_request(client, 0, RAW_CMD_WRITE, i, offset, LENGTH), 0);
        assert_int_equal(raw_send(client, data, LENGTH), 0);
        assert_int_equal(raw_receive_reply(client, &reply, NULL, 0, 0), 0);
        assert_int_equal(reply.error, 0);
        took_us[i] = (clock_monotonic.now_ns(&clock_monotonic) - from_ns) / 1000;
    }
    return measure_median(took_us, ROUNDS);
}

static void is_quick(const struct raw_client *good)
{
    uint64_t read = measure_read_us(good), write = write_us(good);
    print_message("the good client: a read in %u us, 64 KiB written in %u us\n", (unsigned)read,
                  (unsigned)write);
    assert_true(read < MEASURE_QUICK_US);
    assert_true(write < MEASURE_QUICK_US);
}

/* --- what it costs ------------------------------------------------------------------------------
 */

/* Each promises `length` bytes, and sends the first `sent_max` of them, as far as it may. */
static void cost_of_half(struct server *server, uint32_t length, size_t sent_max)
{
    struct writers writers;
    struct raw_client good = measure_open_warm(server);
    bool memory = measure_memory(server);
    writers_begin(&writers, server, length);
    size_t sent = push_all(&writers, sent_max, 500);
    unsigned long peak_kib = measure_peak_kib(server);
    print_message("%u writes of %u KiB, %zu KiB sent: %lu KiB at most\n", COUNT, length / 1024,
                  sent / 1024, peak_kib);
    assert_true(!memory || peak_kib < RESIDENT_MAX_KIB);
    is_quick(&good);
    writers_end(&writers);
    is_quick(&good);
    raw_close(&good);
}

static void hardly_begun_writes_cost_less_than_64_MiB(void **state)
{
    struct server *server = *state;
    server_start(server, open_house);
    cost_of_half(server, 32 * MIB, 128 * 1024);
    cost_of_half(server, 4 * MIB, 128 * 1024);
    server_stop(server);
}

/* Buffers of small classes are kept and used again: they may be resident whatever came. */
static void hardly_begun_writes_cost_less_than_64_MiB_after_whole_ones(void **state)
{
    struct server *server = *state;
    static uint8_t data[4 * MIB];
    struct raw_client clients[16];
    struct raw_reply reply;
    server_start(server, open_house);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 16; i++) {
            clients[i] = measure_open(server);
            assert_int_equal(
                raw_request(&clients[i], 0, RAW_CMD_WRITE, i, i * 4 * MIB / 2, sizeof(data)), 0);
            assert_int_equal(raw_send(&clients[i], data, sizeof(data)), 0);
        }
        for (unsigned i = 0; i < 16; i++) {
            assert_int_equal(raw_receive_reply(&clients[i], &reply, NULL, 0, 0), 0);
            assert_int_equal(reply.error, 0);
            raw_close(&clients[i]);
        }
    }
    bool memory = measure_memory(server);
    unsigned long before_kib = measure_resident_kib(server);
    struct writers writers;
    writers_begin(&writers, server, 4 * MIB);
    push_all(&writers, 128 * 1024, 500);
    assert_true(!memory || measure_resident_kib(server) < before_kib + RESIDENT_MAX_KIB);
    writers_end(&writers);
    server_stop(server);
}

/* --- and how it goes on -------------------------------------------------------------------------
 */

static void expect_written(const struct server *server, const struct writers *writers)
{
    struct raw_reply reply;
    uint8_t *got = malloc(writers->length);
    assert_non_null(got);
    for (unsigned i = 0; i < writers->count; i++) {
        assert_int_equal(raw_receive_reply(&writers->each[i].client, &reply, NULL, 0, 0), 0);
        assert_int_equal(reply.error, 0);
        assert_int_equal(reply.cookie, i);
        image_read(server, got, writers->length, i * (uint64_t)writers->length);
        assert_memory_equal(got, data_of(writers, i), writers->length);
    }
    free(got);
}

static void half_sent_and_then(struct server *server, uint32_t length)
{
    struct writers writers;
    assert_int_equal(truncate(server->image, (off_t)STAY_COUNT * length + MIB), 0);
    server_start(server, patient_house);
    struct raw_client good = measure_open_warm(server);
    bool memory = measure_memory(server);
    writers_begin(&writers, server, length);
    size_t sent = push_all(&writers, length / 2, 500);
    unsigned long peak_kib = measure_peak_kib(server);
    print_message("%u writes of %u KiB half sent, %zu KiB taken: %lu KiB at most\n", COUNT,
                  length / 1024, sent / 1024, peak_kib);
    assert_true(!memory || peak_kib < RESIDENT_MAX_KIB);
    is_quick(&good);

    /* Most of them leave; the others send the rest. */
    hang_up(&writers, STAY_COUNT, COUNT);
    writers.count = STAY_COUNT;
    push_all(&writers, length, RAW_TIMEOUT_S * 1000);
    expect_written(server, &writers);
    is_quick(&good);
    writers_end(&writers);
    raw_close(&good);
    server_stop(server);
}

static void writes_of_16_MiB_half_sent_cost_less_than_64_MiB_and_come_out_right(void **state)
{
    half_sent_and_then(*state, 16 * MIB);
}

static void writes_of_32_MiB_half_sent_cost_less_than_64_MiB_and_come_out_right(void **state)
{
    half_sent_and_then(*state, 32 * MIB);
}

static void a_half_sent_write_is_closed_at_the_stall_limit(void **state)
{
    struct server *server = *state;
    server_start(server, (const char *const[]){"-t", "-e", "0", "--stall-limit=1", NULL});
    struct raw_client good = measure_open(server), idle = measure_open(server);
    struct raw_client client = measure_open(server);
    assert_int_equal(raw_request(&client, 0, RAW_CMD_WRITE, 1, 0, 32 * MIB), 0);
    assert_int_equal(raw_send(&client, "half", 4), 0);
    uint64_t from_ms = measure_now_ms();
    assert_int_equal(raw_wait_closed(&client), 0);
    assert_in_range(measure_now_ms() - from_ms, 900, 10000);
    raw_close(&client);
    measure_pause_ms(1500);
    assert_true(measure_read_us(&good) < MEASURE_QUICK_US);
    assert_true(measure_read_us(&idle) < MEASURE_QUICK_US); /* silent between requests */
    raw_close(&good);
    raw_close(&idle);
    server_stop(server);
}

int main(void)
{
    fixture_require_server();
    unsetenv("MALLOC_PERTURB_"); /* it writes to memory that nobody else would touch */
#define with_server(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        with_server(hardly_begun_writes_cost_less_than_64_MiB),
        with_server(hardly_begun_writes_cost_less_than_64_MiB_after_whole_ones),
        with_server(writes_of_16_MiB_half_sent_cost_less_than_64_MiB_and_come_out_right),
        with_server(writes_of_32_MiB_half_sent_cost_less_than_64_MiB_and_come_out_right),
        with_server(a_half_sent_write_is_closed_at_the_stall_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
