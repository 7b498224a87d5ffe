/* SPDX-License-Identifier: BSD-3-Clause */
/* node_options_json.c: objects become dotted keys; everything else is refused in one line. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/node_options.h"

static void expect(const char *text, const char *key, const char *value)
{
    struct node_options *options = node_options_new();
    struct error err = {""};
    if (node_options_parse_json(options, text, &err) < 0)
        fail_msg("'%s' is refused: %s", text, err.message);
    const char *got = node_options_get(options, key);
    if (!got || strcmp(got, value) != 0)
        fail_msg("'%s': %s is '%s', not '%s'", text, key, got ? got : "(nothing)", value);
    node_options_free(options);
}

static void members_and_indices_are_parts_of_a_key(void **state)
{
    (void)state;
    expect("{\"driver\": \"raw\"}", "driver", "raw");
    expect("{\"file\": {\"driver\": \"file\", \"filename\": \"a,b\"}}", "file.filename", "a,b");
    expect("{\"file.filename\": \"a\"}", "file.filename", "a");
    expect("{\"a\": {\"b.c\": {\"d\": \"x\"}}}", "a.b.c.d", "x");
    expect("{\"list\": [\"x\", {\"y\": \"z\"}]}", "list.0", "x");
    expect("{\"list\": [\"x\", {\"y\": \"z\"}]}", "list.1.y", "z");
    expect("{\"name\": \"\\u00e4\\\"\\\\\"}", "name", "\xc3\xa4\"\\");
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_parse_json(options, " { } ", NULL), 0);
    node_options_free(options);
}

static void numbers_and_truth_are_written_as_options(void **state)
{
    (void)state;
    expect("{\"offset\": 9223372036854775807}", "offset", "9223372036854775807");
    expect("{\"offset\": -1}", "offset", "-1");
    expect("{\"read-only\": true}", "read-only", "on");
    expect("{\"read-only\": false}", "read-only", "off");
    expect("{\"size\": \"10M\"}", "size", "10M");
}

static void expect_refused(const char *text, const char *part)
{
    struct node_options *options = node_options_new();
    struct error err = {""};
    assert_int_equal(node_options_parse_json(options, text, &err), -EINVAL);
    if (!strstr(err.message, part))
        fail_msg("'%s' is not in: %s", part, err.message);
    assert_null(strchr(err.message, '\n'));
    node_options_free(options);
}

static void what_is_no_json_is_refused_at_its_place(void **state)
{
    (void)state;
    expect_refused("", "near byte 0");
    expect_refused("{\"driver\": raw}", "near byte 14: ");
    expect_refused("{\"driver\": \"raw\"", "'}' expected");
    expect_refused("{\"a\": \"x\"} {", "the JSON is wrong near byte");
    expect_refused("{\"a\": \n\n \"b\n\"}", "the JSON is wrong near byte");
    expect_refused("{\"a\": \"\\u0000\"}", "the JSON is wrong near byte");
    expect_refused("{\"a\": \"\xff\"}", "the JSON is wrong near byte");
    expect_refused("{\"a\": 99999999999999999999}", "the JSON is wrong near byte");
    expect_refused("[\"a\"]", "no object");
    expect_refused("\"a\"", "the JSON is wrong near byte");
}

static void what_is_no_option_is_refused_by_name(void **state)
{
    (void)state;
    expect_refused("{\"offset\": 1.5}", "offset: ");
    expect_refused("{\"file\": {\"filename\": null}}", "file.filename: ");
    expect_refused("{\"file\": {}}", "file: empty, null");
    expect_refused("{\"file\": [[]]}", "file.0: ");
    expect_refused("{\"a\": 1, \"a\": 2}", "\"a\"");
    expect_refused("{\"a.b\": 1, \"a\": {\"b\": 2}}", "a.b: given twice");
    expect_refused("{\"\": 1}", "empty part");
    expect_refused("{\"a..b\": 1}", "'a..b'");
}

static const char *chain_of_lists(char *text, unsigned lists)
{
    char *at = text + sprintf(text, "{\"a\":");
    memset(at, '[', lists);
    at += lists;
    at += sprintf(at, "\"x\"");
    memset(at, ']', lists);
    strcpy(at + lists, "}");
    return text;
}

static void depth_number_and_length_are_bounded(void **state)
{
    (void)state;
    static char text[NODE_OPTIONS_TEXT_MAX + 2];
    expect(chain_of_lists(text, 63),
           "a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0"
           ".0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0",
           "x");
    expect_refused(chain_of_lists(text, 64), "a.0.0.0.0");
    expect_refused(chain_of_lists(text, 64), ": the JSON is nested deeper than 64 levels");
    expect("{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[[[[[\"}", "a",
           "[[[[[[[[[[[[[[[[[[[[[[\"[[[[[[[[[[");
    memset(text, '[', NODE_OPTIONS_TEXT_MAX);
    expect_refused(text, "deeper than 64");
    char *at = text + sprintf(text, "{\"k\":[0");
    for (unsigned i = 1; i < NODE_OPTIONS_COUNT_MAX; i++)
        at += sprintf(at, ",%u", i);
    strcpy(at, "]}");
    expect(text, "k.1023", "1023");
    strcpy(at, ",1]}");
    expect_refused(text, "there are more than 1024 options");
    at = text + sprintf(text, "{\"");
    memset(at, 'k', 1100);
    strcpy(at + 1100, "\":1}");
    expect_refused(text, "is too long");
    memset(text, ' ', NODE_OPTIONS_TEXT_MAX + 1);
    expect_refused(text, "the JSON is 65537 bytes long; 65536 are allowed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_and_indices_are_parts_of_a_key),
        cmocka_unit_test(numbers_and_truth_are_written_as_options),
        cmocka_unit_test(what_is_no_json_is_refused_at_its_place),
        cmocka_unit_test(what_is_no_option_is_refused_by_name),
        cmocka_unit_test(depth_number_and_length_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
