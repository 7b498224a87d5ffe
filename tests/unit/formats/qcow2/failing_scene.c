/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include "tests/unit/formats/qcow2/failing_scene.h"

#include <errno.h>
#include <stdio.h>

#include "block/buffer.h"
#include "block/coroutine.h"
#include "common/endian.h"
#include "common/log.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/image.h"
#include "formats/raw.h"
#include "tests/crash/no_memory.h"
#include "tests/unit/formats/qcow2/no_table.h"

#define FEATURES_AT 72
#define INCOMPATIBLE_LAST_BYTE 79

/* The second one is found by its name, and has the other disk. */
static struct block_driver disk_driver, named_driver;
static const struct block_driver *drivers[5];
static const struct scene *scene;

static void log_nothing(enum log_kind kind, const char *line)
{
    (void)kind;
    (void)line;
}

/* --- the disk -----------------------------------------------------------------------------------
 */

static int disk_co_reopen_prepare(struct block_node *node, struct block_reopen *reopen,
                                  struct error *err)
{
    (void)node;
    (void)reopen;
    (void)err;
    return 0;
}

static int disk_co_inactivate(struct block_node *node, struct error *err)
{
    (void)node;
    (void)err;
    return 0;
}

static int disk_co_stored_size(struct block_node *node, uint64_t *ret_size_bytes)
{
    *ret_size_bytes = ((const struct memory_disk *)node->state)->size_bytes;
    return 0;
}

static struct memory_disk *named_disk;

static int named_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    char address[32];
    if (strcmp(node_options_take(options, "filename"), "base") != 0)
        return error_set(err, -ENOENT, "there is no such file");
    node_options_take(options, "within");
    snprintf(address, sizeof(address), "%p", (void *)named_disk);
    int rc = node_options_set(options, "disk", address, err);
    return rc == 0 ? memory_drivers[0]->co_open(node, options, err) : rc;
}

static void make_drivers(void)
{
    static struct block_driver_admin admin;
    disk_driver = *memory_drivers[1]; /* growing */
    admin = *disk_driver.admin;
    admin.co_reopen_prepare = disk_co_reopen_prepare;
    admin.co_inactivate = disk_co_inactivate;
    admin.co_invalidate = disk_co_inactivate;
    admin.co_stored_size = disk_co_stored_size;
    disk_driver.name = "disk";
    disk_driver.admin = &admin;
    named_driver = *memory_drivers[0]; /* file */
    named_driver.co_open = named_co_open;
    drivers[0] = &disk_driver;
    drivers[1] = &named_driver;
    drivers[2] = &format_raw;
    drivers[3] = &format_qcow2;
}

/* --- opening ------------------------------------------------------------------------------------
 */

static struct node_options *options_of(struct stage *stage)
{
    struct node_options *options = node_options_new();
    assert_non_null(options);
    assert_int_equal(node_options_parse(options, scene->options ? scene->options : "", NULL), 0);
    node_options_set(options, "driver", "qcow2", NULL);
    memory_disk_options(&stage->fixture.disk, options, "file.", "disk");
    if (scene->has_backing)
        node_options_set(options, "backing.driver", "raw", NULL);
    if (scene->has_backing && !scene->has_names)
        memory_disk_options(&stage->other, options, "backing.file.", "disk");
    if (scene->image.has_data_file)
        memory_disk_options(&stage->other, options, "data-file.", "disk");
    return options;
}

static int co_open(struct stage *stage, struct node_options *options, struct error *err)
{
    struct fixture *fixture = &stage->fixture;
    int rc = block_co_open(&fixture->env, options, &fixture->node, err);
    if (rc == 0)
        rc = block_backend_new(&stage->backend, fixture->node, fixture->node->read_only, err);
    return rc;
}

static void co_open_well(struct stage *stage)
{
    struct error err = {.message = ""};
    if (co_open(stage, options_of(stage), &err) < 0)
        fail_msg("%s: %s", scene->name, err.message);
}

static void co_close(struct stage *stage)
{
    if (stage->backend)
        block_co_backend_free(stage->backend);
    stage->backend = NULL;
    fixture_co_close(&stage->fixture);
}

/* --- what is stored -----------------------------------------------------------------------------
 */

static uint8_t stored_at(uint64_t offset)
{
    return (uint8_t)(offset / 1000 + 1);
}

static void co_check_stored(struct stage *stage)
{
    static uint8_t data[SCENE_STORED_BYTES];
    assert_int_equal(fixture_co_read(stage->fixture.node, 0, data, SCENE_STORED_BYTES), 0);
    for (uint64_t i = 0; i < SCENE_STORED_BYTES; i++) {
        if (data[i] != stored_at(i))
            fail_msg("%s: byte %llu is %u, not %u", scene->name, (unsigned long long)i, data[i],
                     stored_at(i));
    }
}

int scene_co_write(struct stage *stage, uint64_t offset, uint64_t length, int byte, unsigned flags)
{
    static uint8_t data[1 << 20];
    memset(data, byte, length);
    return fixture_co_write(stage->fixture.node, offset, data, length, flags);
}

static void co_prepare(struct stage *stage)
{
    static const struct memory_bitmap bitmaps[] = {
        {.name = "one", .flags = QCOW2_BITMAP_AUTO, .granularity_bits = 9},
        {.name = "two", .flags = QCOW2_BITMAP_AUTO, .granularity_bits = 16},
        {.name = "off", .granularity_bits = 12},
    };
    static uint8_t data[SCENE_STORED_BYTES];
    struct memory_disk *disk = &stage->fixture.disk;
    const struct scene *wanted = scene;
    struct scene plain = *wanted;
    memory_image_make(disk, &scene->image);
    if (scene->has_bitmaps)
        memory_image_add_bitmaps(disk, bitmaps, sizeof(bitmaps) / sizeof(*bitmaps));
    if (scene->has_backing) { /* the options say which file it is */
        store_be64(disk->data + 8, 400);
        store_be32(disk->data + 16, 4);
        memcpy(disk->data + 400, "base", 4);
    }
    plain.options = NULL;
    scene = &plain;
    co_open_well(stage);
    for (uint64_t i = 0; i < SCENE_STORED_BYTES; i++)
        data[i] = stored_at(i);
    struct block_node *node = stage->fixture.node;
    assert_int_equal(fixture_co_write(node, 0, data, SCENE_STORED_BYTES, 0), 0);
    if (!scene->image.has_data_file)
        assert_int_equal(scene_co_write(stage, 65536, 65536, 77, BLOCK_COMPRESS), 0);
    assert_int_equal(scene_co_write(stage, 200000, 30000, 78, 0), 0);
    assert_int_equal(node_co_zero(node, 131072, 16384, 0), 0);
    co_close(stage);
    scene = wanted;
    if (scene->has_snapshot)
        memory_image_add_snapshot(disk);
    if (scene->damage)
        scene->damage(disk);
}

/* --- what fails ---------------------------------------------------------------------------------
 */

/* The last ones: in the middle of the call somebody else finds that the image is damaged. */
enum way {
    CALL_ONCE,
    CALL_ON,
    MEMORY_ONCE,
    MEMORY_ON,
    TABLE_ONCE,
    TABLE_ON,
    CALL_CORRUPT,
    TABLE_CORRUPT,
    WAY_COUNT
};

static bool is_of_memory(enum way way)
{
    return way == MEMORY_ONCE || way == MEMORY_ON;
}

static bool is_of_tables(enum way way)
{
    return way == TABLE_ONCE || way == TABLE_ON || way == TABLE_CORRUPT;
}

static void find_damage(void *arg)
{
    struct stage *stage = arg;
    struct qcow2_image *image = qcow2_of(stage->fixture.node);
    assert_int_equal(qcow2_co_corrupt(image, "it is the test's wish", "test", 0, 0), -EIO);
    stage->is_marking = false;
}

static void begin_to_find_damage(struct stage *stage)
{
    stage->calls_until_corrupt = stage->fixture.disk.log_count;
    stage->is_marking = true;
    assert_int_equal(coroutine_start(stage->fixture.loop, find_damage, stage), 0);
}

static void at_call(struct memory_disk *disk)
{
    begin_to_find_damage(disk->at_call_arg);
}

static void at_table(void *arg)
{
    begin_to_find_damage(arg);
}

static void arm(struct stage *stage, struct memory_disk *disk, enum way way, unsigned at)
{
    memory_disk_forget_calls(disk);
    disk->fail_code = way == CALL_ONCE || way == CALL_ON ? -EIO : 0;
    disk->fail_at_call = way == CALL_ONCE || way == CALL_CORRUPT ? at : UINT64_MAX;
    disk->fail_from_call = way == CALL_ON ? at : UINT64_MAX;
    disk->at_call = way == CALL_CORRUPT ? at_call : NULL;
    disk->at_call_arg = stage;
}

static bool disarm(struct stage *stage, enum way way, unsigned at)
{
    bool has_failed_table = no_table_disarm() > 0;
    bool happened = is_of_tables(way) ? has_failed_table : crash_no_memory_failed() > 0;
    crash_no_memory_disarm();
    if (!is_of_memory(way) && !is_of_tables(way))
        happened = stage->fixture.disk.call_count > at || stage->other.call_count > at;
    stage->fixture.disk.fail_code = stage->other.fail_code = 0;
    stage->fixture.disk.at_call = stage->other.at_call = NULL;
    return happened;
}

static void check_sound(const struct stage *stage)
{
    struct memory_image_faults faults = memory_image_check(&stage->fixture.disk);
    if (faults.errors > 0)
        fail_msg("%s: %u errors", scene->name, faults.errors);
}

/* Nothing was written but the mark, which is taken away. */
static void check_left_alone(struct stage *stage, unsigned at)
{
    struct memory_disk *disk = &stage->fixture.disk;
    for (unsigned i = stage->calls_until_corrupt; i < disk->log_count; i++) {
        enum memory_op op = disk->log[i].op;
        if (op == MEMORY_WRITE && disk->log[i].offset == FEATURES_AT)
            continue;
        if (op == MEMORY_WRITE || op == MEMORY_ZERO || op == MEMORY_DISCARD || op == MEMORY_RESIZE)
            fail_msg("%s, %u: a call %d at 0x%llx after the image was found to be corrupt",
                     scene->name, at, op, (unsigned long long)disk->log[i].offset);
    }
    assert_true(disk->data[INCOMPATIBLE_LAST_BYTE] & QCOW2_INCOMPATIBLE_CORRUPT);
    disk->data[INCOMPATIBLE_LAST_BYTE] &= (uint8_t)~QCOW2_INCOMPATIBLE_CORRUPT;
}

/* Nothing fails any more. */
static void co_do_well(struct stage *stage)
{
    struct error err = {.message = ""};
    co_open_well(stage);
    co_check_stored(stage);
    if (!scene->is_opening && scene->co_do(stage, &err) < 0)
        fail_msg("%s: %s", scene->name, err.message);
    co_check_stored(stage);
    co_close(stage);
    check_sound(stage);
}

/* So that who wants one must ask for memory. Nothing is in flight. */
static void forget_buffers(struct stage *stage)
{
    struct buffer_pool *pool = &block_env_local(&stage->fixture.env)->buffers;
    buffer_pool_fini(pool);
    buffer_pool_init(pool);
}

static bool co_fail(struct stage *stage, enum way way, unsigned at)
{
    struct error err = {.message = ""};
    struct node_options *options = options_of(stage);
    bool is_damage = way == CALL_CORRUPT || way == TABLE_CORRUPT;
    int rc = 0;
    if (!scene->is_opening) {
        assert_int_equal(co_open(stage, options, &err), 0);
        options = NULL;
    }
    forget_buffers(stage);
    arm(stage, &stage->fixture.disk, way, at);
    arm(stage, &stage->other, way, at);
    crash_no_memory_arm(is_of_memory(way) ? at + 1 : 0, way == MEMORY_ON);
    if (way == TABLE_CORRUPT)
        no_table_arm_hook(at + 1, at_table, stage);
    else if (is_of_tables(way))
        no_table_arm(at + 1, way == TABLE_ON);
    rc = scene->is_opening ? co_open(stage, options, &err) : scene->co_do(stage, &err);
    bool happened = disarm(stage, way, at);
    while (stage->is_marking)
        coroutine_co_pause();
    if (rc < 0 && rc != -EIO && rc != -ENOMEM && rc != (is_damage ? -EACCES : 0))
        fail_msg("%s, way %u, %u: %d, %s", scene->name, way, at, rc, err.message);
    if (rc < 0 && !happened)
        fail_msg("%s: %s", scene->name, err.message);
    co_close(stage);
    if (is_damage && happened)
        check_left_alone(stage, at);
    /* One that is dirty is repaired by the next opening. */
    bool is_dirty = stage->fixture.disk.data[INCOMPATIBLE_LAST_BYTE] & QCOW2_INCOMPATIBLE_DIRTY;
    if (!scene->damage && !is_dirty)
        check_sound(stage);
    co_do_well(stage);
    return happened;
}

static unsigned stride_of_scene(void)
{
    const char *given = getenv("PLATTER_FAILURES_STRIDE");
    unsigned stride = given ? (unsigned)strtoul(given, NULL, 10) : 17;
    assert_true(stride > 0);
    return scene->stride > 0 ? scene->stride * stride : stride;
}

static void co_play(struct fixture *fixture, void *arg)
{
    struct stage *stage = arg;
    static uint8_t file[SCENE_CAPACITY_BYTES], other[SCENE_CAPACITY_BYTES];
    uint64_t file_bytes, other_bytes;
    (void)fixture;
    co_prepare(stage);
    memcpy(file, stage->fixture.disk.data, SCENE_CAPACITY_BYTES);
    memcpy(other, stage->other.data, SCENE_CAPACITY_BYTES);
    file_bytes = stage->fixture.disk.size_bytes;
    other_bytes = stage->other.size_bytes;
    for (enum way way = 0; way < (scene->is_opening || scene->gives_up ? CALL_CORRUPT : WAY_COUNT);
         way++) {
        unsigned stride = stride_of_scene(), at = (unsigned)way % stride;
        bool is_thinned = is_of_tables(way) && !scene->fails_each_table;
        bool happened = true;
        for (; happened; at += stride + (is_thinned ? at / 256 : 0)) {
            memcpy(stage->fixture.disk.data, file, SCENE_CAPACITY_BYTES);
            memcpy(stage->other.data, other, SCENE_CAPACITY_BYTES);
            stage->fixture.disk.size_bytes = file_bytes;
            stage->other.size_bytes = other_bytes;
            happened = co_fail(stage, way, at);
        }
        print_message("%s way %u: %u\n", scene->name, way, at);
    }
}

void scene_play(const struct scene *wanted)
{
    struct stage stage = {.scene = wanted};
    scene = wanted;
    make_drivers();
    log_set_sink(log_nothing); /* of each failure a line */
    named_disk = &stage.other;
    fixture_init(&stage.fixture, drivers, 0, SCENE_CAPACITY_BYTES, 1);
    memory_disk_init(&stage.other, SCENE_OTHER_BYTES, SCENE_CAPACITY_BYTES, 1);
    memset(stage.other.data, 55, SCENE_OTHER_BYTES);
    fixture_run(&stage.fixture, co_play, &stage);
    fixture_fini(&stage.fixture);
    memory_disk_fini(&stage.other);
}
