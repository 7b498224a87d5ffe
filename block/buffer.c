/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/buffer.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sanitizer/asan_interface.h>

#include "common/align.h"

/* Lies in the first bytes of a buffer that is kept. */
struct buffer_free {
    struct buffer_free *next;
};

/* BUFFER_CLASS_COUNT when the length is above every class. */
static unsigned class_of(size_t length)
{
    unsigned class = 0;
    while (class < BUFFER_CLASS_COUNT && ((size_t)BUFFER_ALIGNMENT << class) < length)
        class ++;
    return class;
}

static size_t class_bytes(unsigned class)
{
    return (size_t)BUFFER_ALIGNMENT << class;
}

void buffer_pool_init(struct buffer_pool *pool)
{
    *pool = (struct buffer_pool){0};
}

/* Only the link at a kept buffer's head may be touched; a use after buffer_put() is reported by the
 * AddressSanitizer as if the buffer had been freed. (Without it these two do nothing.) */
static void poison_kept(struct buffer_free *kept, size_t bytes)
{
    ASAN_POISON_MEMORY_REGION(kept + 1, bytes - sizeof(*kept));
}

static void unpoison_kept(struct buffer_free *kept, size_t bytes)
{
    ASAN_UNPOISON_MEMORY_REGION(kept, bytes);
}

static struct buffer_free *take_kept(struct buffer_pool *pool, unsigned class)
{
    struct buffer_free *kept = pool->classes[class];
    pool->classes[class] = kept->next;
    pool->kept_bytes -= class_bytes(class);
    unpoison_kept(kept, class_bytes(class));
    return kept;
}

void buffer_pool_fini(struct buffer_pool *pool)
{
    for (unsigned class = 0; class < BUFFER_CLASS_COUNT; class ++) {
        while (pool->classes[class])
            free(take_kept(pool, class));
    }
    assert(pool->kept_bytes == 0);
}

void *buffer_get(struct buffer_pool *pool, size_t length)
{
    assert(length > 0);
    unsigned class = class_of(length);
    if (class == BUFFER_CLASS_COUNT) {
        if (length > SIZE_MAX - BUFFER_ALIGNMENT)
            return NULL;
        void *buffer = mmap(NULL, align_up(length, BUFFER_ALIGNMENT), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return buffer == MAP_FAILED ? NULL : buffer;
    }
    if (pool->classes[class])
        return take_kept(pool, class);
    return aligned_alloc(BUFFER_ALIGNMENT, class_bytes(class));
}

void buffer_put(struct buffer_pool *pool, void *buffer, size_t length)
{
    if (!buffer)
        return;
    unsigned class = class_of(length);
    if (class == BUFFER_CLASS_COUNT) {
        munmap(buffer, align_up(length, BUFFER_ALIGNMENT));
        return;
    }
    if (class_bytes(class) > BUFFER_POOL_KEEP_BYTES - pool->kept_bytes) {
        free(buffer);
        return;
    }
    struct buffer_free *kept = buffer;
    kept->next = pool->classes[class];
    pool->classes[class] = kept;
    pool->kept_bytes += class_bytes(class);
    poison_kept(kept, class_bytes(class));
}
