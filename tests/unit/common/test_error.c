/* SPDX-License-Identifier: BSD-3-Clause */
/* error.c: the sentence is kept whole or cut, never overrun, and the code comes back. */
#include "tests/unit/unit.h"

#include "common/error.h"

#include <errno.h>
#include <string.h>

static void the_code_comes_back_and_the_sentence_is_kept(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(error_set(&err, -ENOENT, "no %s at %d", "image", 7), -ENOENT);
    assert_string_equal(err.message, "no image at 7");
    assert_int_equal(error_set(NULL, -EIO, "nobody listens"), -EIO);
}

static void a_long_sentence_is_cut(void **state)
{
    (void)state;
    struct error err;
    error_set(&err, -EINVAL, "%*s", 2 * ERROR_MESSAGE_MAX, "x");
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
}

static void every_code_has_a_text(void **state)
{
    (void)state;
    assert_string_equal(error_text(-ENOENT), "No such file or directory");
    assert_string_equal(error_text(ENOENT), "No such file or directory");
    assert_string_equal(error_text(-99999), "Unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_code_comes_back_and_the_sentence_is_kept),
        cmocka_unit_test(a_long_sentence_is_cut),
        cmocka_unit_test(every_code_has_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
