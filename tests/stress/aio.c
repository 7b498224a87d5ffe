/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices on four loops share one backend: each starts callback requests on blocks of its own,
 * plugs and unplugs, cancels, and goes on in callbacks, while others drain the backend and others
 * read it by coroutines.
 *
 * Checked: a callback comes once, on its home loop, outside of coroutines, never inside a call and
 * never while the backend is drained. -ECANCELED comes only for what was canceled, and such a write
 * has changed nothing; every other write has. Nothing goes down while its device is plugged. The
 * backend can be freed with requests in flight.
 */
#include <errno.h>
#include <string.h>

#include "block/aio.h"
#include "block/env.h"
#include "tests/stress/stress.h"
#include "tests/unit/block/memory_driver.h"

#define BLOCK_BYTES 512
#define DEVICES 8 /* two a loop */
#define SLOTS 16
#define SIZE ((uint64_t)DEVICES * SLOTS * BLOCK_BYTES)
#define ANSWERS 2000 /* that each device waits for */
#define DRAINS 200

struct shared {
    struct stress stress;
    struct block_env env;
    struct memory_disk disk;
    struct block_node *top;
    struct block_backend *backend;
    atomic_uint numbers, devices_left, drained;
    atomic_uint canceled, answered;
};

struct slot {
    struct block_aio aio;
    struct device *device;
    bool is_busy, is_write, is_canceled;
    uint64_t offset;
    uint8_t stored, writing;
    struct iovec iov;
    uint8_t data[BLOCK_BYTES];
};

struct device {
    struct shared *shared;
    struct loop *home;
    struct random random;
    bool in_call;
    unsigned plugs, busy, answers;
    struct slot slots[SLOTS];
};

static void slot_done(struct block_aio *aio, int result);

static void start(struct slot *slot)
{
    struct device *device = slot->device;
    struct block_backend *backend = device->shared->backend;
    struct block_vec vec = vec_of_buffer(&slot->iov, slot->data, BLOCK_BYTES);
    slot->is_busy = true;
    slot->is_canceled = false;
    slot->is_write = random_once_in(&device->random, 2);
    slot->aio.done = slot_done;
    device->busy++;
    device->in_call = true;
    if (slot->is_write) {
        slot->writing = (uint8_t)(slot->stored + 1);
        memset(slot->data, slot->writing, BLOCK_BYTES);
        check(block_aio_writev(&slot->aio, backend, slot->offset, &vec,
                               random_once_in(&device->random, 8) ? BLOCK_FUA : 0) == 0);
    } else {
        memset(slot->data, (uint8_t)(slot->stored + 9), BLOCK_BYTES);
        check(block_aio_readv(&slot->aio, backend, slot->offset, &vec) == 0);
    }
    device->in_call = false;
}

static void slot_done(struct block_aio *aio, int result)
{
    struct slot *slot = container_of(aio, struct slot, aio);
    struct device *device = slot->device;
    check(loop_current() == device->home && !coroutine_inside());
    check(!device->in_call && slot->is_busy);
    check(atomic_load(&device->shared->drained) == 0);
    check(result == 0 || (result == -ECANCELED && slot->is_canceled));
    slot->is_busy = false;
    device->busy--;
    device->answers++;
    atomic_fetch_add(result == 0 ? &device->shared->answered : &device->shared->canceled, 1);
    if (result == 0 && slot->is_write)
        slot->stored = slot->writing;
    for (unsigned i = 0; result == 0 && i < BLOCK_BYTES; i++)
        check(slot->data[i] == slot->stored);
    if (random_once_in(&device->random, 3))
        start(slot);
}

static void cancel_one(struct device *device)
{
    struct slot *slot = &device->slots[random_below(&device->random, SLOTS)];
    if (!slot->is_busy)
        return;
    slot->is_canceled = true;
    device->in_call = true;
    block_aio_cancel_async(&slot->aio);
    device->in_call = false;
}

static void plug_or_unplug(struct device *device)
{
    struct block_backend *backend = device->shared->backend;
    device->in_call = true;
    if (device->plugs < 3 && random_once_in(&device->random, 2)) {
        block_plug(backend);
        device->plugs++;
    } else if (device->plugs > 0) {
        block_unplug(backend);
        device->plugs--;
    }
    device->in_call = false;
}

static void run_device(void *arg)
{
    struct device *device = arg;
    struct shared *shared = device->shared;
    stress_random(&shared->stress, &device->random, atomic_fetch_add(&shared->numbers, 1));
    device->home = loop_current();
    while (device->answers < ANSWERS) {
        struct slot *slot = &device->slots[random_below(&device->random, SLOTS)];
        switch (random_below(&device->random, 16)) {
        case 0:
            cancel_one(device);
            break;
        case 1:
            plug_or_unplug(device);
            break;
        case 2:
        case 3:
        case 4:
            stress_co_dawdle(&shared->stress, &device->random);
            break;
        default:
            if (!slot->is_busy)
                start(slot);
        }
    }
    while (device->plugs > 0)
        plug_or_unplug(device);
    while (device->busy > 0)
        stress_co_dawdle(&shared->stress, &device->random);
    atomic_fetch_sub(&shared->devices_left, 1);
}

static void drainer(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    stress_random(&shared->stress, &random, atomic_fetch_add(&shared->numbers, 1));
    for (unsigned i = 0; i < DRAINS && atomic_load(&shared->devices_left) > 0; i++) {
        block_co_backend_drain(shared->backend);
        atomic_fetch_add(&shared->drained, 1);
        for (unsigned turns = 0; turns < 5; turns++) {
            pthread_mutex_lock(&shared->disk.mutex);
            check(shared->disk.active_count == 0);
            pthread_mutex_unlock(&shared->disk.mutex);
            coroutine_co_pause();
        }
        atomic_fetch_sub(&shared->drained, 1);
        block_backend_resume(shared->backend);
        stress_co_dawdle(&shared->stress, &random);
    }
}

static void reader(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    uint8_t data[BLOCK_BYTES];
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, sizeof(data));
    stress_random(&shared->stress, &random, atomic_fetch_add(&shared->numbers, 1));
    while (atomic_load(&shared->devices_left) > 0) {
        uint64_t offset = random_below(&random, DEVICES * SLOTS) * BLOCK_BYTES;
        check(block_co_read(shared->backend, offset, &vec) == 0);
        stress_co_dawdle(&shared->stress, &random);
    }
}

static void open_graph(void *arg)
{
    struct shared *shared = arg;
    struct node_options *options = node_options_new();
    check(node_options_set(options, "driver", "pass", NULL) == 0);
    memory_disk_options(&shared->disk, options, "file.", "file");
    check(block_co_open(&shared->env, options, &shared->top, NULL) == 0);
    check(block_backend_new(&shared->backend, shared->top, false, NULL) == 0);
}

static void last_done(struct block_aio *aio, int result)
{
    struct slot *slot = container_of(aio, struct slot, aio);
    check(result == 0);
    slot->is_busy = false;
}

/* Frees the backend while its last requests are in flight. */
static void close_graph(void *arg)
{
    struct shared *shared = arg;
    static struct slot last[SLOTS];
    for (unsigned i = 0; i < SLOTS; i++) {
        struct block_vec vec = vec_of_buffer(&last[i].iov, last[i].data, BLOCK_BYTES);
        last[i].is_busy = true;
        last[i].aio.done = last_done;
        check(block_aio_readv(&last[i].aio, shared->backend, 0, &vec) == 0);
    }
    check(block_co_backend_free(shared->backend) == 0);
    for (unsigned i = 0; i < SLOTS; i++)
        check(!last[i].is_busy);
    block_co_node_unref(shared->top);
}

int main(void)
{
    static struct shared shared;
    static struct device devices[DEVICES];
    stress_init(&shared.stress, "aio");
    memory_disk_init(&shared.disk, SIZE, SIZE, shared.stress.seed);
    shared.disk.pauses_max = 3;
    check(block_env_init(&shared.env, shared.stress.loops, STRESS_LOOPS, shared.stress.workers,
                         NULL, memory_drivers, NULL) == 0);
    check(loop_run_co(shared.stress.loops[0], open_graph, &shared) == 0);
    atomic_store(&shared.devices_left, DEVICES);
    for (unsigned i = 0; i < DEVICES; i++) {
        devices[i].shared = &shared;
        for (unsigned j = 0; j < SLOTS; j++)
            devices[i].slots[j] = (struct slot){.device = &devices[i],
                                                .offset = (i * SLOTS + j) * (uint64_t)BLOCK_BYTES};
        stress_spawn(&shared.stress, i % STRESS_LOOPS, run_device, &devices[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        stress_spawn(&shared.stress, i, drainer, &shared);
        stress_spawn(&shared.stress, i + 2, reader, &shared);
    }
    stress_run(&shared.stress);
    printf("aio: %u answered, %u canceled\n", atomic_load(&shared.answered),
           atomic_load(&shared.canceled));
    check(atomic_load(&shared.answered) > ANSWERS && atomic_load(&shared.canceled) > 0);
    check(loop_run_co(shared.stress.loops[1], close_graph, &shared) == 0);
    block_env_fini(&shared.env);
    memory_disk_fini(&shared.disk);
    stress_fini(&shared.stress);
    return 0;
}
