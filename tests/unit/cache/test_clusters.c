/* SPDX-License-Identifier: BSD-3-Clause */
/* clusters.c: each is filled once, kept up to the budget, and never after it was forgotten. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/coroutine.h"
#include "cache/clusters.h"
#include "tests/unit/block/block_fixture.h"

#define CLUSTER_BYTES 4096

struct filler {
    struct clusters *clusters;
    unsigned fills;
    int rc;
    bool pauses;
};

static int co_fill(void *arg, uint64_t key, uint8_t *buffer)
{
    struct filler *filler = arg;
    filler->fills++;
    for (unsigned i = 0; i < 10 && filler->pauses; i++)
        coroutine_co_pause();
    memset(buffer, (int)key, CLUSTER_BYTES);
    return filler->rc;
}

static void co_touch(struct filler *filler, uint64_t key)
{
    struct cluster *cluster;
    assert_int_equal(clusters_co_get(filler->clusters, key, co_fill, filler, &cluster), 0);
    assert_int_equal(cluster_data(cluster)[0], (uint8_t)key);
    assert_int_equal(cluster_data(cluster)[CLUSTER_BYTES - 1], (uint8_t)key);
    clusters_put(filler->clusters, cluster);
}

static struct clusters *make(uint64_t budget_bytes)
{
    struct clusters *clusters;
    assert_int_equal(clusters_new(&clusters, CLUSTER_BYTES, budget_bytes), 0);
    return clusters;
}

static uint64_t bytes_of(struct clusters *clusters)
{
    struct clusters_counters counters;
    clusters_counters(clusters, &counters);
    return counters.bytes;
}

static void co_the_longest_unused_goes_first(struct fixture *fixture, void *arg)
{
    (void)fixture, (void)arg;
    struct filler filler = {.clusters = make(3 * CLUSTER_BYTES)};
    for (uint64_t key = 1; key <= 3; key++)
        co_touch(&filler, key);
    co_touch(&filler, 1);
    assert_int_equal(filler.fills, 3);
    co_touch(&filler, 4); /* 2 goes */
    co_touch(&filler, 1);
    co_touch(&filler, 3);
    assert_int_equal(filler.fills, 4);
    co_touch(&filler, 2);
    assert_int_equal(filler.fills, 5);
    assert_int_equal(bytes_of(filler.clusters), 3 * CLUSTER_BYTES);
    clusters_free(filler.clusters);
}
FIXTURE_TEST(the_longest_unused_goes_first, 0, 0)

static void co_what_is_pinned_is_kept_above_the_budget(struct fixture *fixture, void *arg)
{
    (void)fixture, (void)arg;
    struct filler filler = {.clusters = make(CLUSTER_BYTES)};
    struct cluster *pinned[3];
    for (uint64_t key = 0; key < 3; key++)
        assert_int_equal(clusters_co_get(filler.clusters, key, co_fill, &filler, &pinned[key]), 0);
    assert_int_equal(bytes_of(filler.clusters), 3 * CLUSTER_BYTES);
    for (uint64_t key = 0; key < 3; key++) {
        assert_int_equal(cluster_data(pinned[key])[7], key);
        clusters_put(filler.clusters, pinned[key]);
    }
    assert_int_equal(bytes_of(filler.clusters), CLUSTER_BYTES);
    clusters_put(filler.clusters, NULL);
    clusters_free(filler.clusters);
    clusters_free(NULL);
}
FIXTURE_TEST(what_is_pinned_is_kept_above_the_budget, 0, 0)

struct wanter {
    struct filler *filler;
    int rc;
};

static void want_main(void *arg)
{
    struct wanter *wanter = arg;
    struct cluster *cluster = NULL;
    wanter->rc = clusters_co_get(wanter->filler->clusters, 5, co_fill, wanter->filler, &cluster);
    clusters_put(wanter->filler->clusters, cluster);
}

static void co_want_together(struct fixture *fixture, struct filler *filler, int rc)
{
    struct group group;
    struct wanter wanters[4];
    filler->pauses = true;
    filler->rc = rc;
    group_init(&group, fixture->loop);
    for (unsigned i = 0; i < 4; i++) {
        wanters[i] = (struct wanter){.filler = filler};
        group_start(&group, want_main, &wanters[i]);
    }
    group_co_wait(&group);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(wanters[i].rc, rc);
}

static void co_those_who_want_the_same_share_a_fill(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct filler filler = {.clusters = make(0)}; /* nothing is kept */
    co_want_together(fixture, &filler, 0);
    assert_int_equal(filler.fills, 1);
    assert_int_equal(bytes_of(filler.clusters), 0);
    clusters_free(filler.clusters);
}
FIXTURE_TEST(those_who_want_the_same_share_a_fill, 0, 0)

static void co_a_failed_fill_fails_all_and_leaves_nothing(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct filler filler = {.clusters = make(10 * CLUSTER_BYTES)};
    co_want_together(fixture, &filler, -EIO);
    assert_int_equal(filler.fills, 1);
    assert_int_equal(bytes_of(filler.clusters), 0);
    co_want_together(fixture, &filler, 0);
    assert_int_equal(filler.fills, 2);
    clusters_free(filler.clusters);
}
FIXTURE_TEST(a_failed_fill_fails_all_and_leaves_nothing, 0, 0)

static void co_what_is_forgotten_is_filled_anew(struct fixture *fixture, void *arg)
{
    (void)fixture, (void)arg;
    struct filler filler = {.clusters = make(10 * CLUSTER_BYTES)};
    struct cluster *pinned;
    assert_int_equal(clusters_co_get(filler.clusters, 9, co_fill, &filler, &pinned), 0);
    clusters_forget(filler.clusters, 9);
    clusters_forget(filler.clusters, 10);
    co_touch(&filler, 9);
    assert_int_equal(filler.fills, 2);
    assert_int_equal(cluster_data(pinned)[0], 9);
    clusters_put(filler.clusters, pinned);
    assert_int_equal(bytes_of(filler.clusters), CLUSTER_BYTES);
    clusters_forget_all(filler.clusters);
    assert_int_equal(bytes_of(filler.clusters), 0);
    clusters_free(filler.clusters);
}
FIXTURE_TEST(what_is_forgotten_is_filled_anew, 0, 0)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_unused_goes_first),
        cmocka_unit_test(what_is_pinned_is_kept_above_the_budget),
        cmocka_unit_test(those_who_want_the_same_share_a_fill),
        cmocka_unit_test(a_failed_fill_fails_all_and_leaves_nothing),
        cmocka_unit_test(what_is_forgotten_is_filled_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
