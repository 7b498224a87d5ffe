/* SPDX-License-Identifier: BSD-3-Clause */
/* Options as a person writes them on a command line: key=value,key=value. */
#include "block/node_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Copies [from, from + length) to *at as a string of its own, and moves *at behind it. */
static char *cut(char **at, const char *from, size_t length)
{
    char *text = *at;
    memcpy(text, from, length);
    text[length] = '\0';
    *at += length + 1;
    return text;
}

/* Copies the value at *from to `to`, each ",," as one comma, and moves *from behind the comma that
 * ends it, or to the end. */
static void cut_value(const char **from, char *to)
{
    const char *at = *from;
    while (*at && (*at != ',' || at[1] == ',')) {
        if (*at == ',')
            at++;
        *to++ = *at++;
    }
    *to = '\0';
    *from = *at ? at + 1 : at;
}

int node_options_parse(struct node_options *options, const char *text, struct error *err)
{
    size_t length = strlen(text);
    if (length > NODE_OPTIONS_TEXT_MAX)
        return error_set(err, -EINVAL, "the options are %zu bytes long; %d are allowed", length,
                         NODE_OPTIONS_TEXT_MAX);
    /* A key and its value are never longer together than where they came from. */
    char *words = malloc(length + 2);
    if (!words)
        return error_set(err, -ENOMEM, "no memory for the options");
    int rc = 0;
    unsigned count = 0;
    for (const char *at = text; *at && rc == 0; count++) {
        size_t key_length = strcspn(at, "=,");
        char *end = words;
        const char *key = cut(&end, at, key_length);
        at += key_length;
        if (count == NODE_OPTIONS_COUNT_MAX)
            rc = error_set(err, -EINVAL, "there are more than %d options", NODE_OPTIONS_COUNT_MAX);
        else if (*at != '=')
            rc = error_set(err, -EINVAL, "'%.100s' among the options has no '='; write key=value",
                           key);
        if (rc == 0) {
            at++;
            cut_value(&at, end);
            rc = node_options_set(options, key, end, err);
        }
    }
    free(words);
    return rc;
}
