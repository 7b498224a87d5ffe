/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kill -9 under load, over and over: 20 times, or as often as PLATTER_KILLS says. What was written
 * and then flushed, on another connection, is there after the restart; the socket, the pid file and
 * the lock that the dead server left behind are in nobody's way.
 */
#include "tests/bounds/measure.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "common/endian.h"
#include "common/random.h"

enum { SLOTS = 512, BLOCK = 4096, BATCH = 8, RESTART_MS_MAX = 1000 };

struct load {
    struct server server;
    struct random random;
    uint64_t sequence;       /* of the last write that was sent */
    uint64_t flushed[SLOTS]; /* the least that must be found */
    uint64_t sent[SLOTS];    /* the most that may be */
    unsigned flushes;
};

static void fill_block(uint8_t *block, uint64_t sequence)
{
    for (unsigned i = 0; i < BLOCK; i += 8) {
        store_be64(block + i, sequence);
    }
}

/* Writes a batch to slots that differ, then flushes; false when the server is gone. */
static bool write_and_flush(struct load *load, const struct raw_client *writer,
                            const struct raw_client *flusher)
{
    uint8_t batch[BATCH * (RAW_REQUEST_BYTES + BLOCK)];
    unsigned first = (unsigned)random_below(&load->random, SLOTS);
    uint64_t sequences[BATCH];
    struct raw_reply reply;
    for (unsigned i = 0; i < BATCH; i++) {
        unsigned slot = (first + i * 7) % SLOTS;
        uint8_t *at = batch + i * (RAW_REQUEST_BYTES + BLOCK);
        sequences[i] = load->sent[slot] = ++load->sequence;
        raw_fill_request(at, 0, RAW_CMD_WRITE, i, (uint64_t)slot * BLOCK, BLOCK);
        fill_block(at + RAW_REQUEST_BYTES, sequences[i]);
    }
    if (raw_send(writer, batch, sizeof(batch)) < 0) {
        return false;
    }
    for (unsigned i = 0; i < BATCH; i++) {
        if (raw_receive_reply(writer, &reply, NULL, 0, 0) < 0) {
            return false;
        }
        assert_int_equal(reply.error, 0);
    }
    if (raw_request(flusher, 0, RAW_CMD_FLUSH, 99, 0, 0) < 0 ||
        raw_receive_reply(flusher, &reply, NULL, 0, 0) < 0) {
        return false;
    }
    assert_int_equal(reply.error, 0);
    for (unsigned i = 0; i < BATCH; i++) {
        load->flushed[(first + i * 7) % SLOTS] = sequences[i];
    }
    load->flushes++;
    return true;
}

struct killer {
    pid_t pid;
    unsigned after_ms;
};

static void *kill_after(void *arg)
{
    const struct killer *killer = arg;
    measure_pause_ms(killer->after_ms);
    kill(killer->pid, SIGKILL);
    return NULL;
}

static void check_blocks(struct load *load, const struct raw_client *client)
{
    static uint8_t got[SLOTS * BLOCK];
    struct raw_reply reply;
    assert_int_equal(raw_request(client, 0, RAW_CMD_READ, 1, 0, sizeof(got)), 0);
    assert_int_equal(raw_receive_reply(client, &reply, got, 0, sizeof(got)), 0);
    assert_int_equal(reply.error, 0);
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        for (unsigned i = 0; i < BLOCK; i += 8) {
            uint64_t stamp = load_be64(got + slot * BLOCK + i);
            if (stamp < load->flushed[slot] || stamp > load->sent[slot]) {
                fail_msg("slot %u has write %lu, but %lu was flushed (%lu was sent last)", slot,
                         stamp, load->flushed[slot], load->sent[slot]);
            }
        }
    }
}

/* Returns how long the start took. */
static uint64_t start(struct load *load)
{
    char pid_file[128];
    uint64_t from_ms = measure_now_ms();
    snprintf(pid_file, sizeof(pid_file), "--pid-file=%s/pid", load->server.dir);
    server_start(&load->server, (const char *const[]){"-t", "-e", "0", pid_file, NULL});
    return measure_now_ms() - from_ms;
}

static void a_killed_server_lost_nothing_that_was_flushed(void **state)
{
    struct load *load = *state;
    const char *wanted = getenv("PLATTER_KILLS");
    unsigned kills = wanted ? (unsigned)strtoul(wanted, NULL, 10) : 20;
    uint64_t worst_ms = 0;
    start(load);
    bool sanitized = !measure_memory(&load->server);
    for (unsigned i = 0; i < kills; i++) {
        pthread_t thread;
        struct raw_client writer = measure_open(&load->server);
        struct raw_client flusher = measure_open(&load->server);
        struct killer killer = {load->server.pid, 5 + (unsigned)random_below(&load->random, 60)};
        assert_int_equal(pthread_create(&thread, NULL, kill_after, &killer), 0);
        while (write_and_flush(load, &writer, &flusher)) {
        }
        pthread_join(thread, NULL);
        waitpid(load->server.pid, NULL, 0);
        load->server.pid = 0;
        raw_close(&writer);
        raw_close(&flusher);
        uint64_t took_ms = start(load);
        worst_ms = took_ms > worst_ms ? took_ms : worst_ms;
        struct raw_client reader = measure_open(&load->server);
        check_blocks(load, &reader);
        raw_close(&reader);
    }
    print_message("%u kills, %u flushes acknowledged, the slowest restart took %u ms\n", kills,
                  load->flushes, (unsigned)worst_ms);
    assert_true(sanitized || worst_ms < RESTART_MS_MAX);
    assert_true(load->flushes > kills);
    server_stop(&load->server);
}

static int setup(void **state)
{
    struct load *load = calloc(1, sizeof(*load));
    assert_non_null(load);
    server_make_image(&load->server, SLOTS * BLOCK);
    random_seed(&load->random, 5);
    *state = load;
    return 0;
}

static int teardown(void **state)
{
    struct load *load = *state;
    server_clean(&load->server);
    free(load);
    return 0;
}

int main(void)
{
    fixture_require_server();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_killed_server_lost_nothing_that_was_flushed, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
