/* SPDX-License-Identifier: BSD-3-Clause */
/* names.c: the specification's words, and a client's bytes made harmless. */
#include "tests/unit/unit.h"

#include "protocol/names.h"
#include "protocol/wire.h"

#include <string.h>

static void numbers_have_the_words_of_the_specification(void **state)
{
    (void)state;
    assert_string_equal(nbd_option_name(NBD_OPT_GO), "NBD_OPT_GO");
    assert_string_equal(nbd_option_name(NBD_OPT_EXTENDED_HEADERS), "NBD_OPT_EXTENDED_HEADERS");
    assert_string_equal(nbd_option_name(0), "unknown");
    assert_string_equal(nbd_command_name(NBD_CMD_BLOCK_STATUS), "NBD_CMD_BLOCK_STATUS");
    assert_string_equal(nbd_command_name(0xffff), "unknown");
    assert_string_equal(nbd_error_name(NBD_ENOSPC), "NBD_ENOSPC");
    assert_string_equal(nbd_error_name(2), "unknown");
}

static void a_plain_name_is_quoted_as_it_is(void **state)
{
    (void)state;
    char text[NBD_QUOTE_SIZE];
    assert_string_equal(nbd_quote(text, "my disk", 7), "\"my disk\"");
    assert_string_equal(nbd_quote(text, NULL, 0), "\"\"");
}

static void hostile_bytes_are_escaped(void **state)
{
    (void)state;
    char text[NBD_QUOTE_SIZE];
    assert_string_equal(nbd_quote(text, "a\"\\\n\0\x1b[2J\xff", 10),
                        "\"a\\x22\\x5c\\x0a\\x00\\x1b[2J\\xff\"");
}

static void a_long_name_is_cut_and_fits(void **state)
{
    (void)state;
    char text[NBD_QUOTE_SIZE];
    char name[NBD_STRING_MAX];
    memset(name, 0xff, sizeof(name));
    nbd_quote(text, name, sizeof(name));
    assert_int_equal(strlen(text), NBD_QUOTE_SIZE - 1);
    assert_string_equal(text + strlen(text) - 4, "\"...");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_have_the_words_of_the_specification),
        cmocka_unit_test(a_plain_name_is_quoted_as_it_is),
        cmocka_unit_test(hostile_bytes_are_escaped),
        cmocka_unit_test(a_long_name_is_cut_and_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
