/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_FILTERS_H
#define BLOCK_FILTERS_H

/* The filter drivers there are, for formats/registry.c; docs/filters.md tells what each does. */

#include "block/driver.h"

extern const struct block_driver block_filter_compress;
extern const struct block_driver block_filter_copy_on_read;
extern const struct block_driver block_filter_delay;
extern const struct block_driver block_filter_throttle;
extern const struct block_driver block_filter_record;
extern const struct block_driver block_filter_verify;
extern const struct block_driver block_filter_fault;

#endif
