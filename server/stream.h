/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_STREAM_H
#define SERVER_STREAM_H

/*
 * A two-way stream of bytes to one client: all that a connection knows of sockets. The real one is
 * stream_socket.c; the simulation brings its own, and TLS will be one around another.
 *
 * A stream belongs to the loop it was attached to and is touched by that loop alone. No call waits.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct loop;
struct stream;

#define STREAM_PEER_MAX 96

struct stream_file {
    int fd;
    uint64_t offset;
    size_t length; /* at least 1 */
};

struct stream_ops {
    /* From now on the stream lives on this loop. Once, before anything below but close(). */
    void (*attach)(struct stream *stream, struct loop *loop);
    /* At most iov_count (up to IOV_MAX) buffers. Returns a count; 0: the client sends no more;
     * -EAGAIN: nothing is there now; another negative errno: the stream is broken. */
    ssize_t (*readv)(struct stream *stream, const struct iovec *iov, unsigned iov_count);
    /* Returns a count, at least 1; less than all means that no more fits now; -EAGAIN: nothing
     * fits; another negative errno: the stream is broken. Never raises SIGPIPE. */
    ssize_t (*writev)(struct stream *stream, const struct iovec *iov, unsigned iov_count);
    /* The buffers, then a range of a file, which the stream takes from the descriptor without a
     * copy; it may refer to the file's pages until the client has them. Returns a count of both, at
     * least 1; less than all means that no more fits now, or that the file does not have it;
     * -EAGAIN: nothing fits; -ENODATA: there was no buffer, and the file does not have it; another
     * negative errno: the stream is broken. Never raises SIGPIPE. NULL: it must be copied. */
    ssize_t (*write_file)(struct stream *stream, const struct iovec *iov, unsigned iov_count,
                          const struct stream_file *file);
    /* Which of LOOP_READABLE and LOOP_WRITABLE shall be told by ready(), in every turn while it is
     * so, and LOOP_READABLE now and then in vain; 0 for none. The end of the client's bytes counts
     * as readable, a broken stream as both. */
    void (*want)(struct stream *stream, unsigned events);
    /* The client reads an end after what was written. */
    void (*shut_down)(struct stream *stream);
    /* Ends and frees the stream, attached or not; also called from inside ready(). */
    void (*close)(struct stream *stream);
};

/* The head of every kind of stream. */
struct stream {
    const struct stream_ops *ops;
    void (*ready)(struct stream *stream, unsigned events); /* set by the owner before want() */
    void *owner;
    char peer[STREAM_PEER_MAX]; /* who it is, for the log: "127.0.0.1:4711", "unix client #3" */
};

#endif
