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

#define JSON_DEPTH_MAX 64 /* as many as a key may have parts */

struct flattening {
    struct node_options *options;
    struct error *err;
    unsigned count;
    char path[NODE_OPTIONS_PATH_MAX];
};

/* --- before the library ------------------------------------------------------------------------
 */

/* Where a walk over the text is: which member or index of each object or list that is open. */
struct depth_walk {
    unsigned depth;
    struct {
        const char *key; /* the member's name, or NULL in a list */
        int key_length;
        unsigned index;
    } levels[JSON_DEPTH_MAX];
};

/* The path of what is open deepest, cut where it does not fit. */
static void describe_place(const struct depth_walk *walk, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (unsigned i = 0; i < walk->depth && used < size; i++) {
        const char *dot = i > 0 ? "." : "";
        int added =
            walk->levels[i].key
                ? snprintf(text + used, size - used, "%s%.*s", dot,
                           walk->levels[i].key_length < 64 ? walk->levels[i].key_length : 64,
                           walk->levels[i].key)
                : snprintf(text + used, size - used, "%s%u", dot, walk->levels[i].index);
        used += added > 0 ? (size_t)added : 0;
    }
}

static const char *end_of_string(const char *at)
{
    for (at++; *at && *at != '"'; at++) {
        if (*at == '\\' && at[1])
            at++;
    }
    return at;
}

/* Whether brackets are nested deeper than is allowed; then walk says where. Text that is no JSON
 * gives any answer: the library refuses it, and its depth is bounded all the same. */
static bool is_too_deep(const char *text, struct depth_walk *walk)
{
    walk->depth = 0;
    for (const char *at = text; *at; at++) {
        if (*at == '"') {
            const char *end = end_of_string(at);
            if (walk->depth > 0 && walk->levels[walk->depth - 1].key) {
                walk->levels[walk->depth - 1].key = at + 1;
                walk->levels[walk->depth - 1].key_length = (int)(end - at - 1);
            }
            if (!*end)
                return false;
            at = end;
        } else if (*at == '{' || *at == '[') {
            if (walk->depth == JSON_DEPTH_MAX)
                return true;
            walk->levels[walk->depth].key = *at == '{' ? "" : NULL;
            walk->levels[walk->depth].key_length = 0;
            walk->levels[walk->depth++].index = 0;
        } else if (*at == ',' && walk->depth > 0) {
            walk->levels[walk->depth - 1].index++;
        } else if ((*at == '}' || *at == ']') && walk->depth > 0) {
            walk->depth--;
        }
    }
    return false;
}

static int refuse_depth(const struct node_options *options, const struct depth_walk *walk,
                        struct error *err)
{
    char place[NODE_OPTIONS_PATH_MAX];
    describe_place(walk, place, sizeof(place));
    return node_options_refuse(options, place, -EINVAL, err,
                               "the JSON is nested deeper than %d levels", JSON_DEPTH_MAX);
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
    return error_set(err, -EINVAL, "the JSON is wrong near byte %d: %.100s", why->position, said);
}

/* --- after the library -------------------------------------------------------------------------
 */

static int set_leaf(struct flattening *to, const char *value, enum node_option_kind kind)
{
    if (to->count++ == NODE_OPTIONS_COUNT_MAX)
        return error_set(to->err, -EINVAL, "there are more than %d options",
                         NODE_OPTIONS_COUNT_MAX);
    if (node_options_has(to->options, to->path))
        return node_options_refuse(to->options, to->path, -EINVAL, to->err, "given twice");
    return node_options_set_kind(to->options, to->path, value, kind, to->err);
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
        return set_leaf(to, json_string_value(value), NODE_OPTION_TEXT);
    case JSON_INTEGER:
        snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return set_leaf(to, number, NODE_OPTION_NUMBER);
    case JSON_TRUE:
        return set_leaf(to, "on", NODE_OPTION_TRUTH);
    case JSON_FALSE:
        return set_leaf(to, "off", NODE_OPTION_TRUTH);
    case JSON_REAL:
    case JSON_NULL:
        break;
    }
    return node_options_refuse(to->options, to->path, -EINVAL, to->err,
                               "empty, null or a fraction in the JSON; give a string, a "
                               "whole number, true or false");
}

int node_options_parse_json(struct node_options *options, const char *text, struct error *err)
{
    size_t length = strlen(text);
    if (length > NODE_OPTIONS_TEXT_MAX)
        return error_set(err, -EINVAL, "the JSON is %zu bytes long; %d are allowed", length,
                         NODE_OPTIONS_TEXT_MAX);
    struct depth_walk walk;
    if (is_too_deep(text, &walk))
        return refuse_depth(options, &walk, err);
    json_error_t why;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        return refuse_text(&why, err);
    struct flattening to = {.options = options, .err = err};
    int rc = json_is_object(root)
                 ? flatten_object(&to, root)
                 : error_set(err, -EINVAL, "the JSON is no object; begin it with '{'");
    json_decref(root);
    return rc;
}
