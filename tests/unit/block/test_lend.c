/* SPDX-License-Identifier: BSD-3-Clause */
/* block_lend(), block_read_at_once(), block_lend_room() and the nodes': what is lent, for how long,
 * and who is kept out meanwhile. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "block/backend.h"
#include "block/coroutine.h"
#include "block/observer.h"
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

/* --- room to write to ---------------------------------------------------------------------------
 */

static struct block_backend *co_new_roomy_backend(struct fixture *fixture, const char *driver)
{
    fixture->disk.lends_room = true;
    return co_new_backend(fixture, driver, true);
}

static int lend_room(struct block_backend *backend, uint64_t offset, uint64_t length)
{
    struct borrower borrower = {.loan = {.use = borrow, .begins = true}};
    int rc = block_lend_room(backend, offset, length, &borrower.loan);
    assert_int_equal(borrower.calls, rc == 0);
    if (rc == 0) {
        assert_int_equal(borrower.host_offset, offset);
        assert_int_equal(borrower.length, length);
    }
    return rc;
}

static void co_what_is_written_to_lent_room_is_counted_and_flushed(struct fixture *fixture,
                                                                   void *arg)
{
    (void)arg;
    struct block_backend *backend = co_new_roomy_backend(fixture, "file");
    struct block_counters counters;
    struct borrower nothing = {.loan.use = borrow};
    assert_int_equal(block_co_flush(backend), 0);
    unsigned flushes = fixture->disk.counts[MEMORY_FLUSH];
    assert_int_equal(block_lend_room(backend, 0, 1, &nothing.loan), 0); /* takes 1 / 2 */
    assert_int_equal(block_co_flush(backend), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], flushes);
    assert_int_equal(lend_room(backend, 100, 8000), 0);
    block_backend_counters(backend, &counters);
    assert_int_equal(counters.writes, 1);
    assert_int_equal(counters.written_bytes, 4000);
    assert_int_equal(counters.reads, 0);
    assert_int_equal(block_co_flush(backend), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], flushes + 1);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static int co_seen(struct block_observer *observer, struct block_node *node,
                   enum block_change change, uint64_t offset, uint64_t length)
{
    (void)observer, (void)node, (void)change, (void)offset, (void)length;
    return 0;
}

static void co_no_room_where_somebody_must_see_the_write(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_backend *backend = co_new_roomy_backend(fixture, "file");
    struct block_node *disk = fixture->node->file;
    struct block_observer observer = {.co_before = co_seen};
    assert_int_equal(lend_room(backend, SIZE - 10, 10), 0);
    assert_int_equal(lend_room(backend, SIZE - 10, 11), -EAGAIN);
    observer_co_add(disk, &observer);
    assert_int_equal(lend_room(backend, 0, 4096), -ENOTSUP);
    observer_co_remove(disk, &observer);
    assert_int_equal(lend_room(backend, 0, 4096), 0);
    disk->detect_zeroes = BLOCK_DETECT_ON;
    assert_int_equal(lend_room(backend, 0, 4096), -ENOTSUP);
    disk->detect_zeroes = BLOCK_DETECT_OFF;
    disk->event_filter = disk; /* any at all */
    assert_int_equal(lend_room(backend, 0, 4096), -ENOTSUP);
    disk->event_filter = NULL;
    disk->limits.request_alignment = 512;
    assert_int_equal(lend_room(backend, 0, 4096), 0);
    assert_int_equal(lend_room(backend, 256, 4096), -EAGAIN);
    assert_int_equal(lend_room(backend, 0, 4000), -EAGAIN);
    disk->limits.request_alignment = 1;
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_no_room_without_the_right_to_write(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_backend *backend;
    fixture->disk.lends_room = true;
    fixture->disk.lend_fd = FD;
    fixture_co_open(fixture, "file", true);
    assert_int_equal(block_backend_new(&backend, fixture->node, true, NULL), 0);
    assert_int_equal(lend_room(backend, 0, 4096), -ENOTSUP);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_a_driver_without_the_call_has_no_room(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_backend *backend = co_new_roomy_backend(fixture, "bare");
    assert_int_equal(lend_room(backend, 0, 4096), -ENOTSUP);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_room_waits_for_no_drain_and_no_serialising_request(struct fixture *fixture,
                                                                  void *arg)
{
    (void)arg;
    struct block_backend *backend = co_new_roomy_backend(fixture, "file");
    struct serialiser serialiser = {.node = fixture->node->file, .backend = backend};
    struct borrower borrower = {.loan.use = borrow, .during = start_serialiser, .arg = &serialiser};
    group_init(&serialiser.group, fixture->loop);
    assert_int_equal(block_lend_room(backend, 8191, 1, &borrower.loan), 0);
    co_settle();
    assert_true(serialiser.is_in);
    assert_int_equal(lend_room(backend, 0, 4096), 0);
    assert_int_equal(lend_room(backend, 0, 4097), -EAGAIN);
    coroutine_wake(serialiser.co);
    group_co_wait(&serialiser.group);
    assert_int_equal(lend_room(backend, 0, SIZE), 0);
    block_co_backend_drain(backend);
    assert_int_equal(lend_room(backend, 0, 4096), -EAGAIN);
    block_backend_resume(backend);
    assert_int_equal(lend_room(backend, 0, 4096), 0);
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
FIXTURE_TEST(what_is_written_to_lent_room_is_counted_and_flushed, SIZE, SIZE)
FIXTURE_TEST(no_room_where_somebody_must_see_the_write, SIZE, SIZE)
FIXTURE_TEST(no_room_without_the_right_to_write, SIZE, SIZE)
FIXTURE_TEST(a_driver_without_the_call_has_no_room, SIZE, SIZE)
FIXTURE_TEST(room_waits_for_no_drain_and_no_serialising_request, SIZE, SIZE)

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
        cmocka_unit_test(what_is_written_to_lent_room_is_counted_and_flushed),
        cmocka_unit_test(no_room_where_somebody_must_see_the_write),
        cmocka_unit_test(no_room_without_the_right_to_write),
        cmocka_unit_test(a_driver_without_the_call_has_no_room),
        cmocka_unit_test(room_waits_for_no_drain_and_no_serialising_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
