/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_REOPEN_H
#define BLOCK_REOPEN_H

/*
 * Changes of a graph while it is in use: what it may do (read-only or not), how its files are
 * opened, how large they are. Requests wait meanwhile; a change that cannot be made leaves
 * everything as it was.
 */

#include "block/block.h"

/*
 * Changes what the options name, in the words and at the paths of the opening: "read-only=on",
 * "cache.direct=on", "file.discard=unmap". What they do not name stays as it is. "read-only" is
 * true of the node, of the nodes below it that do not say otherwise (but for a backing file and
 * what is below that), and, for the top node, of the backend. cache.direct, cache.no-flush, discard
 * and aio are passed down as at the opening.
 *
 * The backend is drained and flushed, then every node of the graph prepares the change, the top one
 * first; when all could, all carry it out, the lowest first, which cannot fail; when one could not,
 * all go on as they were. Other backends on the same nodes must be drained by the caller.
 *
 * Takes the options in any case and frees them. -ENOTSUP: a driver cannot change this. May wait;
 * not from inside a request to the backend.
 */
int block_co_reopen(struct block_backend *backend, struct node_options *options, struct error *err);

/* Looks whether another program has made the image's file longer, and if so, so is the image: then
 * block_backend_size_bytes() tells. One that has become shorter keeps its size. Requests go on
 * meanwhile, but for the moment in which the size changes. A negative errno where the host does not
 * answer; the size is as it was. May wait. */
int block_co_refresh_size(struct block_backend *backend);

#endif
