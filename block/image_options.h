/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_IMAGE_OPTIONS_H
#define BLOCK_IMAGE_OPTIONS_H

/*
 * How a person names an image and says how it is cached, as options of a node (node_options.h):
 * what every program that opens images for a person shares, whatever its command line looks like.
 */

#include <stdbool.h>

#include "common/error.h"

struct node_options;

/* qemu-nbd's words; each is how writes reach the disk. */
enum image_cache {
    IMAGE_CACHE_WRITEBACK,    /* through the host's page cache; a flush makes it durable */
    IMAGE_CACHE_NONE,         /* past the page cache (O_DIRECT) */
    IMAGE_CACHE_WRITETHROUGH, /* writeback, and every write durable before its answer */
    IMAGE_CACHE_DIRECTSYNC,   /* none, and every write durable before its answer */
    IMAGE_CACHE_UNSAFE,       /* writeback, and nothing is ever forced to the disk */
};

/* In the order of enum image_cache, NULL-ended. */
extern const char *const image_cache_names[];

/* Every write, of zeroes too, is BLOCK_FUA: by whoever sends it. */
bool image_cache_writes_through(enum image_cache cache);

/*
 * Sets what `image` says: nothing, where it is a path, which goes to block_co_open_image() as it
 * is. "json:" and an object describe the node; is_options: all of it is an object, or
 * "key=value,...". format NULL: the image's own options, or probing, will tell. -EINVAL: it cannot
 * be read, or names no file.
 */
int image_options_name(struct node_options *options, const char *image, bool is_options,
                       const char *format, struct error *err);

/* For a process that will leave its working folder, `folder`: the relative paths that the options
 * name become absolute. */
int image_options_set_folder(struct node_options *options, const char *folder, struct error *err);
/* The same for a path alone: one for free(). NULL: no memory. */
char *image_path_in(const char *folder, const char *path);

/* Sets what the mode says of the nodes, unless the image's own options say it. */
int image_options_cache(struct node_options *options, enum image_cache cache, struct error *err);

#endif
