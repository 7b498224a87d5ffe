/* SPDX-License-Identifier: BSD-3-Clause */
/* random.c: one seed, one sequence, on every machine; bounds kept. */
#include "tests/unit/unit.h"

#include "common/random.h"

static void a_seed_gives_the_published_sequence(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 1234567);
    /* SplitMix64's reference values for this seed. */
    assert_true(random_u64(&random) == UINT64_C(6457827717110365317));
    assert_true(random_u64(&random) == UINT64_C(3203168211198807973));
}

static void draws_stay_below_their_bound_and_reach_every_value(void **state)
{
    (void)state;
    struct random random;
    unsigned seen = 0;
    random_seed(&random, 1);
    for (int i = 0; i < 1000; i++) {
        uint64_t drawn = random_below(&random, 7);
        assert_true(drawn < 7);
        seen |= 1u << drawn;
    }
    assert_int_equal(seen, 0x7f);
    assert_int_equal(random_below(&random, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_gives_the_published_sequence),
        cmocka_unit_test(draws_stay_below_their_bound_and_reach_every_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
