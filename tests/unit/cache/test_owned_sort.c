/* SPDX-License-Identifier: BSD-3-Clause */
/* owned_sort.c: words of any width, in any order, against what qsort() makes of them. */
#include "tests/unit/unit.h"

#include <stdlib.h>

#include "cache/owned_leaves.h"
#include "cache/owned_sort.h"
#include "tests/unit/block/block_fixture.h"

static int by_cluster(const void *a, const void *b)
{
    uint32_t first = *(const uint32_t *)a >> OWNED_TAG_BITS;
    uint32_t second = *(const uint32_t *)b >> OWNED_TAG_BITS;
    return first < second ? -1 : first > second;
}

/* Drawn, with bits above those that differ; each cluster has a tag of its own. */
static uint32_t draw_word(struct random *random, unsigned bits)
{
    uint64_t index = random_below(random, UINT64_C(1) << bits);
    uint64_t above = bits < OWNED_SEGMENT_BITS ? UINT64_C(1) << bits : 0;
    return (uint32_t)((index | above) << OWNED_TAG_BITS | index % 31);
}

static void check_sorted(struct owned_sorter *sorter, size_t count, unsigned bits,
                         struct random *random)
{
    static uint32_t wanted[40000];
    static uint32_t words[40000];
    for (size_t i = 0; i < count; i++)
        wanted[i] = words[i] = draw_word(random, bits);
    qsort(wanted, count, sizeof(*wanted), by_cluster);
    assert_int_equal(owned_sorter_begin(sorter, count, bits), 0);
    owned_sorter_count(sorter, words, count / 3);
    owned_sorter_count(sorter, words + count / 3, count - count / 3);
    owned_sorter_counted(sorter);
    owned_sorter_place(sorter, words, count / 2);
    owned_sorter_place(sorter, words + count / 2, count - count / 2);
    assert_memory_equal(owned_sorter_end(sorter), wanted, count * sizeof(*wanted));
}

static void words_of_any_width_are_sorted(void **state)
{
    static const size_t counts[] = {1, 2, 3, 100, 2500, 40000, 17};
    struct random random;
    (void)state;
    random_seed(&random, fixture_seed("owned_sort"));
    for (unsigned bits = 1; bits <= OWNED_SEGMENT_BITS; bits++) {
        struct owned_sorter *sorter = calloc(1, sizeof(*sorter));
        assert_non_null(sorter);
        for (unsigned i = 0; i < sizeof(counts) / sizeof(*counts); i++)
            check_sorted(sorter, counts[i], bits, &random);
        owned_sorter_fini(sorter);
        free(sorter);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_of_any_width_are_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
