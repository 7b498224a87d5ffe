/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the block layer itself costs a request: a backend over a format node that hands everything
 * on over a protocol node that does nothing. Prints one line a kind; `pipeline [REQUESTS]`, fewer
 * of them under a tool that counts instructions.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "block/coroutine.h"
#include "block/driver.h"
#include "block/env.h"
#include "block/loop.h"
#include "block/node_options.h"
#include "block/workers.h"

#define REQUESTS_DEFAULT 3000000
#define SIZE (UINT64_C(1) << 30)

static unsigned request_count = REQUESTS_DEFAULT;

static void must(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "pipeline: %s: %d\n", what, rc);
        exit(1);
    }
}

/* --- drivers --------------------------------------------------------------------------------- */

static int null_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    (void)options;
    (void)err;
    atomic_store(&node->size_bytes, SIZE);
    node->limits.request_alignment = 512;
    return 0;
}

static void null_co_close(struct block_node *node)
{
    (void)node;
}

static int null_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    (void)node;
    (void)offset;
    (void)vec;
    return 0;
}

static int null_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                         unsigned flags)
{
    (void)flags;
    return null_co_read(node, offset, vec);
}

static const struct block_driver null_driver = {
    .name = "null",
    .flags = BLOCK_DRIVER_PROTOCOL | BLOCK_DRIVER_FUA,
    .co_open = null_co_open,
    .co_close = null_co_close,
    .co_read = null_co_read,
    .co_write = null_co_write,
};

static int pass_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    int rc = block_co_open_child(node, options, "file", &node->file, err);
    if (rc < 0)
        return rc;
    atomic_store(&node->size_bytes, atomic_load(&node->file->size_bytes));
    return 0;
}

static int pass_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    return node_co_read(node->file, offset, vec);
}

static int pass_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                         unsigned flags)
{
    return node_co_write(node->file, offset, vec, flags);
}

static const struct block_driver pass_driver = {
    .name = "pass",
    .flags = BLOCK_DRIVER_FUA,
    .co_open = pass_co_open,
    .co_close = null_co_close,
    .co_read = pass_co_read,
    .co_write = pass_co_write,
};

static const struct block_driver *const drivers[] = {&null_driver, &pass_driver, NULL};

/* --- runs ------------------------------------------------------------------------------------ */

/* A machine that others use too lets the clock run while we do not: so the processor's time. */
static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint8_t bytes[8192] __attribute__((aligned(4096)));

static void run_kind(struct block_backend *backend, const char *what, bool is_write,
                     uint64_t first_offset, unsigned requests)
{
    uint64_t start_ns = cpu_ns();
    for (unsigned i = 0; i < requests; i++) {
        struct iovec iov;
        struct block_vec vec = vec_of_buffer(&iov, bytes, 4096);
        uint64_t offset = first_offset + (uint64_t)i % 65536 * 4096;
        int rc = is_write ? block_co_write(backend, offset, &vec, 0)
                          : block_co_read(backend, offset, &vec);
        must(rc, "a request failed");
    }
    printf("%-44s %8.1f ns\n", what, (double)(cpu_ns() - start_ns) / requests);
}

static void run_on(struct block_env *env, const char *top, const char *bottom)
{
    struct block_node *node;
    struct block_backend *backend;
    struct node_options *options = node_options_new();
    char what[80];
    must(!options, "no memory");
    must(node_options_set(options, "driver", top, NULL), "options");
    if (bottom)
        must(node_options_set(options, "file.driver", bottom, NULL), "options");
    must(block_co_open(env, options, &node, NULL), "open");
    must(block_backend_new(&backend, node, false, NULL), "backend");
    bottom = bottom ? " -> null" : "";
    snprintf(what, sizeof(what), "4 KiB read, backend -> %s%s", top, bottom);
    run_kind(backend, what, false, 0, request_count);
    snprintf(what, sizeof(what), "4 KiB write, backend -> %s%s", top, bottom);
    run_kind(backend, what, true, 0, request_count);
    snprintf(what, sizeof(what), "4 KiB unaligned write, backend -> %s%s", top, bottom);
    run_kind(backend, what, true, 100, request_count / 10);
    must(block_co_backend_free(backend), "close");
    block_co_node_unref(node);
}

static void run_all(void *arg)
{
    run_on(arg, "null", NULL);
    run_on(arg, "pass", "null");
}

int main(int argc, char **argv)
{
    if (argc > 1)
        request_count = (unsigned)strtoul(argv[1], NULL, 10);
    struct loop *loop;
    struct workers *workers;
    struct block_env env;
    must(loop_new(&loop, 0, &poller_ev, &clock_monotonic, NULL), "loop");
    must(workers_new(&workers, 1, NULL), "workers");
    must(block_env_init(&env, &loop, 1, workers, NULL, drivers, NULL), "env");
    must(loop_run_co(loop, run_all, &env), "run");
    block_env_fini(&env);
    workers_free(workers);
    loop_free(loop);
    return 0;
}
