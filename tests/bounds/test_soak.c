/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For a minute, or PLATTER_SOAK_SECONDS (an hour in tests/run --long): clients that read, write,
 * zero, trim and flush, each in a stretch of the image that it keeps a copy of, and come and go;
 * others that only come and go, as they may and as they may not. Every byte read is the one
 * written; memory and descriptors stay what they were after the first twelfth of the time.
 */
#include "tests/bounds/measure.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/endian.h"
#include "common/random.h"

enum {
    CLIENTS = 4,
    STRETCH = 8 << 20,
    LENGTH_MAX = 300000,
    REQUESTS_A_CONNECTION = 400,
    GROWTH_KIB_MIN = 1024, /* one in a hundred, and no less than this */
};

/* On any thread: what cmocka's assertions cannot be used for. */
#define check(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

struct soak {
    struct server server;
    atomic_bool over;
    atomic_ulong requests, connections;
};

struct worker {
    struct soak *soak;
    pthread_t thread;
    struct random random;
    uint64_t start; /* of its stretch */
    uint8_t *copy;  /* what is there */
    uint8_t *trimmed;
    uint8_t buffer[LENGTH_MAX];
};

static struct raw_client connect_worker(struct soak *soak)
{
    struct raw_client client;
    check(raw_open(&client, soak->server.socket, "", true) == 0);
    soak->connections++;
    return client;
}

static void expect_done(const struct raw_client *client)
{
    struct raw_reply reply;
    check(raw_receive_reply(client, &reply, NULL, 0, 0) == 0);
    check(reply.error == 0);
}

static void check_read(struct worker *worker, const struct raw_client *client, uint32_t at,
                       uint32_t length)
{
    struct raw_reply reply;
    uint64_t offset = worker->start + at;
    check(raw_request(client, 0, RAW_CMD_READ, 1, offset, length) == 0);
    check(raw_receive_reply(client, &reply, worker->buffer, offset, length) == 0);
    check(reply.error == 0);
    for (uint32_t i = 0; i < length; i++) {
        bool as_written = worker->buffer[i] == worker->copy[at + i];
        check(as_written || (worker->trimmed[at + i] && worker->buffer[i] == 0));
    }
}

static void write_some(struct worker *worker, const struct raw_client *client, uint32_t at,
                       uint32_t length)
{
    uint16_t flags = random_once_in(&worker->random, 50) ? RAW_FLAG_FUA : 0;
    fill_random(worker->copy + at, length, random_u64(&worker->random));
    memset(worker->trimmed + at, 0, length);
    check(raw_request(client, flags, RAW_CMD_WRITE, 2, worker->start + at, length) == 0);
    check(raw_send(client, worker->copy + at, length) == 0);
    expect_done(client);
}

static void one_request(struct worker *worker, const struct raw_client *client)
{
    struct random *random = &worker->random;
    uint32_t length =
        1 + (uint32_t)random_below(random, random_once_in(random, 10) ? LENGTH_MAX : 8192);
    uint32_t at = (uint32_t)random_below(random, STRETCH - length);
    switch (random_below(random, 20)) {
    case 0:
        check(raw_request(client, 0, RAW_CMD_FLUSH, 3, 0, 0) == 0);
        expect_done(client);
        break;
    case 1:
        memset(worker->copy + at, 0, length);
        memset(worker->trimmed + at, 0, length);
        check(raw_request(client, 0, RAW_CMD_WRITE_ZEROES, 4, worker->start + at, length) == 0);
        expect_done(client);
        break;
    case 2:
        memset(worker->trimmed + at, 1, length);
        check(raw_request(client, 0, RAW_CMD_TRIM, 5, worker->start + at, length) == 0);
        expect_done(client);
        break;
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
        write_some(worker, client, at, length);
        break;
    default:
        check_read(worker, client, at, length);
    }
    worker->soak->requests++;
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct soak *soak = worker->soak;
    while (!soak->over) {
        struct raw_client client = connect_worker(soak);
        for (unsigned i = 0; i < REQUESTS_A_CONNECTION && !soak->over; i++) {
            one_request(worker, &client);
        }
        if (random_once_in(&worker->random, 2)) {
            check(raw_request(&client, 0, RAW_CMD_DISC, 9, 0, 0) == 0);
        }
        raw_close(&client);
    }
    return NULL;
}

/* Somebody who comes, does something or other, and leaves. */
static void *come_and_go(void *arg)
{
    struct worker *worker = arg;
    struct soak *soak = worker->soak;
    struct raw_client client;
    while (!soak->over) {
        check(raw_connect(&client, soak->server.socket) == 0);
        soak->connections++;
        uint64_t how = random_below(&worker->random, 5);
        if (how > 0) {
            check(raw_greet(&client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES) == 0);
        }
        if (how > 1) {
            check(raw_go(&client, "") == 0);
        }
        if (how == 3) { /* leaves its answers behind */
            check(raw_request(&client, 0, RAW_CMD_READ, 1, 0, 1 << 20) == 0);
        } else if (how == 4) { /* and a part of a write, which never gets to the image */
            check(raw_request(&client, 0, RAW_CMD_WRITE, 1, 0, LENGTH_MAX) == 0);
            check(raw_send(&client, worker->buffer, LENGTH_MAX / 2) == 0);
        }
        raw_close(&client);
        measure_pause_ms(20);
    }
    return NULL;
}

static void start_worker(struct soak *soak, struct worker *worker, unsigned index,
                         void *(*entry)(void *arg))
{
    worker->soak = soak;
    worker->start = (uint64_t)index * STRETCH;
    worker->copy = calloc(1, STRETCH);
    worker->trimmed = calloc(1, STRETCH);
    assert_true(worker->copy && worker->trimmed);
    random_seed(&worker->random, 28 + index);
    assert_int_equal(pthread_create(&worker->thread, NULL, entry, worker), 0);
}

static void end_worker(struct worker *worker)
{
    pthread_join(worker->thread, NULL);
    free(worker->copy);
    free(worker->trimmed);
}

/* The least of some moments: what is there all the time, and not what a request has for itself. */
static unsigned long settled_kib(const struct server *server)
{
    unsigned long least = measure_resident_kib(server);
    for (unsigned i = 0; i < 20; i++) {
        measure_pause_ms(50);
        unsigned long now = measure_resident_kib(server);
        least = now < least ? now : least;
    }
    return least;
}

static void memory_and_descriptors_stay_flat(void **state)
{
    struct soak *soak = *state;
    const char *wanted = getenv("PLATTER_SOAK_SECONDS");
    uint64_t total_ms = (wanted ? strtoul(wanted, NULL, 10) : 60) * 1000;
    uint64_t from_ms = measure_now_ms();
    static struct worker workers[CLIENTS + 1];
    server_start(&soak->server, (const char *const[]){"-t", "-e", "0", "--discard=unmap", NULL});
    bool memory = measure_memory(&soak->server);
    struct raw_client good = measure_open_warm(&soak->server);
    unsigned descriptors = measure_descriptors(&soak->server);
    for (unsigned i = 0; i <= CLIENTS; i++) {
        start_worker(soak, &workers[i], i, i < CLIENTS ? work : come_and_go);
    }
    /* Pools have their size when the loops have met each other's peaks, chance by chance: in ten
     * seconds most of it, in a minute all but a few hundred KiB. */
    while (measure_now_ms() - from_ms < total_ms / 4) {
        measure_pause_ms(200);
    }
    unsigned long before_kib = settled_kib(&soak->server);
    while (measure_now_ms() - from_ms < total_ms) {
        measure_pause_ms(200);
        assert_true(server_is_alive(&soak->server));
    }
    unsigned long after_kib = settled_kib(&soak->server);
    soak->over = true;
    for (unsigned i = 0; i <= CLIENTS; i++) {
        end_worker(&workers[i]);
    }
    print_message("%lu requests, %lu connections, %lu then %lu KiB\n", soak->requests,
                  soak->connections, before_kib, after_kib);
    unsigned long growth_max =
        before_kib / 100 > GROWTH_KIB_MIN ? before_kib / 100 : GROWTH_KIB_MIN;
    assert_true(!memory || after_kib < before_kib + growth_max);
    assert_true(measure_wait_descriptors(&soak->server, descriptors) <= descriptors);
    raw_close(&good);
    server_stop(&soak->server);
}

static int setup(void **state)
{
    struct soak *soak = calloc(1, sizeof(*soak));
    assert_non_null(soak);
    server_make_image(&soak->server, (uint64_t)CLIENTS * STRETCH);
    *state = soak;
    return 0;
}

static int teardown(void **state)
{
    struct soak *soak = *state;
    server_clean(&soak->server);
    free(soak);
    return 0;
}

int main(void)
{
    fixture_require_server();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(memory_and_descriptors_stay_flat, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
