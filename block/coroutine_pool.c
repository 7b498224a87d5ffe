/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/coroutine_pool.h"

#include <assert.h>
#include <stdint.h>
#include <sys/mman.h>

#include "block/coroutine_private.h"
#include "block/coroutine_switch.h"
#include "block/coroutine_tools.h"
#include "common/align.h"

/* Address space costs nothing, and a frame with a large array on it steps over a small guard. It is
 * also a multiple of every page size in use. */
#define GUARD_BYTES ((size_t)64 * 1024)
#define STACK_BYTES ((size_t)COROUTINE_STACK_BYTES * TOOLS_STACK_FACTOR)
#define TOP_BYTES ((sizeof(struct coroutine) + 63) & ~(size_t)63)
#define MAPPING_BYTES (GUARD_BYTES + STACK_BYTES + 4096)

_Static_assert(TOP_BYTES <= 4096, "the coroutine takes nothing from the stack's size");

static struct coroutine *map_stack(void)
{
    char *mapping = mmap(NULL, MAPPING_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (mapping == MAP_FAILED)
        return NULL;
    /* Splits the mapping, so it fails when the process has as many as it may. */
    if (mprotect(mapping, GUARD_BYTES, PROT_NONE) < 0) {
        munmap(mapping, MAPPING_BYTES);
        return NULL;
    }
    uintptr_t top = (uintptr_t)mapping + GUARD_BYTES + STACK_BYTES + 4096 - TOP_BYTES;
    struct coroutine *co = (struct coroutine *)align_down(top, 64);
    *co = (struct coroutine){.state = COROUTINE_ENDED, .stack_low = mapping + GUARD_BYTES};
    link_init(&co->link);
    co->context = coroutine_context_make(co->stack_low, co, coroutine_main, co);
    tools_stack_made(co);
    return co;
}

static void unmap_stack(struct coroutine *co)
{
    tools_stack_gone(co);
    munmap((char *)co->stack_low - GUARD_BYTES, MAPPING_BYTES);
}

void coroutine_pool_init(struct coroutine_pool *pool)
{
    list_init(&pool->idle);
    pool->idle_count = pool->used_count = 0;
}

void coroutine_pool_fini(struct coroutine_pool *pool)
{
    struct list_link *link;
    assert(pool->used_count == 0);
    while ((link = list_pop(&pool->idle)))
        unmap_stack(container_of(link, struct coroutine, link));
    pool->idle_count = 0;
}

struct coroutine *coroutine_pool_take(struct coroutine_pool *pool, struct loop *loop)
{
    struct list_link *link = list_pop(&pool->idle);
    struct coroutine *co;
    if (link) {
        pool->idle_count--;
        co = container_of(link, struct coroutine, link);
    } else {
        co = map_stack();
        if (!co)
            return NULL;
    }
    pool->used_count++;
    co->loop = loop;
    return co;
}

void coroutine_pool_put(struct coroutine_pool *pool, struct coroutine *co)
{
    assert(co->state == COROUTINE_ENDED && pool->used_count > 0);
    pool->used_count--;
    if (pool->idle_count == COROUTINE_POOL_MAX) {
        unmap_stack(co);
        return;
    }
    list_prepend(&pool->idle, &co->link);
    pool->idle_count++;
}
