/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_POLLER_MEMORY_H
#define BLOCK_POLLER_MEMORY_H

/*
 * Memory for libev, which ends the process when it gets none. Its arrays grow with the descriptors
 * that are watched, so a client that comes when memory is short would take the server down. Here is
 * address space for all they can grow to, taken when a poller opens, where a refusal is an error
 * like any other; a page of it costs memory when it is first touched.
 *
 * libev has one allocator a process, so this is one a process, behind a mutex: it is asked when an
 * array doubles, and not otherwise. (Growing the arrays beforehand was the other way: libev clears
 * what it grows, so a limit of a million descriptors would cost 16 MiB a loop, used or not.)
 */

#include "common/error.h"

/* Space for one more poller, that watches as many descriptors as the process may have. -ENOMEM. */
int poller_memory_join(struct error *err);
/* When a poller has given back all it had. The last one takes the space with it. */
void poller_memory_leave(void);

/* As realloc(), and free() when size is 0; NULL when the space is used up and the system has no
 * more. Aligned for any object. What ev_set_allocator() wants. */
void *poller_memory_realloc(void *memory, long size);

#endif
