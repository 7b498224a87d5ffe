/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options as a JSON object. Members of objects become parts of a dotted key, and so do the indices
 * of arrays: {"file": {"filename": "a"}, "list": [true]} is file.filename=a,list.0=on. A key that
 * has dots in it already is taken as it is.
 *
 * How deep the text goes is counted before the library sees it, so that neither its recursion nor
 * ours depends on the data by more than JSON_DEPTH_MAX.
 */
#include "block/node_options.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define JSON_DEPTH_MAX 16
#define JSON_PATH_MAX 1024

struct flattening {
    struct node_options *options;
    struct error *err;
    unsigned count;
    char path[JSON_PATH_MAX];
};

/* Whether brackets are nested deeper than is allowed. Text that is no JSON gives any answer: the
 * library refuses it, and its depth is bounded all the same. */
static bool is_too_deep(const char *text)
{
    unsigned depth = 0;
    bool in_string = false;
    for (const char *at = text; *at; at++) {
        if (in_string && *at == '\\' && at[1])
            at++;
        else if (*at == '"')
            in_string = !in_string;
        else if (!in_string && (*at == '{' || *at == '[') && ++depth > JSON_DEPTH_MAX)
            return true;
        else if (!in_string && (*at == '}' || *at == ']') && depth > 0)
            depth--;
    }
    return false;
}

/* The library quotes the text, which may have any bytes; a sentence is one line. */
static int refuse_text(const json_error_t *why, struct error *err)
{
    char said[JSON_ERROR_TEXT_LENGTH];
    snprintf(said, sizeof(said), "%s", why->text);
    for (char *at = said; *at; at++) {
        if ((unsigned char)*at < ' ')
            *at = ' ';
    }
    return error_set(err, -EINVAL, "the image's JSON is wrong near byte %d: %.100s", why->position,
                     said);
}

static int set_leaf(struct flattening *to, const char *value)
{
    if (to->count++ == NODE_OPTIONS_COUNT_MAX)
        return error_set(to->err, -EINVAL, "there are more than %d options of the image",
                         NODE_OPTIONS_COUNT_MAX);
    if (node_options_has(to->options, to->path))
        return error_set(to->err, -EINVAL, "the option '%.100s' is given twice", to->path);
    return node_options_set(to->options, to->path, value, to->err);
}

static int flatten(struct flattening *to, const json_t *value);

/* The value under the path so far and this part. */
static int flatten_part(struct flattening *to, const char *part, const json_t *value)
{
    size_t before = strlen(to->path);
    int added =
        snprintf(to->path + before, sizeof(to->path) - before, "%s%s", before > 0 ? "." : "", part);
    if (added < 0 || (size_t)added >= sizeof(to->path) - before)
        return error_set(to->err, -EINVAL, "the name of the option '%.100s...' is too long",
                         to->path);
    int rc = flatten(to, value);
    to->path[before] = '\0';
    return rc;
}

static int flatten_object(struct flattening *to, const json_t *object)
{
    json_t *mutable_object = (json_t *)object; /* the iterator's type; nothing is changed */
    const char *key;
    json_t *value;
    int rc = 0;
    json_object_foreach(mutable_object, key, value)
    {
        rc = flatten_part(to, key, value);
        if (rc < 0)
            break;
    }
    return rc;
}

static int flatten_array(struct flattening *to, const json_t *array)
{
    int rc = 0;
    for (size_t i = 0; i < json_array_size(array) && rc == 0; i++) {
        char part[24];
        snprintf(part, sizeof(part), "%zu", i);
        rc = flatten_part(to, part, json_array_get(array, i));
    }
    return rc;
}

static int flatten(struct flattening *to, const json_t *value)
{
    char number[32];
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        if (json_object_size(value) > 0)
            return flatten_object(to, value);
        break;
    case JSON_ARRAY:
        if (json_array_size(value) > 0)
            return flatten_array(to, value);
        break;
    case JSON_STRING:
        return set_leaf(to, json_string_value(value));
    case JSON_INTEGER:
        snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return set_leaf(to, number);
    case JSON_TRUE:
        return set_leaf(to, "on");
    case JSON_FALSE:
        return set_leaf(to, "off");
    case JSON_REAL:
    case JSON_NULL:
        break;
    }
    return error_set(to->err, -EINVAL,
                     "the option '%.100s' in the image's JSON is empty, null or a fraction; give "
                     "a string, a whole number, true or false",
                     to->path);
}

int node_options_parse_json(struct node_options *options, const char *text, struct error *err)
{
    size_t length = strlen(text);
    if (length > NODE_OPTIONS_TEXT_MAX)
        return error_set(err, -EINVAL, "the image's JSON is %zu bytes long; %d are allowed", length,
                         NODE_OPTIONS_TEXT_MAX);
    if (is_too_deep(text))
        return error_set(err, -EINVAL, "the image's JSON is nested deeper than %d levels",
                         JSON_DEPTH_MAX);
    json_error_t why;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        return refuse_text(&why, err);
    struct flattening to = {.options = options, .err = err};
    int rc = json_is_object(root)
                 ? flatten_object(&to, root)
                 : error_set(err, -EINVAL, "the image's JSON is no object; begin it with '{'");
    json_decref(root);
    return rc;
}
