/* SPDX-License-Identifier: BSD-3-Clause */
/* receive.c: the same memory again and again while nothing is pinned; pinned bytes stay. */
#include "tests/unit/unit.h"

#include "server/receive.h"

#include <string.h>

#include "common/random.h"

static int set_up(void **state)
{
    static struct receive_pool pool;
    receive_pool_init(&pool);
    *state = &pool;
    return 0;
}

static int tear_down(void **state)
{
    receive_pool_fini(*state);
    return 0;
}

/* One receive of `length` bytes; the chunk is pinned when ret_pinned is asked for. */
static uint8_t *receive(struct receive_pool *pool, size_t length, struct receive_chunk **ret_pinned)
{
    struct receive_chunk *chunk;
    size_t space;
    uint8_t *memory = receive_borrow(pool, &chunk, &space);
    assert_non_null(memory);
    assert_true(space >= RECEIVE_SPACE_MIN);
    assert_true(memory >= chunk->data && memory + space <= chunk->data + RECEIVE_CHUNK_BYTES);
    memset(memory, 0x5a, length);
    if (ret_pinned) {
        receive_pin(chunk);
        *ret_pinned = chunk;
    }
    receive_return(pool, length);
    return memory;
}

static void without_pins_the_same_memory_is_lent(void **state)
{
    uint8_t *first = receive(*state, 1000, NULL);
    for (unsigned i = 0; i < 100; i++)
        assert_ptr_equal(receive(*state, RECEIVE_CHUNK_BYTES, NULL), first);
}

static void what_is_pinned_is_not_lent_again(void **state)
{
    struct receive_chunk *pinned;
    uint8_t *first = receive(*state, 1000, &pinned);
    assert_ptr_equal(receive(*state, 10, NULL), first + 1000);
    receive_unpin(pinned);
    assert_ptr_equal(receive(*state, 10, NULL), first);
}

static void a_pin_given_up_during_the_loan_frees_it_all(void **state)
{
    struct receive_pool *pool = *state;
    struct receive_chunk *before, *chunk;
    size_t space;
    uint8_t *first = receive(pool, 1000, &before);
    uint8_t *second = receive_borrow(pool, &chunk, &space);
    assert_ptr_equal(second, first + 1000);
    receive_pin(chunk);
    receive_unpin(before);
    receive_return(pool, 500);
    /* The second is still pinned: what lies before it was not given away. */
    assert_ptr_equal(receive(pool, 10, NULL), second + 500);
    receive_unpin(chunk);
    assert_ptr_equal(receive(pool, 10, NULL), first);
}

static void a_chunk_that_is_nearly_full_is_replaced(void **state)
{
    struct receive_pool *pool = *state;
    struct receive_chunk *first, *second;
    receive(pool, RECEIVE_CHUNK_BYTES - RECEIVE_SPACE_MIN + 1, &first);
    receive(pool, 10, &second);
    assert_ptr_not_equal(first, second);
    assert_int_equal(pool->full_count, 1);
    receive_unpin(first);
    assert_int_equal(pool->full_count, 0);
    assert_int_equal(pool->spare_count, 1);
    receive_unpin(second);
}

static void pins_are_bounded_and_spares_are_few(void **state)
{
    enum { CHUNKS = RECEIVE_CHUNKS_PINNED_MAX + 1 };
    struct receive_pool *pool = *state;
    struct receive_chunk *pinned[CHUNKS];
    for (unsigned i = 0; i < CHUNKS; i++) {
        assert_true(receive_may_pin(pool));
        receive(pool, RECEIVE_CHUNK_BYTES, &pinned[i]);
    }
    receive(pool, 10, NULL); /* takes another chunk: now as many as are allowed are full */
    assert_false(receive_may_pin(pool));
    for (unsigned i = 0; i < CHUNKS; i++)
        receive_unpin(pinned[i]);
    assert_true(receive_may_pin(pool));
    assert_int_equal(pool->full_count, 0);
    assert_int_equal(pool->spare_count, RECEIVE_CHUNKS_SPARE_MAX);
}

/* Random pins of random ranges: what is pinned never changes. */
static void pinned_bytes_keep_their_value(void **state)
{
    enum { PINS = 20, ROUNDS = 20000 };
    struct receive_pool *pool = *state;
    struct {
        struct receive_chunk *chunk;
        uint8_t *data;
        size_t length;
        uint8_t value;
    } pins[PINS] = {{0}};
    const uint64_t seed = 20261121;
    struct random random;
    print_message("seed %llu\n", (unsigned long long)seed);
    random_seed(&random, seed);
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned i = (unsigned)random_below(&random, PINS);
        if (pins[i].chunk) {
            for (size_t at = 0; at < pins[i].length; at += 97)
                assert_int_equal(pins[i].data[at], pins[i].value);
            receive_unpin(pins[i].chunk);
            pins[i].chunk = NULL;
            continue;
        }
        struct receive_chunk *chunk;
        size_t space;
        uint8_t *memory = receive_borrow(pool, &chunk, &space);
        size_t length = 1 + random_below(&random, random_once_in(&random, 4) ? space : 5000);
        memset(memory, (int)round, length);
        if (receive_may_pin(pool)) {
            pins[i].chunk = chunk;
            pins[i].data = memory;
            pins[i].length = length;
            pins[i].value = (uint8_t)round;
            receive_pin(chunk);
        }
        receive_return(pool, length);
    }
    for (unsigned i = 0; i < PINS; i++) {
        if (pins[i].chunk)
            receive_unpin(pins[i].chunk);
    }
}

int main(void)
{
#define with_pool(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        with_pool(without_pins_the_same_memory_is_lent),
        with_pool(what_is_pinned_is_not_lent_again),
        with_pool(a_pin_given_up_during_the_loan_frees_it_all),
        with_pool(a_chunk_that_is_nearly_full_is_replaced),
        with_pool(pins_are_bounded_and_spares_are_few),
        with_pool(pinned_bytes_keep_their_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
