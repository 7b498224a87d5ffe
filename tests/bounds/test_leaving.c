/* SPDX-License-Identifier: BSD-3-Clause */
/* How clients leave: half, in the middle, by hundreds, when no descriptor is left, at SIGTERM. */
#include "tests/bounds/measure.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "common/endian.h"
#include "common/random.h"

static const char *const open_house[] = {"-t", "-e", "0", NULL};

static struct raw_client connect_only(const struct server *server)
{
    struct raw_client client;
    assert_int_equal(raw_connect(&client, server->socket), 0);
    return client;
}

/* --- descriptors used up ------------------------------------------------------------------------
 */

static struct rlimit set_descriptor_limit(rlim_t count)
{
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit now = {.rlim_cur = count, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
    return before;
}

static void descriptors_used_up_cost_no_time_and_it_serves_again(void **state)
{
    enum { LIMIT = 100, COUNT = 150, FULL_MS = 3000 };
    struct server *server = *state;
    struct raw_client clients[COUNT];
    struct rlimit before = set_descriptor_limit(LIMIT);
    server_start(server, (const char *const[]){"-t", "-e", "0", "--handshake-limit=0", NULL});
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    struct raw_client good = measure_open_warm(server);
    for (unsigned i = 0; i < COUNT; i++) { /* the kernel's backlog takes those that are too many */
        clients[i] = connect_only(server);
    }
    measure_pause_ms(500);
    assert_in_range(measure_descriptors(server), LIMIT - 2,
                    LIMIT + 8); /* inherited ones may lie above */
    uint64_t cpu_ms = measure_cpu_ms(server);
    measure_pause_ms(FULL_MS);
    cpu_ms = measure_cpu_ms(server) - cpu_ms;
    print_message("full for %d ms: %u ms of processor time\n", FULL_MS, (unsigned)cpu_ms);
    assert_true(cpu_ms < FULL_MS * 5 / 100);
    assert_true(measure_read_us(&good) < MEASURE_QUICK_US);
    for (unsigned i = 0; i < COUNT / 2; i++) { /* room: who waited is greeted */
        raw_close(&clients[i]);
    }
    uint64_t from_ms = measure_now_ms();
    for (unsigned i = COUNT / 2; i < COUNT; i++) {
        assert_int_equal(raw_greet(&clients[i], RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES), 0);
        assert_int_equal(raw_go(&clients[i], ""), 0);
    }
    assert_true(measure_now_ms() - from_ms < 10000);
    for (unsigned i = COUNT / 2; i < COUNT; i++) {
        raw_close(&clients[i]);
    }
    raw_close(&good);
    server_stop(server);
}

/* --- by hundreds --------------------------------------------------------------------------------
 */

enum { TIMES = 300 };

static void a_half_close_is_answered_then_closed_300_times(void **state)
{
    struct server *server = *state;
    struct raw_reply reply;
    server_start(server, open_house);
    struct raw_client good = measure_open_warm(server);
    unsigned descriptors = measure_descriptors(server);
    for (unsigned i = 0; i < TIMES; i++) {
        struct raw_client client = measure_open(server);
        assert_int_equal(raw_request(&client, 0, RAW_CMD_READ, i, 0, 65536), 0);
        assert_int_equal(shutdown(client.fd, SHUT_WR), 0);
        assert_int_equal(raw_receive_reply(&client, &reply, NULL, 0, 65536), 0);
        assert_int_equal(reply.error, 0);
        assert_int_equal(reply.cookie, i);
        assert_int_equal(raw_wait_closed(&client), 0);
        raw_close(&client);
    }
    assert_true(measure_wait_descriptors(server, descriptors) <= descriptors);
    raw_close(&good);
    server_stop(server);
}

static void send_garbage(const struct server *server, struct random *random)
{
    uint8_t garbage[2048];
    fill_random(garbage, sizeof(garbage), random_u64(random));
    struct raw_client client =
        random_once_in(random, 2) ? connect_only(server) : measure_open(server);
    int sent = raw_send(&client, garbage, 1 + random_below(random, sizeof(garbage)));
    assert_true(sent == 0 || sent == -ENOTCONN);
    raw_close(&client);
}

static void vanish_inside_a_write(const struct server *server, struct random *random)
{
    static uint8_t half[300000];
    struct raw_client client = measure_open(server);
    uint32_t length = 2 + (uint32_t)random_below(random, sizeof(half));
    memset(half, 0xdd, sizeof(half));
    assert_int_equal(raw_request(&client, 0, RAW_CMD_WRITE, 1, 32 << 20, length), 0);
    assert_int_equal(raw_send(&client, half, random_below(random, length)), 0);
    raw_close(&client);
}

static void garbage_and_disconnects_inside_a_write_leave_nothing_behind(void **state)
{
    static uint8_t got[300000], zero[300000];
    struct server *server = *state;
    struct random random;
    unsigned long before_kib = 0;
    random_seed(&random, 18);
    server_start(server, open_house);
    struct raw_client good = measure_open_warm(server);
    bool memory = measure_memory(server);
    unsigned descriptors = measure_descriptors(server);
    for (unsigned i = 0; i < TIMES; i++) {
        send_garbage(server, &random);
        vanish_inside_a_write(server, &random);
        if (i == TIMES / 3) {
            measure_wait_descriptors(server, descriptors);
            before_kib = measure_resident_kib(server);
        }
    }
    assert_true(measure_wait_descriptors(server, descriptors) <= descriptors);
    unsigned long after_kib = measure_resident_kib(server);
    print_message("200 more of each: %ld KiB more\n", (long)(after_kib - before_kib));
    assert_true(!memory || after_kib < before_kib + 2048);
    assert_true(measure_read_us(&good) < MEASURE_QUICK_US);
    raw_close(&good);
    server_stop(server);
    image_read(server, got, sizeof(got), 32 << 20);
    assert_memory_equal(got, zero, sizeof(got));
}

/* --- SIGTERM ------------------------------------------------------------------------------------
 */

/* Leaves a client in the n-th of the states a handshake, or what follows, can be in. */
static struct raw_client client_in_state(const struct server *server, unsigned n, bool readers)
{
    uint8_t option[20] = {0};
    struct raw_client client = connect_only(server);
    store_be64(option, RAW_IHAVEOPT);
    store_be32(option + 8, n % 2 ? RAW_OPT_GO : RAW_OPT_LIST);
    store_be32(option + 12, 4);
    if (n % 10 == 0) {
        return client; /* not a word */
    }
    if (n % 10 == 1) {
        raw_send(&client, "\0\0", 2); /* a part of the flags, without reading */
        return client;
    }
    if (raw_greet(&client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES) < 0) {
        return client;
    }
    switch (n % 10) {
    case 2:
        break; /* greeted */
    case 3:
        raw_send(&client, option, 7); /* a part of an option's header */
        break;
    case 4:
        raw_send(&client, option, 18); /* a part of its data */
        break;
    case 5:
        store_be32(option + 12, 0); /* asks on and on, reads nothing */
        for (unsigned i = 0; i < 50; i++) {
            raw_send(&client, option, 16);
        }
        break;
    default:
        if (raw_go(&client, "") < 0) {
            break;
        }
        if (n % 10 == 7) {
            raw_request(&client, 0, RAW_CMD_WRITE, 1, 0, 65536); /* no payload */
        } else if (n % 10 == 8 && readers) {
            for (unsigned i = 0; i < 16; i++) {
                raw_request(&client, 0, RAW_CMD_READ, i, 0, 1 << 20); /* reads nothing */
            }
        } else if (n % 10 == 9) {
            raw_send(&client, option, 13); /* a part of a request */
        }
    }
    return client;
}

static void SIGTERM_with_200_clients_in_every_state_20_times(void **state)
{
    enum { COUNT = 200, ROUNDS = 20 };
    struct server *server = *state;
    struct raw_client clients[COUNT];
    uint64_t worst_ms = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        server_start(server, open_house);
        for (unsigned i = 0; i < COUNT; i++) {
            if (round % 2 && i == COUNT - round) {
                kill(server->pid, SIGTERM); /* while others are on their way in */
            }
            if (round % 2 && i >= COUNT - round) {
                clients[i].fd = -1;
                if (raw_connect(&clients[i], server->socket) < 0) {
                    continue;
                }
            } else {
                clients[i] = client_in_state(server, i, round % 5 == 0);
            }
        }
        uint64_t from_ms = measure_now_ms();
        if (round % 2 == 0) {
            kill(server->pid, SIGTERM);
        }
        server_expect_end(server);
        uint64_t took_ms = measure_now_ms() - from_ms;
        worst_ms = took_ms > worst_ms ? took_ms : worst_ms;
        for (unsigned i = 0; i < COUNT; i++) {
            raw_close(&clients[i]);
        }
    }
    print_message("the slowest stop took %u ms\n", (unsigned)worst_ms);
    assert_true(worst_ms <
                30000); /* readers that never read hold it up for 3 s: some rounds have them */
}

int main(void)
{
    fixture_require_server();
#define with_server(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        with_server(descriptors_used_up_cost_no_time_and_it_serves_again),
        with_server(a_half_close_is_answered_then_closed_300_times),
        with_server(garbage_and_disconnects_inside_a_write_leave_nothing_behind),
        with_server(SIGTERM_with_200_clients_in_every_state_20_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
