/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine_threads.c: which reads take no thread, and which share one. What all engines have in
 * common is in test_engine.c.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/coroutine.h"
#include "block/engine.h"
#include "block/host_files.h"
#include "block/loop.h"
#include "block/workers.h"

struct fixture {
    struct loop *loop;
    struct workers *workers;
    struct engine *engine;
    int fd; /* a file whose bytes count up */
};

/* The host that the engine has, and what was asked of it. */
static struct host_files asked_files;
static struct {
    atomic_uint at_once, by_thread;
    int at_once_result; /* 0: what the host says */
} asked;

static ssize_t asked_preadv_at_once(struct host_files *files, int fd, const struct iovec *iov,
                                    int iov_count, uint64_t offset)
{
    asked.at_once++;
    if (asked.at_once_result != 0)
        return asked.at_once_result;
    /* A file system without RWF_NOWAIT is none of this test's matter. */
    return host_files_linux.preadv(files, fd, iov, iov_count, offset);
}

static ssize_t asked_preadv(struct host_files *files, int fd, const struct iovec *iov,
                            int iov_count, uint64_t offset)
{
    asked.by_thread++;
    return host_files_linux.preadv(files, fd, iov, iov_count, offset);
}

static void open_engine(void *arg)
{
    struct fixture *fixture = arg;
    struct engine_context context = {
        .loop = fixture->loop, .workers = fixture->workers, .files = &asked_files};
    assert_int_equal(engine_threads.open(&context, &fixture->engine, NULL), 0);
}

static void with_engine(void (*body)(void *arg))
{
    char path[] = "/tmp/platter-test-XXXXXX", bytes[8];
    struct fixture fixture = {.fd = mkstemp(path)};
    assert_true(fixture.fd >= 0);
    unlink(path);
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)i;
    assert_int_equal(pwrite(fixture.fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    asked_files = host_files_linux;
    asked_files.preadv_at_once = asked_preadv_at_once;
    asked_files.preadv = asked_preadv;
    assert_int_equal(loop_new(&fixture.loop, 0, &poller_ev, &clock_monotonic, NULL), 0);
    assert_int_equal(workers_new(&fixture.workers, 16, NULL), 0);
    assert_int_equal(loop_run_co(fixture.loop, open_engine, &fixture), 0);
    assert_int_equal(loop_run_co(fixture.loop, body, &fixture), 0);
    engine_threads.close(fixture.engine);
    workers_free(fixture.workers);
    loop_free(fixture.loop);
    close(fixture.fd);
}

/* --- what is in memory --------------------------------------------------------------------------
 */

static void read_what_is_in_memory(void *arg)
{
    struct fixture *fixture = arg;
    char got[8];
    struct iovec from = {got, sizeof(got)};
    struct engine_op op = {.kind = ENGINE_READ, .fd = fixture->fd, .iov = &from, .iov_count = 1};
    static const struct {
        enum engine_memory memory;
        int result;
        unsigned at_once, by_thread;
    } cases[] = {
        {ENGINE_MEMORY_UNKNOWN, 0, 0, 1},
        {ENGINE_MEMORY_LACKS_IT, 0, 0, 1},
        {ENGINE_MEMORY_HAS_IT, 0, 1, 0},
        {ENGINE_MEMORY_HAS_IT, -EAGAIN, 1, 1}, /* it was dropped meanwhile */
        {ENGINE_MEMORY_HAS_IT, -EIO, 1, 1},
        {ENGINE_MEMORY_HAS_IT, 3, 1, 1}, /* a part of it was dropped */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(&asked, 0, sizeof(asked));
        memset(got, 0xee, sizeof(got));
        asked.at_once_result = cases[i].result;
        op.memory = cases[i].memory;
        assert_int_equal(engine_co_run(fixture->engine, &op), sizeof(got));
        assert_memory_equal(got, "\0\1\2\3\4\5\6\7", sizeof(got));
        assert_int_equal(asked.at_once, cases[i].at_once);
        assert_int_equal(asked.by_thread, cases[i].by_thread);
    }
}

static void the_threads_have_no_part_in_reads_of_what_is_in_memory(void **state)
{
    (void)state;
    with_engine(read_what_is_in_memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_threads_have_no_part_in_reads_of_what_is_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
