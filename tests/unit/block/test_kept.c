/* SPDX-License-Identifier: BSD-3-Clause */
/* kept.c: who is asked for memory that stays, and what a filter or a format answers. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/driver.h"
#include "block/filters.h"
#include "block/kept.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 65536
#define LENGTH 8192

static const struct block_driver *drivers[6];

static void open_below(struct fixture *fixture, const char *top, const char *driver)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_set(options, "driver", top, NULL), 0);
    memory_disk_options(&fixture->disk, options, "file.", driver);
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
}

static void co_whoever_is_asked(struct fixture *fixture, void *arg)
{
    struct kept_memory *kept = NULL;
    struct error err;
    (void)arg;
    fixture->disk.kept.is_there = true;
    fixture->disk.kept.file_changed_ns = 12345;
    fixture->disk.kept.now_ns = 777;

    open_below(fixture, "delay", "file"); /* a filter has its child's */
    assert_int_equal(node_co_keep(fixture->node, LENGTH, true, &kept, &err), -ENOENT);
    assert_int_equal(node_co_keep(fixture->node, LENGTH, false, &kept, &err), 0);
    assert_false(kept->is_found);
    assert_int_equal(kept->length, LENGTH);
    assert_int_equal(kept->file_changed_ns, 12345);
    assert_int_equal(kept->clock->now_ns(kept->clock), 777);
    memset(kept->base, 7, LENGTH);
    struct kept_memory *other = NULL;
    assert_int_equal(node_co_keep(fixture->node, LENGTH, false, &other, &err), -EBUSY);
    assert_null(other);
    kept_co_close(kept, false);
    fixture_co_close(fixture);

    fixture_co_open(fixture, "file", false); /* the same file */
    assert_int_equal(node_co_keep(fixture->node, LENGTH, true, &kept, &err), 0);
    assert_true(kept->is_found);
    assert_int_equal(((uint8_t *)kept->base)[LENGTH - 1], 7);
    kept_co_close(kept, true);
    assert_int_equal(node_co_keep(fixture->node, LENGTH, true, &kept, &err), -ENOENT);
    fixture_co_close(fixture);
}

FIXTURE_TEST_WITH(whoever_is_asked, drivers, SIZE, SIZE)

/* A format shows other bytes than its child: it has none of its child's. Nor has a driver that has
 * no such thing, or a disk of one that has. */
static void co_some_have_none(struct fixture *fixture, void *arg)
{
    static const char *const tops[] = {"pass", "delay", "delay"};
    static const char *const bottoms[] = {"file", "bare", "growing"};
    struct kept_memory *kept = NULL;
    struct error err;
    (void)arg;
    for (unsigned i = 0; i < 3; i++) {
        fixture->disk.kept.is_there = i == 0;
        open_below(fixture, tops[i], bottoms[i]);
        assert_int_equal(node_co_keep(fixture->node, LENGTH, false, &kept, &err), -ENOTSUP);
        assert_true(strlen(err.message) > 0);
        assert_null(kept);
        fixture_co_close(fixture);
    }
    kept_co_close(NULL, true);
}

FIXTURE_TEST_WITH(some_have_none, drivers, SIZE, SIZE)

int main(void)
{
    for (unsigned i = 0; i < 4; i++)
        drivers[i] = memory_drivers[i];
    drivers[4] = &block_filter_delay;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whoever_is_asked),
        cmocka_unit_test(some_have_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
