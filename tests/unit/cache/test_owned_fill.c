/* SPDX-License-Identifier: BSD-3-Clause */
/* owned_fill.c: many at once, in any order; what two want; what it takes, and who makes it ready.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>

#include "cache/owned.h"
#include "tests/unit/block/block_fixture.h"

#define SEGMENT (UINT64_C(1) << 27) /* what the words of one leaf can count */

struct fill {
    struct owned *owned;
    struct owned_filler filler;
};

static void begin(struct fill *fill, uint64_t clusters_end)
{
    assert_int_equal(owned_new(&fill->owned), 0);
    owned_filler_init(&fill->filler, fill->owned, clusters_end);
}

static void add(struct fill *fill, uint64_t first, uint64_t count, unsigned owner)
{
    assert_int_equal(owned_filler_add(&fill->filler, first, count, owner), 0);
}

static void end(struct fill *fill)
{
    owned_filler_fini(&fill->filler);
    owned_free(fill->owned);
}

static void a_set_can_be_filled_with_nothing(void **state)
{
    (void)state;
    struct fill fill;
    uint64_t where;
    begin(&fill, 1);
    assert_int_equal(owned_filler_finish(&fill.filler), 0);
    assert_int_equal(owned_first(fill.owned, 0, OWNED_CLUSTERS_MAX, &where), OWNED_NOBODY);
    assert_int_equal(owned_add(fill.owned, 5, 1, 1), 0);
    end(&fill);
}

/* In any order, with neighbours far and near; and changes afterwards. */
static void all_that_was_added_is_there(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    struct fill fill;
    struct random random;
    static uint64_t indices[COUNT];
    random_seed(&random, fixture_seed("owned_fill"));
    for (uint64_t i = 0; i < COUNT; i++)
        indices[i] = i % 5 * (SEGMENT * 3 - 4000) + i * 7;
    for (uint64_t i = COUNT - 1; i > 0; i--) {
        uint64_t j = random_below(&random, i + 1), kept = indices[i];
        indices[i] = indices[j];
        indices[j] = kept;
    }
    begin(&fill, 1);
    for (unsigned i = 0; i < COUNT; i++)
        add(&fill, indices[i], 1 + indices[i] % 3, 1 + (unsigned)(indices[i] % 7));
    assert_int_equal(owned_filler_finish(&fill.filler), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned owner = 1 + (unsigned)(indices[i] % 7);
        uint64_t last = indices[i] + indices[i] % 3;
        assert_int_equal(owned_by(fill.owned, indices[i]), owner);
        assert_int_equal(owned_by(fill.owned, last), owner);
        assert_int_equal(owned_by(fill.owned, last + 1), OWNED_NOBODY);
    }
    for (unsigned i = 0; i < COUNT; i += 2)
        owned_remove(fill.owned, indices[i], 1 + indices[i] % 3);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(owned_by(fill.owned, indices[i]),
                         i % 2 ? 1 + indices[i] % 7 : OWNED_NOBODY);
        assert_int_equal(owned_add(fill.owned, indices[i] + 3, 4, 2), 0);
    }
    end(&fill);
}

/* Which cluster is said to have two owners. */
static uint64_t conflict_of(const struct owned_conflict *all, unsigned count, unsigned *owners)
{
    struct fill fill;
    begin(&fill, 1);
    for (unsigned i = 0; i < count; i++)
        add(&fill, all[i].cluster_index, all[i].owners[1], all[i].owners[0]);
    assert_int_equal(owned_filler_finish(&fill.filler), -EEXIST);
    uint64_t where = fill.filler.conflict.cluster_index;
    memcpy(owners, fill.filler.conflict.owners, sizeof(fill.filler.conflict.owners));
    end(&fill);
    return where;
}

static void a_cluster_that_two_want_is_named(void **state)
{
    (void)state;
    unsigned owners[2];
    const struct owned_conflict same[] = {{9, {1, 1}}, {70, {2, 1}}, {4, {1, 1}}, {70, {3, 1}}};
    assert_int_equal(conflict_of(same, 4, owners), 70);
    assert_int_equal(owners[0] + owners[1], 5);
    const struct owned_conflict inside[] = {{100, {1, 50}}, {120, {2, 1}}};
    assert_int_equal(conflict_of(inside, 2, owners), 120);
    assert_int_equal(owners[0], 2);
    assert_int_equal(owners[1], 1);
    const struct owned_conflict behind[] = {{SEGMENT * 2 - 1, {4, 1}}, {100, {1, SEGMENT * 3}}};
    assert_int_equal(conflict_of(behind, 2, owners), SEGMENT * 2 - 1);
    const struct owned_conflict overlap[] = {{100, {1, 50}}, {149, {2, 50}}};
    assert_int_equal(conflict_of(overlap, 2, owners), 149);
    const struct owned_conflict twice[] = {{100, {6, 50}}, {100, {6, 50}}};
    assert_int_equal(conflict_of(twice, 2, owners), 100);
    assert_int_equal(owners[0], 6);
    assert_int_equal(owners[1], 6);
    const struct owned_conflict neighbours[] = {{0, {1, 1}}, {0, {7, 1}}};
    assert_int_equal(conflict_of(neighbours, 2, owners), 0);
}

/* The formula of owned.h. */
static void it_takes_five_bytes_a_cluster(void **state)
{
    (void)state;
    struct fill fill;
    uint64_t count = 500000, step = 7919; /* no order: prime to the count */
    begin(&fill, 1);
    for (uint64_t i = 0; i < count; i++)
        add(&fill, i * step % count * 513, 1, 1);
    assert_int_equal(owned_filler_finish(&fill.filler), 0);
    assert_in_range(owned_bytes(fill.owned), count * 4, count * 5 + 262144 + 528 * 2);
    end(&fill);
}

static void clusters_far_from_each_other_take_a_leaf_each(void **state)
{
    (void)state;
    struct fill fill;
    uint64_t count = 3000;
    begin(&fill, (count + 1) * SEGMENT * 5);
    for (uint64_t i = count; i > 0; i--)
        add(&fill, i * SEGMENT * 5 + i, 1, 3);
    assert_int_equal(owned_filler_finish(&fill.filler), 0);
    for (uint64_t i = count; i > 0; i--)
        assert_int_equal(owned_by(fill.owned, i * SEGMENT * 5 + i), 3);
    assert_in_range(owned_bytes(fill.owned), count * 512, count * (5 + 528 + 48) + 262144);
    end(&fill);
}

enum shape { FORWARD, BACKWARD, SHUFFLED, SHAPES };

/* As an L1 table may have them. A prime: every place comes once. */
static uint64_t nth_of(enum shape shape, uint64_t i, uint64_t count)
{
    return shape == FORWARD ? i : shape == BACKWARD ? count - 1 - i : i * 7919 % count;
}

/* With every width of the parts: the end of the file says which. */
static void every_shape_of_a_table_is_taken(void **state)
{
    static const uint64_t ends[] = {
        1, 1 << 20, UINT64_C(1) << 33, UINT64_C(1) << 36, UINT64_C(1) << 39, UINT64_C(1) << 40};
    enum { COUNT = 30000, GROUP = 100 };
    static uint64_t clusters[GROUP];
    (void)state;
    for (unsigned i = 0; i < 6 * SHAPES; i++) {
        uint64_t file_end = ends[i / SHAPES], step = file_end / COUNT + 1 + i % 2;
        struct fill fill;
        begin(&fill, file_end);
        for (uint64_t j = 0; j < COUNT; j += GROUP) {
            for (uint64_t k = 0; k < GROUP; k++)
                clusters[k] = nth_of(i % SHAPES, j + k, COUNT) * step;
            assert_int_equal(owned_filler_add_each(&fill.filler, clusters, GROUP, 5), 0);
        }
        add(&fill, COUNT * step, 7, 6);
        assert_int_equal(owned_filler_finish(&fill.filler), 0);
        for (uint64_t j = 0; j < COUNT; j++) {
            assert_int_equal(owned_by(fill.owned, j * step), 5);
            assert_int_equal(owned_by(fill.owned, j * step + 1),
                             step == 1 ? 5 + (j == COUNT - 1) : 0);
        }
        assert_int_equal(owned_by(fill.owned, COUNT * step + 6), 6);
        end(&fill);
    }
}

/* A part of 2^27 clusters whose elements differ in the lowest bits, in the highest, in all. */
static void a_part_is_sorted_by_all_its_bits(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, fixture_seed("owned_fill_bits"));
    for (unsigned shift = 0; shift <= 20; shift += 5) {
        struct fill fill;
        static bool is_there[128];
        memset(is_there, 0, sizeof(is_there));
        begin(&fill, UINT64_C(1) << 41);
        for (unsigned i = 0; i < 60; i++) {
            unsigned nth = (unsigned)random_below(&random, 128);
            if (!is_there[nth])
                add(&fill, SEGMENT * 3 + ((uint64_t)nth << shift), 1, 1);
            is_there[nth] = true;
        }
        assert_int_equal(owned_filler_finish(&fill.filler), 0);
        for (unsigned i = 0; i < 128; i++)
            assert_int_equal(owned_by(fill.owned, SEGMENT * 3 + ((uint64_t)i << shift)),
                             is_there[i]);
        end(&fill);
    }
}

/* Where the words of one part lie, more of them than are sorted at a time. */
static const struct crowd {
    uint64_t parts_end;        /* of the file */
    uint64_t clump, step, gap; /* so many, that far from each other; from one clump to the next */
} crowds[] = {
    {1, 100000, 1, 0},                                       /* all of it */
    {UINT64_C(1) << 41, 100000, 1, 0},                       /* its begin */
    {UINT64_C(1) << 41, 100000, 1337, 0},                    /* evenly */
    {UINT64_C(1) << 41, 50000, 1, SEGMENT / 2},              /* two places */
    {UINT64_C(1) << 41, 10, 3, 12345},                       /* in small ones */
    {UINT64_C(1) << 36, 33333, 2, 2 * SEGMENT / 32 - 12345}, /* in three parts */
};

/* Of 100000 in no order. */
static uint64_t place_in(const struct crowd *crowd, uint64_t nth)
{
    nth = nth * 7919 % 100000;
    return nth % crowd->clump * crowd->step + nth / crowd->clump * crowd->gap;
}

static void begin_crowd(struct fill *fill, const struct crowd *crowd)
{
    begin(fill, crowd->parts_end);
    for (uint64_t i = 0; i < 100000; i++)
        add(fill, 2 * SEGMENT + place_in(crowd, i), 1, 1 + (unsigned)(i % 7));
}

static void a_part_with_many_is_parted_again(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(crowds) / sizeof(*crowds); i++) {
        struct fill fill;
        uint64_t where, at = 0, found = 0;
        begin_crowd(&fill, &crowds[i]);
        assert_int_equal(owned_filler_finish(&fill.filler), 0);
        for (uint64_t j = 0; j < 100000; j++)
            assert_int_equal(owned_by(fill.owned, 2 * SEGMENT + place_in(&crowds[i], j)),
                             1 + j % 7);
        for (; owned_first(fill.owned, at, OWNED_CLUSTERS_MAX - at, &where); at = where + 1)
            found++;
        assert_int_equal(found, 100000);
        end(&fill);
        /* And one of them twice. */
        uint64_t twice = 2 * SEGMENT + place_in(&crowds[i], 77777);
        begin_crowd(&fill, &crowds[i]);
        add(&fill, twice, 1, 7);
        assert_int_equal(owned_filler_finish(&fill.filler), -EEXIST);
        assert_int_equal(fill.filler.conflict.cluster_index, twice);
        end(&fill);
    }
}

/* A part with many that rise, every other cluster, and some that come later and lie among them,
 * before them and behind them. */
static void a_part_may_rise_but_for_its_end(void **state)
{
    (void)state;
    enum { RISING = 100000 };
    static const unsigned others[] = {1, 2, 1000, 16000, 17000};
    for (unsigned i = 0; i < 2 * sizeof(others) / sizeof(*others); i++) {
        struct fill fill;
        const unsigned count = others[i / 2];
        uint64_t found = 0, where;
        begin(&fill, UINT64_C(1) << 41);
        for (uint64_t j = 0; j < RISING; j++)
            add(&fill, 40000 + 2 * j, 1, 1);
        for (uint64_t j = 0; j < count; j++)
            add(&fill, j * 7919 % 17000 * 17 | 1, 1, 2);
        if (i % 2) {
            add(&fill, 40000 + 2 * 7919, 1, 3);
            assert_int_equal(owned_filler_finish(&fill.filler), -EEXIST);
            assert_int_equal(fill.filler.conflict.cluster_index, 40000 + 2 * 7919);
            end(&fill);
            continue;
        }
        assert_int_equal(owned_filler_finish(&fill.filler), 0);
        for (uint64_t j = 0; j < RISING; j++)
            assert_int_equal(owned_by(fill.owned, 40000 + 2 * j), 1);
        for (uint64_t j = 0; j < count; j++)
            assert_int_equal(owned_by(fill.owned, j * 7919 % 17000 * 17 | 1), 2);
        for (uint64_t at = 0; owned_first(fill.owned, at, OWNED_CLUSTERS_MAX - at, &where);
             at = where + 1)
            found++;
        assert_int_equal(found, RISING + count);
        end(&fill);
    }
}

#define AMONG_STEP 10u
#define AMONG_ROW (5001u * AMONG_STEP + 2) /* what rises around it is in the middle of a leaf */

/* Every tenth cluster, and then a row that begins between two of them. Returns what finishing says.
 */
static int finish_with_row(struct fill *fill, uint64_t row_count)
{
    begin(fill, UINT64_C(1) << 41);
    for (uint64_t i = 0; i < 100000; i++)
        add(fill, i * AMONG_STEP, 1, 1);
    add(fill, AMONG_ROW, row_count, 2);
    return owned_filler_finish(&fill->filler);
}

/* A row has two words: what rises comes between them, or does not. */
static void a_row_may_lie_among_what_rises(void **state)
{
    (void)state;
    struct fill fill;
    assert_int_equal(finish_with_row(&fill, 8), 0);
    for (uint64_t at = 0; at < 100000 * AMONG_STEP; at++) {
        unsigned owner = at % AMONG_STEP == 0                    ? 1
                         : at >= AMONG_ROW && at < AMONG_ROW + 8 ? 2
                                                                 : OWNED_NOBODY;
        assert_int_equal(owned_by(fill.owned, at), owner);
    }
    end(&fill);
    assert_int_equal(finish_with_row(&fill, 11), -EEXIST);
    assert_int_equal(fill.filler.conflict.cluster_index, AMONG_ROW + 8);
    assert_int_equal(fill.filler.conflict.owners[0], 1);
    assert_int_equal(fill.filler.conflict.owners[1], 2);
    end(&fill);
}

/* So many that it is parted into as many as there can be, which are larger than others then. What
 * this takes meanwhile is what owned.h says. */
static void a_part_may_have_millions(void **state)
{
    (void)state;
    struct fill fill;
    const uint64_t count = UINT64_C(1) << 21, step = SEGMENT / count;
    uint64_t at = 0, where, found = 0;
    begin(&fill, UINT64_C(1) << 41);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t nth = i * 7919 % count;
        add(&fill, 2 * SEGMENT + nth * step, 1, 1 + (unsigned)(nth % 7));
    }
    assert_int_equal(owned_filler_finish(&fill.filler), 0);
    assert_in_range(owned_bytes(fill.owned), count * 4, count * 5 + (5 << 20));
    for (unsigned owner; (owner = owned_first(fill.owned, at, OWNED_CLUSTERS_MAX - at, &where));
         at = where + 1, found++) {
        if (where != 2 * SEGMENT + found * step || owner != 1 + found % 7)
            fail_msg("the %lluth is %llu, of %u", (unsigned long long)found,
                     (unsigned long long)where, owner);
    }
    assert_int_equal(found, count);
    end(&fill);
}

/* However large the file is: there is no end to what it may cost otherwise. */
static void what_lies_too_far_away_is_refused(void **state)
{
    (void)state;
    struct fill fill;
    begin(&fill, 1000);
    assert_int_equal(owned_filler_add(&fill.filler, (UINT64_C(1) << 34) - 1, 1, 1), 0);
    assert_int_equal(owned_filler_add(&fill.filler, UINT64_C(1) << 34, 1, 1), -EFBIG);
    assert_int_equal(owned_filler_add(&fill.filler, OWNED_CLUSTERS_MAX - 1, 1, 1), -EFBIG);
    const uint64_t far = UINT64_C(1) << 34;
    assert_int_equal(owned_filler_add_each(&fill.filler, &far, 1, 1), -EFBIG);
    end(&fill);
    begin(&fill, OWNED_CLUSTERS_MAX);
    assert_int_equal(owned_filler_add(&fill.filler, (UINT64_C(1) << 41) - 1, 1, 1), 0);
    assert_int_equal(owned_filler_add(&fill.filler, UINT64_C(1) << 41, 1, 1), -EFBIG);
    end(&fill);
}

/* --- memory that others make ready --------------------------------------------------------------
 */

#define CHUNK_BYTES (256 << 10)

struct making {
    pthread_t thread;
    unsigned count;
    struct owned_chunk *chunks;
};

static void *make_chunks(void *arg)
{
    struct making *making = arg;
    making->chunks = owned_chunks_new(making->count);
    return NULL;
}

/* As long as any are wanted, a thread is at work on them. Returns how many were made. */
static unsigned fill_with_supply(struct fill *fill, uint64_t count, uint64_t expected)
{
    struct making making = {.count = 0};
    unsigned made = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (i % 8192 == 0 && making.count > 0) {
            pthread_join(making.thread, NULL);
            owned_filler_supply(&fill->filler, making.chunks);
            made += making.count;
        }
        if (i % 8192 == 0) {
            making.count = owned_filler_wants(&fill->filler, expected - i);
            if (making.count > 0)
                assert_int_equal(pthread_create(&making.thread, NULL, make_chunks, &making), 0);
        }
        add(fill, i * 7919 % count * 5, 1, 4);
    }
    if (making.count > 0)
        pthread_join(making.thread, NULL);
    owned_chunks_free(making.count > 0 ? making.chunks : NULL);
    return made;
}

static void memory_is_supplied_where_there_are_many(void **state)
{
    (void)state;
    struct fill fill;
    const uint64_t count = 1000000; /* prime to 7919 */
    begin(&fill, count * 5);
    unsigned made = fill_with_supply(&fill, count, count);
    /* What is not for the first ones, or too little for the last ones. */
    assert_in_range(made, 8, count / 125 / 511);
    assert_in_range(owned_bytes(fill.owned), count * 4, count * 4 + 6 * CHUNK_BYTES);
    assert_int_equal(owned_filler_finish(&fill.filler), 0);
    for (uint64_t i = 0; i < count * 5; i++)
        assert_int_equal(owned_by(fill.owned, i), i % 5 ? OWNED_NOBODY : 4);
    end(&fill);
}

/* Of those who say there will be more than come, most is not made, and the rest is given back. */
static void memory_is_supplied_as_it_is_used(void **state)
{
    (void)state;
    struct fill fill;
    begin(&fill, 1 << 22);
    fill_with_supply(&fill, 400000, 4 << 20);
    const uint64_t bytes = owned_bytes(fill.owned);
    while (owned_filler_wants(&fill.filler, 4 << 20) > 0) {
        struct owned_chunk *one = owned_chunks_new(1);
        assert_non_null(one);
        owned_filler_supply(&fill.filler, one);
    }
    assert_int_equal(owned_bytes(fill.owned), bytes);
    assert_int_equal(owned_filler_wants(&fill.filler, UINT64_MAX), 0);
    end(&fill); /* the sanitizer sees what is left */
}

static void no_memory_is_supplied_where_there_are_few(void **state)
{
    (void)state;
    struct fill fill;
    begin(&fill, 1 << 22);
    assert_int_equal(fill_with_supply(&fill, 200000, 4 << 20), 0);
    assert_int_equal(owned_filler_wants(&fill.filler, 4 << 20), 0);
    end(&fill);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_set_can_be_filled_with_nothing),
        cmocka_unit_test(all_that_was_added_is_there),
        cmocka_unit_test(a_cluster_that_two_want_is_named),
        cmocka_unit_test(it_takes_five_bytes_a_cluster),
        cmocka_unit_test(clusters_far_from_each_other_take_a_leaf_each),
        cmocka_unit_test(every_shape_of_a_table_is_taken),
        cmocka_unit_test(a_part_is_sorted_by_all_its_bits),
        cmocka_unit_test(a_part_with_many_is_parted_again),
        cmocka_unit_test(a_part_may_rise_but_for_its_end),
        cmocka_unit_test(a_row_may_lie_among_what_rises),
        cmocka_unit_test(a_part_may_have_millions),
        cmocka_unit_test(what_lies_too_far_away_is_refused),
        cmocka_unit_test(memory_is_supplied_where_there_are_many),
        cmocka_unit_test(memory_is_supplied_as_it_is_used),
        cmocka_unit_test(no_memory_is_supplied_where_there_are_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
