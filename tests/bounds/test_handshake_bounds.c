/* SPDX-License-Identifier: BSD-3-Clause */
/* Clients that stay in the handshake: silent, slow, or without end. */
#include "tests/bounds/measure.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/endian.h"

enum { LORIS_COUNT = 200 };

static struct raw_client connect_only(const struct server *server)
{
    struct raw_client client;
    assert_int_equal(raw_connect(&client, server->socket), 0);
    return client;
}

static void silent_client_is_closed_after(struct server *server, const char *const options[],
                                          uint64_t limit_ms)
{
    server_start(server, options);
    struct raw_client client = connect_only(server);
    uint64_t from_ms = measure_now_ms();
    assert_int_equal(raw_wait_closed(&client), 0);
    uint64_t took_ms = measure_now_ms() - from_ms;
    assert_in_range(took_ms, limit_ms - 100, limit_ms * 2 + 2000);
    raw_close(&client);
    server_stop(server);
}

static void a_silent_client_is_closed_after_10_s(void **state)
{
    silent_client_is_closed_after(*state, (const char *const[]){"-t", NULL}, 10000);
}

static void a_silent_client_is_closed_after_the_handshake_limit(void **state)
{
    silent_client_is_closed_after(*state, (const char *const[]){"-t", "--handshake-limit=1", NULL},
                                  1000);
}

static void without_a_handshake_limit_a_silent_client_stays(void **state)
{
    struct server *server = *state;
    server_start(server, (const char *const[]){"-t", "--handshake-limit=0", NULL});
    struct raw_client client = connect_only(server);
    measure_pause_ms(1500);
    assert_int_equal(raw_greet(&client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES), 0);
    assert_int_equal(raw_go(&client, ""), 0);
    raw_close(&client);
    server_stop(server);
}

/* The n-th byte of a handshake that goes on for ever: flags, then LIST and LIST and LIST. */
static uint8_t loris_byte(unsigned n)
{
    uint8_t option[16];
    if (n < 4) {
        return n == 3 ? RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES : 0;
    }
    store_be64(option, RAW_IHAVEOPT);
    store_be32(option + 8, RAW_OPT_LIST);
    store_be32(option + 12, 0);
    return option[(n - 4) % sizeof(option)];
}

static bool is_closed(const struct raw_client *client)
{
    uint8_t byte;
    ssize_t got;
    do {
        got = recv(client->fd, &byte, 1, MSG_DONTWAIT);
    } while (got > 0);
    return got == 0 || (errno != EAGAIN && errno != EINTR);
}

/* The deadline counts from the connect, not from the last byte. */
static void slow_loris_200_clients_all_closed_by_the_same_deadline(void **state)
{
    enum { LIMIT_MS = 3000 };
    struct server *server = *state;
    struct raw_client clients[LORIS_COUNT];
    server_start(server, (const char *const[]){"-t", "-e", "0", "--handshake-limit=3", NULL});
    struct raw_client good = measure_open(server);
    unsigned descriptors = measure_descriptors(server);
    uint64_t from_ms = measure_now_ms();
    for (unsigned i = 0; i < LORIS_COUNT; i++) {
        clients[i] = connect_only(server);
    }
    unsigned open_count = LORIS_COUNT, checked = 0;
    for (unsigned n = 0; open_count > 0; n++) {
        uint8_t byte = loris_byte(n);
        for (unsigned i = 0; i < LORIS_COUNT; i++) {
            if (clients[i].fd >= 0) {
                send(clients[i].fd, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (is_closed(&clients[i])) {
                    raw_close(&clients[i]);
                    open_count--;
                }
            }
        }
        if (open_count == LORIS_COUNT && n % 10 == 0) {
            assert_true(measure_read_us(&good) < MEASURE_QUICK_US);
            checked++;
        }
        assert_true(measure_now_ms() - from_ms < 5 * LIMIT_MS);
        measure_pause_ms(20);
    }
    assert_true(measure_now_ms() - from_ms >= LIMIT_MS - 100);
    assert_true(checked > 0);
    assert_true(measure_wait_descriptors(server, descriptors) <= descriptors);
    assert_true(measure_read_us(&good) < MEASURE_QUICK_US);
    raw_close(&good);
    server_stop(server);
}

static void options_before_GO_are_bounded(void **state)
{
    enum { TOO_MANY = 100000 };
    struct server *server = *state;
    uint32_t type;
    unsigned answered = 0;
    server_start(server, (const char *const[]){"-t", NULL});
    struct raw_client client = connect_only(server);
    assert_int_equal(raw_greet(&client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES), 0);
    while (answered < TOO_MANY && raw_negotiate(&client, RAW_OPT_LIST, NULL, 0, &type) == 0) {
        answered++;
    }
    assert_in_range(answered, 32, 1000);
    raw_close(&client);
    server_stop(server);
}

/* Every answer waits in the server when nobody reads it: the answers must be bounded, too. */
static void options_whose_answers_nobody_reads_cost_little(void **state)
{
    struct server *server = *state;
    uint8_t option[16];
    store_be64(option, RAW_IHAVEOPT);
    store_be32(option + 8, RAW_OPT_LIST);
    store_be32(option + 12, 0);
    server_start(server, (const char *const[]){"-t", "-e", "0", NULL});
    bool memory = measure_memory(server);
    unsigned long before_kib = measure_resident_kib(server);
    struct raw_client clients[50];
    for (unsigned i = 0; i < 50; i++) {
        clients[i] = connect_only(server);
        assert_int_equal(raw_greet(&clients[i], RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES), 0);
        for (unsigned n = 0; n < 2000; n++) {
            if (send(clients[i].fd, option, sizeof(option), MSG_NOSIGNAL | MSG_DONTWAIT) !=
                sizeof(option)) {
                break;
            }
        }
    }
    measure_pause_ms(200);
    unsigned long after_kib = measure_resident_kib(server);
    print_message("50 clients that only ask: %lu KiB more\n", after_kib - before_kib);
    assert_true(!memory || after_kib < before_kib + 4096);
    for (unsigned i = 0; i < 50; i++) {
        raw_close(&clients[i]);
    }
    server_stop(server);
}

int main(void)
{
    fixture_require_server();
#define with_server(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        with_server(a_silent_client_is_closed_after_10_s),
        with_server(a_silent_client_is_closed_after_the_handshake_limit),
        with_server(without_a_handshake_limit_a_silent_client_stays),
        with_server(slow_loris_200_clients_all_closed_by_the_same_deadline),
        with_server(options_before_GO_are_bounded),
        with_server(options_whose_answers_nobody_reads_cost_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
