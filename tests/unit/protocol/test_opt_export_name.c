/* SPDX-License-Identifier: BSD-3-Clause */
/* opt_export_name.c: the one option without an error reply. */
#include "tests/unit/unit.h"

#include "tests/unit/protocol/fixture.h"

#include "common/endian.h"

#include <stdlib.h>
#include <string.h>

static void play(struct talk *talk, uint32_t client_flags, const void *name, size_t length)
{
    talk_begin(talk, client_flags);
    talk_option(talk, NBD_OPT_EXPORT_NAME, name, length);
    talk_play(talk);
}

static void expect_closed(const void *name, size_t length)
{
    struct talk talk;
    play(&talk, NBD_FLAG_C_FIXED_NEWSTYLE, name, length);
    assert_int_equal(talk.event, HANDSHAKE_CLOSE);
    assert_int_equal(talk.answers.length, 0);
    assert_false(talk.handshake.is_ordinary);
    talk_end(&talk);
}

static void the_reply_is_134_bytes_or_10_when_zeroes_are_not_wanted(void **state)
{
    (void)state;
    static const struct {
        uint32_t flags;
        size_t length;
    } table[] = {{0, 134},
                 {NBD_FLAG_C_FIXED_NEWSTYLE, 134},
                 {NBD_FLAG_C_NO_ZEROES, 10},
                 {NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES, 10}};
    static const uint8_t zeroes[124];
    for (size_t i = 0; i < 4; i++) {
        struct talk talk;
        play(&talk, table[i].flags, "disk", 4);
        assert_int_equal(talk.event, HANDSHAKE_READY);
        assert_ptr_equal(talk.handshake.result.export, &fixture_disk);
        assert_int_equal(talk.handshake.result.headers, NBD_HEADERS_SIMPLE);
        assert_int_equal(talk.answers.length, table[i].length);
        assert_true(load_be64(talk.answers.data) == FIXTURE_SIZE);
        assert_int_equal(load_be16(talk.answers.data + 8), FIXTURE_FLAGS | NBD_FLAG_HAS_FLAGS);
        assert_memory_equal(talk.answers.data + 10, zeroes, table[i].length - 10);
        talk_end(&talk);
    }
}

static void the_empty_name_is_the_default_export(void **state)
{
    (void)state;
    struct talk talk;
    play(&talk, 0, NULL, 0);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    assert_ptr_equal(talk.handshake.result.export, &fixture_default);
    talk_end(&talk);
}

static void an_unknown_name_closes_and_the_log_line_is_harmless(void **state)
{
    (void)state;
    struct talk talk;
    play(&talk, 0, "no\n\x1b[31m", 8);
    assert_int_equal(talk.event, HANDSHAKE_CLOSE);
    assert_int_equal(talk.answers.length, 0);
    assert_string_equal(talk.handshake.reason,
                        "the client asked for export \"no\\x0a\\x1b[31m\", which is not here");
    talk_end(&talk);
}

static void a_nul_in_the_name_closes_and_does_not_cut_it(void **state)
{
    (void)state;
    expect_closed("disk\0", 5);
    expect_closed("disk\0x", 6);
    expect_closed("\0", 1);
}

static void a_name_past_4096_bytes_closes(void **state)
{
    (void)state;
    char *name = malloc(NBD_STRING_MAX + 1);
    memset(name, 'n', NBD_STRING_MAX + 1);
    expect_closed(name, NBD_STRING_MAX);
    expect_closed(name, NBD_STRING_MAX + 1);
    free(name);
}

static void a_name_that_will_be_too_long_closes_before_it_comes(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {NBD_STRING_MAX + 1, 0x7fffffff, 0xffffffff};
    for (size_t i = 0; i < 3; i++) {
        struct talk talk;
        talk_begin(&talk, 0);
        writer_be64(&talk.script, NBD_OPTS_MAGIC);
        writer_be32(&talk.script, NBD_OPT_EXPORT_NAME);
        writer_be32(&talk.script, lengths[i]);
        talk_play(&talk);
        assert_int_equal(talk.event, HANDSHAKE_CLOSE);
        assert_int_equal(talk.answers.length, 0);
        assert_non_null(strstr(talk.handshake.reason, "an export name of"));
        talk_end(&talk);
    }
}

static void contexts_and_structured_replies_hold_for_export_name_too(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
    talk_empty(&talk, NBD_OPT_STRUCTURED_REPLY);
    talk_meta(&talk, NBD_OPT_SET_META_CONTEXT, "disk", (const char *[]){"base:allocation", NULL});
    talk_option(&talk, NBD_OPT_EXPORT_NAME, "disk", 4);
    talk_play(&talk);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    assert_int_equal(talk.handshake.result.headers, NBD_HEADERS_STRUCTURED);
    assert_int_equal(talk.handshake.result.context_mask, 1);
    assert_true(talk.handshake.result.transmission_flags & NBD_FLAG_SEND_DF);
    talk_end(&talk);
}

static void shutting_down_closes_without_an_answer(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, 0);
    talk.shutting_down = true;
    talk_empty(&talk, NBD_OPT_EXPORT_NAME);
    talk_play(&talk);
    assert_int_equal(talk.event, HANDSHAKE_CLOSE);
    assert_int_equal(talk.answers.length, 0);
    talk_end(&talk);
}

static void export_name_after_extended_headers_closes(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, NBD_FLAG_C_FIXED_NEWSTYLE);
    talk_empty(&talk, NBD_OPT_EXTENDED_HEADERS);
    talk_option(&talk, NBD_OPT_EXPORT_NAME, "disk", 4);
    talk_play(&talk);
    talk_expect(&talk, NBD_OPT_EXTENDED_HEADERS, NBD_REP_ACK);
    talk_expect_no_more(&talk);
    assert_int_equal(talk.event, HANDSHAKE_CLOSE);
    assert_false(talk.handshake.is_ordinary);
    talk_end(&talk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reply_is_134_bytes_or_10_when_zeroes_are_not_wanted),
        cmocka_unit_test(the_empty_name_is_the_default_export),
        cmocka_unit_test(an_unknown_name_closes_and_the_log_line_is_harmless),
        cmocka_unit_test(a_nul_in_the_name_closes_and_does_not_cut_it),
        cmocka_unit_test(a_name_past_4096_bytes_closes),
        cmocka_unit_test(a_name_that_will_be_too_long_closes_before_it_comes),
        cmocka_unit_test(contexts_and_structured_replies_hold_for_export_name_too),
        cmocka_unit_test(shutting_down_closes_without_an_answer),
        cmocka_unit_test(export_name_after_extended_headers_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
