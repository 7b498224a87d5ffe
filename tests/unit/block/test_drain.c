/* SPDX-License-Identifier: BSD-3-Clause */
/* drain.c: a drain waits for what is in flight, holds back what is new, and nests. */
#include "tests/unit/unit.h"

#include "block/coroutine.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 65536
#define REQUESTS 100

struct reader {
    struct block_backend *backend;
    int rc; /* 1: not answered yet */
};

static void reader_entry(void *arg)
{
    struct reader *reader = arg;
    uint8_t data[64];
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, sizeof(data));
    reader->rc = block_co_read(reader->backend, 64, &vec);
}

struct drainer {
    struct block_backend *backend;
    bool is_drained;
};

static void drainer_entry(void *arg)
{
    struct drainer *drainer = arg;
    block_co_backend_drain(drainer->backend);
    drainer->is_drained = true;
}

static void co_settle(void)
{
    for (unsigned i = 0; i < 20; i++)
        coroutine_co_pause();
}

static unsigned answered(const struct reader *readers, unsigned count)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += readers[i].rc == 0;
    return sum;
}

static void start_readers(struct group *group, struct reader *readers, unsigned count,
                          struct block_backend *backend)
{
    for (unsigned i = 0; i < count; i++) {
        readers[i] = (struct reader){.backend = backend, .rc = 1};
        group_start(group, reader_entry, &readers[i]);
    }
}

static struct block_backend *co_new_backend(struct fixture *fixture)
{
    struct block_backend *backend;
    fixture_co_open(fixture, "file", true);
    assert_int_equal(block_backend_new(&backend, fixture->node, false, NULL), 0);
    return backend;
}

static void co_a_drain_waits_for_a_hundred_and_holds_the_next_back(struct fixture *fixture,
                                                                   void *arg)
{
    struct block_backend *backend = co_new_backend(fixture);
    struct reader before[REQUESTS], after[10];
    struct drainer drainer = {.backend = backend};
    struct group group;
    (void)arg;
    group_init(&group, fixture->loop);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
    start_readers(&group, before, REQUESTS, backend);
    memory_disk_co_wait_held(&fixture->disk, REQUESTS);
    group_start(&group, drainer_entry, &drainer);
    start_readers(&group, after, 10, backend);
    co_settle();
    assert_false(drainer.is_drained);

    memory_disk_release(&fixture->disk);
    co_settle();
    assert_true(drainer.is_drained);
    assert_int_equal(answered(before, REQUESTS), REQUESTS);
    assert_int_equal(answered(after, 10), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], REQUESTS);

    block_backend_resume(backend);
    group_co_wait(&group);
    assert_int_equal(answered(after, 10), 10);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_drains_nest(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_new_backend(fixture);
    struct reader reader;
    struct group group;
    (void)arg;
    group_init(&group, fixture->loop);
    block_co_backend_drain(backend);
    block_co_backend_drain(backend);
    start_readers(&group, &reader, 1, backend);
    co_settle();
    block_backend_resume(backend);
    co_settle();
    assert_int_equal(reader.rc, 1);
    block_backend_resume(backend);
    group_co_wait(&group);
    assert_int_equal(reader.rc, 0);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_freeing_waits_for_what_is_in_flight(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_new_backend(fixture);
    struct reader readers[REQUESTS];
    struct group group;
    (void)arg;
    fixture->disk.pauses_max = 5;
    group_init(&group, fixture->loop);
    start_readers(&group, readers, REQUESTS, backend);
    assert_int_equal(block_co_backend_free(backend), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], REQUESTS);
    assert_int_equal(answered(readers, REQUESTS), REQUESTS);
    group_co_wait(&group);
}

static void co_a_drain_of_one_backend_leaves_another_alone(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_new_backend(fixture);
    struct block_backend *other;
    struct reader reader;
    struct group group;
    (void)arg;
    assert_int_equal(block_backend_new(&other, fixture->node, true, NULL), 0);
    group_init(&group, fixture->loop);
    block_co_backend_drain(backend);
    start_readers(&group, &reader, 1, other);
    group_co_wait(&group);
    assert_int_equal(reader.rc, 0);
    block_backend_resume(backend);
    assert_int_equal(block_co_backend_free(other), 0);
    assert_int_equal(block_co_backend_free(backend), 0);
}

#define TESTS(X)                                           \
    X(a_drain_waits_for_a_hundred_and_holds_the_next_back) \
    X(drains_nest)                                         \
    X(freeing_waits_for_what_is_in_flight)                 \
    X(a_drain_of_one_backend_leaves_another_alone)

#define DEFINE_TEST(name) FIXTURE_TEST(name, SIZE, SIZE)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
