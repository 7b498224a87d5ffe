/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/posix_extents.h"

#include <assert.h>

void posix_extents_init(struct posix_extents *extents)
{
    *extents = (struct posix_extents){.mutex = PTHREAD_MUTEX_INITIALIZER};
}

void posix_extents_fini(struct posix_extents *extents)
{
    pthread_mutex_destroy(&extents->mutex);
}

bool posix_extents_find(struct posix_extents *extents, uint64_t offset, uint64_t *ret_end)
{
    bool found = false;
    pthread_mutex_lock(&extents->mutex);
    for (unsigned i = 0; i < extents->count && !found; i++) {
        const struct posix_extent *known = &extents->known[i];
        if (known->start <= offset && offset < known->end) {
            *ret_end = known->end;
            found = true;
        }
    }
    pthread_mutex_unlock(&extents->mutex);
    return found;
}

uint64_t posix_extents_generation(struct posix_extents *extents)
{
    pthread_mutex_lock(&extents->mutex);
    uint64_t generation = extents->generation;
    pthread_mutex_unlock(&extents->mutex);
    return generation;
}

static void remove_at(struct posix_extents *extents, unsigned index)
{
    extents->known[index] = extents->known[--extents->count];
}

/* When all places are taken, each gives way in its turn. */
static void put(struct posix_extents *extents, uint64_t start, uint64_t end)
{
    unsigned index = extents->count;
    if (index < POSIX_EXTENTS_MAX)
        extents->count++;
    else
        index = extents->next_victim++ % POSIX_EXTENTS_MAX;
    extents->known[index] = (struct posix_extent){.start = start, .end = end};
}

void posix_extents_add(struct posix_extents *extents, uint64_t generation, uint64_t start,
                       uint64_t end)
{
    assert(start < end);
    pthread_mutex_lock(&extents->mutex);
    if (generation == extents->generation) {
        /* What touches it becomes one with it; downwards, because removing moves the last one. */
        for (unsigned i = extents->count; i-- > 0;) {
            const struct posix_extent known = extents->known[i];
            if (known.end < start || end < known.start)
                continue;
            start = known.start < start ? known.start : start;
            end = known.end > end ? known.end : end;
            remove_at(extents, i);
        }
        put(extents, start, end);
    }
    pthread_mutex_unlock(&extents->mutex);
}

void posix_extents_forget(struct posix_extents *extents, uint64_t start, uint64_t end)
{
    pthread_mutex_lock(&extents->mutex);
    extents->generation++;
    for (unsigned i = extents->count; i-- > 0;) {
        const struct posix_extent known = extents->known[i];
        if (known.end <= start || end <= known.start)
            continue;
        remove_at(extents, i);
        /* What is put back is at or behind i, and outside [start, end): never cut again. */
        if (known.start < start)
            put(extents, known.start, start);
        if (end < known.end)
            put(extents, end, known.end);
    }
    pthread_mutex_unlock(&extents->mutex);
}
