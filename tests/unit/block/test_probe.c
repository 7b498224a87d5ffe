/* SPDX-License-Identifier: BSD-3-Clause */
/* probe.c: a known format's header is refused when no format was named; anything else is raw. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "block/probe.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 4096

static const struct {
    const char *format;
    size_t offset, length;
    const char *bytes;
} foreign[] = {
    {"qcow2", 0, 4, "QFI\xfb"},
    {"qed", 0, 4, "QED\0"},
    {"vmdk", 0, 4, "KDMV"},
    {"vmdk", 0, 4, "COWD"},
    {"vmdk", 0, 21, "# Disk DescriptorFile"},
    {"vdi", 64, 4, "\x7f\x10\xda\xbe"},
    {"vhdx", 0, 8, "vhdxfile"},
    {"vpc", 0, 8, "conectix"},
    {"luks", 0, 6, "LUKS\xba\xbe"},
    {"parallels", 0, 16, "WithoutFreeSpace"},
    {"parallels", 0, 16, "WithouFreSpacExt"},
    {"bochs", 0, 22, "Bochs Virtual HD Image"},
    {"cloop", 0, 22, "#!/bin/sh\n#V2.0 Format"},
    {"gow1", 0, 4, "GOW1"},
};
#define FOREIGN_COUNT (sizeof(foreign) / sizeof(*foreign))

static void every_known_signature_is_found_at_its_place_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < FOREIGN_COUNT; i++) {
        uint8_t head[BLOCK_PROBE_BYTES] = {0};
        struct probe_found found;
        size_t end = foreign[i].offset + foreign[i].length;
        memcpy(head + foreign[i].offset, foreign[i].bytes, foreign[i].length);
        assert_true(probe_head(memory_drivers, head, sizeof(head), &found));
        assert_string_equal(found.name, foreign[i].format);
        assert_false(found.is_supported);
        assert_true(probe_head(memory_drivers, head, end, &found));
        assert_false(probe_head(memory_drivers, head, end - 1, &found));
        memmove(head + 1, head, sizeof(head) - 1);
        head[0] = 0;
        assert_false(probe_head(memory_drivers, head, sizeof(head), &found));
    }
}

static void versions_of_one_magic_are_told_apart(void **state)
{
    (void)state;
    uint8_t head[8] = "QFI\xfb";
    struct probe_found found;
    for (uint8_t version = 0; version < 5; version++) {
        head[7] = version;
        assert_true(probe_head(memory_drivers, head, sizeof(head), &found));
        assert_string_equal(found.name, version == 1 ? "qcow" : "qcow2");
    }
}

static void a_vmdk_text_is_known_behind_its_comments(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "version=1",
        "# a comment\nversion=2\n",
        "\n\r\n # x\n#\n\tversion=",
        "#\n#\n#\nversion=3",
    };
    static const char *const others[] = {
        "", "#", "#\n", "# version=1", "version", "#\nversion 1", "x\nversion=1", "\n",
    };
    struct probe_found found;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        const uint8_t *head = (const uint8_t *)texts[i];
        assert_true(probe_head(memory_drivers, head, strlen(texts[i]), &found));
        assert_string_equal(found.name, "vmdk");
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        const uint8_t *head = (const uint8_t *)others[i];
        assert_false(probe_head(memory_drivers, head, strlen(others[i]), &found));
    }
}

static void zeroes_boot_sectors_and_empty_files_are_nothing_known(void **state)
{
    (void)state;
    uint8_t head[BLOCK_PROBE_BYTES] = {0};
    struct probe_found found;
    assert_false(probe_head(memory_drivers, head, 0, &found));
    assert_false(probe_head(memory_drivers, head, sizeof(head), &found));
    head[510] = 0x55;
    head[511] = 0xaa;
    assert_false(probe_head(memory_drivers, head, sizeof(head), &found));
}

static int probes_mild(const uint8_t *head, size_t length)
{
    return length > 0 && head[0] == 'M' ? 10 : 0;
}

static int probes_sure(const uint8_t *head, size_t length)
{
    return length > 1 && head[0] == 'M' && head[1] == 'S' ? 100 : 0;
}

static int probes_all(const uint8_t *head, size_t length)
{
    (void)head;
    (void)length;
    return 1;
}

static void the_surest_driver_is_named_and_raw_never_is(void **state)
{
    (void)state;
    static const struct block_driver mild = {.name = "mild", .probe = probes_mild};
    static const struct block_driver sure = {.name = "sure", .probe = probes_sure};
    static const struct block_driver raw = {.name = "raw", .probe = probes_all};
    static const struct block_driver *const drivers[] = {&raw, &mild, &sure, NULL};
    struct probe_found found;
    assert_true(probe_head(drivers, (const uint8_t *)"MS", 2, &found));
    assert_string_equal(found.name, "sure");
    assert_true(found.is_supported);
    assert_true(probe_head(drivers, (const uint8_t *)"MX", 2, &found));
    assert_string_equal(found.name, "mild");
    assert_false(probe_head(drivers, (const uint8_t *)"XX", 2, &found));
}

/* The pass driver under raw's name, so that an image can be opened as raw. */
static int co_open_unnamed(struct fixture *fixture, struct error *err)
{
    struct node_options *options = node_options_new();
    memory_disk_options(&fixture->disk, options, "file.", "file");
    return block_co_open_image(&fixture->env, "disk.img", NULL, options, &fixture->node, err);
}

static void co_a_known_header_is_refused_in_one_sentence(struct fixture *fixture, void *arg)
{
    struct error err;
    (void)arg;
    memcpy(fixture->disk.data, "QFI\xfb\0\0\0\3", 8);
    assert_int_equal(co_open_unnamed(fixture, &err), -EINVAL);
    assert_string_equal(err.message,
                        "'disk.img' begins like a qcow2 image, which this version does not "
                        "support; say -f raw to serve its bytes as they are");
    assert_null(fixture->node);
    assert_int_equal(fixture->disk.counts[MEMORY_OPEN], 1);
    assert_int_equal(fixture->disk.counts[MEMORY_CLOSE], 1);
    assert_int_equal(fixture->disk.log[0].flags, 1); /* opened read-only */
}

static void co_what_is_not_known_is_opened_as_raw(struct fixture *fixture, void *arg)
{
    struct block_driver raw = *memory_drivers[3];
    const struct block_driver *const drivers[] = {memory_drivers[0], &raw, NULL};
    (void)arg;
    raw.name = "raw";
    fixture->env.drivers = drivers;
    assert_int_equal(co_open_unnamed(fixture, NULL), 0);
    assert_string_equal(block_node_driver_name(fixture->node), "raw");
    assert_false(fixture->node->read_only);
    assert_true(fixture->node->is_guess);
    fixture_co_close(fixture);
    assert_int_equal(fixture->disk.counts[MEMORY_OPEN], 2);
    assert_int_equal(fixture->disk.counts[MEMORY_CLOSE], 2);
    fixture->env.drivers = memory_drivers;
}

static void co_a_head_that_cannot_be_read_is_an_error(struct fixture *fixture, void *arg)
{
    struct error err;
    (void)arg;
    fixture->disk.fail_code = -EIO;
    fixture->disk.fail_ops = 1u << MEMORY_READ;
    assert_int_equal(co_open_unnamed(fixture, &err), -EIO);
    assert_non_null(strstr(err.message, "'disk.img'"));
    fixture->disk.fail_code = 0;
    assert_int_equal(fixture->disk.counts[MEMORY_CLOSE], 1);
}

static int probe_fox(const uint8_t *head, size_t length)
{
    return length >= 4 && memcmp(head, "fox!", 4) == 0 ? 100 : 0;
}

static void co_what_a_driver_knows_is_opened_by_it_as_a_guess(struct fixture *fixture, void *arg)
{
    struct block_driver fox = *memory_drivers[3];
    const struct block_driver *const drivers[] = {memory_drivers[0], &fox, NULL};
    (void)arg;
    fox.name = "fox";
    fox.probe = probe_fox;
    fixture->env.drivers = drivers;
    memcpy(fixture->disk.data, "fox!", 4);
    assert_int_equal(co_open_unnamed(fixture, NULL), 0);
    assert_string_equal(block_node_driver_name(fixture->node), "fox");
    assert_true(fixture->node->is_guess);
    fixture_co_close(fixture);
    fixture->env.drivers = memory_drivers;
}

FIXTURE_TEST(what_a_driver_knows_is_opened_by_it_as_a_guess, SIZE, SIZE)
FIXTURE_TEST(a_known_header_is_refused_in_one_sentence, SIZE, SIZE)
FIXTURE_TEST(what_is_not_known_is_opened_as_raw, SIZE, SIZE)
FIXTURE_TEST(a_head_that_cannot_be_read_is_an_error, SIZE, SIZE)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_known_signature_is_found_at_its_place_alone),
        cmocka_unit_test(versions_of_one_magic_are_told_apart),
        cmocka_unit_test(a_vmdk_text_is_known_behind_its_comments),
        cmocka_unit_test(zeroes_boot_sectors_and_empty_files_are_nothing_known),
        cmocka_unit_test(the_surest_driver_is_named_and_raw_never_is),
        cmocka_unit_test(a_known_header_is_refused_in_one_sentence),
        cmocka_unit_test(what_a_driver_knows_is_opened_by_it_as_a_guess),
        cmocka_unit_test(what_is_not_known_is_opened_as_raw),
        cmocka_unit_test(a_head_that_cannot_be_read_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
