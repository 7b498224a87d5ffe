/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_STATS_H
#define SERVER_STATS_H

/*
 * What an export has done, as JSON and as text; docs/platter.1, STATISTICS, names the fields. On
 * loop 0, or when no loop turns.
 */

#include <stdint.h>
#include <stdio.h>

struct export;

/* now_ns, started_ns: by the loops' clock. why: "signal" or "exit". */
void stats_write_json(FILE *to, struct export *export, uint64_t now_ns, uint64_t started_ns,
                      const char *why);
void stats_write_text(FILE *to, struct export *export, uint64_t now_ns, uint64_t started_ns);

#endif
