/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/registry.h"

#include "block/filters.h"
#include "formats/gow1/driver.h"
#include "formats/qcow2/driver.h"
#include "formats/raw.h"

/* clang-format off: one a line, so that two who add one do not meet */
const struct block_driver *const formats_registry[] = {
    &format_raw,
    &format_qcow2,
    &format_gow1,
    &block_driver_file,
    &block_driver_host_device,
    &block_driver_host_cdrom,
    &block_driver_host_floppy,
    &block_driver_null,
    &block_filter_compress,
    &block_filter_copy_on_read,
    &block_filter_delay,
    &block_filter_record,
    &block_filter_fault,
    &block_filter_throttle,
    &block_filter_verify,
    NULL,
};
