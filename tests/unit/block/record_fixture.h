/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_BLOCK_RECORD_FIXTURE_H
#define TESTS_UNIT_BLOCK_RECORD_FIXTURE_H

/* The filter "record" over one disk in memory (the fixture's) with its log on another. */

#include <errno.h>
#include <string.h>

#include "block/coroutine.h"
#include "block/filters.h"
#include "tests/harness/write_log.h"
#include "tests/unit/block/block_fixture.h"

#define RECORD_SIZE 65536
#define RECORD_LOG_CAPACITY (4u << 20)
#define RECORD_SECTOR 512

struct record_scene {
    struct fixture *fixture;
    struct memory_disk log;
};

static const struct block_driver *record_drivers[] = {&block_filter_record, NULL, NULL, NULL};

/* Options by turns, name and value, ended by NULL. */
static inline int record_co_try_open(struct record_scene *scene, const char *const *more,
                                     struct error *err)
{
    struct node_options *options = node_options_new();
    assert_non_null(options);
    assert_int_equal(node_options_set(options, "driver", "blklogwrites", NULL), 0);
    memory_disk_options(&scene->fixture->disk, options, "file.", "growing");
    memory_disk_options(&scene->log, options, "log.", "growing");
    for (; more && *more; more += 2)
        assert_int_equal(node_options_set(options, more[0], more[1], NULL), 0);
    return block_co_open(&scene->fixture->env, options, &scene->fixture->node, err);
}

static inline void record_co_open(struct record_scene *scene, const char *const *more)
{
    struct error err = {.message = ""};
    if (record_co_try_open(scene, more, &err) < 0)
        fail_msg("%s", err.message);
}
#define RECORD_OPTIONS(...) ((const char *const[]){__VA_ARGS__, NULL})

static inline void record_scene_init(struct record_scene *scene, struct fixture *fixture)
{
    scene->fixture = fixture;
    memory_disk_init(&scene->log, 0, RECORD_LOG_CAPACITY, 2);
}

/* The node is closed. */
static inline void record_scene_fini(struct record_scene *scene)
{
    memory_disk_fini(&scene->log);
}

/* What is in the log now, as far as its superblock counts it. */
static inline void record_open_log(struct record_scene *scene, struct write_log *log)
{
    struct error err = {.message = ""};
    if (write_log_open_memory(log, scene->log.data, scene->log.size_bytes, &err) < 0)
        fail_msg("%s", err.message);
}

/* The cmocka test `name` that runs co_name(scene). */
struct record_run {
    void (*test)(struct record_scene *scene);
};

static inline void record_co_run(struct fixture *fixture, void *arg)
{
    struct record_run *run = arg;
    struct record_scene *scene = calloc(1, sizeof(*scene));
    assert_non_null(scene);
    record_scene_init(scene, fixture);
    run->test(scene);
    fixture_co_close(fixture);
    record_scene_fini(scene);
    free(scene);
}

#define RECORD_TEST(name)                                                                \
    static void name(void **state)                                                       \
    {                                                                                    \
        struct fixture fixture;                                                          \
        (void)state;                                                                     \
        record_drivers[1] = memory_drivers[0];                                           \
        record_drivers[2] = memory_drivers[1];                                           \
        fixture_init(&fixture, record_drivers, RECORD_SIZE, 2 * (size_t)RECORD_SIZE, 1); \
        fixture_run(&fixture, record_co_run, &(struct record_run){co_##name});           \
        fixture_fini(&fixture);                                                          \
    }

#endif
