/* SPDX-License-Identifier: BSD-3-Clause */
/* The remembered data of a file: never claims what was forgotten, however the ranges fall. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block/posix_extents.h"
#include "common/random.h"

static void add(struct posix_extents *extents, uint64_t start, uint64_t end)
{
    posix_extents_add(extents, posix_extents_generation(extents), start, end);
}

static void touching_ranges_become_one(void **state)
{
    (void)state;
    struct posix_extents extents;
    uint64_t end;
    posix_extents_init(&extents);
    add(&extents, 0, 10);
    add(&extents, 20, 30);
    add(&extents, 10, 20);
    assert_int_equal(extents.count, 1);
    assert_true(posix_extents_find(&extents, 5, &end));
    assert_int_equal(end, 30);
    assert_false(posix_extents_find(&extents, 30, &end));
    posix_extents_fini(&extents);
}

static void forgetting_the_middle_leaves_both_ends(void **state)
{
    (void)state;
    struct posix_extents extents;
    uint64_t end;
    posix_extents_init(&extents);
    add(&extents, 0, 100);
    posix_extents_forget(&extents, 40, 60);
    assert_true(posix_extents_find(&extents, 39, &end));
    assert_int_equal(end, 40);
    assert_false(posix_extents_find(&extents, 40, &end));
    assert_false(posix_extents_find(&extents, 59, &end));
    assert_true(posix_extents_find(&extents, 60, &end));
    assert_int_equal(end, 100);
    posix_extents_fini(&extents);
}

static void a_finding_older_than_a_forgetting_is_not_added(void **state)
{
    (void)state;
    struct posix_extents extents;
    uint64_t end;
    posix_extents_init(&extents);
    uint64_t generation = posix_extents_generation(&extents);
    posix_extents_forget(&extents, 0, 10);
    posix_extents_add(&extents, generation, 0, 100);
    assert_false(posix_extents_find(&extents, 5, &end));
    posix_extents_fini(&extents);
}

static void of_more_than_fit_some_are_forgotten(void **state)
{
    (void)state;
    enum { ADDED = 3 * POSIX_EXTENTS_MAX };
    struct posix_extents extents;
    uint64_t end;
    posix_extents_init(&extents);
    for (uint64_t i = 0; i < ADDED; i++) {
        uint64_t start = i * 7919 % ADDED * 10; /* in no order, none touches another */
        add(&extents, start, start + 5);
        assert_true(posix_extents_find(&extents, start + 4, &end));
        assert_int_equal(end, start + 5);
    }
    assert_int_equal(extents.count, POSIX_EXTENTS_MAX);
    for (unsigned i = 1; i < extents.count; i++)
        assert_true(extents.known[i - 1].end < extents.known[i].start);
    uint64_t middle =
        extents.known[POSIX_EXTENTS_MAX / 2].start + 2; /* one more than there is room for */
    posix_extents_forget(&extents, middle, middle + 1);
    assert_false(posix_extents_find(&extents, middle, &end));
    assert_int_equal(extents.count, POSIX_EXTENTS_MAX);
    for (unsigned i = 1; i < extents.count; i++)
        assert_true(extents.known[i - 1].end < extents.known[i].start);
    posix_extents_fini(&extents);
}

/* Against an array of what may be claimed at most. */
static void nothing_is_claimed_that_was_not_added_or_was_forgotten(void **state)
{
    (void)state;
    enum { BYTES = 500 };
    struct posix_extents extents;
    bool may_claim[BYTES] = {false};
    struct random random;
    const char *given = getenv("TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    print_message("TEST_SEED=%llu\n", (unsigned long long)seed);
    random_seed(&random, seed);
    posix_extents_init(&extents);
    unsigned found = 0;
    for (int round = 0; round < 5000; round++) {
        uint64_t start = random_below(&random, BYTES);
        uint64_t end = start + 1 + random_below(&random, 12);
        end = end > BYTES ? BYTES : end;
        bool is_added = random_once_in(&random, 2);
        if (is_added)
            add(&extents, start, end);
        else
            posix_extents_forget(&extents, start, end);
        for (uint64_t at = start; at < end; at++)
            may_claim[at] = is_added;
        assert_true(extents.count <= POSIX_EXTENTS_MAX);
        for (uint64_t at = 0; at < BYTES; at++) {
            uint64_t known_end;
            if (!posix_extents_find(&extents, at, &known_end))
                continue;
            found++;
            assert_true(at < known_end && known_end <= BYTES);
            for (uint64_t claimed = at; claimed < known_end; claimed++)
                assert_true(may_claim[claimed]);
        }
        if (is_added) /* the newest is there */
            assert_true(posix_extents_find(&extents, start, &end));
    }
    assert_true(found > 5000);
    posix_extents_fini(&extents);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(touching_ranges_become_one),
        cmocka_unit_test(forgetting_the_middle_leaves_both_ends),
        cmocka_unit_test(a_finding_older_than_a_forgetting_is_not_added),
        cmocka_unit_test(of_more_than_fit_some_are_forgotten),
        cmocka_unit_test(nothing_is_claimed_that_was_not_added_or_was_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
