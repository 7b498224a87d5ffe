/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/atapi.h"

#include <string.h>

#include "common/endian.h"

#define CURRENT_ERROR 0x70 /* SPC-3, 4.5.3: fixed format */
#define INFORMATION_VALID 0x80

void atapi_sense_encode(const struct atapi_sense *sense, uint8_t bytes[ATAPI_SENSE_BYTES])
{
    memset(bytes, 0, ATAPI_SENSE_BYTES);
    bytes[0] = CURRENT_ERROR | (sense->has_lba ? INFORMATION_VALID : 0);
    bytes[2] = sense->key;
    store_be32(bytes + 3, sense->has_lba ? sense->lba : 0);
    bytes[7] = ATAPI_SENSE_BYTES - 8; /* what follows */
    bytes[12] = sense->asc;
    bytes[13] = sense->ascq;
}
