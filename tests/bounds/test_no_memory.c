/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every allocation of the server fails in turn while it serves: once, and from then on for the
 * whole session. The client of the session may get errors or lose its connection. The server may
 * not die or hang, what it said was written is written, and the next client is served in full.
 */
#include "tests/bounds/measure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/endian.h"
#include "tests/bounds/fail_alloc.h"

enum {
    SMALL = 4096,
    MIDDLE = 300 * 1024,
    LARGE = 9 << 20,
    READS = 40,
    READ_BYTES = 65536,
    ALLOCATIONS_MAX = 5000, /* far more than a session makes */
};

static const char *const engines[] = {"--aio=io_uring", "--aio=threads", NULL};

struct bench {
    struct server server;
    struct fail_alloc *shared;
    char shared_path[128];
    uint8_t data[LARGE];
};

static int setup(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    assert_non_null(bench);
    server_make_image(&bench->server, FIXTURE_IMAGE_BYTES);
    snprintf(bench->shared_path, sizeof(bench->shared_path), "%s/shared", bench->server.dir);
    int fd = open(bench->shared_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, sizeof(*bench->shared)), 0);
    bench->shared = mmap(NULL, sizeof(*bench->shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(bench->shared != MAP_FAILED);
    close(fd);
    fill_random(bench->data, sizeof(bench->data), 8);
    *state = bench;
    return 0;
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    server_clean(&bench->server);
    munmap(bench->shared, sizeof(*bench->shared));
    free(bench);
    return 0;
}

static void start(struct bench *bench, const char *engine)
{
    setenv(FAIL_ALLOC_ENV, bench->shared_path, 1);
    setenv("LD_PRELOAD", FAIL_ALLOC_LIBRARY, 1);
    server_start(&bench->server, (const char *const[]){"-t", "-e", "0", "--threads=2",
                                                       "--discard=unmap", engine, NULL});
    unsetenv("LD_PRELOAD");
}

static void arm(struct bench *bench, uint64_t at, bool sticky)
{
    bench->shared->fail_at = 0;
    bench->shared->failed = 0;
    bench->shared->sticky = sticky;
    bench->shared->count = 0;
    bench->shared->fail_at = at;
}

/* --- the session --------------------------------------------------------------------------------
 */

/* What went wrong for the client so far; a wait that ran out is a hang, and fails the test. */
static bool went_on(int code)
{
    if (code == -EAGAIN || code == -ETIMEDOUT) {
        fail_msg("the server hangs");
    }
    return code == 0;
}

/* The reply to one request: false when the connection is lost. */
static bool reply_came(const struct raw_client *client, uint64_t read_offset, uint32_t read_length,
                       uint32_t *ret_error)
{
    struct raw_reply reply;
    if (!went_on(raw_receive_reply(client, &reply, NULL, read_offset, read_length))) {
        return false;
    }
    *ret_error = reply.error;
    return true;
}

static bool negotiate(struct raw_client *client)
{
    /* SET_META_CONTEXT: export "", one query. */
    static const uint8_t query[] = "\0\0\0\0\0\0\0\1\0\0\0\17base:allocation";
    uint32_t type;
    return went_on(raw_greet(client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES)) &&
           went_on(raw_negotiate(client, RAW_OPT_LIST, NULL, 0, &type)) &&
           went_on(raw_negotiate(client, RAW_OPT_STRUCTURED_REPLY, NULL, 0, &type)) &&
           went_on(
               raw_negotiate(client, RAW_OPT_SET_META_CONTEXT, query, sizeof(query) - 1, &type)) &&
           went_on(raw_go(client, ""));
}

/* Writes; true when the connection lives on. *ret_written: it said so. */
static bool write_some(const struct raw_client *client, uint16_t flags, const uint8_t *data,
                       uint64_t offset, uint32_t length, bool *ret_written)
{
    uint32_t error;
    if (!went_on(raw_request(client, flags, RAW_CMD_WRITE, 1, offset, length)) ||
        !went_on(raw_send(client, data, length)) || !reply_came(client, 0, 0, &error)) {
        return false;
    }
    *ret_written = error == 0;
    return true;
}

static bool command(const struct raw_client *client, uint16_t type, uint64_t offset,
                    uint32_t length)
{
    uint32_t error;
    return went_on(raw_request(client, 0, type, 2, offset, length)) &&
           reply_came(client, offset, type == RAW_CMD_READ ? length : 0, &error);
}

static bool many_reads(const struct raw_client *client)
{
    uint8_t batch[READS * RAW_REQUEST_BYTES];
    uint32_t error;
    for (unsigned i = 0; i < READS; i++) {
        raw_fill_request(batch + i * RAW_REQUEST_BYTES, 0, RAW_CMD_READ, i, 0, READ_BYTES);
    }
    if (!went_on(raw_send(client, batch, sizeof(batch)))) {
        return false;
    }
    for (unsigned i = 0; i < READS; i++) {
        if (!reply_came(client, 0, READ_BYTES, &error)) {
            return false;
        }
    }
    return true;
}

struct outcome {
    bool small, middle, large; /* written, it said */
    bool finished;
};

#define MIDDLE_AT (1 << 20)
#define LARGE_AT (16 << 20)

/* Written and read; and trimmed again, before a sync would bring it to the disk, a thousand times.
 */
static bool large(const struct raw_client *client, const uint8_t *data, bool is_last,
                  bool *ret_written)
{
    return write_some(client, 0, data, LARGE_AT, LARGE, ret_written) &&
           command(client, RAW_CMD_READ, LARGE_AT, is_last ? SMALL : LARGE) &&
           (!is_last || command(client, RAW_CMD_TRIM, LARGE_AT, LARGE));
}

static struct outcome session(const struct bench *bench, bool is_last)
{
    struct outcome outcome = {0};
    struct raw_client client;
    if (went_on(raw_connect(&client, bench->server.socket))) {
        outcome.finished =
            negotiate(&client) && command(&client, RAW_CMD_READ, 0, READ_BYTES) &&
            write_some(&client, RAW_FLAG_FUA, bench->data, 0, SMALL, &outcome.small) &&
            write_some(&client, 0, bench->data, MIDDLE_AT, MIDDLE, &outcome.middle) &&
            command(&client, RAW_CMD_WRITE_ZEROES, 40 << 20, 1 << 20) &&
            command(&client, RAW_CMD_TRIM, 42 << 20, 1 << 20) &&
            command(&client, RAW_CMD_BLOCK_STATUS, 0, 64 << 20) &&
            command(&client, RAW_CMD_FLUSH, 0, 0) && many_reads(&client) &&
            large(&client, bench->data, is_last, &outcome.large);
        raw_close(&client);
    }
    return outcome;
}

static void written_is_there(struct bench *bench, bool written, uint64_t offset, size_t length)
{
    static uint8_t got[LARGE];
    if (written) {
        image_read(&bench->server, got, length, offset);
        assert_memory_equal(got, bench->data, length);
    }
}

/* Returns whether the n-th allocation was made, and so failed. */
static bool fail_the_nth(struct bench *bench, const char *engine, uint64_t n, bool sticky)
{
    start(bench, engine);
    arm(bench, n, sticky);
    struct outcome outcome = session(bench, false);
    uint64_t failed = bench->shared->failed;
    arm(bench, 0, false);
    if (!server_is_alive(&bench->server)) {
        fail_msg("%s, allocation %lu, %s: the server died", engine, n, sticky ? "sticky" : "once");
    }
    written_is_there(bench, outcome.small, 0, SMALL);
    written_is_there(bench, outcome.middle, MIDDLE_AT, MIDDLE);
    written_is_there(bench, outcome.large, LARGE_AT, LARGE);
    outcome = session(bench, true);
    if (!outcome.finished || !outcome.small || !outcome.middle || !outcome.large) {
        fail_msg("%s, allocation %lu, %s: the next client was not served", engine, n,
                 sticky ? "sticky" : "once");
    }
    server_stop(&bench->server);
    return failed > 0;
}

static void each_allocation_fails(struct bench *bench, const char *engine, bool sticky)
{
    server_start(&bench->server, (const char *const[]){"-t", NULL});
    bool sanitized = !measure_memory(&bench->server);
    server_stop(&bench->server);
    if (sanitized) {
        skip_because("a sanitizer has allocation functions of its own");
        return;
    }
    uint64_t n = 1;
    while (fail_the_nth(bench, engine, n, sticky)) {
        n++;
        assert_true(n < ALLOCATIONS_MAX);
    }
    print_message("%s: %lu allocations failed, each %s\n", engine, n - 1,
                  sticky ? "with all after it" : "once");
    assert_true(n > 20);
}

static void each_allocation_fails_once_with_io_uring(void **state)
{
    each_allocation_fails(*state, engines[0], false);
}

static void each_allocation_fails_once_with_threads(void **state)
{
    each_allocation_fails(*state, engines[1], false);
}

static void all_allocations_fail_from_each_on_with_io_uring(void **state)
{
    each_allocation_fails(*state, engines[0], true);
}

static void all_allocations_fail_from_each_on_with_threads(void **state)
{
    each_allocation_fails(*state, engines[1], true);
}

int main(void)
{
    fixture_require_server();
#define with_bench(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        with_bench(each_allocation_fails_once_with_io_uring),
        with_bench(each_allocation_fails_once_with_threads),
        with_bench(all_allocations_fail_from_each_on_with_io_uring),
        with_bench(all_allocations_fail_from_each_on_with_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
