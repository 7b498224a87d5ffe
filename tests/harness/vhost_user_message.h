/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_VHOST_USER_MESSAGE_H
#define TESTS_HARNESS_VHOST_USER_MESSAGE_H

/*
 * A message of a vhost-user front-end (a virtual machine) as its back-end (a device in a process of
 * its own) reads it. The protocol is that of QEMU's docs/interop/vhost-user.rst; of its messages,
 * those are here that a block device needs that keeps nothing over a migration or its own death:
 * no log of dirty pages, no record of requests in flight, no postcopy, no IOTLB.
 *
 * All numbers are in this machine's byte order. What a front-end says is checked here as far as a
 * message tells by itself. Nothing here waits, allocates, or makes a system call.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define VHOST_USER_HEADER_BYTES 12
#define VHOST_USER_REGIONS_MAX 8
#define VHOST_USER_CONFIG_MAX 256
#define VHOST_USER_PAYLOAD_MAX (12 + VHOST_USER_CONFIG_MAX) /* the largest one there is */
#define VHOST_USER_FDS_MAX VHOST_USER_REGIONS_MAX

enum vhost_user_type {
    VHOST_USER_GET_FEATURES = 1,
    VHOST_USER_SET_FEATURES = 2,
    VHOST_USER_SET_OWNER = 3,
    VHOST_USER_RESET_OWNER = 4,
    VHOST_USER_SET_MEM_TABLE = 5,
    VHOST_USER_SET_VRING_NUM = 8,
    VHOST_USER_SET_VRING_ADDR = 9,
    VHOST_USER_SET_VRING_BASE = 10,
    VHOST_USER_GET_VRING_BASE = 11,
    VHOST_USER_SET_VRING_KICK = 12,
    VHOST_USER_SET_VRING_CALL = 13,
    VHOST_USER_SET_VRING_ERR = 14,
    VHOST_USER_GET_PROTOCOL_FEATURES = 15,
    VHOST_USER_SET_PROTOCOL_FEATURES = 16,
    VHOST_USER_GET_QUEUE_NUM = 17,
    VHOST_USER_SET_VRING_ENABLE = 18,
    VHOST_USER_GET_CONFIG = 24,
    VHOST_USER_SET_CONFIG = 25,
    VHOST_USER_RESET_DEVICE = 34,
};

/* Beside the device's own features. */
#define VHOST_USER_F_PROTOCOL_FEATURES 30

enum vhost_user_protocol_feature {
    VHOST_USER_PROTOCOL_F_MQ = 0,
    VHOST_USER_PROTOCOL_F_REPLY_ACK = 3,
    VHOST_USER_PROTOCOL_F_CONFIG = 9,
    VHOST_USER_PROTOCOL_F_RESET_DEVICE = 13,
};

struct vhost_user_header {
    uint32_t type;
    bool needs_reply; /* of a message that has none of its own; means something with REPLY_ACK */
    uint32_t payload_bytes;
};

/* A piece of the guest's memory: of a file, at an address in the guest's view, and at one in the
 * front-end's, its *user address*. */
struct vhost_user_region {
    uint64_t guest_address, length, user_address, file_offset;
};

/* One message. Which of the fields it has follows from the type; the others are zero. */
struct vhost_user_message {
    uint32_t type;
    bool needs_reply;
    uint64_t features; /* SET_FEATURES, SET_PROTOCOL_FEATURES */
    uint32_t queue;    /* all about a vring; any number */
    uint32_t value;    /* SET_VRING_NUM, _BASE and _ENABLE */
    bool has_fd;       /* SET_VRING_KICK, _CALL and _ERR; else the other side will poll */
    struct {           /* SET_VRING_ADDR: user addresses */
        uint64_t desc, used, avail;
    } vring;
    unsigned region_count; /* SET_MEM_TABLE: each has a descriptor, in this order */
    struct vhost_user_region regions[VHOST_USER_REGIONS_MAX];
    struct { /* GET_CONFIG, SET_CONFIG: inside of VHOST_USER_CONFIG_MAX */
        uint32_t offset, length;
        uint8_t bytes[VHOST_USER_CONFIG_MAX];
    } config;
};

/* The type's name, for a person; "?" for one that is not served. */
const char *vhost_user_type_name(uint32_t type);

/* A message's first VHOST_USER_HEADER_BYTES. 0: so many bytes of payload follow, which are
 * VHOST_USER_PAYLOAD_MAX at most. -EPROTO: it makes no sense; -ENOTSUP: it is not served. */
int vhost_user_parse_header(struct vhost_user_header *ret_header, const uint8_t *bytes,
                            struct error *err);

/* payload: header->payload_bytes of them. fd_count: the descriptors that came along. The same
 * results. */
int vhost_user_parse(struct vhost_user_message *ret_message, const struct vhost_user_header *header,
                     const uint8_t *payload, unsigned fd_count, struct error *err);

/* The header of a reply. */
void vhost_user_fill_reply(uint8_t *bytes, uint32_t type, uint32_t payload_bytes);

#endif
