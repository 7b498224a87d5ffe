/* SPDX-License-Identifier: BSD-3-Clause */
/* node_options_text.c: key=value,... as qemu's programs read it. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/node_options.h"

static struct node_options *parse(const char *text)
{
    struct node_options *options = node_options_new();
    struct error err = {""};
    if (node_options_parse(options, text, &err) < 0)
        fail_msg("'%s' is refused: %s", text, err.message);
    return options;
}

static void expect(const char *text, const char *key, const char *value)
{
    struct node_options *options = parse(text);
    const char *got = node_options_get(options, key);
    if (!got || strcmp(got, value) != 0)
        fail_msg("'%s': %s is '%s', not '%s'", text, key, got ? got : "(nothing)", value);
    node_options_free(options);
}

static void keys_have_values_between_commas(void **state)
{
    (void)state;
    expect("driver=raw", "driver", "raw");
    expect("driver=raw,file.filename=/a b/c", "file.filename", "/a b/c");
    expect("driver=raw,file.filename=x,offset=5", "offset", "5");
    expect("a=1,a=2", "a", "2");
    expect("a=", "a", "");
    expect("a=,b=2", "b", "2");
    expect("a=b=c", "a", "b=c");
    expect("a=1,", "a", "1");
    node_options_free(parse(""));
}

static void two_commas_in_a_value_are_one(void **state)
{
    (void)state;
    expect("a=x,,y", "a", "x,y");
    expect("a=,,", "a", ",");
    expect("a=x,,,b=2", "a", "x,");
    expect("a=x,,,b=2", "b", "2");
    expect("a=,,,,", "a", ",,");
    expect("a=x,,b=2", "a", "x,b=2");
}

static void expect_refused(const char *text, const char *sentence)
{
    struct node_options *options = node_options_new();
    struct error err = {""};
    assert_int_equal(node_options_parse(options, text, &err), -EINVAL);
    assert_string_equal(err.message, sentence);
    node_options_free(options);
}

static void what_is_no_key_with_a_value_is_refused_by_name(void **state)
{
    (void)state;
    expect_refused("disk.img", "'disk.img' among the options has no '='; write key=value");
    expect_refused("driver=raw,readonly",
                   "'readonly' among the options has no '='; write key=value");
    expect_refused("a=1,,,b", "'b' among the options has no '='; write key=value");
    expect_refused(",", "'' among the options has no '='; write key=value");
    expect_refused("=x", "the option name '' has an empty part; parts are names with one dot "
                         "between them");
    expect_refused("file..name=x", "the option name 'file..name' has an empty part; parts are "
                                   "names with one dot between them");
}

static void number_and_length_are_bounded(void **state)
{
    (void)state;
    static char text[NODE_OPTIONS_TEXT_MAX + 2];
    char *at = text;
    for (unsigned i = 0; i < NODE_OPTIONS_COUNT_MAX; i++)
        at += sprintf(at, "k%u=%u,", i, i);
    expect(text, "k1023", "1023");
    strcpy(at, "k=1");
    expect_refused(text, "there are more than 1024 options");
    memset(text, 'x', sizeof(text) - 1);
    text[1] = '=';
    text[NODE_OPTIONS_TEXT_MAX] = '\0';
    node_options_free(parse(text));
    text[NODE_OPTIONS_TEXT_MAX] = 'x';
    expect_refused(text, "the options are 65537 bytes long; 65536 are allowed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_have_values_between_commas),
        cmocka_unit_test(two_commas_in_a_value_are_one),
        cmocka_unit_test(what_is_no_key_with_a_value_is_refused_by_name),
        cmocka_unit_test(number_and_length_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
