/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whatever an image is asked to do, with each call of its files failing in turn, each allocation,
 * and each table that the cache is asked for: once, and from then on. Afterwards there is an error
 * or the effect, the image makes sense, what was stored is there, and the same succeeds when
 * nothing fails any more.
 *
 * The linker sends allocations to tests/crash/no_memory.c, and calls of the cache to no_table.c.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/activity.h"
#include "block/buffer.h"
#include "block/coroutine.h"
#include "block/reopen.h"
#include "common/endian.h"
#include "common/log.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/bitmaps.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/resize.h"
#include "formats/qcow2/writer.h"
#include "formats/raw.h"
#include "tests/crash/no_memory.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"
#include "tests/unit/formats/qcow2/no_table.h"

#define CAPACITY_BYTES ((2u << 20) + (128u << 10))
#define STORED_BYTES 40000u /* at the front of the disk, which no scene changes */
#define FEATURES_AT 72
#define INCOMPATIBLE_LAST_BYTE 79

/* What is open: the image's backend, above fixture.node. */
struct stage {
    struct fixture fixture;
    struct memory_disk other; /* a backing or data file */
    struct block_backend *backend;
    unsigned calls_until_corrupt; /* of the file, when that was found */
    bool is_marking;
};

struct scene {
    const char *name;
    struct memory_image image;
    const char *options;
    bool has_backing, has_bitmaps, has_snapshot;
    bool gives_up;   /* to write; nobody can find damage then, since nothing else is in flight */
    bool is_opening; /* what fails is the opening */
    void (*damage)(struct memory_disk *disk); /* of the image, which is prepared and closed */
    int (*co_do)(struct stage *stage, struct error *err); /* the first error */
};

static struct block_driver disk_driver;
static const struct block_driver *drivers[4];
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

/* --- opening ------------------------------------------------------------------------------------
 */

static struct node_options *options_of(struct stage *stage)
{
    struct node_options *options = node_options_new();
    assert_non_null(options);
    assert_int_equal(node_options_parse(options, scene->options ? scene->options : "", NULL), 0);
    node_options_set(options, "driver", "qcow2", NULL);
    memory_disk_options(&stage->fixture.disk, options, "file.", "disk");
    if (scene->has_backing) {
        node_options_set(options, "backing.driver", "raw", NULL);
        memory_disk_options(&stage->other, options, "backing.file.", "disk");
    } else if (scene->image.has_data_file) {
        memory_disk_options(&stage->other, options, "data-file.", "disk");
    }
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
    static uint8_t data[STORED_BYTES];
    assert_int_equal(fixture_co_read(stage->fixture.node, 0, data, STORED_BYTES), 0);
    for (uint64_t i = 0; i < STORED_BYTES; i++) {
        if (data[i] != stored_at(i))
            fail_msg("%s: byte %llu is %u, not %u", scene->name, (unsigned long long)i, data[i],
                     stored_at(i));
    }
}

static int co_write(struct stage *stage, uint64_t offset, uint64_t length, int byte, unsigned flags)
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
    static uint8_t data[STORED_BYTES];
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
    for (uint64_t i = 0; i < STORED_BYTES; i++)
        data[i] = stored_at(i);
    struct block_node *node = stage->fixture.node;
    assert_int_equal(fixture_co_write(node, 0, data, STORED_BYTES, 0), 0);
    if (!scene->image.has_data_file)
        assert_int_equal(co_write(stage, 65536, 65536, 77, BLOCK_COMPRESS), 0);
    assert_int_equal(co_write(stage, 200000, 30000, 78, 0), 0);
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

/* CORRUPT: in the middle of the call somebody else finds that the image is damaged. */
enum way { CALL_ONCE, CALL_ON, MEMORY_ONCE, MEMORY_ON, TABLE_ONCE, TABLE_ON, CORRUPT, WAY_COUNT };

static bool is_of_memory(enum way way)
{
    return way == MEMORY_ONCE || way == MEMORY_ON;
}

static bool is_of_tables(enum way way)
{
    return way == TABLE_ONCE || way == TABLE_ON;
}

static void find_damage(void *arg)
{
    struct stage *stage = arg;
    struct qcow2_image *image = qcow2_of(stage->fixture.node);
    assert_int_equal(qcow2_co_corrupt(image, "it is the test's wish", "test", 0, 0), -EIO);
    stage->is_marking = false;
}

static void at_call(struct memory_disk *disk)
{
    struct stage *stage = disk->at_call_arg;
    stage->calls_until_corrupt = stage->fixture.disk.log_count;
    stage->is_marking = true;
    assert_int_equal(coroutine_start(stage->fixture.loop, find_damage, stage), 0);
}

static void arm(struct stage *stage, struct memory_disk *disk, enum way way, unsigned at)
{
    memory_disk_forget_calls(disk);
    disk->fail_code = way == CALL_ONCE || way == CALL_ON ? -EIO : 0;
    disk->fail_at_call = way == CALL_ONCE || way == CORRUPT ? at : UINT64_MAX;
    disk->fail_from_call = way == CALL_ON ? at : UINT64_MAX;
    disk->at_call = way == CORRUPT ? at_call : NULL;
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
    int rc = 0;
    if (!scene->is_opening) {
        assert_int_equal(co_open(stage, options, &err), 0);
        options = NULL;
    }
    forget_buffers(stage);
    arm(stage, &stage->fixture.disk, way, at);
    arm(stage, &stage->other, way, at);
    crash_no_memory_arm(is_of_memory(way) ? at + 1 : 0, way == MEMORY_ON);
    if (is_of_tables(way))
        no_table_arm(at + 1, way == TABLE_ON);
    rc = scene->is_opening ? co_open(stage, options, &err) : scene->co_do(stage, &err);
    bool happened = disarm(stage, way, at);
    while (stage->is_marking)
        coroutine_co_pause();
    if (rc < 0 && rc != -EIO && rc != -ENOMEM && rc != (way == CORRUPT ? -EACCES : 0))
        fail_msg("%s, way %u, %u: %d, %s", scene->name, way, at, rc, err.message);
    if (rc < 0 && !happened)
        fail_msg("%s: %s", scene->name, err.message);
    co_close(stage);
    if (way == CORRUPT && happened)
        check_left_alone(stage, at);
    /* One that is dirty is repaired by the next opening. */
    bool is_dirty = stage->fixture.disk.data[INCOMPATIBLE_LAST_BYTE] & QCOW2_INCOMPATIBLE_DIRTY;
    if (!scene->damage && !is_dirty)
        check_sound(stage);
    co_do_well(stage);
    return happened;
}

/* With small clusters there are many calls that are alike. */
static unsigned stride_of_scene(void)
{
    const char *given = getenv("PLATTER_FAILURES_STRIDE");
    unsigned stride = given ? (unsigned)strtoul(given, NULL, 10) : 11;
    assert_true(stride > 0);
    return scene->image.cluster_bits == 9 ? 5 * stride : stride;
}

static void co_play(struct fixture *fixture, void *arg)
{
    struct stage *stage = arg;
    static uint8_t file[CAPACITY_BYTES], other[CAPACITY_BYTES];
    uint64_t file_bytes, other_bytes;
    (void)fixture;
    co_prepare(stage);
    memcpy(file, stage->fixture.disk.data, CAPACITY_BYTES);
    memcpy(other, stage->other.data, CAPACITY_BYTES);
    file_bytes = stage->fixture.disk.size_bytes;
    other_bytes = stage->other.size_bytes;
    for (enum way way = 0; way < (scene->is_opening || scene->gives_up ? CORRUPT : WAY_COUNT);
         way++) {
        unsigned stride = stride_of_scene(), at = (unsigned)way % stride;
        bool happened = true;
        for (; happened; at += stride + (is_of_tables(way) ? at / 64 : 0)) {
            memcpy(stage->fixture.disk.data, file, CAPACITY_BYTES);
            memcpy(stage->other.data, other, CAPACITY_BYTES);
            stage->fixture.disk.size_bytes = file_bytes;
            stage->other.size_bytes = other_bytes;
            happened = co_fail(stage, way, at);
        }
        print_message("%s way %u: %u\n", scene->name, way, at);
    }
}

static void play(const struct scene *wanted)
{
    struct stage stage = {.backend = NULL};
    scene = wanted;
    fixture_init(&stage.fixture, drivers, 0, CAPACITY_BYTES, 1);
    memory_disk_init(&stage.other, 1 << 20, CAPACITY_BYTES, 1);
    memset(stage.other.data, 55, 1 << 20);
    fixture_run(&stage.fixture, co_play, &stage);
    fixture_fini(&stage.fixture);
    memory_disk_fini(&stage.other);
}

/* --- scenes -------------------------------------------------------------------------------------
 */

#define FIRST_ERROR(...)                                               \
    do {                                                               \
        const int codes[] = {__VA_ARGS__};                             \
        for (size_t i_ = 0; i_ < sizeof(codes) / sizeof(*codes); i_++) \
            rc = rc < 0 ? rc : codes[i_];                              \
    } while (0)

static int co_requests(struct stage *stage, struct error *err)
{
    static uint8_t data[300000];
    struct block_node *node = stage->fixture.node;
    struct block_extent extent;
    int rc = 0;
    (void)err;
    FIRST_ERROR(fixture_co_read(node, STORED_BYTES, data, sizeof(data)),
                node_co_status(node, 0, 300000, &extent), node_co_cache(node, 0, 300000),
                co_write(stage, 210000, 600, 1, 0), co_write(stage, 66000, 100, 2, 0),
                co_write(stage, 300000, 100000, 3, 0), node_co_flush(node),
                node_co_zero(node, 198000, 70000, 0),
                node_co_zero(node, 300100, 33000, BLOCK_NO_UNMAP),
                node_co_discard(node, 65536, 131072, 0), node_co_flush(node),
                co_write(stage, 131072, 1, 4, 0), node_co_flush(node));
    if (!scene->image.has_data_file)
        FIRST_ERROR(co_write(stage, 401408, 24576, 5, BLOCK_COMPRESS), node_co_flush(node));
    return rc;
}

static int co_check(struct stage *stage, struct error *err)
{
    struct qcow2_check check;
    int rc = qcow2_co_check(stage->fixture.node, NULL, NULL, &check, err);
    return rc == 0 && check.unreadable > 0 ? -EIO : rc;
}

static int co_resize_to(struct stage *stage, uint64_t size, bool has_tables, struct error *err)
{
    struct block_node *node = stage->fixture.node;
    struct qcow2_resize resize = {.size_bytes = size, .may_shrink = true, .has_tables = has_tables};
    uint64_t before = atomic_load(&node->size_bytes);
    int rc = qcow2_co_resize_as(node, &resize, err);
    assert_int_equal(atomic_load(&node->size_bytes), rc == 0 ? size : before);
    assert_true(rc == 0 || err->message[0] != '\0');
    return rc;
}

static int co_resizes(struct stage *stage, struct error *err)
{
    int rc = co_resize_to(stage, 585 * 512, false, err);
    if (rc == 0)
        rc = co_resize_to(stage, 1 << 20, true, err);
    if (rc == 0)
        rc = co_write(stage, 900000, 100000, 9, 0);
    if (rc == 0) /* with small clusters tables move */
        rc = co_resize_to(stage, scene->image.cluster_bits == 9 ? 200 << 20 : 2 << 20, false, err);
    return rc == 0 ? co_resize_to(stage, 524288 - 512, false, err) : rc;
}

static int co_reopen(struct stage *stage, const char *text, struct error *err)
{
    bool was_armed = crash_no_memory_disarm();
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_parse(options, text, NULL), 0);
    crash_no_memory_rearm(was_armed);
    int rc = block_co_reopen(stage->backend, options, err);
    assert_true(rc == 0 || err->message[0] != '\0');
    return rc;
}

static int co_reopens(struct stage *stage, struct error *err)
{
    int rc = co_write(stage, 100000, 5000, 1, 0);
    if (rc == 0)
        rc = co_reopen(stage, "read-only=on", err);
    if (rc == 0)
        rc = co_reopen(stage, "read-only=off,l2-cache-size=64k", err);
    if (rc == 0)
        rc = co_write(stage, 100000, 5000, 2, 0);
    return rc == 0 ? co_reopen(stage, "lazy-refcounts=off,cache-size=1M", err) : rc;
}

static int co_leave_and_take(struct stage *stage, struct error *err)
{
    int rc = co_write(stage, 100000, 5000, 1, 0);
    if (rc == 0)
        rc = block_co_inactivate(stage->backend, err);
    if (rc < 0)
        return rc;
    rc = block_co_invalidate(stage->backend, err);
    return rc == 0 ? co_write(stage, 100000, 5000, 2, 0) : rc;
}

static int co_store_bitmaps(struct stage *stage, struct error *err)
{
    (void)err;
    int rc = co_write(stage, 100000, 5000, 1, 0);
    return rc == 0 ? qcow2_bitmaps_co_store(qcow2_of(stage->fixture.node)) : rc;
}

/* What comes next is taken behind the end of what a refcount table of one cluster can count. */
static int co_grow_refcounts(struct stage *stage, struct error *err)
{
    (void)err;
    struct qcow2_image *image = qcow2_of(stage->fixture.node);
    uint64_t entries = image->geometry.cluster_bytes / 8;
    image->writer->free_hint = entries << image->geometry.refcount_block_bits;
    int rc = co_write(stage, 300000, 20000, 8, 0);
    return rc == 0 ? node_co_flush(stage->fixture.node) : rc;
}

/* All counts are lost. */
static void make_dirty(struct memory_disk *disk)
{
    uint64_t table = load_be64(disk->data + 48);
    uint64_t cluster_bytes = UINT64_C(1) << load_be32(disk->data + 20);
    disk->data[INCOMPATIBLE_LAST_BYTE] |= QCOW2_INCOMPATIBLE_DIRTY;
    memset(disk->data + load_be64(disk->data + table), 0, cluster_bytes);
}

/* Some clusters of the file are nobody's. */
static void make_leaks(struct memory_disk *disk)
{
    uint64_t block = load_be64(disk->data + load_be64(disk->data + 48));
    uint32_t bits = load_be32(disk->data + 20), order = load_be32(disk->data + 96);
    for (uint32_t i = 0; i < 3; i++, disk->size_bytes += UINT64_C(1) << bits)
        qcow2_refcount_set(disk->data + block, order, (uint32_t)(disk->size_bytes >> bits), 1);
}

#define SMALL                                                         \
    {                                                                 \
        .cluster_bits = 12, .refcount_order = 4, .disk_bytes = 524288 \
    }
#define TINY                                                               \
    {                                                                      \
        .cluster_bits = 9, .refcount_order = 6, .disk_bytes = 524288 - 512 \
    }
#define EXTENDED                                                                           \
    {                                                                                      \
        .cluster_bits = 14, .refcount_order = 4, .is_extended = true, .disk_bytes = 524288 \
    }
#define EXTERNAL                                                                             \
    {                                                                                        \
        .cluster_bits = 12, .refcount_order = 4, .has_data_file = true, .disk_bytes = 524288 \
    }

#define SCENES(X)                                                                                  \
    X(requests, .image = SMALL, .has_bitmaps = true, .co_do = co_requests)                         \
    X(requests_of_small_clusters, .image = TINY, .co_do = co_requests)                             \
    X(requests_above_a_backing_file, .image = EXTENDED, .has_backing = true, .co_do = co_requests) \
    X(requests_to_a_data_file, .image = EXTERNAL, .co_do = co_requests)                            \
    X(requests_beside_a_snapshot, .image = SMALL, .has_snapshot = true, .co_do = co_requests)      \
    X(lazy_requests, .image = SMALL, .options = "lazy-refcounts=on", .co_do = co_requests)         \
    X(a_check, .image = SMALL, .has_bitmaps = true, .has_snapshot = true, .co_do = co_check)       \
    X(new_sizes, .image = SMALL, .has_bitmaps = true, .co_do = co_resizes)                         \
    X(new_sizes_of_small_clusters, .image = TINY, .has_bitmaps = true, .co_do = co_resizes)        \
    X(new_sizes_above_a_backing_file, .image = EXTENDED, .has_backing = true, .co_do = co_resizes) \
    X(a_larger_refcount_table, .image = TINY, .co_do = co_grow_refcounts)                          \
    X(new_sizes_of_a_data_file, .image = EXTERNAL, .co_do = co_resizes)                            \
    X(bitmaps_that_are_stored, .image = SMALL, .has_bitmaps = true, .co_do = co_store_bitmaps)     \
    X(a_reopening, .gives_up = true, .image = SMALL, .has_bitmaps = true, .co_do = co_reopens)     \
    X(a_turn_of_another_server, .gives_up = true, .image = SMALL, .has_bitmaps = true,             \
      .has_snapshot = true, .has_backing = true, .co_do = co_leave_and_take)                       \
    X(an_opening, .image = SMALL, .has_bitmaps = true, .has_snapshot = true, .has_backing = true,  \
      .is_opening = true)                                                                          \
    X(an_opening_with_a_data_file, .image = EXTERNAL, .is_opening = true)                          \
    X(an_opening_of_a_snapshot, .image = SMALL, .has_snapshot = true,                              \
      .options = "read-only=on,load-snapshot=then", .is_opening = true)                            \
    X(a_repair, .image = SMALL, .has_bitmaps = true, .has_snapshot = true, .damage = make_dirty,   \
      .is_opening = true)                                                                          \
    X(a_repair_of_small_clusters, .image = TINY, .damage = make_dirty, .is_opening = true)         \
    X(a_repair_of_leaks, .image = SMALL, .has_snapshot = true, .options = "repair=leaks",          \
      .damage = make_leaks, .is_opening = true)

#define DEFINE(title, ...)                                         \
    static void failures_of_##title(void **state)                  \
    {                                                              \
        const struct scene wanted = {.name = #title, __VA_ARGS__}; \
        (void)state;                                               \
        play(&wanted);                                             \
    }
SCENES(DEFINE)

int main(void)
{
#define LIST(title, ...) cmocka_unit_test(failures_of_##title),
    const struct CMUnitTest tests[] = {SCENES(LIST)};
    static struct block_driver_admin admin;
    disk_driver = *memory_drivers[1]; /* growing */
    admin = *disk_driver.admin;
    admin.co_reopen_prepare = disk_co_reopen_prepare;
    admin.co_inactivate = disk_co_inactivate;
    admin.co_invalidate = disk_co_inactivate;
    admin.co_stored_size = disk_co_stored_size;
    disk_driver.name = "disk";
    disk_driver.admin = &admin;
    drivers[0] = &disk_driver;
    drivers[1] = &format_raw;
    drivers[2] = &format_qcow2;
    log_set_sink(log_nothing); /* of each failure a line */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
