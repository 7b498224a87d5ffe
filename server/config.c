/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "block/node_options.h"

static bool is_direct(enum config_cache cache)
{
    return cache == CONFIG_CACHE_NONE || cache == CONFIG_CACHE_DIRECTSYNC;
}

/* A raw image can begin anywhere in its file; an image that is probed is served as raw. */
static int set_offset(const struct config *config, struct node_options *options, struct error *err)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, config->offset);
    return node_options_set(options, "offset", text, err);
}

int config_node_options(const struct config *config, struct node_options **ret_options,
                        struct error *err)
{
    struct node_options *options = node_options_new();
    if (!options)
        return error_set(err, -ENOMEM, "no memory for the image's options");
    int code = node_options_set(options, "file.cache.direct",
                                is_direct(config->cache) ? "on" : "off", err);
    if (code == 0)
        code = node_options_set(options, "file.cache.no-flush",
                                config->cache == CONFIG_CACHE_UNSAFE ? "on" : "off", err);
    if (code == 0)
        code = node_options_set(options, "file.discard", config->discard ? "unmap" : "ignore", err);
    if (code == 0 && config->aio)
        code = node_options_set(options, "file.aio", config->aio, err);
    if (code == 0 && config->read_only)
        code = node_options_set(options, "read-only", "on", err);
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
        /* As qemu-nbd: one client at a time needs no promise about several. */
        .multi_conn = config->clients_max != 1,
        .rules =
            {
                .write_through = config->cache == CONFIG_CACHE_WRITETHROUGH ||
                                 config->cache == CONFIG_CACHE_DIRECTSYNC,
            },
    };
}
