/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_FAULT_H
#define BLOCK_FAULT_H

/*
 * Breakpoints in the filter "fault", for tests: whoever passes a named point is held up there until
 * it is told to go on, so that another request can be brought between its steps. `node` is the
 * filter, or any node above it. From any thread; nothing here waits.
 */

#include <stdbool.h>

struct block_node;

/* The next coroutine that announces this event waits. Once: suspend again for another.
 * -ENOENT: no filter "fault" is there; -EINVAL: no driver announces such an event; -ENOMEM. */
int fault_suspend(struct block_node *node, const char *event, const char *tag);
/* Whether somebody waits there. */
bool fault_is_suspended(struct block_node *node, const char *tag);
/* Lets all go on that wait with this tag. -ENOENT: nobody does. */
int fault_resume(struct block_node *node, const char *tag);

#endif
