/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/block.h"
#include "block/node_options.h"
#include "server/config.h"

#define FOLDER_DEFAULT "/var/tmp" /* as qemu's: /tmp may be in memory */
#define PATH_BYTES 64

void overlay_init(struct overlay *overlay)
{
    overlay->fd = -1;
}

static const char *folder_of(void)
{
    const char *folder = getenv("TMPDIR");
    return folder && *folder ? folder : FOLDER_DEFAULT;
}

static int make_file(struct overlay *overlay)
{
    static const char name[] = "/platter-XXXXXX";
    const char *folder = folder_of();
    char *path = malloc(strlen(folder) + sizeof(name));
    if (!path)
        return -ENOMEM;
    sprintf(path, "%s%s", folder, name);
    int fd = mkostemp(path, O_CLOEXEC);
    int code = fd < 0 ? -errno : 0;
    if (fd >= 0)
        unlink(path);
    free(path);
    overlay->fd = fd;
    return code;
}

/* A name for the file that has none. */
static void path_of(const struct overlay *overlay, char path[static PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "/proc/self/fd/%d", overlay->fd);
}

struct pair {
    const char *name, *value;
};

/* Ended by a pair without a name; without a value, nothing is said. */
static struct node_options *options_new(const struct pair *pairs)
{
    struct node_options *options = node_options_new();
    for (; options && pairs->name; pairs++) {
        if (pairs->value && node_options_set(options, pairs->name, pairs->value, NULL) < 0) {
            node_options_free(options);
            return NULL;
        }
    }
    return options;
}

static int co_create(struct overlay *overlay, struct block_env *env, uint64_t size_bytes)
{
    char path[PATH_BYTES], size[24];
    path_of(overlay, path);
    snprintf(size, sizeof(size), "%" PRIu64, size_bytes);
    const struct pair pairs[] = {
        {"driver", "qcow2"}, {"filename", path}, {"size", size}, {NULL, NULL}};
    struct node_options *options = options_new(pairs);
    return options ? block_co_create(env, options, NULL) : -ENOMEM;
}

/* Nothing of it outlives the process, so it is never synced. Linux AIO is for files that are opened
 * past the page cache, which this one is not. */
static int co_open(struct overlay *overlay, const struct config *config, struct block_env *env,
                   struct block_node *image, struct block_node **ret_node, struct error *err)
{
    char path[PATH_BYTES], name[300];
    bool is_native = config->aio && strcmp(config->aio, "native") == 0;
    path_of(overlay, path);
    const struct pair pairs[] = {
        {"driver", "qcow2"},
        {"redo-log", "off"},
        {"file.driver", "file"},
        {"file.filename", path},
        {"file.cache.no-flush", "on"},
        {"file.aio", is_native ? NULL : config->aio},
        {"discard", config->discard ? "unmap" : NULL},
        {"detect-zeroes", config->detect_zeroes},
        {NULL, NULL},
    };
    struct node_options *options = options_new(pairs);
    snprintf(name, sizeof(name), "the temporary image above %s", block_node_name(image));
    return options ? block_co_open_above(env, options, name, image, ret_node, err) : -ENOMEM;
}

int overlay_co_put_above(struct overlay *overlay, const struct config *config,
                         struct block_node **node, struct error *err)
{
    struct block_env *env = block_node_env(*node);
    struct block_node *above = NULL;
    struct error why = {.message = ""};
    int code = make_file(overlay);
    if (code == 0)
        code = co_create(overlay, env, block_node_size_bytes(*node));
    if (code == 0)
        code = co_open(overlay, config, env, *node, &above, &why);
    if (code < 0 && *why.message)
        return error_set(err, code, "cannot put a temporary image above '%.200s': %s",
                         block_node_name(*node), why.message);
    if (code < 0)
        return error_set(err, code,
                         "cannot make the temporary image of --snapshot in '%s': %s; set TMPDIR "
                         "to a directory that has room for what will be written",
                         folder_of(), error_text(code));
    block_co_node_unref(*node);
    *node = above;
    return 0;
}

void overlay_fini(struct overlay *overlay)
{
    if (overlay->fd >= 0)
        close(overlay->fd);
    overlay->fd = -1;
}
