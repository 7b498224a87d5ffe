/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/image_options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/node_options.h"

const char *const image_cache_names[] = {
    [IMAGE_CACHE_WRITEBACK] = "writeback",
    [IMAGE_CACHE_NONE] = "none",
    [IMAGE_CACHE_WRITETHROUGH] = "writethrough",
    [IMAGE_CACHE_DIRECTSYNC] = "directsync",
    [IMAGE_CACHE_UNSAFE] = "unsafe",
    NULL,
};

static bool is_direct(enum image_cache cache)
{
    return cache == IMAGE_CACHE_NONE || cache == IMAGE_CACHE_DIRECTSYNC;
}

bool image_cache_writes_through(enum image_cache cache)
{
    return cache == IMAGE_CACHE_WRITETHROUGH || cache == IMAGE_CACHE_DIRECTSYNC;
}

int image_options_name(struct node_options *options, const char *image, bool is_options,
                       const char *format, struct error *err)
{
    static const char json[] = "json:";
    if (!is_options && strncmp(image, json, strlen(json)) != 0)
        return 0;
    int code;
    if (!is_options)
        code = node_options_parse_json(options, image + strlen(json), err);
    else if (*image == '{')
        code = node_options_parse_json(options, image, err);
    else
        code = node_options_parse(options, image, err);
    if (code < 0)
        return code;
    bool has_driver = !format && node_options_has(options, "driver");
    if (!has_driver && !node_options_has(options, "file.filename") &&
        !node_options_has(options, "file.driver"))
        return node_options_refuse(options, "file.filename", -EINVAL, err,
                                   "missing; the image's options name no file: say "
                                   "file.filename=PATH%s",
                                   format ? "" : ", or name a driver");
    return 0;
}

int image_options_cache(struct node_options *options, enum image_cache cache, struct error *err)
{
    int code = 0;
    if (is_direct(cache) && !node_options_has(options, "cache.direct"))
        code = node_options_set(options, "cache.direct", "on", err);
    if (code == 0 && cache == IMAGE_CACHE_UNSAFE && !node_options_has(options, "cache.no-flush"))
        code = node_options_set(options, "cache.no-flush", "on", err);
    return code;
}

/* --- paths ------------------------------------------------------------------------------------ */

char *image_path_in(const char *folder, const char *path)
{
    char *whole;
    if (*path == '/' || !*path) /* that there is none is for who opens it to say */
        return strdup(path);
    return asprintf(&whole, "%s/%s", folder, path) < 0 ? NULL : whole;
}

static char *path_in(void *arg, const char *path)
{
    return image_path_in(arg, path);
}

/* Directories with colons between them. */
static char *paths_in(void *arg, const char *paths)
{
    const char *folder = arg;
    size_t count = 1, used = 0;
    for (const char *at = paths; *at; at++)
        count += *at == ':';
    size_t size = strlen(paths) + count * (strlen(folder) + 1) + 1;
    char *whole = malloc(size);
    for (const char *at = paths; whole;) {
        int length = (int)strcspn(at, ":");
        const char *before = length > 0 && *at != '/' ? folder : "";
        used += (size_t)snprintf(whole + used, size - used, "%s%s%.*s", before, *before ? "/" : "",
                                 length, at);
        if (at[length] == '\0')
            break;
        whole[used++] = ':';
        at += length + 1;
    }
    return whole;
}

int image_options_set_folder(struct node_options *options, const char *folder, struct error *err)
{
    void *arg = (void *)folder;
    int code = node_options_replace(options, "filename", path_in, arg);
    if (code == 0)
        code = node_options_replace(options, "config", path_in, arg); /* the filter fault's */
    if (code == 0)
        code = node_options_replace(options, "allow-path", paths_in, arg);
    if (code < 0)
        return error_set(err, code, "no memory for the image's options");
    return 0;
}
