/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/fault_config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/driver.h"
#include "block/node.h"
#include "block/node_options.h"

/* The kinds of sections, and how many of each have begun. */
static const char *const sections[] = {"inject-error", "set-state"};
#define SECTION_KINDS (sizeof(sections) / sizeof(*sections))

struct parser {
    struct node_options *rules;
    unsigned line;
    unsigned counts[SECTION_KINDS];
    const char *section; /* NULL before the first */
    unsigned number;     /* of it, among its kind */
};

static char *trim(char *text)
{
    static const char blanks[] = " \t\r";
    text += strspn(text, blanks);
    size_t length = strlen(text);
    while (length > 0 && strchr(blanks, text[length - 1]))
        length--;
    text[length] = '\0';
    return text;
}

static int begin_section(struct parser *parser, char *text, struct error *err)
{
    size_t length = strlen(text);
    if (length < 2 || text[length - 1] != ']')
        return error_set(err, -EINVAL, "line %u: a section has no ']'", parser->line);
    text[length - 1] = '\0';
    const char *name = trim(text + 1);
    for (unsigned i = 0; i < SECTION_KINDS; i++) {
        if (strcmp(name, sections[i]) == 0) {
            parser->section = sections[i];
            parser->number = parser->counts[i]++;
            return 0;
        }
    }
    return error_set(err, -EINVAL,
                     "line %u: the section '%.50s' is not known; say inject-error or set-state",
                     parser->line, name);
}

/* Without the quotes, if it has them. NULL: only one. */
static char *unquote(char *value)
{
    size_t length = strlen(value);
    if (length == 0 || (value[0] != '"' && value[length - 1] != '"'))
        return value;
    if (length < 2 || value[0] != '"' || value[length - 1] != '"')
        return NULL;
    value[length - 1] = '\0';
    return value + 1;
}

static int take_key(struct parser *parser, char *text, struct error *err)
{
    char path[128];
    char *equals = strchr(text, '=');
    if (!equals)
        return error_set(err, -EINVAL, "line %u: '%.50s' is not [SECTION] or KEY = \"VALUE\"",
                         parser->line, text);
    *equals = '\0';
    const char *key = trim(text);
    const char *value = unquote(trim(equals + 1));
    if (!parser->section)
        return error_set(err, -EINVAL, "line %u: '%.50s' stands before the first section",
                         parser->line, key);
    if (!value || strlen(key) > 60)
        return error_set(err, -EINVAL,
                         "line %u: the value of '%.50s' has one quote only, or the "
                         "key is too long",
                         parser->line, key);
    snprintf(path, sizeof(path), "%s.%u.%s", parser->section, parser->number, key);
    return node_options_set(parser->rules, path, value, err);
}

int fault_config_parse(char *text, struct node_options *rules, struct error *err)
{
    struct parser parser = {.rules = rules};
    int rc = 0;
    for (char *next = text; next && rc == 0;) {
        char *line = next;
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        parser.line++;
        line = trim(line);
        if (*line == '[')
            rc = begin_section(&parser, line, err);
        else if (*line && *line != '#')
            rc = take_key(&parser, line, err);
    }
    return rc;
}

static int co_open_file(struct block_env *env, const char *path, struct block_node **ret_node,
                        struct error *err)
{
    struct node_options *options = node_options_new();
    int rc = options ? node_options_set(options, "driver", "file", err)
                     : error_set(err, -ENOMEM, "no memory to open it");
    if (rc == 0)
        rc = node_options_set(options, "filename", path, err);
    if (rc == 0)
        rc = node_options_set(options, "read-only", "on", err);
    if (rc < 0) {
        node_options_free(options);
        return rc;
    }
    return block_co_open(env, options, ret_node, err);
}

static int co_read_text(struct block_node *node, char *text, size_t length, struct error *err)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, text, length);
    int rc = node_co_read(node, 0, &vec);
    if (rc < 0)
        return error_set(err, rc, "cannot be read: %s", error_text(rc));
    text[length] = '\0';
    if (strlen(text) != length)
        return error_set(err, -EINVAL, "is no text: it has a zero byte");
    return 0;
}

int fault_config_co_read(struct block_env *env, const char *path, struct node_options *rules,
                         struct error *err)
{
    struct block_node *node = NULL;
    int rc = co_open_file(env, path, &node, err);
    if (rc < 0)
        return rc;
    uint64_t size = node_size(node);
    char *text = size <= FAULT_CONFIG_BYTES_MAX ? malloc(size + 1) : NULL;
    if (size > FAULT_CONFIG_BYTES_MAX)
        rc = error_set(err, -EFBIG, "has %llu bytes; the most is %d", (unsigned long long)size,
                       FAULT_CONFIG_BYTES_MAX);
    else if (!text)
        rc = error_set(err, -ENOMEM, "no memory to read it");
    else
        rc = co_read_text(node, text, size, err);
    block_co_node_unref(node);
    if (rc == 0)
        rc = fault_config_parse(text, rules, err);
    free(text);
    return rc;
}
