/* SPDX-License-Identifier: BSD-3-Clause */
#include "contrib/nbdkit-plugin/parameters.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/node_options.h"

struct parameter {
    const char *key, *value;
};

int parameters_init(struct parameters *parameters, const char *folder, struct error *err)
{
    *parameters = (struct parameters){.folder = strdup(folder)};
    return parameters->folder ? 0 : error_set(err, -ENOMEM, "no memory for the parameters");
}

void parameters_fini(struct parameters *parameters)
{
    free(parameters->folder);
    free(parameters->image);
    free(parameters->others);
    free(parameters->objects);
    *parameters = (struct parameters){.folder = NULL};
}

/* --- one by one ---------------------------------------------------------------------------------
 */

/* Values with one meaning are read as options are, so that they are refused in the same words. */
static int read_choice(const char *key, const char *value, const char *const *names,
                       unsigned *ret_index, struct error *err)
{
    struct node_options *options = node_options_new();
    int code = options ? node_options_set(options, key, value, err)
                       : error_set(err, -ENOMEM, "no memory for the parameters");
    if (code == 0)
        code = node_options_take_choice(options, key, names, ret_index, err);
    node_options_free(options);
    return code;
}

static int read_bool(const char *key, const char *value, bool *ret_value, struct error *err)
{
    struct node_options *options = node_options_new();
    int code = options ? node_options_set(options, key, value, err)
                       : error_set(err, -ENOMEM, "no memory for the parameters");
    if (code == 0)
        code = node_options_take_bool(options, key, ret_value, err);
    node_options_free(options);
    return code;
}

static int set_file(struct parameters *parameters, const char *value, struct error *err)
{
    static const char json[] = "json:";
    if (parameters->image)
        return error_set(err, -EINVAL, "one image can be served, but '%s' and '%s' are named",
                         parameters->image, value);
    if (!*value)
        return error_set(err, -EINVAL, "file: the image's name is empty");
    parameters->image = strncmp(value, json, strlen(json)) == 0
                            ? strdup(value)
                            : image_path_in(parameters->folder, value);
    return parameters->image ? 0 : error_set(err, -ENOMEM, "no memory for the parameters");
}

static int set_other(struct parameters *parameters, const char *key, const char *value,
                     struct error *err)
{
    size_t size = (parameters->other_count + 1) * sizeof(*parameters->others);
    struct parameter *others = realloc(parameters->others, size);
    if (!others)
        return error_set(err, -ENOMEM, "no memory for the parameters");
    parameters->others = others;
    others[parameters->other_count++] = (struct parameter){.key = key, .value = value};
    return 0;
}

static int add_object(struct parameters *parameters, const char *value, struct error *err)
{
    size_t size = (parameters->object_count + 1) * sizeof(*parameters->objects);
    const char **objects = realloc(parameters->objects, size);
    if (!objects)
        return error_set(err, -ENOMEM, "no memory for the parameters");
    parameters->objects = objects;
    objects[parameters->object_count++] = value;
    return 0;
}

static int refuse_twice(const char *key, struct error *err)
{
    return error_set(err, -EINVAL, "%s is given twice; give it once", key);
}

int parameters_set(struct parameters *parameters, const char *key, const char *value,
                   struct error *err)
{
    if (strcmp(key, "file") == 0)
        return set_file(parameters, value, err);
    if (strcmp(key, "format") == 0) {
        if (parameters->has_format)
            return refuse_twice(key, err);
        parameters->has_format = true;
        parameters->format = value;
        return *value ? 0 : error_set(err, -EINVAL, "format: empty; name one, such as raw");
    }
    if (strcmp(key, "cache") == 0) {
        unsigned index = 0;
        if (parameters->has_cache)
            return refuse_twice(key, err);
        parameters->has_cache = true;
        int code = read_choice(key, value, image_cache_names, &index, err);
        parameters->cache = (enum image_cache)index;
        return code;
    }
    if (strcmp(key, "read-only") == 0) {
        if (parameters->has_read_only)
            return refuse_twice(key, err);
        parameters->has_read_only = true;
        return read_bool(key, value, &parameters->read_only, err);
    }
    if (strcmp(key, "object") == 0)
        return add_object(parameters, value, err);
    if (strcmp(key, "load-snapshot") == 0)
        parameters->read_only = true; /* as the server's -l: a snapshot is only read */
    return set_other(parameters, key, value, err);
}

/* --- together -----------------------------------------------------------------------------------
 */

static bool has(const struct parameters *parameters, const char *key)
{
    for (unsigned i = 0; i < parameters->other_count; i++) {
        if (strcmp(parameters->others[i].key, key) == 0)
            return true;
    }
    return false;
}

int parameters_check(const struct parameters *parameters, struct error *err)
{
    bool names_file = has(parameters, "file.filename");
    bool names_driver = has(parameters, "driver");
    if (names_driver && parameters->format && !parameters->image)
        return error_set(err, -EINVAL,
                         "format and driver say the same of the image; give one of them");
    if (names_file && parameters->image)
        return error_set(err, -EINVAL,
                         "file and file.filename both name the image; give one of them");
    if (parameters->image && names_driver && has(parameters, "file.driver"))
        return error_set(err, -EINVAL,
                         "file names the image, but driver and file.driver describe it node by "
                         "node; leave file out, and say filename=PATH of the node it belongs to");
    if (!parameters->image && !names_file && !names_driver && !has(parameters, "file.driver"))
        return error_set(err, -EINVAL, "no image is named; say file=PATH, or nbdkit platter PATH");
    return 0;
}

/* Where a driver is named, as that of a filter, path and format are those of what is below. */
static int put_image_below(const struct parameters *parameters, struct node_options *options,
                           struct error *err)
{
    bool is_path = parameters->image && *parameters->image == '/';
    if (!is_path || !has(parameters, "driver"))
        return 0;
    if (!parameters->format)
        return node_options_set(options, "file.filename", parameters->image, err);
    int code = node_options_set(options, "file.driver", parameters->format, err);
    if (code == 0)
        code = node_options_set(options, "file.file.filename", parameters->image, err);
    return code;
}

const char *parameters_top_format(const struct parameters *parameters)
{
    return has(parameters, "driver") ? NULL : parameters->format;
}

static int set_all(const struct parameters *parameters, bool read_only,
                   struct node_options *options, struct error *err)
{
    int code = 0;
    if (parameters->image)
        code = image_options_name(options, parameters->image, false,
                                  parameters_top_format(parameters), err);
    for (unsigned i = 0; i < parameters->other_count && code == 0; i++)
        code =
            node_options_set(options, parameters->others[i].key, parameters->others[i].value, err);
    if (code == 0)
        code = put_image_below(parameters, options, err);
    if (code == 0)
        code = image_options_set_folder(options, parameters->folder, err);
    if (code == 0)
        code = image_options_cache(options, parameters->cache, err);
    if (code == 0 && read_only)
        code = node_options_set(options, "read-only", "on", err);
    return code;
}

int parameters_node_options(const struct parameters *parameters, bool read_only,
                            struct node_options **ret_options, struct error *err)
{
    struct node_options *options = node_options_new();
    if (!options)
        return error_set(err, -ENOMEM, "no memory for the image's options");
    int code = set_all(parameters, read_only || parameters->read_only, options, err);
    if (code < 0) {
        node_options_free(options);
        return code;
    }
    *ret_options = options;
    return 0;
}

const char *parameters_image_name(const struct parameters *parameters)
{
    return parameters->image ? parameters->image : "the image";
}
