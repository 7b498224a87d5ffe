/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Changes of an open image: whether it may be written. What it takes to be written is made, or put
 * on the disk, in the first phase; the second only changes a pointer. The options of an opening
 * cannot be changed.
 */
#include <errno.h>
#include <inttypes.h>

#include "formats/gow1/image.h"

/* As an opening for writing; what another program has done to the file while we only read it is not
 * in our tables. */
static int co_begin_writing(struct gow1_image *image, struct gow1_writer **ret_writer,
                            struct error *err)
{
    struct gow1_header header;
    struct block_node *node = image->node;
    struct error why;
    int ret = gow1_co_info(node->file, image->header.magic, &header, err);
    if (ret < 0)
        return ret;
    ret = gow1_header_check_allocated(&header, &why);
    if (ret < 0)
        return error_set(err, ret, "'%.200s' cannot be written: %s", node->name, why.message);
    if (header.size != image->header.size)
        return error_set(err, -EINVAL,
                         "'%.200s' cannot be written: its size was %" PRIu32
                         " blocks and is %" PRIu32 " now; open it anew",
                         node->name, image->header.size, header.size);
    image->header = header;
    cache_invalidate(image->cache);
    return gow1_writer_co_new(image, ret_writer, err);
}

int gow1_co_reopen_prepare(struct block_node *node, struct block_reopen *reopen, struct error *err)
{
    struct gow1_image *image = gow1_of(node);
    struct gow1_writer *writer = NULL;
    int ret = 0;
    if (!reopen->read_only && !image->writer)
        ret = co_begin_writing(image, &writer, err);
    if (reopen->read_only && image->writer) {
        ret = gow1_writer_co_settle(image);
        if (ret < 0)
            error_set(err, ret, "the map of '%.200s' cannot be written: %s", node->name,
                      error_text(ret));
    }
    reopen->state = writer;
    return ret;
}

void gow1_co_reopen_commit(struct block_node *node, struct block_reopen *reopen)
{
    struct gow1_image *image = gow1_of(node);
    if (reopen->read_only && image->writer) {
        gow1_writer_free(image, image->writer);
        image->writer = NULL;
    } else if (!reopen->read_only && !image->writer) {
        image->writer = reopen->state;
        atomic_store(&image->entry_limit, image->writer->blocks.allocated);
    }
    node->limits.preferred_bytes = node->file->limits.preferred_bytes;
}

void gow1_co_reopen_abort(struct block_node *node, struct block_reopen *reopen)
{
    gow1_writer_free(gow1_of(node), reopen->state);
}
