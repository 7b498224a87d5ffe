/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_SNAPSHOT_TABLE_H
#define FORMATS_QCOW2_SNAPSHOT_TABLE_H

/* The table of internal snapshots: bytes in, structs out, and back. Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "formats/qcow2/geometry.h"

#define QCOW2_SNAPSHOT_HEAD_BYTES 40
#define QCOW2_ICOUNT_NONE UINT64_MAX

struct qcow2_snapshot {
    uint64_t l1_table_offset;
    uint32_t l1_size; /* entries */
    uint32_t date_s, date_ns;
    uint64_t vm_clock_ns;
    uint64_t vm_state_bytes;
    uint64_t disk_bytes; /* of the disk then; has_disk_size says whether the table has it */
    bool has_disk_size;
    uint64_t icount;
    const char *id;      /* not empty where a program follows the rules; with a 0 behind it */
    const char *name;    /* may be empty */
    const uint8_t *more; /* extra data that we do not know, kept for who writes the table again */
    uint32_t more_bytes;
};

struct qcow2_snapshots {
    struct qcow2_snapshot *all;
    uint32_t count;
    uint64_t table_bytes; /* what the table takes in the image */
    char *memory;         /* what the strings are in */
};

/* How many bytes the entry takes whose first QCOW2_SNAPSHOT_HEAD_BYTES are there. -EFBIG. */
int qcow2_snapshot_entry_bytes(const uint8_t *head, uint32_t *ret_bytes, struct error *err);

/* `length` bytes of a table of `count` entries. Takes memory by the length alone; each entry is 40
 * bytes at least. `disk_bytes` is the size of a snapshot that does not say its own. -EINVAL,
 * -EFBIG, -ENOMEM; a sentence names the snapshot and the field. */
int qcow2_snapshots_decode(const struct qcow2_geometry *geometry, const uint8_t *bytes,
                           size_t length, uint32_t count, uint64_t disk_bytes,
                           struct qcow2_snapshots *ret_snapshots, struct error *err);
void qcow2_snapshots_fini(struct qcow2_snapshots *snapshots);

/* What encode() writes of it. */
uint32_t qcow2_snapshot_encoded_bytes(const struct qcow2_snapshot *snapshot);
/* With extra data up to the icount, in versions 2 and 3 alike, as QEMU writes. */
void qcow2_snapshot_encode(const struct qcow2_snapshot *snapshot, uint8_t *bytes);

/*
 * What -l asks for: "snapshot.id=1", "snapshot.name=x", both with a comma between them, or a plain
 * text, which is an id, or else a name. NULL with a sentence that lists what there is.
 */
const struct qcow2_snapshot *qcow2_snapshots_find(const struct qcow2_snapshots *snapshots,
                                                  const char *wanted, struct error *err);

#endif
