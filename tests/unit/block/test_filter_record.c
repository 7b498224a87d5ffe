/* SPDX-License-Identifier: BSD-3-Clause */
/* filter_record.c: what stands in the log, in which order, and that it replays to the image. */
#include "tests/unit/unit.h"

#include "common/endian.h"
#include "tests/unit/block/record_fixture.h"

/* Field by field, at the offsets of the kernel's documentation. */
static void expect_entry(const struct record_scene *scene, uint64_t log_sector, uint64_t sector,
                         uint64_t nr_sectors, uint64_t flags)
{
    const uint8_t *bytes = scene->log.data + log_sector * RECORD_SECTOR;
    assert_int_equal(load_le64(bytes), sector);
    assert_int_equal(load_le64(bytes + 8), nr_sectors);
    assert_int_equal(load_le64(bytes + 16), flags);
    if (!(flags & 8))
        assert_int_equal(load_le64(bytes + 24), 0);
}

static void expect_super(const struct record_scene *scene, uint64_t nr_entries)
{
    static const uint8_t magic_and_version[16] = {0x72, 0x68, 0x73, 0x77, 0x66, 0x73, 0x6a, 0,
                                                  1,    0,    0,    0,    0,    0,    0,    0};
    assert_memory_equal(scene->log.data, magic_and_version, 16);
    assert_int_equal(load_le64(scene->log.data + 16), nr_entries);
    assert_int_equal(load_le32(scene->log.data + 24), RECORD_SECTOR);
}

static void co_the_log_has_the_layout_of_the_kernel(struct record_scene *scene)
{
    uint8_t data[1024];
    struct block_node *node;
    memset(data, 7, sizeof(data));
    memset(scene->fixture->disk.data, 5, RECORD_SIZE);
    record_co_open(scene, NULL);
    node = scene->fixture->node;
    expect_super(scene, 0);
    assert_int_equal(fixture_co_write(node, 1024, data, 1024, 0), 0);
    assert_int_equal(fixture_co_write(node, 512, data, 512, BLOCK_FUA), 0);
    assert_int_equal(node_co_discard(node, 4096, 2048, 0), 0);
    assert_int_equal(node_co_zero(node, 0, 512, BLOCK_FUA), 0);
    assert_int_equal(node_co_flush(node), 0);
    expect_super(scene, 5);
    expect_entry(scene, 1, 2, 2, 0);
    assert_memory_equal(scene->log.data + 2 * 512, data, 1024);
    expect_entry(scene, 4, 1, 1, 2);
    assert_memory_equal(scene->log.data + 5 * 512, data, 512);
    expect_entry(scene, 6, 8, 4, 4);
    expect_entry(scene, 7, 0, 1, 2);
    assert_int_equal(scene->log.data[8 * 512] | scene->log.data[9 * 512 - 1], 0);
    expect_entry(scene, 9, 0, 0, 1);
    assert_int_equal(scene->log.size_bytes, 10 * 512);
}
RECORD_TEST(the_log_has_the_layout_of_the_kernel)

static void co_parts_of_sectors_are_recorded_as_whole_ones(struct record_scene *scene)
{
    record_co_open(scene, NULL);
    assert_int_equal(fixture_co_write(scene->fixture->node, 700, "x", 1, 0), 0);
    expect_entry(scene, 1, 1, 1, 0);
    assert_int_equal(scene->log.data[2 * 512 + 700 - 512], 'x');
}
RECORD_TEST(parts_of_sectors_are_recorded_as_whole_ones)

static void co_an_odd_end_is_filled_up_with_zeroes(struct record_scene *scene)
{
    uint8_t data[700];
    memset(data, 1, sizeof(data));
    scene->fixture->disk.size_bytes = 1000;
    memset(scene->log.data, 0xee, 8192); /* an old log, say */
    scene->log.size_bytes = 8192;
    record_co_open(scene, NULL);
    assert_int_equal(fixture_co_write(scene->fixture->node, 512, data, 488, 0), 0);
    expect_entry(scene, 1, 1, 1, 0);
    assert_int_equal(scene->log.data[2 * 512 + 487], 1);
    for (unsigned i = 488; i < 512; i++)
        assert_int_equal(scene->log.data[2 * 512 + i], 0);
}
RECORD_TEST(an_odd_end_is_filled_up_with_zeroes)

static void co_the_superblock_counts_when_it_must(struct record_scene *scene)
{
    uint8_t sector[512] = {1};
    record_co_open(scene, RECORD_OPTIONS("log-super-update-interval", "3"));
    struct block_node *node = scene->fixture->node;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(fixture_co_write(node, 0, sector, 512, 0), 0);
    expect_super(scene, 0);
    assert_int_equal(fixture_co_write(node, 0, sector, 512, 0), 0);
    expect_super(scene, 3);
    assert_int_equal(fixture_co_write(node, 0, sector, 512, 0), 0);
    expect_super(scene, 3);
    assert_int_equal(fixture_co_write(node, 0, sector, 512, BLOCK_FUA), 0);
    expect_super(scene, 5);
    assert_int_equal(fixture_co_write(node, 0, sector, 512, 0), 0);
    expect_super(scene, 6);
    fixture_co_close(scene->fixture); /* flushes */
    expect_super(scene, 7);
    assert_true(scene->log.counts[MEMORY_FLUSH] > 0);
}
RECORD_TEST(the_superblock_counts_when_it_must)

struct write_at {
    struct block_node *node;
    uint64_t offset;
    uint8_t byte;
};

static void write_entry(void *arg)
{
    struct write_at *write = arg;
    uint8_t sector[512];
    memset(sector, write->byte, sizeof(sector));
    assert_int_equal(fixture_co_write(write->node, write->offset, sector, 512, 0), 0);
}

static void flush_entry(void *arg)
{
    assert_int_equal(node_co_flush(arg), 0);
}

/* W1 is answered, W2 goes on, the flush comes, W3 comes; all end: the log is W1, flush, and then
 * the others. */
static void co_what_ends_during_a_flush_stands_behind_it(struct record_scene *scene)
{
    struct fixture *fixture = scene->fixture;
    struct group group;
    record_co_open(scene, NULL);
    group_init(&group, fixture->loop);
    struct write_at writes[] = {
        {fixture->node, 512, 1}, {fixture->node, 1024, 2}, {fixture->node, 1536, 3}};
    write_entry(&writes[0]);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_FLUSH | 1u << MEMORY_WRITE);
    group_start(&group, write_entry, &writes[1]);
    group_start(&group, flush_entry, fixture->node);
    memory_disk_co_wait_held(&fixture->disk, 2);
    group_start(&group, write_entry, &writes[2]);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_FLUSH);
    memory_disk_release(&fixture->disk);
    group_co_wait(&group);
    expect_entry(scene, 1, 1, 1, 0);
    expect_entry(scene, 3, 0, 0, 1);
    uint64_t second = load_le64(scene->log.data + 4 * 512ul);
    expect_entry(scene, 4, second, 1, 0);
    expect_entry(scene, 6, 5 - second, 1, 0);
}
RECORD_TEST(what_ends_during_a_flush_stands_behind_it)

/* Two changes of the same sector are not with the disk together, so none knows of its place in the
 * log what the disk does not: the later place has the later bytes. */
static void co_changes_that_overlap_go_one_after_the_other(struct record_scene *scene)
{
    struct fixture *fixture = scene->fixture;
    struct group group;
    record_co_open(scene, NULL);
    group_init(&group, fixture->loop);
    struct write_at writes[] = {
        {fixture->node, 512, 1}, {fixture->node, 512, 2}, {fixture->node, 1024, 3}};
    memory_disk_hold(&fixture->disk, 1u << MEMORY_WRITE);
    for (unsigned i = 0; i < 3; i++)
        group_start(&group, write_entry, &writes[i]);
    for (unsigned i = 0; i < 50; i++)
        coroutine_co_pause();
    assert_int_equal(fixture->disk.held_count, 2);
    memory_disk_release(&fixture->disk);
    group_co_wait(&group);
    assert_int_equal(fixture->disk.data[512], 2);
}
RECORD_TEST(changes_that_overlap_go_one_after_the_other)

static void co_what_fails_is_a_mark(struct record_scene *scene)
{
    uint8_t sector[512] = {1};
    struct write_log log;
    struct write_log_entry entry;
    record_co_open(scene, NULL);
    struct memory_disk *disk = &scene->fixture->disk;
    disk->fail_code = -EIO;
    disk->fail_ops = 1u << MEMORY_WRITE;
    assert_int_equal(fixture_co_write(scene->fixture->node, 1024, sector, 512, 0), -EIO);
    disk->fail_code = 0;
    assert_int_equal(fixture_co_write(scene->fixture->node, 512, sector, 512, BLOCK_FUA), 0);
    record_open_log(scene, &log);
    assert_int_equal(write_log_next(&log, &entry, NULL), 1);
    assert_int_equal(entry.flags, LOG_WRITES_MARK);
    assert_int_equal(entry.length, 0);
    assert_string_equal(entry.mark, "failed: write of 512 bytes at 1024");
    assert_int_equal(entry.mark_length, strlen(entry.mark));
    assert_int_equal(write_log_next(&log, &entry, NULL), 1);
    assert_int_equal(entry.flags, LOG_WRITES_FUA);
    assert_int_equal(write_log_next(&log, &entry, NULL), 0);
    disk->fail_code = -EIO;
    disk->fail_ops = 1u << MEMORY_FLUSH;
    assert_int_equal(node_co_flush(scene->fixture->node), -EIO);
    disk->fail_code = 0;
    expect_entry(scene, 4, 0, 0, LOG_WRITES_MARK);
    assert_string_equal((char *)scene->log.data + 4 * 512 + 32, "failed: flush");
}
RECORD_TEST(what_fails_is_a_mark)

static void co_a_refusal_that_changed_nothing_is_not_recorded(struct record_scene *scene)
{
    scene->fixture->disk.refuses_zero = true;
    record_co_open(scene, NULL);
    assert_int_equal(node_co_zero(scene->fixture->node, 0, 512, BLOCK_FAST), -ENOTSUP);
    assert_int_equal(scene->log.size_bytes, 512);
    assert_int_equal(node_co_zero(scene->fixture->node, 0, 512, 0), 0);
    expect_entry(scene, 1, 0, 1, 0);
}
RECORD_TEST(a_refusal_that_changed_nothing_is_not_recorded)

static void co_an_image_does_not_go_on_without_its_record(struct record_scene *scene)
{
    uint8_t sector[512] = {1};
    record_co_open(scene, NULL);
    struct block_node *node = scene->fixture->node;
    assert_int_equal(fixture_co_write(node, 0, sector, 512, BLOCK_FUA), 0);
    scene->log.fail_code = -ENOSPC;
    scene->log.fail_ops = 1u << MEMORY_WRITE;
    assert_int_equal(fixture_co_write(node, 512, sector, 512, 0), -ENOSPC);
    scene->log.fail_code = 0;
    memory_disk_forget_calls(&scene->fixture->disk);
    assert_int_equal(fixture_co_write(node, 1024, sector, 512, 0), -ENOSPC);
    assert_int_equal(node_co_zero(node, 1024, 512, 0), -ENOSPC);
    assert_int_equal(node_co_discard(node, 1024, 512, 0), -ENOSPC);
    assert_int_equal(node_co_flush(node), -ENOSPC);
    assert_int_equal(scene->fixture->disk.call_count, 0);
    assert_int_equal(fixture_co_read(node, 0, sector, 512), 0);
    expect_super(scene, 1);
}
RECORD_TEST(an_image_does_not_go_on_without_its_record)

static void co_a_read_only_image_leaves_the_log_alone(struct record_scene *scene)
{
    uint8_t sector[512];
    record_co_open(scene, RECORD_OPTIONS("read-only", "on"));
    assert_int_equal(fixture_co_read(scene->fixture->node, 0, sector, 512), 0);
    assert_int_equal(node_co_flush(scene->fixture->node), 0);
    assert_int_equal(scene->log.size_bytes, 0);
}
RECORD_TEST(a_read_only_image_leaves_the_log_alone)

static void co_growth_is_a_mark_and_a_cut_is_refused(struct record_scene *scene)
{
    struct error err;
    struct write_log log;
    struct write_log_entry entry;
    record_co_open(scene, NULL);
    struct block_node *node = scene->fixture->node;
    assert_int_equal(node_co_resize(node, RECORD_SIZE - 512, &err), -ENOTSUP);
    assert_non_null(strstr(err.message, "recorded"));
    assert_int_equal(fixture_co_write(node, RECORD_SIZE, "x", 1, BLOCK_FUA), 0);
    record_open_log(scene, &log);
    assert_int_equal(write_log_next(&log, &entry, NULL), 1);
    assert_int_equal(entry.offset, RECORD_SIZE);
    assert_int_equal(entry.length, 512);
}
RECORD_TEST(growth_is_a_mark_and_a_cut_is_refused)

static void co_mistakes_are_refused_by_name(struct record_scene *scene)
{
    static const struct {
        const char *const options[5];
        const char *part;
    } cases[] = {
        {{"log-sector-size", "1000"}, "log-sector-size: 1000 is no power of two"},
        {{"log-sector-size", "256"}, "log-sector-size: 256"},
        {{"log-sector-size", "2M"}, "log-sector-size: 2097152"},
        {{"log-super-update-interval", "0"}, "log-super-update-interval: 0"},
        {{"log-append", "maybe"}, "log-append"},
        {{"log-append", "on", "log-sector-size", "512"}, "log-sector-size: a log that goes on"},
        {{"log.read-only", "on"}, "read-only"},
        {{"log-append", "on"}, "no log of writes"},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {.message = ""};
        assert_true(record_co_try_open(scene, cases[i].options, &err) < 0);
        if (!strstr(err.message, cases[i].part))
            fail_msg("'%s' is not in: %s", cases[i].part, err.message);
    }
}
RECORD_TEST(mistakes_are_refused_by_name)

/* --- random ---------------------------------------------------------------------------------- */

#define ACTORS 6
#define ROUNDS 150
#define BLOCKS 16 /* of one sector, each written by one actor with rising numbers */

struct load {
    struct record_scene *scene;
    struct random random;
    unsigned next_actor;
    uint64_t answered[ACTORS][BLOCKS]; /* the number that was answered last */
};

static uint64_t block_offset(unsigned actor, unsigned block)
{
    return ((uint64_t)actor * BLOCKS + block) * RECORD_SECTOR;
}

/* Writes its own blocks by rising numbers, and now and then a part of everybody's last sectors. */
static void actor_entry(void *arg)
{
    struct load *load = arg;
    struct block_node *node = load->scene->fixture->node;
    unsigned actor = load->next_actor++;
    for (uint64_t number = 1; number <= ROUNDS; number++) {
        uint8_t sector[RECORD_SECTOR] = {0};
        unsigned block = (unsigned)random_below(&load->random, BLOCKS);
        store_le64(sector, number);
        assert_int_equal(fixture_co_write(node, block_offset(actor, block), sector, RECORD_SECTOR,
                                          random_once_in(&load->random, 8) ? BLOCK_FUA : 0),
                         0);
        load->answered[actor][block] = number;
        uint64_t shared = block_offset(ACTORS, 0) + random_below(&load->random, 4000);
        uint64_t length = 1 + random_below(&load->random, 1500);
        switch (random_below(&load->random, 3)) {
        case 0: /* whole sectors: no read-modify-write keeps these apart */
            store_le64(sector, (uint64_t)actor << 32 | number);
            assert_int_equal(
                fixture_co_write(node, block_offset(ACTORS, number % 3), sector, RECORD_SECTOR, 0),
                0);
            break;
        case 1:
            assert_int_equal(node_co_zero(node, shared, length, 0), 0);
            break;
        default:
            assert_int_equal(node_co_discard(node, shared, length, 0), 0);
        }
    }
}

/* A flush that was answered: all that was answered before it was asked for is in the log up to the
 * last flush that the superblock counts. */
static void flusher_entry(void *arg)
{
    struct load *load = arg;
    uint8_t *image = malloc(RECORD_SIZE);
    assert_non_null(image);
    for (unsigned round = 0; round < 40; round++) {
        uint64_t answered[ACTORS][BLOCKS];
        struct write_log log;
        struct write_log_entry entry;
        uint64_t last_flush = 0;
        memcpy(answered, load->answered, sizeof(answered));
        assert_int_equal(node_co_flush(load->scene->fixture->node), 0);
        record_open_log(load->scene, &log);
        while (write_log_next(&log, &entry, NULL) > 0) {
            if (entry.flags & LOG_WRITES_FLUSH)
                last_flush = entry.number;
        }
        write_log_rewind(&log);
        memset(image, 0, RECORD_SIZE);
        assert_int_equal(write_log_replay(&log, last_flush, image, RECORD_SIZE, NULL), 0);
        for (unsigned i = 0; i < ACTORS * BLOCKS; i++)
            assert_true(load_le64(image + (size_t)i * RECORD_SECTOR) >=
                        answered[i / BLOCKS][i % BLOCKS]);
        for (unsigned pauses = 0; pauses < 30; pauses++)
            coroutine_co_pause();
    }
    free(image);
}

static void co_the_whole_log_is_the_image_and_each_flush_a_prefix(struct record_scene *scene)
{
    struct load load = {.scene = scene};
    struct group group;
    struct write_log log;
    uint8_t *image = calloc(1, RECORD_SIZE);
    assert_non_null(image);
    random_seed(&load.random, fixture_seed("record"));
    scene->fixture->disk.pauses_max = scene->log.pauses_max = 3;
    record_co_open(scene, RECORD_OPTIONS("log-super-update-interval", "7"));
    group_init(&group, scene->fixture->loop);
    for (unsigned i = 0; i < ACTORS; i++)
        group_start(&group, actor_entry, &load);
    group_start(&group, flusher_entry, &load);
    group_co_wait(&group);
    fixture_co_close(scene->fixture);
    record_open_log(scene, &log);
    assert_true(log.super.nr_entries > ACTORS * ROUNDS);
    assert_int_equal(write_log_replay(&log, UINT64_MAX, image, RECORD_SIZE, NULL), 0);
    assert_memory_equal(image, scene->fixture->disk.data, RECORD_SIZE);
    free(image);
}
RECORD_TEST(the_whole_log_is_the_image_and_each_flush_a_prefix)

/* Limits of the image that are no whole sectors: pieces are cut there, not here. */
static void co_limits_below_are_rounded_to_sectors(struct record_scene *scene)
{
    struct block_limits *limits = &scene->fixture->disk.limits;
    limits->request_alignment = 1;
    limits->transfer_bytes_max = 700;
    limits->zero_bytes_max = 70;
    limits->discard_bytes_max = 1500;
    record_co_open(scene, NULL);
    const struct block_limits *above = &scene->fixture->node->limits;
    assert_int_equal(above->request_alignment, RECORD_SECTOR);
    assert_int_equal(above->transfer_bytes_max, 512);
    assert_int_equal(above->zero_bytes_max, 0);
    assert_int_equal(above->discard_bytes_max, 1024);
    assert_int_equal(node_co_discard(scene->fixture->node, 0, 3000, 0), 0);
    assert_int_equal(node_co_zero(scene->fixture->node, 0, 3000, 0), 0);
}
RECORD_TEST(limits_below_are_rounded_to_sectors)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_log_has_the_layout_of_the_kernel),
        cmocka_unit_test(parts_of_sectors_are_recorded_as_whole_ones),
        cmocka_unit_test(an_odd_end_is_filled_up_with_zeroes),
        cmocka_unit_test(the_superblock_counts_when_it_must),
        cmocka_unit_test(what_ends_during_a_flush_stands_behind_it),
        cmocka_unit_test(changes_that_overlap_go_one_after_the_other),
        cmocka_unit_test(what_fails_is_a_mark),
        cmocka_unit_test(a_refusal_that_changed_nothing_is_not_recorded),
        cmocka_unit_test(an_image_does_not_go_on_without_its_record),
        cmocka_unit_test(a_read_only_image_leaves_the_log_alone),
        cmocka_unit_test(growth_is_a_mark_and_a_cut_is_refused),
        cmocka_unit_test(mistakes_are_refused_by_name),
        cmocka_unit_test(limits_below_are_rounded_to_sectors),
        cmocka_unit_test(the_whole_log_is_the_image_and_each_flush_a_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
