/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef COMMON_ENDIAN_H
#define COMMON_ENDIAN_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* Loads and stores at any address, aligned or not. "be" is the network's order, "le" the PC's. */

#define ENDIAN_ACCESSORS(bits, order)                                      \
    static inline uint##bits##_t load_##order##bits(const void *from)      \
    {                                                                      \
        uint##bits##_t value;                                              \
        memcpy(&value, from, sizeof(value));                               \
        return order##bits##toh(value);                                    \
    }                                                                      \
    static inline void store_##order##bits(void *to, uint##bits##_t value) \
    {                                                                      \
        value = hto##order##bits(value);                                   \
        memcpy(to, &value, sizeof(value));                                 \
    }

ENDIAN_ACCESSORS(16, be)
ENDIAN_ACCESSORS(32, be)
ENDIAN_ACCESSORS(64, be)
ENDIAN_ACCESSORS(16, le)
ENDIAN_ACCESSORS(32, le)
ENDIAN_ACCESSORS(64, le)

#undef ENDIAN_ACCESSORS

#endif
