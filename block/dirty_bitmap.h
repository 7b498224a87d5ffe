/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_DIRTY_BITMAP_H
#define BLOCK_DIRTY_BITMAP_H

/*
 * A dirty bitmap: which parts of a disk were changed. One bit a *granule*, a power of two of bytes;
 * the disk's end may be inside of the last one. Who keeps it true is an observer of a node
 * (observer.h), or nobody: then it says what was once so.
 *
 * Any number of threads set and ask at the same time, without a lock; nothing here waits. Who asks
 * sees all that was set before, by whatever order he knows of, and of what is being set in this
 * moment either. Another one is taken over (dirty_bitmap_take_over()) while nobody else is in here.
 *
 * Memory that was never dirty costs address space alone.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dirty_bitmap;

#define DIRTY_BITMAP_GRANULARITY_BITS_MAX 63

/* Bytes of a bitmap's bits, for a disk of that size. */
uint64_t dirty_bitmap_bytes(uint64_t size_bytes, uint32_t granularity_bits);

/* A clean one. The caller has looked at dirty_bitmap_bytes(). -ENOMEM. */
int dirty_bitmap_new(struct dirty_bitmap **ret_bitmap, uint64_t size_bytes,
                     uint32_t granularity_bits);
void dirty_bitmap_free(struct dirty_bitmap *bitmap); /* takes NULL */

uint64_t dirty_bitmap_size_bytes(const struct dirty_bitmap *bitmap);
uint32_t dirty_bitmap_granularity_bits(const struct dirty_bitmap *bitmap);

/* A copy for another size of the disk: what is added is clean. -ENOMEM. */
int dirty_bitmap_copy(const struct dirty_bitmap *bitmap, uint64_t size_bytes,
                      struct dirty_bitmap **ret_copy);
/* The bitmap becomes what the other one is, size and bits; the other one is gone. */
void dirty_bitmap_take_over(struct dirty_bitmap *bitmap, struct dirty_bitmap *other);

/* Every granule that the range touches is dirty; what of it lies past the end is left out. */
void dirty_bitmap_set(struct dirty_bitmap *bitmap, uint64_t offset, uint64_t length);
/* Every granule is clean. */
void dirty_bitmap_clear(struct dirty_bitmap *bitmap);

/* Whether the byte at offset is dirty, and for how much of the range (at least 1 byte of it, as its
 * length is) that is so at least: a very long run comes in pieces, so that no call takes long. Past
 * the end nothing is dirty. */
bool dirty_bitmap_look(const struct dirty_bitmap *bitmap, uint64_t offset, uint64_t length,
                       uint64_t *ret_length);
/* The first dirty run in the range, cut to it; false: there is none. Looks at all of it. */
bool dirty_bitmap_next(const struct dirty_bitmap *bitmap, uint64_t offset, uint64_t length,
                       uint64_t *ret_offset, uint64_t *ret_length);
/* How many granules are dirty. Looks at all of them. */
uint64_t dirty_bitmap_count(const struct dirty_bitmap *bitmap);

/*
 * The bits as bytes: granule n is bit n % 8 of byte n / 8. first_byte is a multiple of 8. Bits past
 * the last granule are given as 0, and taken as if they were.
 */
void dirty_bitmap_give_bytes(const struct dirty_bitmap *bitmap, uint64_t first_byte, uint8_t *to,
                             size_t length);
void dirty_bitmap_take_bytes(struct dirty_bitmap *bitmap, uint64_t first_byte, const uint8_t *from,
                             size_t length);

#endif
