/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_PAYLOAD_PIPE_H
#define SERVER_PAYLOAD_PIPE_H

/*
 * Pipes through which a WRITE's payload goes from a socket to a file, by splice(2): the pipe holds
 * references to the socket's memory, and the one copy is that into the page cache.
 *
 * They belong to a loop. Who has one gives it back empty, or it is closed with what it holds. There
 * are PAYLOAD_PIPES_MAX of them at most, so descriptors are not used up, and neither is what the
 * kernel lets a user have in pipes (fs.pipe-user-pages-soft: 64 MiB).
 *
 * A pipe is PAYLOAD_PIPE_BYTES large, and takes one page, or a part of one, for 4 KiB of that:
 * about what a UNIX socket has for its reader at a time. One of the usual 64 KiB takes four turns
 * for that, and is slower than to copy; where the kernel refuses a larger one, there is none.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/list.h"

#define PAYLOAD_PIPES_MAX 16
#define PAYLOAD_PIPE_BYTES ((size_t)256 << 10)
#define PAYLOAD_PIPES_SPARE_MAX 2 /* kept open for the next time */

struct payload_pipe {
    struct list_link link; /* on pool->spare */
    int read_fd, write_fd;
    size_t held; /* bytes in it: counted up by who puts some in */
};

struct payload_pipes {
    struct list spare;
    unsigned spare_count, open_count;
};

void payload_pipes_init(struct payload_pipes *pool);
/* All were given back. */
void payload_pipes_fini(struct payload_pipes *pool);

/* An empty one; NULL when there are enough of them, or no descriptors or memory. */
struct payload_pipe *payload_pipe_get(struct payload_pipes *pool);
void payload_pipe_put(struct payload_pipes *pool, struct payload_pipe *pipe);

/* Moves at most `length` bytes, of those held, to this place of a file; may take as long as a write
 * does. Returns a count, or a negative errno. */
ssize_t payload_pipe_to_file(struct payload_pipe *pipe, int fd, uint64_t offset, size_t length);
/* Copies all that is held. 0, or a negative errno. */
int payload_pipe_read(struct payload_pipe *pipe, void *to);

#endif
