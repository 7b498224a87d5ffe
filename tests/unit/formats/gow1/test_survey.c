/* SPDX-License-Identifier: BSD-3-Clause */
/* survey.c: each fault of a map, counted and told, and what is used. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "formats/gow1/survey.h"

#define FREE GOW1_FREE

static char told[2000];
static unsigned told_count;

static void note(void *arg, const char *sentence)
{
    (void)arg;
    told_count++;
    strncat(told, sentence, sizeof(told) - strlen(told) - 1);
    strncat(told, "|", sizeof(told) - strlen(told) - 1);
}

static struct gow1_survey survey_of(uint32_t size, uint32_t allocated, uint32_t file_blocks,
                                    const uint32_t *entries, uint32_t count)
{
    struct gow1_survey survey;
    struct gow1_header header = {.magic = GOW1_MAGIC, .size = size, .allocated = allocated};
    told[0] = '\0';
    told_count = 0;
    assert_int_equal(gow1_survey_init(&survey, &header, entries, count,
                                      gow1_block_offset(file_blocks), note, NULL),
                     0);
    return survey;
}

static void a_sound_map_has_no_faults_and_shows_its_leaks(void **state)
{
    const uint32_t entries[] = {4, FREE, 0, 1, FREE, FREE};
    (void)state;
    struct gow1_survey survey = survey_of(6, 6, 6, entries, 6);
    assert_int_equal(survey.faults, 0);
    assert_int_equal(told_count, 0);
    assert_int_equal(survey.used_count, 3);
    assert_int_equal(survey.used_end, 5);
    assert_int_equal(survey.leaked, 3);
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(gow1_survey_is_used(&survey, i), i < 2 || i == 4);
    gow1_survey_use(&survey, 7);
    assert_int_equal(survey.used_count, 4);
    assert_int_equal(survey.used_end, 8);
    gow1_survey_fini(&survey);
}

static void each_fault_is_counted_and_told(void **state)
{
    const uint32_t entries[] = {0, 0, 2, 5, 0xfffffffe, FREE, 1, FREE};
    (void)state;
    struct gow1_survey survey = survey_of(6, 2, 5, entries, 8);
    assert_int_equal(survey.faults, 5);
    assert_string_equal(told, "map[1] is 0, which another entry before it is as well|"
                              "map[2] is 2, and allocated is 2|"
                              "map[3] is 5, and the file, of 4521996 bytes, has 5 blocks|"
                              "map[4] is 4294967294, and the file, of 4521996 bytes, has 5 blocks|"
                              "map[6] is 1, not free, and the disk has 6 blocks|");
    assert_int_equal(survey.used_count, 2); /* 0 and 2 */
    assert_int_equal(survey.leaked, 1);     /* 1: what lies behind the disk does not count */
    gow1_survey_fini(&survey);
}

static void of_many_faults_the_first_hundred_are_told(void **state)
{
    uint32_t entries[300];
    (void)state;
    memset(entries, 0, sizeof(entries));
    struct gow1_survey survey = survey_of(300, 1, 1, entries, 300);
    assert_int_equal(survey.faults, 299);
    assert_int_equal(told_count, 100);
    gow1_survey_fini(&survey);
}

static void the_next_entry_is_found_wherever_it_is(void **state)
{
    uint32_t entries[300];
    (void)state;
    for (uint32_t at = 0; at < 300; at++) {
        memset(entries, 0xff, sizeof(entries));
        entries[at] = 5;
        for (uint32_t from = 0; from <= 300; from += 1 + at % 7)
            assert_int_equal(gow1_next_entry(entries, from, 300), from <= at ? at : 300);
        assert_int_equal(gow1_next_entry(entries, 0, at), at);
    }
}

static void leaks_are_counted_up_to_the_very_block(void **state)
{
    uint32_t entries[200];
    (void)state;
    for (uint32_t allocated = 100; allocated < 200; allocated++) {
        for (uint32_t i = 0; i < 200; i++)
            entries[i] = i < allocated && i % 3 ? i : FREE;
        struct gow1_survey survey = survey_of(200, allocated, 200, entries, 200);
        assert_int_equal(survey.leaked, (allocated + 2) / 3);
        assert_int_equal(survey.faults, 0);
        gow1_survey_fini(&survey);
    }
}

static void an_allocated_beyond_all_bounds_does_no_harm(void **state)
{
    const uint32_t entries[] = {GOW1_BLOCKS_MAX - 1, GOW1_BLOCKS_MAX};
    (void)state;
    struct gow1_survey survey = survey_of(2, UINT32_MAX, GOW1_BLOCKS_MAX, entries, 2);
    assert_int_equal(survey.faults, 1);
    assert_int_equal(survey.used_end, GOW1_BLOCKS_MAX);
    assert_int_equal(survey.leaked, GOW1_BLOCKS_MAX - 1);
    gow1_survey_fini(&survey);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_map_has_no_faults_and_shows_its_leaks),
        cmocka_unit_test(each_fault_is_counted_and_told),
        cmocka_unit_test(of_many_faults_the_first_hundred_are_told),
        cmocka_unit_test(the_next_entry_is_found_wherever_it_is),
        cmocka_unit_test(leaks_are_counted_up_to_the_very_block),
        cmocka_unit_test(an_allocated_beyond_all_bounds_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
