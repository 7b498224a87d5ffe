/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_ACTIVITY_H
#define BLOCK_ACTIVITY_H

/*
 * An image that goes from one server to another and back, as when the machine that uses it moves:
 * both have the graph open, and one of them at a time is *active*. An inactive graph has nothing in
 * memory that the file has not, writes nothing, and has no locks; requests to it fail with -EPERM.
 *
 * Other backends on the same nodes must be drained by the caller. May wait; not from inside a
 * request to the backend.
 */

#include "block/block.h"

/* What was written is durable, caches are written, dirty bits cleared; then the locks go. Where
 * that fails, the graph stays active. Twice is as good as once. */
int block_co_inactivate(struct block_backend *backend, struct error *err);

/* Takes the locks again, and believes nothing that was known of the files: another host may have
 * written to them. An active graph is made inactive first. Where it fails (somebody else has the
 * image, or it is another image now) the graph is inactive afterwards. Sizes are what the files say
 * then; a connection keeps the one it was told. */
int block_co_invalidate(struct block_backend *backend, struct error *err);

#endif
