/* SPDX-License-Identifier: BSD-3-Clause */
/* engine_misses.c: where clients share a loop, a few reads that miss share a worker. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/coroutine.h"
#include "block/engine_misses.h"
#include "block/host_files.h"
#include "block/loop.h"
#include "block/loop_room.h"
#include "block/workers.h"

struct fixture {
    struct loop *loop;
    struct workers *workers;
    struct engine_misses misses;
    struct loop_source source;
    int fd; /* a file whose bytes count up */
};

/* The host that the engine has, and what was asked of it. */
#define ASKED_MAX (ENGINE_MISSES_A_WORKER * ENGINE_MISSES_WORKERS_MAX * 2)
static struct host_files asked_files;
static struct {
    atomic_uint reads, told;
    atomic_uint readers_now, readers_max;
    bool is_deaf; /* a file system that knows no such thing */
    pthread_t reader_of[ASKED_MAX];
    bool told_first[ASKED_MAX]; /* of this byte, before it was read */
} asked;

static ssize_t asked_preadv(struct host_files *files, int fd, const struct iovec *iov,
                            int iov_count, uint64_t offset)
{
    asked.reads++;
    asked.reader_of[offset] = pthread_self();
    unsigned now = ++asked.readers_now;
    if (now > asked.readers_max)
        asked.readers_max = now;
    ssize_t got = host_files_linux.preadv(files, fd, iov, iov_count, offset);
    asked.readers_now--;
    return got;
}

static int asked_will_need(struct host_files *files, int fd, uint64_t offset, uint64_t length)
{
    (void)files, (void)fd;
    assert_int_equal(length, 1);
    asked.told++;
    asked.told_first[offset] = !asked.reader_of[offset];
    return asked.is_deaf ? -EINVAL : 0;
}

static bool turn(struct loop_source *source)
{
    engine_misses_hand_over(&container_of(source, struct fixture, source)->misses);
    return false;
}

static void with_misses(void (*body)(void *arg), bool takes_hints)
{
    char path[] = "/tmp/platter-test-XXXXXX", bytes[ASKED_MAX];
    struct fixture fixture = {.fd = mkstemp(path), .source = {.turn = turn}};
    assert_true(fixture.fd >= 0);
    unlink(path);
    for (int i = 0; i < ASKED_MAX; i++)
        bytes[i] = (char)i;
    assert_int_equal(pwrite(fixture.fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    asked_files = host_files_linux;
    asked_files.preadv = asked_preadv;
    asked_files.will_need = takes_hints ? asked_will_need : NULL;
    assert_int_equal(loop_new(&fixture.loop, 0, &poller_ev, &clock_monotonic, NULL), 0);
    assert_int_equal(workers_new(&fixture.workers, ENGINE_MISSES_WORKERS_MAX * 2, NULL), 0);
    struct engine_context context = {
        .loop = fixture.loop, .workers = fixture.workers, .files = &asked_files};
    engine_misses_init(&fixture.misses, &context);
    link_init(&fixture.source.link);
    loop_source_add(fixture.loop, &fixture.source);
    assert_int_equal(loop_run_co(fixture.loop, body, &fixture), 0);
    loop_source_remove(&fixture.source);
    engine_misses_fini(&fixture.misses);
    workers_free(fixture.workers);
    loop_free(fixture.loop);
    close(fixture.fd);
}

struct miss {
    struct engine_op op;
    struct iovec iov;
    char got;
    unsigned *ended_count;
};

static void end_miss(struct engine_op *op)
{
    struct miss *miss = container_of(op, struct miss, op);
    assert_int_equal(op->result, 1);
    assert_int_equal((uint8_t)miss->got, op->offset);
    (*miss->ended_count)++;
}

/* One byte each, all queued in one round. */
static void co_read_misses(struct fixture *fixture, unsigned count)
{
    static struct miss misses[ASKED_MAX];
    unsigned ended_count = 0;
    bool is_deaf = asked.is_deaf;
    memset(&asked, 0, sizeof(asked));
    asked.is_deaf = is_deaf;
    for (unsigned i = 0; i < count; i++) {
        struct miss *miss = &misses[i];
        *miss = (struct miss){
            .iov = {.iov_base = &miss->got, .iov_len = 1},
            .op = {.kind = ENGINE_READ, .fd = fixture->fd, .iov = &miss->iov, .iov_count = 1},
            .ended_count = &ended_count,
        };
        miss->op.offset = i;
        miss->op.done = end_miss;
        miss->op.memory = ENGINE_MEMORY_LACKS_IT;
        assert_true(engine_misses_take(&fixture->misses, &miss->op));
    }
    while (ended_count < count)
        coroutine_co_pause();
    assert_int_equal(asked.reads, count);
}

/* Two clients; it lasts until the loop reads the time after 100 ms. */
static void share_loop(struct fixture *fixture)
{
    int first = 0, second = 0;
    loop_client_came(fixture->loop, &first);
    loop_client_came(fixture->loop, &second);
    assert_true(loop_is_shared(fixture->loop));
}

static void read_misses(void *arg)
{
    struct fixture *fixture = arg;
    share_loop(fixture);
    co_read_misses(fixture, 9);
    assert_int_equal(asked.told, 2 * ENGINE_MISSES_A_WORKER);
    for (unsigned i = 0; i < 8; i++) {
        unsigned first_of_worker = i / ENGINE_MISSES_A_WORKER * ENGINE_MISSES_A_WORKER;
        assert_true(asked.told_first[i]);
        assert_true(pthread_equal(asked.reader_of[i], asked.reader_of[first_of_worker]));
    }
    assert_false(asked.told_first[8]); /* alone on its worker: it is only read */
}

static void a_few_share_a_worker_and_the_disk_hears_of_all_first(void **state)
{
    (void)state;
    with_misses(read_misses, true);
}

static void read_without_hints(void *arg)
{
    struct fixture *fixture = arg;
    share_loop(fixture);
    co_read_misses(fixture, 8);
    assert_int_equal(asked.told, 0);
}

static void read_unheard(void *arg)
{
    struct fixture *fixture = arg;
    share_loop(fixture);
    asked.is_deaf = true;
    co_read_misses(fixture, 8);
    assert_int_equal(asked.told, 8); /* he has refused, and is not asked again */
    share_loop(fixture);
    co_read_misses(fixture, 8);
    assert_int_equal(asked.told, 0);
}

static void a_host_that_refuses_hints_is_told_no_more(void **state)
{
    (void)state;
    asked.is_deaf = false;
    with_misses(read_unheard, true);
    asked.is_deaf = false;
}

static void read_many(void *arg)
{
    struct fixture *fixture = arg;
    share_loop(fixture);
    co_read_misses(fixture, ASKED_MAX);
    assert_in_range(asked.readers_max, 1, ENGINE_MISSES_WORKERS_MAX);
    assert_int_equal(asked.told, ASKED_MAX);
}

static void others_find_workers_too(void **state)
{
    (void)state;
    with_misses(read_many, true);
}

static void a_host_that_takes_no_hints_reads_all_the_same(void **state)
{
    (void)state;
    with_misses(read_without_hints, false);
}

static void offer_others(void *arg)
{
    struct fixture *fixture = arg;
    struct engine_op op = {.kind = ENGINE_READ, .fd = fixture->fd};
    op.memory = ENGINE_MEMORY_LACKS_IT;
    assert_false(engine_misses_take(&fixture->misses, &op)); /* nobody else is here */
    share_loop(fixture);
    op.memory = ENGINE_MEMORY_UNKNOWN;
    assert_false(engine_misses_take(&fixture->misses, &op));
}

static void what_is_there_and_who_is_alone_stay_with_the_engine(void **state)
{
    (void)state;
    with_misses(offer_others, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_few_share_a_worker_and_the_disk_hears_of_all_first),
        cmocka_unit_test(what_is_there_and_who_is_alone_stay_with_the_engine),
        cmocka_unit_test(a_host_that_takes_no_hints_reads_all_the_same),
        cmocka_unit_test(a_host_that_refuses_hints_is_told_no_more),
        cmocka_unit_test(others_find_workers_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
