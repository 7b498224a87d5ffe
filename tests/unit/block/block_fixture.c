/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include "tests/unit/block/block_fixture.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/coroutine.h"
#include "block/workers.h"

void fixture_init(struct fixture *fixture, const struct block_driver *const *drivers,
                  uint64_t size_bytes, uint64_t capacity_bytes, uint64_t seed)
{
    struct error err;
    *fixture = (struct fixture){.node = NULL};
    assert_int_equal(loop_new(&fixture->loop, 0, &poller_ev, &clock_monotonic, &err), 0);
    assert_int_equal(workers_new(&fixture->workers, 1, &err), 0);
    assert_int_equal(
        block_env_init(&fixture->env, &fixture->loop, 1, fixture->workers, NULL, drivers, &err), 0);
    memory_disk_init(&fixture->disk, size_bytes, capacity_bytes, seed);
}

static void co_close_left(struct fixture *fixture, void *arg)
{
    (void)arg;
    fixture_co_close(fixture);
}

void fixture_fini(struct fixture *fixture)
{
    fixture_run(fixture, co_close_left, NULL);
    memory_disk_fini(&fixture->disk);
    block_env_fini(&fixture->env);
    workers_free(fixture->workers);
    loop_free(fixture->loop);
}

struct run {
    struct fixture *fixture;
    void (*test)(struct fixture *fixture, void *arg);
    void *arg;
};

static void run_entry(void *arg)
{
    struct run *run = arg;
    run->test(run->fixture, run->arg);
}

void fixture_run(struct fixture *fixture, void (*test)(struct fixture *fixture, void *arg),
                 void *arg)
{
    struct run run = {.fixture = fixture, .test = test, .arg = arg};
    assert_int_equal(loop_run_co(fixture->loop, run_entry, &run), 0);
}

void fixture_co_open(struct fixture *fixture, const char *driver, bool through_pass)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    assert_non_null(options);
    if (through_pass)
        assert_int_equal(node_options_set(options, "driver", "pass", NULL), 0);
    memory_disk_options(&fixture->disk, options, through_pass ? "file." : "", driver);
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
}

void fixture_co_close(struct fixture *fixture)
{
    block_co_node_unref(fixture->node);
    fixture->node = NULL;
}

void group_init(struct group *group, struct loop *loop)
{
    *group = (struct group){.loop = loop};
}

struct member {
    struct group *group;
    void (*entry)(void *arg);
    void *arg;
};

static void member_entry(void *arg)
{
    struct member member = *(struct member *)arg;
    free(arg);
    member.entry(member.arg);
    member.group->running--;
    if (member.group->running == 0 && member.group->waiter)
        coroutine_wake(member.group->waiter);
}

void group_start(struct group *group, void (*entry)(void *arg), void *arg)
{
    struct member *member = malloc(sizeof(*member));
    assert_non_null(member);
    *member = (struct member){.group = group, .entry = entry, .arg = arg};
    group->running++;
    assert_int_equal(coroutine_start(group->loop, member_entry, member), 0);
}

void group_co_wait(struct group *group)
{
    if (group->running == 0)
        return;
    group->waiter = coroutine_self();
    coroutine_yield();
    group->waiter = NULL;
}

uint64_t fixture_seed(const char *test)
{
    const char *given = getenv("SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : clock_monotonic.now_ns(&clock_monotonic);
    print_message("%s: SEED=%" PRIu64 "\n", test, seed);
    return seed;
}

int fixture_co_read(struct block_node *node, uint64_t offset, void *data, size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    return node_co_read(node, offset, &vec);
}

int fixture_co_write(struct block_node *node, uint64_t offset, const void *data, size_t length,
                     unsigned flags)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, (void *)(uintptr_t)data, length);
    return node_co_write(node, offset, &vec, flags);
}
