/* SPDX-License-Identifier: BSD-3-Clause */
/* redo.c: what the memory holds after each step, as who maps it after a kill would find it; and
 * what a cache puts there, when it starts rounds for it, and when these trim, break and heal it. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/coroutine.h"
#include "tests/unit/cache/cache_fixture.h"
#include "tests/unit/cache/redo_fixture.h"

#define STORE_BYTES 32 /* of a record of 8 bytes */

static const struct redo_identity other = {.bytes = "other"};

static struct redo *make_log(void **ret_memory)
{
    *ret_memory = new_log_memory();
    struct redo *redo = new_log(*ret_memory);
    assert_int_equal(log_content(redo), REDO_FOREIGN);
    redo_format(redo, &log_identity);
    return redo;
}

static void drop_log(struct redo *redo, void *memory)
{
    redo_free(redo);
    free(memory);
}

static void store_u64(struct redo *redo, uint64_t node_offset, uint64_t value)
{
    redo_store(redo, LOW, node_offset, &value, sizeof(value));
}

#define LOG_TEST(name)                         \
    static void name(void **state)             \
    {                                          \
        void *memory;                          \
        struct redo *redo = make_log(&memory); \
        (void)state;                           \
        check_##name(redo, memory);            \
        drop_log(redo, memory);                \
    }

static void check_a_look_tells_whose_it_is_and_what_it_holds(struct redo *redo, void *memory)
{
    struct redo_header *header = memory;
    assert_int_equal(log_content(redo), REDO_EMPTY);
    assert_int_equal(redo_look(redo, &other), REDO_FOREIGN);
    store_u64(redo, 0, 1);
    assert_int_equal(log_content(redo), REDO_CHANGES);
    assert_int_equal(redo_look(redo, &other), REDO_FOREIGN);
    header->magic++;
    assert_int_equal(log_content(redo), REDO_FOREIGN);
    header->magic--;
    header->memory_bytes++;
    assert_int_equal(log_content(redo), REDO_FOREIGN);
    header->memory_bytes--;
    header->is_broken = 1;
    assert_int_equal(log_content(redo), REDO_BROKEN);
    redo_format(redo, &other);
    assert_int_equal(log_content(redo), REDO_FOREIGN);
    assert_int_equal(redo_look(redo, &other), REDO_EMPTY);
}
LOG_TEST(a_look_tells_whose_it_is_and_what_it_holds)

static void check_a_heartbeat_is_kept_until_it_is_formatted(struct redo *redo, void *memory)
{
    struct redo *next;
    assert_int_equal(redo_heartbeat_ns(redo), 0);
    redo_beat(redo, UINT64_C(0x123456789abcdef0));
    assert_int_equal(redo_new(&next, memory, LOG_BYTES), 0);
    assert_int_equal(redo_heartbeat_ns(next), UINT64_C(0x123456789abcdef0));
    redo_format(next, &log_identity);
    assert_int_equal(redo_heartbeat_ns(redo), 0);
    redo_free(next);
}
LOG_TEST(a_heartbeat_is_kept_until_it_is_formatted)

static void check_records_say_what_was_changed(struct redo *redo, void *memory)
{
    static const uint8_t text[17] = "sixteen and one.";
    redo_store(redo, HIGH, 1000, text, sizeof(text));
    redo_zero(redo, LOW, 512, 512);
    redo_forget(redo, 1, 4096, UINT64_C(1) << 33);
    assert_int_equal(((struct redo_header *)memory)->tail, 48 + 16 + 32);
    const struct redo_record *record = record_at(memory, 0);
    assert_int_equal(record->type, REDO_STORE);
    assert_int_equal(record->index, HIGH);
    assert_int_equal(record->length, sizeof(text));
    assert_int_equal(record->node_offset, 1000);
    assert_memory_equal(record + 1, text, sizeof(text));
    record = record_at(memory, 48);
    assert_int_equal(record->type, REDO_ZERO);
    assert_int_equal(record->index, LOW);
    assert_int_equal(record->length, 512);
    assert_int_equal(record->node_offset, 512);
    record = record_at(memory, 64);
    assert_int_equal(record->type, REDO_FORGET);
    assert_int_equal(record->index, 1);
    assert_int_equal(record->length, 8);
    assert_int_equal(record->node_offset, 4096);
    assert_int_equal(*(const uint64_t *)(const void *)(record + 1), UINT64_C(1) << 33);
    assert_int_equal(log_counters(redo).records, 3);
}
LOG_TEST(records_say_what_was_changed)

static void check_what_is_forgotten_of_an_empty_log_is_no_record(struct redo *redo, void *memory)
{
    redo_forget(redo, 0, 0, 512);
    assert_int_equal(((struct redo_header *)memory)->tail, 0);
}
LOG_TEST(what_is_forgotten_of_an_empty_log_is_no_record)

/* The ring goes round: a record that would end behind it begins at its begin, behind a pad. */
static void check_a_record_lies_in_one_piece_behind_a_pad(struct redo *redo, void *memory)
{
    static const uint8_t bytes[RING_BYTES / 2] = {7};
    struct redo_header *header = memory;
    redo_store(redo, LOW, 0, bytes, RING_BYTES / 2);
    redo_round_begins(redo);
    redo_round_ended(redo, 0);
    uint64_t at = header->tail;
    assert_int_equal(header->head, at);
    redo_store(redo, LOW, 0, bytes, RING_BYTES / 2);
    const struct redo_record *record = record_at(memory, at);
    assert_int_equal(record->type, REDO_PAD);
    assert_int_equal(at + sizeof(*record) + record->length, RING_BYTES);
    assert_int_equal(record_at(memory, 0)->type, REDO_STORE);
    assert_int_equal(header->tail, RING_BYTES + sizeof(*record) + RING_BYTES / 2);
    assert_int_equal(log_content(redo), REDO_CHANGES);
}
LOG_TEST(a_record_lies_in_one_piece_behind_a_pad)

static void fill(struct redo *redo, unsigned left)
{
    for (unsigned i = 0; i < RING_BYTES / STORE_BYTES - left; i++)
        store_u64(redo, 0, i);
}

static void check_a_ring_holds_as_much_as_it_is_long(struct redo *redo, void *memory)
{
    fill(redo, 0);
    assert_int_equal(log_content(redo), REDO_CHANGES);
    assert_int_equal(log_counters(redo).live_bytes, RING_BYTES);
    assert_int_equal(log_counters(redo).breaks, 0);
    store_u64(redo, 0, 1);
    assert_int_equal(log_content(redo), REDO_BROKEN);
    assert_int_equal(log_counters(redo).breaks, 1);
    assert_int_equal(((struct redo_header *)memory)->tail, RING_BYTES);
}
LOG_TEST(a_ring_holds_as_much_as_it_is_long)

static void check_a_change_larger_than_the_ring_breaks_it(struct redo *redo, void *memory)
{
    static const uint8_t bytes[RING_BYTES];
    (void)memory;
    redo_store(redo, LOW, 0, bytes, sizeof(bytes));
    assert_int_equal(log_content(redo), REDO_BROKEN);
}
LOG_TEST(a_change_larger_than_the_ring_breaks_it)

static void check_a_round_trims_what_it_copied_and_no_more(struct redo *redo, void *memory)
{
    struct redo_header *header = memory;
    store_u64(redo, 0, 1);
    redo_round_begins(redo);
    assert_int_equal(header->head, 0);
    store_u64(redo, 0, 2);
    redo_round_ended(redo, 0);
    assert_int_equal(header->head, STORE_BYTES);
    assert_int_equal(header->tail, 2 * STORE_BYTES);
    redo_round_begins(redo);
    redo_round_ended(redo, -EIO);
    assert_int_equal(header->head, STORE_BYTES);
    assert_int_equal(log_content(redo), REDO_CHANGES);
}
LOG_TEST(a_round_trims_what_it_copied_and_no_more)

static void check_only_a_whole_round_with_an_empty_log_heals(struct redo *redo, void *memory)
{
    (void)memory;
    fill(redo, 0);
    redo_round_begins(redo);
    store_u64(redo, 0, 1); /* breaks it in the middle of a round */
    assert_true(redo_has_work(redo));
    redo_round_ended(redo, 0);
    assert_int_equal(log_content(redo), REDO_BROKEN);
    redo_round_begins(redo);
    assert_false(redo_has_work(redo));
    redo_round_ended(redo, -EIO); /* what it copied is in no log */
    assert_int_equal(log_content(redo), REDO_BROKEN);
    store_u64(redo, 0, 2);
    assert_int_equal(log_counters(redo).live_bytes, 0);
    redo_round_begins(redo);
    fill(redo, 0);
    store_u64(redo, 0, 3); /* full again before it is healed */
    redo_round_ended(redo, 0);
    assert_int_equal(log_content(redo), REDO_BROKEN);
    assert_int_equal(log_counters(redo).breaks, 2);
    redo_round_begins(redo);
    store_u64(redo, 0, 4);
    assert_int_equal(log_content(redo), REDO_BROKEN);
    redo_round_ended(redo, 0);
    assert_int_equal(log_content(redo), REDO_CHANGES);
    assert_int_equal(log_counters(redo).live_bytes, STORE_BYTES);
}
LOG_TEST(only_a_whole_round_with_an_empty_log_heals)

static void check_what_is_broken_for_good_is_healed_by_no_round(struct redo *redo, void *memory)
{
    (void)memory;
    store_u64(redo, 0, 1);
    redo_round_begins(redo);
    redo_break_for_good(redo);
    redo_round_ended(redo, 0);
    redo_round_begins(redo);
    redo_round_ended(redo, 0);
    assert_int_equal(log_content(redo), REDO_BROKEN);
    assert_false(redo_take_wanted(redo));
    assert_false(redo_has_work(redo));
    redo_format(redo, &log_identity);
    store_u64(redo, 0, 1);
    assert_int_equal(log_content(redo), REDO_CHANGES);
}
LOG_TEST(what_is_broken_for_good_is_healed_by_no_round)

static void check_a_round_is_wanted_at_half_full_once(struct redo *redo, void *memory)
{
    (void)memory;
    fill(redo, RING_BYTES / STORE_BYTES / 2 + 1);
    assert_false(redo_take_wanted(redo));
    store_u64(redo, 0, 1);
    assert_true(redo_take_wanted(redo));
    store_u64(redo, 0, 1);
    assert_false(redo_take_wanted(redo));
    redo_round_begins(redo);
    redo_round_ended(redo,
                     -EIO); /* another one would fail too; when it is full one more is tried */
    store_u64(redo, 0, 1);
    assert_false(redo_take_wanted(redo));
    fill(redo, 0);
    assert_int_equal(log_content(redo), REDO_BROKEN);
    assert_true(redo_take_wanted(redo));
    assert_false(redo_take_wanted(redo));
    redo_round_begins(redo);
    fill(redo, RING_BYTES / STORE_BYTES / 2);
    assert_true(redo_take_wanted(redo));
    redo_round_ended(redo, 0); /* half full still, of what came meanwhile */
    assert_true(redo_take_wanted(redo));
}
LOG_TEST(a_round_is_wanted_at_half_full_once)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_look_tells_whose_it_is_and_what_it_holds),
        cmocka_unit_test(a_heartbeat_is_kept_until_it_is_formatted),
        cmocka_unit_test(records_say_what_was_changed),
        cmocka_unit_test(what_is_forgotten_of_an_empty_log_is_no_record),
        cmocka_unit_test(a_record_lies_in_one_piece_behind_a_pad),
        cmocka_unit_test(a_ring_holds_as_much_as_it_is_long),
        cmocka_unit_test(a_change_larger_than_the_ring_breaks_it),
        cmocka_unit_test(a_round_trims_what_it_copied_and_no_more),
        cmocka_unit_test(only_a_whole_round_with_an_empty_log_heals),
        cmocka_unit_test(what_is_broken_for_good_is_healed_by_no_round),
        cmocka_unit_test(a_round_is_wanted_at_half_full_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
