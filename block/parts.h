/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_PARTS_H
#define BLOCK_PARTS_H

/*
 * One request in several parts that are carried out side by side, some at a time, a coroutine each:
 * for a driver whose request falls apart into pieces that lie here and there.
 *
 * A part is a struct of the caller's, copied when it is started, and a function that carries it
 * out. All of it happens on the loop of the request, so there is nothing to lock.
 */

#include <stdbool.h>
#include <stddef.h>

#define PARTS_AT_ONCE 8

struct parts;

/* Carries out one part; may wait. 0 or a negative errno. */
typedef int parts_run(void *part);

/* part_bytes: of the caller's struct. NULL: no memory. */
struct parts *parts_new(size_t part_bytes, parts_run *co_run);
/* Begins another one; waits while PARTS_AT_ONCE are under way. */
void parts_co_start(struct parts *parts, const void *part);
/* Whether one has failed, so that the rest is in vain. */
bool parts_failed(const struct parts *parts);
/* Waits for all of them and frees it. Returns what the first one that failed did. */
int parts_co_end(struct parts *parts);

#endif
