/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages of a hostile vhost-user front-end. Input: messages one behind the other, each with a
 * byte before it that says how many descriptors came along. Properties: a refusal says why and
 * touches nothing; what was taken has as many descriptors as it needs, regions of memory that
 * neither wrap nor overlap in either view, and a range of the configuration that lies inside of it.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

#include "tests/harness/vhost_user_message.h"

static void check_range(uint64_t address, uint64_t length)
{
    FUZZ_CHECK(length > 0 && length - 1 <= UINT64_MAX - address);
}

static void check_apart(uint64_t one, uint64_t one_length, uint64_t other, uint64_t other_length)
{
    FUZZ_CHECK(one + (one_length - 1) < other || other + (other_length - 1) < one);
}

static void check_regions(const struct vhost_user_message *message)
{
    FUZZ_CHECK(message->region_count <= VHOST_USER_REGIONS_MAX);
    for (unsigned i = 0; i < message->region_count; i++) {
        const struct vhost_user_region *region = &message->regions[i];
        check_range(region->guest_address, region->length);
        check_range(region->user_address, region->length);
        FUZZ_CHECK(region->length <= INT64_MAX &&
                   region->file_offset <= INT64_MAX - region->length);
        for (unsigned j = 0; j < i; j++) {
            const struct vhost_user_region *other = &message->regions[j];
            check_apart(region->guest_address, region->length, other->guest_address, other->length);
            check_apart(region->user_address, region->length, other->user_address, other->length);
        }
    }
}

static void check_message(const struct vhost_user_message *message, unsigned fd_count)
{
    FUZZ_CHECK(strcmp(vhost_user_type_name(message->type), "?") != 0);
    FUZZ_CHECK(fd_count == message->region_count + message->has_fd);
    FUZZ_CHECK(message->region_count == 0 || message->type == VHOST_USER_SET_MEM_TABLE);
    FUZZ_CHECK(message->config.offset <= VHOST_USER_CONFIG_MAX);
    FUZZ_CHECK(message->config.length <= VHOST_USER_CONFIG_MAX - message->config.offset);
    check_regions(message);
}

static void check_refusal(int rc, const struct error *err)
{
    FUZZ_CHECK(rc == -EPROTO || rc == -ENOTSUP);
    FUZZ_CHECK(err->message[0] != '\0');
}

/* One message. How many bytes it took; 0: the connection ends. */
static size_t take(const uint8_t *data, size_t size, unsigned fd_count)
{
    struct vhost_user_message message, untouched;
    struct vhost_user_header header;
    struct error err = {.message = ""};
    uint8_t payload[VHOST_USER_PAYLOAD_MAX];
    int rc;
    if (size < VHOST_USER_HEADER_BYTES)
        return 0;
    rc = vhost_user_parse_header(&header, data, &err);
    if (rc < 0) {
        check_refusal(rc, &err);
        return 0;
    }
    FUZZ_CHECK(header.payload_bytes <= VHOST_USER_PAYLOAD_MAX);
    if (header.payload_bytes > size - VHOST_USER_HEADER_BYTES)
        return 0;
    memcpy(payload, data + VHOST_USER_HEADER_BYTES, header.payload_bytes);
    memset(&message, 0xee, sizeof(message));
    memcpy(&untouched, &message, sizeof(message));
    rc = vhost_user_parse(&message, &header, payload, fd_count, &err);
    if (rc < 0) {
        check_refusal(rc, &err);
        FUZZ_CHECK(memcmp(&message, &untouched, sizeof(message)) == 0);
        return 0;
    }
    FUZZ_CHECK(message.type == header.type && message.needs_reply == header.needs_reply);
    check_message(&message, fd_count);
    return VHOST_USER_HEADER_BYTES + header.payload_bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    while (size > 0) {
        size_t taken = take(data + 1, size - 1, data[0] % (VHOST_USER_FDS_MAX + 2));
        if (taken == 0)
            break;
        data += 1 + taken;
        size -= 1 + taken;
    }
    return 0;
}
