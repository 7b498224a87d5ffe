/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROTOCOL_REPLY_SIMPLE_H
#define PROTOCOL_REPLY_SIMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "protocol/wire.h"

/*
 * "Simple reply message". Fills to[NBD_SIMPLE_REPLY_SIZE]; returns the size. A READ's data follows
 * when error is NBD_SUCCESS; with structured replies a READ never gets one.
 */
size_t reply_simple(uint8_t *to, uint64_t cookie, uint32_t error);

#endif
