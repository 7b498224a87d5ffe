/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_VIRTIO_BLK_H
#define TESTS_HARNESS_VIRTIO_BLK_H

/*
 * A virtio-blk device on the block layer's callback entry points (block/aio.h): a test tool, which
 * shows the block layer what a virtual machine's disk does to it. VIRTIO 1.2, section 5.2.
 *
 * The device has no transport. Who drives it, a test, a trace or a vhost-user socket, calls what a
 * transport would turn register accesses into: features, status, configuration space, queues. Kicks
 * and calls are eventfds.
 *
 * The way of a request: a kick makes the loop look at the queue (virtio_blk.c). All requests are
 * taken while kicks are off, and there is a second look after they are on again. Reads and writes
 * are collected, sorted and merged (virtio_merge.c); all of it is plugged and goes down together
 * (virtio_submit.c). Each callback answers the requests that were merged; those that end in one
 * round of the loop are shown to the guest together, with one call if it wants one.
 *
 * A request that the disk fails is judged by the policy (virtio_policy.c).
 *
 * All of it is called on the device's one loop. Only functions with _co_ wait.
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"
#include "block/loop.h"
#include "server/error_policy.h"
#include "tests/harness/virtio_merge.h"
#include "tests/harness/virtio_request.h"

#define VIRTIO_BLK_QUEUES_MAX 16

struct virtio_blk;

struct virtio_blk_queue {
    struct virtio_blk *device;
    struct virtio_ring ring;
    struct loop_watch kick; /* its descriptor is the starter's; -1: virtio_blk_kick() alone */
    int call_fd;            /* the same; -1: nobody is told */
    struct loop_task answer;
    uint8_t *request_memory;
    struct list free;
    unsigned in_flight; /* taken and not answered; held ones too */
    bool is_ending;     /* nothing is taken, begun or held any more */
    struct coroutine *waiter;
};

/* What one look at queues has found and not yet begun. */
struct virtio_collection {
    struct virtio_batch reads, writes;
};

struct virtio_blk_options {
    unsigned queue_count; /* 1 to VIRTIO_BLK_QUEUES_MAX */
    uint16_t queue_size;  /* what drivers are told: a power of two from 4 on */
    uint32_t block_bytes; /* 0: 512 */
    const char *serial;   /* cut after 20 bytes; NULL: none */
    bool no_write_cache;  /* after a reset */
    bool no_merging;
    enum error_action on_read, on_write; /* all others are judged as writes */
    /* The guest broke the device by what it wrote into that queue; NULL: its status says so alone.
     */
    void (*on_broken)(void *arg, unsigned queue, const char *why);
    void *arg;
};

struct virtio_blk_counters {
    uint64_t kicks, looks;      /* looks: at a queue, that found a request */
    uint64_t calls, calls_lost; /* lost: of them, those that the eventfd did not take */
    uint64_t submitted;         /* requests to the block layer */
    uint64_t held, stops;
};

struct virtio_blk {
    struct block_backend *backend; /* the owner's, as the memory is */
    struct loop *loop;
    const struct guest_memory *memory;
    struct virtio_blk_shape shape;
    struct virtio_merge_limits merge_limits;
    enum error_action on_read, on_write;
    bool initial_write_cache;
    void (*on_broken)(void *arg, unsigned queue, const char *why);
    void *arg;

    uint64_t features; /* negotiated */
    uint8_t status;
    bool write_cache;   /* off: writes are FUA */
    const char *broken; /* NULL, or why a guest must reset the device */
    bool is_stopped;    /* by the policy: nothing is taken, what failed is held */
    struct list held;

    struct account account; /* the guest's requests, with how many were merged */
    struct virtio_blk_counters counters;
    unsigned queue_count;
    struct virtio_blk_queue queues[VIRTIO_BLK_QUEUES_MAX];
};

/* On the loop. Regions of the memory may change while no queue is started. */
int virtio_blk_new(struct virtio_blk **ret_device, struct block_backend *backend, struct loop *loop,
                   const struct guest_memory *memory, const struct virtio_blk_options *options,
                   struct error *err);
/* It was reset. Takes NULL. */
void virtio_blk_free(struct virtio_blk *device);

/* --- what a transport does --------------------------------------------------------------------
 */

/* What is not offered is left out. After FEATURES_OK nothing is taken any more. */
void virtio_blk_set_features(struct virtio_blk *device, uint64_t features);
/* The status byte (2.1); not 0, which is a reset. FEATURES_OK does not stay when the features do
 * not suffice: VERSION_1 is needed. */
void virtio_blk_set_status(struct virtio_blk *device, uint8_t status);
/* Ends what is in flight, drops what is held, and makes everything as it was in the beginning, the
 * write cache too. */
void virtio_blk_co_reset(struct virtio_blk *device);

/* Bytes behind the end of the configuration space read as zeroes; of it, the driver may write `wce`
 * alone, when that was negotiated. */
void virtio_blk_read_config(const struct virtio_blk *device, unsigned offset, void *bytes,
                            unsigned length);
void virtio_blk_write_config(struct virtio_blk *device, unsigned offset, const void *bytes,
                             unsigned length);

/* The queue is looked at from now on, whether DRIVER_OK was set or not: some drivers kick before.
 * next: the entry to begin with, 0 in a new one. The descriptors stay the caller's. -EINVAL: it
 * cannot lie there. */
int virtio_blk_start_queue(struct virtio_blk *device, unsigned index, uint16_t size,
                           const struct virtio_ring_place *place, uint16_t next, int kick_fd,
                           int call_fd);
/* Calls of a started queue go there from now on; -1: nowhere. */
void virtio_blk_set_call_fd(struct virtio_blk *device, unsigned index, int call_fd);
/* Waits for what it has in flight. Returns the entry to go on with. */
uint16_t virtio_blk_co_stop_queue(struct virtio_blk *device, unsigned index);
void virtio_blk_kick(struct virtio_blk *device, unsigned index);

/* --- what a machine's owner does --------------------------------------------------------------
 */

/* After a stop: held requests are tried again, and the queues looked at. */
void virtio_blk_resume(struct virtio_blk *device);

/* --- between the parts -------------------------------------------------------------------------
 */

/* virtio_submit.c: reads and writes wait in the collection for their neighbours, until it is full,
 * a flush comes, or the end; the rest begins at once. The collection is all zero at first. Between
 * block_plug() and block_unplug(). */
void virtio_collect(struct virtio_blk *device, struct virtio_collection *collection,
                    struct virtio_request *request);
void virtio_collection_end(struct virtio_blk *device, struct virtio_collection *collection);
/* The disk has done what was asked of it, or that is taken for granted. */
void virtio_request_done(struct virtio_request *request);
/* The request failed with that error, and the guest is told. */
void virtio_request_fail(struct virtio_request *request, int result);
/* The request is the guest's again. */
void virtio_answer(struct virtio_request *request, uint8_t status);

/* virtio_policy.c: what becomes of a request that the disk failed. */
void virtio_judge(struct virtio_request *request, int result);
/* Nothing of that queue is held any more: the guest is told that it failed. */
void virtio_fail_held(struct virtio_blk_queue *queue);

/* virtio_blk.c: the request is nobody's any more. */
void virtio_request_free(struct virtio_request *request);
void virtio_look(struct virtio_blk_queue *queue);

#endif
