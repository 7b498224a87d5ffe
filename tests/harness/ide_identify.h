/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_IDE_IDENTIFY_H
#define TESTS_HARNESS_IDE_IDENTIFY_H

/* What IDENTIFY DEVICE and IDENTIFY PACKET DEVICE say (ACS-2, 7.12 and 7.13). Pure. */

#include "tests/harness/ide_channel.h"

struct ide_identity {
    const char *serial, *firmware, *model; /* 20, 8, 40 characters, printable */
    uint64_t sector_count;
    const struct ide_settings *settings;
};

/* Fills all 512 bytes. */
void ide_identify_disk(const struct ide_identity *identity, uint8_t *bytes);
void ide_identify_cd(const struct ide_identity *identity, uint8_t *bytes);

#endif
