/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/node_options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "common/list.h"

#define OPTION_PARTS_MAX 64

/* The tree is kept as its leaves: a list of full paths in the order they were given. A subtree is
 * the leaves that begin with "key.", so nothing has to be walked and no depth can hurt. */
struct option {
    struct list_link link;
    char *path;
    char *value;
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
        if (strcmp(option->path, path) == 0)
            return option;
    }
    return NULL;
}

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
            return error_set(err, -EINVAL, "the option name '%.100s...' has more than %d parts",
                             path, OPTION_PARTS_MAX);
        if (part[length] == '\0')
            return 0;
        part += length + 1;
    }
}

static int append(struct node_options *options, const char *path, const char *value)
{
    struct option *option = calloc(1, sizeof(*option));
    if (!option)
        return -ENOMEM;
    link_init(&option->link);
    option->path = strdup(path);
    option->value = strdup(value);
    if (!option->path || !option->value) {
        option_free(option);
        return -ENOMEM;
    }
    list_append(&options->options, &option->link);
    return 0;
}

int node_options_set(struct node_options *options, const char *path, const char *value,
                     struct error *err)
{
    int rc = check_path(path, err);
    if (rc < 0)
        return rc;
    struct option *old = find(options, path);
    rc = append(options, path, value);
    if (rc < 0)
        return error_set(err, rc, "no memory for the option '%.100s'", path);
    if (old)
        option_free(old);
    return 0;
}

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

int node_options_take_bool(struct node_options *options, const char *path, bool *ret_value,
                           struct error *err)
{
    /* False and true by turns, so that the index tells which it is. */
    static const char *const spellings[] = {"off", "on", "false", "true", "no", "yes", NULL};
    const char *value = node_options_take(options, path);
    if (!value)
        return 0;
    for (unsigned i = 0; spellings[i]; i++) {
        if (strcmp(value, spellings[i]) == 0) {
            *ret_value = i % 2;
            return 0;
        }
    }
    return error_set(err, -EINVAL, "the option '%s%s' cannot be '%.100s'; say on or off",
                     options->prefix, path, value);
}

/* How often 1024 is in the suffix; -1: no suffix that is known. */
static int suffix_power(const char *suffix)
{
    static const char letters[] = "KMGTPE";
    if (suffix[0] == '\0')
        return 0;
    char upper = suffix[0] >= 'a' && suffix[0] <= 'z' ? (char)(suffix[0] - 'a' + 'A') : suffix[0];
    const char *found = strchr(letters, upper);
    return suffix[1] == '\0' && found ? (int)(found - letters) + 1 : -1;
}

/* NULL: no digits, or too many; else what follows them. */
static const char *parse_digits(const char *text, uint64_t *ret_number)
{
    const char *at = text;
    uint64_t number = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (!checked_multiply(number, 10, &number) ||
            !checked_add(number, (uint64_t)(*at - '0'), &number))
            return NULL;
    }
    if (at == text)
        return NULL;
    *ret_number = number;
    return at;
}

static bool parse_size(const char *text, uint64_t *ret_bytes)
{
    uint64_t bytes;
    const char *suffix = parse_digits(text, &bytes);
    int power = suffix ? suffix_power(suffix) : -1;
    if (power < 0 || !checked_multiply(bytes, UINT64_C(1) << (10 * (unsigned)power), &bytes))
        return false;
    *ret_bytes = bytes;
    return true;
}

int node_options_take_size(struct node_options *options, const char *path, uint64_t *ret_bytes,
                           struct error *err)
{
    const char *value = node_options_take(options, path);
    if (!value || parse_size(value, ret_bytes))
        return 0;
    return error_set(err, -EINVAL,
                     "the option '%s%s' cannot be '%.100s'; say a number of bytes "
                     "below 2^64, as 4096, 64K, 10M, 1G or 2T",
                     options->prefix, path, value);
}

int node_options_take_number(struct node_options *options, const char *path, uint64_t *ret_number,
                             struct error *err)
{
    const char *value = node_options_take(options, path);
    uint64_t number;
    if (!value)
        return 0;
    const char *rest = parse_digits(value, &number);
    if (!rest || *rest)
        return error_set(err, -EINVAL,
                         "the option '%s%s' cannot be '%.100s'; say a number, in digits alone, "
                         "below 2^64",
                         options->prefix, path, value);
    *ret_number = number;
    return 0;
}

static bool parse_duration(const char *text, uint64_t *ret_ns)
{
    static const struct {
        const char *suffix;
        uint64_t ns;
    } units[] = {{"", 1000000000}, {"s", 1000000000}, {"ms", 1000000}, {"us", 1000}};
    uint64_t number;
    const char *suffix = parse_digits(text, &number);
    for (unsigned i = 0; suffix && i < sizeof(units) / sizeof(*units); i++) {
        if (strcmp(suffix, units[i].suffix) == 0)
            return checked_multiply(number, units[i].ns, ret_ns);
    }
    return false;
}

int node_options_take_duration(struct node_options *options, const char *path, uint64_t *ret_ns,
                               struct error *err)
{
    const char *value = node_options_take(options, path);
    uint64_t ns;
    if (!value)
        return 0;
    if (!parse_duration(value, &ns))
        return error_set(err, -EINVAL,
                         "the option '%s%s' cannot be '%.100s'; say a time, as 2 (seconds), 300ms "
                         "or 40us",
                         options->prefix, path, value);
    *ret_ns = ns;
    return 0;
}

/* "a, b or c" into text, cut when it does not fit. */
static void join_names(char *text, size_t size, const char *const *names)
{
    size_t used = 0;
    text[0] = '\0';
    for (unsigned i = 0; names[i] && used < size; i++) {
        const char *between = i == 0 ? "" : names[i + 1] ? ", " : " or ";
        int added = snprintf(text + used, size - used, "%s%s", between, names[i]);
        used += added > 0 ? (size_t)added : 0;
    }
}

int node_options_take_choice(struct node_options *options, const char *path,
                             const char *const *names, unsigned *ret_index, struct error *err)
{
    const char *value = node_options_take(options, path);
    if (!value)
        return 0;
    for (unsigned i = 0; names[i]; i++) {
        if (strcmp(value, names[i]) == 0) {
            *ret_index = i;
            return 0;
        }
    }
    char choices[256];
    join_names(choices, sizeof(choices), names);
    return error_set(err, -EINVAL, "the option '%s%s' cannot be '%.100s'; say %s", options->prefix,
                     path, value, choices);
}

const char *node_options_prefix(const struct node_options *options)
{
    return options->prefix;
}

/* What follows "key." in path; NULL when it does not begin so. */
static char *below(char *path, const char *key)
{
    size_t length = strlen(key);
    return strncmp(path, key, length) == 0 && path[length] == '.' ? path + length + 1 : NULL;
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
        if (rest && append(subtree, rest, option->value) < 0) {
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

int node_options_check_all_taken(const struct node_options *options, const char *owner,
                                 struct error *err)
{
    list_for_each (link, &options->options) {
        const struct option *option = container_of(link, struct option, link);
        if (!option->taken)
            return error_set(err, -EINVAL, "%s knows no option '%s%.100s' (given as '%.100s')",
                             owner, options->prefix, option->path, option->value);
    }
    return 0;
}
