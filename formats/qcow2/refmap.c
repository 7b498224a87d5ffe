/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/qcow2/refmap.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BITS 12 /* 4096 clusters, 16 KiB of counts */
#define CHUNK_CLUSTERS (UINT64_C(1) << CHUNK_BITS)
#define SLOTS_MIN 64 /* a power of two */

struct refmap_chunk {
    uint64_t number;   /* of the cluster's index, without its low bits */
    uint64_t used_end; /* counts from here on are 0 */
    uint32_t counts[CHUNK_CLUSTERS];
};

void refmap_init(struct refmap *map)
{
    *map = (struct refmap){.slots = NULL};
}

void refmap_fini(struct refmap *map)
{
    for (uint64_t i = 0; i < map->slot_count; i++)
        free(map->slots[i]);
    free(map->slots);
    refmap_init(map);
}

/* The slot that has the chunk, or the empty one where it belongs. There is always an empty one. */
static uint64_t find_slot(struct refmap_chunk *const *slots, uint64_t slot_count, uint64_t number)
{
    uint64_t hash = number * UINT64_C(0x9e3779b97f4a7c15);
    uint64_t at = (hash ^ hash >> 32) & (slot_count - 1);
    while (slots[at] && slots[at]->number != number)
        at = (at + 1) & (slot_count - 1);
    return at;
}

/* Room for one more chunk, with at most half of the slots in use. */
static int make_room(struct refmap *map)
{
    if ((map->chunk_count + 1) * 2 <= map->slot_count)
        return 0;
    uint64_t count = map->slot_count ? map->slot_count * 2 : SLOTS_MIN;
    struct refmap_chunk **slots = calloc(count, sizeof(*slots));
    if (!slots)
        return -ENOMEM;
    for (uint64_t i = 0; i < map->slot_count; i++) {
        if (map->slots[i])
            slots[find_slot(slots, count, map->slots[i]->number)] = map->slots[i];
    }
    free(map->slots);
    map->slots = slots;
    map->slot_count = count;
    return 0;
}

int refmap_add(struct refmap *map, uint64_t cluster_index)
{
    uint64_t number = cluster_index >> CHUNK_BITS;
    if (make_room(map) < 0)
        return -ENOMEM;
    uint64_t at = find_slot(map->slots, map->slot_count, number);
    if (!map->slots[at]) {
        struct refmap_chunk *fresh = calloc(1, sizeof(*fresh));
        if (!fresh)
            return -ENOMEM;
        fresh->number = number;
        map->slots[at] = fresh;
        map->chunk_count++;
    }
    struct refmap_chunk *chunk = map->slots[at];
    uint64_t in_chunk = cluster_index & (CHUNK_CLUSTERS - 1);
    if (chunk->counts[in_chunk] < REFMAP_COUNT_MAX)
        chunk->counts[in_chunk]++;
    if (in_chunk >= chunk->used_end)
        chunk->used_end = in_chunk + 1;
    return 0;
}

static const struct refmap_chunk *find_chunk(const struct refmap *map, uint64_t number)
{
    if (map->slot_count == 0)
        return NULL;
    return map->slots[find_slot(map->slots, map->slot_count, number)];
}

uint32_t refmap_get(const struct refmap *map, uint64_t cluster_index)
{
    const struct refmap_chunk *chunk = find_chunk(map, cluster_index >> CHUNK_BITS);
    return chunk ? chunk->counts[cluster_index & (CHUNK_CLUSTERS - 1)] : 0;
}

/* The lowest chunk that is not below `number`. */
static const struct refmap_chunk *next_chunk(const struct refmap *map, uint64_t number)
{
    const struct refmap_chunk *best = find_chunk(map, number);
    for (uint64_t i = 0; i < map->slot_count && !(best && best->number == number); i++) {
        const struct refmap_chunk *chunk = map->slots[i];
        if (chunk && chunk->number >= number && (!best || chunk->number < best->number))
            best = chunk;
    }
    return best;
}

bool refmap_next(const struct refmap *map, uint64_t from, uint64_t *ret_cluster_index)
{
    const struct refmap_chunk *chunk;
    while ((chunk = next_chunk(map, from >> CHUNK_BITS))) {
        uint64_t first = chunk->number << CHUNK_BITS;
        for (uint64_t i = from > first ? from - first : 0; i < chunk->used_end; i++) {
            if (chunk->counts[i] > 0) {
                *ret_cluster_index = first + i;
                return true;
            }
        }
        from = first + CHUNK_CLUSTERS;
    }
    return false;
}
