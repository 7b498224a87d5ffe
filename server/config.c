/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/node_options.h"

static bool is_direct(enum config_cache cache)
{
    return cache == CONFIG_CACHE_NONE || cache == CONFIG_CACHE_DIRECTSYNC;
}

/* The options that stand in the image's place; none, where it is a path. */
static int parse_image(const struct config *config, struct node_options *options, struct error *err)
{
    static const char json[] = "json:";
    const char *image = config->image;
    if (!config->image_opts && strncmp(image, json, strlen(json)) != 0)
        return 0;
    int code;
    if (!config->image_opts)
        code = node_options_parse_json(options, image + strlen(json), err);
    else if (*image == '{')
        code = node_options_parse_json(options, image, err);
    else
        code = node_options_parse(options, image, err);
    if (code < 0)
        return code;
    bool has_driver = !config->format && node_options_has(options, "driver");
    if (!has_driver && !node_options_has(options, "file.filename") &&
        !node_options_has(options, "file.driver"))
        return node_options_refuse(options, "file.filename", -EINVAL, err,
                                   "missing; the image's options name no file: say "
                                   "file.filename=PATH%s",
                                   config->format ? "" : ", or name a driver");
    return 0;
}

/* Said by options of the command line, unless the image's own options say it. */
static int set_defaults(const struct config *config, struct node_options *options,
                        struct error *err)
{
    int code = 0;
    if (is_direct(config->cache) && !node_options_has(options, "cache.direct"))
        code = node_options_set(options, "cache.direct", "on", err);
    if (code == 0 && config->cache == CONFIG_CACHE_UNSAFE &&
        !node_options_has(options, "cache.no-flush"))
        code = node_options_set(options, "cache.no-flush", "on", err);
    if (code == 0 && config->discard && !node_options_has(options, "discard"))
        code = node_options_set(options, "discard", "unmap", err);
    if (code == 0 && config->aio && !node_options_has(options, "aio"))
        code = node_options_set(options, "aio", config->aio, err);
    if (code == 0 && config->detect_zeroes && !node_options_has(options, "detect-zeroes"))
        code = node_options_set(options, "detect-zeroes", config->detect_zeroes, err);
    if (code == 0 && config->read_only)
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
    int code = parse_image(config, options, err);
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
        /* As qemu-nbd: one client at a time needs no promise about several. */
        .multi_conn = config->clients_max != 1,
        .rules =
            {
                .write_through = config->cache == CONFIG_CACHE_WRITETHROUGH ||
                                 config->cache == CONFIG_CACHE_DIRECTSYNC,
            },
    };
}
