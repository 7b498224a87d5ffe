/* SPDX-License-Identifier: BSD-3-Clause */
#include "protocol/reply_simple.h"

#include "common/endian.h"

size_t reply_simple(uint8_t *to, uint64_t cookie, uint32_t error)
{
    store_be32(to, NBD_SIMPLE_REPLY_MAGIC);
    store_be32(to + 4, error);
    store_be64(to + 8, cookie);
    return NBD_SIMPLE_REPLY_SIZE;
}
