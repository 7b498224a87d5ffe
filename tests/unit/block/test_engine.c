/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The AIO engines: one suite, run on each of them. Files are real, in a temporary folder; what a
 * real file never does (short transfers, interruptions) is done by a table of the test's own.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/coroutine.h"
#include "block/engine.h"
#include "block/env.h"
#include "block/host_files.h"
#include "block/loop.h"
#include "block/workers.h"

struct fixture {
    const struct engine_ops *ops;
    struct loop *loop;
    struct workers *workers;
    struct engine *engine;
    int fd;
    unsigned ended;
    void (*entry)(struct fixture *fixture);
};

/* The loop that a raw operation's done() counts for; cmocka runs one test at a time. */
static struct fixture *running;

static void open_engine(void *arg)
{
    struct fixture *fixture = arg;
    struct engine_context context = {
        .loop = fixture->loop,
        .workers = fixture->workers,
        .files = &host_files_linux,
    };
    struct error err;
    if (fixture->ops->open(&context, &fixture->engine, &err) < 0) {
        print_message("%s\n", err.message);
        fixture->engine = NULL;
    }
}

static int make_file(void)
{
    char path[] = "/tmp/platter-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

/* Runs entry as a coroutine on a loop with this engine open. */
static void with_engine(void **state, void (*body)(void *arg))
{
    struct fixture fixture = {.ops = *state, .fd = make_file()};
    running = &fixture;
    assert_int_equal(loop_new(&fixture.loop, 0, &poller_ev, &clock_monotonic, NULL), 0);
    assert_int_equal(workers_new(&fixture.workers, 4, NULL), 0);
    assert_int_equal(loop_run_co(fixture.loop, open_engine, &fixture), 0);
    bool opened = fixture.engine != NULL;
    if (opened) {
        assert_int_equal(loop_run_co(fixture.loop, body, &fixture), 0);
        fixture.ops->close(fixture.engine);
    }
    workers_free(fixture.workers);
    loop_free(fixture.loop);
    close(fixture.fd);
    if (!opened)
        skip();
}

static int64_t run_op(struct fixture *fixture, enum engine_op_kind kind, const struct iovec *iov,
                      unsigned iov_count, uint64_t offset)
{
    struct engine_op op = {
        .kind = kind, .fd = fixture->fd, .iov = iov, .iov_count = iov_count, .offset = offset};
    return engine_co_run(fixture->engine, &op);
}

static void write_then_read(void *arg)
{
    struct fixture *fixture = arg;
    char out[10000], in[10000];
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (char)(i * 7);
    struct iovec iov = {out, sizeof(out)};
    assert_int_equal(run_op(fixture, ENGINE_WRITE, &iov, 1, 12345), sizeof(out));
    memset(in, 0, sizeof(in));
    iov.iov_base = in;
    assert_int_equal(run_op(fixture, ENGINE_READ, &iov, 1, 12345), sizeof(in));
    assert_memory_equal(in, out, sizeof(in));
}

static void what_was_written_is_read(void **state)
{
    with_engine(state, write_then_read);
}

static void transfer_vectors(void *arg)
{
    struct fixture *fixture = arg;
    static const unsigned counts[] = {1, 2, 3, 16, 64, 1023, 1024};
    static char out[1024 * 5], in[1024 * 5];
    struct iovec iov[IOV_MAX];
    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
        unsigned count = counts[c];
        for (size_t i = 0; i < sizeof(out); i++)
            out[i] = (char)(i * 31 + c);
        for (unsigned i = 0; i < count; i++)
            iov[i] = (struct iovec){out + 5 * i, 5};
        assert_int_equal(run_op(fixture, ENGINE_WRITE, iov, count, 3), 5 * count);
        memset(in, 0, sizeof(in));
        for (unsigned i = 0; i < count; i++)
            iov[i].iov_base = in + 5 * i;
        assert_int_equal(run_op(fixture, ENGINE_READ, iov, count, 3), 5 * count);
        assert_memory_equal(in, out, 5 * (size_t)count);
    }
}

static void vectors_of_one_to_the_most_iovecs_are_transferred(void **state)
{
    with_engine(state, transfer_vectors);
}

static void read_over_the_end(void *arg)
{
    struct fixture *fixture = arg;
    char bytes[1000] = {0};
    struct iovec iov = {bytes, 513};
    assert_int_equal(run_op(fixture, ENGINE_WRITE, &iov, 1, 0), 513);
    iov.iov_len = sizeof(bytes);
    assert_int_equal(run_op(fixture, ENGINE_READ, &iov, 1, 0), 513);
    assert_int_equal(run_op(fixture, ENGINE_READ, &iov, 1, 512), 1);
    assert_int_equal(run_op(fixture, ENGINE_READ, &iov, 1, 513), 0);
    assert_int_equal(run_op(fixture, ENGINE_READ, &iov, 1, 1 << 30), 0);
}

static void a_read_is_short_at_the_end_of_the_file(void **state)
{
    with_engine(state, read_over_the_end);
}

static void provoke_errors(void *arg)
{
    struct fixture *fixture = arg;
    char byte = 0;
    struct iovec iov = {&byte, 1};
    int good = fixture->fd;
    fixture->fd = 9999;
    assert_int_equal(run_op(fixture, ENGINE_READ, &iov, 1, 0), -EBADF);
    assert_int_equal(run_op(fixture, ENGINE_WRITE, &iov, 1, 0), -EBADF);
    assert_int_equal(run_op(fixture, ENGINE_SYNC, NULL, 0, 0), -EBADF);
    fixture->fd = open("/tmp", O_RDONLY | O_DIRECTORY);
    assert_int_equal(run_op(fixture, ENGINE_READ, &iov, 1, 0), -EISDIR);
    close(fixture->fd);
    fixture->fd = open("/dev/null", O_RDONLY);
    assert_int_equal(run_op(fixture, ENGINE_WRITE, &iov, 1, 0), -EBADF); /* not open for writing */
    close(fixture->fd);
    fixture->fd = good;
    struct engine_op op = {.kind = ENGINE_FALLOCATE, .fd = good, .mode = 0x7ff0, .length = 1};
    assert_int_equal(engine_co_run(fixture->engine, &op), -EOPNOTSUPP);
}

static void errors_come_back_as_negative_errno(void **state)
{
    with_engine(state, provoke_errors);
}

static void allocate_and_sync(void *arg)
{
    struct fixture *fixture = arg;
    struct engine_op op = {
        .kind = ENGINE_FALLOCATE, .fd = fixture->fd, .mode = 0, .offset = 1000, .length = 70000};
    struct stat stat;
    assert_int_equal(engine_co_run(fixture->engine, &op), 0);
    assert_int_equal(fstat(fixture->fd, &stat), 0);
    assert_int_equal(stat.st_size, 71000);
    assert_true(stat.st_blocks * 512 >= 70000);
    op = (struct engine_op){.kind = ENGINE_SYNC, .fd = fixture->fd};
    assert_int_equal(engine_co_run(fixture->engine, &op), 0);
}

static void fallocate_and_sync_do_what_the_host_does(void **state)
{
    with_engine(state, allocate_and_sync);
}

/* --- many at once -------------------------------------------------------------------------------
 */

#define MANY 3000 /* more than the ring's submissions, and than its completions */

struct many {
    struct engine_op op;
    struct iovec iov;
    uint32_t value;
    bool ended;
};

static struct coroutine *waiter;

static void count_end(struct engine_op *op)
{
    struct many *one = container_of(op, struct many, op);
    assert_false(one->ended);
    one->ended = true;
    if (++running->ended == MANY)
        coroutine_wake(waiter);
}

static void queue_many(struct fixture *fixture, struct many *many, enum engine_op_kind kind)
{
    fixture->ended = 0;
    for (unsigned i = 0; i < MANY; i++) {
        many[i].ended = false;
        many[i].iov = (struct iovec){&many[i].value, sizeof(many[i].value)};
        many[i].op = (struct engine_op){
            .kind = kind,
            .fd = fixture->fd,
            .iov = &many[i].iov,
            .iov_count = 1,
            .offset = (uint64_t)(MANY - i) * 4096,
            .done = count_end,
        };
        engine_queue(fixture->engine, &many[i].op);
    }
    assert_int_equal(fixture->ended, 0); /* nobody is called back while queueing */
    waiter = coroutine_self();
    coroutine_yield();
    for (unsigned i = 0; i < MANY; i++) {
        assert_true(many[i].ended);
        assert_int_equal(many[i].op.result, sizeof(many[i].value));
    }
}

static void queue_thousands(void *arg)
{
    struct fixture *fixture = arg;
    struct many *many = calloc(MANY, sizeof(*many));
    for (unsigned i = 0; i < MANY; i++)
        many[i].value = i * 2654435761u;
    queue_many(fixture, many, ENGINE_WRITE);
    for (unsigned i = 0; i < MANY; i++)
        many[i].value = 0;
    queue_many(fixture, many, ENGINE_READ);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(many[i].value, i * 2654435761u);
    free(many);
}

static void thousands_queued_in_one_turn_all_come_back(void **state)
{
    with_engine(state, queue_thousands);
}

/* An operation that is queued by another one's done(). */
static struct many chain[100];
static unsigned chain_next;

static void queue_next_of_chain(struct engine_op *op)
{
    assert_int_equal(op->result, sizeof(chain[0].value));
    if (chain_next == 100) {
        coroutine_wake(waiter);
        return;
    }
    struct many *one = &chain[chain_next++];
    one->iov = (struct iovec){&one->value, sizeof(one->value)};
    one->op = (struct engine_op){
        .kind = ENGINE_WRITE,
        .fd = running->fd,
        .iov = &one->iov,
        .iov_count = 1,
        .done = queue_next_of_chain,
    };
    engine_queue(running->engine, &one->op);
}

static void run_chain(void *arg)
{
    (void)arg;
    struct engine_op first = {.result = sizeof(chain[0].value)};
    chain_next = 0;
    waiter = coroutine_self();
    queue_next_of_chain(&first);
    coroutine_yield();
    assert_int_equal(chain_next, 100);
}

static void done_may_queue_the_next_operation(void **state)
{
    with_engine(state, run_chain);
}

/* --- the choice of an engine --------------------------------------------------------------------
 */

static void engines_are_found_by_the_names_of_the_option(void **state)
{
    (void)state;
    assert_ptr_equal(engine_find("io_uring"), &engine_uring);
    assert_ptr_equal(engine_find("threads"), &engine_threads);
    assert_ptr_equal(engine_find("native"), &engine_native);
    assert_ptr_equal(engine_find("sync"), &engine_sync);
    assert_null(engine_find("uring"));
    assert_null(engine_find(""));
}

static int refusing_open(const struct engine_context *context, struct engine **ret_engine,
                         struct error *err)
{
    (void)context;
    (void)ret_engine;
    running->ended++;
    return error_set(err, -EPERM, "AIO engine 'refusing': forbidden by the test");
}

static const struct engine_ops engine_refusing = {.name = "refusing", .open = refusing_open};

static void use_env(void *arg)
{
    struct block_env *env = arg;
    struct engine *threads = block_env_engine(env, &engine_threads);
    assert_ptr_equal(threads->ops, &engine_threads);
    assert_ptr_equal(block_env_engine(env, &engine_refusing), threads);
    assert_ptr_equal(block_env_engine(env, &engine_refusing), threads);
    assert_int_equal(running->ended, 1); /* asked once a loop */
    struct engine *sync = block_env_engine(env, &engine_sync);
    assert_ptr_equal(sync->ops, &engine_sync);
    assert_ptr_equal(block_env_engine(env, &engine_sync), sync);
}

static void a_refused_engine_is_replaced_by_the_threads_and_asked_once(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    struct block_env env;
    running = &fixture;
    assert_int_equal(loop_new(&fixture.loop, 0, &poller_ev, &clock_monotonic, NULL), 0);
    assert_int_equal(workers_new(&fixture.workers, 2, NULL), 0);
    assert_int_equal(
        block_env_init(&env, &fixture.loop, 1, fixture.workers, &host_files_linux, NULL, NULL), 0);
    assert_int_equal(loop_run_co(fixture.loop, use_env, &env), 0);
    block_env_fini(&env);
    workers_free(fixture.workers);
    loop_free(fixture.loop);
}

#define ON_EACH_ENGINE(test)                                            \
    {"io_uring: " #test, test, NULL, NULL, (void *)&engine_uring},      \
        {"threads: " #test, test, NULL, NULL, (void *)&engine_threads}, \
        {"native: " #test, test, NULL, NULL, (void *)&engine_native},   \
    {                                                                   \
        "sync: " #test, test, NULL, NULL, (void *)&engine_sync          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_EACH_ENGINE(what_was_written_is_read),
        ON_EACH_ENGINE(vectors_of_one_to_the_most_iovecs_are_transferred),
        ON_EACH_ENGINE(a_read_is_short_at_the_end_of_the_file),
        ON_EACH_ENGINE(errors_come_back_as_negative_errno),
        ON_EACH_ENGINE(fallocate_and_sync_do_what_the_host_does),
        ON_EACH_ENGINE(thousands_queued_in_one_turn_all_come_back),
        ON_EACH_ENGINE(done_may_queue_the_next_operation),
        cmocka_unit_test(engines_are_found_by_the_names_of_the_option),
        cmocka_unit_test(a_refused_engine_is_replaced_by_the_threads_and_asked_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
