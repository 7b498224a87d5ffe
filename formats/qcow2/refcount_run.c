/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Clusters in a row, for a table that must lie in one piece. What was taken on the way and is not
 * long enough is given back at the end: given back at once, it would be found again.
 */
#include <errno.h>
#include <stdlib.h>

#include "formats/qcow2/writer.h"

struct run {
    uint64_t host_offset, count;
};

struct fragments {
    struct run *all;
    size_t count, capacity;
};

static int keep(struct fragments *fragments, const struct run *run)
{
    if (run->count == 0)
        return 0;
    if (fragments->count == fragments->capacity) {
        size_t capacity = fragments->capacity ? 2 * fragments->capacity : 16;
        struct run *more = realloc(fragments->all, capacity * sizeof(*more));
        if (!more)
            return -ENOMEM;
        fragments->all = more;
        fragments->capacity = capacity;
    }
    fragments->all[fragments->count++] = *run;
    return 0;
}

/* A new refcount block lies before the clusters that it counts, so this comes to an end at the
 * latest in the first one that is new. */
static int co_collect(struct qcow2_image *image, uint64_t count, struct run *run,
                      struct fragments *fragments)
{
    while (run->count < count) {
        struct run next;
        int ret = qcow2_co_alloc(image, count - run->count, &next.host_offset, &next.count);
        if (ret < 0)
            return ret;
        if (next.host_offset == run->host_offset + (run->count << image->geometry.cluster_bits)) {
            run->count += next.count;
            continue;
        }
        ret = keep(fragments, run);
        if (ret < 0) {
            qcow2_co_unalloc(image, next.host_offset, next.count);
            return ret;
        }
        *run = next;
    }
    return 0;
}

int qcow2_co_alloc_run(struct qcow2_image *image, uint64_t count, uint64_t *ret_host_offset)
{
    struct fragments fragments = {.all = NULL};
    struct run run = {.count = 0};
    if (count >= UINT64_C(1) << image->geometry.refcount_block_bits)
        return qcow2_co_alloc_in_new_blocks(image, count, ret_host_offset);
    int ret = co_collect(image, count, &run, &fragments);
    if (ret < 0)
        qcow2_co_unalloc(image, run.host_offset, run.count);
    for (size_t i = 0; i < fragments.count; i++)
        qcow2_co_unalloc(image, fragments.all[i].host_offset, fragments.all[i].count);
    free(fragments.all);
    if (ret == 0)
        *ret_host_offset = run.host_offset;
    return ret;
}
