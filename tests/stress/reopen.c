/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A file, and a qcow2 image, that is opened again and again, with other rights, another cache mode
 * and other options, while four loops read and write it and look at its statistics.
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
#include "formats/qcow2/driver.h"

#define BLOCK_BYTES 700 /* no multiple of a disk's block */
#define WRITERS 8
#define BLOCKS_PER_WRITER 16
#define SIZE ((uint64_t)WRITERS * BLOCKS_PER_WRITER * BLOCK_BYTES)
#define REOPENS 100

struct graph {
    const char *name, *options, *path_option;
    const char *changes[16]; /* NULL-ended; some always fail */
};

static const struct graph graphs[] = {
    {"a file",
     "driver=delay,file.driver=file",
     "file.filename",
     {"read-only=on", "read-only=off", "cache.direct=on", "cache.direct=off", "discard=unmap",
      "file.aio=threads", "file.aio=io_uring", "cache.direct=on,read-only=off",
      "file.locking=off", /* always fails */
      "file.colour=red",  /* and so does this */
      "cache.no-flush=off", "read-only=on,cache.direct=off"}},
    {"a qcow2 image",
     "driver=qcow2,lazy-refcounts=on,l2-cache-entry-size=512,file.driver=file",
     "file.filename",
     {"read-only=on", "read-only=off", "cache.direct=on", "cache.direct=off", "discard=unmap",
      "lazy-refcounts=on", "lazy-refcounts=off", "l2-cache-entry-size=512,l2-cache-size=4k",
      "l2-cache-entry-size=4k,cache-clean-interval=1", "cache-size=1M,read-only=on",
      "refcount-cache-size=16k,lazy-refcounts=on,read-only=off",
      "l2-cache-entry-size=3", /* always fails */
      "read-only=on,file.colour=red"}},
};

struct shared {
    const struct graph *graph;
    struct stress stress;
    struct block_env env;
    struct block_backend *backend;
    char path[100];
    atomic_uint numbers;
    atomic_bool ended;
    atomic_uint writes, refused;
};

static void take_number(void *arg, const char *name, uint64_t value)
{
    uint64_t *sum = arg;
    (void)name;
    *sum += value;
}

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
        uint64_t sum = 0;
        block_node_tell_numbers(block_backend_node(shared->backend), take_number, &sum);
        stress_co_dawdle(&shared->stress, &random);
    }
}

static void run_reopener(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    const char *const *changes = shared->graph->changes;
    unsigned failed = 0, count = 0;
    while (changes[count])
        count++;
    stress_random(&shared->stress, &random, WRITERS);
    for (unsigned i = 0; i < REOPENS; i++) {
        struct error err;
        struct node_options *options = node_options_new();
        const char *text = changes[random_below(&random, count)];
        check(node_options_parse(options, text, NULL) == 0);
        failed += block_co_reopen(shared->backend, options, &err) < 0;
        stress_co_dawdle(&shared->stress, &random);
    }
    check(failed > 0 && failed < REOPENS);
    atomic_store(&shared->ended, true);
}

static void create_image(struct shared *shared)
{
    struct node_options *options = node_options_new();
    check(node_options_parse(options, "driver=qcow2,cluster_size=512", NULL) == 0);
    check(node_options_set(options, "filename", shared->path, NULL) == 0);
    char size[32];
    snprintf(size, sizeof(size), "%llu", (unsigned long long)SIZE);
    check(node_options_set(options, "size", size, NULL) == 0);
    check(block_co_create(&shared->env, options, NULL) == 0);
}

static void open_graph(void *arg)
{
    struct shared *shared = arg;
    struct block_node *node;
    struct node_options *options = node_options_new();
    if (strstr(shared->graph->options, "qcow2"))
        create_image(shared);
    check(node_options_parse(options, shared->graph->options, NULL) == 0);
    check(node_options_set(options, shared->graph->path_option, shared->path, NULL) == 0);
    check(block_co_open(&shared->env, options, &node, NULL) == 0);
    check(block_backend_new(&shared->backend, node, false, NULL) == 0);
    block_co_node_unref(node);
}

static void close_graph(void *arg)
{
    struct shared *shared = arg;
    check(block_co_backend_free(shared->backend) == 0);
}

static void run_graph(const struct graph *graph)
{
    static const struct block_driver *const drivers[] = {&block_filter_delay, &block_driver_file,
                                                         &format_qcow2, NULL};
    static struct shared shared;
    const char *place = getenv("TMPDIR");
    shared = (struct shared){.graph = graph};
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
    printf("reopen %s: %u writes, %u refused\n", graph->name, atomic_load(&shared.writes),
           atomic_load(&shared.refused));
    check(atomic_load(&shared.writes) > 0);
    check(loop_run_co(shared.stress.loops[0], close_graph, &shared) == 0);
    block_env_fini(&shared.env);
    stress_fini(&shared.stress);
    check(unlink(shared.path) == 0);
}

int main(void)
{
    for (size_t i = 0; i < sizeof(graphs) / sizeof(*graphs); i++)
        run_graph(&graphs[i]);
    return 0;
}
