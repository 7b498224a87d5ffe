/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CONTRIB_NBDKIT_PLUGIN_PARAMETERS_H
#define CONTRIB_NBDKIT_PLUGIN_PARAMETERS_H

/*
 * What a person gave as key=value: file, format, cache, read-only and object, which this plugin
 * knows, and options of the image, which its nodes will know or refuse (block/node_options.h).
 */

#include <stdbool.h>

#include "block/image_options.h"
#include "common/error.h"

struct node_options;
struct parameter;

struct parameters {
    char *folder;       /* in which relative paths begin */
    char *image;        /* an absolute path, or "json:..."; NULL: the options alone tell */
    const char *format; /* NULL: by probing */
    enum image_cache cache;
    bool read_only;
    struct parameter *others; /* as given, in order */
    unsigned other_count;
    const char **objects; /* object=, as objects_add() takes them */
    unsigned object_count;
    bool has_format, has_cache, has_read_only;
};

/* folder: the working folder now. -ENOMEM. */
int parameters_init(struct parameters *parameters, const char *folder, struct error *err);
/* Also for what is all zero. */
void parameters_fini(struct parameters *parameters);

/* The strings live as long as the parameters. */
int parameters_set(struct parameters *parameters, const char *key, const char *value,
                   struct error *err);
/* Whether all that is needed was set. */
int parameters_check(const struct parameters *parameters, struct error *err);

/* For block_co_open_image(). */
int parameters_node_options(const struct parameters *parameters, bool read_only,
                            struct node_options **ret_options, struct error *err);
/* Of the top node, for block_co_open_image(): NULL where the options name its driver. */
const char *parameters_top_format(const struct parameters *parameters);
/* What messages call the image. */
const char *parameters_image_name(const struct parameters *parameters);

#endif
