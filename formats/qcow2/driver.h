/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_DRIVER_H
#define FORMATS_QCOW2_DRIVER_H

#include "block/driver.h"

extern const struct block_driver format_qcow2;

#endif
