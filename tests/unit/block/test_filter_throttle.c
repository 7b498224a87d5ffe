/* SPDX-License-Identifier: BSD-3-Clause */
/* filter_throttle.c: what is limited and what is not, who need not wait, and wrong options. Limits
 * are such that a request waits for hours or not at all, so that no test is about time. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>

#include "block/coroutine.h"
#include "block/filters.h"
#include "block/node.h"
#include "block/node_options.h"
#include "block/reopen.h"
#include "block/throttle_group.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 65536
#define LONG 60000 /* bytes; at a byte a second */

static const struct block_driver *drivers[6] = {&block_filter_throttle};

/* A throttle above the disk, in a group of its own. */
struct scene {
    struct fixture *fixture;
    struct throttle_group *group;
    struct block_backend *backend;
    struct group requests;
};

static void co_scene_init(struct scene *scene, struct fixture *fixture,
                          const struct throttle_limits *limits, const char *driver)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    *scene = (struct scene){.fixture = fixture};
    assert_int_equal(
        throttle_group_new(&scene->group, &fixture->env.throttle_groups, "g", limits, &err), 0);
    assert_int_equal(node_options_set(options, "driver", "throttle", NULL), 0);
    assert_int_equal(node_options_set(options, "throttle-group", "g", NULL), 0);
    memory_disk_options(&fixture->disk, options, "file.", driver);
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(block_backend_new(&scene->backend, fixture->node, false, &err), 0);
    group_init(&scene->requests, fixture->loop);
}

static void co_scene_fini(struct scene *scene)
{
    assert_int_equal(block_co_backend_free(scene->backend), 0);
    group_co_wait(&scene->requests);
    fixture_co_close(scene->fixture);
    throttle_group_free(scene->group);
}

static struct throttle_limits one_byte_a_second(enum throttle_rate rate)
{
    struct throttle_limits limits;
    throttle_limits_init(&limits);
    limits.rates[rate].average = 1;
    return limits;
}

struct request {
    struct scene *scene;
    enum memory_op op;
    int rc; /* 1: not answered yet */
};

static void request_entry(void *arg)
{
    struct request *request = arg;
    struct block_backend *backend = request->scene->backend;
    static uint8_t data[LONG];
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, LONG);
    struct block_extent extent;
    switch (request->op) {
    case MEMORY_READ:
        request->rc = block_co_read(backend, 0, &vec);
        break;
    case MEMORY_WRITE:
        request->rc = block_co_write(backend, 0, &vec, 0);
        break;
    case MEMORY_ZERO:
        request->rc = block_co_zero(backend, 0, LONG, 0);
        break;
    case MEMORY_DISCARD:
        request->rc = block_co_discard(backend, 0, LONG, 0);
        break;
    case MEMORY_CACHE:
        request->rc = block_co_cache(backend, 0, LONG);
        break;
    case MEMORY_FLUSH:
        request->rc = block_co_flush(backend);
        break;
    case MEMORY_STATUS:
        request->rc = block_co_status(backend, 0, LONG, &extent);
        break;
    default:
        fail_msg("no request of a client");
    }
}

static void co_settle(void)
{
    for (unsigned i = 0; i < 50; i++)
        coroutine_co_pause();
}

static void start(struct scene *scene, struct request *request, enum memory_op op)
{
    *request = (struct request){.scene = scene, .op = op, .rc = 1};
    group_start(&scene->requests, request_entry, request);
}

static const enum memory_op reads[] = {MEMORY_READ, MEMORY_CACHE};
static const enum memory_op changes[] = {MEMORY_WRITE, MEMORY_ZERO, MEMORY_DISCARD};
static const enum memory_op free_ones[] = {MEMORY_FLUSH, MEMORY_STATUS};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Of each kind one, after a first request that fills the bucket. */
static void co_expect_limited(struct fixture *fixture, enum throttle_rate rate,
                              enum memory_op first, bool limits_reads, bool limits_changes)
{
    struct throttle_limits limits = one_byte_a_second(rate);
    struct scene scene;
    struct request opener, requests[MEMORY_OP_COUNT];
    co_scene_init(&scene, fixture, &limits, "file");
    start(&scene, &opener, first);
    co_settle();
    assert_int_equal(opener.rc, 0); /* however long it is */
    for (unsigned i = 0; i < COUNT(reads); i++)
        start(&scene, &requests[reads[i]], reads[i]);
    for (unsigned i = 0; i < COUNT(changes); i++)
        start(&scene, &requests[changes[i]], changes[i]);
    for (unsigned i = 0; i < COUNT(free_ones); i++)
        start(&scene, &requests[free_ones[i]], free_ones[i]);
    co_settle();
    for (unsigned i = 0; i < COUNT(reads); i++)
        assert_int_equal(requests[reads[i]].rc, limits_reads);
    for (unsigned i = 0; i < COUNT(changes); i++)
        assert_int_equal(requests[changes[i]].rc, limits_changes);
    for (unsigned i = 0; i < COUNT(free_ones); i++)
        assert_int_equal(requests[free_ones[i]].rc, 0);
    co_scene_fini(&scene); /* drains, so all are answered */
    for (unsigned i = 0; i < COUNT(reads); i++)
        assert_int_equal(requests[reads[i]].rc, 0);
    for (unsigned i = 0; i < COUNT(changes); i++)
        assert_int_equal(requests[changes[i]].rc, 0);
}

static void co_reads_are_limited_and_so_is_cache(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_expect_limited(fixture, THROTTLE_BPS_READ, MEMORY_READ, true, false);
    co_expect_limited(fixture, THROTTLE_BPS_READ, MEMORY_CACHE, true, false);
}

static void co_zeroes_and_discards_are_limited_as_writes(struct fixture *fixture, void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < COUNT(changes); i++)
        co_expect_limited(fixture, THROTTLE_BPS_WRITE, changes[i], false, true);
}

static void co_a_total_limits_all_but_flush_and_status(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_expect_limited(fixture, THROTTLE_BPS_TOTAL, MEMORY_READ, true, true);
    co_expect_limited(fixture, THROTTLE_BPS_TOTAL, MEMORY_DISCARD, true, true);
}

/* By read-modify-write below, which is no read of a client. */
static void co_write_single_bytes(struct fixture *fixture)
{
    uint8_t byte = 1;
    unsigned before = fixture->disk.counts[MEMORY_READ];
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(fixture_co_write(fixture->node, 100 * i, &byte, 1, 0), 0);
    assert_true(fixture->disk.counts[MEMORY_READ] >= before + 10);
}

/* Blocks of the disk are 512 bytes: what a client asks for counts, not what is made of it. */
static void co_a_request_counts_as_it_was_asked(struct fixture *fixture, void *arg)
{
    struct throttle_limits limits;
    struct scene scene;
    uint8_t byte;
    (void)arg;
    throttle_limits_init(&limits);
    limits.rates[THROTTLE_BPS_WRITE].average = 1000000;
    limits.rates[THROTTLE_BPS_READ] = (struct throttle_limit){1, 1, 1};
    fixture->disk.limits.request_alignment = 512;
    fixture->disk.limits.transfer_bytes_max = 512;
    co_scene_init(&scene, fixture, &limits, "file");
    assert_int_equal(fixture->node->limits.preferred_bytes, 512);
    co_write_single_bytes(fixture);
    assert_int_equal(block_co_reopen(scene.backend, node_options_new(), NULL), 0);
    assert_int_equal(fixture->node->limits.preferred_bytes, 512);
    co_write_single_bytes(fixture);
    /* The reads' bucket is empty still. */
    assert_int_equal(fixture_co_read(fixture->node, 3, &byte, 1), 0);
    co_scene_fini(&scene);
}

static void resumer_entry(void *arg)
{
    struct scene *scene = arg;
    block_co_backend_drain(scene->backend);
    block_backend_resume(scene->backend);
}

static void co_a_drain_does_not_wait_for_the_limit(struct fixture *fixture, void *arg)
{
    struct throttle_limits limits = one_byte_a_second(THROTTLE_BPS_TOTAL);
    struct scene scene;
    struct request requests[20];
    (void)arg;
    co_scene_init(&scene, fixture, &limits, "file");
    for (unsigned i = 0; i < 10; i++)
        start(&scene, &requests[i], i % 2 ? MEMORY_READ : MEMORY_WRITE);
    co_settle();
    for (unsigned i = 1; i < 10; i++)
        assert_int_equal(requests[i].rc, 1);
    block_co_backend_drain(scene.backend);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(requests[i].rc, 0);
    block_backend_resume(scene.backend);
    /* and afterwards the limit is there again */
    for (unsigned i = 10; i < 20; i++)
        start(&scene, &requests[i], i % 2 ? MEMORY_READ : MEMORY_WRITE);
    co_settle();
    for (unsigned i = 10; i < 20; i++)
        assert_int_equal(requests[i].rc, 1);
    group_start(&scene.requests, resumer_entry, &scene);
    group_co_wait(&scene.requests);
    for (unsigned i = 10; i < 20; i++)
        assert_int_equal(requests[i].rc, 0);
    co_scene_fini(&scene);
}

static void co_a_server_that_stops_does_not_wait_for_the_limit(struct fixture *fixture, void *arg)
{
    struct throttle_limits limits = one_byte_a_second(THROTTLE_BPS_TOTAL);
    struct scene scene;
    struct request requests[10];
    (void)arg;
    co_scene_init(&scene, fixture, &limits, "file");
    for (unsigned i = 0; i < 5; i++)
        start(&scene, &requests[i], MEMORY_WRITE);
    co_settle();
    assert_int_equal(requests[4].rc, 1);
    block_backend_hurry(scene.backend);
    block_backend_hurry(scene.backend); /* a second signal */
    for (unsigned i = 5; i < 10; i++)
        start(&scene, &requests[i], MEMORY_READ);
    group_co_wait(&scene.requests);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(requests[i].rc, 0);
    co_scene_fini(&scene);
}

static int resize_disk(struct block_node *node, uint64_t size_bytes, struct error *err)
{
    (void)err;
    atomic_store(&node->size_bytes, size_bytes);
    return 0;
}

static const struct block_driver_admin sized_admin = {.co_resize = resize_disk};
static struct block_driver sized;

static void co_a_resize_does_not_wait_for_the_limit(struct fixture *fixture, void *arg)
{
    struct throttle_limits limits = one_byte_a_second(THROTTLE_BPS_TOTAL);
    struct scene scene;
    struct request requests[5];
    (void)arg;
    co_scene_init(&scene, fixture, &limits, "sized");
    for (unsigned i = 0; i < 5; i++)
        start(&scene, &requests[i], MEMORY_READ);
    co_settle();
    assert_int_equal(requests[4].rc, 1);
    assert_int_equal(block_co_resize(scene.backend, SIZE / 2, NULL), 0);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(requests[i].rc, 0);
    assert_int_equal(node_size(fixture->node), SIZE / 2);
    fixture->disk.size_bytes = SIZE / 2;
    co_scene_fini(&scene);
}

/* Somebody else's backend on the same nodes: what one drain begins, its end takes back. */
static void co_a_freed_backend_leaves_the_limit_behind(struct fixture *fixture, void *arg)
{
    struct throttle_limits limits = one_byte_a_second(THROTTLE_BPS_TOTAL);
    struct block_backend *backend;
    struct scene scene;
    struct request requests[2];
    (void)arg;
    co_scene_init(&scene, fixture, &limits, "file");
    assert_int_equal(block_backend_new(&backend, fixture->node, false, NULL), 0);
    block_backend_hurry(backend);
    assert_int_equal(block_co_backend_free(backend), 0);
    start(&scene, &requests[0], MEMORY_READ);
    start(&scene, &requests[1], MEMORY_READ);
    co_settle();
    assert_int_equal(requests[0].rc, 0);
    assert_int_equal(requests[1].rc, 1);
    co_scene_fini(&scene);
}

static size_t use_nothing(struct block_loan *loan, int fd, uint64_t host_offset, size_t length)
{
    (void)loan, (void)fd, (void)host_offset;
    return length;
}

static void co_reads_are_lent_where_they_have_no_limit(struct fixture *fixture, void *arg)
{
    struct block_loan loan = {.use = use_nothing, .begins = true};
    struct scene scene;
    (void)arg;
    fixture->disk.lend_fd = 1;
    struct throttle_limits limits = one_byte_a_second(THROTTLE_BPS_WRITE);
    co_scene_init(&scene, fixture, &limits, "file");
    assert_int_equal(block_lend(scene.backend, 0, 4096, &loan), 0);
    co_scene_fini(&scene);
    limits = one_byte_a_second(THROTTLE_IOPS_TOTAL);
    co_scene_init(&scene, fixture, &limits, "file");
    assert_int_equal(block_lend(scene.backend, 0, 4096, &loan), -ENOTSUP);
    co_scene_fini(&scene);
}

static void co_expect_refused(struct fixture *fixture, const char *prefix, const char *group,
                              const char *sentence)
{
    char path[64];
    struct error err = {.message = ""};
    struct block_node *node = NULL;
    struct node_options *options = node_options_new();
    if (*prefix)
        assert_int_equal(node_options_set(options, "driver", "pass", NULL), 0);
    snprintf(path, sizeof(path), "%sdriver", prefix);
    assert_int_equal(node_options_set(options, path, "throttle", NULL), 0);
    snprintf(path, sizeof(path), "%sthrottle-group", prefix);
    if (group)
        assert_int_equal(node_options_set(options, path, group, NULL), 0);
    snprintf(path, sizeof(path), "%sfile.", prefix);
    memory_disk_options(&fixture->disk, options, path, "file");
    assert_int_equal(block_co_open(&fixture->env, options, &node, &err), -EINVAL);
    assert_null(node);
    assert_string_equal(err.message, sentence);
}

static void co_a_group_that_is_not_there_is_named_with_its_path(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_expect_refused(fixture, "", "x",
                      "throttle-group: no group \"x\"; groups are declared with --object "
                      "throttle-group,id=...");
    co_expect_refused(fixture, "file.", "x",
                      "file.throttle-group: no group \"x\"; groups are declared with --object "
                      "throttle-group,id=...");
    co_expect_refused(fixture, "file.", NULL,
                      "file.throttle-group: missing; say the id of a group that --object "
                      "throttle-group,id=... declares");
}

#define TESTS(X)                                       \
    X(reads_are_limited_and_so_is_cache)               \
    X(zeroes_and_discards_are_limited_as_writes)       \
    X(a_total_limits_all_but_flush_and_status)         \
    X(a_request_counts_as_it_was_asked)                \
    X(a_drain_does_not_wait_for_the_limit)             \
    X(a_server_that_stops_does_not_wait_for_the_limit) \
    X(a_resize_does_not_wait_for_the_limit)            \
    X(a_freed_backend_leaves_the_limit_behind)         \
    X(reads_are_lent_where_they_have_no_limit)         \
    X(a_group_that_is_not_there_is_named_with_its_path)

#define DEFINE_TEST(name) FIXTURE_TEST_WITH(name, drivers, SIZE, SIZE)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    drivers[1] = memory_drivers[0];
    drivers[2] = memory_drivers[3];
    drivers[3] = &sized;
    sized = *memory_drivers[0];
    sized.name = "sized";
    sized.admin = &sized_admin;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
