/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_FORMATS_QCOW2_REDO_SCENE_H
#define TESTS_UNIT_FORMATS_QCOW2_REDO_SCENE_H

/*
 * What the tests of redo.c share: an image in memory whose server is killed. A kill is simulated:
 * what the disk and the kept memory are at that moment is put aside, and put back when the node is
 * closed. Include tests/unit/unit.h first.
 */

#include "block/block.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CAPACITY_BYTES (8u << 20)
#define DISK_BYTES (1u << 20)
#define AUTOCLEAR_FIRST_BYTE 88
#define REDO_BIT 0x80

#define SCENE_SHAPES 3
extern const struct memory_image scene_shapes[SCENE_SHAPES];

/* After scene_init(): the disk of memory_driver.h, which can be opened again, left and taken back,
 * and qcow2. */
extern const struct block_driver *scene_drivers[3];
void scene_init(void);

/* With these options; the opening ends with `code`. */
struct block_backend *scene_co_open(struct fixture *fixture, const char *text, int code);
void scene_co_close(struct fixture *fixture, struct block_backend *backend);

/* What is on the disk and in the kept memory. */
struct scene_state {
    void *bytes, *kept;
    uint64_t size_bytes;
    size_t kept_length;
};
void scene_save(const struct fixture *fixture, struct scene_state *state);
void scene_put_back(struct fixture *fixture, const struct scene_state *state);
void scene_state_fini(struct scene_state *state);

/* What is left then is what a kill would have left now. */
void scene_co_kill(struct fixture *fixture, struct block_backend *backend);

int scene_co_write(struct block_backend *backend, uint64_t offset, size_t length, int byte);
int scene_co_byte(struct block_backend *backend, uint64_t offset);

/* And with it the number of the session, or both are not there. */
bool scene_has_bit(const struct fixture *fixture);
void scene_expect_no_errors(const struct fixture *fixture);

/* A new image: 1 at 0 is flushed, 2 at 100000 is not. */
struct block_backend *scene_co_make_written(struct fixture *fixture, const char *options);
/* The same, and its server was killed. */
void scene_co_make_killed(struct fixture *fixture, const char *options);
/* Opens it, looks whether what was not flushed is there, and closes it. */
void scene_co_expect_there(struct fixture *fixture, bool is_there);

#endif
