/* SPDX-License-Identifier: BSD-3-Clause */
/* graph.c and node.c: trees of options become trees of nodes, and every mistake is one sentence
 * that names the thing. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/graph.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 65536

static struct node_options *options_of(const char *const *paths_and_values)
{
    struct node_options *options = node_options_new();
    assert_non_null(options);
    for (unsigned i = 0; paths_and_values[i]; i += 2)
        assert_int_equal(
            node_options_set(options, paths_and_values[i], paths_and_values[i + 1], NULL), 0);
    return options;
}

#define OPTIONS(...) options_of((const char *const[]){__VA_ARGS__, NULL})

/* Opening fails with code, and the sentence has the part in it. */
static void co_expect_refused(struct fixture *fixture, struct node_options *options, int code,
                              const char *part)
{
    struct block_node *node = NULL;
    struct error err = {.message = ""};
    assert_int_equal(block_co_open(&fixture->env, options, &node, &err), code);
    assert_null(node);
    if (!strstr(err.message, part))
        fail_msg("'%s' is not in: %s", part, err.message);
}

static void co_an_unknown_driver_is_named_with_those_there_are(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_expect_refused(fixture, OPTIONS("driver", "qcow9"), -EINVAL, "'qcow9'");
    co_expect_refused(fixture, OPTIONS("driver", "qcow9"), -EINVAL, "file, growing, bare, pass");
    co_expect_refused(fixture, OPTIONS("size", "1"), -EINVAL, "driver: missing; say one of: ");
}

static void co_an_option_nobody_knows_closes_what_was_opened(struct fixture *fixture, void *arg)
{
    struct node_options *options = OPTIONS("driver", "pass", "file.colour", "red");
    (void)arg;
    memory_disk_options(&fixture->disk, options, "file.", "file");
    co_expect_refused(fixture, options, -EINVAL, "file.colour: ");
    assert_int_equal(fixture->disk.counts[MEMORY_OPEN], 1);
    assert_int_equal(fixture->disk.counts[MEMORY_CLOSE], 1);

    options = OPTIONS("driver", "pass", "colour", "red");
    memory_disk_options(&fixture->disk, options, "file.", "file");
    co_expect_refused(fixture, options, -EINVAL, "colour: the driver pass knows no such option");
    assert_int_equal(fixture->disk.counts[MEMORY_OPEN], 2);
    assert_int_equal(fixture->disk.counts[MEMORY_CLOSE], 2);
}

static void co_a_child_that_cannot_be_opened_fails_its_parent(struct fixture *fixture, void *arg)
{
    struct node_options *options = OPTIONS("driver", "pass", "file.filename", "gone.img");
    (void)arg;
    memory_disk_options(&fixture->disk, options, "file.", "file");
    fixture->disk.fail_code = -ENOENT;
    fixture->disk.fail_ops = 1u << MEMORY_OPEN;
    co_expect_refused(fixture, options, -ENOENT, "'gone.img'");
    fixture->disk.fail_code = 0;
    assert_int_equal(fixture->disk.counts[MEMORY_CLOSE], 0);
}

static void co_a_child_is_described_by_its_keys(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_expect_refused(fixture, OPTIONS("driver", "pass"), -EINVAL,
                      "the driver pass needs a node below it; say file.filename=PATH");
    co_expect_refused(fixture, OPTIONS("driver", "pass", "file", "node0"), -EINVAL,
                      "file: cannot be 'node0'");
    /* A path alone is a file. */
    struct node_options *options = OPTIONS("driver", "pass", "file.filename", "disk.img");
    char value[32];
    snprintf(value, sizeof(value), "%jx", (uintmax_t)(uintptr_t)&fixture->disk);
    node_options_set(options, "file.disk", value, NULL);
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, NULL), 0);
    assert_string_equal(block_node_driver_name(fixture->node->file), "file");
    fixture_co_close(fixture);
}

static void co_a_child_to_be_written_is_not_read_only(struct fixture *fixture, void *arg)
{
    struct node_options *options = OPTIONS("driver", "pass", "file.read-only", "on");
    (void)arg;
    memory_disk_options(&fixture->disk, options, "file.", "file");
    co_expect_refused(fixture, options, -EROFS, "is read-only, but the node above it");
    assert_int_equal(fixture->disk.counts[MEMORY_CLOSE], 1);
}

static void co_what_is_said_of_a_node_is_passed_down(struct fixture *fixture, void *arg)
{
    static const char *const keys[] = {"cache.direct", "cache.no-flush", "discard", "aio"};
    (void)arg;
    /* The disk in memory knows none of them, and says which it was given. */
    for (int i = 0; i < 4; i++) {
        char sentence[100];
        struct node_options *options = OPTIONS("driver", "pass", "file.driver", "pass");
        memory_disk_options(&fixture->disk, options, "file.file.", "file");
        node_options_set(options, keys[i], "above", NULL);
        snprintf(sentence, sizeof(sentence),
                 "%s: the driver file knows no such option (given as 'above')", keys[i]);
        co_expect_refused(fixture, options, -EINVAL, sentence);

        options = OPTIONS("driver", "pass", "file.driver", "pass");
        memory_disk_options(&fixture->disk, options, "file.file.", "file");
        node_options_set(options, keys[i], "above", NULL);
        char path[40];
        snprintf(path, sizeof(path), "file.%s", keys[i]);
        node_options_set(options, path, "below", NULL);
        snprintf(sentence, sizeof(sentence), "(given as 'below')");
        co_expect_refused(fixture, options, -EINVAL, sentence);
    }
}

static struct node_options *nested(struct fixture *fixture, unsigned passes)
{
    struct node_options *options = node_options_new();
    char path[512] = "", key[600];
    for (unsigned i = 0; i < passes; i++) {
        snprintf(key, sizeof(key), "%sdriver", path);
        assert_int_equal(node_options_set(options, key, "pass", NULL), 0);
        strcat(path, "file.");
    }
    char value[32];
    snprintf(key, sizeof(key), "%sdriver", path);
    assert_int_equal(node_options_set(options, key, "file", NULL), 0);
    snprintf(key, sizeof(key), "%sdisk", path);
    snprintf(value, sizeof(value), "%jx", (uintmax_t)(uintptr_t)&fixture->disk);
    assert_int_equal(node_options_set(options, key, value, NULL), 0);
    return options;
}

static void co_sixty_four_nodes_are_the_deepest_graph(struct fixture *fixture, void *arg)
{
    uint8_t data[100] = {7};
    (void)arg;
    assert_int_equal(block_co_open(&fixture->env, nested(fixture, 63), &fixture->node, NULL), 0);
    assert_int_equal(fixture_co_write(fixture->node, 1, data, 100, BLOCK_FUA), 0);
    assert_int_equal(fixture->disk.data[1], 7);
    fixture_co_close(fixture);

    /* No option may have 65 parts, so the deepest is asked for as a child of a child. */
    struct block_node parent = {.env = &fixture->env, .name = (char[]){"deep"}, .depth = 64};
    struct block_node *child;
    struct error err;
    struct node_options *options = node_options_new();
    memory_disk_options(&fixture->disk, options, "file.", "file");
    assert_int_equal(block_co_open_child(&parent, options, "file", &child, &err), -ELOOP);
    assert_non_null(strstr(err.message, "64"));
    node_options_free(options);
}

static void co_a_node_without_writing_must_be_opened_read_only(struct fixture *fixture, void *arg)
{
    (void)fixture;
    (void)arg;
    struct block_driver reader = *memory_drivers[0];
    reader.name = "reader";
    reader.co_write = NULL;
    const struct block_driver *const drivers[] = {&reader, NULL};
    fixture->env.drivers = drivers;
    struct node_options *options = node_options_new();
    memory_disk_options(&fixture->disk, options, "", "reader");
    co_expect_refused(fixture, options, -EROFS, "read-only");
    options = OPTIONS("read-only", "on");
    memory_disk_options(&fixture->disk, options, "", "reader");
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, NULL), 0);
    fixture_co_close(fixture);
    fixture->env.drivers = memory_drivers;
}

static void co_children_are_read_only_as_their_parent_is(struct fixture *fixture, void *arg)
{
    struct node_options *options = OPTIONS("driver", "pass", "read-only", "on");
    uint8_t data[1];
    (void)arg;
    memory_disk_options(&fixture->disk, options, "file.", "file");
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, NULL), 0);
    assert_true(fixture->node->read_only);
    assert_true(fixture->node->file->read_only);
    assert_int_equal(fixture_co_write(fixture->node, 0, data, 1, 0), -EPERM);
    co_expect_refused(fixture, OPTIONS("driver", "pass", "read-only", "perhaps"), -EINVAL,
                      "'perhaps'");
}

static void co_a_format_is_called_by_the_name_of_its_file(struct fixture *fixture, void *arg)
{
    struct node_options *options = OPTIONS("driver", "pass", "file.filename", "a/disk.img");
    (void)arg;
    memory_disk_options(&fixture->disk, options, "file.", "file");
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, NULL), 0);
    assert_string_equal(fixture->node->name, "a/disk.img");
    assert_string_equal(block_node_driver_name(fixture->node), "pass");
    assert_string_equal(block_node_driver_name(fixture->node->file), "file");
}

static void co_the_last_reference_closes_the_top_before_its_children(struct fixture *fixture,
                                                                     void *arg)
{
    (void)arg;
    fixture_co_open(fixture, "file", true);
    struct block_node *file = block_node_ref(fixture->node->file);
    struct block_node *again = block_node_ref(fixture->node);
    block_co_node_unref(again);
    assert_int_equal(fixture->disk.counts[MEMORY_CLOSE], 0);
    fixture_co_close(fixture);
    assert_int_equal(fixture->disk.counts[MEMORY_CLOSE], 0);
    block_co_node_unref(file);
    assert_int_equal(fixture->disk.counts[MEMORY_CLOSE], 1);
    block_co_node_unref(NULL);
}

static void co_a_size_that_no_kernel_offset_holds_is_refused(struct fixture *fixture, void *arg)
{
    struct node_options *options = node_options_new();
    (void)arg;
    fixture->disk.size_bytes = UINT64_MAX - 4096;
    memory_disk_options(&fixture->disk, options, "", "file");
    co_expect_refused(fixture, options, -EFBIG, "18446744073709547519");
    assert_int_equal(fixture->disk.counts[MEMORY_CLOSE], 1);
}

static void co_an_unknown_format_lists_the_formats_without_protocols(struct fixture *fixture,
                                                                     void *arg)
{
    struct block_node *node = NULL;
    struct error err;
    (void)arg;
    assert_int_equal(
        block_co_open_image(&fixture->env, "disk.img", "floppy", node_options_new(), &node, &err),
        -EINVAL);
    assert_string_equal(err.message,
                        "the image format 'floppy' is not supported; supported formats: pass");
    assert_int_equal(graph_check_format(&fixture->env, "file", &err), -EINVAL);
    assert_int_equal(graph_check_format(&fixture->env, "pass", &err), 0);
}

static void co_an_image_of_a_named_format_stands_on_the_protocol_file(struct fixture *fixture,
                                                                      void *arg)
{
    struct node_options *options = node_options_new();
    (void)arg;
    memcpy(fixture->disk.data, "QFI\xfb\0\0\0\3", 8); /* not looked at: the format is named */
    memory_disk_options(&fixture->disk, options, "file.", "file");
    assert_int_equal(
        block_co_open_image(&fixture->env, "disk.img", "pass", options, &fixture->node, NULL), 0);
    assert_string_equal(block_node_driver_name(fixture->node), "pass");
    assert_string_equal(block_node_driver_name(fixture->node->file), "file");
    assert_string_equal(fixture->node->name, "disk.img");
    assert_int_equal(fixture->disk.counts[MEMORY_OPEN], 1);
}

#define TESTS(X)                                             \
    X(an_unknown_driver_is_named_with_those_there_are)       \
    X(an_option_nobody_knows_closes_what_was_opened)         \
    X(a_child_that_cannot_be_opened_fails_its_parent)        \
    X(a_child_is_described_by_its_keys)                      \
    X(a_child_to_be_written_is_not_read_only)                \
    X(what_is_said_of_a_node_is_passed_down)                 \
    X(sixty_four_nodes_are_the_deepest_graph)                \
    X(a_node_without_writing_must_be_opened_read_only)       \
    X(children_are_read_only_as_their_parent_is)             \
    X(a_format_is_called_by_the_name_of_its_file)            \
    X(the_last_reference_closes_the_top_before_its_children) \
    X(a_size_that_no_kernel_offset_holds_is_refused)         \
    X(an_unknown_format_lists_the_formats_without_protocols) \
    X(an_image_of_a_named_format_stands_on_the_protocol_file)

#define DEFINE_TEST(name) FIXTURE_TEST(name, SIZE, SIZE)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
