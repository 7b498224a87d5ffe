/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_VHOST_USER_DEVICE_H
#define TESTS_HARNESS_VHOST_USER_DEVICE_H

/*
 * A virtio-blk device (virtio_blk.h) for a virtual machine in another process: the device's half of
 * the vhost-user protocol (vhost_user_message.h has which part of it). The front-end, a virtual
 * machine monitor, says where the guest's memory and its queues are; kicks and calls go by eventfds
 * past the socket.
 *
 * A ring is *started* from SET_VRING_KICK to GET_VRING_BASE, and *enabled* by SET_VRING_ENABLE, or
 * from the beginning for a front-end that did not acknowledge VHOST_USER_F_PROTOCOL_FEATURES. The
 * model has it, it *runs*, while it is both. Memory may change at any time: the rings that run are
 * stopped, which waits for what they have in flight, and go on in the new memory.
 *
 * The protocol does not tell when a guest resets its device: the front-end stops the rings and
 * negotiates features anew when it starts them again, and keeps what the guest wrote into the
 * configuration space. So SET_FEATURES resets the model, and the write cache stays as SET_CONFIG
 * left it, as long as the guest's driver knows that it can be switched.
 *
 * What makes no sense ends the connection, with a sentence. Who asked for a reply is told before.
 *
 * One connection at a time, on the device's one loop.
 */

#include <stdbool.h>
#include <stdint.h>

#include "tests/harness/vhost_user_memory.h"
#include "tests/harness/vhost_user_socket.h"
#include "tests/harness/virtio_blk.h"

struct vhost_user_ring {
    uint32_t size;                 /* 0: not said yet */
    struct virtio_ring_place user; /* by the front-end's addresses */
    uint16_t next;                 /* while it does not run */
    int kick_fd, call_fd, err_fd;  /* our own; -1: none */
    bool has_place, is_started, is_enabled, runs;
};

struct vhost_user_device {
    struct virtio_blk *model;
    struct loop *loop;
    struct vhost_user_memory memory;
    uint64_t features;          /* what the front-end acknowledged, its own bit too */
    uint64_t protocol_features; /* the same */
    bool has_write_cache_set;   /* by SET_CONFIG, to: */
    bool write_cache;
    struct vhost_user_ring rings[VIRTIO_BLK_QUEUES_MAX];
    uint64_t message_count;
};

/* On the loop. The options' on_broken is the device's own. */
int vhost_user_device_init(struct vhost_user_device *device, struct block_backend *backend,
                           struct loop *loop, const struct virtio_blk_options *options,
                           struct error *err);
/* It serves nobody. */
void vhost_user_device_fini(struct vhost_user_device *device);

/* Serves the front-end on that socket, which is non-blocking and the caller's, until it leaves; to
 * end it, shut the socket down. Nothing of it is left then: no memory, no descriptor, and the model
 * is reset. 0; or a negative errno: why it was ended. */
int vhost_user_device_co_serve(struct vhost_user_device *device, int fd, struct error *err);

/* --- between the parts: vhost_user_rings.c -----------------------------------------------------
 */

void vhost_user_rings_init(struct vhost_user_device *device);
/* Lets a ring run or stop as its state says now. -EINVAL: it cannot lie where it was said to. */
int vhost_user_ring_co_apply(struct vhost_user_device *device, unsigned index, struct error *err);
/* All of them. */
int vhost_user_rings_co_apply(struct vhost_user_device *device, struct error *err);
/* Stops those that run, whatever their state says; co_apply lets them go on. */
void vhost_user_rings_co_pause(struct vhost_user_device *device);
/* Stops, disables and closes all that rings have. */
void vhost_user_rings_co_forget(struct vhost_user_device *device);

/* A message about a ring. Its descriptor, if there is one, is taken out of *fd. */
int vhost_user_ring_co_handle(struct vhost_user_device *device,
                              const struct vhost_user_message *message, int *fd, struct error *err);
/* The model says that the guest broke a ring. */
void vhost_user_ring_broken(void *arg, unsigned index, const char *why);

#endif
