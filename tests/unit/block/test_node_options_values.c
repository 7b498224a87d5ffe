/* SPDX-License-Identifier: BSD-3-Clause */
/* node_options_values.c: each kind of value, and the sentence about one that is none. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/node_options.h"

static struct node_options *new_options(void)
{
    struct node_options *options = node_options_new();
    assert_non_null(options);
    return options;
}

static void set(struct node_options *options, const char *path, const char *value)
{
    assert_int_equal(node_options_set(options, path, value, NULL), 0);
}

static void a_bool_is_spelled_in_three_ways(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool value;
    } cases[] = {{"on", true},   {"true", true},   {"yes", true},
                 {"off", false}, {"false", false}, {"no", false}};
    struct node_options *options = new_options();
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        bool value = !cases[i].value;
        set(options, "flag", cases[i].text);
        assert_int_equal(node_options_take_bool(options, "flag", &value, NULL), 0);
        assert_int_equal(value, cases[i].value);
    }
    struct error err;
    bool value = true;
    set(options, "flag", "maybe");
    assert_int_equal(node_options_take_bool(options, "flag", &value, &err), -EINVAL);
    assert_true(value);
    assert_non_null(strstr(err.message, "flag: "));
    assert_non_null(strstr(err.message, "'maybe'"));
    assert_int_equal(node_options_take_bool(options, "missing", &value, NULL), 0);
    assert_true(value);
    node_options_free(options);
}

static void a_size_has_a_suffix_and_a_bound(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } right[] = {{"0", 0},
                 {"4096", 4096},
                 {"64K", 65536},
                 {"64k", 65536},
                 {"10M", UINT64_C(10) << 20},
                 {"1G", UINT64_C(1) << 30},
                 {"2T", UINT64_C(2) << 40},
                 {"15E", UINT64_C(15) << 60},
                 {"18446744073709551615", UINT64_MAX}};
    static const char *const wrong[] = {
        "",  "K", "-1", "+1", " 1", "1 ", "1KB", "0x10", "1.5G", "16E", "18446744073709551616",
        "1X"};
    struct node_options *options = new_options();
    for (unsigned i = 0; i < sizeof(right) / sizeof(*right); i++) {
        uint64_t bytes = 7;
        set(options, "size", right[i].text);
        assert_int_equal(node_options_take_size(options, "size", &bytes, NULL), 0);
        assert_true(bytes == right[i].bytes);
    }
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        uint64_t bytes = 7;
        struct error err;
        set(options, "size", wrong[i]);
        assert_int_equal(node_options_take_size(options, "size", &bytes, &err), -EINVAL);
        assert_int_equal(bytes, 7);
        assert_non_null(strstr(err.message, "size: "));
    }
    node_options_free(options);
}

static void a_number_is_digits_alone(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "", "-1", "+1", " 1", "1 ", "1K", "0x10", "1.5", "18446744073709551616"};
    struct node_options *options = new_options();
    struct error err;
    uint64_t number = 7;
    assert_int_equal(node_options_take_number(options, "missing", &number, &err), 0);
    assert_int_equal(number, 7);
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        set(options, "count", wrong[i]);
        assert_int_equal(node_options_take_number(options, "count", &number, &err), -EINVAL);
        assert_int_equal(number, 7);
        assert_non_null(strstr(err.message, "count: "));
    }
    set(options, "count", "18446744073709551615");
    assert_int_equal(node_options_take_number(options, "count", &number, &err), 0);
    assert_int_equal(number, UINT64_MAX);
    set(options, "count", "0");
    assert_int_equal(node_options_take_number(options, "count", &number, &err), 0);
    assert_int_equal(number, 0);
    assert_int_equal(node_options_check_all_taken(options, "nobody", &err), 0);
    node_options_free(options);
}

static void a_time_is_in_seconds_or_has_a_unit(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ns;
    } right[] = {{"0", 0},           {"2", 2000000000},
                 {"3s", 3000000000}, {"300ms", 300000000},
                 {"40us", 40000},    {"18446744073", UINT64_C(18446744073000000000)}};
    static const char *const wrong[] = {
        "", "ms", "-1ms", "1 ms", "1m", "1.5", "1ns", "18446744074", "18446744073709551615us"};
    struct node_options *options = new_options();
    struct error err;
    uint64_t ns = 7;
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        set(options, "delay", wrong[i]);
        assert_int_equal(node_options_take_duration(options, "delay", &ns, &err), -EINVAL);
        assert_int_equal(ns, 7);
        assert_non_null(strstr(err.message, "delay: "));
    }
    for (unsigned i = 0; i < sizeof(right) / sizeof(*right); i++) {
        set(options, "delay", right[i].text);
        assert_int_equal(node_options_take_duration(options, "delay", &ns, &err), 0);
        assert_true(ns == right[i].ns);
    }
    assert_int_equal(node_options_take_duration(options, "missing", &ns, &err), 0);
    node_options_free(options);
}

static void a_choice_is_one_of_the_names(void **state)
{
    (void)state;
    static const char *const names[] = {"off", "falloc", "full", NULL};
    struct node_options *options = new_options();
    unsigned index = 9;
    struct error err;
    set(options, "preallocation", "full");
    assert_int_equal(node_options_take_choice(options, "preallocation", names, &index, NULL), 0);
    assert_int_equal(index, 2);
    set(options, "preallocation", "fast");
    assert_int_equal(node_options_take_choice(options, "preallocation", names, &index, &err),
                     -EINVAL);
    assert_int_equal(index, 2);
    assert_string_equal(err.message, "preallocation: cannot be 'fast'; say off, falloc or full");
    node_options_free(options);
}

static void a_string_is_text_and_nothing_else(void **state)
{
    (void)state;
    struct node_options *options = new_options();
    const char *value = "old";
    struct error err;
    assert_int_equal(node_options_take_string(options, "name", &value, &err), 0);
    assert_string_equal(value, "old");
    set(options, "name", "7");
    assert_int_equal(node_options_take_string(options, "name", &value, &err), 0);
    assert_string_equal(value, "7");
    value = "old";
    node_options_set_kind(options, "name", "8", NODE_OPTION_NUMBER, NULL);
    assert_int_equal(node_options_take_string(options, "name", &value, &err), -EINVAL);
    assert_string_equal(err.message, "name: must be a string, not the number 8");
    node_options_set_kind(options, "name", "on", NODE_OPTION_TRUTH, NULL);
    assert_int_equal(node_options_take_string(options, "name", &value, &err), -EINVAL);
    assert_string_equal(err.message, "name: must be a string, not true or false");
    set(options, "list.0", "x");
    assert_int_equal(node_options_take_string(options, "list", &value, &err), -EINVAL);
    assert_string_equal(err.message, "list: must be a string, not an object or a list");
    assert_string_equal(value, "old");
    node_options_free(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bool_is_spelled_in_three_ways),
        cmocka_unit_test(a_size_has_a_suffix_and_a_bound),
        cmocka_unit_test(a_number_is_digits_alone),
        cmocka_unit_test(a_time_is_in_seconds_or_has_a_unit),
        cmocka_unit_test(a_choice_is_one_of_the_names),
        cmocka_unit_test(a_string_is_text_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
