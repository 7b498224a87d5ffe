/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of qcow2's internal snapshots, and what -l asks of it. Input: a byte for the count of
 * entries, 16 bytes that are asked for, then the table. Properties: a refusal says something; each
 * entry that is taken is written again as one with the same meaning; what is found matches.
 */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "formats/qcow2/snapshot_table.h"

static void check_round_trip(const struct qcow2_geometry *geometry,
                             const struct qcow2_snapshot *snapshot)
{
    struct qcow2_snapshots again;
    uint32_t length = qcow2_snapshot_encoded_bytes(snapshot), entry_bytes;
    uint8_t *bytes = malloc(length);
    qcow2_snapshot_encode(snapshot, bytes);
    if (qcow2_snapshot_entry_bytes(bytes, &entry_bytes, NULL) == 0) {
        FUZZ_CHECK(entry_bytes == length);
        FUZZ_CHECK(qcow2_snapshots_decode(geometry, bytes, length, 1, 0, &again, NULL) == 0);
        FUZZ_CHECK(strcmp(again.all->id, snapshot->id) == 0);
        FUZZ_CHECK(strcmp(again.all->name, snapshot->name) == 0);
        FUZZ_CHECK(again.all->disk_bytes == snapshot->disk_bytes);
        FUZZ_CHECK(again.all->vm_state_bytes == snapshot->vm_state_bytes);
        FUZZ_CHECK(again.all->l1_size == snapshot->l1_size);
        qcow2_snapshots_fini(&again);
    }
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qcow2_header header = {.version = 3, .cluster_bits = 16, .refcount_order = 4};
    struct qcow2_geometry geometry;
    struct qcow2_snapshots snapshots;
    struct error err = {.message = ""};
    char wanted[17] = "";
    if (size < 17)
        return 0;
    memcpy(wanted, data + 1, 16);
    qcow2_geometry_init(&geometry, &header);
    int rc =
        qcow2_snapshots_decode(&geometry, data + 17, size - 17, data[0], 1 << 20, &snapshots, &err);
    if (rc < 0) {
        FUZZ_CHECK(err.message[0] != '\0');
        return 0;
    }
    FUZZ_CHECK(snapshots.table_bytes <= size - 17);
    for (uint32_t i = 0; i < snapshots.count; i++)
        check_round_trip(&geometry, &snapshots.all[i]);
    const struct qcow2_snapshot *found = qcow2_snapshots_find(&snapshots, wanted, &err);
    if (!found)
        FUZZ_CHECK(err.message[0] != '\0');
    qcow2_snapshots_fini(&snapshots);
    return 0;
}
