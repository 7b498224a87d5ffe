/* SPDX-License-Identifier: BSD-3-Clause */
/* node_options.c: paths, subtrees, sentences, and the report of what nobody took. */
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
    assert_string_equal(err.message, "sise: the driver raw knows no such option (given as '1M')");
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
                        "file.file.sise: the driver x knows no such option (given as '1M')");
    assert_int_equal(node_options_take_bool(below, "flag", &flag, &err), -EINVAL);
    assert_string_equal(err.message, "file.file.flag: cannot be 'perhaps'; say on or off");
    node_options_free(below);
    node_options_free(file);
    node_options_free(options);
}

static void what_is_inherited_is_named_where_it_was_said(void **state)
{
    (void)state;
    struct node_options *options = new_options();
    struct error err;
    bool flag = false;
    set(options, "flag", "perhaps");
    set(options, "own", "above");
    set(options, "file.own", "below");
    struct node_options *file = node_options_take_subtree(options, "file");
    assert_int_equal(node_options_inherit(file, options, "flag", &err), 0);
    assert_int_equal(node_options_inherit(file, options, "own", &err), 0);
    assert_int_equal(node_options_inherit(file, options, "missing", &err), 0);
    assert_string_equal(node_options_get(file, "own"), "below");
    assert_false(node_options_has(file, "missing"));
    assert_int_equal(node_options_take_bool(file, "flag", &flag, &err), -EINVAL);
    assert_string_equal(err.message, "flag: cannot be 'perhaps'; say on or off");
    node_options_free(file);
    node_options_free(options);
}

static void a_refusal_names_the_whole_path_on_one_line(void **state)
{
    (void)state;
    struct node_options *options = new_options();
    struct error err;
    assert_int_equal(node_options_refuse(options, "", -EPERM, &err, "all %s", "of it"), -EPERM);
    assert_string_equal(err.message, "all of it");
    struct node_options *file = node_options_take_subtree(options, "file");
    struct node_options *below = node_options_take_subtree(file, "log");
    node_options_refuse(below, "throttle-group", -EINVAL, &err, "no group \"%s\"", "a\nb");
    assert_string_equal(err.message, "file.log.throttle-group: no group \"a?b\"");
    node_options_refuse(below, "", -EINVAL, &err, "missing");
    assert_string_equal(err.message, "file.log: missing");
    char name[900];
    memset(name, 'x', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    node_options_refuse(below, name, -EINVAL, &err, "no");
    assert_memory_equal(err.message, "file.log.xxx", 12);
    assert_non_null(strstr(err.message, "xxx...xxx"));
    assert_string_equal(err.message + strlen(err.message) - 7, "xxx: no");
    assert_int_equal(node_options_refuse(below, "x", -EIO, NULL, "nobody listens"), -EIO);
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

static void a_moved_option_is_named_as_it_was_written(void **state)
{
    (void)state;
    struct node_options *options = node_options_new();
    struct error err = {.message = ""};
    set(options, "file.name", "x");
    set(options, "size", "1");
    assert_int_equal(node_options_move(options, "file.name", "name", &err), 0);
    assert_string_equal(node_options_get(options, "name"), "x");
    assert_false(node_options_has(options, "file.name"));
    assert_int_equal(node_options_refuse(options, "name", -EINVAL, &err, "wrong"), -EINVAL);
    assert_string_equal(err.message, "file.name: wrong");
    /* what is not there, and what would hide another */
    assert_int_equal(node_options_move(options, "gone", "there", &err), 0);
    assert_false(node_options_has(options, "there"));
    assert_int_equal(node_options_move(options, "size", "name", &err), 0);
    assert_string_equal(node_options_get(options, "name"), "x");
    assert_string_equal(node_options_get(options, "size"), "1");
    assert_int_equal(node_options_move(options, "size", "a..b", &err), -EINVAL);
    node_options_free(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_value_given_wins),
        cmocka_unit_test(an_empty_part_is_refused_by_name),
        cmocka_unit_test(sixty_four_parts_are_the_most),
        cmocka_unit_test(a_subtree_is_what_lies_under_its_key),
        cmocka_unit_test(a_subtree_speaks_of_its_options_by_their_whole_path),
        cmocka_unit_test(what_is_inherited_is_named_where_it_was_said),
        cmocka_unit_test(a_refusal_names_the_whole_path_on_one_line),
        cmocka_unit_test(a_tree_is_moved_below_a_key),
        cmocka_unit_test(a_moved_option_is_named_as_it_was_written),
        cmocka_unit_test(an_option_that_nobody_took_is_named_with_its_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
