/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * When there is no memory, for an allocation (the linker sends these to tests/crash/no_memory.c) or
 * for a coroutine (here): what can be done without is done, and the rest says so and changes
 * nothing.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/buffer.h"
#include "block/coroutine.h"
#include "cache/owned.h"
#include "tests/crash/no_memory.h"
#include "tests/unit/cache/cache_fixture.h"
#include "tests/unit/cache/redo_fixture.h"

/* --- coroutines ---------------------------------------------------------------------------------
 */

static unsigned refused; /* coroutines, since it was set to 0 */
static bool refuses;

int real_coroutine_start(struct loop *loop, void (*entry)(void *arg),
                         void *arg) __asm__("__real_coroutine_start");
int wrapped_coroutine_start(struct loop *loop, void (*entry)(void *arg),
                            void *arg) __asm__("__wrap_coroutine_start");
int wrapped_coroutine_start(struct loop *loop, void (*entry)(void *arg), void *arg)
{
    if (!refuses)
        return real_coroutine_start(loop, entry, arg);
    refused++;
    return -ENOMEM;
}

static void refuse_coroutines(bool wanted)
{
    refuses = wanted;
    refused = 0;
}

static void co_a_class_is_written_without_helpers(struct cache_fixture *fixture)
{
    for (unsigned i = 0; i < CACHE_TABLES_MIN - 3; i++)
        co_change_u64(fixture, LOW, i, i + 1);
    refuse_coroutines(true);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_int_equal(refused, 1);
    refuse_coroutines(false);
    for (unsigned i = 0; i < CACHE_TABLES_MIN - 3; i++)
        assert_int_equal(disk_u64(fixture, LOW, i), i + 1);
}
CACHE_TEST(a_class_is_written_without_helpers)

struct waiting {
    struct cache_after after;
    unsigned runs;
};

static void co_note(struct cache_after *after)
{
    container_of(after, struct waiting, after)->runs++;
}

/* Durable, and nobody is there to run it. */
static void co_wait_without_reaper(struct cache_fixture *fixture, struct waiting *waiting)
{
    *waiting = (struct waiting){.after = {.co_run = co_note}};
    pthread_mutex_lock(&fixture->monitor);
    cache_after_durable(fixture->cache, &waiting->after);
    pthread_mutex_unlock(&fixture->monitor);
    refuse_coroutines(true);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_int_equal(refused, 1);
    refuse_coroutines(false);
    assert_int_equal(waiting->runs, 0);
}

static void co_who_settles_does_the_reapers_work(struct cache_fixture *fixture)
{
    struct waiting waiting;
    co_wait_without_reaper(fixture, &waiting);
    assert_int_equal(cache_co_settle(fixture->cache), 0);
    assert_int_equal(waiting.runs, 1);
}
CACHE_TEST(who_settles_does_the_reapers_work)

static void co_what_is_ready_is_abandoned_too(struct cache_fixture *fixture)
{
    struct waiting ready, new = {.after = {.co_run = co_note}};
    co_wait_without_reaper(fixture, &ready);
    pthread_mutex_lock(&fixture->monitor);
    cache_after_durable(fixture->cache, &new.after);
    assert_ptr_equal(cache_abandon_after(fixture->cache), &ready.after);
    assert_ptr_equal(cache_abandon_after(fixture->cache), &new.after);
    assert_null(cache_abandon_after(fixture->cache));
    assert_int_equal(cache_after_count(fixture->cache), 0);
    pthread_mutex_unlock(&fixture->monitor);
    assert_int_equal(ready.runs + new.runs, 0);
}
CACHE_TEST(what_is_ready_is_abandoned_too)

/* --- a cache ------------------------------------------------------------------------------------
 */

/* The fail_at-th allocation fails, counted from 1; 0: none. */
static int new_cache(struct cache_fixture *fixture, uint64_t budget_bytes, uint64_t fail_at)
{
    struct error err = {.message = ""};
    struct cache *cache = NULL;
    struct cache_config config = {
        .env = &fixture->block.env,
        .monitor = &fixture->monitor,
        .nodes = {fixture->block.node},
        .node_count = 1,
        .kinds = {{.name = "one", .table_bytes = TABLE_BYTES, .budget_bytes = budget_bytes}},
        .kind_count = 1,
    };
    crash_no_memory_arm(fail_at, false);
    int ret = cache_new(&cache, &config, &err);
    crash_no_memory_disarm();
    assert_true((ret < 0) == (err.message[0] != '\0'));
    cache_free(cache);
    return ret;
}

/* Where it is not much, it is had when the first table is wanted. */
static void co_much_memory_must_be_there_at_once(struct cache_fixture *fixture)
{
    const uint64_t little = 1 << 20, much = 65 << 20;
    assert_int_equal(new_cache(fixture, little, 0), 0);
    uint64_t count = crash_no_memory_count();
    assert_int_equal(new_cache(fixture, much, 0), 0);
    uint64_t count_of_much = crash_no_memory_count();
    assert_true(count_of_much > count);
    for (uint64_t fail_at = 1; fail_at <= count_of_much; fail_at++)
        assert_int_equal(new_cache(fixture, much, fail_at), -ENOMEM);
}
CACHE_TEST(much_memory_must_be_there_at_once)

/* --- a redo log ---------------------------------------------------------------------------------
 */

static struct redo *new_empty_log(struct cache_fixture *fixture, void *memory)
{
    struct redo *redo = new_log(memory);
    redo_format(redo, &log_identity);
    pthread_mutex_lock(&fixture->monitor);
    cache_attach_redo(fixture->cache, redo);
    pthread_mutex_unlock(&fixture->monitor);
    return redo;
}

static void co_store_half_a_ring(struct cache_fixture *fixture)
{
    uint64_t words[TABLE_BYTES / 8] = {1};
    for (unsigned i = 0; i < RING_BYTES / 2 / TABLE_BYTES; i++)
        co_change(fixture, LOW, 0, 0, words, sizeof(words));
}

/* A round in the background cannot be; the next one that somebody asks for is as good. */
static void co_a_log_is_trimmed_by_who_flushes(struct cache_fixture *fixture)
{
    void *memory = new_log_memory();
    struct redo *redo = new_empty_log(fixture, memory);
    refuse_coroutines(true);
    co_store_half_a_ring(fixture);
    assert_int_equal(refused, 0);
    co_change_u64(fixture, LOW, 0, 5);
    assert_int_equal(refused, 1);
    refuse_coroutines(false);
    assert_int_equal(log_content(redo), REDO_CHANGES);
    assert_int_equal(cache_co_settle(fixture->cache), 0);
    assert_int_equal(log_content(redo), REDO_EMPTY);
    assert_int_equal(disk_u64(fixture, LOW, 0), 5);
    redo_free(redo);
    free(memory);
}
CACHE_TEST(a_log_is_trimmed_by_who_flushes)

/* So that who wants one must ask for memory. Nothing is in flight. */
static void forget_buffers(struct cache_fixture *fixture)
{
    struct buffer_pool *pool = &block_env_local(&fixture->block.env)->buffers;
    buffer_pool_fini(pool);
    buffer_pool_init(pool);
}

static void co_a_replay_without_memory_leaves_the_log(struct cache_fixture *fixture)
{
    uint64_t count = 0, fail_at = 1;
    void *memory = new_log_memory();
    struct redo *redo = new_empty_log(fixture, memory);
    co_change_u64(fixture, LOW, 0, 5);
    cache_free(fixture->cache);
    fixture->cache = cache_fixture_new_cache(fixture);
    for (int rc = -ENOMEM; rc < 0; fail_at++) {
        struct error err = {.message = ""};
        assert_int_equal(log_content(redo), REDO_CHANGES);
        forget_buffers(fixture);
        crash_no_memory_arm(fail_at, false);
        rc = redo_co_replay(redo, fixture->cache, DISK_BYTES, &count, &err);
        crash_no_memory_disarm();
        assert_true(rc == 0 || rc == -ENOMEM);
        assert_true((rc < 0) == (err.message[0] != '\0'));
    }
    assert_true(fail_at > 5); /* what is made of the records, a window and its bytes */
    assert_int_equal(count, 1);
    assert_int_equal(disk_u64(fixture, LOW, 0), 5);
    redo_free(redo);
    free(memory);
}
CACHE_TEST(a_replay_without_memory_leaves_the_log)

static void co_a_log_without_memory_is_none(struct cache_fixture *fixture)
{
    struct redo *redo = NULL;
    void *memory = new_log_memory();
    (void)fixture;
    crash_no_memory_arm(1, false);
    assert_int_equal(redo_new(&redo, memory, LOG_BYTES), -ENOMEM);
    crash_no_memory_disarm();
    assert_null(redo);
    free(memory);
}
CACHE_TEST(a_log_without_memory_is_none)

/* --- which clusters are owned -------------------------------------------------------------------
 */

#define RUNS 4000u
#define DENSE 200000u
#define MANY (UINT64_C(600) << 10) /* more than one share has */
#define OWNER 3

/* Far from each other: each needs a place of its own in the set. */
static uint64_t place(unsigned index)
{
    return (uint64_t)index * 7919 % RUNS << 28;
}

static unsigned runs_until_failure(struct owned *owned)
{
    for (unsigned i = 0; i < RUNS; i++) {
        int ret = owned_add(owned, place(i), 1 + i % 3, OWNER);
        assert_true(ret == 0 || ret == -ENOMEM);
        if (ret < 0)
            return i;
    }
    return RUNS;
}

static void check_owned(const struct owned *owned, unsigned count)
{
    for (unsigned i = 0; i < RUNS; i++) {
        assert_int_equal(owned_by(owned, place(i)), i < count ? OWNER : OWNED_NOBODY);
        assert_int_equal(owned_by(owned, place(i) + 3), OWNED_NOBODY);
    }
}

static void what_cannot_be_added_changes_nothing(void **state)
{
    (void)state;
    uint64_t fail_at = 1;
    for (unsigned count = 0; count < RUNS; fail_at++) {
        struct owned *owned;
        assert_int_equal(owned_new(&owned), 0);
        crash_no_memory_arm(fail_at, false);
        count = runs_until_failure(owned);
        crash_no_memory_disarm();
        check_owned(owned, count);
        if (count < RUNS)
            assert_int_equal(owned_add(owned, place(count), 1, OWNER), 0);
        owned_free(owned);
    }
    assert_true(fail_at > 20);
}

/* Some far from each other, and many close together. */
static int fill(struct owned_filler *filler)
{
    static uint64_t clusters[DENSE];
    int ret = 0;
    for (unsigned i = 0; i < RUNS && ret == 0; i++) {
        ret = owned_filler_add(filler, place(i), 1 + i % 3 * 4, OWNER);
    }
    for (unsigned i = 0; i < DENSE; i++)
        clusters[i] = place(1) + 100 + (uint64_t)i * 3;
    if (ret == 0)
        ret = owned_filler_add_each(filler, clusters, DENSE, OWNER);
    return ret == 0 ? owned_filler_finish(filler) : ret;
}

static void a_fill_without_memory_says_so(void **state)
{
    (void)state;
    uint64_t fail_at = 1;
    for (int ret = -ENOMEM; ret < 0; fail_at += 1 + fail_at / 200) {
        struct owned *owned;
        struct owned_filler filler;
        assert_int_equal(owned_new(&owned), 0);
        owned_filler_init(&filler, owned, (uint64_t)RUNS << 28);
        crash_no_memory_arm(fail_at, false);
        ret = fill(&filler);
        assert_int_equal(crash_no_memory_failed(), ret < 0 ? 1 : 0);
        crash_no_memory_disarm();
        assert_true(ret == 0 || ret == -ENOMEM);
        if (ret == 0)
            assert_int_equal(owned_by(owned, place(RUNS - 1)), OWNER);
        owned_filler_fini(&filler);
        owned_free(owned);
    }
    assert_true(fail_at > 20);
}

/* Any of the shares. */
static void a_share_without_memory_says_so(void **state)
{
    (void)state;
    uint64_t fail_at = 1;
    for (int ret = -ENOMEM; ret < 0; fail_at++) {
        struct owned *owned;
        struct owned_filler filler;
        assert_int_equal(owned_new(&owned), 0);
        owned_filler_init(&filler, owned, MANY * 64);
        for (uint64_t i = 0; i < MANY; i++)
            assert_int_equal(owned_filler_add(&filler, i * 7919 % MANY * 64, 1, OWNER), 0);
        crash_no_memory_arm(fail_at, false);
        ret = owned_filler_finish(&filler);
        assert_int_equal(crash_no_memory_failed(), ret < 0 ? 1 : 0);
        crash_no_memory_disarm();
        assert_true(ret == 0 || ret == -ENOMEM);
        assert_int_equal(filler.share_count, OWNED_SHARES_MAX);
        owned_filler_fini(&filler);
        if (ret == 0)
            assert_int_equal(owned_by(owned, (MANY - 1) * 64), OWNER);
        owned_free(owned);
    }
    assert_true(fail_at > 20);
}

/* So many in one part that hardly a leaf is left of the chunks they took (of 1023), and to part
 * them again needs one. */
#define CROWD 127000u
#define CROWD_OTHERS 1000u
#define CROWD_STEP 1000u

/* In no order; or every other cluster, and then some in no order that lie among the first. */
static uint64_t place_in_crowd(bool rises, uint64_t nth)
{
    if (!rises)
        return nth * 7919 % CROWD * CROWD_STEP;
    const uint64_t rising = CROWD - CROWD_OTHERS;
    return nth < rising ? nth * 2 : (nth - rising) * 7919 % CROWD_OTHERS * 250 + 1;
}

static void check_crowd(const struct owned *owned, bool rises)
{
    uint64_t found = 0, where;
    for (uint64_t i = 0; i < CROWD; i++)
        assert_int_equal(owned_by(owned, place_in_crowd(rises, i)), OWNER);
    for (uint64_t at = 0; owned_first(owned, at, OWNED_CLUSTERS_MAX - at, &where); at = where + 1)
        found++;
    assert_int_equal(found, CROWD);
}

/* The fail_at-th allocation of bringing them to their places fails. */
static int finish_crowd(bool rises, uint64_t fail_at)
{
    struct owned *owned;
    struct owned_filler filler;
    assert_int_equal(owned_new(&owned), 0);
    owned_filler_init(&filler, owned, UINT64_C(1) << 41);
    for (uint64_t i = 0; i < CROWD; i++)
        assert_int_equal(owned_filler_add(&filler, place_in_crowd(rises, i), 1, OWNER), 0);
    crash_no_memory_arm(fail_at, false);
    int ret = owned_filler_finish(&filler);
    assert_int_equal(crash_no_memory_failed(), ret < 0 ? 1 : 0);
    crash_no_memory_disarm();
    owned_filler_fini(&filler);
    if (ret == 0)
        check_crowd(owned, rises);
    owned_free(owned);
    return ret;
}

/* Parted again, or merged. */
static void a_part_with_many_without_memory_says_so(void **state)
{
    (void)state;
    for (unsigned rises = 0; rises < 2; rises++) {
        uint64_t fail_at = 1;
        int ret;
        while ((ret = finish_crowd(rises, fail_at)) == -ENOMEM)
            fail_at++;
        assert_int_equal(ret, 0);
        assert_true(fail_at > 10);
    }
}

static void as_many_chunks_are_made_as_there_is_memory_for(void **state)
{
    (void)state;
    for (unsigned fail_at = 1; fail_at <= 3; fail_at++) {
        crash_no_memory_arm(fail_at, true);
        struct owned_chunk *chunks = owned_chunks_new(3);
        assert_int_equal(crash_no_memory_failed(), 1);
        crash_no_memory_disarm();
        assert_true((chunks == NULL) == (fail_at == 1));
        owned_chunks_free(chunks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_class_is_written_without_helpers),
        cmocka_unit_test(who_settles_does_the_reapers_work),
        cmocka_unit_test(what_is_ready_is_abandoned_too),
        cmocka_unit_test(much_memory_must_be_there_at_once),
        cmocka_unit_test(a_log_is_trimmed_by_who_flushes),
        cmocka_unit_test(a_replay_without_memory_leaves_the_log),
        cmocka_unit_test(a_log_without_memory_is_none),
        cmocka_unit_test(what_cannot_be_added_changes_nothing),
        cmocka_unit_test(a_fill_without_memory_says_so),
        cmocka_unit_test(a_share_without_memory_says_so),
        cmocka_unit_test(a_part_with_many_without_memory_says_so),
        cmocka_unit_test(as_many_chunks_are_made_as_there_is_memory_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
