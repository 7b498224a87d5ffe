/* SPDX-License-Identifier: BSD-3-Clause */
/* posix_transfer.c: which writes are made in the loop, by a clock that the test turns; and what it
 * tells the engine of reads. */
#include "tests/unit/block/posix_fixture.h"

#include "block/loop_room.h"

#define LARGE (256 * 1024)

static _Atomic uint64_t fake_now_ns, fake_step_ns; /* the worker asks, too */

static uint64_t fake_clock_now(struct clock *clock)
{
    (void)clock;
    return atomic_fetch_add(&fake_now_ns, fake_step_ns) + fake_step_ns;
}

static struct clock fake_clock = {fake_clock_now};

static bool write_is_inline(struct posix_fixture *fixture, struct block_node *node, size_t length)
{
    static uint8_t data[512 * 1024];
    assert_int_equal(write_at(node, 0, data, length), 0);
    return pthread_equal(fixture->odd.write_thread, pthread_self());
}

static void inline_body(void *arg)
{
    struct posix_fixture *fixture = arg;
    struct block_node *node = open_image(fixture, NULL);
    fake_step_ns = 1000;
    assert_true(write_is_inline(fixture, node, 4096));
    assert_true(write_is_inline(fixture, node, 256 * 1024));
    assert_true(write_is_inline(fixture, node, 1));
    assert_true(loop_has_room(fixture->loop));
    fake_step_ns = NS_PER_MS; /* slow, though not too slow: others have their turn after it */
    assert_true(write_is_inline(fixture, node, 1));
    assert_false(loop_has_room(fixture->loop));

    fake_step_ns = 2 * NS_PER_MS; /* one slow write, made in the loop */
    assert_true(write_is_inline(fixture, node, 4096));
    fake_step_ns = 1000; /* quick again: 64 are made by a worker, then the loop takes over */
    for (int i = 0; i < 64; i++)
        assert_false(write_is_inline(fixture, node, 4096));
    for (int i = 0; i < 64; i++) /* and after as many it is as if nothing had been */
        assert_true(write_is_inline(fixture, node, 4096));

    fake_step_ns = 2 * NS_PER_MS;
    assert_true(write_is_inline(fixture, node, 4096));
    fake_step_ns = 1000;
    for (int i = 0; i < 63; i++)
        assert_false(write_is_inline(fixture, node, 4096));
    fake_step_ns = 2 * NS_PER_MS; /* slow there, too: the count begins anew */
    assert_false(write_is_inline(fixture, node, 4096));
    fake_step_ns = 1000;
    for (int i = 0; i < 128; i++) /* with what a second stop of the loop would cost */
        assert_false(write_is_inline(fixture, node, 4096));

    unsigned due = 64 + 64; /* slow whenever the loop takes over: it does so less and less */
    for (int stop = 0; stop < 12; stop++) {
        fake_step_ns = 2 * NS_PER_MS;
        assert_true(write_is_inline(fixture, node, 1));
        fake_step_ns = 1000;
        for (unsigned i = 0; i < due; i++)
            assert_false(write_is_inline(fixture, node, 1));
        due = due < 4096 ? 2 * due : 8192;
    }
    block_co_node_unref(node);
}

/* --- what only looks slow -----------------------------------------------------------------------
 */

static _Atomic uint64_t sleep_count, sleeps_a_write; /* of all threads: one write at a time */

static uint64_t counted_sleeps(struct host_files *files)
{
    (void)files;
    return atomic_fetch_add(&sleep_count, sleeps_a_write); /* asked before and after */
}

static void sleepless_body(void *arg)
{
    struct posix_fixture *fixture = arg;
    fixture->odd.files.sleeps = counted_sleeps;
    struct block_node *node = open_image(fixture, NULL);
    fake_step_ns = 2 * NS_PER_MS;
    sleeps_a_write = 0; /* another one had the processor */
    for (int i = 0; i < 3; i++)
        assert_true(write_is_inline(fixture, node, LARGE));
    sleeps_a_write = 1;
    assert_true(write_is_inline(fixture, node, LARGE));
    fake_step_ns = 1000;
    for (int i = 0; i < 64; i++)
        assert_false(write_is_inline(fixture, node, LARGE));
    for (int i = 0; i < 64; i++)
        assert_true(write_is_inline(fixture, node, LARGE)); /* it sleeps, and not for long */

    sleeps_a_write = 0; /* of small ones nobody asks */
    fake_step_ns = 2 * NS_PER_MS;
    assert_true(write_is_inline(fixture, node, 4096));
    fake_step_ns = 1000;
    assert_false(write_is_inline(fixture, node, LARGE));
    block_co_node_unref(node);
}

struct round_count {
    unsigned *count;
    bool *is_over;
};

static void count_rounds(void *arg)
{
    struct round_count *rounds = arg;
    for (coroutine_co_pause(); !*rounds->is_over; coroutine_co_pause())
        (*rounds->count)++;
}

/* Others have their turn between the pieces, which end where pages do. */
static void pieces_body(void *arg)
{
    struct posix_fixture *fixture = arg;
    static uint8_t data[3 * LARGE], back[3 * LARGE];
    struct block_node *node = open_image(fixture, NULL);
    unsigned rounds = 0;
    bool is_over = false;
    struct round_count count = {&rounds, &is_over};
    fake_step_ns = 1;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 + i / 4096);
    assert_int_equal(node_co_resize(node, 4 * LARGE, NULL), 0);
    unsigned writes = fixture->odd.writes;
    assert_int_equal(coroutine_start(fixture->loop, count_rounds, &count), 0);
    assert_int_equal(write_at(node, 4096, data, sizeof(data)), 0);
    assert_int_equal(rounds, 2);
    is_over = true;
    coroutine_co_pause();
    coroutine_co_pause();
    assert_int_equal(fixture->odd.writes - writes, 3);
    assert_true(pthread_equal(fixture->odd.write_thread, pthread_self()));
    assert_int_equal(write_at(node, 100, data, sizeof(data)), 0);
    assert_int_equal(fixture->odd.writes - writes, 3 + 4);
    assert_int_equal(read_at(node, 100, back, sizeof(back)), 0);
    assert_memory_equal(data, back, sizeof(data));

    fixture->odd.files.sleeps = counted_sleeps;
    sleeps_a_write = 1;
    fake_step_ns = 2 * NS_PER_MS; /* the first piece was slow: the worker makes the rest at once */
    writes = fixture->odd.writes;
    assert_int_equal(write_at(node, 0, data, sizeof(data)), 0);
    assert_int_equal(fixture->odd.writes - writes, 2);
    assert_false(pthread_equal(fixture->odd.write_thread, pthread_self()));
    block_co_node_unref(node);
}

/* --- what the host says of reads ----------------------------------------------------------------
 */

static char no_pages;

static int fake_pages_open(struct host_files *files, int fd, uint64_t length,
                           struct host_pages *ret_pages)
{
    (void)files, (void)fd;
    *ret_pages = (struct host_pages){.base = &no_pages, .length = length};
    return 0;
}

static void fake_pages_close(struct host_files *files, struct host_pages *pages)
{
    (void)files, (void)pages;
}

static bool nothing_is_in_memory(struct host_files *files, const struct host_pages *pages,
                                 uint64_t offset, size_t length)
{
    (void)files, (void)pages, (void)offset, (void)length;
    return false;
}

struct small_read {
    struct block_node *node;
    uint64_t offset;
    unsigned *ended_count;
};

static void small_read_entry(void *arg)
{
    struct small_read *read = arg;
    uint8_t data[512];
    assert_int_equal(read_at(read->node, read->offset, data, sizeof(data)), 0);
    assert_int_equal(data[0], pattern_at(read->offset));
    (*read->ended_count)++;
}

/* Eight in one round, on a shared loop; returns of how many the host was told. */
static unsigned co_told_of(struct posix_fixture *fixture, struct block_node *node)
{
    struct small_read reads[8];
    unsigned ended_count = 0, told_before = fixture->odd.will_needs;
    int first = 0, second = 0;
    loop_client_came(fixture->loop, &first);
    loop_client_came(fixture->loop, &second);
    for (unsigned i = 0; i < 8; i++) {
        reads[i] = (struct small_read){node, i * 4096, &ended_count};
        assert_int_equal(coroutine_start(fixture->loop, small_read_entry, &reads[i]), 0);
    }
    while (ended_count < 8)
        coroutine_co_pause();
    return fixture->odd.will_needs - told_before;
}

static void misses_body(void *arg)
{
    struct posix_fixture *fixture = arg;
    fixture->odd.files.pages_open = fake_pages_open;
    fixture->odd.files.pages_close = fake_pages_close;
    fixture->odd.files.pages_in_memory = nothing_is_in_memory;
    fake_step_ns = 1;
    struct block_node *node = open_image(fixture, NULL);
    assert_int_equal(co_told_of(fixture, node), 8);
    block_co_node_unref(node);
    fixture->odd.files.pages_open = NULL; /* the host does not tell: nothing is known to miss */
    node = open_image(fixture, NULL);
    assert_int_equal(co_told_of(fixture, node), 0);
    block_co_node_unref(node);
}

struct queued_write {
    struct block_node *node;
    unsigned *ended_count;
};

static void queued_write_entry(void *arg)
{
    static uint8_t data[4096];
    struct queued_write *write = arg;
    assert_int_equal(write_at(write->node, 0, data, sizeof(data)), 0);
    (*write->ended_count)++;
}

/* At once in the worker's line, and each of them made in `each_ns`. */
static void co_write_queued(struct posix_fixture *fixture, struct block_node *node, unsigned count,
                            uint64_t each_ns)
{
    unsigned ended_count = 0, writes_before = fixture->odd.writes;
    struct queued_write write = {.node = node, .ended_count = &ended_count};
    fixture->odd.write_gate = true;
    fake_step_ns = 0;
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(coroutine_start(fixture->loop, queued_write_entry, &write), 0);
    for (unsigned i = 0; i < count; i++) {
        while (fixture->odd.writes == writes_before + i)
            coroutine_co_pause(); /* until it is at the gate */
        fake_now_ns += each_ns;
        sem_post(&fixture->odd.gate);
    }
    while (ended_count < count)
        coroutine_co_pause();
    fixture->odd.write_gate = false;
    fake_step_ns = 1000;
}

static void queue_body(void *arg)
{
    enum { QUEUED = 4 };
    struct posix_fixture *fixture = arg;
    struct block_node *node = open_image(fixture, NULL);
    fake_step_ns = 2 * NS_PER_MS;
    assert_true(write_is_inline(fixture, node, 4096));
    fake_step_ns = 1000;
    for (int i = 0; i < 64 - QUEUED; i++)
        assert_false(write_is_inline(fixture, node, 4096));
    co_write_queued(fixture, node, QUEUED, NS_PER_MS * 9 / 10);
    assert_true(write_is_inline(fixture, node, 4096));

    fake_step_ns = 2 * NS_PER_MS;
    assert_true(write_is_inline(fixture, node, 4096));
    co_write_queued(fixture, node, 64 + 63 - 1, NS_PER_MS / 10);
    co_write_queued(fixture, node, 1, NS_PER_MS * 11 / 10); /* that one was slow by itself */
    for (int i = 0; i < 128; i++)
        assert_false(write_is_inline(fixture, node, 4096));
    block_co_node_unref(node);
}

/* Who has large writes does not keep the loop from another client. */
static void shared_body(void *arg)
{
    struct posix_fixture *fixture = arg;
    struct block_node *node = open_image(fixture, NULL);
    int first = 0, second = 0;
    fake_step_ns = 1;
    loop_client_came(fixture->loop, &first);
    assert_true(write_is_inline(fixture, node, LARGE));
    loop_client_came(fixture->loop, &second);
    assert_false(write_is_inline(fixture, node, LARGE));
    assert_false(write_is_inline(fixture, node, 16 * 1024 + 1));
    assert_true(write_is_inline(fixture, node, 16 * 1024)); /* too small to be worth a thread */
    fake_now_ns += LOOP_SHARED_NS;
    assert_false(write_is_inline(fixture, node, 16 * 1024 + 1)); /* the time is read once a turn */
    while (loop_is_shared(fixture->loop))
        coroutine_co_pause();
    assert_true(write_is_inline(fixture, node, 16 * 1024 + 1));
    block_co_node_unref(node);
}

/* --- the tests ----------------------------------------------------------------------------------
 */

/* With a clock of its own, the threads engine, and the thread of each write noted. */
static void with_fake_clock(void (*body)(void *arg))
{
    struct posix_fixture fixture = {
        .folder = "/tmp/platter-test-XXXXXX", .engine = &engine_threads, .odd = odd_files_new()};
    struct poller_ops poller = poller_ev;
    poller.waited_ns = NULL; /* in true time, which has nothing to do with this clock's */
    assert_non_null(mkdtemp(fixture.folder));
    snprintf(fixture.path, sizeof(fixture.path), "%s/image", fixture.folder);
    make_image(&fixture, 200000);
    assert_int_equal(sem_init(&fixture.odd.gate, 0, 0), 0);
    assert_int_equal(loop_new(&fixture.loop, 0, &poller, &fake_clock, NULL), 0);
    assert_int_equal(workers_new(&fixture.workers, 1, NULL), 0);
    assert_int_equal(block_env_init(&fixture.env, &fixture.loop, 1, fixture.workers,
                                    &fixture.odd.files, only_file, NULL),
                     0);
    assert_int_equal(loop_run_co(fixture.loop, body, &fixture), 0);
    block_env_fini(&fixture.env);
    workers_free(fixture.workers);
    loop_free(fixture.loop);
    sem_destroy(&fixture.odd.gate);
    unlink(fixture.path);
    rmdir(fixture.folder);
}

static void small_writes_run_in_the_loop_while_they_are_quick(void **state)
{
    (void)state;
    with_fake_clock(inline_body);
}

static void larger_ones_are_made_in_pieces(void **state)
{
    (void)state;
    with_fake_clock(pieces_body);
}

static void a_large_write_that_never_slept_is_not_slow(void **state)
{
    (void)state;
    with_fake_clock(sleepless_body);
}

static void a_write_is_not_slow_for_those_before_it_in_line(void **state)
{
    (void)state;
    with_fake_clock(queue_body);
}

static void reads_that_are_said_to_miss_share_workers(void **state)
{
    (void)state;
    with_fake_clock(misses_body);
}

static void large_writes_leave_a_loop_that_others_use(void **state)
{
    (void)state;
    with_fake_clock(shared_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_writes_run_in_the_loop_while_they_are_quick),
        cmocka_unit_test(larger_ones_are_made_in_pieces),
        cmocka_unit_test(a_large_write_that_never_slept_is_not_slow),
        cmocka_unit_test(a_write_is_not_slow_for_those_before_it_in_line),
        cmocka_unit_test(large_writes_leave_a_loop_that_others_use),
        cmocka_unit_test(reads_that_are_said_to_miss_share_workers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
