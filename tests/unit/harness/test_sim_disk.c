/* SPDX-License-Identifier: BSD-3-Clause */
/* sim_disk.c, sim_folios.c: where the simulated disk must not be worse than Linux is. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>

#include "tests/harness/sim_disk.h"

#define BLOCK 4096
#define FILE_BYTES (4 * BLOCK)

struct scene {
    struct sim sim;
    struct sim_disk disk;
    int buffered, direct;
    _Alignas(BLOCK) uint8_t block[BLOCK];
};

static void set_up(struct scene *scene, uint64_t seed, const struct sim_disk_nature *nature)
{
    sim_init(&scene->sim, seed, false);
    sim_disk_init(&scene->disk, &scene->sim, nature);
    sim_faults_init(&scene->disk.faults, &scene->sim);
    sim_disk_add_file(&scene->disk, "disk", FILE_BYTES);
    struct host_files *files = &scene->disk.files;
    scene->buffered = files->open(files, "disk", O_RDWR, 0);
    scene->direct = files->open(files, "disk", O_RDWR | O_DIRECT, 0);
    assert_true(scene->buffered >= 0 && scene->direct >= 0);
}

static void tear_down(struct scene *scene)
{
    struct host_files *files = &scene->disk.files;
    files->close(files, scene->direct);
    files->close(files, scene->buffered);
    sim_disk_fini(&scene->disk);
    sim_fini(&scene->sim);
}

static ssize_t put(struct scene *scene, uint64_t offset, uint64_t length, int byte)
{
    struct iovec iov = {.iov_base = scene->block, .iov_len = length};
    memset(scene->block, byte, length);
    return scene->disk.files.pwritev(&scene->disk.files, scene->buffered, &iov, 1, offset);
}

/* The first byte at offset, as a direct read sees it that began at that time. */
static int first_byte_direct(struct scene *scene, uint64_t offset, uint64_t began_ns)
{
    struct iovec iov = {.iov_base = scene->block, .iov_len = BLOCK};
    memset(scene->block, 0xee, BLOCK);
    scene->sim.call_began_ns = began_ns;
    ssize_t got = scene->disk.files.preadv(&scene->disk.files, scene->direct, &iov, 1, offset);
    scene->sim.call_began_ns = 0;
    assert_int_equal(got, BLOCK);
    return scene->block[0];
}

static const struct sim_disk_nature two_blocks_a_folio = {
    .folio_bytes = 2 * BLOCK, .direct_alignment = BLOCK, .piece_bytes = 1};

static void a_direct_read_sees_what_was_written_before_it_began(void **state)
{
    struct scene scene;
    (void)state;
    set_up(&scene, 1, &two_blocks_a_folio);
    scene.sim.now_ns = 100;
    assert_int_equal(put(&scene, 0, 10, 0xaa), 10);
    scene.sim.now_ns = 300; /* the same folio, in the middle of the read */
    assert_int_equal(put(&scene, BLOCK, 10, 0xbb), 10);
    assert_int_equal(first_byte_direct(&scene, 0, 200), 0xaa);
    tear_down(&scene);
}

static void a_folio_that_is_dirtied_behind_a_direct_write_undoes_it(void **state)
{
    struct scene scene;
    (void)state;
    set_up(&scene, 1, &two_blocks_a_folio);
    scene.sim.now_ns = 100;
    assert_int_equal(put(&scene, 0, 10, 0xaa), 10);
    scene.sim.now_ns = 300;
    assert_int_equal(put(&scene, 0, 10, 0xbb), 10);

    struct iovec iov = {.iov_base = scene.block, .iov_len = BLOCK};
    memset(scene.block, 0xcc, BLOCK);
    scene.sim.now_ns = 400;
    scene.sim.call_began_ns = 200;
    assert_int_equal(scene.disk.files.pwritev(&scene.disk.files, scene.direct, &iov, 1, BLOCK),
                     BLOCK);
    scene.sim.call_began_ns = 0;
    sim_file_sync(sim_disk_find_file(&scene.disk, "disk"));
    assert_int_equal(first_byte_direct(&scene, 0, 0), 0xbb);
    assert_int_equal(first_byte_direct(&scene, BLOCK, 0), 0);
    tear_down(&scene);
}

/* How many bytes of the write are in the file: the first ones. */
static uint64_t bytes_done(const struct scene *scene, uint64_t offset, int byte)
{
    uint8_t seen[FILE_BYTES];
    uint64_t done = 0;
    sim_file_load(sim_disk_find_file(&scene->disk, "disk"), 0, seen, FILE_BYTES, false);
    while (offset + done < FILE_BYTES && seen[offset + done] == byte)
        done++;
    return done;
}

/* Writes that are cut short, or fail with a part done, however far: how many did a part. */
static unsigned count_parts(bool fails)
{
    enum { OFFSET = 40, LENGTH = BLOCK - 100, PIECE = 512 };
    const struct sim_disk_nature nature = {.folio_bytes = BLOCK,
                                           .direct_alignment = BLOCK,
                                           .piece_bytes = PIECE,
                                           .short_once_in = fails ? 0 : 2};
    unsigned parts = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct scene scene;
        set_up(&scene, seed, &nature);
        scene.disk.faults.is_armed = true;
        scene.disk.faults.plan_count = fails;
        scene.disk.faults.plans[0] = (struct sim_fault_plan){
            .kind = FAULT_WRITE, .code = -ENOSPC, .count = UINT64_MAX, .once_in = 1};
        ssize_t result = put(&scene, OFFSET, LENGTH, 0xaa);
        uint64_t done = bytes_done(&scene, OFFSET, 0xaa);
        assert_true(result == (ssize_t)done || (fails && result == -ENOSPC));
        if (done > 0 && done < LENGTH) {
            parts++;
            assert_int_equal((OFFSET + done) % PIECE, 0);
        }
        tear_down(&scene);
    }
    return parts;
}

/* Of tables no entry may be half there, whatever a kill leaves: a kernel that is interrupted, or
 * finds no space, stops between two pieces. */
static void a_write_done_in_part_ends_with_a_whole_piece(void **state)
{
    (void)state;
    assert_true(count_parts(false) > 10);
    assert_true(count_parts(true) > 10);
}

static void a_write_within_a_piece_is_done_whole(void **state)
{
    const struct sim_disk_nature nature = {
        .folio_bytes = BLOCK, .direct_alignment = BLOCK, .piece_bytes = 512, .short_once_in = 1};
    struct scene scene;
    (void)state;
    set_up(&scene, 1, &nature);
    assert_int_equal(put(&scene, 520, 400, 0xaa), 400);
    tear_down(&scene);
}

/* The handshake's time limit is ten seconds. */
static void a_slow_disk_leaves_time_for_the_others(void **state)
{
    const struct sim_disk_nature nature = {
        .folio_bytes = BLOCK, .direct_alignment = BLOCK, .piece_bytes = 1, .slow_once_in = 1};
    struct scene scene;
    (void)state;
    set_up(&scene, 1, &nature);
    for (unsigned i = 0; i < 20000; i++)
        put(&scene, 0, 1, 0xaa);
    assert_true(scene.disk.stalls > 100);
    assert_true(scene.sim.now_ns < 6000 * NS_PER_MS);
    tear_down(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_direct_read_sees_what_was_written_before_it_began),
        cmocka_unit_test(a_folio_that_is_dirtied_behind_a_direct_write_undoes_it),
        cmocka_unit_test(a_write_done_in_part_ends_with_a_whole_piece),
        cmocka_unit_test(a_write_within_a_piece_is_done_whole),
        cmocka_unit_test(a_slow_disk_leaves_time_for_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
