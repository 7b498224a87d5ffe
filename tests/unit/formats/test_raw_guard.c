/* SPDX-License-Identifier: BSD-3-Clause */
/* raw_guard.c: no sequence of changes makes a guessed raw image look like another format, and
 * everything else is written as it is asked. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/node_options.h"
#include "block/probe.h"
#include "formats/raw.h"
#include "formats/raw_guard.h"
#include "tests/unit/block/block_fixture.h"

#define DISK_BYTES 8192

static const struct block_driver *drivers[3];

static void co_open_as(struct fixture *fixture, const char *format, const char *offset)
{
    struct node_options *options = node_options_new();
    memory_disk_options(&fixture->disk, options, "file.", "file");
    if (offset)
        node_options_set(options, "offset", offset, NULL);
    struct error err = {""};
    if (block_co_open_image(&fixture->env, "disk.img", format, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
}

static void run(uint32_t alignment, void (*test)(struct fixture *fixture, void *arg), void *arg)
{
    struct fixture fixture;
    drivers[0] = memory_drivers[0];
    drivers[1] = &format_raw;
    fixture_init(&fixture, drivers, DISK_BYTES, DISK_BYTES, 1);
    fixture.disk.limits.request_alignment = alignment;
    fixture.disk.limits.memory_alignment = alignment;
    fixture_run(&fixture, test, arg);
    fixture_fini(&fixture);
}

static void each_alignment(void (*test)(struct fixture *fixture, void *arg), void *arg)
{
    static const uint32_t alignments[] = {1, 512, 4096};
    for (int i = 0; i < 3; i++)
        run(alignments[i], test, arg);
}

static bool looks_known(const struct fixture *fixture)
{
    struct probe_found found;
    return probe_head(drivers, fixture->disk.data, BLOCK_PROBE_BYTES, &found);
}

static void co_write_headers(struct fixture *fixture, void *arg)
{
    static const uint8_t header[512] = "QFI\xfb\0\0\0\3";
    (void)arg;
    co_open_as(fixture, NULL, NULL);
    assert_int_equal(fixture_co_write(fixture->node, 0, header, 4, 0), -EPERM);
    assert_int_equal(fixture_co_write(fixture->node, 0, header, 512, BLOCK_FUA), -EPERM);
    assert_int_equal(fixture_co_write(fixture->node, 0, header, 3, 0), 0);
    assert_int_equal(fixture_co_write(fixture->node, 3, header + 3, 1, 0), -EPERM);
    assert_int_equal(fixture_co_write(fixture->node, 64, "\x7f\x10\xda\xbe", 4, 0), -EPERM);
    assert_int_equal(fixture_co_write(fixture->node, 0, "plain", 5, BLOCK_FUA), 0);
    assert_memory_equal(fixture->disk.data, "plain", 5);
    assert_int_equal(fixture_co_write(fixture->node, 512, header, 512, 0), 0);
    assert_int_equal(fixture_co_write(fixture->node, BLOCK_PROBE_BYTES, header, 512, 0), 0);
    assert_false(looks_known(fixture));
    fixture_co_close(fixture);
}

static void headers_are_refused_and_other_data_is_not(void **state)
{
    (void)state;
    each_alignment(co_write_headers, NULL);
}

static void co_zero_and_discard(struct fixture *fixture, void *arg)
{
    (void)arg;
    memcpy(fixture->disk.data, "XVHDLUKS", 8);
    memcpy(fixture->disk.data + 64, "\x7f\x10\xda\xbe", 4);
    memset(fixture->disk.data + 68, 'x', DISK_BYTES - 68);
    fixture->disk.data[0] = 'Q', fixture->disk.data[1] = 'E', fixture->disk.data[2] = 'D';
    fixture->disk.data[3] = 1;
    fixture->disk.data[64] = 0; /* no vdi yet */
    co_open_as(fixture, NULL, NULL);
    assert_int_equal(node_co_zero(fixture->node, 3, 1, 0), -EPERM); /* QED\0 */
    assert_int_equal(node_co_zero(fixture->node, 3, 4000, BLOCK_NO_UNMAP), -EPERM);
    assert_int_equal(fixture->disk.data[3], 1);
    assert_int_equal(fixture->disk.data[4000], 'x');
    assert_int_equal(node_co_discard(fixture->node, 3, 1, 0), 0);
    assert_int_equal(node_co_discard(fixture->node, 0, DISK_BYTES, 0), 0);
    assert_int_equal(fixture->disk.data[3], 1);
    assert_int_equal(fixture->disk.data[BLOCK_PROBE_BYTES - 1], 'x'); /* the head is kept */
    assert_int_equal(fixture->disk.data[DISK_BYTES - 1], 0);          /* the rest is not */
    assert_int_equal(node_co_zero(fixture->node, 0, 4000, 0), 0);
    assert_int_equal(fixture->disk.data[3], 0);
    assert_false(looks_known(fixture));
    fixture_co_close(fixture);
}

static void zeroes_make_no_header_either_and_a_trim_keeps_the_head(void **state)
{
    (void)state;
    each_alignment(co_zero_and_discard, NULL);
}

static void co_named(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_open_as(fixture, "raw", NULL);
    assert_int_equal(fixture_co_write(fixture->node, 0, "QFI\xfb", 4, 0), 0);
    assert_int_equal(node_co_discard(fixture->node, 0, DISK_BYTES, 0), 0);
    assert_int_equal(fixture->disk.data[0], 0);
    fixture_co_close(fixture);
}

static void an_image_that_is_called_raw_takes_anything(void **state)
{
    (void)state;
    each_alignment(co_named, NULL);
}

/* It is the file's head that the next start looks at, not the export's. */
static void co_at_an_offset(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_open_as(fixture, NULL, "64");
    assert_int_equal(fixture_co_write(fixture->node, 0, "QFI\xfb", 4, 0), 0);
    assert_int_equal(fixture_co_write(fixture->node, 0, "\x7f\x10\xda\xbe", 4, 0), -EPERM);
    fixture_co_close(fixture);
    assert_false(looks_known(fixture));
    co_open_as(fixture, NULL, "2048");
    assert_int_equal(fixture_co_write(fixture->node, 0, "QFI\xfb", 4, 0), 0);
    fixture_co_close(fixture);
}

static void behind_an_offset_the_files_head_is_guarded(void **state)
{
    (void)state;
    each_alignment(co_at_an_offset, NULL);
}

static void co_head_unreadable(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_open_as(fixture, NULL, NULL);
    fixture->disk.fail_ops = 1u << MEMORY_READ;
    fixture->disk.fail_code = -EIO;
    assert_int_equal(fixture_co_write(fixture->node, 0, "plain", 5, 0), -EIO);
    assert_int_equal(node_co_zero(fixture->node, 0, 5, 0), -EIO);
    fixture->disk.fail_code = 0;
    assert_int_equal(fixture_co_write(fixture->node, 0, "plain", 5, 0), 0);
    fixture_co_close(fixture);
}

static void a_head_that_cannot_be_read_is_not_changed(void **state)
{
    (void)state;
    run(1, co_head_unreadable, NULL);
}

/* --- many at once -------------------------------------------------------------------------------
 */

static const char magic[] = "QED"; /* and its 0: four bytes */

struct byte_write {
    struct fixture *fixture;
    unsigned at;
    unsigned *refused;
};

static void co_write_byte(void *arg)
{
    const struct byte_write *job = arg;
    uint8_t byte = (uint8_t)magic[job->at];
    int ret = fixture_co_write(job->fixture->node, job->at, &byte, 1, 0);
    assert_true(ret == 0 || ret == -EPERM);
    *job->refused += ret == -EPERM;
}

static void co_race(struct fixture *fixture, void *arg)
{
    (void)arg;
    fixture->disk.pauses_max = 5;
    for (unsigned round = 0; round < 50; round++) {
        struct byte_write jobs[4];
        struct group group;
        unsigned refused = 0;
        memset(fixture->disk.data, 'x', DISK_BYTES);
        co_open_as(fixture, NULL, NULL);
        group_init(&group, fixture->loop);
        for (unsigned i = 0; i < 4; i++) {
            jobs[i] = (struct byte_write){.fixture = fixture, .at = i, .refused = &refused};
            group_start(&group, co_write_byte, &jobs[i]);
        }
        group_co_wait(&group);
        assert_int_equal(refused, 1); /* whichever came last */
        assert_false(looks_known(fixture));
        fixture_co_close(fixture);
    }
}

static void a_header_in_four_writes_at_once_lacks_a_byte(void **state)
{
    (void)state;
    each_alignment(co_race, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_refused_and_other_data_is_not),
        cmocka_unit_test(zeroes_make_no_header_either_and_a_trim_keeps_the_head),
        cmocka_unit_test(an_image_that_is_called_raw_takes_anything),
        cmocka_unit_test(behind_an_offset_the_files_head_is_guarded),
        cmocka_unit_test(a_head_that_cannot_be_read_is_not_changed),
        cmocka_unit_test(a_header_in_four_writes_at_once_lacks_a_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
