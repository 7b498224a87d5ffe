/* SPDX-License-Identifier: BSD-3-Clause */
/* owned_finish.c: shares, which threads of their own finish, and what lies where two of them meet.
 * How words come into order is in test_owned_fill.c. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>

#include "cache/owned.h"
#include "tests/unit/block/block_fixture.h"

#define COUNT (600u << 10) /* more than one thread does */
#define GROUP 1024u
#define PART (UINT64_C(1) << 20)    /* clusters of a part */
#define SEGMENT (UINT64_C(1) << 27) /* what the words of one leaf can count */
#define CLUSTERS_END (4 * SEGMENT)

struct fill {
    struct owned *owned;
    struct owned_filler filler;
};

static void begin(struct fill *fill)
{
    assert_int_equal(owned_new(&fill->owned), 0);
    owned_filler_init(&fill->filler, fill->owned, CLUSTERS_END);
}

static void add(struct fill *fill, uint64_t first, uint64_t count, unsigned owner)
{
    assert_int_equal(owned_filler_add(&fill->filler, first, count, owner), 0);
}

/* Every `step`th cluster from `first` on, as nth_of() says. */
struct table {
    enum { FORWARD, BACKWARD, SCATTERED, SHAPES } shape;
    uint64_t first, step;
};

static uint64_t cluster_of(const struct table *table, uint64_t nth)
{
    uint64_t place = table->shape == FORWARD    ? nth
                     : table->shape == BACKWARD ? COUNT - 1 - nth
                                                : nth * 7919 % COUNT; /* prime to it */
    return table->first + place * table->step;
}

static void add_table(struct fill *fill, const struct table *table)
{
    static uint64_t clusters[GROUP];
    for (uint64_t i = 0; i < COUNT; i += GROUP) {
        for (uint64_t j = 0; j < GROUP; j++)
            clusters[j] = cluster_of(table, i + j);
        assert_int_equal(owned_filler_add_each(&fill->filler, clusters, GROUP, 5), 0);
    }
}

struct hand {
    pthread_t thread;
    struct owned_filler *filler;
    unsigned nth;
};

static void *finish_share(void *arg)
{
    struct hand *hand = arg;
    owned_filler_finish_share(hand->filler, hand->nth);
    return NULL;
}

static int finish_in_threads(struct owned_filler *filler)
{
    struct hand hands[OWNED_SHARES_MAX];
    unsigned count = owned_filler_divide(filler);
    assert_int_equal(count, OWNED_SHARES_MAX);
    for (unsigned i = 0; i < count; i++) {
        hands[i] = (struct hand){.filler = filler, .nth = i};
        assert_int_equal(pthread_create(&hands[i].thread, NULL, finish_share, &hands[i]), 0);
    }
    for (unsigned i = 0; i < count; i++)
        pthread_join(hands[i].thread, NULL);
    return owned_filler_join(filler);
}

static void end(struct fill *fill)
{
    owned_filler_fini(&fill->filler);
    owned_free(fill->owned);
}

/* All of the table, and nothing between. */
static void check_table(const struct owned *owned, const struct table *table)
{
    uint64_t at = 0, where;
    for (uint64_t i = 0; i < COUNT; i++, at = where + 1) {
        assert_int_equal(owned_first(owned, at, OWNED_CLUSTERS_MAX - at, &where), 5);
        if (where != table->first + i * table->step)
            fail_msg("the %lluth is %llu", (unsigned long long)i, (unsigned long long)where);
    }
    assert_int_equal(owned_first(owned, at, OWNED_CLUSTERS_MAX - at, &where), OWNED_NOBODY);
}

static void threads_finish_a_table_of_any_shape(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SHAPES * 3; i++) {
        struct fill fill;
        static const uint64_t firsts[] = {0, SEGMENT - PART - 7, 3 * SEGMENT + 5};
        const struct table table = {i / 3, firsts[i % 3], 3 + i % 3 * 20};
        begin(&fill);
        add_table(&fill, &table);
        assert_int_equal(finish_in_threads(&fill.filler), 0);
        check_table(fill.owned, &table);
        owned_filler_fini(&fill.filler);
        check_table(fill.owned, &table);
        owned_free(fill.owned);
    }
}

/* The formula of owned.h holds, whoever finishes. */
static void threads_take_as_much_memory_as_one(void **state)
{
    (void)state;
    struct fill fill;
    const struct table table = {SCATTERED, 11, 333};
    begin(&fill);
    add_table(&fill, &table);
    assert_int_equal(finish_in_threads(&fill.filler), 0);
    owned_filler_fini(&fill.filler);
    assert_in_range(owned_bytes(fill.owned), COUNT * 4, COUNT * 5 + (512 << 10));
    owned_free(fill.owned);
}

static void the_set_changes_where_two_shares_met(void **state)
{
    (void)state;
    struct fill fill;
    const struct table table = {SCATTERED, 0, 64};
    begin(&fill);
    add_table(&fill, &table);
    assert_int_equal(finish_in_threads(&fill.filler), 0);
    uint64_t border = (uint64_t)fill.filler.shares[1].first * PART;
    owned_filler_fini(&fill.filler);
    assert_in_range(border, PART, (COUNT - 1) * table.step);
    for (uint64_t at = border - 200 * 64; at < border + 200 * 64; at += 64) {
        assert_int_equal(owned_add(fill.owned, at, 1, 1), -EEXIST);
        for (uint64_t i = 1; i < 64; i += 2)
            assert_int_equal(owned_add(fill.owned, at + i, 1, 1), 0);
    }
    for (uint64_t at = border - 200 * 64; at < border + 200 * 64; at++)
        assert_int_equal(owned_by(fill.owned, at), at % 64 == 0 ? 5 : at % 2);
    for (uint64_t at = border - 200 * 64 + 1; at < border + 200 * 64; at += 2)
        owned_remove(fill.owned, at, 1);
    check_table(fill.owned, &table);
    owned_free(fill.owned);
}

/* A table with a gap where the shares meet, and something there. */
static int finish_with(struct fill *fill, uint64_t *ret_border, const int (*extras)[2],
                       unsigned extra_count)
{
    const struct table table = {SCATTERED, 10, 64};
    begin(fill);
    add_table(fill, &table);
    assert_int_equal(owned_filler_divide(&fill->filler), OWNED_SHARES_MAX);
    *ret_border = (uint64_t)fill->filler.shares[1].first * PART;
    for (unsigned i = 0; i < extra_count; i++)
        add(fill, *ret_border + (uint64_t)extras[i][0], (uint64_t)extras[i][1], 1 + i);
    return finish_in_threads(&fill->filler);
}

static void clusters_in_a_row_may_lie_in_two_shares(void **state)
{
    (void)state;
    struct fill fill;
    uint64_t border;
    const int extras[][2] = {{-5, 12}};
    assert_int_equal(finish_with(&fill, &border, extras, 1), 0);
    for (uint64_t at = border - 10; at < border + 10; at++)
        assert_int_equal(owned_by(fill.owned, at), at >= border - 5 && at < border + 7);
    end(&fill);
}

static void what_two_want_is_found_where_two_shares_meet(void **state)
{
    (void)state;
    static const struct {
        int extras[2][2], where;
    } all[] = {
        {{{-5, 12}, {0, 1}}, 0},   /* inside of a row that comes from the share before */
        {{{-5, 12}, {-2, 1}}, -2}, /* the same, in the share before */
        {{{-5, 12}, {3, 40}}, 3},
        {{{-5, 12}, {-8, 20}}, -5},
    };
    for (unsigned i = 0; i < sizeof(all) / sizeof(*all); i++) {
        struct fill fill;
        uint64_t border;
        assert_int_equal(finish_with(&fill, &border, all[i].extras, 2), -EEXIST);
        assert_int_equal(fill.filler.conflict.cluster_index, border + (uint64_t)all[i].where);
        assert_int_equal(fill.filler.conflict.owners[0] + fill.filler.conflict.owners[1], 3);
        end(&fill);
    }
}

/* The first share's comes first; the second one's is found too. */
static void what_two_want_is_found_in_any_share(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct fill fill;
        const struct table table = {SCATTERED, 0, 64};
        begin(&fill);
        add_table(&fill, &table);
        if (i != 1)
            add(&fill, 64 * 7, 1, 2);
        if (i != 0)
            add(&fill, UINT64_C(64) * (COUNT - 7), 1, 2);
        assert_int_equal(finish_in_threads(&fill.filler), -EEXIST);
        assert_int_equal(fill.filler.conflict.cluster_index,
                         i == 1 ? UINT64_C(64) * (COUNT - 7) : 64 * 7);
        end(&fill);
    }
}

/* One part has nearly all, the others next to nothing. */
static void shares_may_be_as_different_as_they_like(void **state)
{
    (void)state;
    struct fill fill;
    for (unsigned i = 0; i < 2; i++) {
        const struct table table = {BACKWARD, i == 0 ? 1 : 3 * SEGMENT + 1, 1};
        begin(&fill);
        add_table(&fill, &table);
        assert_int_equal(finish_in_threads(&fill.filler), 0);
        check_table(fill.owned, &table);
        end(&fill);
    }
}

static void a_few_are_one_share(void **state)
{
    (void)state;
    struct fill fill;
    begin(&fill);
    for (uint64_t i = 0; i < 10000; i++)
        add(&fill, i * 77777 % SEGMENT, 1, 1);
    assert_int_equal(owned_filler_divide(&fill.filler), 1);
    owned_filler_finish_share(&fill.filler, 0);
    assert_int_equal(owned_filler_join(&fill.filler), 0);
    assert_int_equal(owned_by(fill.owned, 77777), 1);
    end(&fill);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_finish_a_table_of_any_shape),
        cmocka_unit_test(threads_take_as_much_memory_as_one),
        cmocka_unit_test(the_set_changes_where_two_shares_met),
        cmocka_unit_test(clusters_in_a_row_may_lie_in_two_shares),
        cmocka_unit_test(what_two_want_is_found_where_two_shares_meet),
        cmocka_unit_test(what_two_want_is_found_in_any_share),
        cmocka_unit_test(shares_may_be_as_different_as_they_like),
        cmocka_unit_test(a_few_are_one_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
