/* SPDX-License-Identifier: BSD-3-Clause */
/* requests.c: each kind of request, from a thread that is not ours. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <sys/stat.h>

#include "block/account.h"
#include "tests/unit/contrib/nbdkit-plugin/plugin_fixture.h"

static uint8_t bytes[IMAGE_BYTES], seen[IMAGE_BYTES];

static void open_with(struct plugin_fixture *fixture, const char *const *words)
{
    struct error err;
    plugin_fixture_init(fixture, words);
    if (shared_image_open(&fixture->image, false, &err) < 0)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7 + i / 256 + 1);
}

static int run_flags(struct plugin_fixture *fixture, enum request_kind kind, uint64_t offset,
                     uint32_t length, void *data, unsigned flags)
{
    return request_run(
        &fixture->image,
        &(struct request){
            .kind = kind, .offset = offset, .length = length, .data = data, .flags = flags});
}

static int run(struct plugin_fixture *fixture, enum request_kind kind, uint64_t offset,
               uint32_t length, void *data)
{
    return run_flags(fixture, kind, offset, length, data, 0);
}

static void what_is_written_is_read_and_zeroed_and_flushed(void **state)
{
    struct plugin_fixture fixture;
    (void)state;
    open_with(&fixture, (const char *const[]){"format", "raw", NULL});
    assert_int_equal(run(&fixture, REQUEST_WRITE, 1000, 70001, bytes), 0);
    assert_int_equal(run(&fixture, REQUEST_ZERO, 5000, 6000, NULL), 0);
    memset(bytes + 4000, 0, 6000);
    assert_int_equal(run(&fixture, REQUEST_CACHE, 0, IMAGE_BYTES, NULL), 0);
    assert_int_equal(run(&fixture, REQUEST_READ, 1000, 70001, seen), 0);
    assert_memory_equal(seen, bytes, 70001);
    assert_int_equal(run(&fixture, REQUEST_TRIM, 0, 4096, NULL), 0);
    assert_int_equal(run(&fixture, REQUEST_FLUSH, 0, 0, NULL), 0);
    assert_int_equal(plugin_fixture_fini(&fixture), 0);
}

static void what_lies_outside_is_an_error_and_no_change(void **state)
{
    struct plugin_fixture fixture;
    struct stat info;
    (void)state;
    open_with(&fixture, (const char *const[]){"format", "raw", NULL});
    assert_int_equal(run(&fixture, REQUEST_READ, IMAGE_BYTES, 1, seen), -EINVAL);
    assert_int_equal(run(&fixture, REQUEST_WRITE, IMAGE_BYTES - 1, 2, bytes), -ENOSPC);
    assert_int_equal(run(&fixture, REQUEST_ZERO, UINT64_MAX, 2, NULL), -ENOSPC);
    assert_int_equal(stat(plugin_fixture_path(&fixture, "disk.img"), &info), 0);
    assert_int_equal(info.st_size, IMAGE_BYTES);
    assert_int_equal(plugin_fixture_fini(&fixture), 0);
}

/* --- extents ---------------------------------------------------------------------------------- */

struct told {
    unsigned count;
    uint64_t end; /* of what was told */
    unsigned first_flags, last_flags;
    int answer;
};

static int tell(void *arg, uint64_t offset, const struct block_extent *extent)
{
    struct told *told = arg;
    if (told->count++ == 0)
        told->first_flags = extent->flags;
    else
        assert_int_equal(offset, told->end);
    told->last_flags = extent->flags;
    told->end = offset + extent->length;
    return told->answer;
}

static int ask(struct plugin_fixture *fixture, bool tells_one, struct told *told)
{
    return request_run(&fixture->image, &(struct request){.kind = REQUEST_EXTENTS,
                                                          .length = IMAGE_BYTES,
                                                          .tells_one = tells_one,
                                                          .tell = tell,
                                                          .tell_arg = told});
}

static void extents_are_told_in_order_all_of_them_or_one(void **state)
{
    struct plugin_fixture fixture;
    (void)state;
    open_with(&fixture, (const char *const[]){"format", "raw", NULL});
    assert_int_equal(run(&fixture, REQUEST_WRITE, 0, 65536, bytes), 0);
    struct told all = {.answer = 0}, one = {.answer = 0}, failing = {.answer = -ENOMEM};
    assert_int_equal(ask(&fixture, false, &all), 0);
    assert_int_equal(all.end, IMAGE_BYTES);
    assert_int_equal(all.first_flags, BLOCK_EXTENT_ALLOCATED);
    if (all.count > 1) /* the file system can tell holes */
        assert_int_equal(all.last_flags, BLOCK_EXTENT_ZERO);
    assert_int_equal(ask(&fixture, true, &one), 0);
    assert_int_equal(one.count, 1);
    assert_int_equal(ask(&fixture, false, &failing), -ENOMEM);
    assert_int_equal(failing.count, 1);
    assert_int_equal(plugin_fixture_fini(&fixture), 0);
}

/* --- durability ------------------------------------------------------------------------------- */

static uint64_t flush_count(const struct plugin_fixture *fixture)
{
    struct account_counts counts;
    const struct block_node *node = block_backend_node(fixture->image.backend);
    while (block_node_child(node, 0))
        node = block_node_child(node, 0);
    account_read_counts(block_node_account(node), ACCOUNT_FLUSH, &counts);
    return counts.operations;
}

static void a_mode_that_writes_through_does_so_with_writes_and_zeroes_alone(void **state)
{
    static const struct {
        const char *mode;
        unsigned flags;
        bool flushes;
    } cases[] = {{"writeback", 0, false},
                 {"writeback", BLOCK_FUA, true},
                 {"writethrough", 0, true},
                 {"unsafe", 0, false}};
    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct plugin_fixture fixture;
        open_with(&fixture, (const char *const[]){"format", "raw", "cache", cases[i].mode, NULL});
        uint64_t before = flush_count(&fixture);
        assert_int_equal(run_flags(&fixture, REQUEST_WRITE, 0, 512, bytes, cases[i].flags), 0);
        assert_int_equal(flush_count(&fixture), before + cases[i].flushes);
        assert_int_equal(run_flags(&fixture, REQUEST_ZERO, 0, 4096, NULL, cases[i].flags), 0);
        assert_int_equal(flush_count(&fixture), before + 2 * cases[i].flushes);
        assert_int_equal(run(&fixture, REQUEST_TRIM, 0, 4096, NULL), 0);
        assert_int_equal(flush_count(&fixture), before + 2 * cases[i].flushes);
        assert_int_equal(plugin_fixture_fini(&fixture), 0);
    }
}

static void every_kind_has_a_verb(void **state)
{
    (void)state;
    for (enum request_kind kind = REQUEST_READ; kind <= REQUEST_EXTENTS; kind++)
        assert_non_null(request_verb(kind));
    assert_string_equal(request_verb(REQUEST_EXTENTS), "look at");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_and_zeroed_and_flushed),
        cmocka_unit_test(what_lies_outside_is_an_error_and_no_change),
        cmocka_unit_test(extents_are_told_in_order_all_of_them_or_one),
        cmocka_unit_test(a_mode_that_writes_through_does_so_with_writes_and_zeroes_alone),
        cmocka_unit_test(every_kind_has_a_verb),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
