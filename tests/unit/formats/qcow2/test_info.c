/* SPDX-License-Identifier: BSD-3-Clause */
/* What is said of an image without opening it, and every call and allocation of that failing. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/info.h"
#include "tests/crash/no_memory.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CAPACITY_BYTES (1u << 20)
#define DISK_BYTES (256u << 10)
#define NAME_AT 1000u

static const struct memory_image shape = {
    .cluster_bits = 12, .refcount_order = 4, .disk_bytes = DISK_BYTES};
static const struct memory_bitmap bitmaps[] = {
    {.name = "one", .flags = QCOW2_BITMAP_AUTO, .granularity_bits = 9},
    {.name = "lost", .flags = QCOW2_BITMAP_IN_USE, .granularity_bits = 16},
};

static void make_image(struct memory_disk *disk)
{
    memory_image_make(disk, &shape);
    memory_image_add_bitmaps(disk, bitmaps, 2);
    store_be64(disk->data + 8, NAME_AT);
    store_be32(disk->data + 16, 4);
    memcpy(disk->data + NAME_AT, "base", 4);
}

static int co_ask(struct fixture *fixture, struct error *err)
{
    struct qcow2_info info;
    struct qcow2_bitmaps_info list;
    int rc = qcow2_co_info(fixture->node, &info, err);
    if (rc < 0)
        return rc;
    assert_int_equal(info.header.size, DISK_BYTES);
    assert_string_equal(info.backing_name, "base");
    qcow2_info_fini(&info);
    rc = qcow2_co_info_bitmaps(fixture->node, &list, err);
    if (rc < 0)
        return rc;
    assert_int_equal(list.count, 2);
    assert_string_equal(list.all[0].name, "one");
    assert_int_equal(list.all[0].granularity_bytes, 512);
    assert_true(list.all[0].is_enabled && !list.all[0].is_in_use);
    assert_string_equal(list.all[1].name, "lost");
    assert_true(!list.all[1].is_enabled && list.all[1].is_in_use);
    qcow2_bitmaps_info_fini(&list);
    return 0;
}

static void co_a_failure_at_each_step_is_told(struct fixture *fixture, void *arg)
{
    struct error err;
    (void)arg;
    make_image(&fixture->disk);
    fixture_co_open(fixture, "growing", false);
    assert_int_equal(co_ask(fixture, &err), 0);
    for (unsigned memory = 0; memory < 2; memory++) {
        unsigned at = 0;
        for (bool happened = true; happened; at++) {
            err.message[0] = '\0';
            memory_disk_forget_calls(&fixture->disk);
            fixture->disk.fail_at_call = memory ? UINT64_MAX : at;
            fixture->disk.fail_code = -EIO;
            crash_no_memory_arm(memory ? at + 1 : 0, false);
            int rc = co_ask(fixture, &err);
            happened = memory ? crash_no_memory_failed() > 0 : fixture->disk.call_count > at;
            crash_no_memory_disarm();
            fixture->disk.fail_code = 0;
            assert_int_equal(rc, !happened ? 0 : memory ? -ENOMEM : -EIO);
            assert_true(!happened || err.message[0] != '\0');
        }
        assert_true(at > 2);
    }
}

static void co_what_is_out_of_date_or_damaged_is_not_listed(struct fixture *fixture, void *arg)
{
    struct qcow2_bitmaps_info list;
    struct error err = {.message = ""};
    (void)arg;
    make_image(&fixture->disk);
    memory_image_bitmap_entry(&fixture->disk, "one")[16] = 9; /* its type */
    fixture_co_open(fixture, "growing", false);
    assert_int_equal(qcow2_co_info_bitmaps(fixture->node, &list, &err), -EINVAL);
    assert_non_null(strstr(err.message, "type is 9"));
    fixture->disk.data[95] = 0; /* the autoclear bit */
    assert_int_equal(qcow2_co_info_bitmaps(fixture->node, &list, &err), 0);
    assert_int_equal(list.count, 0);
    qcow2_bitmaps_info_fini(&list);
}

#define TESTS(X)                      \
    X(a_failure_at_each_step_is_told) \
    X(what_is_out_of_date_or_damaged_is_not_listed)

#define DEFINE(name) FIXTURE_TEST_WITH(name, memory_drivers, 0, CAPACITY_BYTES)
TESTS(DEFINE)

int main(void)
{
#define LIST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
