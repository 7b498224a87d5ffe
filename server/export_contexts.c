/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/export_contexts.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"

#define BITMAP_PREFIX "qemu:dirty-bitmap:"

/* Takes the name, which was allocated; NULL: there was no memory. */
static int add(struct export_contexts *contexts, char *name, enum export_context_kind kind,
               const struct dirty_bitmap *bitmap, struct error *err)
{
    if (!name)
        return error_set(err, -ENOMEM, "no memory for the export");
    assert(contexts->count < METACONTEXTS_MAX);
    contexts->all[contexts->count] = (struct export_context){.kind = kind, .bitmap = bitmap};
    contexts->names[contexts->count++] = name;
    return 0;
}

static int co_add_bitmap(struct export_contexts *contexts, struct block_backend *backend,
                         const char *name, struct error *err)
{
    const struct dirty_bitmap *bitmap = NULL;
    int code = block_co_find_bitmap(backend, name, &bitmap, err);
    if (code < 0)
        return code;
    for (unsigned i = 0; i < contexts->count; i++) {
        if (contexts->all[i].bitmap == bitmap)
            return 0;
    }
    char *full = malloc(strlen(BITMAP_PREFIX) + strlen(name) + 1);
    if (full)
        sprintf(full, BITMAP_PREFIX "%s", name);
    return add(contexts, full, EXPORT_CONTEXT_BITMAP, bitmap, err);
}

int export_contexts_co_init(struct export_contexts *contexts, struct block_backend *backend,
                            bool has_depth, const char *const *bitmaps, unsigned bitmap_count,
                            struct error *err)
{
    assert(bitmap_count <= EXPORT_BITMAPS_MAX);
    *contexts = (struct export_contexts){.count = 0};
    int code =
        add(contexts, strdup(METACONTEXT_BASE_ALLOCATION), EXPORT_CONTEXT_ALLOCATION, NULL, err);
    if (code == 0 && has_depth)
        code = add(contexts, strdup("qemu:allocation-depth"), EXPORT_CONTEXT_DEPTH, NULL, err);
    for (unsigned i = 0; i < bitmap_count && code == 0; i++)
        code = co_add_bitmap(contexts, backend, bitmaps[i], err);
    if (code < 0)
        export_contexts_fini(contexts);
    return code;
}

void export_contexts_fini(struct export_contexts *contexts)
{
    for (unsigned i = 0; i < contexts->count; i++)
        free((char *)(uintptr_t)contexts->names[i]);
    *contexts = (struct export_contexts){.count = 0};
}
