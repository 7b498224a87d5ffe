/* SPDX-License-Identifier: BSD-3-Clause */
/* opt_info.c: INFO and GO, what they tell, and every malformed one refused in sync. */
#include "tests/unit/unit.h"

#include "tests/unit/protocol/fixture.h"

#include "common/endian.h"

#include <stdlib.h>
#include <string.h>

#define FIXED NBD_FLAG_C_FIXED_NEWSTYLE

static void begin(struct talk *talk)
{
    talk_begin(talk, FIXED);
}

static struct answer expect_info(struct talk *talk, uint32_t option, uint16_t info)
{
    struct answer answer = talk_expect(talk, option, NBD_REP_INFO);
    assert_true(answer.length >= 2);
    assert_int_equal(load_be16(answer.data), info);
    return answer;
}

static void expect_export(struct talk *talk, uint32_t option, uint64_t size, uint16_t flags)
{
    struct answer answer = expect_info(talk, option, NBD_INFO_EXPORT);
    assert_int_equal(answer.length, 12);
    assert_true(load_be64(answer.data + 2) == size);
    assert_int_equal(load_be16(answer.data + 10), flags);
}

static void expect_block_size(struct talk *talk, uint32_t option, uint32_t minimum,
                              uint32_t preferred, uint32_t payload)
{
    struct answer answer = expect_info(talk, option, NBD_INFO_BLOCK_SIZE);
    assert_int_equal(answer.length, 14);
    assert_int_equal(load_be32(answer.data + 2), minimum);
    assert_int_equal(load_be32(answer.data + 6), preferred);
    assert_int_equal(load_be32(answer.data + 10), payload);
}

static void the_export_info_comes_unasked_and_before_the_ack(void **state)
{
    (void)state;
    struct talk talk;
    begin(&talk);
    talk_info(&talk, NBD_OPT_INFO, "disk", NULL, 0);
    talk_info(&talk, NBD_OPT_GO, "disk", NULL, 0);
    talk_play(&talk);
    expect_export(&talk, NBD_OPT_INFO, FIXTURE_SIZE, FIXTURE_FLAGS | NBD_FLAG_HAS_FLAGS);
    talk_expect(&talk, NBD_OPT_INFO, NBD_REP_ACK);
    expect_export(&talk, NBD_OPT_GO, FIXTURE_SIZE, FIXTURE_FLAGS | NBD_FLAG_HAS_FLAGS);
    talk_expect(&talk, NBD_OPT_GO, NBD_REP_ACK);
    talk_expect_no_more(&talk);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    assert_ptr_equal(talk.handshake.result.export, &fixture_disk);
    talk_end(&talk);
}

static void each_information_is_given_once_when_asked_and_unknown_ones_are_ignored(void **state)
{
    (void)state;
    static const uint16_t infos[] = {NBD_INFO_BLOCK_SIZE,  9999,
                                     NBD_INFO_DESCRIPTION, NBD_INFO_NAME,
                                     NBD_INFO_EXPORT,      NBD_INFO_NAME};
    struct talk talk;
    begin(&talk);
    talk_info(&talk, NBD_OPT_INFO, "disk", infos, 6);
    talk_play(&talk);
    expect_export(&talk, NBD_OPT_INFO, FIXTURE_SIZE, FIXTURE_FLAGS | NBD_FLAG_HAS_FLAGS);
    struct answer name = expect_info(&talk, NBD_OPT_INFO, NBD_INFO_NAME);
    assert_int_equal(name.length, 2 + 4);
    assert_memory_equal(name.data + 2, "disk", 4);
    struct answer description = expect_info(&talk, NBD_OPT_INFO, NBD_INFO_DESCRIPTION);
    assert_int_equal(description.length, 2 + strlen(fixture_disk.description));
    assert_memory_equal(description.data + 2, fixture_disk.description, description.length - 2);
    expect_block_size(&talk, NBD_OPT_INFO, 1, 4096, NBD_PAYLOAD_DEFAULT_MAX);
    talk_expect(&talk, NBD_OPT_INFO, NBD_REP_ACK);
    talk_expect_no_more(&talk);
    assert_int_equal(talk.event, HANDSHAKE_MORE);
    talk_end(&talk);
}

static void each_information_comes_for_its_own_request_only(void **state)
{
    (void)state;
    for (uint16_t asked = 0; asked < 5; asked++) {
        struct talk talk;
        begin(&talk);
        talk_info(&talk, NBD_OPT_INFO, "disk", &asked, 1);
        talk_play(&talk);
        expect_info(&talk, NBD_OPT_INFO, NBD_INFO_EXPORT);
        if (asked >= NBD_INFO_NAME && asked <= NBD_INFO_BLOCK_SIZE)
            expect_info(&talk, NBD_OPT_INFO, asked);
        talk_expect(&talk, NBD_OPT_INFO, NBD_REP_ACK);
        talk_expect_no_more(&talk);
        talk_end(&talk);
    }
}

static void an_export_without_a_description_gives_none(void **state)
{
    (void)state;
    struct talk talk;
    begin(&talk);
    talk_info(&talk, NBD_OPT_INFO, "", (const uint16_t[]){NBD_INFO_DESCRIPTION}, 1);
    talk_play(&talk);
    expect_info(&talk, NBD_OPT_INFO, NBD_INFO_EXPORT);
    talk_expect(&talk, NBD_OPT_INFO, NBD_REP_ACK);
    talk_expect_no_more(&talk);
    talk_end(&talk);
}

static void unusual_limits_are_told_unasked_and_never_demanded(void **state)
{
    (void)state;
    struct talk talk;
    begin(&talk);
    talk_info(&talk, NBD_OPT_GO, "aligned", NULL, 0);
    talk_play(&talk);
    expect_export(&talk, NBD_OPT_GO, 1 << 20,
                  FIXTURE_FLAGS | NBD_FLAG_READ_ONLY | NBD_FLAG_HAS_FLAGS);
    expect_block_size(&talk, NBD_OPT_GO, 512, 65536, 1 << 20);
    talk_expect(&talk, NBD_OPT_GO, NBD_REP_ACK);
    talk_expect_no_more(&talk);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    talk_end(&talk);
}

static void df_is_offered_exactly_with_structured_replies(void **state)
{
    (void)state;
    const uint16_t plain = FIXTURE_FLAGS | NBD_FLAG_HAS_FLAGS;
    struct talk talk;
    begin(&talk);
    talk_info(&talk, NBD_OPT_INFO, "disk", NULL, 0);
    talk_empty(&talk, NBD_OPT_STRUCTURED_REPLY);
    talk_info(&talk, NBD_OPT_GO, "disk", NULL, 0);
    talk_play(&talk);
    expect_export(&talk, NBD_OPT_INFO, FIXTURE_SIZE, plain);
    talk_expect(&talk, NBD_OPT_INFO, NBD_REP_ACK);
    talk_expect(&talk, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
    expect_export(&talk, NBD_OPT_GO, FIXTURE_SIZE, plain | NBD_FLAG_SEND_DF);
    assert_int_equal(talk.handshake.result.transmission_flags, plain | NBD_FLAG_SEND_DF);
    talk_end(&talk);
}

static void an_unknown_export_is_unknown_without_information_and_in_sync(void **state)
{
    (void)state;
    struct talk talk;
    begin(&talk);
    talk_info(&talk, NBD_OPT_GO, "nothing", NULL, 0);
    talk_info(&talk, NBD_OPT_INFO, "nothing", (const uint16_t[]){NBD_INFO_NAME}, 1);
    talk_info(&talk, NBD_OPT_GO, "disk", NULL, 0);
    talk_play(&talk);
    struct answer answer = talk_expect(&talk, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
    assert_int_equal(answer.length, strlen("there is no export named \"nothing\""));
    assert_memory_equal(answer.data, "there is no export named \"nothing\"", answer.length);
    talk_expect(&talk, NBD_OPT_INFO, NBD_REP_ERR_UNKNOWN);
    talk_expect(&talk, NBD_OPT_GO, NBD_REP_INFO);
    talk_expect(&talk, NBD_OPT_GO, NBD_REP_ACK);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    talk_end(&talk);
}

/* The text stays within bounds and printable whatever the name: talk_expect() looks. */
static void the_longest_and_worst_name_is_answered_with_a_short_text(void **state)
{
    (void)state;
    static const size_t lengths[] = {255, 256, 3000, 4096};
    for (size_t i = 0; i < 4; i++) {
        char *name = malloc(lengths[i] + 1);
        memset(name, 0xfe, lengths[i]);
        name[lengths[i]] = 0;
        struct talk talk;
        begin(&talk);
        talk_info(&talk, NBD_OPT_GO, name, NULL, 0);
        talk_play(&talk);
        talk_expect(&talk, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
        talk_end(&talk);
        free(name);
    }
}

/* Plays GO with this data, then a good GO, which must work. */
static void expect_invalid(const void *data, size_t length)
{
    static const uint32_t options[] = {NBD_OPT_INFO, NBD_OPT_GO};
    for (size_t i = 0; i < 2; i++) {
        struct talk talk;
        begin(&talk);
        talk_option(&talk, options[i], data, length);
        talk_info(&talk, NBD_OPT_GO, "disk", NULL, 0);
        talk_play(&talk);
        talk_expect(&talk, options[i], NBD_REP_ERR_INVALID);
        talk_expect(&talk, NBD_OPT_GO, NBD_REP_INFO);
        talk_expect(&talk, NBD_OPT_GO, NBD_REP_ACK);
        talk_expect_no_more(&talk);
        assert_int_equal(talk.event, HANDSHAKE_READY);
        talk_end(&talk);
    }
}

static void data_shorter_than_six_bytes_is_invalid_and_in_sync(void **state)
{
    (void)state;
    for (size_t length = 0; length < 6; length++)
        expect_invalid("\0\0\0\0\0\0", length);
}

static void a_name_longer_than_the_option_is_invalid_and_in_sync(void **state)
{
    (void)state;
    expect_invalid("\0\0\0\5disk\0\0", 10);
    expect_invalid("\0\0\0\6disk\0\0", 10);
    expect_invalid("\0\0\0\7disk\0\0", 10);
    expect_invalid("\0\0\x10\0disk\0\0", 10);
    expect_invalid("\x7f\xff\xff\xff"
                   "disk\0\0",
                   10);
    expect_invalid("\xff\xff\xff\xff"
                   "disk\0\0",
                   10);
    expect_invalid("\xff\xff\xff\xfa"
                   "disk\0\0",
                   10);
}

static void more_information_requests_than_data_is_invalid_and_in_sync(void **state)
{
    (void)state;
    expect_invalid("\0\0\0\4disk\0\1", 10);
    expect_invalid("\0\0\0\4disk\0\1\0", 11);
    expect_invalid("\0\0\0\4disk\xff\xff\0\3", 12);
}

static void junk_after_the_last_request_is_invalid_and_in_sync(void **state)
{
    (void)state;
    expect_invalid("\0\0\0\4disk\0\0x", 11);
    expect_invalid("\0\0\0\4disk\0\1\0\3\0\3", 14);
}

static void a_nul_in_the_name_is_invalid_and_in_sync(void **state)
{
    (void)state;
    expect_invalid("\0\0\0\5disk\0\0\0", 11);
    expect_invalid("\0\0\0\4di\0k\0\0", 10);
}

static void a_name_past_4096_bytes_is_invalid_and_in_sync(void **state)
{
    (void)state;
    size_t length = 4 + NBD_STRING_MAX + 1 + 2;
    uint8_t *data = malloc(length);
    memset(data, 'n', length);
    store_be32(data, NBD_STRING_MAX + 1);
    store_be16(data + length - 2, 0);
    expect_invalid(data, length);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_export_info_comes_unasked_and_before_the_ack),
        cmocka_unit_test(each_information_is_given_once_when_asked_and_unknown_ones_are_ignored),
        cmocka_unit_test(each_information_comes_for_its_own_request_only),
        cmocka_unit_test(an_export_without_a_description_gives_none),
        cmocka_unit_test(unusual_limits_are_told_unasked_and_never_demanded),
        cmocka_unit_test(df_is_offered_exactly_with_structured_replies),
        cmocka_unit_test(an_unknown_export_is_unknown_without_information_and_in_sync),
        cmocka_unit_test(the_longest_and_worst_name_is_answered_with_a_short_text),
        cmocka_unit_test(data_shorter_than_six_bytes_is_invalid_and_in_sync),
        cmocka_unit_test(a_name_longer_than_the_option_is_invalid_and_in_sync),
        cmocka_unit_test(more_information_requests_than_data_is_invalid_and_in_sync),
        cmocka_unit_test(junk_after_the_last_request_is_invalid_and_in_sync),
        cmocka_unit_test(a_nul_in_the_name_is_invalid_and_in_sync),
        cmocka_unit_test(a_name_past_4096_bytes_is_invalid_and_in_sync),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
