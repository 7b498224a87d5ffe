/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The two ways to write a node's options. Input: a byte that chooses (even: key=value,..., odd:
 * JSON), then the text up to the first 0. Properties: a refusal says something and fits; what
 * was taken is found again, and in the copy of a subtree as in the tree; key=value text that is
 * made anew from a tree of one option gives the same option.
 */
#include "tests/fuzz/fuzz.h"

#include "block/node_options.h"

#include <string.h>

static void check_sentence(const struct error *err)
{
    FUZZ_CHECK(err->message[0] != '\0');
    FUZZ_CHECK(strlen(err->message) < sizeof(err->message));
}

/* The value, with each comma twice, behind "key=". */
static char *as_text(const char *key, const char *value)
{
    char *text = malloc(strlen(key) + 2 * strlen(value) + 2), *to = text;
    to += sprintf(to, "%s=", key);
    for (; *value; value++) {
        if (*value == ',')
            *to++ = ',';
        *to++ = *value;
    }
    *to = '\0';
    return text;
}

static void check_round_trip(const char *key, const char *value)
{
    struct node_options *again = node_options_new();
    char *text = as_text(key, value);
    struct error err;
    if (strlen(text) <= NODE_OPTIONS_TEXT_MAX) {
        FUZZ_CHECK(node_options_parse(again, text, &err) == 0);
        const char *got = node_options_get(again, key);
        FUZZ_CHECK(got && strcmp(got, value) == 0);
    }
    free(text);
    node_options_free(again);
}

static void check_tree(struct node_options *options)
{
    static const char *const keys[] = {"driver", "file.filename", "file.driver", "file.0", "a"};
    struct node_options *file = node_options_copy_subtree(options, "file");
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
        const char *value = node_options_get(options, keys[i]);
        FUZZ_CHECK(!value == !node_options_has(options, keys[i]));
        if (value)
            check_round_trip(keys[i], value);
        if (strncmp(keys[i], "file.", 5) == 0) {
            const char *copy = node_options_get(file, keys[i] + 5);
            FUZZ_CHECK(!copy == !value && (!copy || strcmp(copy, value) == 0));
        }
    }
    node_options_free(file);
    struct error err;
    if (node_options_move_below(options, "file", &err) < 0)
        check_sentence(&err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    char *text = malloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    struct node_options *options = node_options_new();
    struct error err = {.message = ""};
    int rc = data[0] % 2 ? node_options_parse_json(options, text, &err)
                         : node_options_parse(options, text, &err);
    if (rc < 0)
        check_sentence(&err);
    else
        check_tree(options);
    node_options_free(options);
    free(text);
    return 0;
}
