/* SPDX-License-Identifier: BSD-3-Clause */
/* aio.c: callbacks come once, later, in order and outside of coroutines; plugs, cancels and drains
 * do what aio.h says. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>

#include "block/aio.h"
#include "block/backend.h"
#include "block/coroutine.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 65536
#define REQUESTS_MAX 64
#define NOT_ANSWERED 1

/* One request with its memory, and what its callback saw. */
struct request {
    struct block_aio aio;
    struct test_log *log;
    unsigned number;
    int result; /* NOT_ANSWERED at first */
    struct iovec iov;
    uint8_t data[512];
};

/* The order in which callbacks came. */
struct test_log {
    unsigned count;
    unsigned numbers[REQUESTS_MAX];
    bool in_call; /* the test is inside a call: no callback may come */
};

static void request_done(struct block_aio *aio, int result)
{
    struct request *request = container_of(aio, struct request, aio);
    struct test_log *log = request->log;
    assert_false(coroutine_inside());
    assert_non_null(loop_current());
    assert_false(log->in_call);
    assert_int_equal(request->result, NOT_ANSWERED);
    request->result = result;
    assert_true(log->count < REQUESTS_MAX);
    log->numbers[log->count++] = request->number;
}

static void request_init(struct request *request, struct test_log *log, unsigned number)
{
    *request = (struct request){.log = log, .number = number, .result = NOT_ANSWERED};
    request->aio.done = request_done;
}

static void start_read(struct request *request, struct block_backend *backend, uint64_t offset,
                       size_t length)
{
    struct block_vec vec = vec_of_buffer(&request->iov, request->data, length);
    request->log->in_call = true;
    assert_int_equal(block_aio_readv(&request->aio, backend, offset, &vec), 0);
    request->log->in_call = false;
}

static void start_write(struct request *request, struct block_backend *backend, uint64_t offset,
                        size_t length, unsigned flags)
{
    struct block_vec vec = vec_of_buffer(&request->iov, request->data, length);
    request->log->in_call = true;
    assert_int_equal(block_aio_writev(&request->aio, backend, offset, &vec, flags), 0);
    request->log->in_call = false;
}

static void co_settle(void)
{
    for (unsigned i = 0; i < 20; i++)
        coroutine_co_pause();
}

static int co_result(struct request *request)
{
    for (unsigned i = 0; request->result == NOT_ANSWERED; i++) {
        assert_true(i < 1000000);
        coroutine_co_pause();
    }
    return request->result;
}

static struct block_backend *co_new_backend(struct fixture *fixture, bool read_only)
{
    struct block_backend *backend;
    fixture_co_open(fixture, "file", true);
    assert_int_equal(block_backend_new(&backend, fixture->node, read_only, NULL), 0);
    return backend;
}

/* --- requests ----------------------------------------------------------------------------------
 */

static void co_each_call_does_what_the_waiting_one_does(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_new_backend(fixture, false);
    struct test_log log = {0};
    struct request request;
    struct block_counters counters;
    (void)arg;
    request_init(&request, &log, 0);
    memset(request.data, 7, sizeof(request.data));
    start_write(&request, backend, 100, 512, BLOCK_FUA);
    assert_int_equal(co_result(&request), 0);
    assert_int_equal(fixture->disk.data[100], 7);
    assert_int_equal(fixture->disk.data[611], 7);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 1);

    request_init(&request, &log, 1);
    start_read(&request, backend, 100, 512);
    assert_int_equal(co_result(&request), 0);
    assert_int_equal(request.data[511], 7);

    request_init(&request, &log, 2);
    assert_int_equal(block_aio_zero(&request.aio, backend, 100, 100, BLOCK_NO_UNMAP), 0);
    assert_int_equal(co_result(&request), 0);
    assert_int_equal(fixture->disk.data[199], 0);
    assert_int_equal(fixture->disk.data[200], 7);

    request_init(&request, &log, 3);
    assert_int_equal(block_aio_discard(&request.aio, backend, 0, 4096, 0), 0);
    assert_int_equal(co_result(&request), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_DISCARD], 1);

    request_init(&request, &log, 4);
    assert_int_equal(block_aio_flush(&request.aio, backend), 0);
    assert_int_equal(co_result(&request), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 2);

    block_backend_counters(backend, &counters);
    assert_int_equal(counters.reads, 1);
    assert_int_equal(counters.writes, 1);
    assert_int_equal(counters.zeroes, 1);
    assert_int_equal(counters.discards, 1);
    assert_int_equal(counters.flushes, 1);
    assert_int_equal(counters.read_bytes, 512);
    assert_int_equal(counters.failed, 0);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_what_is_wrong_with_a_request_is_told_by_the_callback(struct fixture *fixture,
                                                                    void *arg)
{
    struct block_backend *backend = co_new_backend(fixture, false);
    struct test_log log = {0};
    struct request request;
    (void)arg;
    request_init(&request, &log, 0);
    start_read(&request, backend, SIZE - 1, 2);
    assert_int_equal(request.result, NOT_ANSWERED);
    assert_int_equal(co_result(&request), -EINVAL);
    request_init(&request, &log, 0);
    start_write(&request, backend, SIZE, 1, 0);
    assert_int_equal(co_result(&request), -ENOSPC);
    request_init(&request, &log, 0);
    assert_int_equal(block_aio_discard(&request.aio, backend, SIZE, 1, 0), 0);
    assert_int_equal(co_result(&request), -EINVAL);
    fixture->disk.fail_code = -EIO;
    fixture->disk.fail_ops = 1u << MEMORY_READ;
    request_init(&request, &log, 0);
    start_read(&request, backend, 0, 1);
    assert_int_equal(co_result(&request), -EIO);
    assert_int_equal(block_co_backend_free(backend), 0);
    fixture_co_close(fixture);

    backend = co_new_backend(fixture, true);
    request_init(&request, &log, 0);
    assert_int_equal(block_aio_zero(&request.aio, backend, 0, 1, 0), 0);
    assert_int_equal(co_result(&request), -EPERM);
    assert_int_equal(block_co_backend_free(backend), 0);
}

/* --- order --------------------------------------------------------------------------------------
 */

/* A device that sends its answers after the last callback of a batch. */
struct sender {
    struct request first;
    struct loop_task task;
    unsigned sends, answers; /* how many callbacks had come at the last send */
};

static void send_answers(struct loop_task *task)
{
    struct sender *sender = container_of(task, struct sender, task);
    sender->sends++;
    sender->answers = sender->first.log->count;
}

static void first_done(struct block_aio *aio, int result)
{
    struct sender *sender = container_of(aio, struct sender, first.aio);
    request_done(aio, result);
    loop_at_round_end(loop_current(), &sender->task);
}

static void co_what_ends_in_one_round_is_answered_together_in_order(struct fixture *fixture,
                                                                    void *arg)
{
    struct block_backend *backend = co_new_backend(fixture, false);
    struct test_log log = {0};
    struct request others[9];
    struct sender sender = {.task = {.run = send_answers}};
    (void)arg;
    link_init(&sender.task.link);
    request_init(&sender.first, &log, 0);
    sender.first.aio.done = first_done;
    memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
    start_read(&sender.first, backend, 0, 512);
    for (unsigned i = 0; i < 9; i++) {
        request_init(&others[i], &log, i + 1);
        start_read(&others[i], backend, 512 * i, 512);
    }
    memory_disk_co_wait_held(&fixture->disk, 10);
    memory_disk_release(&fixture->disk);
    assert_int_equal(log.count, 0);
    co_settle();
    assert_int_equal(sender.sends, 1);
    assert_int_equal(sender.answers, 10);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(log.numbers[i], i);
    assert_int_equal(block_co_backend_free(backend), 0);
}

struct chain {
    struct block_aio aio;
    struct block_backend *backend;
    unsigned left, depth;
};

static void chain_done(struct block_aio *aio, int result)
{
    struct chain *chain = container_of(aio, struct chain, aio);
    assert_int_equal(result, -EINVAL);
    assert_int_equal(chain->depth++, 0); /* never inside the call of another */
    if (chain->left-- > 0)
        assert_int_equal(block_aio_discard(aio, chain->backend, SIZE, 1, 0), 0);
    chain->depth--;
}

static void co_a_callback_may_use_its_struct_again(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_new_backend(fixture, false);
    struct chain chain = {.aio = {.done = chain_done}, .backend = backend, .left = 1000};
    struct block_counters counters;
    (void)arg;
    assert_int_equal(block_aio_discard(&chain.aio, backend, SIZE, 1, 0), 0);
    while (chain.left != UINT_MAX)
        coroutine_co_pause();
    block_backend_counters(backend, &counters);
    assert_int_equal(counters.failed, 1001);
    assert_int_equal(block_co_backend_free(backend), 0);
}

/* --- plug ---------------------------------------------------------------------------------------
 */

static void co_a_plug_keeps_requests_until_the_last_unplug(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_new_backend(fixture, false);
    struct test_log log = {0};
    struct request requests[8];
    uint8_t byte;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, &byte, 1);
    (void)arg;
    block_plug(backend);
    block_plug(backend);
    for (unsigned i = 0; i < 8; i++) {
        request_init(&requests[i], &log, i);
        start_read(&requests[i], backend, 1000 * i, 100);
    }
    co_settle();
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 0);
    block_unplug(backend);
    co_settle();
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 0);
    assert_int_equal(block_co_read(backend, 0, &vec), 0); /* no plug for those who wait */
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 1);

    memory_disk_forget_calls(&fixture->disk);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
    log.in_call = true;
    block_unplug(backend);
    log.in_call = false;
    coroutine_co_pause(); /* one round, and all are down */
    assert_int_equal(fixture->disk.log_count, 8);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(fixture->disk.log[i].offset, 1000 * i);
    memory_disk_release(&fixture->disk);
    assert_int_equal(co_result(&requests[7]), 0);
    assert_int_equal(log.count, 8);

    request_init(&requests[0], &log, 0);
    start_read(&requests[0], backend, 0, 1); /* without a plug again */
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 9);
    assert_int_equal(co_result(&requests[0]), 0);
    assert_int_equal(block_co_backend_free(backend), 0);
}

/* --- cancel -------------------------------------------------------------------------------------
 */

static void co_a_canceled_request_that_is_plugged_does_nothing(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_new_backend(fixture, false);
    struct test_log log = {0};
    struct request requests[3];
    (void)arg;
    block_plug(backend);
    for (unsigned i = 0; i < 3; i++) {
        request_init(&requests[i], &log, i);
        start_write(&requests[i], backend, 1000 * i, 100, 0);
    }
    log.in_call = true;
    block_aio_cancel_async(&requests[1].aio);
    block_aio_cancel_async(&requests[1].aio);
    log.in_call = false;
    assert_int_equal(co_result(&requests[1]), -ECANCELED);
    assert_int_equal(requests[0].result, NOT_ANSWERED);
    block_unplug(backend);
    block_aio_cancel_async(&requests[2].aio); /* let go, but not down yet */
    assert_int_equal(co_result(&requests[0]), 0);
    assert_int_equal(co_result(&requests[2]), -ECANCELED);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 1);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_a_canceled_request_in_flight_has_its_own_result(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_new_backend(fixture, false);
    struct test_log log = {0};
    struct request request, failing;
    (void)arg;
    memory_disk_hold(&fixture->disk, 1u << MEMORY_WRITE | 1u << MEMORY_READ);
    request_init(&request, &log, 0);
    memset(request.data, 9, 10);
    start_write(&request, backend, 50, 10, 0);
    request_init(&failing, &log, 1);
    fixture->disk.fail_code = -EIO;
    fixture->disk.fail_ops = 1u << MEMORY_READ;
    start_read(&failing, backend, 0, 10);
    memory_disk_co_wait_held(&fixture->disk, 2);
    block_aio_cancel_async(&request.aio);
    block_aio_cancel_async(&failing.aio);
    co_settle();
    assert_int_equal(request.result, NOT_ANSWERED);
    memory_disk_release(&fixture->disk);
    assert_int_equal(co_result(&request), 0);
    assert_int_equal(co_result(&failing), -EIO);
    assert_int_equal(fixture->disk.data[59], 9);
    assert_int_equal(block_co_backend_free(backend), 0);
}

/* --- drain --------------------------------------------------------------------------------------
 */

/* A request that asks for another in its callback. */
struct asking {
    struct request first, second;
    struct block_backend *backend;
};

static void asking_done(struct block_aio *aio, int result)
{
    struct asking *asking = container_of(aio, struct asking, first.aio);
    start_read(&asking->second, asking->backend, 0, 1);
    request_done(aio, result);
}

struct drainer {
    struct block_backend *backend;
    struct test_log *log;
    unsigned
        answered_at_end; /* callbacks that had come when the drain was over; UINT_MAX: not yet */
};

static void drainer_entry(void *arg)
{
    struct drainer *drainer = arg;
    block_co_backend_drain(drainer->backend);
    drainer->answered_at_end = drainer->log->count;
}

static void co_a_drain_waits_for_callbacks_and_not_for_what_is_kept(struct fixture *fixture,
                                                                    void *arg)
{
    struct block_backend *backend = co_new_backend(fixture, false);
    struct test_log log = {0};
    struct asking asking = {.backend = backend};
    struct request late, canceled, plugged;
    struct drainer drainer = {.backend = backend, .log = &log, .answered_at_end = UINT_MAX};
    struct group group;
    (void)arg;
    group_init(&group, fixture->loop);
    request_init(&asking.first, &log, 0);
    request_init(&asking.second, &log, 1);
    request_init(&late, &log, 2);
    request_init(&canceled, &log, 3);
    request_init(&plugged, &log, 4);
    asking.first.aio.done = asking_done;
    memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
    start_read(&asking.first, backend, 0, 1);
    memory_disk_co_wait_held(&fixture->disk, 1);
    block_plug(backend);
    start_read(&plugged, backend, 0, 1);
    group_start(&group, drainer_entry, &drainer);
    block_unplug(backend); /* it comes while the drain waits */
    start_read(&late, backend, 0, 1);
    start_read(&canceled, backend, 0, 1);
    block_aio_cancel_async(&canceled.aio);
    co_settle();
    assert_int_equal(drainer.answered_at_end, UINT_MAX);

    memory_disk_release(&fixture->disk);
    group_co_wait(&group);
    assert_int_equal(drainer.answered_at_end, 1);
    assert_int_equal(asking.first.result, 0);
    co_settle();
    assert_int_equal(log.count, 1);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 1);

    block_backend_resume(backend);
    assert_int_equal(co_result(&late), 0);
    assert_int_equal(co_result(&asking.second), 0);
    assert_int_equal(co_result(&canceled), -ECANCELED);
    assert_int_equal(co_result(&plugged), 0);
    assert_int_equal(log.count, 5);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 4);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_a_backend_may_be_freed_with_requests_in_flight(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_new_backend(fixture, false);
    struct test_log log = {0};
    struct request requests[5];
    (void)arg;
    fixture->disk.pauses_max = 5;
    for (unsigned i = 0; i < 5; i++) {
        request_init(&requests[i], &log, i);
        start_read(&requests[i], backend, 0, 100);
    }
    assert_int_equal(block_co_backend_free(backend), 0);
    assert_int_equal(log.count, 5);
}

/* --- memory -------------------------------------------------------------------------------------
 */

static void co_without_memory_the_call_says_so_and_nothing_is_begun(struct fixture *fixture,
                                                                    void *arg)
{
    static struct request requests[REQUESTS_MAX];
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = RLIM_INFINITY};
    struct rlimit space;
    struct block_backend *backend = co_new_backend(fixture, false);
    struct test_log log = {0};
    unsigned begun = 0;
    int rc = 0;
    (void)arg;
    memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
    assert_int_equal(getrlimit(RLIMIT_AS, &space), 0);
    assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
    for (unsigned i = 0; i < REQUESTS_MAX && rc == 0; i++) {
        request_init(&requests[i], &log, i);
        struct block_vec vec = vec_of_buffer(&requests[i].iov, requests[i].data, 1);
        rc = block_aio_readv(&requests[i].aio, backend, 0, &vec);
        begun += rc == 0;
    }
    assert_int_equal(setrlimit(RLIMIT_AS, &space), 0);
    assert_int_equal(rc, -ENOMEM);
    memory_disk_release(&fixture->disk);
    block_co_backend_drain(backend);
    assert_int_equal(log.count, begun);
    assert_int_equal(requests[begun].result, NOT_ANSWERED);
    block_backend_resume(backend);
    assert_int_equal(block_co_backend_free(backend), 0);
}

#define TESTS(X)                                            \
    X(each_call_does_what_the_waiting_one_does)             \
    X(what_is_wrong_with_a_request_is_told_by_the_callback) \
    X(what_ends_in_one_round_is_answered_together_in_order) \
    X(a_callback_may_use_its_struct_again)                  \
    X(a_plug_keeps_requests_until_the_last_unplug)          \
    X(a_canceled_request_that_is_plugged_does_nothing)      \
    X(a_canceled_request_in_flight_has_its_own_result)      \
    X(a_drain_waits_for_callbacks_and_not_for_what_is_kept) \
    X(a_backend_may_be_freed_with_requests_in_flight)

#define DEFINE_TEST(name) FIXTURE_TEST(name, SIZE, SIZE)
TESTS(DEFINE_TEST)

static void without_memory_the_call_says_so_and_nothing_is_begun(void **state)
{
    struct fixture fixture;
    (void)state;
    if (unit_tool_shares_memory()) {
        skip_because("a tool's own memory is in the way of a limit");
        return;
    }
    fixture_init(&fixture, memory_drivers, SIZE, SIZE, 1);
    fixture_run(&fixture, co_without_memory_the_call_says_so_and_nothing_is_begun, NULL);
    fixture_fini(&fixture);
}

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {
        TESTS(LIST_TEST) cmocka_unit_test(without_memory_the_call_says_so_and_nothing_is_begun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
