/* SPDX-License-Identifier: BSD-3-Clause */
/* Zeroes and discards of a file: exact to the byte, space kept or given back as asked, and honest
 * where the file system cannot. */
#include "tests/unit/block/posix_fixture.h"

#include <time.h>

#include "common/random.h"

#define IMAGE_BYTES 1000001 /* odd on purpose */

static uint64_t space_of_image(const struct posix_fixture *fixture)
{
    struct stat stat_of_image;
    int fd = open(fixture->path, O_RDONLY); /* blocks are counted when they are written back */
    assert_int_equal(fsync(fd), 0);
    close(fd);
    assert_int_equal(stat(fixture->path, &stat_of_image), 0);
    return (uint64_t)stat_of_image.st_blocks * 512;
}

static void zero_at_random(struct posix_fixture *fixture, const char *const *extra, unsigned flags,
                           int missing)
{
    static uint8_t oracle[IMAGE_BYTES], data[IMAGE_BYTES];
    struct random random;
    const char *given = getenv("TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    random_seed(&random, seed);
    make_image(fixture, IMAGE_BYTES);
    for (size_t i = 0; i < IMAGE_BYTES; i++)
        oracle[i] = pattern_at(i);
    fixture->odd.missing_fallocate = missing;
    struct block_node *node = open_image(fixture, extra);
    for (int round = 0; round < 30; round++) {
        size_t offset = random_below(&random, IMAGE_BYTES);
        size_t length = 1 + random_below(&random, random_once_in(&random, 2) ? 5000 : IMAGE_BYTES);
        if (length > IMAGE_BYTES - offset)
            length = IMAGE_BYTES - offset;
        memset(oracle + offset, 0, length);
        assert_int_equal(node_co_zero(node, offset, length, flags), 0);
    }
    assert_int_equal(read_at(node, 0, data, IMAGE_BYTES), 0);
    if (memcmp(data, oracle, IMAGE_BYTES) != 0)
        fail_msg("TEST_SEED=%llu", (unsigned long long)seed);
    block_co_node_unref(node);
    assert_int_equal(image_size(fixture), IMAGE_BYTES);
}

static void exact_body(struct posix_fixture *fixture)
{
    static const int missing[] = {0, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE,
                                  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE};
    for (int i = 0; i < 8; i++) {
        fixture->odd.no_allocate = i >= 4;
        zero_at_random(fixture, EXTRA("discard=ignore"), 0, missing[i % 4]);
        zero_at_random(fixture, EXTRA("discard=unmap"), 0, missing[i % 4]);
        zero_at_random(fixture, EXTRA("discard=unmap"), BLOCK_NO_UNMAP, missing[i % 4]);
        zero_at_random(fixture, EXTRA("discard=unmap", "cache.direct=on"), 0, missing[i % 4]);
    }
}

static void any_range_is_zeroed_exactly_whatever_the_file_system_has(void **state)
{
    with_posix(state, exact_body);
}

static void space_body(struct posix_fixture *fixture)
{
    const size_t size = 1 << 20;
    make_image(fixture, size);
    struct block_node *node = open_image(fixture, NULL); /* discard=ignore */
    assert_int_equal(node_co_zero(node, 0, size, 0), 0);
    assert_true(space_of_image(fixture) >= size);
    assert_int_equal(node_co_discard(node, 0, size, 0), 0);
    assert_true(space_of_image(fixture) >= size);
    block_co_node_unref(node);

    node = open_image(fixture, EXTRA("discard=unmap"));
    assert_int_equal(node_co_zero(node, 0, size, BLOCK_NO_UNMAP), 0);
    assert_true(space_of_image(fixture) >= size);
    assert_int_equal(node_co_zero(node, 0, size / 2, 0), 0);
    assert_true(space_of_image(fixture) < size * 3 / 4);
    assert_int_equal(node_co_discard(node, size / 2, size / 2, 0), 0);
    assert_true(space_of_image(fixture) < size / 4);
    assert_int_equal(atomic_load(&node->size_bytes), size);
    block_co_node_unref(node);
}

static void space_is_given_back_only_where_it_was_asked_for(void **state)
{
    with_posix(state, space_body);
}

/* Each rung is tried when those above it are missing, and what is missing is asked for once. */
static void ladder_body(struct posix_fixture *fixture)
{
    const size_t size = 1 << 20;
    static const struct {
        int missing;
        bool no_allocate;
        unsigned first, later; /* fallocates of the first zero, and of each after it */
        bool writes;
    } rungs[] = {
        {0, false, 1, 1, false},                    /* ZERO_RANGE */
        {FALLOC_FL_ZERO_RANGE, false, 3, 2, false}, /* punch, allocate */
        {FALLOC_FL_ZERO_RANGE, true, 3, 0, true},   /* punched, and then written */
        {FALLOC_FL_ZERO_RANGE | FALLOC_FL_PUNCH_HOLE, false, 2, 0, true},
    };
    static uint8_t data[1 << 20];
    for (size_t i = 0; i < sizeof(rungs) / sizeof(rungs[0]); i++) {
        make_image(fixture, size);
        fixture->odd.missing_fallocate = rungs[i].missing;
        fixture->odd.no_allocate = rungs[i].no_allocate;
        struct block_node *node = open_image(fixture, EXTRA("discard=unmap"));
        for (size_t at = 0; at < size; at += size / 4) {
            fixture->odd.fallocates = fixture->odd.writes = 0;
            assert_int_equal(node_co_zero(node, at, size / 4, BLOCK_NO_UNMAP), 0);
            assert_int_equal(fixture->odd.fallocates, at == 0 ? rungs[i].first : rungs[i].later);
            assert_int_equal(fixture->odd.writes > 0, rungs[i].writes);
        }
        assert_true(space_of_image(fixture) >= size); /* NO_UNMAP is kept on every rung */
        assert_int_equal(read_at(node, 0, data, size), 0);
        for (size_t at = 0; at < size; at++)
            assert_int_equal(data[at], 0);
        block_co_node_unref(node);
    }
}

static void zeroes_that_keep_their_space_go_down_the_ladder(void **state)
{
    char path[100];
    const char *place = getenv("TMPDIR");
    snprintf(path, sizeof(path), "%.40s/platter-test-XXXXXX", place ? place : "/tmp");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    bool has_all = fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 10) == 0;
    close(fd);
    unlink(path);
    if (!has_all)
        skip_because("this file system has not all the rungs");
    with_posix(state, ladder_body);
}

static void missing_body(struct posix_fixture *fixture)
{
    make_image(fixture, 100000);
    fixture->odd.missing_fallocate = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    struct block_node *node = open_image(fixture, EXTRA("discard=unmap"));
    for (int i = 0; i < 5; i++) {
        assert_int_equal(node_co_zero(node, 1000, 5000, 0), 0);
        assert_int_equal(node_co_discard(node, 50000, 5000, 0), 0);
    }
    assert_int_equal(fixture->odd.fallocates, 2); /* each mode asked for once */
    assert_int_equal(block_driver_file.co_zero(node, 0, 10, 0), -ENOTSUP);
    block_co_node_unref(node);

    fixture->odd.missing_fallocate = 0;
    fixture->odd.fallocate_error = -ENOSPC; /* a true error is not "cannot" */
    node = open_image(fixture, EXTRA("discard=unmap"));
    assert_int_equal(node_co_zero(node, 1000, 5000, 0), -ENOSPC);
    assert_int_equal(node_co_discard(node, 1000, 5000, 0), -ENOSPC);
    block_co_node_unref(node);
}

static void what_the_file_system_lacks_is_asked_for_once(void **state)
{
    with_posix(state, missing_body);
}

static void fast_body(struct posix_fixture *fixture)
{
    const size_t size = 100000;
    uint8_t data[100000];
    make_image(fixture, size);
    fixture->odd.missing_fallocate = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    struct block_node *node = open_image(fixture, EXTRA("discard=unmap"));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(node_co_zero(node, 1001, 50000, BLOCK_FAST), -ENOTSUP);
        assert_int_equal(node_co_zero(node, 0, size, BLOCK_FAST | BLOCK_NO_UNMAP), -ENOTSUP);
    }
    assert_int_equal(fixture->odd.writes, 0);
    assert_int_equal(fixture->odd.fallocates, 2);
    assert_int_equal(read_at(node, 0, data, size), 0);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(data[i], pattern_at(i));
    block_co_node_unref(node);

    fixture->odd.missing_fallocate = FALLOC_FL_ZERO_RANGE; /* as on tmpfs */
    node = open_image(fixture, EXTRA("discard=unmap"));
    assert_int_equal(node_co_zero(node, 1001, 50000, BLOCK_FAST), 0);
    assert_int_equal(fixture->odd.writes, 0);
    assert_int_equal(read_at(node, 0, data, size), 0);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(data[i], i >= 1001 && i < 51001 ? 0 : pattern_at(i));
    block_co_node_unref(node);
}

static void a_fast_zero_is_quick_or_refused_with_the_bytes_untouched(void **state)
{
    with_posix(state, fast_body);
}

static void growth_body(struct posix_fixture *fixture)
{
    static const char *const discards[] = {"discard=ignore", "discard=unmap"};
    static const int missing[] = {0, FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE};
    uint8_t data[10000];
    for (int i = 0; i < 6; i++) {
        make_image(fixture, 5000);
        fixture->odd.missing_fallocate = missing[i / 2];
        fixture->odd.no_allocate = i >= 4;
        struct block_node *node = open_image(fixture, EXTRA(discards[i % 2]));
        assert_int_equal(node_co_zero(node, 4000, 3333, 0), 0); /* over the end */
        assert_int_equal(atomic_load(&node->size_bytes), 7333);
        assert_int_equal(image_size(fixture), 7333);
        assert_int_equal(node_co_zero(node, 8000, 1999, 0), 0); /* behind it */
        assert_int_equal(image_size(fixture), 9999);
        memset(data, 0xee, sizeof(data));
        assert_int_equal(read_at(node, 0, data, 9999), 0);
        for (size_t at = 0; at < 9999; at++)
            assert_int_equal(data[at], at < 4000 ? pattern_at(at) : 0);
        block_co_node_unref(node);
    }
}

static void zeroes_past_the_end_make_the_file_longer(void **state)
{
    with_posix(state, growth_body);
}

static void interrupted_body(struct posix_fixture *fixture)
{
    make_image(fixture, 5000);
    struct block_node *node = open_image(fixture, EXTRA("discard=unmap"));
    fixture->odd.interrupt = 2;
    assert_int_equal(node_co_zero(node, 0, 5000, 0), 0);
    assert_int_equal(node_co_flush(node), 0);
    block_co_node_unref(node);
}

static void zeroes_and_flushes_are_carried_on_when_they_are_interrupted(void **state)
{
    with_posix(state, interrupted_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_EACH_ENGINE(any_range_is_zeroed_exactly_whatever_the_file_system_has),
        cmocka_unit_test(space_is_given_back_only_where_it_was_asked_for),
        cmocka_unit_test(zeroes_that_keep_their_space_go_down_the_ladder),
        cmocka_unit_test(what_the_file_system_lacks_is_asked_for_once),
        cmocka_unit_test(a_fast_zero_is_quick_or_refused_with_the_bytes_untouched),
        cmocka_unit_test(zeroes_past_the_end_make_the_file_longer),
        cmocka_unit_test(zeroes_and_flushes_are_carried_on_when_they_are_interrupted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
