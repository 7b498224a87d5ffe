/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef COMMON_ZERO_SCAN_H
#define COMMON_ZERO_SCAN_H

#include <stdbool.h>
#include <stddef.h>

/* Whether all bytes are zero; true of none at all. Reads at the speed of memory, and no further
 * than about the first one that is not zero. Any alignment. */
bool zero_scan(const void *data, size_t length);

#endif
