/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_FUZZ_FUZZ_IMAGE_H
#define TESTS_FUZZ_FUZZ_IMAGE_H

/* What the fuzz targets of whole images share: a file in memory, and what is done with an image. */

#include <stddef.h>
#include <stdint.h>

#include "block/driver.h"
#include "block/env.h"

/* The driver "file", of any name; it grows up to its bounds. */
extern const struct block_driver fuzz_file;
extern size_t file_length; /* zeroes lie behind it */

/* What fill() puts into the file: what is changed otherwise stays for the next input. */
void fuzz_file_put(size_t offset, const void *data, size_t length);
void fuzz_file_put_byte(size_t offset, uint8_t byte, size_t length);

struct fuzz_image {
    const struct block_driver *const *drivers;
    size_t bytes_max;
    void (*draw_blank)(void);                       /* what every file starts as; NULL: zeroes */
    void (*fill)(const uint8_t *data, size_t size); /* from the input; sets file_length */
    void (*co_run)(void *env);
};

/* Sets the loop up for those drivers the first time, has the file made from the input, and runs
 * co_run(env) to its end. Workers work on the spot: no threads, so that every run is the same. One
 * image a program. */
void fuzz_image_run(const struct fuzz_image *image, const uint8_t *data, size_t size);

#define FUZZ_BYTES 8192 /* of one read or write at most */

/* Asks for extents and reads them, some. Properties: extents are inside the disk; what is called
 * zero reads as zeroes; what memory says is no more than that; the same range reads the same twice.
 */
void fuzz_co_walk(struct block_node *node);
/* What was written is read. */
void fuzz_co_write_and_read(struct block_node *node, uint64_t offset, size_t length);

#endif
