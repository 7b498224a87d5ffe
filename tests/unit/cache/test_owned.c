/* SPDX-License-Identifier: BSD-3-Clause */
/* owned.c: against a plain array that says who has what. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "cache/owned.h"
#include "tests/unit/block/block_fixture.h"

#define CLUSTERS 3000

static struct owned *make(void)
{
    struct owned *owned;
    assert_int_equal(owned_new(&owned), 0);
    return owned;
}

static void a_cluster_has_one_owner_at_most(void **state)
{
    (void)state;
    struct owned *owned = make();
    assert_int_equal(owned_by(owned, 0), OWNED_NOBODY);
    assert_int_equal(owned_add(owned, 0, 3), 0);
    assert_int_equal(owned_by(owned, 0), 3);
    assert_int_equal(owned_add(owned, 0, 3), 0);
    assert_int_equal(owned_add(owned, 0, 4), -EEXIST);
    assert_int_equal(owned_by(owned, 0), 3);
    assert_int_equal(owned_count(owned), 1);
    owned_remove(owned, 0);
    owned_remove(owned, 0);
    assert_int_equal(owned_count(owned), 0);
    assert_int_equal(owned_add(owned, OWNED_CLUSTERS_MAX - 1, OWNED_OWNERS_MAX), 0);
    assert_int_equal(owned_by(owned, OWNED_CLUSTERS_MAX - 1), OWNED_OWNERS_MAX);
    owned_free(owned);
    owned_free(NULL);
}

static void the_first_owner_of_a_range_is_found(void **state)
{
    (void)state;
    struct owned *owned = make();
    uint64_t where = 7;
    assert_int_equal(owned_first(owned, 0, 1000, &where), OWNED_NOBODY);
    assert_int_equal(where, 7);
    owned_add(owned, 100, 1);
    owned_add(owned, 90, 2);
    assert_int_equal(owned_first(owned, 0, 1000, &where), 2);
    assert_int_equal(where, 90);
    assert_int_equal(owned_first(owned, 91, 9, &where), OWNED_NOBODY);
    assert_int_equal(owned_first(owned, 91, 10, &where), 1);
    assert_int_equal(where, 100);
    owned_free(owned);
}

static void more_room_than_there_can_be_is_refused(void **state)
{
    (void)state;
    struct owned *owned = make();
    assert_int_equal(owned_reserve(owned, UINT64_MAX), -ENOMEM);
    assert_int_equal(owned_reserve(owned, UINT64_C(1) << 40), -ENOMEM);
    assert_int_equal(owned_reserve(owned, 1000), 0);
    owned_free(owned);
}

/* Many neighbours come and go, so that searches run over each other's places. */
static void it_agrees_with_an_array(void **state)
{
    static uint8_t model[CLUSTERS];
    (void)state;
    struct random random;
    random_seed(&random, fixture_seed("owned"));
    struct owned *owned = make();
    uint64_t count = 0;
    for (unsigned step = 0; step < 200000; step++) {
        uint64_t index = random_below(&random, CLUSTERS);
        if (random_below(&random, 5) < (step / 20000 % 2 ? 1u : 4u)) {
            unsigned owner = 1 + (unsigned)random_below(&random, 3);
            bool other = model[index] != 0 && model[index] != owner;
            assert_int_equal(owned_add(owned, index, owner), other ? -EEXIST : 0);
            count += model[index] == 0;
            model[index] = other ? model[index] : (uint8_t)owner;
        } else {
            owned_remove(owned, index);
            count -= model[index] != 0;
            model[index] = 0;
        }
        assert_int_equal(owned_by(owned, index), model[index]);
        index = random_below(&random, CLUSTERS);
        assert_int_equal(owned_by(owned, index), model[index]);
    }
    for (uint64_t i = 0; i < CLUSTERS; i++)
        assert_int_equal(owned_by(owned, i), model[i]);
    assert_int_equal(owned_count(owned), count);
    owned_free(owned);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cluster_has_one_owner_at_most),
        cmocka_unit_test(the_first_owner_of_a_range_is_found),
        cmocka_unit_test(more_room_than_there_can_be_is_refused),
        cmocka_unit_test(it_agrees_with_an_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
