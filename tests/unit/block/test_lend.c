/* SPDX-License-Identifier: BSD-3-Clause */
/* block_lend(), block_read_at_once() and the nodes': what is lent, for how long, and who is kept
 * out meanwhile. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "block/backend.h"
#include "block/coroutine.h"
#include "block/tracked.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 65536
#define FD 7 /* nobody reads from it */

struct borrower {
    struct block_loan loan;
    unsigned calls;
    int fd;
    uint64_t host_offset;
    size_t length;
    void (*during)(struct borrower *borrower); /* NULL: nothing */
    void *arg;
};

static size_t borrow(struct block_loan *loan, int fd, uint64_t host_offset, size_t length)
{
    struct borrower *borrower = container_of(loan, struct borrower, loan);
    borrower->calls++;
    borrower->fd = fd;
    borrower->host_offset = host_offset;
    borrower->length = length;
    if (borrower->during)
        borrower->during(borrower);
    return length / 2;
}

static struct block_backend *co_new_backend(struct fixture *fixture, const char *driver,
                                            bool through_pass)
{
    struct block_backend *backend;
    fixture->disk.lend_fd = FD;
    fixture_co_open(fixture, driver, through_pass);
    assert_int_equal(block_backend_new(&backend, fixture->node, false, NULL), 0);
    return backend;
}

static int lend(struct block_backend *backend, uint64_t offset, uint64_t length)
{
    struct borrower borrower = {.loan.use = borrow};
    int rc = block_lend(backend, offset, length, &borrower.loan);
    assert_int_equal(borrower.calls, rc == 0);
    return rc;
}

static void co_settle(void)
{
    for (unsigned i = 0; i < 20; i++)
        coroutine_co_pause();
}

static void co_a_range_is_lent_through_a_format_and_counted(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_backend *backend = co_new_backend(fixture, "file", true);
    struct borrower borrower = {.loan = {.use = borrow, .begins = true}};
    struct block_counters counters;
    assert_int_equal(block_lend(backend, 100, 8000, &borrower.loan), 0);
    assert_int_equal(borrower.calls, 1);
    assert_int_equal(borrower.fd, FD);
    assert_int_equal(borrower.host_offset, 100);
    assert_int_equal(borrower.length, 8000);
    borrower.loan.begins = false;
    assert_int_equal(block_lend(backend, 4100, 4000, &borrower.loan), 0);
    block_backend_counters(backend, &counters);
    assert_int_equal(counters.reads, 1);
    assert_int_equal(counters.read_bytes, 6000);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_what_is_not_inside_is_not_lent(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_backend *backend = co_new_backend(fixture, "file", false);
    assert_int_equal(lend(backend, SIZE - 10, 10), 0);
    assert_int_equal(lend(backend, SIZE - 10, 11), -EAGAIN);
    assert_int_equal(lend(backend, SIZE, 1), -EAGAIN);
    assert_int_equal(lend(backend, 0, 0), -EAGAIN);
    assert_int_equal(lend(backend, UINT64_MAX, 2), -EAGAIN);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_a_driver_without_the_call_lends_nothing(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_backend *backend = co_new_backend(fixture, "bare", true);
    assert_int_equal(lend(backend, 0, 4096), -ENOTSUP);
    assert_int_equal(block_co_backend_free(backend), 0);
}

/* --- drains -------------------------------------------------------------------------------------
 */

struct drainer {
    struct block_backend *backend;
    struct group group;
    bool is_drained;
};

static void drainer_entry(void *arg)
{
    struct drainer *drainer = arg;
    block_co_backend_drain(drainer->backend);
    drainer->is_drained = true;
}

static void start_drain(struct borrower *borrower)
{
    struct drainer *drainer = borrower->arg;
    group_start(&drainer->group, drainer_entry, drainer);
    assert_false(drainer->is_drained);
    /* The door is closed: nobody else gets in. */
    assert_int_equal(lend(drainer->backend, 0, 4096), -EAGAIN);
}

static void co_a_drain_waits_for_a_loan_and_then_keeps_loans_out(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct drainer drainer = {.backend = co_new_backend(fixture, "file", true)};
    struct borrower borrower = {.loan.use = borrow, .during = start_drain, .arg = &drainer};
    group_init(&drainer.group, fixture->loop);
    assert_int_equal(block_lend(drainer.backend, 0, 4096, &borrower.loan), 0);
    co_settle();
    assert_true(drainer.is_drained);
    assert_int_equal(lend(drainer.backend, 0, 4096), -EAGAIN);
    block_backend_resume(drainer.backend);
    assert_int_equal(lend(drainer.backend, 0, 4096), 0);
    group_co_wait(&drainer.group);
    assert_int_equal(block_co_backend_free(drainer.backend), 0);
}

/* --- serialising requests -----------------------------------------------------------------------
 */

struct serialiser {
    struct block_node *node;
    struct block_backend *backend;
    struct group group;
    struct coroutine *co;
    bool is_in;
};

/* Over [4096, 8192), until it is woken. */
static void serialiser_entry(void *arg)
{
    struct serialiser *serialiser = arg;
    struct tracked_request request;
    serialiser->co = coroutine_self();
    tracked_co_begin(serialiser->node, &request, 4096, 4096, true);
    serialiser->is_in = true;
    coroutine_yield();
    tracked_end(serialiser->node, &request, false);
}

static void start_serialiser(struct borrower *borrower)
{
    struct serialiser *serialiser = borrower->arg;
    group_start(&serialiser->group, serialiser_entry, serialiser);
    assert_false(serialiser->is_in);
}

/* The node is the one that the loan reaches by way of the format. */
static void co_a_serialising_request_and_loans_keep_each_other_out(struct fixture *fixture,
                                                                   void *arg)
{
    (void)arg;
    struct block_backend *backend = co_new_backend(fixture, "file", true);
    struct serialiser serialiser = {.node = fixture->node->file, .backend = backend};
    struct borrower borrower = {.loan.use = borrow, .during = start_serialiser, .arg = &serialiser};
    group_init(&serialiser.group, fixture->loop);
    assert_int_equal(block_lend(backend, 8191, 1, &borrower.loan), 0);
    co_settle();
    assert_true(serialiser.is_in);
    assert_int_equal(lend(backend, 0, 4096), 0);
    assert_int_equal(lend(backend, 0, 4097), -EAGAIN);
    assert_int_equal(lend(backend, 8191, 1), -EAGAIN);
    assert_int_equal(lend(backend, 8192, 100), 0);
    coroutine_wake(serialiser.co);
    group_co_wait(&serialiser.group);
    assert_int_equal(lend(backend, 0, SIZE), 0);
    assert_int_equal(block_co_backend_free(backend), 0);
}

/* --- copies -------------------------------------------------------------------------------------
 */

#define CANARY 0xee

static int read_at_once(struct block_backend *backend, uint64_t offset, uint32_t length)
{
    uint8_t to[8192 + 1];
    struct memory_disk *disk = backend->node->file->state;
    memset(to, CANARY, sizeof(to));
    int rc = block_read_at_once(backend, offset, to, length);
    if (rc == 0)
        assert_memory_equal(to, disk->data + offset, length);
    assert_int_equal(to[length], CANARY);
    return rc;
}

static struct block_backend *co_new_copying_backend(struct fixture *fixture, const char *driver)
{
    fixture->disk.lends_copies = true;
    struct block_backend *backend = co_new_backend(fixture, driver, true);
    for (unsigned i = 0; i < SIZE; i++)
        fixture->disk.data[i] = (uint8_t)(i * 7 + i / 256);
    return backend;
}

static void co_a_small_read_is_copied_at_once_and_counted(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_backend *backend = co_new_copying_backend(fixture, "file");
    struct block_counters counters;
    struct account_counts counts;
    assert_int_equal(read_at_once(backend, 100, 8000), 0);
    assert_int_equal(read_at_once(backend, SIZE - 10, 10), 0);
    assert_int_equal(read_at_once(backend, SIZE - 10, 11), -EAGAIN);
    block_backend_counters(backend, &counters);
    assert_int_equal(counters.reads, 2);
    assert_int_equal(counters.read_bytes, 8010);
    account_read_counts(&fixture->node->file->account, ACCOUNT_READ, &counts);
    assert_int_equal(counts.operations, 2);
    assert_int_equal(counts.bytes, 8010);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 0);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_what_is_not_lent_whole_is_not_read_at_once(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_backend *backend = co_new_copying_backend(fixture, "file");
    struct block_counters counters;
    fixture->disk.lend_bytes_max = 4096;
    assert_int_equal(read_at_once(backend, 0, 4097), -EAGAIN);
    assert_true(block_may_read_at_once(backend));
    block_backend_counters(backend, &counters);
    assert_int_equal(counters.reads, 0);
    assert_int_equal(counters.read_bytes, 0);
    assert_int_equal(read_at_once(backend, 0, 4096), 0);
    fixture->disk.lends_refused_from = fixture->disk.lend_count;
    assert_int_equal(read_at_once(backend, 0, 4096), -EAGAIN);
    fixture->disk.lends_copies = false; /* what can be lent cannot be copied there */
    assert_int_equal(read_at_once(backend, 0, 4096), -ENOTSUP);
    block_co_backend_drain(backend);
    assert_int_equal(read_at_once(backend, 0, 4096), -EAGAIN);
    block_backend_resume(backend);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_a_driver_without_the_call_reads_nothing_at_once(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_backend *backend = co_new_copying_backend(fixture, "bare");
    assert_true(block_may_read_at_once(backend));
    assert_int_equal(read_at_once(backend, 0, 4096), -ENOTSUP);
    for (unsigned i = 0; i < BLOCK_READS_NOT_AT_ONCE; i++)
        assert_false(block_may_read_at_once(backend));
    assert_true(block_may_read_at_once(backend));
    assert_int_equal(block_co_backend_free(backend), 0);
}

FIXTURE_TEST(a_range_is_lent_through_a_format_and_counted, SIZE, SIZE)
FIXTURE_TEST(what_is_not_inside_is_not_lent, SIZE, SIZE)
FIXTURE_TEST(a_driver_without_the_call_lends_nothing, SIZE, SIZE)
FIXTURE_TEST(a_drain_waits_for_a_loan_and_then_keeps_loans_out, SIZE, SIZE)
FIXTURE_TEST(a_serialising_request_and_loans_keep_each_other_out, SIZE, SIZE)
FIXTURE_TEST(a_small_read_is_copied_at_once_and_counted, SIZE, SIZE)
FIXTURE_TEST(what_is_not_lent_whole_is_not_read_at_once, SIZE, SIZE)
FIXTURE_TEST(a_driver_without_the_call_reads_nothing_at_once, SIZE, SIZE)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_is_lent_through_a_format_and_counted),
        cmocka_unit_test(what_is_not_inside_is_not_lent),
        cmocka_unit_test(a_driver_without_the_call_lends_nothing),
        cmocka_unit_test(a_drain_waits_for_a_loan_and_then_keeps_loans_out),
        cmocka_unit_test(a_serialising_request_and_loans_keep_each_other_out),
        cmocka_unit_test(a_small_read_is_copied_at_once_and_counted),
        cmocka_unit_test(what_is_not_lent_whole_is_not_read_at_once),
        cmocka_unit_test(a_driver_without_the_call_reads_nothing_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
