/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/vhost_user_device.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

static const uint64_t protocol_offered = VIRTIO_FEATURE(VHOST_USER_PROTOCOL_F_MQ) |
                                         VIRTIO_FEATURE(VHOST_USER_PROTOCOL_F_REPLY_ACK) |
                                         VIRTIO_FEATURE(VHOST_USER_PROTOCOL_F_CONFIG) |
                                         VIRTIO_FEATURE(VHOST_USER_PROTOCOL_F_RESET_DEVICE);

static uint64_t offered(const struct vhost_user_device *device)
{
    return virtio_blk_offered(&device->model->shape) |
           VIRTIO_FEATURE(VHOST_USER_F_PROTOCOL_FEATURES);
}

/* --- life --------------------------------------------------------------------------------------
 */

int vhost_user_device_init(struct vhost_user_device *device, struct block_backend *backend,
                           struct loop *loop, const struct virtio_blk_options *options,
                           struct error *err)
{
    struct virtio_blk_options own = *options;
    _Static_assert(VHOST_USER_REGIONS_MAX <= GUEST_REGIONS_MAX, "a table fits");
    own.on_broken = vhost_user_ring_broken;
    own.arg = device;
    *device = (struct vhost_user_device){.loop = loop};
    vhost_user_rings_init(device);
    return virtio_blk_new(&device->model, backend, loop, &device->memory.guest, &own, err);
}

void vhost_user_device_fini(struct vhost_user_device *device)
{
    virtio_blk_free(device->model);
    device->model = NULL;
}

static void co_reset(struct vhost_user_device *device)
{
    vhost_user_rings_co_pause(device);
    virtio_blk_co_reset(device->model);
    for (unsigned i = 0; i < VIRTIO_BLK_QUEUES_MAX; i++) {
        device->rings[i].is_started = device->rings[i].is_enabled = false;
        device->rings[i].next = 0;
    }
    device->features = 0;
    device->has_write_cache_set = false;
}

static void co_forget(struct vhost_user_device *device)
{
    vhost_user_rings_co_forget(device);
    virtio_blk_co_reset(device->model);
    vhost_user_memory_unmap(&device->memory);
    device->features = device->protocol_features = 0;
    device->has_write_cache_set = false;
}

/* --- features and configuration ----------------------------------------------------------------
 */

static int check_features(const struct vhost_user_device *device, uint64_t features,
                          struct error *err)
{
    uint64_t unknown = features & ~offered(device);
    if (unknown)
        return error_set(err, -EINVAL,
                         "the features 0x%" PRIx64 ", of which 0x%" PRIx64 " were not offered",
                         features, unknown);
    if (!(features & VIRTIO_FEATURE(VIRTIO_F_VERSION_1)))
        return error_set(err, -ENOTSUP, "the guest's driver is older than VIRTIO 1");
    return 0;
}

static bool is_running(const struct vhost_user_device *device)
{
    for (unsigned i = 0; i < device->model->queue_count; i++)
        if (device->rings[i].runs)
            return true;
    return false;
}

/* What the guest's driver has set before it was there, as far as the front-end knows. */
static void restore_write_cache(struct vhost_user_device *device)
{
    uint8_t wce = device->write_cache;
    if (device->has_write_cache_set)
        virtio_blk_write_config(device->model, offsetof(struct virtio_blk_config, wce), &wce, 1);
}

static int co_set_features(struct vhost_user_device *device, uint64_t features, struct error *err)
{
    int rc = check_features(device, features, err);
    if (rc < 0)
        return rc;
    if (is_running(device))
        return features == device->features
                   ? 0
                   : error_set(err, -EBUSY, "the features change while the rings run");
    device->features = features;
    virtio_blk_co_reset(device->model);
    virtio_blk_set_features(device->model, features);
    virtio_blk_set_status(device->model, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
                                             VIRTIO_CONFIG_S_FEATURES_OK |
                                             VIRTIO_CONFIG_S_DRIVER_OK);
    restore_write_cache(device);
    return vhost_user_rings_co_apply(device, err);
}

static int set_protocol_features(struct vhost_user_device *device, uint64_t features,
                                 struct error *err)
{
    if (features & ~protocol_offered)
        return error_set(err, -EINVAL,
                         "the protocol features 0x%" PRIx64 ", of which 0x%" PRIx64 " are offered",
                         features, features & protocol_offered);
    device->protocol_features = features;
    return 0;
}

static int set_config(struct vhost_user_device *device, const struct vhost_user_message *message,
                      struct error *err)
{
    if (message->config.offset != offsetof(struct virtio_blk_config, wce) ||
        message->config.length != 1)
        return error_set(err, -EINVAL, "SET_CONFIG of %u bytes at %u; only wce can be written",
                         message->config.length, message->config.offset);
    device->has_write_cache_set = true;
    device->write_cache = message->config.bytes[0] & 1;
    restore_write_cache(device);
    return 0;
}

/* --- memory ------------------------------------------------------------------------------------
 */

static int co_set_memory(struct vhost_user_device *device, const struct vhost_user_message *message,
                         const int *fds, struct error *err)
{
    int rc;
    vhost_user_rings_co_pause(device);
    vhost_user_memory_unmap(&device->memory);
    rc = vhost_user_memory_map(&device->memory, message, fds, err);
    return rc < 0 ? rc : vhost_user_rings_co_apply(device, err);
}

/* --- replies -----------------------------------------------------------------------------------
 */

static int co_send_number(struct vhost_user_socket *socket, uint32_t type, uint64_t number,
                          struct error *err)
{
    return vhost_user_co_send(socket, type, &number, sizeof(number), err);
}

static int co_send_config(struct vhost_user_device *device, struct vhost_user_socket *socket,
                          const struct vhost_user_message *message, struct error *err)
{
    const uint32_t words[] = {message->config.offset, message->config.length, 0};
    uint8_t bytes[sizeof(words) + VHOST_USER_CONFIG_MAX];
    memcpy(bytes, words, sizeof(words));
    virtio_blk_read_config(device->model, message->config.offset, bytes + sizeof(words),
                           message->config.length);
    return vhost_user_co_send(socket, message->type, bytes,
                              (uint32_t)sizeof(words) + message->config.length, err);
}

static int co_send_base(struct vhost_user_device *device, struct vhost_user_socket *socket,
                        const struct vhost_user_message *message, struct error *err)
{
    const uint32_t words[] = {message->queue, device->rings[message->queue].next};
    return vhost_user_co_send(socket, message->type, words, sizeof(words), err);
}

/* 1: it was a question, and is answered. 0: it asks for nothing. */
static int co_answer(struct vhost_user_device *device, struct vhost_user_socket *socket,
                     const struct vhost_user_message *message, struct error *err)
{
    int rc;
    switch (message->type) {
    case VHOST_USER_GET_FEATURES:
        rc = co_send_number(socket, message->type, offered(device), err);
        break;
    case VHOST_USER_GET_PROTOCOL_FEATURES:
        rc = co_send_number(socket, message->type, protocol_offered, err);
        break;
    case VHOST_USER_GET_QUEUE_NUM:
        rc = co_send_number(socket, message->type, device->model->queue_count, err);
        break;
    case VHOST_USER_GET_CONFIG:
        rc = co_send_config(device, socket, message, err);
        break;
    case VHOST_USER_GET_VRING_BASE:
        rc = co_send_base(device, socket, message, err);
        break;
    default:
        return 0;
    }
    return rc < 0 ? rc : 1;
}

/* --- messages ----------------------------------------------------------------------------------
 */

static int co_carry_out(struct vhost_user_device *device, struct vhost_user_socket *socket,
                        const struct vhost_user_message *message, struct error *err)
{
    switch (message->type) {
    case VHOST_USER_SET_FEATURES:
        return co_set_features(device, message->features, err);
    case VHOST_USER_SET_PROTOCOL_FEATURES:
        return set_protocol_features(device, message->features, err);
    case VHOST_USER_SET_MEM_TABLE:
        return co_set_memory(device, message, socket->fds, err);
    case VHOST_USER_SET_CONFIG:
        return set_config(device, message, err);
    case VHOST_USER_RESET_OWNER: /* no front-end sends it any more; some meant this by it */
        for (unsigned i = 0; i < VIRTIO_BLK_QUEUES_MAX; i++)
            device->rings[i].is_enabled = false;
        return vhost_user_rings_co_apply(device, err);
    case VHOST_USER_RESET_DEVICE:
        co_reset(device);
        return 0;
    case VHOST_USER_SET_OWNER:
    case VHOST_USER_GET_FEATURES:
    case VHOST_USER_GET_PROTOCOL_FEATURES:
    case VHOST_USER_GET_QUEUE_NUM:
    case VHOST_USER_GET_CONFIG:
        return 0;
    default:
        return vhost_user_ring_co_handle(device, message, &socket->fds[0], err);
    }
}

static int co_handle(struct vhost_user_device *device, struct vhost_user_socket *socket,
                     const struct vhost_user_message *message, struct error *err)
{
    bool has_ack = device->protocol_features & VIRTIO_FEATURE(VHOST_USER_PROTOCOL_F_REPLY_ACK);
    int code = co_carry_out(device, socket, message, err);
    int rc = code < 0 ? 0 : co_answer(device, socket, message, err);
    if (rc == 0 && message->needs_reply && has_ack)
        rc = co_send_number(socket, message->type, code < 0, code < 0 ? NULL : err);
    if (code < 0)
        return code;
    return rc < 0 ? rc : 0;
}

int vhost_user_device_co_serve(struct vhost_user_device *device, int fd, struct error *err)
{
    struct vhost_user_socket socket;
    struct vhost_user_message message;
    int rc;
    vhost_user_socket_init(&socket, device->loop, fd);
    while ((rc = vhost_user_co_receive(&socket, &message, err)) > 0) {
        device->message_count++;
        rc = co_handle(device, &socket, &message, err);
        if (rc < 0)
            break;
    }
    vhost_user_socket_fini(&socket);
    co_forget(device);
    return rc;
}
