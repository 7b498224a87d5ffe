/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two servers in turn on one image: each sees what the other wrote, whatever it knew before, and
 * leaves nothing in memory behind.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/activity.h"
#include "block/reopen.h"
#include "common/endian.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/image.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CAPACITY_BYTES (8u << 20)
#define INCOMPATIBLE_LAST_BYTE 79
#define CLUSTER_BITS_LAST_BYTE 23
#define L1_SIZE_LAST_BYTE 39

static const struct memory_image shapes[] = {
    {.cluster_bits = 12, .refcount_order = 4, .disk_bytes = 1 << 20},
    {.cluster_bits = 9, .refcount_order = 6, .disk_bytes = 3 << 20},
    {.cluster_bits = 14, .refcount_order = 4, .is_extended = true, .disk_bytes = 1 << 20},
};

/* The disk of memory_driver.h, which tells how long it is, and can be taken by nobody else. */
static struct block_driver disk_driver;
static const struct memory_disk *the_disk;
static const struct block_node *disk_owner;

static int disk_co_inactivate(struct block_node *node, struct error *err)
{
    (void)err;
    assert_ptr_equal(disk_owner, node);
    disk_owner = NULL;
    return 0;
}

static int disk_co_invalidate(struct block_node *node, struct error *err)
{
    if (disk_owner)
        return error_set(err, -EBUSY, "'%s' is in use", node->name);
    disk_owner = node;
    return 0;
}

static int disk_co_stored_size(struct block_node *node, uint64_t *ret_size_bytes)
{
    (void)node;
    *ret_size_bytes = the_disk->size_bytes;
    return 0;
}

static const struct block_driver_admin disk_admin = {
    .co_inactivate = disk_co_inactivate,
    .co_invalidate = disk_co_invalidate,
    .co_stored_size = disk_co_stored_size,
};

static const struct block_driver *drivers[3];

struct server {
    struct block_backend *backend;
    struct block_node *node;
};

static void co_start(struct fixture *fixture, struct server *server, const char *text)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_parse(options, text, NULL), 0);
    node_options_set(options, "driver", "qcow2", NULL);
    memory_disk_options(&fixture->disk, options, "file.", "disk");
    if (block_co_open(&fixture->env, options, &server->node, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(
        block_backend_new(&server->backend, server->node, server->node->read_only, NULL), 0);
    disk_owner = server->node->file;
}

static void co_stop(struct server *server)
{
    assert_int_equal(block_co_backend_free(server->backend), 0);
    block_co_node_unref(server->node);
}

static void co_leave(struct server *server)
{
    struct error err = {.message = ""};
    if (block_co_inactivate(server->backend, &err) < 0)
        fail_msg("%s", err.message);
}

static void co_take(struct server *server)
{
    struct error err = {.message = ""};
    if (block_co_invalidate(server->backend, &err) < 0)
        fail_msg("%s", err.message);
}

static int co_write(struct server *server, uint64_t offset, size_t length, int byte)
{
    static uint8_t data[1 << 20];
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    memset(data, byte, length);
    return block_co_write(server->backend, offset, &vec, 0);
}

static int co_read(struct server *server, uint64_t offset, size_t length, int byte)
{
    static uint8_t data[1 << 20];
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    int ret = block_co_read(server->backend, offset, &vec);
    for (size_t i = 0; i < length && ret == 0; i++)
        assert_int_equal(data[i], byte);
    return ret;
}

static void expect_sound(const struct memory_disk *disk)
{
    struct memory_image_faults faults = memory_image_check(disk);
    assert_int_equal(faults.errors, 0);
    assert_int_equal(faults.leaks, 0);
}

/* Two, of which the second is inactive. */
static void co_start_both(struct fixture *fixture, struct server *servers,
                          const struct memory_image *shape, const char *text)
{
    the_disk = &fixture->disk;
    memory_image_make(&fixture->disk, shape);
    co_start(fixture, &servers[1], text);
    assert_int_equal(co_read(&servers[1], 0, 100000, 0), 0);
    co_leave(&servers[1]);
    co_start(fixture, &servers[0], text);
}

/* --- in turn ------------------------------------------------------------------------------------
 */

/* QEMU dd577a26ff: what the other one knows of the file is out of date. */
static void co_two_servers_in_turn(struct fixture *fixture, void *arg)
{
    struct server servers[2];
    const struct memory_image *shape = arg;
    uint64_t piece = shape->disk_bytes / 8;
    co_start_both(fixture, servers, shape, "lazy-refcounts=on");
    for (unsigned turn = 0; turn < 8; turn++) {
        struct server *active = &servers[turn % 2], *other = &servers[(turn + 1) % 2];
        /* All that was written, by both; then new and old places. */
        for (unsigned i = 0; i < turn; i++)
            assert_int_equal(co_read(active, i * piece, 1000, (int)turn), 0);
        for (unsigned i = 0; i <= turn; i++)
            assert_int_equal(co_write(active, i * piece, i == turn ? piece : 1000, (int)turn + 1),
                             0);
        assert_int_equal(block_co_discard(active->backend, turn * piece + piece / 2, piece / 2, 0),
                         0);
        assert_int_equal(fixture->disk.data[INCOMPATIBLE_LAST_BYTE] & 1, 1);
        assert_int_equal(co_read(other, 0, 1000, 0), -EPERM);
        assert_int_equal(co_write(other, 0, 1000, 0), -EPERM);
        co_leave(active);
        co_leave(active); /* is as good as once */
        assert_int_equal(fixture->disk.data[INCOMPATIBLE_LAST_BYTE] & 1, 0);
        expect_sound(&fixture->disk);
        co_take(other);
        for (unsigned i = 0; i <= turn; i++)
            assert_int_equal(co_read(other, i * piece + piece / 2, piece / 2, 0), 0);
    }
    co_take(&servers[0]); /* the active one, which goes and comes back */
    assert_int_equal(co_write(&servers[0], 5, 10, 99), 0);
    co_stop(&servers[0]);
    co_stop(&servers[1]);
    expect_sound(&fixture->disk);
}

static void two_servers_in_turn(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct fixture fixture;
        fixture_init(&fixture, drivers, 0, CAPACITY_BYTES, 1);
        fixture_run(&fixture, co_two_servers_in_turn, (void *)(uintptr_t)&shapes[i]);
        fixture_fini(&fixture);
    }
}

static void co_the_other_makes_it_larger(struct fixture *fixture, void *arg)
{
    struct server servers[2];
    struct error err;
    (void)arg;
    co_start_both(fixture, servers, &shapes[1], "");
    assert_int_equal(block_co_resize(servers[1].backend, 5 << 20, &err), -EPERM);
    assert_int_equal(block_co_resize(servers[0].backend, 6 << 20, NULL), 0); /* its L1 moves */
    assert_int_equal(co_write(&servers[0], 5 << 20, 1 << 20, 7), 0);
    co_leave(&servers[0]);
    co_take(&servers[1]);
    assert_int_equal(block_backend_size_bytes(servers[1].backend), 6 << 20);
    assert_int_equal(co_read(&servers[1], 5 << 20, 1 << 20, 7), 0);
    assert_int_equal(co_write(&servers[1], 4 << 20, 1 << 20, 8), 0);
    co_stop(&servers[1]);
    co_stop(&servers[0]);
    expect_sound(&fixture->disk);
}

FIXTURE_TEST_WITH(the_other_makes_it_larger, drivers, 0, CAPACITY_BYTES)

/* A deflate stream of one stored block: the cluster that begins with it, and 5 bytes more. */
static void store_compressed(uint8_t *at, int byte)
{
    static const uint8_t head[] = {0x01, 0x00, 0x10, 0xff,
                                   0xef}; /* the last; 4096, its complement */
    memcpy(at, head, sizeof(head));
    memset(at + sizeof(head), byte, 4096);
}

/* What was decompressed, too, may be of what is there no more. */
static void co_compressed_clusters_are_read_anew(struct fixture *fixture, void *arg)
{
    uint8_t *data = fixture->disk.data;
    struct server server;
    (void)arg;
    the_disk = &fixture->disk;
    memory_image_make(&fixture->disk, &shapes[0]);
    co_start(fixture, &server, "");
    assert_int_equal(co_write(&server, 0, 2 * 4096, 1), 0);
    co_leave(&server);
    uint64_t l2 = load_be64(data + 3 * 4096) & QCOW2_ENTRY_OFFSET;
    uint64_t place = load_be64(data + l2) & QCOW2_ENTRY_OFFSET;
    store_be64(data + l2, place | UINT64_C(8) << 58 | QCOW2_ENTRY_COMPRESSED); /* 9 sectors */
    store_be64(data + l2 + 8, 0);
    for (int byte = 5; byte < 8; byte++) {
        store_compressed(data + place, byte);
        co_take(&server);
        assert_int_equal(co_read(&server, 0, 4096, byte), 0);
        co_leave(&server);
    }
    co_stop(&server);
}

FIXTURE_TEST_WITH(compressed_clusters_are_read_anew, drivers, 0, CAPACITY_BYTES)

static void co_bitmaps_go_along(struct fixture *fixture, void *arg)
{
    static const struct memory_bitmap bitmap = {
        .name = "b", .flags = QCOW2_BITMAP_AUTO, .granularity_bits = 12};
    struct memory_disk *disk = &fixture->disk;
    struct server servers[2];
    const struct dirty_bitmap *shown;
    struct error err;
    (void)arg;
    the_disk = disk;
    memory_image_make(disk, &shapes[0]);
    memory_image_add_bitmaps(disk, &bitmap, 1);
    co_start(fixture, &servers[1], "");
    co_leave(&servers[1]);
    co_start(fixture, &servers[0], "");
    for (unsigned turn = 0; turn < 6; turn++) {
        struct server *active = &servers[turn % 2];
        assert_int_equal(co_write(active, turn * 4096, 4096, 1), 0);
        assert_true(memory_image_bitmap_flags(disk, "b") & QCOW2_BITMAP_IN_USE);
        co_leave(active);
        assert_int_equal(memory_image_bitmap_flags(disk, "b"), QCOW2_BITMAP_AUTO);
        for (unsigned i = 0; i < 10; i++)
            assert_int_equal(memory_image_bitmap_get(disk, "b", i), i <= turn);
        expect_sound(disk);
        co_take(&servers[(turn + 1) % 2]);
    }
    assert_int_equal(block_co_find_bitmap(servers[1].backend, "b", &shown, &err), -EPERM);
    assert_int_equal(block_co_find_bitmap(servers[0].backend, "b", &shown, &err), 0);
    assert_int_equal(block_co_inactivate(servers[0].backend, &err), -ENOTSUP);
    assert_non_null(strstr(err.message, "is shown to clients"));
    assert_int_equal(co_write(&servers[0], 0, 4096, 3), 0);
    co_stop(&servers[0]);
    co_stop(&servers[1]);
}

FIXTURE_TEST_WITH(bitmaps_go_along, drivers, 0, CAPACITY_BYTES)

/* --- what goes wrong ---------------------------------------------------------------------------
 */

static void co_what_cannot_be_written_is_not_left(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    struct server servers[2];
    struct error err;
    (void)arg;
    co_start_both(fixture, servers, &shapes[0], "");
    assert_int_equal(co_write(&servers[0], 0, 50000, 1), 0);
    assert_int_equal(block_co_flush(servers[0].backend), 0);
    assert_int_equal(block_co_discard(servers[0].backend, 0, 20000, 0), 0);
    disk->fail_ops = 1u << MEMORY_WRITE;
    disk->fail_code = -ENOSPC;
    assert_int_equal(block_co_inactivate(servers[0].backend, &err), -ENOSPC);
    disk->fail_code = 0;
    assert_ptr_equal(disk_owner, servers[0].node->file);
    assert_int_equal(co_read(&servers[0], 20480, 20000, 1), 0); /* it goes on */
    assert_true(block_co_invalidate(servers[1].backend, &err) < 0);
    assert_non_null(strstr(err.message, "is in use"));
    assert_int_equal(co_read(&servers[1], 0, 100, 0), -EPERM);
    assert_true(block_co_backend_free(servers[0].backend) < 0); /* the flush that failed */
    block_co_node_unref(servers[0].node);
    disk_owner = NULL;
    co_take(&servers[1]);
    assert_int_equal(co_read(&servers[1], 20480, 20000, 1), 0);
    co_stop(&servers[1]);
    expect_sound(disk);
}

FIXTURE_TEST_WITH(what_cannot_be_written_is_not_left, drivers, 0, CAPACITY_BYTES)

static void co_expect_not_taken(struct server *server, const char *why)
{
    struct error err = {.message = ""};
    assert_true(block_co_invalidate(server->backend, &err) < 0);
    if (!strstr(err.message, why))
        fail_msg("'%s' does not say '%s'", err.message, why);
    assert_null(disk_owner); /* given back */
    assert_int_equal(co_read(server, 0, 100, 0), -EPERM);
}

/* Whatever the tables in memory and the other files depend on. */
static void co_an_image_of_another_kind_is_not_taken(struct fixture *fixture, void *arg)
{
    static const struct {
        uint8_t at[3], byte[3];
    } changes[] = {
        {{7}, {2}},                     /* version */
        {{99}, {3}},                    /* refcount_order */
        {{79, 104}, {8, 1}},            /* compression_type */
        {{79}, {4}},                    /* the data is in another file */
        {{15, 19, 200}, {200, 1, 'x'}}, /* a backing file */
    };
    struct memory_disk *disk = &fixture->disk;
    struct server server;
    uint8_t head[4096];
    (void)arg;
    the_disk = disk;
    memory_image_make(disk, &shapes[0]);
    co_start(fixture, &server, "");
    assert_int_equal(co_write(&server, 0, 1000, 5), 0);
    co_leave(&server);
    memcpy(head, disk->data, sizeof(head));
    for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
        for (unsigned n = 0; n < 3 && changes[i].at[n] != 0; n++)
            disk->data[changes[i].at[n]] = changes[i].byte[n];
        co_expect_not_taken(&server, "is another image now");
        memcpy(disk->data, head, sizeof(head));
    }
    store_be32(disk->data + QCOW2_HEADER_OURS_BYTES, QCOW2_EXTENSION_DATA_FILE);
    store_be32(disk->data + QCOW2_HEADER_OURS_BYTES + 4, 1);
    disk->data[QCOW2_HEADER_OURS_BYTES + 8] = 'x';
    co_expect_not_taken(&server, "is another image now");
    memcpy(disk->data, head, sizeof(head));
    co_take(&server);
    assert_int_equal(co_read(&server, 0, 1000, 5), 0);
    co_stop(&server);
    expect_sound(disk);
}

FIXTURE_TEST_WITH(an_image_of_another_kind_is_not_taken, drivers, 0, CAPACITY_BYTES)

/* Its snapshot may be deleted meanwhile. */
static void co_who_shows_a_snapshot_stays_active(struct fixture *fixture, void *arg)
{
    struct server server;
    struct error err;
    (void)arg;
    the_disk = &fixture->disk;
    memory_image_make(&fixture->disk, &shapes[0]);
    memory_image_add_snapshot(&fixture->disk);
    co_start(fixture, &server, "read-only=on,load-snapshot=1");
    assert_int_equal(block_co_inactivate(server.backend, &err), -ENOTSUP);
    assert_non_null(strstr(err.message, "a snapshot is shown"));
    assert_int_equal(co_read(&server, 0, 1000, 0), 0);
    co_stop(&server);
}

FIXTURE_TEST_WITH(who_shows_a_snapshot_stays_active, drivers, 0, CAPACITY_BYTES)

static void co_another_image_is_not_taken(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    struct server server, reader;
    (void)arg;
    the_disk = disk;
    memory_image_make(disk, &shapes[0]);
    co_start(fixture, &server, "");
    assert_int_equal(co_write(&server, 0, 1000, 5), 0);
    co_leave(&server);
    disk->data[CLUSTER_BITS_LAST_BYTE] = 13;
    co_expect_not_taken(&server, "");
    disk->data[CLUSTER_BITS_LAST_BYTE] = 12;
    store_be64(disk->data + 8, 1000); /* it has a backing file now */
    store_be32(disk->data + 16, 4);
    memcpy(disk->data + 1000, "base", 4);
    co_expect_not_taken(&server, "is another image now");
    store_be64(disk->data + 8, 0);
    store_be32(disk->data + 16, 0);
    qcow2_of(server.node)->backing_name = strdup("base"); /* or has none any more */
    co_expect_not_taken(&server, "is another image now");
    free(qcow2_of(server.node)->backing_name);
    qcow2_of(server.node)->backing_name = NULL;
    disk->data[CLUSTER_BITS_LAST_BYTE] = 11; /* all of it makes sense, but is not the same */
    disk->data[L1_SIZE_LAST_BYTE] = 2;
    co_expect_not_taken(&server, "is another image now");
    disk->data[CLUSTER_BITS_LAST_BYTE] = 12;
    disk->data[L1_SIZE_LAST_BYTE] = 1;
    disk->data[0] = 'X';
    co_expect_not_taken(&server, "not a qcow2 image");
    disk->data[0] = 'Q';
    disk->data[INCOMPATIBLE_LAST_BYTE] = QCOW2_INCOMPATIBLE_CORRUPT;
    co_expect_not_taken(&server, "is marked as corrupt");
    disk->data[INCOMPATIBLE_LAST_BYTE] = 0;
    for (unsigned call = 0; call < 3; call++) { /* header, refcount table, L1 */
        memory_disk_forget_calls(disk);
        disk->fail_at_call = call;
        disk->fail_code = -EIO;
        co_expect_not_taken(&server, "Input/output error");
        disk->fail_code = 0;
    }
    disk->fail_at_call = UINT64_MAX;
    /* The other one was cut off: it is repaired, or not taken. */
    disk->data[INCOMPATIBLE_LAST_BYTE] = QCOW2_INCOMPATIBLE_DIRTY;
    memory_disk_forget_calls(disk);
    disk->fail_at_call = 1;
    disk->fail_code = -EIO;
    co_expect_not_taken(&server, "cannot be read");
    disk->fail_code = 0;
    disk->fail_at_call = UINT64_MAX;
    store_be16(disk->data + 2 * 4096 + 5 * 2, 0);
    co_take(&server);
    assert_int_equal(disk->data[INCOMPATIBLE_LAST_BYTE], 0);
    assert_int_equal(co_read(&server, 0, 1000, 5), 0);
    co_leave(&server);
    expect_sound(disk);

    co_start(fixture, &reader, "read-only=on");
    assert_int_equal(co_read(&reader, 0, 1000, 5), 0);
    co_leave(&reader);
    co_take(&server);
    assert_int_equal(co_write(&server, 0, 1000, 6), 0);
    co_leave(&server);
    co_take(&reader);
    assert_int_equal(co_read(&reader, 0, 1000, 6), 0);
    struct error err;
    co_leave(&reader);
    struct node_options *options = node_options_new();
    assert_int_equal(block_co_reopen(reader.backend, options, &err), -EPERM);
    co_stop(&server);
    co_stop(&reader);
    expect_sound(disk);
}

FIXTURE_TEST_WITH(another_image_is_not_taken, drivers, 0, CAPACITY_BYTES)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_servers_in_turn),
        cmocka_unit_test(the_other_makes_it_larger),
        cmocka_unit_test(compressed_clusters_are_read_anew),
        cmocka_unit_test(bitmaps_go_along),
        cmocka_unit_test(what_cannot_be_written_is_not_left),
        cmocka_unit_test(an_image_of_another_kind_is_not_taken),
        cmocka_unit_test(who_shows_a_snapshot_stays_active),
        cmocka_unit_test(another_image_is_not_taken),
    };
    disk_driver = *memory_drivers[1]; /* growing */
    disk_driver.name = "disk";
    disk_driver.admin = &disk_admin;
    drivers[0] = &disk_driver;
    drivers[1] = &format_qcow2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
