/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_GOW1_DRIVER_H
#define FORMATS_GOW1_DRIVER_H

#include "block/driver.h"

extern const struct block_driver format_gow1;

#endif
