/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/progress.h"

static int ends[2];

/* What was written since the last call. */
static const char *shown(void)
{
    static char text[20000];
    ssize_t length = read(ends[0], text, sizeof(text) - 1);
    text[length > 0 ? length : 0] = '\0';
    return text;
}

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    progress_set_terminal(ends[1]);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    progress_set_terminal(-1);
    close(ends[0]);
    close(ends[1]);
    return 0;
}

static void each_percent_is_shown_once_and_the_line_is_cleared(void **state)
{
    struct progress progress;
    (void)state;
    progress_start(&progress, "repairs", "disk.qcow2", 1000);
    assert_string_equal(shown(), "");
    progress_step(&progress, 1);
    assert_string_equal(shown(), "\rplatter: repairs 'disk.qcow2': 0 %\033[K");
    progress_step(&progress, 1);
    assert_string_equal(shown(), "");
    progress_step(&progress, 8);
    assert_string_equal(shown(), "\rplatter: repairs 'disk.qcow2': 1 %\033[K");
    progress_step(&progress, 5000); /* more than was thought */
    assert_string_equal(shown(), "\rplatter: repairs 'disk.qcow2': 100 %\033[K");
    progress_step(&progress, 1);
    assert_string_equal(shown(), "");
    progress_end(&progress);
    assert_string_equal(shown(), "\r\033[K");
}

static void what_has_not_begun_leaves_no_trace(void **state)
{
    struct progress progress;
    (void)state;
    progress_start(&progress, "repairs", "a", 7);
    progress_end(&progress);
    progress_step(NULL, 1);
    assert_string_equal(shown(), "");
    progress_start(&progress, "repairs", "a", 0);
    progress_step(&progress, UINT64_MAX);
    assert_non_null(strstr(shown(), "100 %"));
    progress_end(&progress);
}

static void a_long_name_is_cut_and_no_line_is_too_long(void **state)
{
    char name[500];
    struct progress progress;
    (void)state;
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    progress_start(&progress, "repairs", name, 1);
    progress_step(&progress, 1);
    const char *line = shown();
    assert_true(strlen(line) > 40 && strlen(line) < 80);
    assert_non_null(strstr(line, "xxx': 100 %"));
    progress_end(&progress);
}

static void without_a_terminal_nothing_is_shown(void **state)
{
    struct progress progress;
    (void)state;
    progress_set_terminal(-1);
    progress_start(&progress, "repairs", "a", 2);
    progress_step(&progress, 1);
    progress_end(&progress);
    assert_string_equal(shown(), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_percent_is_shown_once_and_the_line_is_cleared, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_has_not_begun_leaves_no_trace, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_name_is_cut_and_no_line_is_too_long, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(without_a_terminal_nothing_is_shown, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
