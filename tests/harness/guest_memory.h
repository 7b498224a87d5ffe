/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_GUEST_MEMORY_H
#define TESTS_HARNESS_GUEST_MEMORY_H

/*
 * A guest's memory as a device sees it: a few regions of guest addresses, each of which is a plain
 * buffer. Addresses come from the guest and may be anything.
 */

#include <stdint.h>

#define GUEST_REGIONS_MAX 16

struct guest_region {
    uint64_t address, length; /* do not wrap; regions do not overlap */
    uint8_t *host;            /* the owner's */
};

struct guest_memory {
    unsigned region_count;
    struct guest_region regions[GUEST_REGIONS_MAX];
};

/* Where that address lies, and how many bytes from there on lie together; NULL: there is no memory.
 */
uint8_t *guest_memory_at(const struct guest_memory *memory, uint64_t address, uint64_t *ret_left);

/* The range, which is at least a byte, where all of it lies together; else NULL. */
void *guest_memory_range(const struct guest_memory *memory, uint64_t address, uint64_t length);

#endif
