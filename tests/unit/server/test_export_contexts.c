/* SPDX-License-Identifier: BSD-3-Clause */
/* export_contexts.c: which contexts an export has, and in which order. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/block.h"
#include "block/dirty_bitmap.h"
#include "server/export_contexts.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 65536

/* Any name is that of a bitmap, but "none", and "bad", which cannot be used. Names that begin alike
 * mean the same one. */
static struct dirty_bitmap *bitmaps[128];

static int co_find_bitmap(struct block_node *node, const char *name,
                          const struct dirty_bitmap **ret_bitmap, struct error *err)
{
    (void)node;
    if (strcmp(name, "bad") == 0)
        return error_set(err, -EINVAL, "bad indeed");
    if (strcmp(name, "none") == 0)
        return -ENOENT;
    *ret_bitmap = bitmaps[(unsigned char)name[0] % 128];
    return 0;
}

static const struct block_driver_admin with_bitmaps = {.co_find_bitmap = co_find_bitmap};
static struct block_driver driver;
static const struct block_driver *drivers[] = {&driver, NULL};

struct wish {
    bool has_depth;
    const char *const *bitmaps;
    unsigned bitmap_count;
    int code;
    const char *message;
};

static void co_init(struct fixture *fixture, const struct wish *wish,
                    struct export_contexts *contexts)
{
    struct block_backend *backend;
    struct error err = {.message = ""};
    fixture_co_open(fixture, "file", false);
    assert_int_equal(block_backend_new(&backend, fixture->node, true, NULL), 0);
    int code = export_contexts_co_init(contexts, backend, wish->has_depth, wish->bitmaps,
                                       wish->bitmap_count, &err);
    assert_int_equal(code, wish->code);
    if (wish->message && !strstr(err.message, wish->message))
        fail_msg("'%s' does not say '%s'", err.message, wish->message);
    assert_int_equal(block_co_backend_free(backend), 0);
    fixture_co_close(fixture);
}

static void expect(const struct export_contexts *contexts, unsigned index, const char *name,
                   enum export_context_kind kind, const struct dirty_bitmap *bitmap)
{
    assert_string_equal(contexts->names[index], name);
    assert_int_equal(contexts->all[index].kind, kind);
    assert_ptr_equal(contexts->all[index].bitmap, bitmap);
}

static void co_an_export_has_its_allocation(struct fixture *fixture, void *arg)
{
    struct export_contexts contexts;
    (void)arg;
    co_init(fixture, &(struct wish){.has_depth = false}, &contexts);
    assert_int_equal(contexts.count, 1);
    expect(&contexts, 0, "base:allocation", EXPORT_CONTEXT_ALLOCATION, NULL);
    assert_null(contexts.names[1]);
    export_contexts_fini(&contexts);
    assert_int_equal(contexts.count, 0);
}

static void co_depth_and_bitmaps_come_in_the_order_of_the_options(struct fixture *fixture,
                                                                  void *arg)
{
    static const char *const names[] = {"b", "a:x", "b"};
    struct export_contexts contexts;
    (void)arg;
    co_init(fixture, &(struct wish){.has_depth = true, .bitmaps = names, .bitmap_count = 3},
            &contexts);
    assert_int_equal(contexts.count, 4);
    expect(&contexts, 1, "qemu:allocation-depth", EXPORT_CONTEXT_DEPTH, NULL);
    expect(&contexts, 2, "qemu:dirty-bitmap:b", EXPORT_CONTEXT_BITMAP, bitmaps['b']);
    expect(&contexts, 3, "qemu:dirty-bitmap:a:x", EXPORT_CONTEXT_BITMAP, bitmaps['a']);
    assert_null(contexts.names[4]);
    export_contexts_fini(&contexts);
}

static void co_a_bitmap_that_cannot_be_shown_is_refused(struct fixture *fixture, void *arg)
{
    static const char *const none[] = {"a", "none"}, *const bad[] = {"a", "bad"};
    struct export_contexts contexts;
    (void)arg;
    co_init(fixture,
            &(struct wish){.bitmaps = none,
                           .bitmap_count = 2,
                           .code = -ENOENT,
                           .message = "bitmap 'none' is not found in 'file'"},
            &contexts);
    assert_int_equal(contexts.count, 0);
    co_init(
        fixture,
        &(struct wish){.bitmaps = bad, .bitmap_count = 2, .code = -EINVAL, .message = "bad indeed"},
        &contexts);
    assert_int_equal(contexts.count, 0);
}

static void co_as_many_as_there_are_places_fit(struct fixture *fixture, void *arg)
{
    static char letters[EXPORT_BITMAPS_MAX][2];
    const char *names[EXPORT_BITMAPS_MAX];
    struct export_contexts contexts;
    (void)arg;
    for (unsigned i = 0; i < EXPORT_BITMAPS_MAX; i++) {
        letters[i][0] = (char)('A' + i);
        names[i] = letters[i];
    }
    co_init(fixture,
            &(struct wish){.has_depth = true, .bitmaps = names, .bitmap_count = EXPORT_BITMAPS_MAX},
            &contexts);
    assert_int_equal(contexts.count, METACONTEXTS_MAX);
    assert_int_equal(metacontext_count(contexts.names), METACONTEXTS_MAX);
    export_contexts_fini(&contexts);
}

#define CONTEXTS_TEST(name) FIXTURE_TEST_WITH(name, drivers, SIZE, SIZE)
CONTEXTS_TEST(an_export_has_its_allocation)
CONTEXTS_TEST(depth_and_bitmaps_come_in_the_order_of_the_options)
CONTEXTS_TEST(a_bitmap_that_cannot_be_shown_is_refused)
CONTEXTS_TEST(as_many_as_there_are_places_fit)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_export_has_its_allocation),
        cmocka_unit_test(depth_and_bitmaps_come_in_the_order_of_the_options),
        cmocka_unit_test(a_bitmap_that_cannot_be_shown_is_refused),
        cmocka_unit_test(as_many_as_there_are_places_fit),
    };
    driver = *memory_drivers[0];
    driver.admin = &with_bitmaps;
    for (unsigned i = 0; i < 128; i++)
        if (dirty_bitmap_new(&bitmaps[i], SIZE, 9) < 0)
            return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (unsigned i = 0; i < 128; i++)
        dirty_bitmap_free(bitmaps[i]);
    return failed;
}
