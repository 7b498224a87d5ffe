/* SPDX-License-Identifier: BSD-3-Clause */
/* What happens when an open image turns out to break a rule (invariant 13): a line in the log, and
 * no write any more. What can be read still is, so that it can be saved. The other exports go on.
 */
#include <errno.h>
#include <inttypes.h>

#include "common/log.h"
#include "formats/qcow2/image.h"

int qcow2_corrupt(struct qcow2_image *image, const char *why, const char *table,
                  uint64_t host_offset, uint64_t guest_offset)
{
    if (!atomic_exchange(&image->is_corrupt, true))
        log_error(
            "'%s': the image is corrupt: %s (%s entry at 0x%" PRIx64
            ", of the guest offset 0x%" PRIx64
            "); what depends on that cannot be read, and nothing is written any more; look at "
            "it with qemu-img check",
            image->node->name, why, table, host_offset, guest_offset);
    return -EIO;
}
