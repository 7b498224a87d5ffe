/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_FORMATS_QCOW2_BITMAP_SCENE_H
#define TESTS_UNIT_FORMATS_QCOW2_BITMAP_SCENE_H

/*
 * What the tests of persistent bitmaps share: an image in memory with five of them, changes of its
 * disk that a model notes, and what must be in the file then. Include tests/unit/unit.h first.
 *
 *     "off"      not enabled
 *     "fine"     enabled, a granule of 512 bytes
 *     "lost"     enabled, and in use: inconsistent
 *     "coarse"   enabled, a granule of 64 KiB, with extra data that is compatible
 *     "foreign"  not enabled, with extra data that is not
 */

#include "formats/qcow2/bitmaps.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define DISK_BYTES (3u << 20)
#define GROWN_BYTES (40u << 20)
#define CAPACITY_BYTES (8u << 20)
#define FINE_BITS 9
#define FINE (1u << FINE_BITS)
#define FINE_COUNT (DISK_BYTES / FINE)
#define COARSE_BITS 16

#define SCENE_SHAPES 3
extern const struct memory_image scene_shapes[SCENE_SHAPES]; /* clusters of 512, 4096, 65536 */
#define SCENE_BITMAPS 5
extern const struct memory_bitmap scene_bitmaps[SCENE_BITMAPS];

/* Which granules of "fine" were changed. */
extern bool scene_changed[GROWN_BYTES / FINE];

/* The image has the first bitmap_count of them. */
void scene_set_up(struct fixture *fixture, const struct memory_image *image, uint32_t bitmap_count);
void scene_for_each_shape(void (*co_test)(struct fixture *fixture, void *arg));

int scene_co_open_as(struct fixture *fixture, bool read_only, struct error *err);
void scene_co_open(struct fixture *fixture); /* for writing; it succeeds */

/* Changes that are noted, unless they fail. */
int scene_co_write(struct fixture *fixture, uint64_t offset, uint64_t length);
int scene_co_zero(struct fixture *fixture, uint64_t offset, uint64_t length);
int scene_co_discard(struct fixture *fixture, uint64_t offset, uint64_t length);
/* Some of all kinds; the first error. */
int scene_co_work(struct fixture *fixture);

/* In the file. */
bool scene_is_in_use(const struct fixture *fixture, const char *name);
/* What lies in the file is what was changed, or more where that may be. */
void scene_check_stored(const struct fixture *fixture, bool may_be_more);
void scene_check_sound(const struct fixture *fixture, bool may_leak);

#endif
