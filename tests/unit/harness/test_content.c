/* SPDX-License-Identifier: BSD-3-Clause */
/* content.c: what a sector may hold after writes, discards, flushes and crashes. */
#include "tests/unit/unit.h"

#include "tests/replay/content.h"

#define SECTORS 64

static uint8_t bytes[512];

static bool may_hold(struct content *content, uint64_t sector, uint64_t seed)
{
    uint64_t wrong;
    content_fill(sector, 1, seed, bytes);
    return content_check(content, sector, 1, bytes, &wrong);
}

static bool may_be_zero(struct content *content, uint64_t sector)
{
    uint64_t wrong;
    memset(bytes, 0, sizeof(bytes));
    return content_check(content, sector, 1, bytes, &wrong);
}

static void setup(struct content *content)
{
    assert_int_equal(content_init(content, SECTORS, 100), 0);
}

static void a_sector_holds_what_was_written_last(void **state)
{
    struct content content;
    (void)state;
    setup(&content);
    assert_true(may_be_zero(&content, 5));
    assert_false(may_hold(&content, 5, 0));
    content_write(&content, 4, 2, 7, false);
    assert_true(may_hold(&content, 5, 7));
    assert_false(may_be_zero(&content, 5));
    assert_true(may_be_zero(&content, 6));
    content_write(&content, 5, 1, 8, false);
    assert_true(may_hold(&content, 4, 7));
    assert_false(may_hold(&content, 5, 7));
    content_zero(&content, 5, 1, false);
    assert_true(may_be_zero(&content, 5));
    assert_false(may_hold(&content, 5, 8));
    content_fini(&content);
}

static void a_wrong_byte_anywhere_is_found_and_named(void **state)
{
    struct content content;
    uint8_t data[4 * 512];
    uint64_t wrong = 0;
    (void)state;
    setup(&content);
    content_write(&content, 8, 4, 3, false);
    for (unsigned at = 0; at < sizeof(data); at += 77) {
        content_fill(8, 4, 3, data);
        data[at] ^= 1;
        assert_false(content_check(&content, 8, 4, data, &wrong));
        assert_int_equal(wrong, 8 + at / 512);
    }
    content_fill(9, 4, 3, data); /* the right seed at the wrong place */
    assert_false(content_check(&content, 8, 4, data, &wrong));
    content_fini(&content);
}

static void what_was_discarded_may_be_zeroes(void **state)
{
    struct content content;
    uint64_t wrong;
    (void)state;
    setup(&content);
    content_write(&content, 1, 1, 7, false);
    content_discard(&content, 1, 1);
    assert_true(may_hold(&content, 1, 7));
    assert_true(may_be_zero(&content, 1));
    content_fill(1, 1, 7, bytes);
    memset(bytes + 100, 0, 12);
    assert_true(content_check(&content, 1, 1, bytes, &wrong)); /* a part of the sector */
    bytes[100] = 1;
    assert_false(content_check(&content, 1, 1, bytes, &wrong));
    content_write(&content, 1, 1, 8, false);
    assert_false(may_be_zero(&content, 1));
    content_fini(&content);
}

static void a_crash_may_lose_what_was_not_flushed_and_nothing_else(void **state)
{
    struct content content;
    (void)state;
    setup(&content);
    content_write(&content, 1, 3, 7, false);
    assert_false(may_be_zero(&content, 2)); /* no crash yet */
    content_flush(&content, content.tick);
    assert_false(content_crash(&content));
    assert_false(may_be_zero(&content, 1));
    content_write(&content, 2, 1, 8, false);
    content_write(&content, 3, 1, 9, true); /* the write cache is off */
    assert_true(content_crash(&content));
    assert_false(may_be_zero(&content, 2));
    assert_true(may_hold(&content, 2, 7));  /* the one that was flushed */
    assert_false(may_hold(&content, 2, 8)); /* a read has shown it: it does not change again */
    assert_false(may_hold(&content, 3, 7));
    assert_true(may_hold(&content, 3, 9));
    assert_true(may_hold(&content, 1, 7));
    content_fini(&content);
}

static void a_flush_covers_what_was_answered_before_it_was_sent(void **state)
{
    struct content content;
    uint32_t since;
    (void)state;
    setup(&content);
    content_write(&content, 1, 1, 7, false);
    since = content.tick;
    content_write(&content, 2, 1, 8, false);
    content_flush(&content, since);
    assert_true(content_crash(&content));
    assert_false(may_be_zero(&content, 1));
    assert_true(may_be_zero(&content, 2));
    content_fini(&content);
}

static void a_write_that_failed_leaves_a_doubt_that_a_read_ends(void **state)
{
    struct content content;
    (void)state;
    setup(&content);
    content_write(&content, 1, 1, 7, false);
    content_write_failed(&content, 1, 1, 8);
    assert_true(may_hold(&content, 1, 8));
    assert_false(may_hold(&content, 1, 7));
    content_fini(&content);
}

static void the_hash_tells_order_and_content(void **state)
{
    struct content content;
    uint8_t data[1024] = {1};
    (void)state;
    setup(&content);
    uint64_t hash = content_hash(&content, 1, 2, data, 0);
    data[0] = 0, data[8] = 1;
    assert_true(hash != content_hash(&content, 1, 2, data, 0));
    data[0] = 1, data[8] = 0;
    assert_true(hash == content_hash(&content, 1, 2, data, 0));
    assert_true(hash != content_hash(&content, 1, 2, data, 1));
    content_fini(&content);
}

static void the_hash_leaves_out_what_a_discard_left_open(void **state)
{
    struct content content;
    uint8_t zeroes[1024] = {0}, written[1024];
    (void)state;
    setup(&content);
    content_write(&content, 1, 2, 7, false);
    content_fill(1, 2, 7, written);
    content_discard(&content, 1, 1);
    memcpy(zeroes + 512, written + 512, 512);
    assert_true(content_hash(&content, 1, 2, zeroes, 0) ==
                content_hash(&content, 1, 2, written, 0));
    content_write(&content, 1, 1, 7, false);
    assert_true(content_hash(&content, 1, 2, zeroes, 0) !=
                content_hash(&content, 1, 2, written, 0));
    content_fini(&content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sector_holds_what_was_written_last),
        cmocka_unit_test(a_wrong_byte_anywhere_is_found_and_named),
        cmocka_unit_test(what_was_discarded_may_be_zeroes),
        cmocka_unit_test(a_crash_may_lose_what_was_not_flushed_and_nothing_else),
        cmocka_unit_test(a_flush_covers_what_was_answered_before_it_was_sent),
        cmocka_unit_test(a_write_that_failed_leaves_a_doubt_that_a_read_ends),
        cmocka_unit_test(the_hash_tells_order_and_content),
        cmocka_unit_test(the_hash_leaves_out_what_a_discard_left_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
