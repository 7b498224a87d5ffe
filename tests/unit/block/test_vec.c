/* SPDX-License-Identifier: BSD-3-Clause */
/* vec: cutting, copying and aligning views, against a flat copy of the same bytes. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block/vec.h"
#include "common/random.h"

static struct random random_state;

static void seed_random(void)
{
    const char *given = getenv("TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    print_message("TEST_SEED=%llu\n", (unsigned long long)seed);
    random_seed(&random_state, seed);
}

static void a_slice_begins_where_it_says(void **state)
{
    (void)state;
    char bytes[10];
    struct iovec iov[] = {{bytes, 3}, {NULL, 0}, {bytes + 3, 7}};
    struct block_vec vec = {.iov = iov, .length = 10};

    struct block_vec slice = vec_slice(&vec, 3, 4);
    assert_ptr_equal(slice.iov, &iov[2]);
    assert_int_equal(slice.skip, 0);
    assert_int_equal(slice.length, 4);

    slice = vec_slice(&slice, 1, 2);
    assert_ptr_equal(slice.iov, &iov[2]);
    assert_int_equal(slice.skip, 1);

    slice = vec_slice(&vec, 2, 5);
    assert_ptr_equal(slice.iov, &iov[0]);
    assert_int_equal(slice.skip, 2);
}

static void an_empty_slice_at_the_very_end_looks_at_no_iovec(void **state)
{
    (void)state;
    char bytes[4];
    struct iovec *iov = malloc(sizeof(*iov)); /* so that the sanitizer sees a step too far */
    *iov = (struct iovec){bytes, sizeof(bytes)};
    struct block_vec vec = {.iov = iov, .length = sizeof(bytes)};
    struct block_vec slice = vec_slice(&vec, 4, 0);
    size_t length = 1;
    struct iovec out[1];
    assert_int_equal(slice.length, 0);
    assert_int_equal(vec_to_iovec(&slice, out, 1, &length), 0);
    assert_int_equal(length, 0);
    vec_fill(&slice, 1);
    free(iov);
}

static void iovecs_beyond_the_maximum_are_left_for_later(void **state)
{
    (void)state;
    char bytes[9];
    struct iovec iov[] = {{bytes, 2}, {NULL, 0}, {bytes + 2, 3}, {bytes + 5, 4}};
    struct block_vec vec = {.iov = iov, .skip = 1, .length = 6};
    struct iovec out[3];
    size_t length;
    assert_int_equal(vec_to_iovec(&vec, out, 2, &length), 2);
    assert_int_equal(length, 4);
    assert_ptr_equal(out[0].iov_base, bytes + 1);
    assert_int_equal(out[0].iov_len, 1);
    assert_ptr_equal(out[1].iov_base, bytes + 2);
    assert_int_equal(out[1].iov_len, 3);

    assert_int_equal(vec_to_iovec(&vec, out, 3, &length), 3);
    assert_int_equal(length, 6);
    assert_int_equal(out[2].iov_len, 2); /* the view ends inside the last one */
}

/* Random iovecs over one buffer, random cuts: what is copied is what the flat bytes say. */
static void random_cuts_copy_the_right_bytes(void **state)
{
    (void)state;
    enum { BYTES = 400, ROUNDS = 2000 };
    uint8_t memory[BYTES], flat[BYTES], out[BYTES];
    seed_random();
    for (int round = 0; round < ROUNDS; round++) {
        struct iovec iov[BYTES];
        size_t count = 0, used = 0;
        while (used < BYTES) {
            size_t length = random_below(&random_state, 60);
            length = length > BYTES - used ? BYTES - used : length;
            iov[count++] = (struct iovec){memory + used, length};
            used += length;
        }
        for (size_t i = 0; i < BYTES; i++)
            flat[i] = (uint8_t)random_u64(&random_state);
        struct block_vec vec = {.iov = iov, .length = BYTES};
        vec_copy_from(&vec, flat);
        assert_memory_equal(memory, flat, BYTES);

        size_t from = random_below(&random_state, BYTES);
        size_t length = random_below(&random_state, BYTES - from + 1);
        struct block_vec slice = vec_slice(&vec, from, length);
        size_t from2 = length ? random_below(&random_state, length) : 0;
        struct block_vec inner = vec_slice(&slice, from2, length - from2);
        vec_copy_to(&inner, out);
        assert_memory_equal(out, flat + from + from2, length - from2);

        vec_fill(&inner, 0xee);
        memset(flat + from + from2, 0xee, length - from2);
        assert_memory_equal(memory, flat, BYTES);
    }
}

static void alignment_is_of_every_address_and_every_length(void **state)
{
    (void)state;
    static char memory[4096] __attribute__((aligned(1024)));
    struct iovec good[] = {{memory, 512}, {memory + 1024, 1024}};
    struct iovec bad_address[] = {{memory, 512}, {memory + 1028, 1024}};
    struct iovec bad_length[] = {{memory, 508}, {memory + 1024, 1024}};
    struct block_vec vec = {.iov = good, .length = 1536};
    assert_true(vec_is_aligned(&vec, 512));
    assert_false(vec_is_aligned(&vec, 1024));
    vec.length = 1535; /* the last piece is cut */
    assert_false(vec_is_aligned(&vec, 512));
    vec = (struct block_vec){.iov = bad_address, .length = 1536};
    assert_false(vec_is_aligned(&vec, 512));
    assert_true(vec_is_aligned(&vec, 4));
    vec = (struct block_vec){.iov = bad_length, .length = 1532};
    assert_false(vec_is_aligned(&vec, 512));
    vec = (struct block_vec){.iov = good, .skip = 512, .length = 0};
    assert_true(vec_is_aligned(&vec, 4096));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slice_begins_where_it_says),
        cmocka_unit_test(an_empty_slice_at_the_very_end_looks_at_no_iovec),
        cmocka_unit_test(iovecs_beyond_the_maximum_are_left_for_later),
        cmocka_unit_test(random_cuts_copy_the_right_bytes),
        cmocka_unit_test(alignment_is_of_every_address_and_every_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
