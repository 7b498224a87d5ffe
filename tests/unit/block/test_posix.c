/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver "file", data path: reads and writes of any range come out right, on every engine, with
 * the page cache and without, against a flat copy; transfers that come in pieces are carried on.
 */
#include "tests/unit/block/posix_fixture.h"

#include <time.h>

#include "common/random.h"

static uint64_t test_seed(void)
{
    const char *given = getenv("TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    print_message("TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

static const size_t sizes[] = {0, 1, 511, 512, 513, 4095, 4096, 4097, 65536, 70001};

static void check_whole_image(struct block_node *node, const uint8_t *expected, size_t size)
{
    uint8_t *data = malloc(size + 1000);
    assert_int_equal(atomic_load(&node->size_bytes), size);
    memset(data, 0xee, size + 1000);
    assert_int_equal(read_at(node, 0, data, size + 1000), 0);
    assert_memory_equal(data, expected, size);
    for (size_t i = size; i < size + 1000; i++)
        assert_int_equal(data[i], 0); /* past the end there are zeroes */
    free(data);
}

static void change_at_random(struct posix_fixture *fixture, const char *const *extra, size_t size,
                             struct random *random)
{
    uint8_t *oracle = malloc(size + 1), *data = malloc(size + 1);
    make_image(fixture, size);
    for (size_t i = 0; i < size; i++)
        oracle[i] = pattern_at(i);
    struct block_node *node = open_image(fixture, extra);
    check_whole_image(node, oracle, size);
    for (int round = 0; size > 0 && round < 40; round++) {
        size_t offset = random_below(random, size);
        size_t length = 1 + random_below(random, size - offset);
        if (random_once_in(random, 3)) /* up to the very end */
            length = size - offset;
        if (random_once_in(random, 2)) {
            for (size_t i = 0; i < length; i++)
                data[i] = (uint8_t)random_u64(random);
            memcpy(oracle + offset, data, length);
            assert_int_equal(write_at(node, offset, data, length), 0);
        } else {
            assert_int_equal(read_at(node, offset, data, length), 0);
            assert_memory_equal(data, oracle + offset, length);
        }
    }
    check_whole_image(node, oracle, size);
    assert_int_equal(node_co_flush(node), 0);
    block_co_node_unref(node);
    assert_int_equal(image_size(fixture), size);

    node = open_image(fixture, EXTRA("read-only=on")); /* by the page cache: what is on the disk */
    check_whole_image(node, oracle, size);
    block_co_node_unref(node);
    free(oracle);
    free(data);
}

static void all_sizes_body(struct posix_fixture *fixture)
{
    struct random random;
    random_seed(&random, test_seed());
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        change_at_random(fixture, EXTRA("cache.direct=off"), sizes[i], &random);
        change_at_random(fixture, EXTRA("cache.direct=on"), sizes[i], &random);
    }
}

static void any_range_of_any_size_is_read_and_written_exactly(void **state)
{
    with_posix(state, all_sizes_body);
}

static void pieces_body(struct posix_fixture *fixture)
{
    struct random random;
    random_seed(&random, test_seed());
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        fixture->odd.interrupt = 1;
        fixture->odd.transfer_max = 1 + random_below(&random, 5000);
        change_at_random(fixture, EXTRA("cache.direct=off"), sizes[i], &random);
        fixture->odd.transfer_max = 512 * (1 + random_below(&random, 3));
        change_at_random(fixture, EXTRA("cache.direct=on"), sizes[i], &random);
    }
}

static void short_and_interrupted_transfers_are_carried_on(void **state)
{
    with_posix(state, pieces_body);
}

static void vectors_body(struct posix_fixture *fixture)
{
    enum { COUNT = 1000, EACH = 7 };
    static uint8_t out[COUNT * EACH], in[COUNT * EACH];
    struct iovec iov[COUNT];
    struct block_vec vec = {.iov = iov, .length = sizeof(out)};
    make_image(fixture, 10000);
    struct block_node *node = open_image(fixture, NULL);
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (uint8_t)(i * 13);
    for (int i = 0; i < COUNT; i++)
        iov[i] = (struct iovec){out + i * EACH, EACH};
    assert_int_equal(node_co_write(node, 5, &vec, 0), 0);
    for (int i = 0; i < COUNT; i++)
        iov[i].iov_base = in + i * EACH;
    assert_int_equal(node_co_read(node, 5, &vec), 0);
    assert_memory_equal(in, out, sizeof(out));
    block_co_node_unref(node);
}

static void vectors_longer_than_one_operation_takes_are_carried_on(void **state)
{
    with_posix(state, vectors_body);
}

static void growth_body(struct posix_fixture *fixture)
{
    static const char *const caches[] = {"cache.direct=off", "cache.direct=on"};
    uint8_t data[3000], back[3000];
    memset(data, 0x5a, sizeof(data));
    for (int i = 0; i < 2; i++) {
        make_image(fixture, 1000);
        struct block_node *node = open_image(fixture, EXTRA(caches[i]));
        assert_int_equal(write_at(node, 900, data, 333), 0); /* over an odd end, to an odd end */
        assert_int_equal(atomic_load(&node->size_bytes), 1233);
        assert_int_equal(write_at(node, 5000, data, sizeof(data)), 0); /* leaves a hole */
        assert_int_equal(atomic_load(&node->size_bytes), 8000);
        assert_int_equal(image_size(fixture), 8000);
        assert_int_equal(read_at(node, 0, back, 1500), 0);
        for (size_t at = 0; at < 1500; at++)
            assert_int_equal(back[at], at < 900 ? pattern_at(at) : at < 1233 ? 0x5a : 0);
        assert_int_equal(read_at(node, 5000, back, sizeof(back)), 0);
        assert_memory_equal(back, data, sizeof(data));
        block_co_node_unref(node);
    }
}

static void a_write_past_the_end_makes_the_file_longer(void **state)
{
    with_posix(state, growth_body);
}

static void cut_file_body(struct posix_fixture *fixture)
{
    static const char *const caches[] = {"cache.direct=off", "cache.direct=on"};
    uint8_t data[10000];
    for (int i = 0; i < 2; i++) {
        make_image(fixture, sizeof(data));
        struct block_node *node = open_image(fixture, EXTRA(caches[i]));
        assert_int_equal(truncate(fixture->path, 1234), 0); /* somebody else's doing */
        memset(data, 0xee, sizeof(data));
        assert_int_equal(read_at(node, 0, data, sizeof(data)), 0);
        for (size_t at = 0; at < sizeof(data); at++)
            assert_int_equal(data[at], at < 1234 ? pattern_at(at) : 0);
        block_co_node_unref(node);
    }
}

static void a_file_that_another_one_cut_reads_as_zeroes(void **state)
{
    with_posix(state, cut_file_body);
}

static void no_progress_body(struct posix_fixture *fixture)
{
    char byte = 1;
    make_image(fixture, 100);
    struct block_node *node = open_image(fixture, NULL);
    fixture->odd.write_nothing = true;
    assert_int_equal(write_at(node, 0, &byte, 1), -EIO);
    block_co_node_unref(node);
}

static void a_write_without_progress_is_an_error_not_a_circle(void **state)
{
    with_posix(state, no_progress_body);
}

static void cache_body(struct posix_fixture *fixture)
{
    make_image(fixture, 100001);
    struct block_node *node = open_image(fixture, NULL);
    assert_int_equal(node_co_cache(node, 7, 99994), 0);
    assert_int_equal(fixture->odd.will_needs, 1);
    assert_int_equal(fixture->odd.needed_offset, 7);
    assert_int_equal(fixture->odd.needed_length, 99994);
    assert_int_equal(node_co_cache(node, 100000, 5000), 0); /* as much of it as there is */
    assert_int_equal(fixture->odd.needed_length, 1);
    assert_int_equal(fixture->odd.reads, 0);
    fixture->odd.files.will_need = NULL;
    assert_int_equal(node_co_cache(node, 7, 99994), 0);
    assert_true(fixture->odd.reads >= 1);
    block_co_node_unref(node);
}

static void a_cache_request_is_told_to_the_kernel_or_reads(void **state)
{
    with_posix(state, cache_body);
}

static void direct_cache_body(struct posix_fixture *fixture)
{
    make_image(fixture, 100001);
    fixture->odd.hide_alignment = true;
    fixture->odd.direct = fixture->odd.direct_memory = 512;
    struct block_node *node = open_image(fixture, EXTRA("cache.direct=on"));
    unsigned reads = fixture->odd.reads;
    assert_int_equal(node_co_cache(node, 7, 99994), 0);
    assert_int_equal(fixture->odd.will_needs, 0);
    assert_int_equal(fixture->odd.reads, reads);
    block_co_node_unref(node);
}

static void a_cache_request_leaves_a_direct_file_alone(void **state)
{
    with_posix(state, direct_cache_body);
}

static void flush_body(struct posix_fixture *fixture)
{
    static const char *const modes[] = {"cache.no-flush=off", "cache.no-flush=on"};
    char bytes[100] = "written";
    for (unsigned i = 0; i < 2; i++) {
        make_image(fixture, 10000);
        fixture->odd.syncs = 0;
        struct block_node *node = open_image(fixture, EXTRA(modes[i]));
        struct iovec iov;
        struct block_vec vec = vec_of_buffer(&iov, bytes, sizeof(bytes));
        assert_int_equal(node_co_flush(node), 0); /* for what others wrote before */
        assert_int_equal(fixture->odd.syncs, i == 0 ? 1 : 0);
        assert_int_equal(node_co_flush(node), 0);
        assert_int_equal(fixture->odd.syncs, i == 0 ? 1 : 0); /* nothing was written yet */
        assert_int_equal(write_at(node, 0, bytes, sizeof(bytes)), 0);
        assert_int_equal(node_co_flush(node), 0);
        assert_int_equal(node_co_write(node, 0, &vec, BLOCK_FUA), 0);
        assert_int_equal(node_co_zero(node, 0, 10, BLOCK_FUA), 0);
        assert_int_equal(write_at(node, 0, bytes, sizeof(bytes)), 0);
        block_co_node_unref(node); /* flushes what was written last */
        assert_int_equal(fixture->odd.syncs, i == 0 ? 5 : 0);
    }
}

static void without_flushes_nothing_is_forced_to_the_disk(void **state)
{
    with_posix(state, flush_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_EACH_ENGINE(any_range_of_any_size_is_read_and_written_exactly),
        cmocka_unit_test(short_and_interrupted_transfers_are_carried_on),
        ON_EACH_ENGINE(vectors_longer_than_one_operation_takes_are_carried_on),
        ON_EACH_ENGINE(a_write_past_the_end_makes_the_file_longer),
        ON_EACH_ENGINE(a_file_that_another_one_cut_reads_as_zeroes),
        cmocka_unit_test(a_write_without_progress_is_an_error_not_a_circle),
        cmocka_unit_test(a_cache_request_is_told_to_the_kernel_or_reads),
        cmocka_unit_test(a_cache_request_leaves_a_direct_file_alone),
        cmocka_unit_test(without_flushes_nothing_is_forced_to_the_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
