/* SPDX-License-Identifier: BSD-3-Clause */
/* opt_session.c: ABORT, STRUCTURED_REPLY and EXTENDED_HEADERS. */
#include "tests/unit/unit.h"

#include "tests/unit/protocol/fixture.h"

#include <stdlib.h>

static void abort_is_acknowledged_and_then_closed_as_the_client_wished(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, NBD_FLAG_C_FIXED_NEWSTYLE);
    talk_empty(&talk, NBD_OPT_ABORT);
    talk_empty(&talk, NBD_OPT_LIST);
    talk_play(&talk);
    talk_expect(&talk, NBD_OPT_ABORT, NBD_REP_ACK);
    talk_expect_no_more(&talk);
    assert_int_equal(talk.event, HANDSHAKE_CLOSE);
    assert_true(talk.handshake.is_ordinary);
    talk_end(&talk);
}

static void data_with_abort_is_ignored(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 100, HANDSHAKE_PAYLOAD_MAX + 1};
    uint8_t *data = calloc(1, HANDSHAKE_PAYLOAD_MAX + 1);
    for (size_t i = 0; i < 3; i++) {
        struct talk talk;
        talk_begin(&talk, NBD_FLAG_C_FIXED_NEWSTYLE);
        talk_option(&talk, NBD_OPT_ABORT, data, lengths[i]);
        talk_play(&talk);
        talk_expect(&talk, NBD_OPT_ABORT, NBD_REP_ACK);
        assert_int_equal(talk.event, HANDSHAKE_CLOSE);
        assert_int_equal(talk.used, talk.script.length);
        talk_end(&talk);
    }
    free(data);
}

static void structured_replies_are_negotiated_once_and_a_second_time_is_invalid(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, NBD_FLAG_C_FIXED_NEWSTYLE);
    talk_empty(&talk, NBD_OPT_STRUCTURED_REPLY);
    talk_empty(&talk, NBD_OPT_STRUCTURED_REPLY);
    talk_info(&talk, NBD_OPT_GO, "", NULL, 0);
    talk_play(&talk);
    talk_expect(&talk, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
    talk_expect(&talk, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_INVALID);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    assert_int_equal(talk.handshake.result.headers, NBD_HEADERS_STRUCTURED);
    talk_end(&talk);
}

static void structured_reply_with_data_is_invalid_and_negotiates_nothing(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, NBD_FLAG_C_FIXED_NEWSTYLE);
    talk_option(&talk, NBD_OPT_STRUCTURED_REPLY, "abc", 3);
    talk_info(&talk, NBD_OPT_GO, "", NULL, 0);
    talk_play(&talk);
    talk_expect(&talk, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_INVALID);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    assert_int_equal(talk.handshake.result.headers, NBD_HEADERS_SIMPLE);
    talk_end(&talk);
}

static void extended_headers_are_negotiated_once_with_or_without_structured_replies_first(
    void **state)
{
    (void)state;
    for (int structured_first = 0; structured_first < 2; structured_first++) {
        struct talk talk;
        talk_begin(&talk, NBD_FLAG_C_FIXED_NEWSTYLE);
        if (structured_first)
            talk_empty(&talk, NBD_OPT_STRUCTURED_REPLY);
        talk_empty(&talk, NBD_OPT_EXTENDED_HEADERS);
        talk_empty(&talk, NBD_OPT_EXTENDED_HEADERS);
        talk_info(&talk, NBD_OPT_GO, "", NULL, 0);
        talk_play(&talk);
        if (structured_first)
            talk_expect(&talk, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
        talk_expect(&talk, NBD_OPT_EXTENDED_HEADERS, NBD_REP_ACK);
        talk_expect(&talk, NBD_OPT_EXTENDED_HEADERS, NBD_REP_ERR_INVALID);
        talk_expect(&talk, NBD_OPT_GO, NBD_REP_INFO);
        talk_expect(&talk, NBD_OPT_GO, NBD_REP_ACK);
        assert_int_equal(talk.event, HANDSHAKE_READY);
        assert_int_equal(talk.handshake.result.headers, NBD_HEADERS_EXTENDED);
        assert_true(talk.handshake.result.transmission_flags & NBD_FLAG_SEND_DF);
        assert_false(talk.handshake.result.transmission_flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD);
        talk_end(&talk);
    }
}

static void structured_replies_after_extended_headers_are_ext_header_reqd(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, NBD_FLAG_C_FIXED_NEWSTYLE);
    talk_empty(&talk, NBD_OPT_EXTENDED_HEADERS);
    talk_empty(&talk, NBD_OPT_STRUCTURED_REPLY);
    talk_info(&talk, NBD_OPT_GO, "", NULL, 0);
    talk_play(&talk);
    talk_expect(&talk, NBD_OPT_EXTENDED_HEADERS, NBD_REP_ACK);
    talk_expect(&talk, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_EXT_HEADER_REQD);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    assert_int_equal(talk.handshake.result.headers, NBD_HEADERS_EXTENDED);
    talk_end(&talk);
}

static void extended_headers_with_data_are_invalid_and_negotiate_nothing(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, NBD_FLAG_C_FIXED_NEWSTYLE);
    talk_option(&talk, NBD_OPT_EXTENDED_HEADERS, "abc", 3);
    talk_info(&talk, NBD_OPT_GO, "", NULL, 0);
    talk_play(&talk);
    talk_expect(&talk, NBD_OPT_EXTENDED_HEADERS, NBD_REP_ERR_INVALID);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    assert_int_equal(talk.handshake.result.headers, NBD_HEADERS_SIMPLE);
    talk_end(&talk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(abort_is_acknowledged_and_then_closed_as_the_client_wished),
        cmocka_unit_test(data_with_abort_is_ignored),
        cmocka_unit_test(structured_replies_are_negotiated_once_and_a_second_time_is_invalid),
        cmocka_unit_test(structured_reply_with_data_is_invalid_and_negotiates_nothing),
        cmocka_unit_test(
            extended_headers_are_negotiated_once_with_or_without_structured_replies_first),
        cmocka_unit_test(structured_replies_after_extended_headers_are_ext_header_reqd),
        cmocka_unit_test(extended_headers_with_data_are_invalid_and_negotiate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
