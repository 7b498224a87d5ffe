/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_EXPORT_CONTEXTS_H
#define SERVER_EXPORT_CONTEXTS_H

/*
 * The metadata contexts of an export, in the order of its list (protocol/metacontext.h), with
 * qemu's names: what a BLOCK_STATUS can be asked about.
 */

#include <stdbool.h>

#include "common/error.h"
#include "protocol/metacontext.h"

struct block_backend;
struct dirty_bitmap;

/* Besides base:allocation, and with the depth, so many bitmaps have a place in the list. */
#define EXPORT_BITMAPS_MAX (METACONTEXTS_MAX - 2)

enum export_context_kind {
    EXPORT_CONTEXT_ALLOCATION, /* base:allocation */
    EXPORT_CONTEXT_DEPTH,      /* qemu:allocation-depth */
    EXPORT_CONTEXT_BITMAP,     /* qemu:dirty-bitmap:NAME */
};

struct export_context {
    enum export_context_kind kind;
    const struct dirty_bitmap *bitmap; /* of the image's; NULL for the other kinds */
};

struct export_contexts {
    unsigned count;
    struct export_context all[METACONTEXTS_MAX];
    const char *names[METACONTEXTS_MAX + 1]; /* NULL-ended */
};

/* Looks the bitmaps up (a name that is given twice counts once); they are good as long as the
 * backend's node is. May wait. -ENOENT, -EINVAL and others, with a sentence; leaves nothing behind
 * then. */
int export_contexts_co_init(struct export_contexts *contexts, struct block_backend *backend,
                            bool has_depth, const char *const *bitmaps, unsigned bitmap_count,
                            struct error *err);
void export_contexts_fini(struct export_contexts *contexts);

#endif
