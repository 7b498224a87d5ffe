/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Internal snapshots: read when the image is opened, and one of them shown instead of the disk.
 * Making, applying and deleting them is not here yet.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/checked.h"
#include "formats/qcow2/image.h"

/* How much is read of the table at first, and at most: a table of the largest count with short
 * names has 6 MiB. */
#define TABLE_READ_BYTES (UINT64_C(64) << 10)
#define TABLE_BYTES_MAX (UINT64_C(16) << 20)

/* The table's entries have lengths of their own, so its length is known when all heads were seen.
 */
struct table_reader {
    struct qcow2_image *image;
    uint8_t *bytes;
    uint64_t length; /* loaded */
};

/* Has the first `length` bytes of the table loaded. */
static int co_load_to(struct table_reader *reader, uint64_t length, struct error *err)
{
    struct qcow2_image *image = reader->image;
    uint64_t offset = image->header.snapshots_offset;
    uint64_t wanted = reader->length ? reader->length : TABLE_READ_BYTES;
    if (length <= reader->length)
        return 0;
    while (wanted < length)
        wanted *= 2;
    if (wanted > TABLE_BYTES_MAX)
        return error_set(err, -EFBIG,
                         "its snapshot table has more than %" PRIu64 " bytes, which is the limit",
                         TABLE_BYTES_MAX);
    if (!range_is_inside(offset, length, atomic_load(&image->node->file->size_bytes)))
        return error_set(err, -EINVAL,
                         "its snapshot table at 0x%" PRIx64 " reaches past the end of the file",
                         offset);
    uint8_t *more = realloc(reader->bytes, wanted);
    if (!more)
        return error_set(err, -ENOMEM, "no memory for its snapshot table");
    reader->bytes = more;
    int ret = qcow2_co_read_bytes(image, offset + reader->length, more + reader->length,
                                  wanted - reader->length);
    if (ret < 0)
        return error_set(err, ret, "cannot read its snapshot table: %s", error_text(ret));
    reader->length = wanted;
    return 0;
}

static int co_read_table(struct table_reader *reader, uint64_t *ret_length, struct error *err)
{
    uint64_t at = 0;
    int ret = 0;
    for (uint32_t i = 0; i < reader->image->header.nb_snapshots && ret == 0; i++) {
        uint32_t entry_bytes = 0;
        ret = co_load_to(reader, at + QCOW2_SNAPSHOT_HEAD_BYTES, err);
        if (ret == 0)
            ret = qcow2_snapshot_entry_bytes(reader->bytes + at, &entry_bytes, err);
        if (ret == 0)
            ret = co_load_to(reader, at + entry_bytes, err);
        at += entry_bytes;
    }
    *ret_length = at;
    return ret;
}

int qcow2_co_load_snapshots(struct qcow2_image *image, struct error *err)
{
    struct table_reader reader = {.image = image};
    uint64_t length = 0;
    int ret = co_read_table(&reader, &length, err);
    if (ret == 0)
        ret = qcow2_snapshots_decode(&image->geometry, reader.bytes, length,
                                     image->header.nb_snapshots, image->header.size,
                                     &image->snapshots, err);
    free(reader.bytes);
    return ret;
}

int qcow2_load_snapshot(struct qcow2_image *image, const char *wanted, struct error *err)
{
    const struct qcow2_snapshot *snapshot = qcow2_snapshots_find(&image->snapshots, wanted, err);
    if (!snapshot)
        return -ENOENT;
    if (!range_is_inside(snapshot->l1_table_offset, (uint64_t)snapshot->l1_size * 8,
                         atomic_load(&image->node->file->size_bytes)))
        return error_set(err, -EINVAL,
                         "the snapshot '%.64s' has the l1_table_offset 0x%" PRIx64 ": its %" PRIu32
                         " entries reach past the end of the file",
                         snapshot->id, snapshot->l1_table_offset, snapshot->l1_size);
    image->l1_table_offset = snapshot->l1_table_offset;
    image->l1_size = snapshot->l1_size;
    image->is_snapshot = true;
    atomic_store(&image->node->size_bytes, snapshot->disk_bytes);
    return 0;
}
