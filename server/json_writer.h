/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_JSON_WRITER_H
#define SERVER_JSON_WRITER_H

/*
 * JSON to a stream, a value at a time, indented for people. The stream remembers its errors. A byte
 * that is no part of UTF-8 becomes U+FFFD: a file's name may have one, JSON may not.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json_writer {
    FILE *to;
    unsigned depth;
    bool has_before; /* a value on this level: a comma is due */
};

void json_init(struct json_writer *json, FILE *to);
/* Closes nothing: every begin has had its end. Ends the line. */
void json_fini(struct json_writer *json);

/* key: NULL in an array, and for the outermost. */
void json_begin_object(struct json_writer *json, const char *key);
void json_end_object(struct json_writer *json);
void json_begin_array(struct json_writer *json, const char *key);
void json_end_array(struct json_writer *json);
void json_number(struct json_writer *json, const char *key, uint64_t value);
void json_string(struct json_writer *json, const char *key, const char *value);
void json_bool(struct json_writer *json, const char *key, bool value);
void json_null(struct json_writer *json, const char *key);

#endif
