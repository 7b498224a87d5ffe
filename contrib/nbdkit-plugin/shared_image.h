/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CONTRIB_NBDKIT_PLUGIN_SHARED_IMAGE_H
#define CONTRIB_NBDKIT_PLUGIN_SHARED_IMAGE_H

/*
 * The one image that all connections share. It is opened when the first of them comes, for writing
 * or not as that one may; stays open between connections; and is closed at the end.
 *
 * States: closed -> open read-only -> open for writing, or closed -> open for writing. There is no
 * way back before the end.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"
#include "block/objects.h"
#include "common/error.h"
#include "contrib/nbdkit-plugin/parameters.h"
#include "contrib/nbdkit-plugin/stand.h"

struct shared_image {
    struct stand *stand;
    const struct parameters *parameters;
    pthread_mutex_t mutex;         /* of what follows, held while it changes */
    struct objects objects;        /* what the image's options refer to */
    struct block_backend *backend; /* NULL: closed */
};

/* Both are borrowed and outlive the image. */
void shared_image_init(struct shared_image *image, struct stand *stand,
                       const struct parameters *parameters);
/* It is closed, or was never opened. */
void shared_image_fini(struct shared_image *image);

/* For one more connection, which only reads or may write too: opens the image if it is not open
 * enough yet, and looks whether its file has grown. The caller may wait for long. */
int shared_image_open(struct shared_image *image, bool read_only, struct error *err);
/* Lets no request in any more, and waits for the last ones; what makes them wait for time alone, as
 * a rate limit does, is over. Flushes what was written; a failure is told, and the image is closed
 * in any case. Also when it was never opened. Once. */
int shared_image_close(struct shared_image *image, struct error *err);

/* Whether the parameters describe an image that can be opened: opens and closes it, read-only where
 * that tells. Before the stand is started. Something else may be the matter when it is opened. */
int shared_image_check(struct stand *stand, const struct parameters *parameters, struct error *err);

#endif
