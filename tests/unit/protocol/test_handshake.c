/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handshake.c: the frame around the options: flags, headers, bounds, and staying in sync. Each
 * script is played whole, byte by byte and in random pieces (see fixture.h).
 */
#include "tests/unit/unit.h"

#include "tests/unit/protocol/fixture.h"

#include "common/endian.h"

#include <stdlib.h>
#include <string.h>

#define FIXED (NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)

/* After whatever came before, the next option is answered as if nothing had been. */
static void expect_still_in_sync(struct talk *talk)
{
    talk_expect(talk, NBD_OPT_LIST, NBD_REP_SERVER);
    talk_expect(talk, NBD_OPT_LIST, NBD_REP_SERVER);
    talk_expect(talk, NBD_OPT_LIST, NBD_REP_SERVER);
    talk_expect(talk, NBD_OPT_LIST, NBD_REP_ACK);
    talk_expect_no_more(talk);
    assert_int_equal(talk->event, HANDSHAKE_MORE);
}

static void expect_closed(struct talk *talk, const char *why)
{
    talk_play(talk);
    talk_expect_no_more(talk);
    assert_int_equal(talk->event, HANDSHAKE_CLOSE);
    assert_false(talk->handshake.is_ordinary);
    assert_non_null(strstr(talk->handshake.reason, why));
}

static void the_greeting_offers_fixed_newstyle_and_no_zeroes_and_nothing_else(void **state)
{
    (void)state;
    struct handshake *handshake = malloc(sizeof(*handshake));
    struct writer output;
    writer_init(&output, HANDSHAKE_OUTPUT_MAX);
    handshake_init(handshake, &fixture_exports);
    handshake_start(handshake, &output);
    assert_int_equal(output.length, 18);
    assert_memory_equal(output.data, "NBDMAGICIHAVEOPT\0\3", 18);
    handshake_fini(handshake);
    writer_fini(&output);
    free(handshake);
}

static void an_unknown_client_flag_closes(void **state)
{
    (void)state;
    for (int bit = 2; bit < 32; bit++) {
        struct talk talk;
        talk_begin(&talk, FIXED | UINT32_C(1) << bit);
        talk_empty(&talk, NBD_OPT_LIST);
        expect_closed(&talk, "unknown flags");
        talk_end(&talk);
    }
}

static void a_client_without_fixed_newstyle_may_send_export_name_only(void **state)
{
    (void)state;
    static const uint32_t others[] = {NBD_OPT_ABORT, NBD_OPT_LIST, NBD_OPT_GO, 77};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct talk talk;
        talk_begin(&talk, NBD_FLAG_C_NO_ZEROES);
        talk_empty(&talk, others[i]);
        expect_closed(&talk, "without fixed newstyle");
        talk_end(&talk);
    }
    struct talk talk;
    talk_begin(&talk, 0);
    talk_empty(&talk, NBD_OPT_EXPORT_NAME);
    talk_play(&talk);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    talk_end(&talk);
}

static void a_wrong_option_magic_closes(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, FIXED);
    writer_be64(&talk.script, NBD_OPTS_MAGIC ^ 1);
    writer_be64(&talk.script, 0);
    expect_closed(&talk, "magic");
    talk_end(&talk);
}

static void what_this_server_does_not_have_is_unsup_with_a_text_and_in_sync(void **state)
{
    (void)state;
    static const uint32_t options[] = {NBD_OPT_PEEK_EXPORT, NBD_OPT_STARTTLS, 0, 12, 13,
                                       0xffffffff};
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        struct talk talk;
        talk_begin(&talk, FIXED);
        talk_empty(&talk, options[i]);
        talk_option(&talk, options[i], "IHAVEOPT with data", 18);
        talk_empty(&talk, NBD_OPT_LIST);
        talk_play(&talk);
        talk_expect(&talk, options[i], NBD_REP_ERR_UNSUP);
        talk_expect(&talk, options[i], NBD_REP_ERR_UNSUP);
        expect_still_in_sync(&talk);
        talk_end(&talk);
    }
}

static void play_with_payload(uint32_t option, size_t length, uint32_t expected)
{
    struct talk talk;
    uint8_t *data = calloc(1, length);
    talk_begin(&talk, FIXED);
    talk_option(&talk, option, data, length);
    talk_empty(&talk, NBD_OPT_LIST);
    talk_play(&talk);
    talk_expect(&talk, option, expected);
    expect_still_in_sync(&talk);
    talk_end(&talk);
    free(data);
}

static void data_up_to_64_kib_is_looked_at_and_more_is_thrown_away_as_too_big(void **state)
{
    (void)state;
    play_with_payload(NBD_OPT_GO, HANDSHAKE_PAYLOAD_MAX, NBD_REP_ERR_INVALID);
    play_with_payload(NBD_OPT_GO, HANDSHAKE_PAYLOAD_MAX + 1, NBD_REP_ERR_TOO_BIG);
    play_with_payload(NBD_OPT_LIST, HANDSHAKE_PAYLOAD_MAX + 1, NBD_REP_ERR_TOO_BIG);
    play_with_payload(NBD_OPT_SET_META_CONTEXT, (size_t)1 << 20, NBD_REP_ERR_TOO_BIG);
    play_with_payload(77, (size_t)1 << 20, NBD_REP_ERR_UNSUP);
}

static void data_of_exactly_64_kib_is_understood(void **state)
{
    (void)state;
    static const uint16_t infos[(HANDSHAKE_PAYLOAD_MAX - 4 - 2) / 2];
    struct talk talk;
    talk_begin(&talk, FIXED);
    talk_info(&talk, NBD_OPT_GO, "", infos, sizeof(infos) / sizeof(infos[0]));
    assert_int_equal(talk.script.length,
                     NBD_CLIENT_FLAGS_SIZE + NBD_OPTION_HEADER_SIZE + HANDSHAKE_PAYLOAD_MAX);
    talk_play(&talk);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    talk_end(&talk);
}

static void data_past_the_bound_closes_before_it_is_read(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {HANDSHAKE_DRAIN_MAX + 1, 0x7fffffff, 0xffffffff};
    static const uint32_t options[] = {NBD_OPT_ABORT, NBD_OPT_LIST, NBD_OPT_GO, 77};
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 4; j++) {
            struct talk talk;
            talk_begin(&talk, FIXED);
            writer_be64(&talk.script, NBD_OPTS_MAGIC);
            writer_be32(&talk.script, options[j]);
            writer_be32(&talk.script, lengths[i]);
            expect_closed(&talk, "bytes of data");
            talk_end(&talk);
        }
}

static void memory_grows_with_what_arrived_not_with_what_was_promised(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, FIXED);
    writer_be64(&talk.script, NBD_OPTS_MAGIC);
    writer_be32(&talk.script, NBD_OPT_GO);
    writer_be32(&talk.script, HANDSHAKE_PAYLOAD_MAX);
    writer_zeroes(&talk.script, 10);
    talk_play(&talk);
    assert_int_equal(talk.event, HANDSHAKE_MORE);
    assert_true(talk.handshake.payload.capacity <= 1024);
    talk_end(&talk);
}

static void the_option_after_the_thousandth_closes(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, FIXED);
    for (int i = 0; i < HANDSHAKE_OPTIONS_MAX; i++)
        talk_empty(&talk, 77);
    talk_play(&talk);
    assert_int_equal(talk.event, HANDSHAKE_MORE);
    handshake_fini(&talk.handshake);
    writer_fini(&talk.answers);
    talk_empty(&talk, 77);
    talk_play(&talk);
    assert_int_equal(talk.event, HANDSHAKE_CLOSE);
    assert_non_null(strstr(talk.handshake.reason, "more than 1000 options"));
    talk_end(&talk);
}

/* A client that sends options and reads no answers is not listened to past a bound. */
static void answers_that_are_not_sent_stop_the_reading(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, FIXED);
    for (int i = 0; i < HANDSHAKE_OPTIONS_MAX; i++)
        talk_info(&talk, NBD_OPT_INFO, "disk", (const uint16_t[]){1, 2, 3}, 3);
    for (int i = 0; i < 1000; i++)
        writer_be32(&talk.script, 0);
    struct writer output;
    writer_init(&output, HANDSHAKE_OUTPUT_MAX);
    handshake_init(&talk.handshake, &fixture_exports);
    /* Answers to earlier options lie unsent, just below the bound. */
    writer_zeroes(&output, HANDSHAKE_OUTPUT_PAUSE - 100);
    size_t used = 0, again = 1;
    assert_int_equal(
        handshake_feed(&talk.handshake, talk.script.data, talk.script.length, &used, &output),
        HANDSHAKE_MORE);
    assert_true(used < 200);
    assert_true(output.length < HANDSHAKE_OUTPUT_PAUSE + 1000);
    size_t before = output.length;
    assert_int_equal(handshake_feed(&talk.handshake, talk.script.data + used,
                                    talk.script.length - used, &again, &output),
                     HANDSHAKE_MORE);
    assert_int_equal(again, 0);
    assert_int_equal(output.length, before);
    /* Sent: it goes on where it stopped. */
    writer_consume(&output, output.length);
    handshake_feed(&talk.handshake, talk.script.data + used, talk.script.length - used, &again,
                   &output);
    assert_true(again > 0);
    writer_fini(&output);
    talk_end(&talk);
}

static void shutting_down_answers_every_option_but_abort_with_shutdown(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, FIXED);
    talk.shutting_down = true;
    talk_empty(&talk, NBD_OPT_LIST);
    talk_info(&talk, NBD_OPT_GO, "disk", NULL, 0);
    talk_empty(&talk, 77);
    talk_empty(&talk, NBD_OPT_ABORT);
    talk_play(&talk);
    talk_expect(&talk, NBD_OPT_LIST, NBD_REP_ERR_SHUTDOWN);
    talk_expect(&talk, NBD_OPT_GO, NBD_REP_ERR_SHUTDOWN);
    talk_expect(&talk, 77, NBD_REP_ERR_SHUTDOWN);
    talk_expect(&talk, NBD_OPT_ABORT, NBD_REP_ACK);
    assert_int_equal(talk.event, HANDSHAKE_CLOSE);
    talk_end(&talk);
}

/* Goal: EOF after each byte of a handshake is told apart: between options it is the client's right,
 * inside one it is news. */
static void leaving_between_options_is_ordinary_and_inside_one_is_not(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, FIXED);
    talk_info(&talk, NBD_OPT_INFO, "disk", NULL, 0);
    talk_option(&talk, 77, "abc", 3);
    size_t first = 4, second = first + 16 + 4 + 4 + 2, third = second + 16 + 3;
    assert_int_equal(talk.script.length, third);
    for (size_t cut = 0; cut <= third; cut++) {
        struct writer output;
        size_t used;
        writer_init(&output, HANDSHAKE_OUTPUT_MAX);
        handshake_init(&talk.handshake, &fixture_exports);
        assert_int_equal(handshake_feed(&talk.handshake, talk.script.data, cut, &used, &output),
                         HANDSHAKE_MORE);
        assert_int_equal(used, cut);
        assert_int_equal(handshake_eof(&talk.handshake), HANDSHAKE_CLOSE);
        bool between = cut == 0 || cut == first || cut == second || cut == third;
        assert_int_equal(talk.handshake.is_ordinary, between);
        assert_true(strlen(talk.handshake.reason) > 0);
        writer_fini(&output);
        handshake_fini(&talk.handshake);
    }
    talk_end(&talk);
}

static void bytes_after_go_are_left_for_the_transmission(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, FIXED);
    talk_info(&talk, NBD_OPT_GO, "", NULL, 0);
    size_t handshake_length = talk.script.length;
    writer_be32(&talk.script, NBD_REQUEST_MAGIC);
    talk_play(&talk);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    assert_int_equal(talk.used, handshake_length);
    talk_end(&talk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_greeting_offers_fixed_newstyle_and_no_zeroes_and_nothing_else),
        cmocka_unit_test(an_unknown_client_flag_closes),
        cmocka_unit_test(a_client_without_fixed_newstyle_may_send_export_name_only),
        cmocka_unit_test(a_wrong_option_magic_closes),
        cmocka_unit_test(what_this_server_does_not_have_is_unsup_with_a_text_and_in_sync),
        cmocka_unit_test(data_up_to_64_kib_is_looked_at_and_more_is_thrown_away_as_too_big),
        cmocka_unit_test(data_of_exactly_64_kib_is_understood),
        cmocka_unit_test(data_past_the_bound_closes_before_it_is_read),
        cmocka_unit_test(memory_grows_with_what_arrived_not_with_what_was_promised),
        cmocka_unit_test(the_option_after_the_thousandth_closes),
        cmocka_unit_test(answers_that_are_not_sent_stop_the_reading),
        cmocka_unit_test(shutting_down_answers_every_option_but_abort_with_shutdown),
        cmocka_unit_test(leaving_between_options_is_ordinary_and_inside_one_is_not),
        cmocka_unit_test(bytes_after_go_are_left_for_the_transmission),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
