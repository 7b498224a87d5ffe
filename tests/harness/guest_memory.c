/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/guest_memory.h"

#include <stddef.h>

uint8_t *guest_memory_at(const struct guest_memory *memory, uint64_t address, uint64_t *ret_left)
{
    for (unsigned i = 0; i < memory->region_count; i++) {
        const struct guest_region *region = &memory->regions[i];
        if (address < region->address || address - region->address >= region->length)
            continue;
        *ret_left = region->length - (address - region->address);
        return region->host + (address - region->address);
    }
    return NULL;
}

void *guest_memory_range(const struct guest_memory *memory, uint64_t address, uint64_t length)
{
    uint64_t left;
    uint8_t *host = guest_memory_at(memory, address, &left);
    return host && left >= length ? host : NULL;
}
