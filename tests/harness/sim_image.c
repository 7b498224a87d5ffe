/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_image.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/block.h"
#include "block/driver.h"

#define JUDGED_ONCE_IN 100 /* of the states, by qemu-img: it takes as long as a whole life */

/* --- on loop 0 ----------------------------------------------------------------------------------
 */

static void co_make(void *opaque)
{
    struct sim_world *world = opaque;
    world->result = sim_graph_co_make(&world->graph, &world->env, &world->oracle, &world->err);
}

/* A visitor's eyes. */
struct look {
    struct sim_world *world;
    uint8_t *bytes;
    uint64_t errors, leaks;
};

static void co_read_all(void *opaque)
{
    struct sim_world *world = opaque;
    struct look *look = world->looks;
    struct block_node *node;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, look->bytes, world->size_bytes);
    world->result = sim_graph_co_open(&world->graph, &world->env, "", &node, &world->err);
    if (world->result < 0)
        return;
    int ret = node_co_read(node, 0, &vec);
    block_co_node_unref(node);
    world->result = ret < 0 ? error_set(&world->err, ret, "reading: %s", error_text(ret))
                            : sim_graph_co_check(&world->graph, &world->env, &look->errors,
                                                 &look->leaks, &world->err);
}

/* --- qemu-img -----------------------------------------------------------------------------------
 */

static void dump(const struct sim_world *world, const char *folder, const char *name)
{
    char path[128];
    const struct sim_file *file = sim_disk_find_file(&world->disk, name);
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *to = fopen(path, "we");
    assert(file && to);
    size_t put = fwrite(file->cached, 1, file->size_bytes, to);
    assert(put == file->size_bytes);
    (void)put;
    fclose(to);
}

/* The image as it is in the page cache, which our open has left without the need of a repair. */
static void ask_qemu(struct sim_world *world, const char *what, bool may_leak)
{
    char folder[] = "/tmp/platter-sim-XXXXXX", command[256];
    bool is_made = mkdtemp(folder);
    assert(is_made);
    (void)is_made;
    dump(world, folder, world->graph.image);
    if (world->graph.backing_bytes > 0)
        dump(world, folder, world->graph.backing);
    snprintf(
        command, sizeof(command),
        "cd %s && qemu-img check -q -f qcow2 %s >/dev/null 2>&1; code=$?; rm -r %s; exit $code",
        folder, world->graph.image, folder);
    int status = system(command), code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    world->judged++;
    if (code != 0 && !(code == 3 && may_leak))
        sim_fail(&world->sim, "%s: qemu-img check exits with status %d", what, code);
}

/* --- what is looked at --------------------------------------------------------------------------
 */

/* What the graph shows, into bytes. */
static bool look_at(struct sim_world *world, uint8_t *bytes, const char *what)
{
    struct look look = {.world = world, .bytes = bytes};
    bool may_leak = world->cuts + world->kills + world->faults > 0;
    struct random random = sim_random(&world->sim, "judge", world->sim.events);
    world->looks = &look;
    if (!sim_life_visit(world, co_read_all, what))
        return false;
    sim_note_bytes(&world->sim, "look", look.leaks, bytes, world->size_bytes);
    if (look.errors > 0 || (look.leaks > 0 && !may_leak))
        sim_fail(&world->sim, "%s: %" PRIu64 " errors and %" PRIu64 " leaks: %s", what, look.errors,
                 look.leaks, world->err.message);
    else if (world->graph.create[0] && random_once_in(&random, JUDGED_ONCE_IN))
        ask_qemu(world, what, may_leak);
    return !sim_failed(&world->sim);
}

/* One state that the file may be in, before the eyes of the oracle. The file is left in it, but for
 * what opening it repairs. */
static bool check_state(struct sim_world *world, const uint8_t *state, uint64_t state_bytes,
                        uint8_t *bytes, const char *what)
{
    sim_file_go_on_with(world->file, state, state_bytes);
    if (!look_at(world, bytes, what))
        return false;
    oracle_check_survivor(&world->oracle, bytes);
    return !sim_failed(&world->sim);
}

static void *allocate(uint64_t bytes)
{
    void *memory = calloc(1, bytes);
    assert(memory);
    return memory;
}

/* The next life begins with that state, which was checked and shows these bytes. */
static void go_on_with(struct sim_world *world, const uint8_t *state, uint64_t state_bytes,
                       const uint8_t *bytes)
{
    sim_file_go_on_with(world->file, state, state_bytes);
    oracle_go_on_with(&world->oracle, bytes);
}

void sim_image_make(struct sim_world *world)
{
    if (!sim_life_visit(world, co_make, "making the image"))
        return;
    world->file = sim_disk_find_file(&world->disk, world->graph.image);
    assert(world->file);
    for (struct sim_file *file = world->disk.first_file; file; file = file->next)
        sim_file_sync(file);
}

void sim_image_cut(struct sim_world *world, unsigned survivors)
{
    struct random random = sim_random(&world->sim, "power cut", 0);
    uint64_t room = world->file->room_bytes, sizes[8];
    uint8_t *bytes = allocate(world->size_bytes), *states = allocate(room * survivors);
    assert(survivors <= 8);
    for (unsigned i = 0; i < survivors; i++)
        sizes[i] = sim_file_survivor(world->file, &random, states + i * room);
    bool is_well = true;
    for (unsigned i = 0; i < survivors && is_well; i++)
        is_well = check_state(world, states + i * room, sizes[i], bytes, "what a power cut left");
    if (is_well)
        go_on_with(world, states + (survivors - 1) * room, sizes[survivors - 1], bytes);
    free(states);
    free(bytes);
}

/* It is replayed before our eyes, and will be by the next server once more. */
static void look_at_replayed(struct sim_world *world, const uint8_t *state, uint64_t state_bytes,
                             uint8_t *bytes)
{
    struct oracle_view view;
    struct sim_kept log = sim_kept_copy(&world->disk.kept);
    oracle_view_open(&world->oracle, &view, 0, world->size_bytes);
    if (look_at(world, bytes, "what a killed server left with its redo log"))
        oracle_view_check(&world->oracle, &view, bytes, "what is replayed");
    oracle_view_close(&view);
    sim_file_go_on_with(world->file, state, state_bytes);
    sim_kept_put_back(&world->disk.kept, &log);
}

/* A redo log has what the file has not: all that was answered is there, and waits for a flush. In
 * half of the cases nobody looks before the next server does, so the disk is as it was. */
static void go_on_with_log(struct sim_world *world, const uint8_t *state, uint64_t state_bytes,
                           uint8_t *bytes)
{
    struct random random = sim_random(&world->sim, "redo log", world->sim.events);
    world->logs++;
    oracle_server_gone(&world->oracle, false);
    if (random_once_in(&random, 2))
        look_at_replayed(world, state, state_bytes, bytes);
}

void sim_image_killed(struct sim_world *world)
{
    uint64_t state_bytes = world->file->size_bytes;
    uint8_t *bytes = allocate(world->size_bytes), *state = allocate(state_bytes + 1);
    memcpy(state, world->file->cached, state_bytes);
    if (sim_kept_has_all(&world->disk.kept))
        go_on_with_log(world, state, state_bytes, bytes);
    else if (check_state(world, state, state_bytes, bytes, "what a killed server left"))
        go_on_with(world, state, state_bytes, bytes);
    free(state);
    free(bytes);
}

void sim_image_closed(struct sim_world *world, bool is_promised)
{
    struct oracle_view view;
    struct random random = sim_random(&world->sim, "after the end", 0);
    uint8_t *bytes = allocate(world->size_bytes), *state = allocate(world->file->room_bytes);
    uint64_t state_bytes = sim_file_survivor(world->file, &random, state);
    if (is_promised)
        oracle_closed(&world->oracle, NULL);
    oracle_view_open(&world->oracle, &view, 0, world->size_bytes);
    if (look_at(world, bytes, "the image at the end"))
        oracle_view_check(&world->oracle, &view, bytes, "the image at the end");
    oracle_view_close(&view);
    uint64_t shown_bytes = world->file->size_bytes;
    uint8_t *shown = allocate(shown_bytes + 1);
    memcpy(shown, world->file->cached, shown_bytes);
    bool is_well = !sim_failed(&world->sim);
    if (is_well && is_promised)
        is_well = check_state(world, state, state_bytes, bytes, "stable storage at the end");
    if (is_well)
        sim_file_go_on_with(world->file, shown, shown_bytes);
    oracle_server_gone(&world->oracle, false);
    free(shown);
    free(state);
    free(bytes);
}
