/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/json_writer.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

void json_init(struct json_writer *json, FILE *to)
{
    *json = (struct json_writer){.to = to};
}

void json_fini(struct json_writer *json)
{
    assert(json->depth == 0);
    fputc('\n', json->to);
}

/* How many bytes the character at text has; 0: it is none of UTF-8. */
static unsigned utf8_length(const unsigned char *text)
{
    unsigned length = text[0] < 0x80   ? 1
                      : text[0] < 0xc2 ? 0
                      : text[0] < 0xe0 ? 2
                      : text[0] < 0xf0 ? 3
                      : text[0] < 0xf5 ? 4
                                       : 0;
    for (unsigned i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    }
    /* Overlong forms, surrogates, and what lies past the last plane. */
    if (length == 3 && ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f)))
        return 0;
    if (length == 4 && ((text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f)))
        return 0;
    return length;
}

static void put_quoted(FILE *to, const char *value)
{
    const unsigned char *text = (const unsigned char *)value;
    fputc('"', to);
    while (*text) {
        unsigned length = utf8_length(text);
        if (length == 0)
            fputs("\\ufffd", to);
        else if (*text == '"' || *text == '\\')
            fprintf(to, "\\%c", *text);
        else if (*text < 0x20)
            fprintf(to, "\\u%04x", *text);
        else
            fwrite(text, 1, length, to);
        text += length > 0 ? length : 1;
    }
    fputc('"', to);
}

static void new_line(struct json_writer *json)
{
    fprintf(json->to, "\n%*s", (int)(2 * json->depth), "");
}

static void begin_value(struct json_writer *json, const char *key)
{
    if (json->has_before)
        fputc(',', json->to);
    if (json->depth > 0)
        new_line(json);
    json->has_before = true;
    if (key) {
        put_quoted(json->to, key);
        fputs(": ", json->to);
    }
}

static void begin_level(struct json_writer *json, const char *key, char bracket)
{
    begin_value(json, key);
    fputc(bracket, json->to);
    json->depth++;
    json->has_before = false;
}

static void end_level(struct json_writer *json, char bracket)
{
    assert(json->depth > 0);
    json->depth--;
    if (json->has_before)
        new_line(json);
    fputc(bracket, json->to);
    json->has_before = true;
}

void json_begin_object(struct json_writer *json, const char *key)
{
    begin_level(json, key, '{');
}

void json_end_object(struct json_writer *json)
{
    end_level(json, '}');
}

void json_begin_array(struct json_writer *json, const char *key)
{
    begin_level(json, key, '[');
}

void json_end_array(struct json_writer *json)
{
    end_level(json, ']');
}

void json_number(struct json_writer *json, const char *key, uint64_t value)
{
    begin_value(json, key);
    fprintf(json->to, "%" PRIu64, value);
}

void json_string(struct json_writer *json, const char *key, const char *value)
{
    begin_value(json, key);
    put_quoted(json->to, value);
}

void json_bool(struct json_writer *json, const char *key, bool value)
{
    begin_value(json, key);
    fputs(value ? "true" : "false", json->to);
}

void json_null(struct json_writer *json, const char *key)
{
    begin_value(json, key);
    fputs("null", json->to);
}
