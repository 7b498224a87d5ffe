/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_RAW_H
#define FORMATS_RAW_H

#include "block/driver.h"

extern const struct block_driver format_raw;

#endif
