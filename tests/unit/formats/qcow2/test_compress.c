/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Compressed writes of an image in memory: right against an array among all other requests, several
 * clusters in one place, counted exactly, without a leak after the close, and with a failure at
 * each call of the file below in turn. qemu-img judges them in tests/integration/qcow2-compress.sh.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <limits.h>

#include "block/coroutine.h"
#include "common/random.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/writer.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define DISK_BYTES (1u << 20)
#define CAPACITY_BYTES (8u << 20)
#define SECTOR 512

static const struct block_driver *drivers[3];

static const struct memory_image shapes[] = {
    {.cluster_bits = 9, .refcount_order = 4, .disk_bytes = DISK_BYTES},
    {.cluster_bits = 12, .refcount_order = 0, .disk_bytes = DISK_BYTES}, /* nothing is shared */
    {.cluster_bits = 12, .refcount_order = 1, .disk_bytes = DISK_BYTES}, /* by three at most */
    {.cluster_bits = 16, .refcount_order = 4, .disk_bytes = DISK_BYTES - SECTOR},
    {.cluster_bits = 14, .refcount_order = 4, .is_extended = true, .disk_bytes = DISK_BYTES},
};

static uint8_t model[DISK_BYTES];
static bool is_open[DISK_BYTES / SECTOR]; /* a request failed there: anything of its own */
static unsigned failed;

static void set_up(struct fixture *fixture, const struct memory_image *image, uint64_t seed)
{
    drivers[0] = memory_drivers[1]; /* growing */
    drivers[1] = &format_qcow2;
    fixture_init(fixture, drivers, 0, CAPACITY_BYTES, seed);
    memory_image_make(&fixture->disk, image);
    memset(model, 0, sizeof(model));
    memset(is_open, 0, sizeof(is_open));
    failed = 0;
}

static void co_open(struct fixture *fixture)
{
    struct error err;
    struct node_options *options = node_options_new();
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    node_options_set(options, "driver", "qcow2", NULL);
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
}

static uint64_t size_of(const struct fixture *fixture)
{
    return atomic_load(&fixture->node->size_bytes);
}

static void note(int rc, uint64_t offset, const uint8_t *data, uint64_t length)
{
    if (rc == 0) {
        memcpy(model + offset, data, length);
        return;
    }
    assert_true(rc == -EIO || rc == -ENOSPC);
    failed++;
    for (uint64_t i = offset / SECTOR; i <= (offset + length - 1) / SECTOR; i++)
        is_open[i] = true;
}

/* byte 0: bytes that do not compress. */
static void co_write(struct fixture *fixture, uint64_t offset, uint64_t length, uint8_t byte,
                     unsigned flags)
{
    static uint8_t data[DISK_BYTES];
    for (uint64_t i = 0; i < length; i++)
        data[i] = byte ? byte : (uint8_t)random_u64(&fixture->disk.random);
    note(fixture_co_write(fixture->node, offset, data, length, flags), offset, data, length);
}

static void co_zero(struct fixture *fixture, uint64_t offset, uint64_t length)
{
    static const uint8_t zeroes[DISK_BYTES];
    note(node_co_zero(fixture->node, offset, length, 0), offset, zeroes, length);
}

static void co_check(struct fixture *fixture)
{
    static uint8_t data[DISK_BYTES];
    uint64_t size = size_of(fixture);
    assert_int_equal(fixture_co_read(fixture->node, 0, data, size), 0);
    for (uint64_t i = 0; i < size; i++) {
        if (!is_open[i / SECTOR] && data[i] != model[i])
            fail_msg("byte %llu reads as %u, not %u", (unsigned long long)i, data[i], model[i]);
    }
}

static void judge(const struct fixture *fixture, unsigned leaks_max)
{
    struct memory_image_faults faults = memory_image_check(&fixture->disk);
    assert_int_equal(faults.errors, 0);
    assert_true(faults.leaks <= leaks_max);
}

/* --- what is written ----------------------------------------------------------------------------
 */

static void co_pack(struct fixture *fixture, void *arg)
{
    const struct memory_image *image = arg;
    uint64_t cluster = UINT64_C(1) << image->cluster_bits;
    co_open(fixture);
    uint64_t size = size_of(fixture), before = fixture->disk.size_bytes;
    co_write(fixture, 0, size, 7, BLOCK_COMPRESS);
    assert_int_equal(node_co_flush(fixture->node), 0);
    co_check(fixture);
    fixture_co_close(fixture);
    judge(fixture, 0);
    uint64_t taken = fixture->disk.size_bytes - before;
    if (image->refcount_order >= 4 && cluster >= 4096)
        assert_true(taken <= 3 * cluster); /* an L2 table, and all data in one or two */
    if (image->refcount_order == 0)
        assert_true(taken > size); /* each guest cluster has one of its own */
    co_open(fixture);
    co_check(fixture);
    fixture_co_close(fixture);
}

static void what_compresses_shares_its_clusters(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct fixture fixture;
        set_up(&fixture, &shapes[i], 1);
        fixture_run(&fixture, co_pack, (void *)(uintptr_t)&shapes[i]);
        fixture_fini(&fixture);
    }
}

/* Whether a cluster is compressed, as its L2 entry says: seen from outside. */
static unsigned compressed_count(const struct memory_disk *disk)
{
    return memory_image_check(disk).compressed;
}

static void co_kinds(struct fixture *fixture, void *arg)
{
    const struct memory_image *image = arg;
    uint64_t cluster = UINT64_C(1) << image->cluster_bits;
    uint64_t size;
    co_open(fixture);
    size = size_of(fixture);
    co_write(fixture, 0, cluster, 1, BLOCK_COMPRESS);               /* this one */
    co_write(fixture, cluster, cluster, 0, BLOCK_COMPRESS);         /* does not become smaller */
    co_write(fixture, 2 * cluster, cluster / 2, 2, BLOCK_COMPRESS); /* is not whole */
    co_write(fixture, 3 * cluster + 1, 2 * cluster, 3, BLOCK_COMPRESS); /* one of three is */
    co_write(fixture, (size - 1) / cluster * cluster, (size - 1) % cluster + 1, 4, BLOCK_COMPRESS);
    co_write(fixture, 6 * cluster, cluster, 5, 0);
    co_check(fixture);
    fixture_co_close(fixture);
    judge(fixture, 0);
    assert_int_equal(compressed_count(&fixture->disk), 3);
    co_open(fixture);
    co_write(fixture, 6 * cluster, cluster, 6, BLOCK_COMPRESS); /* over data */
    co_write(fixture, 0, cluster, 7, BLOCK_COMPRESS);           /* over a compressed one */
    co_write(fixture, 3 * cluster, cluster, 8, 0);
    co_zero(fixture, 4 * cluster, cluster);
    co_check(fixture);
    fixture_co_close(fixture);
    judge(fixture, 0);
    assert_int_equal(compressed_count(&fixture->disk), 3);
}

static void whole_clusters_that_become_smaller_are_compressed(void **state)
{
    (void)state;
    for (size_t i = 1; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct fixture fixture;
        set_up(&fixture, &shapes[i], 1);
        fixture_run(&fixture, co_kinds, (void *)(uintptr_t)&shapes[i]);
        fixture_fini(&fixture);
    }
}

/* --- any order ----------------------------------------------------------------------------------
 */

static void co_step(struct fixture *fixture, const struct memory_image *image)
{
    struct random *random = &fixture->disk.random;
    uint64_t cluster = UINT64_C(1) << image->cluster_bits, size = size_of(fixture);
    uint64_t offset = random_below(random, size);
    uint64_t length = 1 + random_below(random, size - offset < 100000 ? size - offset : 100000);
    uint8_t byte = random_once_in(random, 4) ? 0 : (uint8_t)(1 + random_below(random, 255));
    switch (random_below(random, 8)) {
    case 0:
        co_write(fixture, offset, length, byte, 0);
        break;
    case 1:
        co_zero(fixture, offset, length);
        break;
    case 2:
        assert_int_equal(node_co_flush(fixture->node), 0);
        break;
    case 3: /* so that decompressed clusters are remembered */
        co_check(fixture);
        break;
    default:
        offset = offset / cluster * cluster;
        length = (length / cluster + 1) * cluster;
        co_write(fixture, offset, length < size - offset ? length : size - offset, byte,
                 BLOCK_COMPRESS);
    }
}

static void co_mix(struct fixture *fixture, void *arg)
{
    const struct memory_image *image = arg;
    for (unsigned life = 0; life < 3; life++) {
        co_open(fixture);
        co_check(fixture);
        for (unsigned step = 0; step < 60; step++)
            co_step(fixture, image);
        co_check(fixture);
        fixture_co_close(fixture);
        judge(fixture, 0);
    }
    assert_int_equal(failed, 0);
}

static void compressed_and_other_writes_in_any_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct fixture fixture;
        set_up(&fixture, &shapes[i], 20 + i);
        fixture_run(&fixture, co_mix, (void *)(uintptr_t)&shapes[i]);
        fixture_fini(&fixture);
    }
}

/* --- failures -----------------------------------------------------------------------------------
 */

struct failing {
    const struct memory_image *image;
    uint64_t at;
    int code;
    bool happened;
};

static void co_work(struct fixture *fixture, const struct memory_image *image)
{
    uint64_t cluster = UINT64_C(1) << image->cluster_bits;
    co_write(fixture, 0, 4 * cluster, 1, BLOCK_COMPRESS);
    co_write(fixture, cluster, cluster, 2, BLOCK_COMPRESS);
    co_write(fixture, 2 * cluster, cluster, 0, BLOCK_COMPRESS);
    node_co_flush(fixture->node);
    co_write(fixture, 100, 200, 3, 0);
    co_write(fixture, 3 * cluster, 3 * cluster, 4, BLOCK_COMPRESS);
    node_co_flush(fixture->node);
    co_write(fixture, 5 * cluster, cluster, 5, BLOCK_COMPRESS);
}

static void co_fail(struct fixture *fixture, void *arg)
{
    struct failing *failing = arg;
    struct memory_disk *disk = &fixture->disk;
    co_open(fixture);
    memory_disk_forget_calls(disk);
    disk->fail_at_call = failing->at;
    disk->fail_code = failing->code;
    co_work(fixture, failing->image);
    failing->happened = disk->call_count > failing->at;
    bool was_flush = failing->at < MEMORY_LOG_MAX && disk->log[failing->at].op == MEMORY_FLUSH;
    disk->fail_code = 0;
    co_check(fixture);
    fixture_co_close(fixture);
    judge(fixture, was_flush && failing->happened ? UINT_MAX : 0);
    if (was_flush)
        return;
    co_open(fixture);
    co_check(fixture);
    fixture_co_close(fixture);
}

static void a_failure_at_each_call_loses_and_leaks_nothing(void **state)
{
    (void)state;
    for (size_t i = 1; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct failing failing = {.image = &shapes[i], .happened = true};
        for (; failing.happened; failing.at++) {
            struct fixture fixture;
            failing.code = failing.at % 2 ? -EIO : -ENOSPC;
            set_up(&fixture, &shapes[i], 1);
            fixture_run(&fixture, co_fail, &failing);
            fixture_fini(&fixture);
        }
        assert_true(failing.at > 10);
    }
}

/* Behind compressed data in the same cluster nobody takes a new one, so it is looked at what the
 * cluster is: here a table by now. */
static void co_try_to_share_a_table(struct fixture *fixture, void *arg)
{
    static uint8_t before[CAPACITY_BYTES];
    const struct memory_image *shape = arg;
    const uint64_t cluster = UINT64_C(1) << shape->cluster_bits;
    co_open(fixture);
    struct qcow2_image *image = qcow2_of(fixture->node);
    co_write(fixture, 0, cluster, 1, BLOCK_COMPRESS);
    uint64_t place = image->writer->packed_end;
    assert_int_not_equal(place % cluster, 0);
    pthread_mutex_lock(&image->monitor);
    assert_int_equal(
        owned_add(image->writer->owned, place >> shape->cluster_bits, 1, QCOW2_OWNER_L2), 0);
    pthread_mutex_unlock(&image->monitor);
    memcpy(before, fixture->disk.data, CAPACITY_BYTES);
    co_write(fixture, cluster, cluster, 2, BLOCK_COMPRESS);
    assert_int_equal(failed, 1);
    assert_true(qcow2_is_corrupt(image));
    place -= place % cluster;
    assert_memory_equal(fixture->disk.data + place, before + place, cluster);
    co_check(fixture);
    fixture_co_close(fixture);
}

static void what_is_a_table_is_not_shared(void **state)
{
    const struct memory_image *shape = &shapes[3];
    struct fixture fixture;
    (void)state;
    set_up(&fixture, shape, 1);
    fixture_run(&fixture, co_try_to_share_a_table, (void *)(uintptr_t)shape);
    fixture_fini(&fixture);
}

/* --- far away -----------------------------------------------------------------------------------
 */

#define FAR_CLUSTER_BITS 21
#define FAR_CLUSTER (1u << FAR_CLUSTER_BITS)
#define FAR (UINT64_C(1) << 49) /* the first place that no entry of compressed data can say */
#define FOLD (32u << 20)

/* A file of any length: what lies far away is kept in the upper half of its memory. */
static uint8_t *folded(const struct block_node *node, uint64_t offset)
{
    const struct memory_disk *disk = node->state;
    return disk->data + (offset < FOLD ? offset : FOLD + offset % FOLD);
}

static int endless_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    vec_copy_from(vec, folded(node, offset));
    return 0;
}

static int endless_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                            unsigned flags)
{
    (void)flags;
    vec_copy_to(vec, folded(node, offset));
    if (atomic_load(&node->size_bytes) < offset + vec->length)
        atomic_store(&node->size_bytes, offset + vec->length);
    return 0;
}

static void co_write_far_away(struct fixture *fixture, void *arg)
{
    static uint8_t data[FAR_CLUSTER];
    struct qcow2_extent extent;
    struct cache_use use;
    (void)arg;
    co_open(fixture);
    struct qcow2_image *image = qcow2_of(fixture->node);
    for (unsigned is_far = 0; is_far < 2; is_far++) {
        if (is_far)
            image->writer->free_hint = FAR >> FAR_CLUSTER_BITS;
        uint64_t offset = is_far * FAR_CLUSTER;
        memset(data, 5, sizeof(data));
        image->writer->packed_end = 0;
        assert_int_equal(
            fixture_co_write(fixture->node, offset, data, sizeof(data), BLOCK_COMPRESS), 0);
        cache_use_begin(image->cache, &use);
        assert_int_equal(qcow2_co_map(image, offset, 1, &extent), 0);
        cache_use_end(image->cache, &use);
        assert_int_equal(extent.kind, is_far ? QCOW2_DATA : QCOW2_COMPRESSED);
        assert_int_equal(fixture_co_read(fixture->node, offset, data, sizeof(data)), 0);
        for (size_t i = 0; i < sizeof(data); i++)
            assert_int_equal(data[i], 5);
    }
    assert_true(extent.host_offset > FAR);
    fixture_co_close(fixture);
}

static void what_no_entry_can_find_is_not_compressed(void **state)
{
    static const struct memory_image image = {
        .cluster_bits = FAR_CLUSTER_BITS, .refcount_order = 4, .disk_bytes = 2 * FAR_CLUSTER};
    struct block_driver endless = *memory_drivers[1];
    struct fixture fixture;
    (void)state;
    endless.co_read = endless_co_read;
    endless.co_write = endless_co_write;
    drivers[0] = &endless;
    drivers[1] = &format_qcow2;
    fixture_init(&fixture, drivers, 0, 2 * FOLD, 1);
    memory_image_make(&fixture.disk, &image);
    fixture_run(&fixture, co_write_far_away, NULL);
    fixture_fini(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_compresses_shares_its_clusters),
        cmocka_unit_test(whole_clusters_that_become_smaller_are_compressed),
        cmocka_unit_test(compressed_and_other_writes_in_any_order),
        cmocka_unit_test(a_failure_at_each_call_loses_and_leaks_nothing),
        cmocka_unit_test(what_is_a_table_is_not_shared),
        cmocka_unit_test(what_no_entry_can_find_is_not_compressed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
