/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_LOOP_BACKLOG_H
#define BLOCK_LOOP_BACKLOG_H

/*
 * A loop's backlog (in block/loop.c): operations that an engine holds and will submit in the next
 * rounds, and writes that wait for a round with room for their copy (block/posix_transfer.c): work
 * that the loop has taken on and not begun. Who would take on more (receive from
 * another client) and finds LOOP_BACKLOG_MAX of them leaves a task that runs when there are less:
 * else hundreds of clients' requests all begin at once, each with a stack and a buffer that are not
 * in the processor's cache when it is their turn. What the disk has is not counted.
 */

#include <stdbool.h>

struct loop;
struct loop_task;

#define LOOP_BACKLOG_MAX 96
void loop_backlog_grew(struct loop *loop);
void loop_backlog_fell(struct loop *loop, unsigned count);
bool loop_is_backlogged(struct loop *loop);
/* Only then. The task runs once, when the backlog has fallen, after those that came before it;
 * loop_task_cancel() as for any. */
void loop_when_backlog_falls(struct loop *loop, struct loop_task *task);

#endif
