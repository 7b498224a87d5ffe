/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Changes of an open image: whether it may be written, and whether it is ours or another server's.
 * What it takes to be written is made, or put on the disk, in the first phase of a reopen; the
 * second only changes a pointer. The options of an opening cannot be changed.
 */
#include <errno.h>
#include <inttypes.h>

#include "formats/gow1/image.h"

/* The header that the file has now: another program may have written it while we did not. */
static int co_load_anew(const struct gow1_image *image, struct gow1_header *ret_header,
                        struct error *err)
{
    struct block_node *node = image->node;
    struct error why;
    int ret = gow1_co_info(node->file, image->header.magic, ret_header, err);
    if (ret < 0)
        return ret;
    ret = gow1_header_check_allocated(ret_header, &why);
    return ret < 0 ? error_set(err, ret, "cannot open '%.200s': %s", node->name, why.message) : 0;
}

/* --- rights -------------------------------------------------------------------------------------
 */

static int co_begin_writing(struct gow1_image *image, struct gow1_writer **ret_writer,
                            struct error *err)
{
    struct gow1_header header;
    int ret = co_load_anew(image, &header, err);
    if (ret < 0)
        return ret;
    if (header.size != image->header.size)
        return error_set(err, -ESTALE,
                         "'%.200s' cannot be written: its size was %" PRIu32
                         " blocks and is %" PRIu32 " now; open it anew",
                         image->node->name, image->header.size, header.size);
    image->header = header;
    cache_invalidate(image->cache);
    return gow1_writer_co_new(image, ret_writer, err);
}

static int co_settle(struct gow1_image *image, struct error *err)
{
    int ret = gow1_writer_co_settle(image);
    return ret < 0 ? error_set(err, ret, "the map of '%.200s' cannot be written: %s",
                               image->node->name, error_text(ret))
                   : 0;
}

static void end_writing(struct gow1_image *image)
{
    gow1_writer_free(image, image->writer);
    image->writer = NULL;
}

int gow1_co_reopen_prepare(struct block_node *node, struct block_reopen *reopen, struct error *err)
{
    struct gow1_image *image = gow1_of(node);
    struct gow1_writer *writer = NULL;
    int ret = 0;
    if (!reopen->read_only && !image->writer)
        ret = co_begin_writing(image, &writer, err);
    else if (reopen->read_only && image->writer)
        ret = co_settle(image, err);
    reopen->state = writer;
    return ret;
}

void gow1_co_reopen_commit(struct block_node *node, struct block_reopen *reopen)
{
    struct gow1_image *image = gow1_of(node);
    if (reopen->read_only && image->writer) {
        end_writing(image);
    } else if (!reopen->read_only && !image->writer) {
        image->writer = reopen->state;
        gow1_set_limits(image);
    }
    node->limits.preferred_bytes = node->file->limits.preferred_bytes;
}

void gow1_co_reopen_abort(struct block_node *node, struct block_reopen *reopen)
{
    gow1_writer_free(gow1_of(node), reopen->state);
}

/* --- away, and back -----------------------------------------------------------------------------
 */

int gow1_co_inactivate(struct block_node *node, struct error *err)
{
    struct gow1_image *image = gow1_of(node);
    int ret = image->writer ? co_settle(image, err) : 0;
    if (ret < 0)
        return ret;
    end_writing(image);
    cache_invalidate(image->cache);
    return 0;
}

/* Whoever had it may have written any block, and given it another size. */
int gow1_co_invalidate(struct block_node *node, struct error *err)
{
    struct gow1_image *image = gow1_of(node);
    struct gow1_header header;
    int ret = co_load_anew(image, &header, err);
    if (ret < 0)
        return ret;
    cache_invalidate(image->cache);
    image->header = header;
    if (!node->read_only)
        ret = gow1_writer_co_new(image, &image->writer, err);
    if (ret < 0)
        return ret;
    atomic_store(&image->is_corrupt, false);
    gow1_set_limits(image);
    return 0;
}
