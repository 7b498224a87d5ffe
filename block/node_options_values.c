/* SPDX-License-Identifier: BSD-3-Clause */
/* Options as kinds of values. A wrong one is refused by its whole path, with what it may be. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/node_options.h"
#include "common/checked.h"

int node_options_take_string(struct node_options *options, const char *path, const char **ret_value,
                             struct error *err)
{
    const char *value = node_options_take(options, path);
    if (!value && node_options_has_below(options, path))
        return node_options_refuse(options, path, -EINVAL, err,
                                   "must be a string, not an object or a list");
    if (!value)
        return 0;
    switch (node_options_kind(options, path)) {
    case NODE_OPTION_TEXT:
        *ret_value = value;
        return 0;
    case NODE_OPTION_NUMBER:
        return node_options_refuse(options, path, -EINVAL, err,
                                   "must be a string, not the number %.100s", value);
    case NODE_OPTION_TRUTH:
        break;
    }
    return node_options_refuse(options, path, -EINVAL, err, "must be a string, not true or false");
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
    return node_options_refuse(options, path, -EINVAL, err, "cannot be '%.100s'; say on or off",
                               value);
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
    return node_options_refuse(options, path, -EINVAL, err,
                               "cannot be '%.100s'; say a number of bytes "
                               "below 2^64, as 4096, 64K, 10M, 1G or 2T",
                               value);
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
        return node_options_refuse(options, path, -EINVAL, err,
                                   "cannot be '%.100s'; say a number, in digits alone, below 2^64",
                                   value);
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
        return node_options_refuse(options, path, -EINVAL, err,
                                   "cannot be '%.100s'; say a time, as 2 (seconds), 300ms or 40us",
                                   value);
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
    return node_options_refuse(options, path, -EINVAL, err, "cannot be '%.100s'; say %s", value,
                               choices);
}
