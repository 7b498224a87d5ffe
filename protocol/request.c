/* SPDX-License-Identifier: BSD-3-Clause */
#include "protocol/request.h"

#include "common/checked.h"
#include "common/endian.h"
#include "protocol/wire.h"

#include <assert.h>

/* What a command may look like, by its number. */
struct command_rule {
    uint16_t flags; /* that belong to it, apart from FUA, which belongs to all */
    uint16_t needs; /* transmission flag that offers it, or 0 */
    bool is_known;
    bool modifies;     /* EPERM on a read-only export */
    bool has_range;    /* offset and length are a range of the export; else both must be 0 */
    uint32_t past_end; /* the error for a range that leaves the export */
};

/* "Request types" and "Error values". */
static const struct command_rule rules[] = {
    [NBD_CMD_READ] = {.is_known = true,
                      .flags = NBD_CMD_FLAG_DF,
                      .has_range = true,
                      .past_end = NBD_EINVAL},
    [NBD_CMD_WRITE] = {.is_known = true,
                       .modifies = true,
                       .has_range = true,
                       .past_end = NBD_ENOSPC},
    [NBD_CMD_FLUSH] = {.is_known = true, .needs = NBD_FLAG_SEND_FLUSH},
    [NBD_CMD_TRIM] = {.is_known = true,
                      .needs = NBD_FLAG_SEND_TRIM,
                      .modifies = true,
                      .has_range = true,
                      .past_end = NBD_EINVAL},
    [NBD_CMD_CACHE] = {.is_known = true,
                       .needs = NBD_FLAG_SEND_CACHE,
                       .has_range = true,
                       .past_end = NBD_EINVAL},
    [NBD_CMD_WRITE_ZEROES] = {.is_known = true,
                              .flags = NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
                              .needs = NBD_FLAG_SEND_WRITE_ZEROES,
                              .modifies = true,
                              .has_range = true,
                              .past_end = NBD_ENOSPC},
    [NBD_CMD_BLOCK_STATUS] = {.is_known = true,
                              .flags = NBD_CMD_FLAG_REQ_ONE,
                              .has_range = true,
                              .past_end = NBD_EINVAL},
};

#define COMMANDS (sizeof(rules) / sizeof(rules[0]))

bool request_parse(const uint8_t *header, enum nbd_headers headers, struct request *ret_request)
{
    bool is_extended = headers == NBD_HEADERS_EXTENDED;
    if (load_be32(header) != (is_extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC))
        return false;
    ret_request->flags = load_be16(header + 4);
    ret_request->command = load_be16(header + 6);
    ret_request->cookie = load_be64(header + 8);
    ret_request->offset = load_be64(header + 16);
    ret_request->length = is_extended ? load_be64(header + 24) : load_be32(header + 24);
    ret_request->headers = headers;
    return true;
}

static bool refuse(struct request_verdict *ret_verdict, uint32_t error, const char *text)
{
    *ret_verdict = (struct request_verdict){.error = error, .text = text};
    return false;
}

static bool check_flags(const struct request *request, const struct command_rule *rule,
                        const struct request_limits *limits, struct request_verdict *ret_verdict)
{
    if (request->headers == NBD_HEADERS_EXTENDED) {
        bool is_write = request->command == NBD_CMD_WRITE;
        if (is_write && !request_has_payload(request))
            return refuse(ret_verdict, NBD_EINVAL,
                          "a write with extended headers needs the flag NBD_CMD_FLAG_PAYLOAD_LEN");
        if (!is_write && request_has_payload(request))
            return refuse(ret_verdict, NBD_EINVAL,
                          "the flag NBD_CMD_FLAG_PAYLOAD_LEN is not for this command");
    }
    uint16_t allowed = rule->flags & ~(NBD_CMD_FLAG_DF | NBD_CMD_FLAG_FAST_ZERO);
    if (request->headers == NBD_HEADERS_EXTENDED)
        allowed |= NBD_CMD_FLAG_PAYLOAD_LEN;
    if (limits->transmission_flags & NBD_FLAG_SEND_FUA)
        allowed |= NBD_CMD_FLAG_FUA;
    if (limits->transmission_flags & NBD_FLAG_SEND_DF)
        allowed |= rule->flags & NBD_CMD_FLAG_DF;
    if (limits->transmission_flags & NBD_FLAG_SEND_FAST_ZERO)
        allowed |= rule->flags & NBD_CMD_FLAG_FAST_ZERO;
    if (request->flags & ~allowed)
        return refuse(ret_verdict, NBD_EINVAL,
                      request->flags & ~allowed & NBD_CMD_FLAG_DF & rule->flags
                          ? "the flag NBD_CMD_FLAG_DF needs structured replies"
                          : "a command flag is unknown, or not for this command on this export");
    return true;
}

static bool check_length(const struct request *request, const struct request_limits *limits,
                         struct request_verdict *ret_verdict)
{
    if (request->length <= limits->payload_max)
        return true;
    if (request->command == NBD_CMD_WRITE)
        return refuse(ret_verdict, NBD_EINVAL, "a write is longer than the maximum payload size");
    /* With simple replies the client was not to ask; with structured ones a large read is legal,
     * and this is the error the specification has for it. */
    if (request->command == NBD_CMD_READ)
        return refuse(ret_verdict,
                      limits->headers != NBD_HEADERS_SIMPLE ? NBD_EOVERFLOW : NBD_EINVAL,
                      "a read is longer than the maximum payload size");
    return true;
}

static bool check_range(const struct request *request, const struct command_rule *rule,
                        const struct request_limits *limits, struct request_verdict *ret_verdict)
{
    assert(limits->block_minimum > 0);
    if (!range_is_inside(request->offset, request->length, limits->size_bytes))
        return refuse(ret_verdict, rule->past_end, "the range ends past the end of the export");
    if ((request->offset | request->length) & (limits->block_minimum - 1))
        return refuse(ret_verdict, NBD_EINVAL,
                      "the range is not aligned to the minimum block size");
    if (request->length == 0 && request->command == NBD_CMD_BLOCK_STATUS)
        return refuse(ret_verdict, NBD_EINVAL, "the range of a block status request is empty");
    if (request->length == 0)
        return refuse(ret_verdict, NBD_SUCCESS, NULL);
    return true;
}

bool request_check(const struct request *request, const struct request_limits *limits,
                   struct request_verdict *ret_verdict)
{
    assert(request->command != NBD_CMD_DISC);
    if (limits->shutting_down)
        return refuse(ret_verdict, NBD_ESHUTDOWN, "the server is shutting down");
    if (request->command >= COMMANDS || !rules[request->command].is_known)
        return refuse(ret_verdict, NBD_EINVAL, "the command is unknown to this server");

    const struct command_rule *rule = &rules[request->command];
    if (!check_flags(request, rule, limits, ret_verdict))
        return false;
    /* Before "not offered": a read-only export offers no trim, and "read-only" is why. */
    if (rule->modifies && limits->transmission_flags & NBD_FLAG_READ_ONLY)
        return refuse(ret_verdict, NBD_EPERM, "the export is read-only");
    if (rule->needs && !(limits->transmission_flags & rule->needs))
        return refuse(ret_verdict, NBD_EINVAL, "the export does not offer this command");
    if (request->command == NBD_CMD_BLOCK_STATUS && !limits->has_contexts)
        return refuse(ret_verdict, NBD_EINVAL, "no metadata context was selected for this export");
    if (!rule->has_range) {
        if (request->offset != 0 || request->length != 0)
            return refuse(ret_verdict, NBD_EINVAL, "offset and length of a flush must be 0");
        return true;
    }
    return check_length(request, limits, ret_verdict) &&
           check_range(request, rule, limits, ret_verdict);
}
