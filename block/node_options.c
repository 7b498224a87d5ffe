/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/node_options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/list.h"

#define OPTION_PARTS_MAX 64

/* The tree is kept as its leaves: a list of full paths in the order they were given. A subtree is
 * the leaves that begin with "key.", so nothing has to be walked and no depth can hurt. */
struct option {
    struct list_link link;
    char *path;
    char *said; /* the whole path as the person gave it, for messages */
    char *value;
    enum node_option_kind kind;
    bool taken;
};

struct node_options {
    struct list options;
    char *prefix; /* where this subtree was in the person's own tree, for messages */
};

/* An empty tree whose paths a person knows with the three texts before them. */
static struct node_options *subtree_new(const char *prefix, const char *key, const char *dot)
{
    struct node_options *options = malloc(sizeof(*options));
    if (!options)
        return NULL;
    list_init(&options->options);
    if (asprintf(&options->prefix, "%s%s%s", prefix, key, dot) < 0) {
        free(options);
        return NULL;
    }
    return options;
}

struct node_options *node_options_new(void)
{
    return subtree_new("", "", "");
}

static void option_free(struct option *option)
{
    list_remove(&option->link);
    free(option->path);
    free(option->said);
    free(option->value);
    free(option);
}

void node_options_free(struct node_options *options)
{
    if (!options)
        return;
    list_for_each (link, &options->options)
        option_free(container_of(link, struct option, link));
    free(options->prefix);
    free(options);
}

static struct option *find(const struct node_options *options, const char *path)
{
    list_for_each (link, &options->options) {
        struct option *option = container_of(link, struct option, link);
        /* Most differ in the first letter, and there are a hundred questions to open an image. */
        if (option->path[0] == path[0] && strcmp(option->path, path) == 0)
            return option;
    }
    return NULL;
}

/* --- setting -----------------------------------------------------------------------------------
 */

static int check_path(const char *path, struct error *err)
{
    unsigned parts = 0;
    const char *part = path;
    for (;;) {
        size_t length = strcspn(part, ".");
        if (length == 0)
            return error_set(err, -EINVAL,
                             "the option name '%.100s' has an empty part; "
                             "parts are names with one dot between them",
                             path);
        if (++parts > OPTION_PARTS_MAX)
            return error_set(err, -EINVAL,
                             "%.300s...: more than %d parts; describe fewer nodes below each "
                             "other",
                             path, OPTION_PARTS_MAX);
        if (part[length] == '\0')
            break;
        part += length + 1;
    }
    if (strlen(path) > NODE_OPTIONS_PATH_MAX)
        return error_set(err, -EINVAL, "the option name '%.100s...' is longer than %d bytes", path,
                         NODE_OPTIONS_PATH_MAX);
    return 0;
}

/* said NULL: the person says it as we do, with the prefix before it. */
static int append(struct node_options *options, const char *path, const char *said,
                  const char *value, enum node_option_kind kind)
{
    struct option *option = calloc(1, sizeof(*option));
    if (!option)
        return -ENOMEM;
    link_init(&option->link);
    option->kind = kind;
    option->path = strdup(path);
    option->value = strdup(value);
    if (asprintf(&option->said, "%s%s", said ? "" : options->prefix, said ? said : path) < 0)
        option->said = NULL;
    if (!option->path || !option->value || !option->said) {
        option_free(option);
        return -ENOMEM;
    }
    list_append(&options->options, &option->link);
    return 0;
}

static int set(struct node_options *options, const char *path, const char *said, const char *value,
               enum node_option_kind kind, struct error *err)
{
    int rc = check_path(path, err);
    if (rc < 0)
        return rc;
    struct option *old = find(options, path);
    rc = append(options, path, said, value, kind);
    if (rc < 0)
        return error_set(err, rc, "no memory for the option '%.100s'", path);
    if (old)
        option_free(old);
    return 0;
}

int node_options_set(struct node_options *options, const char *path, const char *value,
                     struct error *err)
{
    return set(options, path, NULL, value, NODE_OPTION_TEXT, err);
}

int node_options_set_kind(struct node_options *options, const char *path, const char *value,
                          enum node_option_kind kind, struct error *err)
{
    return set(options, path, NULL, value, kind, err);
}

int node_options_inherit(struct node_options *options, const struct node_options *from,
                         const char *path, struct error *err)
{
    const struct option *option = find(from, path);
    if (!option || find(options, path))
        return 0;
    return set(options, path, option->said, option->value, option->kind, err);
}

static bool ends_with(const char *path, const char *name)
{
    size_t length = strlen(path), name_length = strlen(name);
    if (length < name_length || strcmp(path + length - name_length, name) != 0)
        return false;
    return length == name_length || path[length - name_length - 1] == '.';
}

int node_options_replace(struct node_options *options, const char *name,
                         char *(*make)(void *arg, const char *value), void *arg)
{
    list_for_each (link, &options->options) {
        struct option *option = container_of(link, struct option, link);
        if (!ends_with(option->path, name))
            continue;
        char *value = make(arg, option->value);
        if (!value)
            return -ENOMEM;
        free(option->value);
        option->value = value;
    }
    return 0;
}

/* --- looking and taking ------------------------------------------------------------------------
 */

bool node_options_has(const struct node_options *options, const char *path)
{
    return find(options, path) != NULL;
}

const char *node_options_get(const struct node_options *options, const char *path)
{
    const struct option *option = find(options, path);
    return option ? option->value : NULL;
}

const char *node_options_take(struct node_options *options, const char *path)
{
    struct option *option = find(options, path);
    if (!option)
        return NULL;
    option->taken = true;
    return option->value;
}

enum node_option_kind node_options_kind(const struct node_options *options, const char *path)
{
    const struct option *option = find(options, path);
    return option ? option->kind : NODE_OPTION_TEXT;
}

/* --- messages ----------------------------------------------------------------------------------
 */

/* A path is shown whole up to this length: the deepest chain of nodes that is allowed. */
#define SHOWN_PATH_MAX 340

void node_options_whole_path(const struct node_options *options, const char *path, char *text,
                             size_t size)
{
    const struct option *option = find(options, path);
    if (option)
        snprintf(text, size, "%s", option->said);
    else
        snprintf(text, size, "%s%s", options->prefix, path);
    size_t length = strlen(text);
    if (length > 0 && text[length - 1] == '.')
        text[length - 1] = '\0'; /* the node itself, and not one of its keys */
}

static void put_on_one_line(char *text)
{
    for (char *at = text; *at; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = '?';
    }
}

int node_options_refuse(const struct node_options *options, const char *path, int code,
                        struct error *err, const char *format, ...)
{
    char whole[NODE_OPTIONS_WHOLE_PATH_MAX];
    char said[ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(said, sizeof(said), format, args);
    va_end(args);
    node_options_whole_path(options, path, whole, sizeof(whole));
    put_on_one_line(whole);
    put_on_one_line(said);
    size_t length = strlen(whole);
    if (length == 0)
        return error_set(err, code, "%s", said);
    if (length <= SHOWN_PATH_MAX)
        return error_set(err, code, "%s: %s", whole, said);
    return error_set(err, code, "%.*s...%s: %s", SHOWN_PATH_MAX / 2, whole,
                     whole + length - SHOWN_PATH_MAX / 2, said);
}

const char *node_options_prefix(const struct node_options *options)
{
    return options->prefix;
}

/* --- subtrees ----------------------------------------------------------------------------------
 */

/* What follows "key." in path; NULL when it does not begin so. */
static char *below(char *path, const char *key)
{
    size_t length = strlen(key);
    return strncmp(path, key, length) == 0 && path[length] == '.' ? path + length + 1 : NULL;
}

bool node_options_has_below(const struct node_options *options, const char *key)
{
    list_for_each (link, &options->options) {
        const struct option *option = container_of(link, struct option, link);
        if (below(option->path, key))
            return true;
    }
    return false;
}

bool node_options_is_empty(const struct node_options *options)
{
    return list_is_empty(&options->options);
}

struct node_options *node_options_take_subtree(struct node_options *options, const char *key)
{
    struct node_options *subtree = subtree_new(options->prefix, key, ".");
    if (!subtree)
        return NULL;
    list_for_each (link, &options->options) {
        struct option *option = container_of(link, struct option, link);
        char *rest = below(option->path, key);
        if (!rest)
            continue;
        memmove(option->path, rest, strlen(rest) + 1);
        list_remove(&option->link);
        list_append(&subtree->options, &option->link);
    }
    return subtree;
}

struct node_options *node_options_copy_subtree(const struct node_options *options, const char *key)
{
    struct node_options *subtree = subtree_new(options->prefix, key, ".");
    if (!subtree)
        return NULL;
    list_for_each (link, &options->options) {
        const struct option *option = container_of(link, struct option, link);
        const char *rest = below(option->path, key);
        if (rest && append(subtree, rest, option->said, option->value, option->kind) < 0) {
            node_options_free(subtree);
            return NULL;
        }
    }
    return subtree;
}

int node_options_move_below(struct node_options *options, const char *key, struct error *err)
{
    list_for_each (link, &options->options) {
        struct option *option = container_of(link, struct option, link);
        char *path;
        if (asprintf(&path, "%s.%s", key, option->path) < 0)
            return error_set(err, -ENOMEM, "no memory for the option '%.100s'", option->path);
        free(option->path);
        option->path = path;
        int rc = check_path(path, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int node_options_move(struct node_options *options, const char *from, const char *to,
                      struct error *err)
{
    struct option *option = find(options, from);
    int rc = check_path(to, err);
    if (!option || find(options, to) || rc < 0)
        return rc;
    char *path = strdup(to);
    if (!path)
        return error_set(err, -ENOMEM, "no memory for the option '%.100s'", to);
    free(option->path);
    option->path = path;
    return 0;
}

int node_options_check_all_taken(const struct node_options *options, const char *owner,
                                 struct error *err)
{
    list_for_each (link, &options->options) {
        const struct option *option = container_of(link, struct option, link);
        if (!option->taken)
            return node_options_refuse(options, option->path, -EINVAL, err,
                                       "%s knows no such option (given as '%.100s')", owner,
                                       option->value);
    }
    return 0;
}
