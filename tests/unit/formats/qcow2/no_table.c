/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/formats/qcow2/no_table.h"

#include <errno.h>

#include "cache/cache.h"
#include "cache/owned.h"

static struct {
    bool is_armed, is_sticky;
    unsigned fail_at, count, failed;
    void (*hook)(void *arg);
    void *hook_arg;
} state;

void no_table_arm(unsigned fail_at, bool is_sticky)
{
    state.is_armed = true;
    state.is_sticky = is_sticky;
    state.fail_at = fail_at;
    state.count = state.failed = 0;
    state.hook = NULL;
}

void no_table_arm_hook(unsigned number, void (*hook)(void *arg), void *arg)
{
    no_table_arm(number, false);
    state.hook = hook;
    state.hook_arg = arg;
}

unsigned no_table_disarm(void)
{
    state.is_armed = false;
    return state.failed;
}

static bool fails(void)
{
    if (!state.is_armed)
        return false;
    unsigned number = ++state.count;
    bool is_hit = number == state.fail_at || (number > state.fail_at && state.is_sticky);
    state.failed += is_hit;
    if (is_hit && state.hook)
        state.hook(state.hook_arg);
    return is_hit && !state.hook;
}

/* A hook is for calls that may wait, and these are made with the monitor held. */
static bool fails_to_own(void)
{
    return !state.hook && fails();
}

/* The linker's --wrap=NAME sends calls of NAME to __wrap_NAME, and those of __real_NAME to NAME. */
#define WRAPPED(type, name, parameters, arguments, condition, failure) \
    type real_##name parameters __asm__("__real_" #name);              \
    type wrapped_##name parameters __asm__("__wrap_" #name);           \
    type wrapped_##name parameters                                     \
    {                                                                  \
        return condition ? failure : real_##name arguments;            \
    }

WRAPPED(bool, cache_try_read,
        (struct cache * cache, unsigned kind, uint64_t node_offset, void *to, size_t length),
        (cache, kind, node_offset, to, length), state.is_armed, false)
WRAPPED(int, cache_co_read,
        (struct cache * cache, unsigned kind, uint64_t node_offset, void *to, size_t length),
        (cache, kind, node_offset, to, length), fails(), -EIO)
WRAPPED(int, cache_co_get,
        (struct cache * cache, unsigned kind, uint64_t node_offset, struct cache_table **ret_table),
        (cache, kind, node_offset, ret_table), fails(), -EIO)
WRAPPED(int, cache_co_get_new,
        (struct cache * cache, unsigned kind, uint64_t node_offset, struct cache_table **ret_table),
        (cache, kind, node_offset, ret_table), fails(), -EIO)

WRAPPED(int, owned_add, (struct owned * owned, uint64_t first, uint64_t count, unsigned owner),
        (owned, first, count, owner), fails_to_own(), -ENOMEM)
WRAPPED(int, owned_filler_add,
        (struct owned_filler * filler, uint64_t first, uint64_t count, unsigned owner),
        (filler, first, count, owner), fails_to_own(), -ENOMEM)
WRAPPED(int, owned_filler_add_each,
        (struct owned_filler * filler, const uint64_t *clusters, size_t count, unsigned owner),
        (filler, clusters, count, owner), fails_to_own(), -ENOMEM)
