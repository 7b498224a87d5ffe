/* SPDX-License-Identifier: BSD-3-Clause */
/* open.c, writer.c: what is refused, with field and value; options; what an opening reads. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "tests/unit/formats/gow1/gow1_fixture.h"

#define READ_ONLY GOW_EXTRA("read-only", "on")

static void co_hostile_headers_are_refused_with_field_and_value(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    gow_set_field(disk, 1, 0);
    gow_co_refuse(fixture, GOW_PLAIN, "its size is 0");
    gow_set_field(disk, 1, 1048577);
    gow_co_refuse(fixture, GOW_PLAIN, "its size is 1048577 blocks; the map has room for 1048576");
    gow_set_field(disk, 1, 10);
    gow_set_field(disk, 2, 11);
    gow_co_refuse(fixture, READ_ONLY, "its allocated is 11, more than its size of 10");
    gow_set_field(disk, 2, 0);
    disk->size_bytes = GOW_DATA - 1;
    gow_co_refuse(fixture, READ_ONLY, "truncated: it has 4194315 bytes");
    disk->size_bytes = 11;
    gow_co_refuse(fixture, READ_ONLY, "truncated: it has 11 bytes");
    disk->size_bytes = 0;
    gow_co_refuse(fixture, READ_ONLY, "truncated: it has 0 bytes");
    disk->size_bytes = GOW_DATA;
    disk->data[0] = 'X';
    gow_co_refuse(fixture, READ_ONLY, "its magic is 0x31574f58, not 0x31574f47");
    gow_co_open(fixture, GOW_EXTRA("magic", "0x31574f58"));
    assert_int_equal(atomic_load(&fixture->node->size_bytes), 10 * GOW_BLOCK);
}
GOW_TEST(hostile_headers_are_refused_with_field_and_value, 10, 20)

static void co_a_hostile_map_is_not_written_to(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    uint8_t byte;
    (void)arg;
    gow_set_blocks(disk, 3, 0x77);
    gow_set_entry(disk, 0, 2);
    gow_set_entry(disk, 5, 3);
    gow_co_refuse(fixture, GOW_PLAIN, "map[5] is 3, and the file, of 4390924 bytes, has 3 blocks");
    gow_set_entry(disk, 5, 2);
    gow_set_entry(disk, 7, 2);
    gow_co_refuse(fixture, GOW_PLAIN,
                  "map[5] is 2, which another entry before it is as well (and 1"
                  " entries more)");
    gow_set_entry(disk, 7, GOW_FREE);
    gow_set_entry(disk, 5, 0x80000000);
    gow_co_refuse(fixture, GOW_PLAIN, "map[5] is 2147483648");
    gow_set_field(disk, 2, 2);
    gow_set_entry(disk, 5, 1);
    gow_co_refuse(fixture, GOW_PLAIN, "map[0] is 2, and allocated is 2");
    /* Read-only, all that makes sense can be read. */
    gow_co_open(fixture, READ_ONLY);
    assert_int_equal(fixture_co_read(fixture->node, 0, &byte, 1), -EIO);
    assert_int_equal(fixture_co_read(fixture->node, 5 * GOW_BLOCK, &byte, 1), 0);
    assert_int_equal(byte, 0x77);
}
GOW_TEST(a_hostile_map_is_not_written_to, 10, 20)

static void co_entries_past_the_end_cannot_be_read(struct fixture *fixture, void *arg)
{
    static uint8_t data[3 * GOW_BLOCK];
    (void)arg;
    gow_set_blocks(&fixture->disk, 3, 0x55);
    gow_set_entry(&fixture->disk, 0, 0);
    gow_set_entry(&fixture->disk, 1, 1);
    gow_set_entry(&fixture->disk, 2, 2);
    fixture->disk.size_bytes = GOW_DATA + GOW_BLOCK + 100;
    memset(fixture->disk.data + fixture->disk.size_bytes, 0, 2 * GOW_BLOCK - 100);
    gow_co_open(fixture, READ_ONLY);
    assert_int_equal(fixture_co_read(fixture->node, 0, data, 2 * GOW_BLOCK), 0);
    assert_int_equal(data[GOW_BLOCK + 99], 0x55);
    assert_int_equal(data[GOW_BLOCK + 100], 0); /* a block that is there in part */
    assert_int_equal(fixture_co_read(fixture->node, 0, data, 3 * GOW_BLOCK), -EIO);
}
GOW_TEST(entries_past_the_end_cannot_be_read, 10, 20)

static void co_options_are_checked(struct fixture *fixture, void *arg)
{
    (void)arg;
    gow_co_refuse(fixture, GOW_EXTRA("magic", "GOW1"), "magic: cannot be 'GOW1'");
    gow_co_refuse(fixture, GOW_EXTRA("magic", "-1"), "magic: cannot be '-1'");
    gow_co_refuse(fixture, GOW_EXTRA("magic", "0x100000000"), "magic: cannot be '0x100000000'");
    gow_co_refuse(fixture, GOW_EXTRA("magic", "0x12,"), "magic: cannot be '0x12,'");
    gow_co_refuse(fixture, GOW_EXTRA("repair", "some"), "repair: cannot be 'some'");
    gow_co_refuse(fixture, GOW_EXTRA("repair", "all", "read-only", "on"),
                  "only where it is opened");
    gow_co_refuse(fixture, GOW_EXTRA("shrink", "maybe"), "shrink: cannot be 'maybe'");
    gow_co_refuse(fixture, GOW_EXTRA("cache-size", "x"), "cache-size: cannot be 'x'");
    gow_co_refuse(fixture, GOW_EXTRA("colour", "red"), "colour");
    gow_co_open(fixture, GOW_EXTRA("magic", "827805511", "cache-size", "1T", "shrink", "on"));
}
GOW_TEST(options_are_checked, 10, 20)

static void co_a_failure_of_the_file_is_told(struct fixture *fixture, void *arg)
{
    (void)arg;
    fixture->disk.fail_ops = 1u << MEMORY_READ;
    fixture->disk.fail_code = -EIO;
    gow_co_refuse(fixture, GOW_PLAIN, "cannot read its header: Input/output error");
    fixture->disk.fail_ops = 0;
    for (uint64_t call = 1; call < 4; call++) { /* the open, then the header */
        memory_disk_forget_calls(&fixture->disk);
        fixture->disk.fail_at_call = call;
        if (call > 1)
            gow_co_refuse(fixture, GOW_PLAIN, call == 2 ? "cannot read the map" : "the header");
    }
}
GOW_TEST(a_failure_of_the_file_is_told, 10, 20)

static void co_an_image_of_the_largest_size_opens(struct fixture *fixture, void *arg)
{
    uint8_t byte = 9;
    (void)arg;
    gow_co_open(fixture, GOW_PLAIN);
    uint64_t size = atomic_load(&fixture->node->size_bytes);
    assert_int_equal(size, UINT64_C(64) << 30);
    assert_int_equal(fixture_co_write(fixture->node, size - 1, &byte, 1, 0), 0);
    fixture_co_close(fixture);
    assert_int_equal(gow_entry(&fixture->disk, 1048575), 0);
    assert_int_equal(gow_check(&fixture->disk).errors, 0);
}
GOW_TEST(an_image_of_the_largest_size_opens, 1048576, 100)

static void note_number(void *arg, const char *name, uint64_t value)
{
    uint64_t *hits = arg;
    if (strcmp(name, "map_cache_hits") == 0)
        *hits = value;
}

static void co_its_cache_is_counted(struct fixture *fixture, void *arg)
{
    uint64_t hits = 99;
    uint8_t byte;
    (void)arg;
    gow_co_open(fixture, READ_ONLY);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(fixture_co_read(fixture->node, i, &byte, 1), 0);
    block_node_tell_numbers(fixture->node, note_number, &hits);
    assert_int_equal(hits, 4);
    assert_true(fixture->node->driver->admin->has_zero_init(fixture->node));
}
GOW_TEST(its_cache_is_counted, 10, 20)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_headers_are_refused_with_field_and_value),
        cmocka_unit_test(a_hostile_map_is_not_written_to),
        cmocka_unit_test(entries_past_the_end_cannot_be_read),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(a_failure_of_the_file_is_told),
        cmocka_unit_test(an_image_of_the_largest_size_opens),
        cmocka_unit_test(its_cache_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
