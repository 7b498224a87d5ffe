/* SPDX-License-Identifier: BSD-3-Clause */
/* What the header says of the image's state: that it is corrupt, that its refcounts are behind. */
#include <assert.h>

#include "common/endian.h"
#include "formats/qcow2/writer.h"

/* Monitor; given up meanwhile. *ret_wanted is what they become; false: they are that already. */
static bool co_begin_marking(struct qcow2_image *image, uint64_t set, uint64_t clear,
                             uint64_t *ret_wanted)
{
    struct qcow2_writer *writer = image->writer;
    while (writer->is_marking)
        co_queue_wait(&writer->markers, &image->monitor);
    *ret_wanted = (image->header.incompatible_features | set) & ~clear;
    writer->is_marking = *ret_wanted != image->header.incompatible_features;
    return writer->is_marking;
}

int qcow2_co_mark(struct qcow2_image *image, uint64_t set, uint64_t clear)
{
    uint8_t field[8];
    uint64_t wanted;
    assert(image->header.version >= 3);
    pthread_mutex_lock(&image->monitor);
    bool is_mine = co_begin_marking(image, set, clear, &wanted);
    pthread_mutex_unlock(&image->monitor);
    if (!is_mine)
        return 0;
    store_be64(field, wanted);
    int ret = qcow2_co_write_header_bytes(image, QCOW2_HEADER_INCOMPATIBLE, field, sizeof(field));
    pthread_mutex_lock(&image->monitor);
    if (ret == 0)
        image->header.incompatible_features = wanted;
    image->writer->is_marking = false;
    co_queue_wake_all(&image->writer->markers);
    pthread_mutex_unlock(&image->monitor);
    return ret;
}
