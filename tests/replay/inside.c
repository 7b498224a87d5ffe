/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/replay/inside.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "block/block.h"
#include "block/env.h"
#include "block/host_files.h"
#include "block/image_options.h"
#include "block/node_options.h"
#include "block/sleep.h"
#include "block/workers.h"
#include "formats/registry.h"
#include "tests/harness/ide_guest.h"
#include "tests/harness/virtio_blk.h"
#include "tests/harness/virtio_driver.h"

#define LOCK_NS_MAX (UINT64_C(30) * 1000000000)
#define QUEUE_SIZE 128

struct life {
    const struct trace *trace;
    const struct inside_options *options;
    struct content *content;
    struct replay_result *result;
    struct loop *loop;
    struct block_env env;
    enum image_cache cache;
    struct error err;
    int code;
};

/* --- the image ---------------------------------------------------------------------------------
 */

static int make_options(struct life *life, struct node_options **ret_options)
{
    const struct inside_options *options = life->options;
    struct node_options *made = node_options_new();
    int code = image_options_name(made, options->image, true, NULL, &life->err);
    if (code == 0)
        code = image_options_cache(made, life->cache, &life->err);
    if (code == 0)
        code = node_options_set(made, "discard", "unmap", &life->err);
    if (code == 0 && options->aio)
        code = node_options_set(made, "aio", options->aio, &life->err);
    if (code < 0)
        node_options_free(made);
    else
        *ret_options = made;
    return code;
}

/* What a killed process had in an io_uring, its locks too, lives a moment longer than it does. */
static int co_open(struct life *life, struct block_node **ret_node)
{
    uint64_t from = clock_monotonic.now_ns(&clock_monotonic);
    for (;;) {
        struct node_options *options;
        int code = make_options(life, &options);
        if (code == 0)
            code = block_co_open(&life->env, options, ret_node, &life->err);
        if (code != -EAGAIN && code != -EACCES)
            return code;
        if (clock_monotonic.now_ns(&clock_monotonic) - from > LOCK_NS_MAX)
            return code;
        sleep_co_ns(5000000);
    }
}

/* --- the device --------------------------------------------------------------------------------
 */

/* Ends the process where the trace says that who serves the disk is killed: nothing is closed. */
static void co_replay(struct life *life, struct guest_device *guest)
{
    replay_co_run(life->trace, guest, life->content, life->result);
    if (life->result->next_step < life->trace->step_count && !life->result->failure[0])
        raise(SIGKILL);
}

static int co_with_virtio(struct life *life, struct block_backend *backend)
{
    static struct virtio_driver driver; /* larger than a coroutine's stack */
    struct virtio_driver_options driver_options = {.segment_bytes = 4096};
    struct virtio_blk_options options = {
        .queue_count = life->options->queue_count,
        .queue_size = QUEUE_SIZE,
        .serial = "replay",
        .no_write_cache = image_cache_writes_through(life->cache),
    };
    struct guest_memory memory;
    struct virtio_blk *device;
    int code = virtio_driver_memory_new(&memory, options.queue_count, QUEUE_SIZE);
    if (code < 0)
        return error_set(&life->err, code, "no memory for a guest");
    code = virtio_blk_new(&device, backend, life->loop, &memory, &options, &life->err);
    if (code == 0) {
        virtio_driver_init(&driver, device, &memory, &driver_options);
        co_replay(life, &driver.guest);
        virtio_driver_co_fini(&driver);
        virtio_blk_free(device);
    }
    virtio_driver_memory_free(&memory);
    return code;
}

static int co_with_ide(struct life *life, struct block_backend *backend)
{
    struct ide_guest *guest;
    int code = ide_guest_co_new(&guest, life->loop, backend);
    if (code < 0)
        return error_set(&life->err, code, "the IDE disk cannot be set up");
    if (image_cache_writes_through(life->cache))
        guest->guest.ops->co_set_write_cache(&guest->guest, false);
    co_replay(life, &guest->guest);
    ide_guest_co_free(guest);
    return 0;
}

static int co_with_device(struct life *life, struct block_backend *backend)
{
    const char *name = life->options->device ? life->options->device : life->trace->device;
    if (strcmp(name, "virtio-blk") == 0)
        return co_with_virtio(life, backend);
    if (strcmp(name, "ide") == 0)
        return co_with_ide(life, backend);
    return error_set(&life->err, -EINVAL, "there is no device '%s'; say virtio-blk or ide", name);
}

static void co_live(void *arg)
{
    struct life *life = arg;
    struct block_node *node;
    struct block_backend *backend;
    int code = co_open(life, &node);
    if (code == 0) {
        code = block_backend_new(&backend, node, false, &life->err);
        if (code == 0)
            code = co_with_device(life, backend);
        if (code == 0 && block_co_backend_free(backend) < 0)
            code = error_set(&life->err, -EIO, "the image cannot be closed");
        block_co_node_unref(node);
    }
    life->code = code;
}

static int find_cache(const char *name, enum image_cache *ret_cache, struct error *err)
{
    for (unsigned i = 0; image_cache_names[i]; i++)
        if (strcmp(name, image_cache_names[i]) == 0) {
            *ret_cache = (enum image_cache)i;
            return 0;
        }
    return error_set(err, -EINVAL, "there is no cache mode '%s'", name);
}

int inside_live(const struct trace *trace, const struct inside_options *options,
                struct content *content, struct replay_result *result)
{
    static struct life life; /* its env is large */
    struct workers *workers = NULL;
    memset(&life, 0, sizeof(life));
    life.trace = trace;
    life.options = options;
    life.content = content;
    life.result = result;
    life.code = find_cache(options->cache, &life.cache, &life.err);
    if (life.code == 0)
        life.code = loop_new(&life.loop, 0, &poller_ev, &clock_monotonic, &life.err);
    if (life.code == 0)
        life.code = workers_new(&workers, 4, &life.err);
    if (life.code == 0)
        life.code = block_env_init(&life.env, &life.loop, 1, workers, &host_files_linux,
                                   formats_registry, &life.err);
    if (life.code == 0) {
        loop_run_all_co(life.loop, co_live, &life);
        block_env_fini(&life.env);
        workers_free(workers);
        loop_free(life.loop);
    }
    if (life.code < 0 && !result->failure[0])
        snprintf(result->failure, sizeof(result->failure), "%.190s", life.err.message);
    return result->failure[0] ? -1 : 0;
}
