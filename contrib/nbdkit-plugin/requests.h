/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CONTRIB_NBDKIT_PLUGIN_REQUESTS_H
#define CONTRIB_NBDKIT_PLUGIN_REQUESTS_H

/* Requests of nbdkit's threads to the image: each runs on the thread that brings it, and goes
 * between the caller's memory and the image without a copy of ours. */

#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"

struct shared_image;

enum request_kind {
    REQUEST_READ,
    REQUEST_WRITE,
    REQUEST_ZERO,
    REQUEST_TRIM,
    REQUEST_FLUSH,
    REQUEST_CACHE,
    REQUEST_EXTENTS,
};

/* An answer of REQUEST_EXTENTS; a negative result ends the request with it. */
typedef int request_tell_extent(void *arg, uint64_t offset, const struct block_extent *extent);

struct request {
    enum request_kind kind;
    uint64_t offset;
    uint32_t length;
    unsigned flags; /* enum block_request_flag */
    void *data;     /* read: to here; write: from here, and it is left as it is */
    bool tells_one; /* extents: one is enough */
    request_tell_extent *tell;
    void *tell_arg;
};

/* 0 or a negative errno. -ESHUTDOWN when the image is being closed. */
int request_run(struct shared_image *image, const struct request *request);

/* What it was, for a message: "read". */
const char *request_verb(enum request_kind kind);

#endif
