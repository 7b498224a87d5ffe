/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/posix_extents.h"

#include <assert.h>
#include <string.h>

void posix_extents_init(struct posix_extents *extents)
{
    *extents = (struct posix_extents){.mutex = PTHREAD_MUTEX_INITIALIZER};
}

void posix_extents_fini(struct posix_extents *extents)
{
    pthread_mutex_destroy(&extents->mutex);
}

/* The first that ends behind offset, or count. */
static unsigned first_behind(const struct posix_extents *extents, uint64_t offset)
{
    unsigned low = 0, high = extents->count;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (extents->known[middle].end > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

bool posix_extents_find(struct posix_extents *extents, uint64_t offset, uint64_t *ret_end)
{
    pthread_mutex_lock(&extents->mutex);
    unsigned at = first_behind(extents, offset);
    bool found = at < extents->count && extents->known[at].start <= offset;
    if (found)
        *ret_end = extents->known[at].end;
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

static void remove_some(struct posix_extents *extents, unsigned at, unsigned count)
{
    struct posix_extent *known = extents->known;
    memmove(known + at, known + at + count, (extents->count - at - count) * sizeof(*known));
    extents->count -= count;
}

/* When all places are taken, each gives way in its turn. */
static void insert(struct posix_extents *extents, unsigned at, uint64_t start, uint64_t end)
{
    struct posix_extent *known = extents->known;
    if (extents->count == POSIX_EXTENTS_MAX) {
        unsigned victim = extents->next_victim++ % POSIX_EXTENTS_MAX;
        remove_some(extents, victim, 1);
        at -= victim < at;
    }
    memmove(known + at + 1, known + at, (extents->count - at) * sizeof(*known));
    known[at] = (struct posix_extent){.start = start, .end = end};
    extents->count++;
}

/* What touches it becomes one with it. */
static void merge(struct posix_extents *extents, uint64_t start, uint64_t end)
{
    const struct posix_extent *known = extents->known;
    unsigned first = first_behind(extents, start > 0 ? start - 1 : 0), behind = first;
    for (; behind < extents->count && known[behind].start <= end; behind++) {
        start = known[behind].start < start ? known[behind].start : start;
        end = known[behind].end > end ? known[behind].end : end;
    }
    remove_some(extents, first, behind - first);
    insert(extents, first, start, end);
}

void posix_extents_add(struct posix_extents *extents, uint64_t generation, uint64_t start,
                       uint64_t end)
{
    assert(start < end);
    pthread_mutex_lock(&extents->mutex);
    if (generation == extents->generation)
        merge(extents, start, end);
    pthread_mutex_unlock(&extents->mutex);
}

void posix_extents_forget(struct posix_extents *extents, uint64_t start, uint64_t end)
{
    pthread_mutex_lock(&extents->mutex);
    extents->generation++;
    unsigned first = first_behind(extents, start), behind = first;
    struct posix_extent below = {.end = 0}, above = {.end = 0}; /* what stays of those cut */
    for (; behind < extents->count && extents->known[behind].start < end; behind++) {
        const struct posix_extent *known = &extents->known[behind];
        if (known->start < start)
            below = (struct posix_extent){.start = known->start, .end = start};
        if (known->end > end)
            above = (struct posix_extent){.start = end, .end = known->end};
    }
    remove_some(extents, first, behind - first);
    if (above.end > 0)
        insert(extents, first, above.start, above.end);
    if (below.end > 0)
        insert(extents, first, below.start, below.end);
    pthread_mutex_unlock(&extents->mutex);
}
