/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include <stdio.h>

#include "common/random.h"
#include "formats/qcow2/refmap.h"

static void what_was_never_added_is_0(void **state)
{
    struct refmap map;
    uint64_t index;
    (void)state;
    refmap_init(&map);
    assert_int_equal(refmap_get(&map, 0), 0);
    assert_int_equal(refmap_get(&map, UINT64_MAX), 0);
    assert_false(refmap_next(&map, 0, &index));
    refmap_fini(&map);
}

static void indices_far_apart_take_little_memory(void **state)
{
    struct refmap map;
    uint64_t index = 0;
    (void)state;
    refmap_init(&map);
    for (unsigned bit = 13; bit < 60; bit++)
        assert_int_equal(refmap_add(&map, UINT64_C(1) << bit), 0);
    assert_int_equal(map.chunk_count, 47);
    for (unsigned bit = 13; bit < 60; bit++) {
        assert_true(refmap_next(&map, index, &index));
        assert_int_equal(index++, UINT64_C(1) << bit);
    }
    assert_false(refmap_next(&map, index, &index));
    refmap_fini(&map);
}

/* Against a plain array. */
static void random_counts_are_kept(void **state)
{
    enum { CLUSTERS = 1 << 18 };
    static uint32_t model[CLUSTERS];
    const char *given = getenv("SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : 20261121;
    struct random random;
    struct refmap map;
    uint64_t index;
    (void)state;
    print_message("refmap: SEED=%llu\n", (unsigned long long)seed);
    random_seed(&random, seed);
    refmap_init(&map);
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t at = random_below(&random, CLUSTERS) & random_below(&random, CLUSTERS);
        model[at]++;
        assert_int_equal(refmap_add(&map, at), 0);
    }
    uint64_t from = 0;
    for (uint64_t i = 0; i < CLUSTERS; i++) {
        assert_int_equal(refmap_get(&map, i), model[i]);
        if (model[i] == 0)
            continue;
        assert_true(refmap_next(&map, from, &index));
        assert_int_equal(index, i);
        from = i + 1;
    }
    assert_false(refmap_next(&map, from, &index));
    refmap_fini(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_never_added_is_0),
        cmocka_unit_test(indices_far_apart_take_little_memory),
        cmocka_unit_test(random_counts_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
