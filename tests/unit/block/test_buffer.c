/* SPDX-License-Identifier: BSD-3-Clause */
/* buffer: aligned, used again, and never more kept than the limit. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "block/buffer.h"

static void buffers_of_every_size_are_aligned_and_writable(void **state)
{
    (void)state;
    static const size_t lengths[] = {1,       4095,    4096,          4097,
                                     1 << 20, 8 << 20, (8 << 20) + 1, (32 << 20) + 5};
    struct buffer_pool pool;
    buffer_pool_init(&pool);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        char *buffer = buffer_get(&pool, lengths[i]);
        assert_non_null(buffer);
        assert_int_equal((uintptr_t)buffer % BUFFER_ALIGNMENT, 0);
        memset(buffer, 1, lengths[i]);
        buffer_put(&pool, buffer, lengths[i]);
    }
    buffer_pool_fini(&pool);
}

static void the_last_one_put_back_is_the_first_one_taken(void **state)
{
    (void)state;
    struct buffer_pool pool;
    buffer_pool_init(&pool);
    void *first = buffer_get(&pool, 5000);
    void *second = buffer_get(&pool, 8192);
    assert_ptr_not_equal(first, second);
    buffer_put(&pool, first, 5000);
    buffer_put(&pool, second, 8192);
    assert_ptr_equal(buffer_get(&pool, 6000), second); /* the same class: 8 KiB */
    void *other = buffer_get(&pool, 4096);
    assert_ptr_not_equal(other, first);
    assert_ptr_equal(buffer_get(&pool, 8000), first);
    memset(first, 2, 8192);
    buffer_put(&pool, first, 8000);
    buffer_put(&pool, second, 6000);
    buffer_put(&pool, other, 4096);
    buffer_put(&pool, NULL, 4096);
    buffer_pool_fini(&pool);
}

static void a_pool_keeps_no_more_than_its_limit(void **state)
{
    (void)state;
    enum { COUNT = 12 };
    void *buffers[COUNT];
    struct buffer_pool pool;
    buffer_pool_init(&pool);
    for (int i = 0; i < COUNT; i++)
        buffers[i] = buffer_get(&pool, 1 << 20);
    for (int i = 0; i < COUNT; i++)
        buffer_put(&pool, buffers[i], 1 << 20);
    assert_int_equal(pool.kept_bytes, BUFFER_POOL_KEEP_BYTES);
    void *large = buffer_get(&pool, 64 << 20);
    buffer_put(&pool, large, 64 << 20);
    assert_int_equal(pool.kept_bytes, BUFFER_POOL_KEEP_BYTES);
    buffer_pool_fini(&pool);
}

static void a_length_that_no_memory_has_gives_null(void **state)
{
    (void)state;
    struct buffer_pool pool;
    buffer_pool_init(&pool);
    assert_null(buffer_get(&pool, SIZE_MAX - 10));
    assert_null(buffer_get(&pool, SIZE_MAX / 2));
    buffer_pool_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffers_of_every_size_are_aligned_and_writable),
        cmocka_unit_test(the_last_one_put_back_is_the_first_one_taken),
        cmocka_unit_test(a_pool_keeps_no_more_than_its_limit),
        cmocka_unit_test(a_length_that_no_memory_has_gives_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
