/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A file that is opened again and again, with other rights, another cache mode and other options,
 * while four loops read and write it.
 *
 * Checked: every block shows what was written to it last, whichever descriptor it went through; a
 * write fails only while the file is read-only, and with -EPERM; a reopen that fails changes
 * nothing that a request sees.
 */
#include "tests/stress/stress.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "block/env.h"
#include "block/filters.h"
#include "block/host_files.h"
#include "block/node_options.h"
#include "block/reopen.h"

#define BLOCK_BYTES 700 /* no multiple of a disk's block */
#define WRITERS 8
#define BLOCKS_PER_WRITER 16
#define SIZE ((uint64_t)WRITERS * BLOCKS_PER_WRITER * BLOCK_BYTES)
#define REOPENS 100

struct shared {
    struct stress stress;
    struct block_env env;
    struct block_backend *backend;
    char path[100];
    atomic_uint numbers;
    atomic_bool ended;
    atomic_uint writes, refused;
};

static void run_writer(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    unsigned number = atomic_fetch_add(&shared->numbers, 1);
    uint8_t stored[BLOCKS_PER_WRITER] = {0}, data[BLOCK_BYTES];
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, sizeof(data));
    stress_random(&shared->stress, &random, number);
    while (!atomic_load(&shared->ended)) {
        unsigned block = (unsigned)random_below(&random, BLOCKS_PER_WRITER);
        uint64_t offset = (number * BLOCKS_PER_WRITER + block) * (uint64_t)BLOCK_BYTES;
        uint8_t wanted = (uint8_t)(stored[block] + 1);
        memset(data, wanted, sizeof(data));
        int rc = block_co_write(shared->backend, offset, &vec,
                                random_once_in(&random, 20) ? BLOCK_FUA : 0);
        check(rc == 0 || rc == -EPERM);
        atomic_fetch_add(rc == 0 ? &shared->writes : &shared->refused, 1);
        if (rc == 0)
            stored[block] = wanted;
        check(block_co_read(shared->backend, offset, &vec) == 0);
        for (unsigned i = 0; i < BLOCK_BYTES; i++)
            check(data[i] == stored[block]);
        stress_co_dawdle(&shared->stress, &random);
    }
}

static void run_reopener(void *arg)
{
    static const char *const changes[] = {
        "read-only=on",       "read-only=off",
        "cache.direct=on",    "cache.direct=off",
        "discard=unmap",      "file.aio=threads",
        "file.aio=io_uring",  "cache.direct=on,read-only=off",
        "file.locking=off",   "file.colour=red", /* these two always fail */
        "cache.no-flush=off", "read-only=on,cache.direct=off",
    };
    struct shared *shared = arg;
    struct random random;
    unsigned failed = 0;
    stress_random(&shared->stress, &random, WRITERS);
    for (unsigned i = 0; i < REOPENS; i++) {
        struct error err;
        struct node_options *options = node_options_new();
        const char *text = changes[random_below(&random, sizeof(changes) / sizeof(*changes))];
        check(node_options_parse(options, text, NULL) == 0);
        failed += block_co_reopen(shared->backend, options, &err) < 0;
        stress_co_dawdle(&shared->stress, &random);
    }
    check(failed > 0 && failed < REOPENS);
    atomic_store(&shared->ended, true);
}

static void open_graph(void *arg)
{
    struct shared *shared = arg;
    struct block_node *node;
    struct node_options *options = node_options_new();
    check(node_options_parse(options, "driver=delay,file.driver=file", NULL) == 0);
    check(node_options_set(options, "file.filename", shared->path, NULL) == 0);
    check(block_co_open(&shared->env, options, &node, NULL) == 0);
    check(block_backend_new(&shared->backend, node, false, NULL) == 0);
    block_co_node_unref(node);
}

static void close_graph(void *arg)
{
    struct shared *shared = arg;
    check(block_co_backend_free(shared->backend) == 0);
}

int main(void)
{
    static const struct block_driver *const drivers[] = {&block_filter_delay, &block_driver_file,
                                                         NULL};
    static struct shared shared;
    const char *place = getenv("TMPDIR");
    snprintf(shared.path, sizeof(shared.path), "%.60s/platter-reopen-XXXXXX",
             place ? place : "/tmp");
    int fd = mkstemp(shared.path);
    check(fd >= 0 && ftruncate(fd, (off_t)SIZE) == 0 && close(fd) == 0);
    stress_init(&shared.stress, "reopen");
    check(block_env_init(&shared.env, shared.stress.loops, STRESS_LOOPS, shared.stress.workers,
                         &host_files_linux, drivers, NULL) == 0);
    check(loop_run_co(shared.stress.loops[0], open_graph, &shared) == 0);
    for (unsigned i = 0; i < WRITERS; i++)
        stress_spawn(&shared.stress, i % STRESS_LOOPS, run_writer, &shared);
    stress_spawn(&shared.stress, 1, run_reopener, &shared);
    stress_run(&shared.stress);
    printf("reopen: %u writes, %u refused\n", atomic_load(&shared.writes),
           atomic_load(&shared.refused));
    check(atomic_load(&shared.writes) > 0);
    check(loop_run_co(shared.stress.loops[0], close_graph, &shared) == 0);
    block_env_fini(&shared.env);
    stress_fini(&shared.stress);
    check(unlink(shared.path) == 0);
    return 0;
}
