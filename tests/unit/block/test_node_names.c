/* SPDX-License-Identifier: BSD-3-Clause */
/* node_names.c: the option "node-name": what is a name, that it is one node's alone, and who is
 * found by it. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "block/graph.h"
#include "block/node.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 65536

/* "pass" above the fixture's disk; NULL: no name is said. */
static int co_try_open(struct fixture *fixture, const char *top, const char *below,
                       struct block_node **ret_node, struct error *err)
{
    struct node_options *options = node_options_new();
    assert_non_null(options);
    assert_int_equal(node_options_set(options, "driver", "pass", NULL), 0);
    memory_disk_options(&fixture->disk, options, "file.", "file");
    if (top)
        assert_int_equal(node_options_set(options, "node-name", top, NULL), 0);
    if (below)
        assert_int_equal(node_options_set(options, "file.node-name", below, NULL), 0);
    return block_co_open(&fixture->env, options, ret_node, err);
}

/* A name finds exactly this node; NULL: none. */
static void co_expect_found(struct fixture *fixture, const char *name,
                            const struct block_node *expected)
{
    struct block_node *found = graph_find_node(&fixture->env, name);
    assert_ptr_equal(found, expected);
    block_co_node_unref(found);
}

static void co_a_node_is_found_by_its_name_as_long_as_it_is_open(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_expect_found(fixture, "top", NULL);
    assert_int_equal(co_try_open(fixture, "top", "the.disk_1-a", &fixture->node, NULL), 0);
    co_expect_found(fixture, "top", fixture->node);
    co_expect_found(fixture, "the.disk_1-a", fixture->node->file);
    co_expect_found(fixture, "Top", NULL);
    co_expect_found(fixture, "to", NULL);
    co_expect_found(fixture, "", NULL);
    assert_string_equal(block_node_given_name(fixture->node), "top");
    assert_string_equal(block_node_name(fixture->node), "file"); /* still its file's */
    fixture_co_close(fixture);
    co_expect_found(fixture, "top", NULL);
    co_expect_found(fixture, "the.disk_1-a", NULL);
}

static void co_a_node_without_a_name_is_not_found(struct fixture *fixture, void *arg)
{
    (void)arg;
    assert_int_equal(co_try_open(fixture, NULL, NULL, &fixture->node, NULL), 0);
    co_expect_found(fixture, "", NULL);
    co_expect_found(fixture, "file", NULL);
    assert_null(block_node_given_name(fixture->node));
    fixture_co_close(fixture);
}

static void co_who_found_a_node_keeps_it_open(struct fixture *fixture, void *arg)
{
    (void)arg;
    assert_int_equal(co_try_open(fixture, NULL, "disk", &fixture->node, NULL), 0);
    struct block_node *disk = graph_find_node(&fixture->env, "disk");
    fixture_co_close(fixture);
    assert_int_equal(fixture->disk.counts[MEMORY_CLOSE], 0);
    co_expect_found(fixture, "disk", disk);
    block_co_node_unref(disk);
    assert_int_equal(fixture->disk.counts[MEMORY_CLOSE], 1);
    co_expect_found(fixture, "disk", NULL);
}

static void co_a_name_is_one_node_s_alone(struct fixture *fixture, void *arg)
{
    struct block_node *other = NULL;
    struct error err = {.message = ""};
    (void)arg;
    /* within a graph, whose parent comes first */
    assert_int_equal(co_try_open(fixture, "same", "same", &other, &err), -EINVAL);
    assert_non_null(strstr(err.message, "file.node-name: another node is called 'same'"));
    assert_null(other);
    /* what failed has left the name free; then between graphs */
    assert_int_equal(co_try_open(fixture, "same", NULL, &fixture->node, NULL), 0);
    assert_int_equal(co_try_open(fixture, "same", NULL, &other, &err), -EINVAL);
    assert_non_null(strstr(err.message, "node-name: another node is called 'same'"));
    assert_int_equal(co_try_open(fixture, NULL, "same", &other, &err), -EINVAL);
    assert_non_null(strstr(err.message, "file.node-name: "));
    co_expect_found(fixture, "same", fixture->node);
    fixture_co_close(fixture);
    assert_int_equal(co_try_open(fixture, NULL, "same", &fixture->node, NULL), 0);
    co_expect_found(fixture, "same", fixture->node->file);
    fixture_co_close(fixture);
}

static void co_what_is_no_name_is_refused(struct fixture *fixture, void *arg)
{
    static const char *const wrong[] = {
        "",
        "1a",
        ".a",
        "-a",
        "_a",
        "#block1",
        "a b",
        "a/b",
        "a#",
        "a,b",
        "\xc3\xa9",
        "a\xc3\xa9",
        "abcdefghijklmnopqrstuvwxyz012345",
    };
    struct block_node *node = NULL;
    (void)arg;
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        struct error err = {.message = ""};
        assert_int_equal(co_try_open(fixture, NULL, wrong[i], &node, &err), -EINVAL);
        assert_null(node);
        if (!strstr(err.message, "file.node-name: ") || !strstr(err.message, wrong[i]))
            fail_msg("%s", err.message);
    }
    const char *longest = "abcdefghijklmnopqrstuvwxyz01234";
    assert_int_equal(strlen(longest), NODE_NAME_MAX);
    assert_int_equal(co_try_open(fixture, longest, "Z", &fixture->node, NULL), 0);
    co_expect_found(fixture, longest, fixture->node);
    fixture_co_close(fixture);
}

static void co_a_graph_that_fails_leaves_its_names_free(struct fixture *fixture, void *arg)
{
    struct block_node *node = NULL;
    (void)arg;
    fixture->disk.fail_code = -EIO;
    fixture->disk.fail_ops = 1u << MEMORY_OPEN;
    assert_int_equal(co_try_open(fixture, "top", "disk", &node, NULL), -EIO);
    fixture->disk.fail_code = 0;
    co_expect_found(fixture, "top", NULL);
    co_expect_found(fixture, "disk", NULL);
    assert_int_equal(co_try_open(fixture, "disk", "top", &fixture->node, NULL), 0);
    fixture_co_close(fixture);
}

static void close_entry(void *arg)
{
    fixture_co_close(arg);
}

/* The last reference is gone, and the flush that comes before the close is under way: the name is
 * taken still, but leads nowhere. */
static void co_a_node_that_is_being_closed_is_not_found(struct fixture *fixture, void *arg)
{
    struct block_node *node = NULL;
    struct group group;
    struct error err = {.message = ""};
    (void)arg;
    assert_int_equal(co_try_open(fixture, "top", NULL, &fixture->node, NULL), 0);
    assert_int_equal(fixture_co_write(fixture->node, 0, "x", 1, 0), 0);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_FLUSH);
    group_init(&group, fixture->loop);
    group_start(&group, close_entry, fixture);
    memory_disk_co_wait_held(&fixture->disk, 1);
    co_expect_found(fixture, "top", NULL);
    assert_int_equal(co_try_open(fixture, "top", NULL, &node, &err), -EINVAL);
    memory_disk_release(&fixture->disk);
    group_co_wait(&group);
    co_expect_found(fixture, "top", NULL);
    assert_int_equal(co_try_open(fixture, "top", NULL, &fixture->node, NULL), 0);
    fixture_co_close(fixture);
}

static void co_messages_call_a_node_by_its_name_where_it_has_one(struct fixture *fixture, void *arg)
{
    struct block_node *node = NULL;
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    (void)arg;
    assert_non_null(options);
    assert_int_equal(node_options_set(options, "driver", "pass", NULL), 0);
    assert_int_equal(node_options_set(options, "file.read-only", "on", NULL), 0);
    assert_int_equal(node_options_set(options, "file.node-name", "base", NULL), 0);
    memory_disk_options(&fixture->disk, options, "file.", "file");
    assert_int_equal(block_co_open(&fixture->env, options, &node, &err), -EROFS);
    assert_non_null(strstr(err.message, "'base' is read-only"));
}

#define TESTS(X)                                         \
    X(a_node_is_found_by_its_name_as_long_as_it_is_open) \
    X(a_node_without_a_name_is_not_found)                \
    X(who_found_a_node_keeps_it_open)                    \
    X(a_name_is_one_node_s_alone)                        \
    X(what_is_no_name_is_refused)                        \
    X(a_graph_that_fails_leaves_its_names_free)          \
    X(a_node_that_is_being_closed_is_not_found)          \
    X(messages_call_a_node_by_its_name_where_it_has_one)

#define DEFINE_TEST(name) FIXTURE_TEST(name, SIZE, SIZE)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
