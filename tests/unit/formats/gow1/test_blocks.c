/* SPDX-License-Identifier: BSD-3-Clause */
/* blocks.c: which blocks are given, in which order, and which of them are fresh. */
#include "tests/unit/unit.h"

#include <string.h>

#include "formats/gow1/blocks.h"
#include "tests/unit/block/block_fixture.h"

static void check_take(struct gow1_blocks *blocks, uint32_t count_max, uint32_t first,
                       uint32_t count, bool is_fresh)
{
    struct gow1_taken taken = gow1_blocks_take(blocks, count_max);
    assert_int_equal(taken.first, first);
    assert_int_equal(taken.count, count);
    assert_int_equal(taken.is_fresh, is_fresh);
}

static void new_blocks_come_at_the_end_and_are_fresh(void **state)
{
    struct gow1_blocks blocks;
    (void)state;
    assert_int_equal(gow1_blocks_init(&blocks, 3, 3), 0);
    check_take(&blocks, 2, 3, 2, true);
    check_take(&blocks, 1, 5, 1, true);
    assert_int_equal(blocks.allocated, 6);
    gow1_blocks_fini(&blocks);
}

static void what_the_file_has_already_is_not_fresh(void **state)
{
    struct gow1_blocks blocks;
    (void)state;
    assert_int_equal(gow1_blocks_init(&blocks, 3, 5), 0);
    check_take(&blocks, 9, 3, 2, false);
    check_take(&blocks, 9, 5, 9, true);
    gow1_blocks_fini(&blocks);
}

static void the_lowest_free_ones_come_first(void **state)
{
    struct gow1_blocks blocks;
    (void)state;
    assert_int_equal(gow1_blocks_init(&blocks, 200, 130), 0);
    for (uint32_t i = 130; i < 200; i++) /* counted, but the file ends before */
        gow1_blocks_give_back(&blocks, i);
    gow1_blocks_give_back(&blocks, 64);
    gow1_blocks_give_back(&blocks, 63);
    gow1_blocks_give_back(&blocks, 7);
    check_take(&blocks, 5, 7, 1, false);
    check_take(&blocks, 5, 63, 2, false);
    gow1_blocks_give_back(&blocks, 129);
    check_take(&blocks, 5, 129, 1, false); /* fresh ones are not taken along */
    check_take(&blocks, 5, 130, 5, true);
    gow1_blocks_give_back(&blocks, 131); /* of a write that failed: there may be bytes of it */
    check_take(&blocks, 1, 131, 1, false);
    check_take(&blocks, 100, 135, 65, true);
    check_take(&blocks, 2, 200, 2, true);
    gow1_blocks_fini(&blocks);
}

static void free_blocks_at_the_end_are_given_up(void **state)
{
    struct gow1_blocks blocks;
    (void)state;
    assert_int_equal(gow1_blocks_init(&blocks, 10, 10), 0);
    gow1_blocks_give_back(&blocks, 9);
    gow1_blocks_give_back(&blocks, 8);
    gow1_blocks_give_back(&blocks, 3);
    gow1_blocks_trim(&blocks);
    assert_int_equal(blocks.allocated, 8);
    check_take(&blocks, 2, 3, 1, false);
    check_take(&blocks, 2, 8, 2, false); /* they are in the file */
    check_take(&blocks, 2, 10, 2, true);
    for (uint32_t i = 0; i < 12; i++)
        gow1_blocks_give_back(&blocks, i);
    gow1_blocks_trim(&blocks);
    assert_int_equal(blocks.allocated, 0);
    gow1_blocks_fini(&blocks);
}

#define MODEL_BLOCKS 500

/* Against an array: no block is given twice, none is called fresh that was ever given. */
static void at_random_nothing_is_given_twice(void **state)
{
    struct gow1_blocks blocks;
    struct random random;
    bool is_taken[MODEL_BLOCKS] = {false}, was_taken[MODEL_BLOCKS] = {false};
    uint32_t taken_count = 0;
    (void)state;
    random_seed(&random, fixture_seed("blocks"));
    assert_int_equal(gow1_blocks_init(&blocks, 0, 20), 0);
    for (unsigned round = 0; round < 20000; round++) {
        uint32_t wanted = 1 + (uint32_t)random_below(&random, 9);
        uint32_t block = (uint32_t)random_below(&random, MODEL_BLOCKS);
        if (is_taken[block]) {
            gow1_blocks_give_back(&blocks, block);
            is_taken[block] = false;
            taken_count--;
        } else if (taken_count + wanted <= MODEL_BLOCKS) {
            struct gow1_taken taken = gow1_blocks_take(&blocks, wanted);
            assert_in_range(taken.count, 1, wanted);
            for (uint32_t i = taken.first; i < taken.first + taken.count; i++) {
                assert_true(i < MODEL_BLOCKS && !is_taken[i]); /* never above the count needed */
                assert_true(!taken.is_fresh || (i >= 20 && !was_taken[i]));
                is_taken[i] = was_taken[i] = true;
                taken_count++;
            }
        }
        if (random_once_in(&random, 50))
            gow1_blocks_trim(&blocks);
        assert_int_equal(blocks.allocated - blocks.free_count, taken_count);
    }
    gow1_blocks_fini(&blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_blocks_come_at_the_end_and_are_fresh),
        cmocka_unit_test(what_the_file_has_already_is_not_fresh),
        cmocka_unit_test(the_lowest_free_ones_come_first),
        cmocka_unit_test(free_blocks_at_the_end_are_given_up),
        cmocka_unit_test(at_random_nothing_is_given_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
