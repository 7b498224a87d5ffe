/* SPDX-License-Identifier: BSD-3-Clause */
#include "protocol/transmission.h"

#include <assert.h>

void transmission_init(struct transmission *transmission, const struct handshake_result *result)
{
    const struct nbd_export_info *export = result->export;
    *transmission = (struct transmission){
        .limits =
            {
                .size_bytes = export->size_bytes,
                .transmission_flags = result->transmission_flags,
                .headers = result->headers,
                .has_contexts = result->context_mask != 0,
                .block_minimum = export->block_minimum,
                .payload_max = export->payload_max,
            },
        .context_mask = result->context_mask,
        .header_size = (uint32_t)request_header_size(result->headers),
    };
}

static enum transmission_event broken(struct transmission *transmission, const char *reason,
                                      struct transmission_item *ret_item)
{
    transmission->ended = true;
    transmission->reason = reason;
    ret_item->reason = reason;
    return TRANSMISSION_BROKEN;
}

/* How long a refused request's payload may be and be thrown away. */
static uint32_t drain_max(const struct transmission *transmission)
{
    const struct request_limits *limits = &transmission->limits;
    if (limits->headers != NBD_HEADERS_EXTENDED)
        return TRANSMISSION_DRAIN_MAX;
    return limits->payload_max > TRANSMISSION_EXTENDED_DRAIN_MAX ? limits->payload_max
                                                                 : TRANSMISSION_EXTENDED_DRAIN_MAX;
}

/* A header was read; what is to happen with it. */
static enum transmission_event judge(struct transmission *transmission,
                                     struct transmission_item *ret_item)
{
    const struct request *request = &ret_item->request;
    bool has_payload = request_has_payload(request);
    if (request_check(request, &transmission->limits, &ret_item->verdict)) {
        if (has_payload)
            transmission->payload_left = (uint32_t)request->length;
        return TRANSMISSION_REQUEST;
    }
    if (has_payload && request->length > drain_max(transmission))
        return broken(transmission, "the client announced more data than it may send at a time",
                      ret_item);
    if (has_payload)
        transmission->drain_left = (uint32_t)request->length;
    return TRANSMISSION_ANSWER;
}

enum transmission_event transmission_next(struct transmission *transmission, const uint8_t *data,
                                          size_t length, size_t *ret_used,
                                          struct transmission_item *ret_item)
{
    assert(transmission->payload_left == 0);
    if (transmission->ended) {
        *ret_used = length;
        ret_item->reason = transmission->reason;
        return transmission->reason ? TRANSMISSION_BROKEN : TRANSMISSION_DISCONNECT;
    }

    size_t drained = transmission->drain_left < length ? transmission->drain_left : length;
    transmission->drain_left -= (uint32_t)drained;
    if (length - drained < transmission->header_size) {
        *ret_used = drained;
        return TRANSMISSION_NEED_MORE;
    }

    /* From here on either a whole header is taken, or, at the end of the stream, everything. */
    if (!request_parse(data + drained, transmission->limits.headers, &ret_item->request)) {
        *ret_used = length;
        return broken(transmission, "the client sent a request with a wrong magic number",
                      ret_item);
    }
    if (ret_item->request.command == NBD_CMD_DISC) {
        *ret_used = length;
        transmission->ended = true;
        return TRANSMISSION_DISCONNECT;
    }
    enum transmission_event event = judge(transmission, ret_item);
    *ret_used = event == TRANSMISSION_BROKEN ? length : drained + transmission->header_size;
    return event;
}

void transmission_payload_taken(struct transmission *transmission, uint32_t length)
{
    assert(length <= transmission->payload_left);
    transmission->payload_left -= length;
}

const char *transmission_eof(const struct transmission *transmission, size_t unread)
{
    if (transmission->ended)
        return NULL;
    if (transmission->payload_left > 0 || transmission->drain_left > 0)
        return "the client left in the middle of a request's data";
    if (unread > 0)
        return "the client left in the middle of a request's header";
    return NULL;
}

void transmission_shut_down(struct transmission *transmission)
{
    transmission->limits.shutting_down = true;
}
