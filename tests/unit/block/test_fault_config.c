/* SPDX-License-Identifier: BSD-3-Clause */
/* fault_config.c: a file of rules becomes options; a line that is none is refused by its number. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "block/fault_config.h"
#include "block/filters.h"
#include "tests/unit/block/block_fixture.h"

static int parse(const char *text, struct node_options *rules, struct error *err)
{
    char copy[1000];
    assert_true(strlen(text) < sizeof(copy));
    strcpy(copy, text);
    return fault_config_parse(copy, rules, err);
}

static void sections_become_numbered_options(void **state)
{
    (void)state;
    struct error err = {""};
    struct node_options *rules = node_options_new();
    assert_int_equal(parse("# rules\n\n[inject-error]\nevent = \"l2_load\"\n  errno=28\r\n"
                           "[set-state]\nevent = \"read_aio\"\nnew_state\t= \"2\"\n"
                           "[ inject-error ]\n# one more\nonce = \"on\"",
                           rules, &err),
                     0);
    assert_string_equal(node_options_get(rules, "inject-error.0.event"), "l2_load");
    assert_string_equal(node_options_get(rules, "inject-error.0.errno"), "28");
    assert_string_equal(node_options_get(rules, "set-state.0.event"), "read_aio");
    assert_string_equal(node_options_get(rules, "set-state.0.new_state"), "2");
    assert_string_equal(node_options_get(rules, "inject-error.1.once"), "on");
    node_options_free(rules);
}

static void a_line_that_is_none_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {"\n[inject-error\n", "line 2: a section has no ']'"},
        {"[", "line 1: a section has no ']'"},
        {"[suspend]\n", "line 1: the section 'suspend' is not known"},
        {"[set-state]\nevent\n", "line 2: 'event' is not [SECTION] or KEY"},
        {"errno = 5\n", "line 1: 'errno' stands before the first section"},
        {"[set-state]\nevent = \"x\n", "line 2: the value of 'event' has one quote only"},
        {"[set-state]\nevent = x\"\n", "line 2: the value of 'event' has one quote only"},
        {"[set-state]\nevent = \"\n", "line 2: the value of 'event' has one quote only"},
        {"[set-state]\n= 5\n", "the option name 'set-state.0.' has an empty part"},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct error err = {""};
        struct node_options *rules = node_options_new();
        assert_int_equal(parse(cases[i].text, rules, &err), -EINVAL);
        if (strncmp(err.message, cases[i].sentence, strlen(cases[i].sentence)) != 0)
            fail_msg("%s", err.message);
        node_options_free(rules);
    }
}

/* A driver "file" whose bytes are these, for the file of rules. */
static const char *file_text;
static size_t file_length;

static int text_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    const char *path = node_options_take(options, "filename");
    if (strcmp(path, "rules") != 0)
        return error_set(err, -ENOENT, "there is no '%s'", path);
    assert_true(node->read_only);
    atomic_store(&node->size_bytes, file_length);
    return 0;
}

static void text_co_close(struct block_node *node)
{
    (void)node;
}

static int text_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    (void)node;
    vec_copy_from(vec, file_text + offset);
    return 0;
}

static const struct block_driver text_file = {.name = "file",
                                              .flags = BLOCK_DRIVER_PROTOCOL,
                                              .co_open = text_co_open,
                                              .co_close = text_co_close,
                                              .co_read = text_co_read};
static const struct block_driver *drivers[] = {&block_filter_fault, &text_file, NULL, NULL};

static int co_open_with(struct fixture *fixture, const char *path, const char *text, size_t length,
                        struct error *err)
{
    struct node_options *options = node_options_new();
    file_text = text;
    file_length = length;
    node_options_set(options, "driver", "fault", NULL);
    node_options_set(options, "config", path, NULL);
    node_options_set(options, "inject-error.0.errno", "12", NULL);
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    return block_co_open(&fixture->env, options, &fixture->node, err);
}

static void co_expect(struct fixture *fixture, const char *text, size_t length, int code,
                      const char *sentence)
{
    struct error err = {""};
    assert_int_equal(co_open_with(fixture, "rules", text, length, &err), code);
    if (strncmp(err.message, sentence, strlen(sentence)) != 0)
        fail_msg("%s", err.message);
}

static void co_rules_of_a_file_come_first(struct fixture *fixture, void *arg)
{
    static const char rules[] = "[inject-error]\nerrno=\"28\"\nonce=\"on\"\n";
    uint8_t byte;
    struct error err = {""};
    (void)arg;
    if (co_open_with(fixture, "rules", rules, strlen(rules), &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(fixture_co_read(fixture->node, 0, &byte, 1), -ENOSPC);
    assert_int_equal(fixture_co_read(fixture->node, 0, &byte, 1), -ENOMEM);
    fixture_co_close(fixture);

    co_expect(fixture, "[inject-error]\nerrno=x\n", 23, -EINVAL,
              "config 'rules': inject-error.0.errno: cannot be 'x'");
    co_expect(fixture, "[set-state]\nnew_state=2\n", 24, -EINVAL,
              "config 'rules': set-state.0.event: missing");
    co_expect(fixture, "what", 4, -EINVAL, "config 'rules': line 1: 'what'");
    co_expect(fixture, "#\0\n", 3, -EINVAL, "config 'rules': is no text");
    co_expect(fixture, "", FAULT_CONFIG_BYTES_MAX + 1, -EFBIG, "config 'rules': has 65537 bytes");
    assert_int_equal(co_open_with(fixture, "elsewhere", "", 0, &err), -ENOENT);
    assert_string_equal(err.message, "config 'elsewhere': there is no 'elsewhere'");
    assert_int_equal(co_open_with(fixture, "rules", "", 0, &err), 0);
}
FIXTURE_TEST_WITH(rules_of_a_file_come_first, drivers, 4096, 4096)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sections_become_numbered_options),
        cmocka_unit_test(a_line_that_is_none_is_named),
        cmocka_unit_test(rules_of_a_file_come_first),
    };
    drivers[2] = memory_drivers[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
