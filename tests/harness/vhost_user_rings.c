/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/vhost_user_device.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/align.h"
#include "common/log.h"

static void notify(int fd)
{
    const uint64_t one = 1;
    if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
        log_warning("an eventfd of the front-end: %s", error_text(-errno));
}

static void replace_fd(int *fd, int with)
{
    if (*fd >= 0)
        close(*fd);
    *fd = with;
}

void vhost_user_rings_init(struct vhost_user_device *device)
{
    for (unsigned i = 0; i < VIRTIO_BLK_QUEUES_MAX; i++)
        device->rings[i] = (struct vhost_user_ring){.kick_fd = -1, .call_fd = -1, .err_fd = -1};
}

/* --- running -----------------------------------------------------------------------------------
 */

static void co_stop(struct vhost_user_device *device, unsigned index)
{
    struct vhost_user_ring *ring = &device->rings[index];
    if (!ring->runs)
        return;
    ring->next = virtio_blk_co_stop_queue(device->model, index);
    ring->runs = false;
}

static bool translate(const struct vhost_user_device *device, const struct virtio_ring_place *user,
                      struct virtio_ring_place *ret_place)
{
    const struct vhost_user_memory *memory = &device->memory;
    return vhost_user_memory_guest_address(memory, user->desc, &ret_place->desc) &&
           vhost_user_memory_guest_address(memory, user->avail, &ret_place->avail) &&
           vhost_user_memory_guest_address(memory, user->used, &ret_place->used);
}

static int start(struct vhost_user_device *device, unsigned index, struct error *err)
{
    struct vhost_user_ring *ring = &device->rings[index];
    struct virtio_ring_place place;
    int rc = -EINVAL;
    if (ring->size == 0 || !ring->has_place)
        return error_set(err, -EPROTO, "ring %u is started before its %s was said", index,
                         ring->size == 0 ? "size" : "place");
    if (translate(device, &ring->user, &place))
        rc = virtio_blk_start_queue(device->model, index, (uint16_t)ring->size, &place, ring->next,
                                    ring->kick_fd, ring->call_fd);
    if (rc == -ENOMEM)
        return error_set(err, rc, "no memory for ring %u", index);
    if (rc < 0)
        return error_set(err, rc,
                         "ring %u of %u entries cannot lie at 0x%" PRIx64 ", 0x%" PRIx64
                         " and 0x%" PRIx64,
                         index, ring->size, ring->user.desc, ring->user.avail, ring->user.used);
    ring->runs = true;
    /* What was added while nobody read the kicks. */
    virtio_blk_kick(device->model, index);
    return 0;
}

int vhost_user_ring_co_apply(struct vhost_user_device *device, unsigned index, struct error *err)
{
    struct vhost_user_ring *ring = &device->rings[index];
    bool has_enabling = device->features & VIRTIO_FEATURE(VHOST_USER_F_PROTOCOL_FEATURES);
    bool shall_run = ring->is_started && (ring->is_enabled || !has_enabling);
    if (shall_run && !ring->runs)
        return start(device, index, err);
    if (!shall_run)
        co_stop(device, index);
    return 0;
}

int vhost_user_rings_co_apply(struct vhost_user_device *device, struct error *err)
{
    int rc = 0;
    for (unsigned i = 0; i < device->model->queue_count && rc == 0; i++)
        rc = vhost_user_ring_co_apply(device, i, err);
    return rc;
}

void vhost_user_rings_co_pause(struct vhost_user_device *device)
{
    for (unsigned i = 0; i < device->model->queue_count; i++)
        co_stop(device, i);
}

void vhost_user_rings_co_forget(struct vhost_user_device *device)
{
    vhost_user_rings_co_pause(device);
    for (unsigned i = 0; i < VIRTIO_BLK_QUEUES_MAX; i++) {
        struct vhost_user_ring *ring = &device->rings[i];
        replace_fd(&ring->kick_fd, -1);
        replace_fd(&ring->call_fd, -1);
        replace_fd(&ring->err_fd, -1);
    }
    vhost_user_rings_init(device);
}

void vhost_user_ring_broken(void *arg, unsigned index, const char *why)
{
    struct vhost_user_device *device = arg;
    log_warning("the guest broke ring %u: %s", index, why);
    notify(device->rings[index].err_fd);
}

/* --- messages ----------------------------------------------------------------------------------
 */

/* An eventfd, which has no type, or a pipe: a file is always readable. Neither may stop the loop
 * when it is full or empty. */
static int take_fd(int *fd, int *ret_fd, struct error *err)
{
    struct stat status;
    int flags = fcntl(*fd, F_GETFL);
    if (flags < 0 || fstat(*fd, &status) < 0)
        return error_set(err, -errno, "a descriptor: %s", error_text(-errno));
    if ((status.st_mode & S_IFMT) != 0 && !S_ISFIFO(status.st_mode))
        return error_set(err, -EINVAL, "a descriptor is neither an eventfd nor a pipe");
    if (fcntl(*fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return error_set(err, -errno, "an eventfd cannot be made non-blocking: %s",
                         error_text(-errno));
    *ret_fd = *fd;
    *fd = -1;
    return 0;
}

/* From here on it is started. One that runs goes on with the new descriptor. */
static int co_set_kick(struct vhost_user_device *device, unsigned index, int fd, struct error *err)
{
    struct vhost_user_ring *ring = &device->rings[index];
    co_stop(device, index);
    replace_fd(&ring->kick_fd, fd);
    ring->is_started = true;
    return vhost_user_ring_co_apply(device, index, err);
}

static void set_call(struct vhost_user_device *device, unsigned index, int fd)
{
    struct vhost_user_ring *ring = &device->rings[index];
    if (ring->runs)
        virtio_blk_set_call_fd(device->model, index, fd);
    replace_fd(&ring->call_fd, fd);
    /* A front-end that has looked at the old one for the last time before we heard of the new one
     * would miss what went there. A call too many does no harm. */
    if (ring->runs)
        notify(fd);
}

static int co_set_file(struct vhost_user_device *device, const struct vhost_user_message *message,
                       int *fd, struct error *err)
{
    struct vhost_user_ring *ring = &device->rings[message->queue];
    int own = -1, rc = message->has_fd ? take_fd(fd, &own, err) : 0;
    if (rc < 0)
        return rc;
    switch (message->type) {
    case VHOST_USER_SET_VRING_KICK:
        if (!message->has_fd)
            return error_set(err, -ENOTSUP, "ring %u has no kicks; polling is not served",
                             message->queue);
        return co_set_kick(device, message->queue, own, err);
    case VHOST_USER_SET_VRING_CALL:
        set_call(device, message->queue, own);
        return 0;
    default:
        replace_fd(&ring->err_fd, own);
        return 0;
    }
}

static int set_size(struct vhost_user_ring *ring, const struct vhost_user_message *message,
                    struct error *err)
{
    uint32_t size = message->value;
    if (!is_power_of_two(size) || size > VIRTIO_RING_SIZE_MAX)
        return error_set(err, -EINVAL,
                         "ring %u of %u entries; it can have a power of two, up to %d",
                         message->queue, size, VIRTIO_RING_SIZE_MAX);
    ring->size = size;
    return 0;
}

static int set_base(struct vhost_user_ring *ring, const struct vhost_user_message *message,
                    struct error *err)
{
    if (message->value > UINT16_MAX)
        return error_set(err, -EINVAL, "ring %u is to begin with entry %u; there are %u",
                         message->queue, message->value, UINT16_MAX + 1);
    ring->next = (uint16_t)message->value;
    return 0;
}

static void set_place(struct vhost_user_ring *ring, const struct vhost_user_message *message)
{
    ring->user = (struct virtio_ring_place){
        .desc = message->vring.desc,
        .avail = message->vring.avail,
        .used = message->vring.used,
    };
    ring->has_place = true;
}

static int set_shape(struct vhost_user_ring *ring, const struct vhost_user_message *message,
                     struct error *err)
{
    if (ring->runs)
        return error_set(err, -EBUSY, "%s of ring %u, which runs",
                         vhost_user_type_name(message->type), message->queue);
    switch (message->type) {
    case VHOST_USER_SET_VRING_NUM:
        return set_size(ring, message, err);
    case VHOST_USER_SET_VRING_BASE:
        return set_base(ring, message, err);
    default:
        set_place(ring, message);
        return 0;
    }
}

int vhost_user_ring_co_handle(struct vhost_user_device *device,
                              const struct vhost_user_message *message, int *fd, struct error *err)
{
    struct vhost_user_ring *ring;
    if (message->queue >= device->model->queue_count)
        return error_set(err, -EINVAL, "%s of ring %u; there are %u",
                         vhost_user_type_name(message->type), message->queue,
                         device->model->queue_count);
    ring = &device->rings[message->queue];
    switch (message->type) {
    case VHOST_USER_SET_VRING_KICK:
    case VHOST_USER_SET_VRING_CALL:
    case VHOST_USER_SET_VRING_ERR:
        return co_set_file(device, message, fd, err);
    case VHOST_USER_SET_VRING_ENABLE:
        if (message->value > 1)
            return error_set(err, -EINVAL, "SET_VRING_ENABLE of ring %u has the value %u",
                             message->queue, message->value);
        ring->is_enabled = message->value;
        return vhost_user_ring_co_apply(device, message->queue, err);
    case VHOST_USER_GET_VRING_BASE:
        ring->is_started = false;
        co_stop(device, message->queue);
        replace_fd(&ring->kick_fd, -1);
        return 0;
    default:
        return set_shape(ring, message, err);
    }
}
