/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_REPLAY_INSIDE_H
#define TESTS_REPLAY_INSIDE_H

/* A guest's disk in this process: a device model on a graph of block nodes. */

#include "tests/replay/replay.h"

struct inside_options {
    const char *image;  /* "key=value,...", as --image-opts takes them */
    const char *aio;    /* NULL: the best there is */
    const char *cache;  /* a name of image_cache_names */
    const char *device; /* NULL: the trace's */
    unsigned queue_count;
};

/* One life: opens the image, replays, and closes it, or at a crash ends the process by SIGKILL.
 * 0, or -1 with a failure in the result. */
int inside_live(const struct trace *trace, const struct inside_options *options,
                struct content *content, struct replay_result *result);

#endif
