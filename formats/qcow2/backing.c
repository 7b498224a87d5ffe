/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The other files that an image names: its backing file and its external data file.
 *
 * A stored name is a plain path, relative to the directory of the image's own name. Who made the
 * image chose it, and that may be somebody who wants to see a file of this host; so the file must
 * really lie in the image's directory, or where a person allowed it (--allow-path); names with a
 * protocol are refused; and an image whose format was guessed opens nothing. What a person said by
 * options (backing.file.filename, data-file.filename) is not bound by that.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/node_options.h"
#include "common/log.h"
#include "formats/qcow2/image.h"

/* --- names --------------------------------------------------------------------------------------
 */

/* "json:..." or "nbd://...": a colon before any slash. */
static bool has_protocol(const char *name)
{
    size_t length = strcspn(name, ":/");
    return name[length] == ':';
}

static int check_name(const struct qcow2_image *image, const char *what, const char *name,
                      const char *key, struct error *err)
{
    const char *image_name = image->node->name;
    if (image->node->is_guess)
        return error_set(err, -EPERM,
                         "'%.150s' was taken for qcow2 by its first bytes alone, and names the %s "
                         "'%.150s': no second file is opened on a guess; say -f qcow2 (for a "
                         "backing file: backing.driver=qcow2) to allow it",
                         image_name, what, name);
    if (has_protocol(name))
        return error_set(err, -EPERM,
                         "'%.150s' names the %s '%.150s': a name with a protocol is not followed; "
                         "describe the file by %sfilename=PATH",
                         image_name, what, name, key);
    return 0;
}

/* The directory of a path, with its slash; empty for a path without one. */
static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strndup(path, slash ? (size_t)(slash - path) + 1 : 0);
}

/* Says under `key` ("backing.file.") that the file of that stored name is to be opened, and where
 * it must be. */
static int set_stored(struct qcow2_image *image, struct node_options *options, const char *key,
                      const char *name, struct error *err)
{
    char option[64];
    char *directory = directory_of(image->node->name), *path = NULL;
    int ret = -ENOMEM;
    if (directory && asprintf(&path, "%s%s", *name == '/' ? "" : directory, name) < 0)
        path = NULL;
    if (path) {
        snprintf(option, sizeof(option), "%sfilename", key);
        ret = node_options_set(options, option, path, err);
        snprintf(option, sizeof(option), "%swithin", key);
        if (ret == 0)
            ret = node_options_set(options, option, *directory ? directory : ".", err);
    } else {
        error_set(err, ret, "no memory to open '%s'", name);
    }
    free(directory);
    free(path);
    return ret;
}

/* Which file asked for the one that cannot be opened. In a chain the last two count. */
static int add_who_asked(const struct qcow2_image *image, const char *what, int code,
                         struct error *err)
{
    static const char asked[] = "; it is the";
    if (err && !strstr(err->message, asked)) {
        size_t used = strlen(err->message);
        snprintf(err->message + used, sizeof(err->message) - used, "%s %s of '%s'", asked, what,
                 image->node->name);
    }
    return code;
}

/* --- the external data file ---------------------------------------------------------------------
 */

int qcow2_co_open_data_file(struct qcow2_image *image, struct node_options *options,
                            struct error *err)
{
    static const char what[] = "external data file";
    const char *name = image->extensions.data_file_name;
    int ret = 0;
    image->data = image->node->file;
    if (!image->geometry.has_data_file) {
        if (*name)
            return error_set(err, -EINVAL,
                             "cannot open '%.150s': it names the external data file '%.150s', but "
                             "its incompatible feature bit 2 is clear",
                             image->node->name, name);
        return 0; /* an option for one that is not there is reported by the graph */
    }
    bool is_described = node_options_has(options, "data-file.filename") ||
                        node_options_has(options, "data-file.driver");
    if (!is_described && !*name)
        return error_set(err, -EINVAL,
                         "'%s' has its data in another file and does not say which; say "
                         "data-file.filename=PATH",
                         image->node->name);
    if (!is_described) {
        ret = check_name(image, what, name, "data-file.", err);
        if (ret == 0)
            ret = set_stored(image, options, "data-file.", name, err);
        if (ret == 0)
            ret = node_options_set(options, "data-file.driver", "file", err);
    }
    if (ret < 0)
        return ret;
    ret = block_co_open_child(image->node, options, "data-file", &image->data, err);
    return ret < 0 ? add_who_asked(image, what, ret, err) : 0;
}

/* --- the backing file ---------------------------------------------------------------------------
 */

/* Where only the file is described (backing.file.filename), the stored format still counts; where
 * only the format is (backing.driver), the stored name. */
int qcow2_co_open_backing(struct qcow2_image *image, struct node_options *options,
                          struct error *err)
{
    static const char what[] = "backing file";
    bool is_described = node_options_has(options, "backing.file.filename") ||
                        node_options_has(options, "backing.file.driver");
    const char *format =
        *image->extensions.backing_format ? image->extensions.backing_format : NULL;
    int ret = 0;
    if (image->node->given_backing)
        return block_co_open_image_child(image->node, options, "backing", NULL, format,
                                         &image->backing, err);
    if (!image->backing_name && !is_described)
        return 0;
    if (!is_described) {
        ret = check_name(image, what, image->backing_name, "backing.file.", err);
        if (ret == 0)
            ret = node_options_set(options, "backing.file.driver", "file", err);
        if (ret == 0)
            ret = set_stored(image, options, "backing.file.", image->backing_name, err);
    }
    if (ret == 0 && !node_options_has(options, "backing.read-only"))
        ret = node_options_set(options, "backing.read-only", "on", err);
    if (ret < 0)
        return ret;
    ret = block_co_open_image_child(image->node, options, "backing", NULL, format, &image->backing,
                                    err);
    return ret < 0 ? add_who_asked(image, what, ret, err) : 0;
}
