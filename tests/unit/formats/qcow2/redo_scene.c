/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include "tests/unit/formats/qcow2/redo_scene.h"

#include "block/reopen.h"
#include "formats/qcow2/driver.h"

const struct memory_image scene_shapes[] = {
    {.cluster_bits = 12, .refcount_order = 4, .disk_bytes = DISK_BYTES},
    {.cluster_bits = 9, .refcount_order = 6, .disk_bytes = DISK_BYTES},
    {.cluster_bits = 14, .refcount_order = 4, .is_extended = true, .disk_bytes = DISK_BYTES},
};

static struct block_driver disk_driver;
static struct block_driver_admin disk_admin;
const struct block_driver *scene_drivers[3];

static int disk_co_prepare(struct block_node *node, struct block_reopen *reopen, struct error *err)
{
    (void)node, (void)reopen, (void)err;
    return 0;
}

static int disk_co_stored_size(struct block_node *node, uint64_t *ret_size_bytes)
{
    *ret_size_bytes = ((const struct memory_disk *)node->state)->size_bytes;
    return 0;
}

void scene_init(void)
{
    disk_admin = *memory_drivers[1]->admin;
    disk_admin.co_reopen_prepare = disk_co_prepare;
    disk_admin.co_stored_size = disk_co_stored_size;
    disk_driver = *memory_drivers[1];
    disk_driver.name = "disk";
    disk_driver.admin = &disk_admin;
    scene_drivers[0] = &disk_driver;
    scene_drivers[1] = &format_qcow2;
}

struct block_backend *scene_co_open(struct fixture *fixture, const char *text, int code)
{
    struct error err = {.message = ""};
    struct block_backend *backend = NULL;
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_parse(options, text, NULL), 0);
    node_options_set(options, "driver", "qcow2", NULL);
    memory_disk_options(&fixture->disk, options, "file.", "disk");
    int ret = block_co_open(&fixture->env, options, &fixture->node, &err);
    if (ret != code)
        fail_msg("%d, not %d: %s", ret, code, err.message);
    if (ret == 0)
        assert_int_equal(block_backend_new(&backend, fixture->node, fixture->node->read_only, NULL),
                         0);
    return backend;
}

void scene_co_close(struct fixture *fixture, struct block_backend *backend)
{
    block_co_backend_free(backend);
    fixture_co_close(fixture);
}

/* --- kills --------------------------------------------------------------------------------------
 */

void scene_save(const struct fixture *fixture, struct scene_state *state)
{
    const struct memory_disk *disk = &fixture->disk;
    *state = (struct scene_state){
        .bytes = malloc(disk->capacity_bytes),
        .size_bytes = disk->size_bytes,
        .kept = disk->kept.bytes ? memory_kept_save(&disk->kept) : NULL,
        .kept_length = disk->kept.kept.length,
    };
    assert_non_null(state->bytes);
    memcpy(state->bytes, disk->data, disk->capacity_bytes);
}

void scene_put_back(struct fixture *fixture, const struct scene_state *state)
{
    struct memory_disk *disk = &fixture->disk;
    memcpy(disk->data, state->bytes, disk->capacity_bytes);
    disk->size_bytes = state->size_bytes;
    if (state->kept)
        memory_kept_put_back(&disk->kept, state->kept, state->kept_length);
}

void scene_state_fini(struct scene_state *state)
{
    free(state->kept);
    free(state->bytes);
}

void scene_co_kill(struct fixture *fixture, struct block_backend *backend)
{
    struct scene_state state;
    scene_save(fixture, &state);
    scene_co_close(fixture, backend);
    scene_put_back(fixture, &state);
    scene_state_fini(&state);
}

/* --- requests -----------------------------------------------------------------------------------
 */

int scene_co_write(struct block_backend *backend, uint64_t offset, size_t length, int byte)
{
    static uint8_t data[DISK_BYTES];
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    memset(data, byte, length);
    return block_co_write(backend, offset, &vec, 0);
}

int scene_co_byte(struct block_backend *backend, uint64_t offset)
{
    uint8_t byte = 0;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, &byte, 1);
    assert_int_equal(block_co_read(backend, offset, &vec), 0);
    return byte;
}

bool scene_has_bit(const struct fixture *fixture)
{
    const uint8_t *bits = &fixture->disk.data[AUTOCLEAR_FIRST_BYTE];
    if (!(bits[0] & REDO_BIT))
        assert_int_equal(bits[0] | bits[1] | bits[2] | bits[3], 0);
    return bits[0] & REDO_BIT;
}

void scene_expect_no_errors(const struct fixture *fixture)
{
    assert_int_equal(memory_image_check(&fixture->disk).errors, 0);
}

struct block_backend *scene_co_make_written(struct fixture *fixture, const char *options)
{
    struct memory_disk *disk = &fixture->disk;
    memory_image_make(disk, &scene_shapes[0]);
    disk->kept.is_there = true;
    disk->kept.now_ns = 100 * NS_PER_S;
    struct block_backend *backend = scene_co_open(fixture, options, 0);
    assert_int_equal(scene_co_write(backend, 0, 50000, 1), 0);
    assert_int_equal(block_co_flush(backend), 0);
    assert_int_equal(scene_co_write(backend, 100000, 50000, 2), 0);
    return backend;
}

void scene_co_make_killed(struct fixture *fixture, const char *options)
{
    struct memory_disk *disk = &fixture->disk;
    scene_co_kill(fixture, scene_co_make_written(fixture, options));
    disk->kept.file_changed_ns = disk->kept.now_ns;
    scene_expect_no_errors(fixture);
}

void scene_co_expect_there(struct fixture *fixture, bool is_there)
{
    struct block_backend *backend = scene_co_open(fixture, "", 0);
    assert_int_equal(scene_co_byte(backend, 0), 1);
    assert_int_equal(scene_co_byte(backend, 100000), is_there ? 2 : 0);
    assert_int_equal(scene_co_byte(backend, 149999), is_there ? 2 : 0);
    scene_co_close(fixture, backend);
    assert_false(scene_has_bit(fixture));
    assert_null(fixture->disk.kept.bytes);
    scene_expect_no_errors(fixture);
}
