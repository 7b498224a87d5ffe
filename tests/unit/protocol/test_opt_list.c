/* SPDX-License-Identifier: BSD-3-Clause */
/* opt_list.c: every export with its description, as often as asked, and no more than can be sent.
 */
#include "tests/unit/unit.h"

#include "tests/unit/protocol/fixture.h"

#include "common/endian.h"

#include <string.h>

static void expect_server(struct talk *talk, const char *name, const char *description)
{
    struct answer answer = talk_expect(talk, NBD_OPT_LIST, NBD_REP_SERVER);
    assert_int_equal(answer.length, 4 + strlen(name) + strlen(description));
    assert_int_equal(load_be32(answer.data), strlen(name));
    assert_memory_equal(answer.data + 4, name, strlen(name));
    assert_memory_equal(answer.data + 4 + strlen(name), description, strlen(description));
}

static void list_shows_every_export_with_its_description_each_time(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, NBD_FLAG_C_FIXED_NEWSTYLE);
    talk_empty(&talk, NBD_OPT_LIST);
    talk_empty(&talk, NBD_OPT_LIST);
    talk_play(&talk);
    for (int i = 0; i < 2; i++) {
        expect_server(&talk, "", "");
        expect_server(&talk, "disk", "a disk of three contexts");
        expect_server(&talk, "aligned", "");
        talk_expect(&talk, NBD_OPT_LIST, NBD_REP_ACK);
    }
    talk_expect_no_more(&talk);
    talk_end(&talk);
}

static void list_with_data_is_invalid_and_in_sync(void **state)
{
    (void)state;
    struct talk talk;
    talk_begin(&talk, NBD_FLAG_C_FIXED_NEWSTYLE);
    talk_option(&talk, NBD_OPT_LIST, "x", 1);
    talk_empty(&talk, NBD_OPT_ABORT);
    talk_play(&talk);
    talk_expect(&talk, NBD_OPT_LIST, NBD_REP_ERR_INVALID);
    talk_expect(&talk, NBD_OPT_ABORT, NBD_REP_ACK);
    talk_expect_no_more(&talk);
    talk_end(&talk);
}

static const struct nbd_export_info *at_always_another(void *ctx, size_t index)
{
    (void)index;
    return ctx;
}

static void a_list_too_long_to_send_is_too_big_and_nothing_of_it_is_sent(void **state)
{
    (void)state;
    const struct handshake_exports endless = {.at = at_always_another,
                                              .ctx = (void *)&fixture_disk};
    struct talk talk;
    talk_begin(&talk, NBD_FLAG_C_FIXED_NEWSTYLE);
    talk.exports = &endless;
    talk_empty(&talk, NBD_OPT_LIST);
    talk_empty(&talk, NBD_OPT_ABORT);
    talk_play(&talk);
    talk_expect(&talk, NBD_OPT_LIST, NBD_REP_ERR_TOO_BIG);
    talk_expect(&talk, NBD_OPT_ABORT, NBD_REP_ACK);
    talk_expect_no_more(&talk);
    talk_end(&talk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_shows_every_export_with_its_description_each_time),
        cmocka_unit_test(list_with_data_is_invalid_and_in_sync),
        cmocka_unit_test(a_list_too_long_to_send_is_too_big_and_nothing_of_it_is_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
