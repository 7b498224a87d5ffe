/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/vhost_user_message.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/checked.h"

#define VERSION 1u
#define FLAGS_VERSION 3u
#define FLAGS_REPLY 4u
#define FLAGS_NEEDS_REPLY 8u

/* Of the number that SET_VRING_KICK, _CALL and _ERR carry. */
#define VRING_INDEX 0xffu
#define VRING_NO_FD 0x100u

#define NUMBER_BYTES 8
#define STATE_BYTES 8    /* a vring's index, and a number */
#define ADDRESS_BYTES 40 /* index, flags, descriptors, used, available, log */
#define TABLE_BYTES 8    /* of a memory table before its regions */
#define REGION_BYTES 32
#define CONFIG_BYTES 12 /* before the bytes of the space */

enum payload { NOTHING, NUMBER, STATE, ADDRESSES, FILE_OF_VRING, MEMORY_TABLE, CONFIG };

struct type {
    uint32_t number;
    const char *name;
    enum payload payload;
};

static const struct type types[] = {
    {VHOST_USER_GET_FEATURES, "GET_FEATURES", NOTHING},
    {VHOST_USER_SET_FEATURES, "SET_FEATURES", NUMBER},
    {VHOST_USER_SET_OWNER, "SET_OWNER", NOTHING},
    {VHOST_USER_RESET_OWNER, "RESET_OWNER", NOTHING},
    {VHOST_USER_SET_MEM_TABLE, "SET_MEM_TABLE", MEMORY_TABLE},
    {VHOST_USER_SET_VRING_NUM, "SET_VRING_NUM", STATE},
    {VHOST_USER_SET_VRING_ADDR, "SET_VRING_ADDR", ADDRESSES},
    {VHOST_USER_SET_VRING_BASE, "SET_VRING_BASE", STATE},
    {VHOST_USER_GET_VRING_BASE, "GET_VRING_BASE", STATE},
    {VHOST_USER_SET_VRING_KICK, "SET_VRING_KICK", FILE_OF_VRING},
    {VHOST_USER_SET_VRING_CALL, "SET_VRING_CALL", FILE_OF_VRING},
    {VHOST_USER_SET_VRING_ERR, "SET_VRING_ERR", FILE_OF_VRING},
    {VHOST_USER_GET_PROTOCOL_FEATURES, "GET_PROTOCOL_FEATURES", NOTHING},
    {VHOST_USER_SET_PROTOCOL_FEATURES, "SET_PROTOCOL_FEATURES", NUMBER},
    {VHOST_USER_GET_QUEUE_NUM, "GET_QUEUE_NUM", NOTHING},
    {VHOST_USER_SET_VRING_ENABLE, "SET_VRING_ENABLE", STATE},
    {VHOST_USER_GET_CONFIG, "GET_CONFIG", CONFIG},
    {VHOST_USER_SET_CONFIG, "SET_CONFIG", CONFIG},
    {VHOST_USER_RESET_DEVICE, "RESET_DEVICE", NOTHING},
};

static const struct type *find_type(uint32_t number)
{
    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
        if (types[i].number == number)
            return &types[i];
    return NULL;
}

const char *vhost_user_type_name(uint32_t type)
{
    const struct type *found = find_type(type);
    return found ? found->name : "?";
}

static uint32_t load32(const uint8_t *from)
{
    uint32_t value;
    memcpy(&value, from, sizeof(value));
    return value;
}

static uint64_t load64(const uint8_t *from)
{
    uint64_t value;
    memcpy(&value, from, sizeof(value));
    return value;
}

/* --- the header --------------------------------------------------------------------------------
 */

/* Whether a payload of that kind may have so many bytes; what is inside may say otherwise yet. */
static bool is_length(enum payload payload, uint32_t bytes)
{
    switch (payload) {
    case NOTHING:
        return bytes == 0;
    case NUMBER:
    case FILE_OF_VRING:
        return bytes == NUMBER_BYTES;
    case STATE:
        return bytes == STATE_BYTES;
    case ADDRESSES:
        return bytes == ADDRESS_BYTES;
    case MEMORY_TABLE:
        return bytes >= TABLE_BYTES &&
               bytes <= TABLE_BYTES + VHOST_USER_REGIONS_MAX * REGION_BYTES &&
               (bytes - TABLE_BYTES) % REGION_BYTES == 0;
    default:
        return bytes > CONFIG_BYTES && bytes <= CONFIG_BYTES + VHOST_USER_CONFIG_MAX;
    }
}

int vhost_user_parse_header(struct vhost_user_header *ret_header, const uint8_t *bytes,
                            struct error *err)
{
    uint32_t number = load32(bytes), flags = load32(bytes + 4), length = load32(bytes + 8);
    const struct type *type = find_type(number);
    if ((flags & FLAGS_VERSION) != VERSION)
        return error_set(err, -EPROTO, "message %u has the version %u; only %u is known", number,
                         flags & FLAGS_VERSION, VERSION);
    if (flags & ~(FLAGS_VERSION | FLAGS_NEEDS_REPLY))
        return error_set(err, -EPROTO, "message %u has the flags 0x%x; a request has 0x%x or 0x%x",
                         number, flags, VERSION, VERSION | FLAGS_NEEDS_REPLY);
    if (!type)
        return error_set(err, -ENOTSUP, "message %u is not served", number);
    if (!is_length(type->payload, length))
        return error_set(err, -EPROTO, "%s cannot have %u bytes", type->name, length);
    *ret_header = (struct vhost_user_header){
        .type = number,
        .needs_reply = flags & FLAGS_NEEDS_REPLY,
        .payload_bytes = length,
    };
    return 0;
}

void vhost_user_fill_reply(uint8_t *bytes, uint32_t type, uint32_t payload_bytes)
{
    const uint32_t words[] = {type, VERSION | FLAGS_REPLY, payload_bytes};
    memcpy(bytes, words, sizeof(words));
}

/* --- the payload -------------------------------------------------------------------------------
 */

static int parse_addresses(struct vhost_user_message *message, const uint8_t *bytes,
                           struct error *err)
{
    uint32_t flags = load32(bytes + 4);
    message->queue = load32(bytes);
    message->vring.desc = load64(bytes + 8);
    message->vring.used = load64(bytes + 16);
    message->vring.avail = load64(bytes + 24);
    if (flags != 0)
        return error_set(err, -ENOTSUP,
                         "SET_VRING_ADDR has the flags 0x%x; no log of dirty pages is kept", flags);
    return 0;
}

static int parse_file(struct vhost_user_message *message, const uint8_t *bytes, struct error *err)
{
    uint64_t number = load64(bytes);
    if (number & ~(uint64_t)(VRING_INDEX | VRING_NO_FD))
        return error_set(err, -EPROTO, "%s has the number 0x%" PRIx64 "; bits beyond 8 are nothing",
                         vhost_user_type_name(message->type), number);
    message->queue = (uint32_t)number & VRING_INDEX;
    message->has_fd = !(number & VRING_NO_FD);
    return 0;
}

static int parse_region(struct vhost_user_region *region, const uint8_t *bytes, struct error *err)
{
    uint64_t end;
    *region = (struct vhost_user_region){
        .guest_address = load64(bytes),
        .length = load64(bytes + 8),
        .user_address = load64(bytes + 16),
        .file_offset = load64(bytes + 24),
    };
    if (region->length == 0)
        return error_set(err, -EPROTO, "a region of memory has no length");
    /* So no end of a range is 0, and each fits an off_t. */
    if (!checked_add(region->guest_address, region->length, &end) ||
        !checked_add(region->user_address, region->length, &end) ||
        !checked_add(region->file_offset, region->length, &end) || end > INT64_MAX)
        return error_set(err, -EPROTO, "a region of 0x%" PRIx64 " bytes goes beyond all addresses",
                         region->length);
    return 0;
}

static int parse_table(struct vhost_user_message *message, const uint8_t *bytes, uint32_t length,
                       struct error *err)
{
    uint32_t count = load32(bytes);
    if (count > VHOST_USER_REGIONS_MAX)
        return error_set(err, -EPROTO, "a memory table of %u regions; %d are the most", count,
                         VHOST_USER_REGIONS_MAX);
    if (length != TABLE_BYTES + count * REGION_BYTES)
        return error_set(err, -EPROTO, "a memory table of %u regions cannot have %u bytes", count,
                         length);
    for (unsigned i = 0; i < count; i++) {
        struct vhost_user_region *region = &message->regions[i];
        int rc = parse_region(region, bytes + TABLE_BYTES + (size_t)i * REGION_BYTES, err);
        if (rc < 0)
            return rc;
        for (const struct vhost_user_region *other = message->regions; other < region; other++)
            if (ranges_overlap(region->guest_address, region->length, other->guest_address,
                               other->length) ||
                ranges_overlap(region->user_address, region->length, other->user_address,
                               other->length))
                return error_set(err, -EPROTO, "regions of memory overlap, at 0x%" PRIx64,
                                 region->guest_address);
    }
    message->region_count = count;
    return 0;
}

/* Flags: a front-end that migrates sets them. The rest it may not write (5.2.5.2 of VIRTIO) is the
 * device's matter. */
static int parse_config(struct vhost_user_message *message, const uint8_t *bytes, uint32_t length,
                        struct error *err)
{
    uint32_t flags = load32(bytes + 8);
    const char *name = vhost_user_type_name(message->type);
    message->config.offset = load32(bytes);
    message->config.length = load32(bytes + 4);
    if (message->config.length != length - CONFIG_BYTES)
        return error_set(err, -EPROTO, "%s says %u bytes and has %u", name, message->config.length,
                         length - CONFIG_BYTES);
    if (!range_is_inside(message->config.offset, message->config.length, VHOST_USER_CONFIG_MAX))
        return error_set(err, -EPROTO, "%s of %u bytes at %u; the space has %d", name,
                         message->config.length, message->config.offset, VHOST_USER_CONFIG_MAX);
    if (flags != 0)
        return error_set(err, -ENOTSUP, "%s has the flags 0x%x; there is no migration", name,
                         flags);
    memcpy(message->config.bytes, bytes + CONFIG_BYTES, message->config.length);
    return 0;
}

static int check_fds(const struct vhost_user_message *message, unsigned fd_count, struct error *err)
{
    unsigned wanted = message->region_count + message->has_fd;
    if (fd_count != wanted)
        return error_set(err, -EPROTO, "%s came with %u descriptors, not %u",
                         vhost_user_type_name(message->type), fd_count, wanted);
    return 0;
}

int vhost_user_parse(struct vhost_user_message *ret_message, const struct vhost_user_header *header,
                     const uint8_t *payload, unsigned fd_count, struct error *err)
{
    struct vhost_user_message message = {
        .type = header->type,
        .needs_reply = header->needs_reply,
    };
    int rc = 0;
    switch (find_type(header->type)->payload) {
    case NOTHING:
        break;
    case NUMBER:
        message.features = load64(payload);
        break;
    case STATE:
        message.queue = load32(payload);
        message.value = load32(payload + 4);
        break;
    case ADDRESSES:
        rc = parse_addresses(&message, payload, err);
        break;
    case FILE_OF_VRING:
        rc = parse_file(&message, payload, err);
        break;
    case MEMORY_TABLE:
        rc = parse_table(&message, payload, header->payload_bytes, err);
        break;
    case CONFIG:
        rc = parse_config(&message, payload, header->payload_bytes, err);
    }
    if (rc == 0)
        rc = check_fds(&message, fd_count, err);
    if (rc == 0)
        *ret_message = message;
    return rc;
}
