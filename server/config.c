/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/image_options.h"
#include "block/node_options.h"

/* Said by options of the command line, unless the image's own options say it. */
static int set_defaults(const struct config *config, struct node_options *options,
                        struct error *err)
{
    int code = image_options_cache(options, config->cache, err);
    if (code == 0 && config->discard && !node_options_has(options, "discard"))
        code = node_options_set(options, "discard", "unmap", err);
    if (code == 0 && config->aio && !node_options_has(options, "aio"))
        code = node_options_set(options, "aio", config->aio, err);
    /* With -s, of the image above this one. */
    if (code == 0 && config->detect_zeroes && !config->snapshot &&
        !node_options_has(options, "detect-zeroes"))
        code = node_options_set(options, "detect-zeroes", config->detect_zeroes, err);
    if (code == 0 && (config->read_only || config->snapshot))
        code = node_options_set(options, "read-only", "on", err);
    return code;
}

/* A raw node with the offset above what the options describe. */
static int put_raw_above(struct node_options *options, const char *offset, struct error *err)
{
    int code = node_options_move_below(options, "file", err);
    if (code == 0)
        code = node_options_set(options, "driver", "raw", err);
    if (code == 0)
        code = node_options_set(options, "offset", offset, err);
    const char *read_only = node_options_get(options, "file.read-only");
    if (code == 0 && read_only)
        code = node_options_set(options, "read-only", read_only, err);
    return code;
}

/* -o: a raw image can begin anywhere in its file. */
static int set_offset(const struct config *config, struct node_options *options, struct error *err)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, config->offset);
    if (config->format && strcmp(config->format, "raw") != 0)
        return error_set(err, -EINVAL,
                         "-o needs -f raw, not '%s'; describe the image with --image-opts",
                         config->format);
    if (!config->format && node_options_has(options, "driver"))
        return put_raw_above(options, text, err);
    if (node_options_has(options, "offset"))
        return error_set(err, -EINVAL,
                         "the offset is given twice, by -o and by the image's option 'offset'; "
                         "give one of them");
    return node_options_set(options, "offset", text, err);
}

/* --allow-path, with a colon between the directories. */
static int set_allow_paths(const struct config *config, struct node_options *options,
                           struct error *err)
{
    size_t length = 1;
    for (unsigned i = 0; i < config->allow_path_count; i++)
        length += strlen(config->allow_paths[i]) + 1;
    if (config->allow_path_count == 0)
        return 0;
    char *joined = malloc(length), *to = joined;
    if (!joined)
        return error_set(err, -ENOMEM, "no memory for the image's options");
    for (unsigned i = 0; i < config->allow_path_count; i++)
        to += sprintf(to, "%s%s", i > 0 ? ":" : "", config->allow_paths[i]);
    int code = node_options_set(options, "allow-path", joined, err);
    free(joined);
    return code;
}

int config_node_options(const struct config *config, struct node_options **ret_options,
                        struct error *err)
{
    struct node_options *options = node_options_new();
    if (!options)
        return error_set(err, -ENOMEM, "no memory for the image's options");
    int code = image_options_name(options, config->image, config->image_opts, config->format, err);
    if (code == 0)
        code = set_defaults(config, options, err);
    if (code == 0 && config->load_snapshot)
        code = node_options_set(options, "load-snapshot", config->load_snapshot, err);
    if (code == 0)
        code = set_allow_paths(config, options, err);
    if (code == 0 && config->offset > 0)
        code = set_offset(config, options, err);
    if (code < 0) {
        node_options_free(options);
        return code;
    }
    *ret_options = options;
    return 0;
}

struct export_options config_export_options(const struct config *config)
{
    return (struct export_options){
        .name = config->export_name,
        .description = config->description,
        .read_only = config->read_only,
        .on_read_error = config->on_read_error,
        .on_write_error = config->on_write_error,
        .allocation_depth = config->allocation_depth,
        .bitmaps = config->bitmaps,
        .bitmap_count = config->bitmap_count,
        /* As qemu-nbd: one client at a time needs no promise about several. */
        .multi_conn = config->clients_max != 1,
        .rules =
            {
                .write_through = image_cache_writes_through(config->cache),
            },
    };
}
