/* SPDX-License-Identifier: BSD-3-Clause */
/* poller_memory.c: blocks that grow, are used again, and are there when the system has no more. */
#include "tests/unit/unit.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include "block/poller_memory.h"

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 7 + i / 251);
}

static void a_block_keeps_its_bytes_while_it_grows(void **state)
{
    (void)state;
    enum { BYTES_MAX = 1 << 20 };
    assert_int_equal(poller_memory_join(NULL), 0);
    uint8_t *block = NULL;
    for (size_t size = 1; size <= BYTES_MAX; size = size * 3 / 2 + 1) {
        size_t before = size == 1 ? 0 : (size - 1) * 2 / 3;
        block = poller_memory_realloc(block, (long)size);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 16, 0);
        for (size_t i = 0; i < before && i < size; i++)
            assert_int_equal(block[i], byte_at(i));
        for (size_t i = 0; i < size; i++)
            block[i] = byte_at(i);
    }
    assert_null(poller_memory_realloc(block, 0));
    assert_null(poller_memory_realloc(NULL, 0));
    poller_memory_leave();
}

static void blocks_do_not_overlap_and_freed_ones_are_used_again(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    uint8_t *blocks[COUNT];
    assert_int_equal(poller_memory_join(NULL), 0);
    assert_int_equal(poller_memory_join(NULL), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        blocks[i] = poller_memory_realloc(NULL, 1 + i * 13 % 4000);
        assert_non_null(blocks[i]);
        memset(blocks[i], (int)i, 1 + i * 13 % 4000);
    }
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(blocks[i][i * 13 % 4000], (uint8_t)i);
    uint8_t *last = blocks[COUNT - 1];
    for (unsigned i = 0; i < COUNT; i++)
        poller_memory_realloc(blocks[i], 0);
    assert_ptr_equal(poller_memory_realloc(NULL, 1 + (COUNT - 1) * 13 % 4000), last);
    poller_memory_realloc(last, 0);
    poller_memory_leave();
    poller_memory_leave();
}

/* libev's arrays at the most they can be, with not one page to be had from the system. */
static void a_poller_s_arrays_grow_to_the_descriptor_limit_without_the_system(void **state)
{
    (void)state;
    if (unit_tool_shares_memory()) {
        skip_because("a tool's own memory is in the way of a limit");
        return;
    }
    static const size_t item_bytes[] = {16, 16, 12, 4}; /* watchers, pending, events, changes */
    struct rlimit files, space, none;
    uint8_t *arrays[4] = {NULL};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    size_t count = files.rlim_cur < 1 << 20 ? files.rlim_cur : 1 << 20;
    assert_int_equal(poller_memory_join(NULL), 0);
    assert_int_equal(getrlimit(RLIMIT_AS, &space), 0);
    none = (struct rlimit){.rlim_cur = 1, .rlim_max = space.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), MAP_FAILED);
    bool grew = true;
    for (size_t items = 1; items < 2 * count; items *= 2) {
        for (unsigned i = 0; i < 4; i++) {
            size_t wanted = items < count ? items : count;
            uint8_t *array = poller_memory_realloc(arrays[i], (long)(wanted * item_bytes[i]));
            grew = grew && array;
            if (array)
                array[wanted * item_bytes[i] - 1] = 1;
            arrays[i] = array ? array : arrays[i];
        }
    }
    assert_int_equal(setrlimit(RLIMIT_AS, &space), 0);
    assert_true(grew);
    for (unsigned i = 0; i < 4; i++)
        poller_memory_realloc(arrays[i], 0);
    poller_memory_leave();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_keeps_its_bytes_while_it_grows),
        cmocka_unit_test(blocks_do_not_overlap_and_freed_ones_are_used_again),
        cmocka_unit_test(a_poller_s_arrays_grow_to_the_descriptor_limit_without_the_system),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
