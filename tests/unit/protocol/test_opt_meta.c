/* SPDX-License-Identifier: BSD-3-Clause */
/* opt_meta.c: choosing metadata contexts, and all the ways in which a choice is void. */
#include "tests/unit/unit.h"

#include "tests/unit/protocol/fixture.h"

#include "common/endian.h"
#include "protocol/metacontext.h"

#include <stdlib.h>
#include <string.h>

#define QUERIES(...) ((const char *[]){__VA_ARGS__, NULL})
#define NO_QUERIES ((const char *[]){NULL})

static void begin(struct talk *talk)
{
    talk_begin(talk, NBD_FLAG_C_FIXED_NEWSTYLE);
    talk_empty(talk, NBD_OPT_STRUCTURED_REPLY);
}

static void play(struct talk *talk)
{
    talk_play(talk);
    talk_expect(talk, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
}

static void expect_context(struct talk *talk, uint32_t option, uint32_t id, const char *name)
{
    struct answer answer = talk_expect(talk, option, NBD_REP_META_CONTEXT);
    assert_int_equal(answer.length, 4 + strlen(name));
    assert_int_equal(load_be32(answer.data), id);
    assert_memory_equal(answer.data + 4, name, strlen(name));
}

/* What SET with these queries for one name, then GO of another or the same, leaves selected. */
static uint64_t selected_at_go(const char *name, const char *const *queries, const char *go_name)
{
    struct talk talk;
    begin(&talk);
    talk_meta(&talk, NBD_OPT_SET_META_CONTEXT, name, queries);
    talk_info(&talk, NBD_OPT_GO, go_name, NULL, 0);
    talk_play(&talk);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    uint64_t mask = talk.handshake.result.context_mask;
    talk_end(&talk);
    return mask;
}

static uint64_t selected_after(const char *name, const char *const *queries)
{
    return selected_at_go(name, queries, "disk");
}

static void set_answers_one_id_for_each_selected_context_and_then_ack(void **state)
{
    (void)state;
    struct talk talk;
    begin(&talk);
    talk_meta(&talk, NBD_OPT_SET_META_CONTEXT, "disk",
              QUERIES("qemu:allocation-depth", "base:allocation"));
    talk_info(&talk, NBD_OPT_GO, "disk", NULL, 0);
    play(&talk);
    expect_context(&talk, NBD_OPT_SET_META_CONTEXT, metacontext_id(0), "base:allocation");
    expect_context(&talk, NBD_OPT_SET_META_CONTEXT, metacontext_id(2), "qemu:allocation-depth");
    talk_expect(&talk, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    assert_int_equal(talk.handshake.result.context_mask, 1 | 4);
    talk_end(&talk);
}

static void duplicate_queries_give_one_id(void **state)
{
    (void)state;
    struct talk talk;
    begin(&talk);
    talk_meta(&talk, NBD_OPT_SET_META_CONTEXT, "disk",
              QUERIES("base:allocation", "base:allocation", "base:allocation"));
    play(&talk);
    expect_context(&talk, NBD_OPT_SET_META_CONTEXT, metacontext_id(0), "base:allocation");
    talk_expect(&talk, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
    talk_expect_no_more(&talk);
    talk_end(&talk);
}

static void set_of_a_bare_namespace_or_an_unknown_one_or_nothing_selects_none(void **state)
{
    (void)state;
    assert_int_equal(selected_after("disk", QUERIES("base:")), 0);
    assert_int_equal(selected_after("disk", QUERIES("qemu:dirty-bitmap:")), 0);
    assert_int_equal(selected_after("disk", QUERIES("x-unknown:thing", "nbd-server:x")), 0);
    assert_int_equal(selected_after("disk", QUERIES("base:unknown-leaf")), 0);
    assert_int_equal(selected_after("disk", NO_QUERIES), 0);
    assert_int_equal(selected_after("disk", QUERIES("x-unknown:thing", "base:allocation")), 1);
}

static void a_choice_for_another_export_name_is_void_at_go(void **state)
{
    (void)state;
    assert_int_equal(selected_after("disk", QUERIES("base:allocation")), 1);
    assert_int_equal(selected_after("", QUERIES("base:allocation")), 0);
    assert_int_equal(selected_at_go("disk", QUERIES("base:allocation"), ""), 0);
    assert_int_equal(selected_at_go("", QUERIES("base:allocation"), ""), 1);
}

static void a_later_set_replaces_the_earlier_choice(void **state)
{
    (void)state;
    struct talk talk;
    begin(&talk);
    talk_meta(&talk, NBD_OPT_SET_META_CONTEXT, "disk", QUERIES("base:allocation"));
    talk_meta(&talk, NBD_OPT_SET_META_CONTEXT, "disk", QUERIES("qemu:allocation-depth"));
    talk_info(&talk, NBD_OPT_GO, "disk", NULL, 0);
    talk_play(&talk);
    assert_int_equal(talk.handshake.result.context_mask, 4);
    talk_end(&talk);
}

/* A good SET, then one with this data that must fail with this error, then GO without contexts. */
static void expect_cleared(const void *data, size_t length, uint32_t error)
{
    struct talk talk;
    begin(&talk);
    talk_meta(&talk, NBD_OPT_SET_META_CONTEXT, "disk", QUERIES("base:allocation"));
    talk_option(&talk, NBD_OPT_SET_META_CONTEXT, data, length);
    talk_info(&talk, NBD_OPT_GO, "disk", NULL, 0);
    play(&talk);
    expect_context(&talk, NBD_OPT_SET_META_CONTEXT, metacontext_id(0), "base:allocation");
    talk_expect(&talk, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
    talk_expect(&talk, NBD_OPT_SET_META_CONTEXT, error);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    assert_int_equal(talk.handshake.result.context_mask, 0);
    talk_end(&talk);
}

static void a_set_that_fails_clears_the_earlier_choice(void **state)
{
    (void)state;
    expect_cleared("\0\0\0\4nope\0\0\0\0", 12, NBD_REP_ERR_UNKNOWN);
    expect_cleared("", 0, NBD_REP_ERR_INVALID);
    expect_cleared("\0\0\0\4disk\0\0\0\1", 12, NBD_REP_ERR_INVALID);
    size_t too_long = HANDSHAKE_PAYLOAD_MAX + 1;
    void *data = calloc(1, too_long);
    expect_cleared(data, too_long, NBD_REP_ERR_TOO_BIG);
    free(data);
}

/* Both options with this data are invalid, and the next option is understood. */
static void expect_invalid(const void *data, size_t length)
{
    static const uint32_t options[] = {NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT};
    for (size_t i = 0; i < 2; i++) {
        struct talk talk;
        begin(&talk);
        talk_option(&talk, options[i], data, length);
        talk_empty(&talk, NBD_OPT_ABORT);
        play(&talk);
        talk_expect(&talk, options[i], NBD_REP_ERR_INVALID);
        talk_expect(&talk, NBD_OPT_ABORT, NBD_REP_ACK);
        talk_expect_no_more(&talk);
        talk_end(&talk);
    }
}

static void malformed_data_is_invalid_and_in_sync(void **state)
{
    (void)state;
    expect_invalid("\0\0\0", 3);
    expect_invalid("\0\0\0\4disk\0\0\0", 11);
    expect_invalid("\0\0\0\5disk\0\0\0\0", 12);         /* the name eats a byte of the count */
    expect_invalid("\xff\xff\xff\xff....\0\0\0\0", 12); /* the name is longer than the option */
    expect_invalid("\0\0\0\4di\0k\0\0\0\0", 12);        /* a NUL in the name */
    expect_invalid("\0\0\0\4disk\0\0\0\0x", 13);        /* trailing junk */
    expect_invalid("\0\0\0\4disk\xff\xff\xff\xff", 12); /* queries that are not there */
    expect_invalid("\0\0\0\4disk\0\0\0\1\0\0\0\5base", 20);
    expect_invalid("\0\0\0\4disk\0\0\0\1\xff\xff\xff\xff"
                   "base",
                   20);
    expect_invalid("\0\0\0\4disk\0\0\0\1\0\0\0\5ba\0e:", 21); /* a NUL in a query */
    expect_invalid("\0\0\0\4disk\0\0\0\1\0\0\0\4base\0\0\0\0", 24);
}

static void a_query_past_4096_bytes_is_invalid(void **state)
{
    (void)state;
    size_t length = 8 + 4 + NBD_STRING_MAX + 1;
    uint8_t *data = calloc(1, length);
    store_be32(data + 4, 1);
    store_be32(data + 8, NBD_STRING_MAX + 1);
    memset(data + 12, 'q', NBD_STRING_MAX + 1);
    expect_invalid(data, length);
    free(data);
}

static void too_many_queries_are_too_big(void **state)
{
    (void)state;
    uint8_t *data = calloc(1, 8 + 1025 * 4);
    store_be32(data + 4, 1025);
    struct talk talk;
    begin(&talk);
    talk_option(&talk, NBD_OPT_SET_META_CONTEXT, data, 8 + 1025 * 4);
    store_be32(data + 4, 1024);
    talk_option(&talk, NBD_OPT_SET_META_CONTEXT, data, 8 + 1024 * 4);
    play(&talk);
    talk_expect(&talk, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_TOO_BIG);
    talk_expect(&talk, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
    talk_expect_no_more(&talk);
    talk_end(&talk);
    free(data);
}

static void set_before_structured_replies_is_invalid_and_list_is_answered(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, NBD_FLAG_C_FIXED_NEWSTYLE);
    talk_meta(&talk, NBD_OPT_SET_META_CONTEXT, "disk", QUERIES("base:allocation"));
    talk_meta(&talk, NBD_OPT_LIST_META_CONTEXT, "disk", QUERIES("base:allocation"));
    talk_info(&talk, NBD_OPT_GO, "disk", NULL, 0);
    talk_play(&talk);
    talk_expect(&talk, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID);
    expect_context(&talk, NBD_OPT_LIST_META_CONTEXT, 0, "base:allocation");
    talk_expect(&talk, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    assert_int_equal(talk.handshake.result.context_mask, 0);
    talk_end(&talk);
}

static void list_without_queries_shows_all_and_base_is_a_wildcard(void **state)
{
    (void)state;
    const uint32_t list = NBD_OPT_LIST_META_CONTEXT;
    struct talk talk;
    begin(&talk);
    talk_meta(&talk, list, "disk", NO_QUERIES);
    talk_meta(&talk, list, "disk", QUERIES("base:"));
    talk_meta(&talk, list, "disk", QUERIES("x-unknown:", "base:nothing"));
    play(&talk);
    expect_context(&talk, list, 0, "base:allocation");
    expect_context(&talk, list, 0, "qemu:dirty-bitmap:b0");
    expect_context(&talk, list, 0, "qemu:allocation-depth");
    talk_expect(&talk, list, NBD_REP_ACK);
    expect_context(&talk, list, 0, "base:allocation");
    talk_expect(&talk, list, NBD_REP_ACK);
    talk_expect(&talk, list, NBD_REP_ACK);
    talk_expect_no_more(&talk);
    talk_end(&talk);
}

static void list_selects_nothing_and_leaves_the_choice_alone(void **state)
{
    (void)state;
    struct talk talk;
    begin(&talk);
    talk_meta(&talk, NBD_OPT_SET_META_CONTEXT, "disk", QUERIES("base:allocation"));
    talk_meta(&talk, NBD_OPT_LIST_META_CONTEXT, "disk", QUERIES("qemu:"));
    talk_info(&talk, NBD_OPT_GO, "disk", NULL, 0);
    talk_play(&talk);
    assert_int_equal(talk.handshake.result.context_mask, 1);
    talk_end(&talk);
}

static void an_unknown_export_is_unknown(void **state)
{
    (void)state;
    struct talk talk;
    begin(&talk);
    talk_meta(&talk, NBD_OPT_LIST_META_CONTEXT, "nope", QUERIES("base:"));
    talk_meta(&talk, NBD_OPT_SET_META_CONTEXT, "nope", QUERIES("base:allocation"));
    play(&talk);
    talk_expect(&talk, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_UNKNOWN);
    talk_expect(&talk, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_UNKNOWN);
    talk_expect_no_more(&talk);
    talk_end(&talk);
}

static void extended_headers_alone_allow_set(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, NBD_FLAG_C_FIXED_NEWSTYLE);
    talk_empty(&talk, NBD_OPT_EXTENDED_HEADERS);
    talk_meta(&talk, NBD_OPT_SET_META_CONTEXT, "disk", QUERIES("base:allocation"));
    talk_info(&talk, NBD_OPT_GO, "disk", NULL, 0);
    talk_play(&talk);
    talk_expect(&talk, NBD_OPT_EXTENDED_HEADERS, NBD_REP_ACK);
    talk_expect(&talk, NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT);
    talk_expect(&talk, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    assert_int_equal(talk.handshake.result.context_mask, 1);
    talk_end(&talk);
}

static void a_choice_made_before_extended_headers_stays(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, NBD_FLAG_C_FIXED_NEWSTYLE);
    talk_empty(&talk, NBD_OPT_STRUCTURED_REPLY);
    talk_meta(&talk, NBD_OPT_SET_META_CONTEXT, "disk", QUERIES("base:allocation"));
    talk_empty(&talk, NBD_OPT_EXTENDED_HEADERS);
    talk_info(&talk, NBD_OPT_GO, "disk", NULL, 0);
    talk_play(&talk);
    assert_int_equal(talk.event, HANDSHAKE_READY);
    assert_int_equal(talk.handshake.result.context_mask, 1);
    talk_end(&talk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_answers_one_id_for_each_selected_context_and_then_ack),
        cmocka_unit_test(duplicate_queries_give_one_id),
        cmocka_unit_test(set_of_a_bare_namespace_or_an_unknown_one_or_nothing_selects_none),
        cmocka_unit_test(a_choice_for_another_export_name_is_void_at_go),
        cmocka_unit_test(a_later_set_replaces_the_earlier_choice),
        cmocka_unit_test(a_set_that_fails_clears_the_earlier_choice),
        cmocka_unit_test(malformed_data_is_invalid_and_in_sync),
        cmocka_unit_test(a_query_past_4096_bytes_is_invalid),
        cmocka_unit_test(too_many_queries_are_too_big),
        cmocka_unit_test(set_before_structured_replies_is_invalid_and_list_is_answered),
        cmocka_unit_test(list_without_queries_shows_all_and_base_is_a_wildcard),
        cmocka_unit_test(list_selects_nothing_and_leaves_the_choice_alone),
        cmocka_unit_test(an_unknown_export_is_unknown),
        cmocka_unit_test(extended_headers_alone_allow_set),
        cmocka_unit_test(a_choice_made_before_extended_headers_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
