/* SPDX-License-Identifier: BSD-3-Clause */
/* owned.c: against a plain array that says who has what; and questions while it changes. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>

#include "cache/owned.h"
#include "tests/unit/block/block_fixture.h"

#define CLUSTERS 3000
#define SEGMENT (UINT64_C(1) << 27) /* what the words of one leaf can count */

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
    assert_int_equal(owned_add(owned, 0, 1, 3), 0);
    assert_int_equal(owned_by(owned, 0), 3);
    assert_int_equal(owned_add(owned, 0, 1, 3), -EEXIST);
    assert_int_equal(owned_add(owned, 0, 1, 4), -EEXIST);
    assert_int_equal(owned_add(owned, 0, 10, 4), -EEXIST);
    assert_int_equal(owned_by(owned, 0), 3);
    assert_int_equal(owned_by(owned, 9), OWNED_NOBODY);
    owned_remove(owned, 0, 1);
    owned_remove(owned, 0, 1);
    assert_int_equal(owned_by(owned, 0), OWNED_NOBODY);
    assert_int_equal(owned_add(owned, OWNED_CLUSTERS_MAX - 1, 1, OWNED_OWNERS_MAX), 0);
    assert_int_equal(owned_by(owned, OWNED_CLUSTERS_MAX - 1), OWNED_OWNERS_MAX);
    owned_free(owned);
    owned_free(NULL);
}

static void clusters_in_a_row_have_one_owner(void **state)
{
    (void)state;
    struct owned *owned = make();
    uint64_t first = SEGMENT - 10, count = 2 * SEGMENT, where;
    assert_int_equal(owned_add(owned, first, count, 5), 0);
    assert_int_equal(owned_by(owned, first - 1), OWNED_NOBODY);
    assert_int_equal(owned_by(owned, first), 5);
    assert_int_equal(owned_by(owned, first + count / 2), 5);
    assert_int_equal(owned_by(owned, first + count - 1), 5);
    assert_int_equal(owned_by(owned, first + count), OWNED_NOBODY);
    assert_int_equal(owned_add(owned, first + 7, 1, 5), -EEXIST);
    assert_int_equal(owned_add(owned, first + 7, 5, 5), -EEXIST);
    assert_int_equal(owned_add(owned, first - 1, 2, 5), -EEXIST);
    assert_int_equal(owned_add(owned, first - 1, count + 2, 5), -EEXIST);
    assert_int_equal(owned_first(owned, first + 3, 9, &where), 5);
    assert_int_equal(where, first + 3);

    /* Only what was added can be taken. */
    owned_remove(owned, first, 1);
    owned_remove(owned, first, count - 1);
    owned_remove(owned, first + count - 1, 1);
    owned_remove(owned, first + 7, 1);
    assert_int_equal(owned_by(owned, first), 5);
    assert_int_equal(owned_by(owned, first + count - 1), 5);
    owned_remove(owned, first, count);
    assert_int_equal(owned_first(owned, 0, OWNED_CLUSTERS_MAX, &where), OWNED_NOBODY);
    owned_free(owned);
}

static void the_first_owner_of_a_range_is_found(void **state)
{
    (void)state;
    struct owned *owned = make();
    uint64_t where = 7;
    assert_int_equal(owned_first(owned, 0, 1000, &where), OWNED_NOBODY);
    assert_int_equal(where, 7);
    owned_add(owned, 100, 1, 1);
    owned_add(owned, 90, 1, 2);
    assert_int_equal(owned_first(owned, 0, 1000, &where), 2);
    assert_int_equal(where, 90);
    assert_int_equal(owned_first(owned, 91, 9, &where), OWNED_NOBODY);
    assert_int_equal(owned_first(owned, 91, 10, &where), 1);
    assert_int_equal(where, 100);
    assert_int_equal(owned_first(owned, 0, UINT64_MAX, &where), 2);
    owned_free(owned);
}

/* Places that are near each other, and some that no leaf can have together. */
static uint64_t cluster_of(unsigned nth)
{
    return nth % 3 * (SEGMENT - 500) + nth / 3;
}

/* What the array says of so many from nth on; they are in a row when nth is a multiple of 3. */
static unsigned model_first(const uint8_t *model, unsigned nth, unsigned count, unsigned *ret_nth)
{
    for (unsigned i = 0; i < count; i++) {
        if (model[nth + 3 * i] == 0)
            continue;
        *ret_nth = nth + 3 * i;
        return model[nth + 3 * i];
    }
    return OWNED_NOBODY;
}

struct given {
    unsigned nth, count;
};

static void ask(const struct owned *owned, const uint8_t *model, unsigned nth, unsigned count)
{
    uint64_t where = 0;
    unsigned model_where = 0;
    unsigned owner = model_first(model, nth, count, &model_where);
    assert_int_equal(owned_first(owned, cluster_of(nth), count, &where), owner);
    assert_int_equal(where, owner ? cluster_of(model_where) : 0);
}

/* Many neighbours come and go, alone and in a row, so that leaves fill, split, and become empty. */
static void it_agrees_with_an_array(void **state)
{
    static uint8_t model[CLUSTERS * 2];
    static struct given all[CLUSTERS];
    (void)state;
    struct random random;
    random_seed(&random, fixture_seed("owned"));
    struct owned *owned = make();
    unsigned given = 0;
    for (unsigned step = 0; step < 200000; step++) {
        unsigned nth = (unsigned)random_below(&random, CLUSTERS), where;
        unsigned count = random_below(&random, 8) ? 1 : 1 + (unsigned)random_below(&random, 20);
        if (random_below(&random, 5) < (step / 20000 % 2 ? 1u : 4u)) {
            unsigned owner = 1 + (unsigned)random_below(&random, OWNED_OWNERS_MAX);
            bool is_taken = model_first(model, nth, count, &where) != OWNED_NOBODY;
            assert_int_equal(owned_add(owned, cluster_of(nth), count, owner),
                             is_taken ? -EEXIST : 0);
            for (unsigned i = 0; i < count && !is_taken; i++)
                model[nth + 3 * i] = (uint8_t)owner;
            if (!is_taken)
                all[given++] = (struct given){nth, count};
        } else if (given > 0) {
            unsigned which = (unsigned)random_below(&random, given);
            struct given gone = all[which];
            all[which] = all[--given];
            owned_remove(owned, cluster_of(gone.nth), gone.count);
            for (unsigned i = 0; i < gone.count; i++)
                model[gone.nth + 3 * i] = 0;
        }
        ask(owned, model, nth, 1);
        ask(owned, model, (unsigned)random_below(&random, CLUSTERS), count);
    }
    for (unsigned i = 0; i < CLUSTERS; i++)
        ask(owned, model, i, 1);
    owned_free(owned);
}

/* The formula of owned.h, for those that come one by one. */
static void it_takes_nine_bytes_a_cluster_at_most(void **state)
{
    (void)state;
    uint64_t count = 200000, step = 7919; /* no order: prime to the count */
    struct owned *owned = make();
    for (uint64_t i = 0; i < count; i++)
        assert_int_equal(owned_add(owned, i * step % count * 3, 1, 1), 0);
    assert_in_range(owned_bytes(owned), count * 4, count * 9 + 8192);
    owned_free(owned);
}

/* --- questions while it changes -----------------------------------------------------------------
 */

#define LASTING 4000u /* at multiples of 4 */
#define CHANGES 20000

struct asker {
    pthread_t thread;
    const struct owned *owned;
    const _Atomic bool *is_over;
    uint64_t seed;
    unsigned wrong;
};

/* Multiples of 4 have an owner all the time, what is behind them comes and goes, and what is before
 * them never has one. */
static void *ask_on(void *arg)
{
    struct asker *asker = arg;
    struct random random;
    random_seed(&random, asker->seed);
    while (!atomic_load(asker->is_over)) {
        uint64_t at = random_below(&random, LASTING - 1) * 4, where = 0;
        asker->wrong += owned_by(asker->owned, at) != 1;
        asker->wrong += owned_by(asker->owned, at + 3) != OWNED_NOBODY;
        asker->wrong += owned_first(asker->owned, at + 3, 2, &where) != 1 || where != at + 4;
        unsigned owner = owned_by(asker->owned, at + 1);
        asker->wrong += owner != OWNED_NOBODY && owner != 2;
    }
    return NULL;
}

static void questions_are_answered_while_it_changes(void **state)
{
    (void)state;
    struct random random;
    struct asker askers[2];
    static bool is_there[LASTING];
    _Atomic bool is_over = false;
    struct owned *owned = make();
    memset(is_there, 0, sizeof(is_there));
    random_seed(&random, fixture_seed("owned_threads"));
    for (uint64_t i = 0; i < LASTING; i++)
        owned_add(owned, i * 4, 1, 1);
    for (unsigned i = 0; i < 2; i++) {
        askers[i] =
            (struct asker){.owned = owned, .is_over = &is_over, .seed = random_u64(&random)};
        assert_int_equal(pthread_create(&askers[i].thread, NULL, ask_on, &askers[i]), 0);
    }
    for (unsigned i = 0; i < CHANGES; i++) {
        uint64_t nth = random_below(&random, LASTING);
        if (is_there[nth])
            owned_remove(owned, nth * 4 + 1, 1 + nth % 2);
        else
            assert_int_equal(owned_add(owned, nth * 4 + 1, 1 + nth % 2, 2), 0);
        is_there[nth] = !is_there[nth];
    }
    atomic_store(&is_over, true);
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(askers[i].thread, NULL);
        assert_int_equal(askers[i].wrong, 0);
    }
    owned_free(owned);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cluster_has_one_owner_at_most),
        cmocka_unit_test(clusters_in_a_row_have_one_owner),
        cmocka_unit_test(the_first_owner_of_a_range_is_found),
        cmocka_unit_test(it_agrees_with_an_array),
        cmocka_unit_test(it_takes_nine_bytes_a_cluster_at_most),
        cmocka_unit_test(questions_are_answered_while_it_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
