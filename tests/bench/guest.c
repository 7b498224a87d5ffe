/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the stack costs a virtual machine: 4 KiB random reads by the virtio-blk model, in one
 * process without a network, the guest's driver among them.
 *
 *     guest IMAGE_OPTS [SECONDS [DEPTH]]     IMAGE_OPTS as --image-opts takes them
 *
 * Prints one line of JSON: requests a second, and processor time a request. tests/bench/guest-reads
 * compares it with fio.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "block/block.h"
#include "block/coroutine.h"
#include "block/env.h"
#include "block/host_files.h"
#include "block/image_options.h"
#include "block/loop.h"
#include "block/node_options.h"
#include "block/workers.h"
#include "common/random.h"
#include "formats/registry.h"
#include "tests/harness/virtio_blk.h"
#include "tests/harness/virtio_driver.h"

#define READ_SECTORS 8
#define QUEUE_SIZE 128

struct bench {
    const char *image;
    uint64_t duration_ns;
    unsigned depth;
    struct loop *loop;
    struct block_env env;

    struct virtio_driver driver;
    struct random random;
    uint64_t end_ns;
    uint64_t requests;
    unsigned in_flight;
    struct coroutine *waiter;
};

static struct bench bench; /* larger than a coroutine's stack */

static void must(bool is_good, const char *what)
{
    if (!is_good) {
        fprintf(stderr, "guest: %s\n", what);
        exit(1);
    }
}

static uint64_t time_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void send_one(void);

static void answered(struct virtio_driver_slot *slot, uint8_t status, uint32_t written)
{
    (void)slot;
    must(status == VIRTIO_BLK_S_OK && written == READ_SECTORS * VIRTIO_SECTOR + 1, "a read failed");
    bench.requests++;
    bench.in_flight--;
    if (loop_now_ns(bench.loop) < bench.end_ns)
        send_one();
    else if (bench.in_flight == 0)
        coroutine_wake(bench.waiter);
}

static void send_one(void)
{
    struct virtio_driver_slot *slot = virtio_driver_slot(&bench.driver, 0);
    uint64_t blocks = bench.driver.guest.sector_count / READ_SECTORS;
    slot->done = answered;
    virtio_driver_fill_header(slot, VIRTIO_BLK_T_IN,
                              READ_SECTORS * random_below(&bench.random, blocks));
    virtio_driver_send(slot, 0, READ_SECTORS * VIRTIO_SECTOR);
    bench.in_flight++;
}

static void co_measure(void)
{
    uint64_t from_ns = time_ns(CLOCK_MONOTONIC), cpu_ns = time_ns(CLOCK_PROCESS_CPUTIME_ID);
    bench.end_ns = loop_now_ns(bench.loop) + bench.duration_ns;
    for (unsigned i = 0; i < bench.depth; i++)
        send_one();
    bench.waiter = coroutine_self();
    coroutine_yield();
    cpu_ns = time_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns;
    from_ns = time_ns(CLOCK_MONOTONIC) - from_ns;
    printf("{\"requests_per_s\": %.0f, \"cpu_ns_per_request\": %.0f, \"kicks\": %llu}\n",
           (double)bench.requests * 1e9 / (double)from_ns, (double)cpu_ns / (double)bench.requests,
           (unsigned long long)bench.driver.kicks);
}

static void co_main(void *arg)
{
    struct virtio_blk_options options = {.queue_count = 1, .queue_size = QUEUE_SIZE};
    struct virtio_driver_options driver_options = {.segment_bytes = 4096};
    struct node_options *image = node_options_new();
    struct error err = {.message = ""};
    struct guest_memory memory;
    struct virtio_blk *device;
    struct block_node *node;
    struct block_backend *backend;
    (void)arg;
    must(image_options_name(image, bench.image, true, NULL, &err) == 0, err.message);
    must(block_co_open(&bench.env, image, &node, &err) == 0, err.message);
    must(block_backend_new(&backend, node, false, &err) == 0, err.message);
    must(virtio_driver_memory_new(&memory, 1, QUEUE_SIZE) == 0, "no memory for a guest");
    must(virtio_blk_new(&device, backend, bench.loop, &memory, &options, &err) == 0, err.message);
    virtio_driver_init(&bench.driver, device, &memory, &driver_options);
    co_measure();
    virtio_driver_co_fini(&bench.driver);
    virtio_blk_free(device);
    virtio_driver_memory_free(&memory);
    block_co_backend_free(backend);
    block_co_node_unref(node);
}

int main(int argc, char **argv)
{
    struct error err = {.message = ""};
    struct workers *workers;
    must(argc >= 2, "say which image: guest IMAGE_OPTS [SECONDS [DEPTH]]");
    bench.image = argv[1];
    bench.duration_ns = (uint64_t)((argc > 2 ? atof(argv[2]) : 2) * 1e9);
    bench.depth = argc > 3 ? (unsigned)atoi(argv[3]) : 32;
    must(bench.depth >= 1 && bench.depth <= QUEUE_SIZE / 2, "the depth can be 1 to 64");
    random_seed(&bench.random, 1);
    must(loop_new(&bench.loop, 0, &poller_ev, &clock_monotonic, &err) == 0, err.message);
    must(workers_new(&workers, 4, &err) == 0, err.message);
    must(block_env_init(&bench.env, &bench.loop, 1, workers, &host_files_linux, formats_registry,
                        &err) == 0,
         err.message);
    loop_run_all_co(bench.loop, co_main, NULL);
    block_env_fini(&bench.env);
    workers_free(workers);
    loop_free(bench.loop);
    return 0;
}
