/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "formats/qcow2/snapshot_table.h"

#define DISK_BYTES (UINT64_C(1) << 30)

static struct qcow2_geometry geometry_of_test(void)
{
    struct qcow2_geometry geometry;
    struct qcow2_header header = {.version = 3, .cluster_bits = 16, .refcount_order = 4};
    qcow2_geometry_init(&geometry, &header);
    return geometry;
}

static const struct qcow2_snapshot first = {
    .l1_table_offset = 0x90000,
    .l1_size = 2,
    .date_s = 1700000000,
    .date_ns = 5,
    .vm_clock_ns = UINT64_C(1) << 40,
    .vm_state_bytes = UINT64_C(5) << 32,
    .disk_bytes = DISK_BYTES,
    .has_disk_size = true,
    .icount = QCOW2_ICOUNT_NONE,
    .id = "1",
    .name = "before the update",
    .more = (const uint8_t *)"future",
    .more_bytes = 6,
};
static const struct qcow2_snapshot second = {
    .l1_table_offset = 0xa0000,
    .l1_size = 1,
    .disk_bytes = 4096,
    .has_disk_size = true,
    .icount = 77,
    .id = "2",
    .name = "1",
};

static size_t encode_both(uint8_t *bytes)
{
    qcow2_snapshot_encode(&first, bytes);
    qcow2_snapshot_encode(&second, bytes + qcow2_snapshot_encoded_bytes(&first));
    return qcow2_snapshot_encoded_bytes(&first) + qcow2_snapshot_encoded_bytes(&second);
}

static void entries_come_back_as_they_were_written(void **state)
{
    struct qcow2_geometry geometry = geometry_of_test();
    struct qcow2_snapshots snapshots;
    uint8_t bytes[512];
    uint32_t entry_bytes;
    (void)state;
    size_t length = encode_both(bytes);
    assert_int_equal(qcow2_snapshot_entry_bytes(bytes, &entry_bytes, NULL), 0);
    assert_int_equal(entry_bytes, qcow2_snapshot_encoded_bytes(&first));
    assert_int_equal(
        qcow2_snapshots_decode(&geometry, bytes, sizeof(bytes), 2, 1, &snapshots, NULL), 0);
    assert_int_equal(snapshots.table_bytes, length);
    const struct qcow2_snapshot *got = &snapshots.all[0];
    assert_string_equal(got->id, "1");
    assert_string_equal(got->name, "before the update");
    assert_int_equal(got->l1_table_offset, 0x90000);
    assert_int_equal(got->l1_size, 2);
    assert_int_equal(got->vm_state_bytes, UINT64_C(5) << 32);
    assert_int_equal(got->disk_bytes, DISK_BYTES);
    assert_int_equal(got->icount, QCOW2_ICOUNT_NONE);
    assert_int_equal(got->more_bytes, 6);
    assert_memory_equal(got->more, "future", 6);
    assert_int_equal(snapshots.all[1].icount, 77);
    qcow2_snapshots_fini(&snapshots);
}

static void an_old_entry_has_the_disks_size_and_a_short_vm_state(void **state)
{
    struct qcow2_geometry geometry = geometry_of_test();
    struct qcow2_snapshots snapshots;
    uint8_t bytes[48] = {0};
    (void)state;
    store_be64(bytes, 0x90000);
    store_be32(bytes + 8, 2);
    store_be16(bytes + 12, 1);
    store_be32(bytes + 32, 4096);
    bytes[40] = '7';
    assert_int_equal(
        qcow2_snapshots_decode(&geometry, bytes, sizeof(bytes), 1, DISK_BYTES, &snapshots, NULL),
        0);
    assert_string_equal(snapshots.all[0].id, "7");
    assert_string_equal(snapshots.all[0].name, "");
    assert_int_equal(snapshots.all[0].vm_state_bytes, 4096);
    assert_int_equal(snapshots.all[0].disk_bytes, DISK_BYTES);
    assert_false(snapshots.all[0].has_disk_size);
    qcow2_snapshots_fini(&snapshots);
}

static void refused(uint8_t *bytes, size_t length, uint32_t count, int code, const char *begin)
{
    struct qcow2_geometry geometry = geometry_of_test();
    struct qcow2_snapshots snapshots;
    struct error err = {.message = ""};
    assert_int_equal(
        qcow2_snapshots_decode(&geometry, bytes, length, count, DISK_BYTES, &snapshots, &err),
        code);
    if (strncmp(err.message, begin, strlen(begin)) != 0)
        fail_msg("'%s' does not begin with '%s'", err.message, begin);
}

static void entries_that_break_a_rule_are_refused(void **state)
{
    uint8_t bytes[512];
    (void)state;
    size_t length = encode_both(bytes);
    refused(bytes, length - 1, 2, -EINVAL, "its snapshot table ends in entry 1");
    refused(bytes, length, 3, -EINVAL, "its snapshot table ends in entry 2");
    refused(bytes, length, UINT32_MAX, -EINVAL, "its nb_snapshots is 4294967295, but their table");
    store_be32(bytes + 36, 1025);
    refused(bytes, length, 1, -EFBIG, "a snapshot has 1025 bytes of extra data; at most 1024");
    encode_both(bytes);
    store_be64(bytes, 0x90200);
    refused(bytes, length, 1, -EINVAL, "the snapshot '1' has the l1_table_offset 0x90200;");
    store_be64(bytes, UINT64_C(1) << 63);
    refused(bytes, length, 1, -EINVAL, "the snapshot '1' has the l1_table_offset 0x8000000000000");
    store_be64(bytes, 0);
    refused(bytes, length, 1, -EINVAL, "the snapshot '1' has the l1_table_offset 0x0;");
    encode_both(bytes);
    store_be32(bytes + 8, 1);
    refused(bytes, length, 1, -EINVAL,
            "the snapshot '1' has an l1_size of 1 entries; a disk with the size 1073741824 needs");
    store_be32(bytes + 8, 4194305);
    refused(bytes, length, 1, -EFBIG, "the snapshot '1' has an l1_size of 4194305 entries;");
}

static void an_empty_disk_needs_no_table(void **state)
{
    struct qcow2_geometry geometry = geometry_of_test();
    struct qcow2_snapshots snapshots;
    struct qcow2_snapshot empty = second;
    uint8_t bytes[512];
    (void)state;
    empty.disk_bytes = empty.l1_table_offset = empty.l1_size = 0;
    qcow2_snapshot_encode(&empty, bytes);
    assert_int_equal(
        qcow2_snapshots_decode(&geometry, bytes, sizeof(bytes), 1, 1, &snapshots, NULL), 0);
    assert_int_equal(snapshots.all[0].l1_table_offset, 0);
    qcow2_snapshots_fini(&snapshots);
    assert_int_equal(
        qcow2_snapshots_decode(&geometry, bytes, sizeof(bytes), 0, 1, &snapshots, NULL), 0);
    assert_null(snapshots.all);
}

static void the_list_of_many_ends_somewhere(void **state)
{
    struct qcow2_geometry geometry = geometry_of_test();
    struct qcow2_snapshots snapshots;
    struct error err = {.message = ""};
    static uint8_t bytes[100 * 128];
    char wanted[2000];
    size_t length = 0;
    (void)state;
    for (unsigned i = 0; i < 100; i++, length += qcow2_snapshot_encoded_bytes(&first))
        qcow2_snapshot_encode(&first, bytes + length);
    assert_int_equal(
        qcow2_snapshots_decode(&geometry, bytes, sizeof(bytes), 100, 1, &snapshots, NULL), 0);
    assert_null(qcow2_snapshots_find(&snapshots, "x", &err));
    assert_non_null(strstr(err.message, "it has: 1 (before the update), 1 (before"));
    memset(wanted, 'x', sizeof(wanted));
    memcpy(wanted, "snapshot.id=", 12);
    wanted[sizeof(wanted) - 1] = '\0';
    assert_null(qcow2_snapshots_find(&snapshots, wanted, &err));
    assert_non_null(strstr(err.message, "is not understood"));
    qcow2_snapshots_fini(&snapshots);
}

static void a_snapshot_is_found_by_id_then_by_name(void **state)
{
    struct qcow2_geometry geometry = geometry_of_test();
    struct qcow2_snapshots snapshots;
    struct error err = {.message = ""};
    uint8_t bytes[512];
    (void)state;
    encode_both(bytes);
    assert_int_equal(
        qcow2_snapshots_decode(&geometry, bytes, sizeof(bytes), 2, 1, &snapshots, NULL), 0);
    const struct qcow2_snapshot *all = snapshots.all;
    assert_ptr_equal(qcow2_snapshots_find(&snapshots, "1", &err), &all[0]);
    assert_ptr_equal(qcow2_snapshots_find(&snapshots, "before the update", &err), &all[0]);
    assert_ptr_equal(qcow2_snapshots_find(&snapshots, "snapshot.name=1", &err), &all[1]);
    assert_ptr_equal(qcow2_snapshots_find(&snapshots, "snapshot.id=2,snapshot.name=1", &err),
                     &all[1]);
    assert_null(qcow2_snapshots_find(&snapshots, "snapshot.id=1,snapshot.name=1", &err));
    assert_string_equal(err.message, "it has no snapshot 'snapshot.id=1,snapshot.name=1'; it has: "
                                     "1 (before the update), 2 (1)");
    assert_ptr_equal(qcow2_snapshots_find(&snapshots, "snapshot.id=2", &err), &all[1]);
    assert_null(qcow2_snapshots_find(&snapshots, "snapshot.", &err));
    assert_null(qcow2_snapshots_find(&snapshots, "snapshot.number=1", &err));
    assert_non_null(strstr(err.message, "is not understood; say snapshot.id=ID"));
    qcow2_snapshots_fini(&snapshots);
    assert_null(qcow2_snapshots_find(&snapshots, "x", &err));
    assert_string_equal(err.message, "it has no snapshot 'x'; it has none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_come_back_as_they_were_written),
        cmocka_unit_test(an_old_entry_has_the_disks_size_and_a_short_vm_state),
        cmocka_unit_test(entries_that_break_a_rule_are_refused),
        cmocka_unit_test(an_empty_disk_needs_no_table),
        cmocka_unit_test(the_list_of_many_ends_somewhere),
        cmocka_unit_test(a_snapshot_is_found_by_id_then_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
