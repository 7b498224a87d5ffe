/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What happens when an open image turns out to break a rule (invariant 13): a line in the log, the
 * corrupt bit in the header where it can be written, and no write any more, neither of data nor of
 * what is in memory alone. What can be read still is, so that it can be saved (the invariant would
 * have none); a flush says that what was not durable before is lost. The other exports go on.
 */
#include <errno.h>
#include <inttypes.h>

#include "common/log.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/writer.h"

void qcow2_stop_writes(struct qcow2_image *image)
{
    atomic_store(&image->is_corrupt, true);
    pthread_mutex_lock(&image->monitor);
    cache_refuse_writes(image->cache, -EIO);
    pthread_mutex_unlock(&image->monitor);
}

static void co_mark_corrupt(struct qcow2_image *image)
{
    if (image->header.version < 3)
        return;
    int ret = qcow2_co_mark(image, QCOW2_INCOMPATIBLE_CORRUPT, 0);
    if (ret < 0)
        log_error("'%s': it could not be marked as corrupt: %s", image->node->name,
                  error_text(ret));
}

int qcow2_co_corrupt(struct qcow2_image *image, const char *why, const char *table,
                     uint64_t host_offset, uint64_t guest_offset)
{
    if (atomic_exchange(&image->is_corrupt, true))
        return -EIO;
    log_error("'%s': the image is corrupt: %s (%s entry at 0x%" PRIx64
              ", of the guest offset 0x%" PRIx64
              "); what depends on that cannot be read%s; look at "
              "it with qemu-img check",
              image->node->name, why, table, host_offset, guest_offset,
              image->writer ? ", and nothing is written any more" : "");
    if (image->writer) {
        qcow2_stop_writes(image);
        co_mark_corrupt(image);
    }
    return -EIO;
}
