/* SPDX-License-Identifier: BSD-3-Clause */
/* Promises and answers nobody reads: what clients can make the server hold. */
#include "tests/bounds/measure.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/endian.h"

#define MIB (1u << 20)

static const char *const open_house[] = {"-t", "-e", "0", NULL};

/* --- lengths that are a lie ---------------------------------------------------------------------
 */

static void send_giant_option(const struct server *server, uint32_t option, const void *data,
                              size_t data_length, uint32_t length)
{
    struct raw_client client;
    uint8_t header[16];
    store_be64(header, RAW_IHAVEOPT);
    store_be32(header + 8, option);
    store_be32(header + 12, length);
    assert_int_equal(raw_connect(&client, server->socket), 0);
    assert_int_equal(raw_greet(&client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES), 0);
    assert_int_equal(raw_send(&client, header, sizeof(header)), 0);
    int sent = raw_send(&client, data, data_length);
    assert_true(sent == 0 || sent == -ENOTCONN);
    /* Whatever is said, it says so or hangs up; nobody waits for 4 GiB. */
    uint32_t type;
    uint8_t text[64];
    size_t got;
    int code = raw_receive_option_reply(&client, option, &type, text, sizeof(text), &got);
    assert_true(code < 0 || (type & RAW_REP_ERROR));
    raw_close(&client);
}

static void giant_options_and_names(const struct server *server)
{
    uint8_t lie[64] = {0};
    static const uint32_t options[] = {RAW_OPT_EXPORT_NAME,
                                       RAW_OPT_LIST,
                                       RAW_OPT_INFO,
                                       RAW_OPT_GO,
                                       RAW_OPT_STRUCTURED_REPLY,
                                       RAW_OPT_LIST_META_CONTEXT,
                                       RAW_OPT_SET_META_CONTEXT,
                                       77};
    store_be32(lie, UINT32_MAX); /* the name's length, in those that have one */
    for (unsigned i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        send_giant_option(server, options[i], lie, sizeof(lie), UINT32_MAX);
        if (options[i] == RAW_OPT_EXPORT_NAME) {
            continue; /* its data is the name: 64 bytes is a good length */
        }
        send_giant_option(server, options[i], lie, sizeof(lie), sizeof(lie));
    }
}

static void expect_error(const struct raw_client *client, uint16_t command, uint64_t offset,
                         uint32_t length)
{
    struct raw_reply reply;
    assert_int_equal(raw_request(client, 0, command, 7, offset, length), 0);
    assert_int_equal(raw_receive_reply(client, &reply, NULL, 0, 0), 0);
    assert_int_equal(reply.cookie, 7);
    assert_int_not_equal(reply.error, 0);
}

static void giant_and_wrapping_requests(const struct server *server)
{
    static const uint16_t commands[] = {RAW_CMD_READ, RAW_CMD_TRIM, RAW_CMD_WRITE_ZEROES,
                                        RAW_CMD_BLOCK_STATUS, RAW_CMD_CACHE};
    struct raw_client client = measure_open(server);
    for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        expect_error(&client, commands[i], 0, UINT32_MAX);
        expect_error(&client, commands[i], UINT64_MAX, UINT32_MAX);
        expect_error(&client, commands[i], UINT64_MAX, 1);
        expect_error(&client, commands[i], UINT64_MAX - 4095, 4096); /* ends at 0 */
        expect_error(&client, commands[i], UINT64_MAX / 2, 4096);
    }
    assert_true(measure_read_us(&client) < MEASURE_QUICK_US);
    raw_close(&client);
}

static void write_over_the_limit(const struct server *server)
{
    static uint8_t payload[MIB];
    struct raw_client client = measure_open(server);
    assert_int_equal(raw_request(&client, 0, RAW_CMD_WRITE, 1, 0, 33 * MIB), 0);
    for (unsigned i = 0; i < 33; i++) {
        int code = raw_send(&client, payload, sizeof(payload));
        if (code < 0) { /* closed, as it may */
            raw_close(&client);
            return;
        }
    }
    struct raw_reply reply;
    int code = raw_receive_reply(&client, &reply, NULL, 0, 0);
    if (code == 0) { /* drained, as it may */
        assert_int_not_equal(reply.error, 0);
        assert_true(measure_read_us(&client) < MEASURE_QUICK_US);
    }
    raw_close(&client);
}

static void giant_lengths_cost_less_than_1_MiB(void **state)
{
    struct server *server = *state;
    server_start(server, open_house);
    struct raw_client good = measure_open_warm(server);
    bool memory = measure_memory(server);
    unsigned long before_kib = measure_resident_kib(server);
    for (unsigned i = 0; i < 20; i++) {
        giant_options_and_names(server);
        giant_and_wrapping_requests(server);
    }
    write_over_the_limit(server);
    unsigned long after_kib = measure_resident_kib(server);
    print_message("giant lengths: %ld KiB more\n", (long)(after_kib - before_kib));
    assert_true(!memory || after_kib < before_kib + 1024);
    assert_true(measure_read_us(&good) < MEASURE_QUICK_US);
    raw_close(&good);
    server_stop(server);
}

/* --- answers nobody reads -----------------------------------------------------------------------
 */

/* Asks for reads until the server takes no more requests. */
static void ask_without_reading(const struct raw_client *client, uint32_t length)
{
    uint8_t request[RAW_REQUEST_BYTES];
    struct pollfd writable = {.fd = client->fd, .events = POLLOUT};
    for (unsigned i = 0; i < 4096 && poll(&writable, 1, 100) > 0; i++) {
        raw_fill_request(request, 0, RAW_CMD_READ, i, 0, length);
        if (send(client->fd, request, sizeof(request), MSG_DONTWAIT | MSG_NOSIGNAL) !=
            sizeof(request)) {
            break;
        }
    }
}

static void never_reading(struct server *server, const char *const options[], unsigned count,
                          unsigned long growth_max_kib)
{
    struct raw_client clients[64];
    uint8_t *data = malloc(MIB);
    memset(data, 0x77, MIB);
    for (unsigned i = 0; i < 64; i++) { /* data, not holes */
        image_write(server, data, MIB, i * (uint64_t)MIB);
    }
    free(data);
    server_start(server, options);
    struct raw_client good = measure_open_warm(server);
    bool memory = measure_memory(server);
    unsigned descriptors = measure_descriptors(server);
    unsigned long before_kib = measure_resident_kib(server);
    for (unsigned i = 0; i < count; i++) {
        clients[i] = measure_open(server);
        ask_without_reading(&clients[i], count == 1 ? MIB : 32 * MIB);
    }
    unsigned long after_kib = measure_resident_kib(server);
    print_message("%u readers that never read: %ld KiB more\n", count,
                  (long)(after_kib - before_kib));
    assert_true(!memory || after_kib < before_kib + growth_max_kib);
    assert_true(measure_read_us(&good) < MEASURE_QUICK_US);
    for (unsigned i = 0; i < count; i++) {
        raw_close(&clients[i]);
    }
    assert_true(measure_wait_descriptors(server, descriptors) <= descriptors);
    assert_true(measure_read_us(&good) < MEASURE_QUICK_US);
    raw_close(&good);
    server_stop(server);
}

/* Past the page cache nothing is lent: every reply is in memory of the server's own. tmpfs, which
 * is a page cache, knows no such way. */
static const char *const past_the_cache[] = {"-t", "-e", "0", "--cache=none", NULL};

static const char *const past_the_cache_on_two_loops[] = {"-t",           "-e",          "0",
                                                          "--cache=none", "--threads=2", NULL};

static bool can_pass_the_cache(const struct server *server)
{
    int fd = open(server->image, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0)
        print_message("skipped past the page cache: %s has none beside it\n", server->image);
    else
        close(fd);
    return fd >= 0;
}

static void a_reader_that_never_reads_costs_less_than_32_MiB(void **state)
{
    struct server *server = *state;
    never_reading(server, open_house, 1, 32 * 1024);
    if (can_pass_the_cache(server))
        never_reading(server, past_the_cache, 1, 32 * 1024);
}

/* Alone each would be within its bounds; together they would have 1.2 GiB. */
static void readers_that_never_read_cost_less_than_280_MiB_together(void **state)
{
    struct server *server = *state;
    never_reading(server, open_house, 40, 280 * 1024);
    if (can_pass_the_cache(server))
        never_reading(server, past_the_cache_on_two_loops, 40, 280 * 1024);
}

/* More than is let through beside those who hold it all: it waits until they are closed. */
static void who_never_reads_is_closed_when_others_need_the_memory(void **state)
{
    enum { COUNT = 40 };
    struct server *server = *state;
    struct raw_client clients[COUNT];
    struct raw_reply reply;
    server_start(server, (const char *const[]){"-t", "-e", "0", "--stall-limit=2", NULL});
    for (unsigned i = 0; i < COUNT; i++) {
        clients[i] = measure_open(server);
        assert_int_equal(raw_request(&clients[i], RAW_FLAG_DF, RAW_CMD_READ, i, 0, 32 * MIB), 0);
    }
    measure_pause_ms(500);
    struct raw_client good = measure_open(server);
    assert_true(measure_read_us(&good) < MEASURE_QUICK_US);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(raw_request(&good, 0, RAW_CMD_READ, i, 0, 8 * MIB), 0);
        assert_int_equal(raw_receive_reply(&good, &reply, NULL, 0, 8 * MIB), 0);
        assert_int_equal(reply.error, 0);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        raw_close(&clients[i]);
    }
    raw_close(&good);
    server_stop(server);
}

/* --- many connections ---------------------------------------------------------------------------
 */

static void idle_connections_by_thousands_cost_8_KiB_and_one_descriptor_each(void **state)
{
    enum { WANTED = 9000, SPARE = 100 };
    struct server *server = *state;
    unsigned may = measure_raise_descriptors();
    unsigned count = may > WANTED + SPARE ? WANTED : may - SPARE;
    assert_true(count >= 900);
    struct raw_client *clients = calloc(count, sizeof(*clients));
    server_start(server, open_house);
    bool memory = measure_memory(server);
    if (!memory && count > 2000) {
        count = 2000;
    }
    struct raw_client good = measure_open_warm(server);
    unsigned descriptors = measure_descriptors(server);
    unsigned long before_kib = measure_resident_kib(server);
    uint64_t from_ms = measure_now_ms();
    for (unsigned i = 0; i < count; i++) {
        clients[i] = measure_open(server);
    }
    uint64_t took_ms = measure_now_ms() - from_ms;
    unsigned long after_kib = measure_resident_kib(server);
    uint64_t read_us = measure_read_us(&good);
    print_message("%u connections: ready in %u ms, %lu bytes each, a read takes %u us\n", count,
                  (unsigned)took_ms, (after_kib - before_kib) * 1024 / count, (unsigned)read_us);
    assert_int_equal(measure_descriptors(server), descriptors + count);
    assert_true(took_ms < 50000);
    assert_true(read_us < MEASURE_QUICK_US);
    assert_true(!memory || (after_kib - before_kib) / count < 8);
    for (unsigned i = 0; i < count; i++) {
        raw_close(&clients[i]);
    }
    assert_true(measure_wait_descriptors(server, descriptors) <= descriptors);
    raw_close(&good);
    server_stop(server);
    free(clients);
}

/* --- sizes at the server's own buffers ----------------------------------------------------------
 */

static void check_length(const struct raw_client *client, uint32_t length, uint64_t offset,
                         const uint8_t *data, uint8_t *got)
{
    struct raw_reply reply;
    assert_int_equal(raw_request(client, 0, RAW_CMD_WRITE, 1, offset, length), 0);
    assert_int_equal(raw_send(client, data, length), 0);
    /* Behind it in the same receive: it must not be taken for data. */
    assert_int_equal(raw_request(client, 0, RAW_CMD_FLUSH, 2, 0, 0), 0);
    assert_int_equal(raw_receive_reply(client, &reply, NULL, 0, 0), 0);
    uint32_t first_error = reply.error;
    uint64_t first = reply.cookie;
    assert_int_equal(raw_receive_reply(client, &reply, NULL, 0, 0), 0);
    assert_int_equal(first + reply.cookie, 3);
    if (length > 32 * MIB) {
        assert_int_not_equal(first == 1 ? first_error : reply.error, 0);
        return;
    }
    assert_int_equal(first_error, 0);
    assert_int_equal(reply.error, 0);
    memset(got, 0, length);
    assert_int_equal(raw_request(client, 0, RAW_CMD_READ, 3, offset, length), 0);
    assert_int_equal(raw_receive_reply(client, &reply, got, offset, length), 0);
    assert_int_equal(reply.error, 0);
    assert_memory_equal(got, data, length);
}

static void sizes_at_and_over_each_internal_buffer_come_out_right(void **state)
{
    static const uint32_t sizes[] = {4096,       32 * 1024, 64 * 1024, 128 * 1024, 256 * 1024,
                                     512 * 1024, MIB,       8 * MIB,   16 * MIB,   32 * MIB};
    static const int around[] = {-28, -1, 0, 1, 28}; /* 28: a request's header */
    struct server *server = *state;
    uint8_t *data = malloc(33 * MIB), *got = malloc(33 * MIB);
    assert_true(data && got);
    server_start(server, open_house);
    struct raw_client client = measure_open(server);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (unsigned j = 0; j < sizeof(around) / sizeof(around[0]); j++) {
            uint32_t length = sizes[i] + (uint32_t)around[j];
            fill_random(data, length < MIB ? length : MIB, length);
            check_length(&client, length, i * 511, data, got);
        }
    }
    raw_close(&client);
    server_stop(server);
    free(data);
    free(got);
}

int main(void)
{
    fixture_require_server();
    unsetenv("MALLOC_PERTURB_"); /* it writes to memory that nobody else would touch */
#define with_server(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        with_server(giant_lengths_cost_less_than_1_MiB),
        with_server(a_reader_that_never_reads_costs_less_than_32_MiB),
        with_server(readers_that_never_read_cost_less_than_280_MiB_together),
        with_server(who_never_reads_is_closed_when_others_need_the_memory),
        with_server(idle_connections_by_thousands_cost_8_KiB_and_one_descriptor_each),
        with_server(sizes_at_and_over_each_internal_buffer_come_out_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
