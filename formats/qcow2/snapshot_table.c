/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/qcow2/snapshot_table.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/align.h"
#include "common/checked.h"
#include "common/endian.h"

#define EXTRA_VM_STATE 8   /* extra data reaches behind the 64-bit size of the VM state */
#define EXTRA_DISK_SIZE 16 /* and behind the disk's size */
#define EXTRA_ICOUNT 24
#define SELECTOR_MAX 1024 /* of what -l asks for */

/* --- reading ------------------------------------------------------------------------------------
 */

struct entry_head {
    uint32_t extra_bytes, id_bytes, name_bytes;
};

static struct entry_head head_of(const uint8_t *bytes)
{
    return (struct entry_head){
        .extra_bytes = load_be32(bytes + 36),
        .id_bytes = load_be16(bytes + 12),
        .name_bytes = load_be16(bytes + 14),
    };
}

int qcow2_snapshot_entry_bytes(const uint8_t *head_bytes, uint32_t *ret_bytes, struct error *err)
{
    struct entry_head head = head_of(head_bytes);
    if (head.extra_bytes > QCOW2_SNAPSHOT_EXTRA_MAX)
        return error_set(err, -EFBIG,
                         "a snapshot has %" PRIu32 " bytes of extra data; at most %d are supported",
                         head.extra_bytes, QCOW2_SNAPSHOT_EXTRA_MAX);
    *ret_bytes = (uint32_t)align_up(QCOW2_SNAPSHOT_HEAD_BYTES + (uint64_t)head.extra_bytes +
                                        head.id_bytes + head.name_bytes,
                                    8);
    return 0;
}

static void take_extra(const uint8_t *extra, uint32_t length, uint64_t disk_bytes,
                       struct qcow2_snapshot *snapshot)
{
    if (length >= EXTRA_VM_STATE)
        snapshot->vm_state_bytes = load_be64(extra);
    snapshot->has_disk_size = length >= EXTRA_DISK_SIZE;
    snapshot->disk_bytes = snapshot->has_disk_size ? load_be64(extra + 8) : disk_bytes;
    snapshot->icount = length >= EXTRA_ICOUNT ? load_be64(extra + 16) : QCOW2_ICOUNT_NONE;
    if (length > EXTRA_ICOUNT) {
        snapshot->more = extra + EXTRA_ICOUNT;
        snapshot->more_bytes = length - EXTRA_ICOUNT;
    }
}

/* An L1 table keeps the rules of the active one. */
static int check_l1(const struct qcow2_geometry *geometry, const struct qcow2_snapshot *snapshot,
                    struct error *err)
{
    uint64_t needed = qcow2_l1_entries_needed(geometry, snapshot->disk_bytes);
    if (snapshot->l1_size > QCOW2_L1_BYTES_MAX / 8)
        return error_set(err, -EFBIG,
                         "the snapshot '%.64s' has an l1_size of %" PRIu32
                         " entries; at most %" PRIu64 " are supported",
                         snapshot->id, snapshot->l1_size, QCOW2_L1_BYTES_MAX / 8);
    if (snapshot->l1_size < needed)
        return error_set(err, -EINVAL,
                         "the snapshot '%.64s' has an l1_size of %" PRIu32
                         " entries; a disk with the size %" PRIu64 " needs %" PRIu64,
                         snapshot->id, snapshot->l1_size, snapshot->disk_bytes, needed);
    if (qcow2_in_cluster(geometry, snapshot->l1_table_offset) != 0 ||
        snapshot->l1_table_offset > QCOW2_HOST_BYTES_MAX ||
        (snapshot->l1_table_offset == 0 && snapshot->l1_size > 0))
        return error_set(err, -EINVAL,
                         "the snapshot '%.64s' has the l1_table_offset 0x%" PRIx64
                         "; it must be a multiple of the cluster size, and not 0",
                         snapshot->id, snapshot->l1_table_offset);
    return 0;
}

/* A string with a 0 behind it, which the entry in the image has not. */
static const char *take_string(char **memory, const uint8_t *from, uint32_t length)
{
    char *text = *memory;
    if (length > 0)
        memcpy(text, from, length);
    text[length] = '\0';
    *memory += length + 1;
    return text;
}

static int decode_entry(const struct qcow2_geometry *geometry, const uint8_t *bytes,
                        uint64_t disk_bytes, char **memory, struct qcow2_snapshot *snapshot,
                        struct error *err)
{
    struct entry_head head = head_of(bytes);
    const uint8_t *extra = bytes + QCOW2_SNAPSHOT_HEAD_BYTES;
    const uint8_t *id = extra + head.extra_bytes;
    *snapshot = (struct qcow2_snapshot){
        .l1_table_offset = load_be64(bytes),
        .l1_size = load_be32(bytes + 8),
        .date_s = load_be32(bytes + 16),
        .date_ns = load_be32(bytes + 20),
        .vm_clock_ns = load_be64(bytes + 24),
        .vm_state_bytes = load_be32(bytes + 32),
    };
    snapshot->id = take_string(memory, id, head.id_bytes);
    snapshot->name = take_string(memory, id + head.id_bytes, head.name_bytes);
    /* The extra data lies before the strings in the image, and behind them in our memory. */
    if (head.extra_bytes > 0)
        memcpy(*memory, extra, head.extra_bytes);
    take_extra((const uint8_t *)*memory, head.extra_bytes, disk_bytes, snapshot);
    *memory += head.extra_bytes;
    return check_l1(geometry, snapshot, err);
}

static int decode_all(const struct qcow2_geometry *geometry, const uint8_t *bytes, size_t length,
                      uint64_t disk_bytes, struct qcow2_snapshots *snapshots, struct error *err)
{
    char *memory = snapshots->memory;
    size_t at = 0;
    for (uint32_t i = 0; i < snapshots->count; i++) {
        uint32_t entry_bytes;
        if (length - at < QCOW2_SNAPSHOT_HEAD_BYTES)
            return error_set(err, -EINVAL, "its snapshot table ends in entry %" PRIu32, i);
        int ret = qcow2_snapshot_entry_bytes(bytes + at, &entry_bytes, err);
        if (ret < 0)
            return ret;
        if (entry_bytes > length - at)
            return error_set(err, -EINVAL, "its snapshot table ends in entry %" PRIu32, i);
        ret = decode_entry(geometry, bytes + at, disk_bytes, &memory, &snapshots->all[i], err);
        if (ret < 0)
            return ret;
        at += entry_bytes;
    }
    snapshots->table_bytes = at;
    return 0;
}

int qcow2_snapshots_decode(const struct qcow2_geometry *geometry, const uint8_t *bytes,
                           size_t length, uint32_t count, uint64_t disk_bytes,
                           struct qcow2_snapshots *ret_snapshots, struct error *err)
{
    struct qcow2_snapshots snapshots = {.count = count};
    if (count > length / QCOW2_SNAPSHOT_HEAD_BYTES)
        return error_set(err, -EINVAL,
                         "its nb_snapshots is %" PRIu32 ", but their table has %zu bytes", count,
                         length);
    if (count == 0) {
        *ret_snapshots = snapshots;
        return 0;
    }
    /* Strings and extra data are no longer than in the image, and two zeroes an entry. */
    snapshots.all = calloc(count, sizeof(*snapshots.all));
    snapshots.memory = malloc(length + 2 * (size_t)count);
    int ret = -ENOMEM;
    if (snapshots.all && snapshots.memory)
        ret = decode_all(geometry, bytes, length, disk_bytes, &snapshots, err);
    else
        error_set(err, ret, "no memory for %" PRIu32 " snapshots", count);
    if (ret < 0)
        qcow2_snapshots_fini(&snapshots);
    else
        *ret_snapshots = snapshots;
    return ret;
}

void qcow2_snapshots_fini(struct qcow2_snapshots *snapshots)
{
    free(snapshots->all);
    free(snapshots->memory);
    *snapshots = (struct qcow2_snapshots){.count = 0};
}

/* --- writing ------------------------------------------------------------------------------------
 */

uint32_t qcow2_snapshot_encoded_bytes(const struct qcow2_snapshot *snapshot)
{
    return (uint32_t)align_up(QCOW2_SNAPSHOT_HEAD_BYTES + EXTRA_ICOUNT + snapshot->more_bytes +
                                  strlen(snapshot->id) + strlen(snapshot->name),
                              8);
}

void qcow2_snapshot_encode(const struct qcow2_snapshot *snapshot, uint8_t *bytes)
{
    size_t id_bytes = strlen(snapshot->id), name_bytes = strlen(snapshot->name);
    uint32_t extra_bytes = EXTRA_ICOUNT + snapshot->more_bytes;
    memset(bytes, 0, qcow2_snapshot_encoded_bytes(snapshot));
    store_be64(bytes, snapshot->l1_table_offset);
    store_be32(bytes + 8, snapshot->l1_size);
    store_be16(bytes + 12, (uint16_t)id_bytes);
    store_be16(bytes + 14, (uint16_t)name_bytes);
    store_be32(bytes + 16, snapshot->date_s);
    store_be32(bytes + 20, snapshot->date_ns);
    store_be64(bytes + 24, snapshot->vm_clock_ns);
    store_be32(bytes + 32,
               snapshot->vm_state_bytes > UINT32_MAX ? 0 : (uint32_t)snapshot->vm_state_bytes);
    store_be32(bytes + 36, extra_bytes);
    uint8_t *extra = bytes + QCOW2_SNAPSHOT_HEAD_BYTES;
    store_be64(extra, snapshot->vm_state_bytes);
    store_be64(extra + 8, snapshot->disk_bytes);
    store_be64(extra + 16, snapshot->icount);
    if (snapshot->more_bytes > 0)
        memcpy(extra + EXTRA_ICOUNT, snapshot->more, snapshot->more_bytes);
    memcpy(extra + extra_bytes, snapshot->id, id_bytes);
    memcpy(extra + extra_bytes + id_bytes, snapshot->name, name_bytes);
}

/* --- finding ------------------------------------------------------------------------------------
 */

/* NULL: any. */
static const struct qcow2_snapshot *find(const struct qcow2_snapshots *snapshots, const char *id,
                                         const char *name)
{
    for (uint32_t i = 0; i < snapshots->count; i++) {
        const struct qcow2_snapshot *snapshot = &snapshots->all[i];
        if ((!id || strcmp(snapshot->id, id) == 0) && (!name || strcmp(snapshot->name, name) == 0))
            return snapshot;
    }
    return NULL;
}

static void list_into(const struct qcow2_snapshots *snapshots, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < snapshots->count && used < size; i++) {
        int added = snprintf(text + used, size - used, "%s%.32s (%.64s)", i > 0 ? ", " : "",
                             snapshots->all[i].id, snapshots->all[i].name);
        assert(added > 0);
        used += (size_t)added;
    }
}

/* "snapshot.id=A,snapshot.name=B" in place; false: it is not of this form. */
static bool parse(char *text, const char **ret_id, const char **ret_name)
{
    static const char id_key[] = "snapshot.id=", name_key[] = "snapshot.name=";
    char *rest = NULL;
    *ret_id = *ret_name = NULL;
    for (char *part = strtok_r(text, ",", &rest); part; part = strtok_r(NULL, ",", &rest)) {
        if (strncmp(part, id_key, strlen(id_key)) == 0)
            *ret_id = part + strlen(id_key);
        else if (strncmp(part, name_key, strlen(name_key)) == 0)
            *ret_name = part + strlen(name_key);
        else
            return false;
    }
    return true; /* it begins with "snapshot.", so there is a part */
}

const struct qcow2_snapshot *qcow2_snapshots_find(const struct qcow2_snapshots *snapshots,
                                                  const char *wanted, struct error *err)
{
    char text[SELECTOR_MAX], listed[256];
    const char *id, *name;
    const struct qcow2_snapshot *found = NULL;
    bool fits = snprintf(text, sizeof(text), "%s", wanted) < (int)sizeof(text);
    if (strncmp(wanted, "snapshot.", strlen("snapshot.")) == 0) {
        if (!fits || !parse(text, &id, &name)) {
            error_set(err, -EINVAL,
                      "the snapshot '%.100s' is not understood; say snapshot.id=ID, "
                      "snapshot.name=NAME, both with a comma between them, or one of them alone",
                      wanted);
            return NULL;
        }
        found = find(snapshots, id, name);
    } else {
        found = find(snapshots, wanted, NULL);
        if (!found)
            found = find(snapshots, NULL, wanted);
    }
    if (found)
        return found;
    list_into(snapshots, listed, sizeof(listed));
    error_set(err, -ENOENT, "it has no snapshot '%.100s'; it has%s%s", wanted,
              snapshots->count > 0 ? ": " : " none", listed);
    return NULL;
}
