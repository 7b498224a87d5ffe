/* SPDX-License-Identifier: BSD-3-Clause */
/* node_options.c: paths, kinds of values, subtrees, and the report of what nobody took. */
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

static void the_last_value_given_wins(void **state)
{
    (void)state;
    struct node_options *options = new_options();
    set(options, "size", "1");
    set(options, "other", "x");
    set(options, "size", "2");
    assert_string_equal(node_options_get(options, "size"), "2");
    assert_string_equal(node_options_take(options, "size"), "2");
    assert_true(node_options_has(options, "other"));
    assert_false(node_options_has(options, "othe"));
    assert_null(node_options_take(options, "missing"));
    node_options_free(options);
    node_options_free(NULL);
}

static void an_empty_part_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", ".", "a.", ".a", "a..b"};
    struct node_options *options = new_options();
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        struct error err;
        assert_int_equal(node_options_set(options, wrong[i], "x", &err), -EINVAL);
        assert_non_null(strstr(err.message, "empty part"));
    }
    node_options_free(options);
}

static void sixty_four_parts_are_the_most(void **state)
{
    (void)state;
    struct node_options *options = new_options();
    char path[200];
    struct error err;
    for (unsigned i = 0; i < 64; i++)
        memcpy(path + 2 * i, "a.", 2);
    path[127] = '\0';
    assert_int_equal(node_options_set(options, path, "x", &err), 0);
    memcpy(path + 127, ".b", 3);
    assert_int_equal(node_options_set(options, path, "x", &err), -EINVAL);
    assert_non_null(strstr(err.message, "64"));
    node_options_free(options);
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
    assert_non_null(strstr(err.message, "'flag'"));
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
        assert_non_null(strstr(err.message, "'size'"));
    }
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
    assert_string_equal(err.message,
                        "the option 'preallocation' cannot be 'fast'; say off, falloc or full");
    node_options_free(options);
}

static void a_subtree_is_what_lies_under_its_key(void **state)
{
    (void)state;
    struct node_options *options = new_options();
    set(options, "driver", "raw");
    set(options, "file.driver", "file");
    set(options, "file.deep.er", "1");
    set(options, "filename", "not mine");
    struct node_options *copy = node_options_copy_subtree(options, "file");
    assert_string_equal(node_options_get(copy, "driver"), "file");
    node_options_free(copy);
    struct node_options *file = node_options_take_subtree(options, "file");
    assert_string_equal(node_options_take(file, "driver"), "file");
    assert_string_equal(node_options_take(file, "deep.er"), "1");
    assert_false(node_options_has(file, "name"));
    assert_true(node_options_has(options, "filename"));
    assert_false(node_options_has(options, "file.driver"));
    node_options_free(file);
    struct node_options *nothing = node_options_take_subtree(options, "backing");
    assert_non_null(nothing);
    assert_int_equal(node_options_check_all_taken(nothing, "raw", NULL), 0);
    node_options_free(nothing);
    node_options_free(options);
}

static void an_option_that_nobody_took_is_named_with_its_owner(void **state)
{
    (void)state;
    struct node_options *options = new_options();
    struct error err;
    set(options, "driver", "raw");
    set(options, "sise", "1M");
    node_options_take(options, "driver");
    assert_int_equal(node_options_check_all_taken(options, "the driver raw", &err), -EINVAL);
    assert_string_equal(err.message, "the driver raw knows no option 'sise' (given as '1M')");
    node_options_take(options, "sise");
    assert_int_equal(node_options_check_all_taken(options, "the driver raw", &err), 0);
    node_options_free(options);
}

static void a_subtree_speaks_of_its_options_by_their_whole_path(void **state)
{
    (void)state;
    struct node_options *options = new_options();
    struct error err;
    bool flag = false;
    set(options, "file.file.sise", "1M");
    set(options, "file.file.flag", "perhaps");
    struct node_options *file = node_options_take_subtree(options, "file");
    struct node_options *below = node_options_take_subtree(file, "file");
    assert_int_equal(node_options_check_all_taken(below, "the driver x", &err), -EINVAL);
    assert_string_equal(err.message,
                        "the driver x knows no option 'file.file.sise' (given as '1M')");
    assert_int_equal(node_options_take_bool(below, "flag", &flag, &err), -EINVAL);
    assert_string_equal(err.message,
                        "the option 'file.file.flag' cannot be 'perhaps'; say on or off");
    node_options_free(below);
    node_options_free(file);
    node_options_free(options);
}

static void a_tree_is_moved_below_a_key(void **state)
{
    (void)state;
    struct node_options *options = new_options();
    struct error err;
    set(options, "driver", "raw");
    set(options, "file.filename", "x");
    assert_int_equal(node_options_move_below(options, "file", &err), 0);
    assert_string_equal(node_options_get(options, "file.driver"), "raw");
    assert_string_equal(node_options_get(options, "file.file.filename"), "x");
    assert_false(node_options_has(options, "driver"));
    for (int parts = 3; parts < 64; parts++)
        assert_int_equal(node_options_move_below(options, "file", &err), 0);
    assert_int_equal(node_options_move_below(options, "file", &err), -EINVAL);
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
        assert_non_null(strstr(err.message, "'count'"));
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
        assert_non_null(strstr(err.message, "'delay'"));
    }
    for (unsigned i = 0; i < sizeof(right) / sizeof(*right); i++) {
        set(options, "delay", right[i].text);
        assert_int_equal(node_options_take_duration(options, "delay", &ns, &err), 0);
        assert_true(ns == right[i].ns);
    }
    assert_int_equal(node_options_take_duration(options, "missing", &ns, &err), 0);
    node_options_free(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_value_given_wins),
        cmocka_unit_test(an_empty_part_is_refused_by_name),
        cmocka_unit_test(sixty_four_parts_are_the_most),
        cmocka_unit_test(a_bool_is_spelled_in_three_ways),
        cmocka_unit_test(a_size_has_a_suffix_and_a_bound),
        cmocka_unit_test(a_number_is_digits_alone),
        cmocka_unit_test(a_time_is_in_seconds_or_has_a_unit),
        cmocka_unit_test(a_choice_is_one_of_the_names),
        cmocka_unit_test(a_subtree_is_what_lies_under_its_key),
        cmocka_unit_test(a_subtree_speaks_of_its_options_by_their_whole_path),
        cmocka_unit_test(a_tree_is_moved_below_a_key),
        cmocka_unit_test(an_option_that_nobody_took_is_named_with_its_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
