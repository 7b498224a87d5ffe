/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROTOCOL_NAMES_H
#define PROTOCOL_NAMES_H

/*
 * Words for logs and error texts. The name functions return the specification's own word, or
 * "unknown", static.
 */

#include <stddef.h>
#include <stdint.h>

const char *nbd_option_name(uint32_t option);
const char *nbd_command_name(uint16_t command);
const char *nbd_error_name(uint32_t error);

/* Enough for NBD_QUOTE_BYTES of anything, the quotes, three dots and the NUL. */
#define NBD_QUOTE_BYTES 48
#define NBD_QUOTE_SIZE (4 * NBD_QUOTE_BYTES + 6)

/*
 * Puts bytes that a client chose into quotes, safe to show on a terminal and to put in a log line:
 * what is not printable ASCII, and the quote and backslash, become \xNN, and what is longer than
 * NBD_QUOTE_BYTES is cut and says so by "...". Fills to[NBD_QUOTE_SIZE], ends it, and returns it.
 */
const char *nbd_quote(char *to, const void *bytes, size_t length);

#endif
