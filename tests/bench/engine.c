/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine: what the way from block/io to the disk costs, without a network.
 *
 *   engine FILE ENGINE OPERATION DEPTH COUNT [CACHE]
 *
 * FILE is an image that is there (and, for cached reads, in the page cache); ENGINE is io_uring,
 * threads, native or sync; OPERATION is read, write or engine-write (a write that goes through the
 * engine even where the driver would make it in the loop); DEPTH coroutines do COUNT random 4 KiB
 * operations together; CACHE is writeback or none. Prints nanoseconds an operation; system calls
 * are counted by `strace -fc` around it with a COUNT that makes the start not matter.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/coroutine.h"
#include "block/driver.h"
#include "block/env.h"
#include "block/host_files.h"
#include "block/loop.h"
#include "block/node_options.h"
#include "block/workers.h"
#include "common/clock.h"
#include "common/random.h"

#define BLOCK_BYTES 4096

struct bench {
    struct block_env env;
    struct loop *loop;
    const char *path, *engine, *operation, *cache;
    unsigned depth;
    uint64_t count, left;
    unsigned running;
    struct block_node *node;
    struct coroutine *waiter;
    struct random random;
    int failed;
};

static int run_engine_write(struct bench *bench, int fd, uint64_t offset, struct iovec *iov)
{
    struct engine *engine = block_env_engine(&bench->env, engine_find(bench->engine));
    struct engine_op op = {
        .kind = ENGINE_WRITE, .fd = fd, .iov = iov, .iov_count = 1, .offset = offset};
    int64_t result = engine_co_run(engine, &op);
    return result == BLOCK_BYTES ? 0 : -EIO;
}

static int engine_write_fd = -1;

static int run_one(struct bench *bench, void *buffer)
{
    uint64_t blocks = atomic_load(&bench->node->size_bytes) / BLOCK_BYTES;
    uint64_t offset = random_below(&bench->random, blocks) * BLOCK_BYTES;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, buffer, BLOCK_BYTES);
    if (strcmp(bench->operation, "read") == 0)
        return node_co_read(bench->node, offset, &vec);
    if (strcmp(bench->operation, "write") == 0)
        return node_co_write(bench->node, offset, &vec, 0);
    return run_engine_write(bench, engine_write_fd, offset, &iov);
}

static void worker(void *arg)
{
    struct bench *bench = arg;
    struct buffer_pool *pool = &block_env_local(&bench->env)->buffers;
    void *buffer = buffer_get(pool, BLOCK_BYTES);
    memset(buffer, 1, BLOCK_BYTES);
    while (bench->left > 0 && bench->failed == 0) {
        bench->left--;
        int ret = run_one(bench, buffer);
        if (ret < 0)
            bench->failed = ret;
    }
    buffer_put(pool, buffer, BLOCK_BYTES);
    if (--bench->running == 0)
        coroutine_wake(bench->waiter);
}

static void measure(void *arg)
{
    struct bench *bench = arg;
    struct error err;
    struct node_options *options = node_options_new();
    node_options_set(options, "driver", "file", NULL);
    node_options_set(options, "filename", bench->path, NULL);
    node_options_set(options, "aio", bench->engine, NULL);
    node_options_set(options, "cache.direct", strcmp(bench->cache, "none") == 0 ? "on" : "off",
                     NULL);
    if (block_co_open(&bench->env, options, &bench->node, &err) < 0) {
        fprintf(stderr, "engine: %s\n", err.message);
        exit(1);
    }
    engine_write_fd = host_files_linux.open(&host_files_linux, bench->path, O_RDWR, 0);
    bench->running = bench->depth;
    bench->waiter = coroutine_self();
    uint64_t started_ns = clock_monotonic.now_ns(&clock_monotonic);
    for (unsigned i = 0; i < bench->depth; i++) {
        if (coroutine_start(bench->loop, worker, bench) < 0)
            abort();
    }
    coroutine_yield();
    uint64_t taken_ns = clock_monotonic.now_ns(&clock_monotonic) - started_ns;
    host_files_linux.close(&host_files_linux, engine_write_fd);
    block_co_node_unref(bench->node);
    if (bench->failed) {
        fprintf(stderr, "engine: an operation failed: %s\n", error_text(bench->failed));
        exit(1);
    }
    printf("%s %s depth %u %s: %.0f ns an operation\n", bench->engine, bench->operation,
           bench->depth, bench->cache, (double)taken_ns / (double)bench->count);
}

int main(int argc, char **argv)
{
    static const struct block_driver *const drivers[] = {&block_driver_file, NULL};
    struct workers *workers;
    struct error err;
    if (argc < 6 || argc > 7 || !engine_find(argv[2])) {
        fprintf(stderr, "usage: engine FILE io_uring|threads|sync read|write|engine-write DEPTH "
                        "COUNT [writeback|none]\n");
        return 1;
    }
    struct bench bench = {
        .path = argv[1],
        .engine = argv[2],
        .operation = argv[3],
        .cache = argc > 6 ? argv[6] : "writeback",
        .depth = (unsigned)strtoul(argv[4], NULL, 10),
        .count = strtoull(argv[5], NULL, 10),
    };
    bench.left = bench.count;
    random_seed(&bench.random, 1);
    if (loop_new(&bench.loop, 0, &poller_ev, &clock_monotonic, &err) < 0 ||
        workers_new(&workers, 16, &err) < 0 ||
        block_env_init(&bench.env, &bench.loop, 1, workers, &host_files_linux, drivers, &err) < 0) {
        fprintf(stderr, "engine: %s\n", err.message);
        return 1;
    }
    if (bench.depth == 0 || bench.count == 0 || loop_run_co(bench.loop, measure, &bench) < 0) {
        fprintf(stderr, "engine: nothing was measured\n");
        return 1;
    }
    block_env_fini(&bench.env);
    workers_free(workers);
    loop_free(bench.loop);
    return 0;
}
