/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a connection receives. One receive a turn, as large as the lent chunk allows, brings many
 * requests; each is started at once. A WRITE whose payload came whole is done from where it lies,
 * the chunk being pinned. Of a larger one, the part that came is pinned or copied, and the rest is
 * received straight into a buffer of its own, with the next requests behind it in the same call.
 */
#include "server/connection_private.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "block/buffer.h"
#include "block/loop_room.h"
#include "common/log.h"
#include "server/dispatch.h"
#include "server/dispatch_io.h"
#include "server/dispatch_read.h"
#include "server/export.h"
#include "server/lane.h"
#include "server/pressure.h"
#include "server/stream.h"

/* Bytes that were received, and the chunk they lie in. */
struct input {
    struct receive_chunk *chunk;
    const uint8_t *data;
    size_t length; /* not yet taken */
};

static void input_take(struct input *input, size_t length)
{
    assert(length <= input->length);
    input->data += length;
    input->length -= length;
}

/* --- bounds -------------------------------------------------------------------------------------
 */

bool connection_is_paused(const struct connection *connection)
{
    return connection->has_held || connection->unseen.length > 0;
}

bool connection_is_left_alone(const struct connection *connection)
{
    return connection->write_blocked && connection->sendq.lender && !connection->receiving &&
           !connection->lingering;
}

bool connection_is_mid_request(const struct connection *connection)
{
    return connection->in_transmission && !connection->input_ended &&
           !connection_is_paused(connection) && !intake_waits(connection) &&
           !connection_is_left_alone(connection) &&
           !link_is_listed(&connection->receive_task.link) && /* it is we who do not look */
           transmission_eof(&connection->transmission, connection->head_length) != NULL;
}

/* What the held request will weigh. */
static size_t held_cost_bytes(const struct connection *connection)
{
    bool is_work = connection->held_event == TRANSMISSION_REQUEST;
    return is_work ? dispatch_cost_bytes(&connection->held.request,
                                         connection->transmission.context_mask)
                   : 0;
}

/* A READ is started only while what was started in this round, and what could not be sent yet, is
 * little. At the end of the round the started ones are either sent, or wait for the disk and count
 * no more: so a slow disk still gets all the requests there are, a round's worth at a time. What is
 * lent counts for nothing; but the first that is has to go out before the next is begun, unless the
 * stream is behind anyway. */
static bool may_read_on(const struct connection *connection)
{
    size_t ahead = connection->started_read_bytes + connection->unsent_bytes;
    if (connection->held.request.command != NBD_CMD_READ)
        return true;
    if (connection->lends_in_round > 0)
        return connection->lends_in_round < CONNECTION_LENDS_MAX &&
               connection->sendq.lent_count > connection->lends_in_round;
    if (ahead == 0)
        return true;
    return ahead + held_cost_bytes(connection) <= CONNECTION_READ_AHEAD_BYTES;
}

static bool own_bounds_allow(const struct connection *connection)
{
    if (connection->request_count == 0)
        return true;
    if (!may_read_on(connection))
        return false;
    return connection->request_count < CONNECTION_REQUESTS_MAX &&
           connection->request_bytes + held_cost_bytes(connection) <= CONNECTION_BYTES_MAX;
}

static bool may_start_held(const struct connection *connection)
{
    return own_bounds_allow(connection) && pressure_allows(connection, held_cost_bytes(connection));
}

bool connection_waits_for_pressure(const struct connection *connection)
{
    return connection->has_held && own_bounds_allow(connection) &&
           !pressure_allows(connection, held_cost_bytes(connection));
}

bool connection_can_resume(const struct connection *connection)
{
    if (connection->has_held)
        return may_start_held(connection);
    if (connection->unseen.length == 0)
        return false;
    return connection->in_transmission || connection->greeting->output.length == 0;
}

static void drop_unseen(struct connection *connection)
{
    if (connection->unseen.chunk)
        receive_unpin(connection->unseen.chunk);
    connection->unseen.chunk = NULL;
    connection->unseen.length = 0;
}

static void drop_receiving(struct connection *connection)
{
    intake_end(connection);
    if (connection->receiving)
        connection_free_request(connection, connection->receiving);
    connection->receiving = NULL;
}

void connection_drop_input(struct connection *connection)
{
    connection->has_held = false;
    pressure_forget(connection);
    connection->head_length = 0;
    drop_unseen(connection);
    drop_receiving(connection);
}

void connection_end_input(struct connection *connection)
{
    connection->input_ended = true;
    drop_receiving(connection);
}

/* --- requests -----------------------------------------------------------------------------------
 */

static void request_done(struct server_request *request)
{
    connection_reply(request->owner, request);
}

static void start_request(struct server_request *request)
{
    request->done = request_done;
    dispatch_start(request);
}

/* The payload lies in the input whole: it is written from there. */
static void start_write_in_place(struct connection *connection, struct server_request *request,
                                 struct input *input)
{
    uint32_t length = (uint32_t)request->wire.length; /* a good WRITE's */
    request->payload[0] = (struct iovec){.iov_base = (void *)input->data, .iov_len = length};
    request->pinned = input->chunk;
    receive_pin(input->chunk);
    input_take(input, length);
    transmission_payload_taken(&connection->transmission, length);
    start_request(request);
}

/* A part of the payload, or all of it when chunks are scarce, gets memory of its own. */
static void start_write_in_parts(struct connection *connection, struct server_request *request,
                                 struct input *input)
{
    struct receive_pool *pool = &connection->lane->receive;
    uint32_t length = (uint32_t)request->wire.length; /* a good WRITE's */
    size_t here = input->length < length ? input->length : length;
    bool pin = here >= CONNECTION_PIN_BYTES_MIN && here < length && receive_may_pin(pool);
    size_t rest = pin ? length - here : length;
    request->buffer = buffer_get(request->buffers, rest);
    request->buffer_length = rest;
    if (!request->buffer) {
        connection_free_request(connection, request);
        connection_lose(connection, "no memory for a write's data");
        return;
    }
    if (pin) {
        request->pinned = input->chunk;
        receive_pin(input->chunk);
        request->payload[0] = (struct iovec){.iov_base = (void *)input->data, .iov_len = here};
        request->payload[1] = (struct iovec){.iov_base = request->buffer, .iov_len = rest};
        connection->receiving_filled = 0;
    } else {
        memcpy(request->buffer, input->data, here);
        request->payload[0] = (struct iovec){.iov_base = request->buffer, .iov_len = rest};
        connection->receiving_filled = here;
    }
    input_take(input, here);
    transmission_payload_taken(&connection->transmission, (uint32_t)here);
    if (transmission_payload_left(&connection->transmission) == 0) {
        start_request(request);
    } else {
        connection->receiving = request;
        intake_begin(connection, length, here);
    }
}

/* Starts or answers the held request. */
static void start_held(struct connection *connection, struct input *input)
{
    const struct transmission_item *item = &connection->held;
    struct server_request *request =
        connection_new_request(connection, &item->request, held_cost_bytes(connection));
    connection->has_held = false;
    pressure_forget(connection);
    if (!request) {
        connection_lose(connection, "no memory for another request");
        return;
    }
    if (connection->held_event == TRANSMISSION_ANSWER) {
        dispatch_account_answer(request, &item->verdict);
        dispatch_answer(request, &item->verdict);
        connection_reply(connection, request);
    } else if (item->request.command != NBD_CMD_WRITE) {
        if (item->request.command == NBD_CMD_READ) {
            connection->started_read_bytes += request->cost_bytes;
            loop_at_round_end(connection->lane->loop, &connection->turn_task);
        }
        start_request(request);
    } else if (input->length >= item->request.length &&
               receive_may_pin(&connection->lane->receive)) {
        start_write_in_place(connection, request, input);
    } else {
        start_write_in_parts(connection, request, input);
    }
}

/* A round of the loop has room for so many small READs that are made on the spot; then their
 * answers are sent, and the client works on, before the next ones are begun. One that finds no room
 * stays what it was, bytes of the input, and costs nothing. (A WRITE's payload would be kept with
 * it.) */
static bool round_has_room(const struct connection *connection, const struct input *input)
{
    const struct request *wire = &connection->held.request;
    if (connection->held_event != TRANSMISSION_REQUEST || wire->command != NBD_CMD_READ ||
        wire->length >= DISPATCH_READ_AT_ONCE_BYTES)
        return true;
    unsigned behind = (unsigned)(input->length / NBD_REQUEST_SIZE);
    return loop_has_room_among(connection->lane->loop, behind);
}

/* Takes requests from the input until more is needed or the bounds are reached. */
static void take_requests(struct connection *connection, struct input *input)
{
    while (connection->stream && !connection->receiving) {
        if (connection->has_held) {
            if (!may_start_held(connection)) {
                if (connection_waits_for_pressure(connection))
                    pressure_wait(connection);
                return;
            }
            if (!round_has_room(connection, input))
                return;
            start_held(connection, input);
            continue;
        }
        size_t used;
        enum transmission_event event = transmission_next(&connection->transmission, input->data,
                                                          input->length, &used, &connection->held);
        input_take(input, used);
        switch (event) {
        case TRANSMISSION_NEED_MORE:
            return;
        case TRANSMISSION_REQUEST:
        case TRANSMISSION_ANSWER:
            connection->has_held = true;
            connection->held_event = event;
            break;
        case TRANSMISSION_BROKEN:
            connection_complain(connection, connection->held.reason);
            connection->input_ended = true;
            connection->may_send_more = true;
            return;
        case TRANSMISSION_DISCONNECT:
            connection->complained = true; /* it need not wait for our last bytes */
            connection->input_ended = true;
            return;
        }
    }
}

/* --- handshake ----------------------------------------------------------------------------------
 */

static void end_of_handshake(struct connection *connection, const struct handshake *handshake)
{
    /* Who leaves as it may need not wait for our last bytes. */
    connection->complained |= handshake->is_ordinary;
    connection_complain(connection, handshake->reason);
    connection->input_ended = true;
    connection_send_soon(connection);
}

static void take_handshake(struct connection *connection, struct input *input)
{
    struct connection_greeting *greeting = connection->greeting;
    struct handshake *handshake = &greeting->handshake;
    size_t used;
    enum handshake_event event =
        handshake_feed(handshake, input->data, input->length, &used, &greeting->output);
    input_take(input, used);
    connection_send_soon(connection);
    switch (event) {
    case HANDSHAKE_MORE:
        break;
    case HANDSHAKE_READY:
        transmission_init(&connection->transmission, &handshake->result);
        connection->in_transmission = true;
        connection->was_negotiated = true;
        loop_timer_clear(&connection->deadline);
        log_verbose("%s: uses export \"%s\"", connection->stream->peer,
                    connection->export->info.name);
        break;
    case HANDSHAKE_CLOSE:
        input_take(input, input->length);
        connection->may_send_more = !handshake->is_ordinary;
        end_of_handshake(connection, handshake);
        break;
    }
}

/* --- receiving ----------------------------------------------------------------------------------
 */

/* Looks at the input, and keeps what cannot be looked at yet. The unseen bytes, if there were any,
 * are this input. */
static void take_input(struct connection *connection, struct input *input)
{
    if (!connection->in_transmission)
        take_handshake(connection, input);
    if (connection->in_transmission)
        take_requests(connection, input);
    if (!connection->stream)
        return;
    if (connection->input_ended)
        drop_receiving(connection);
    bool is_head = connection->in_transmission && !connection->has_held && !connection->receiving;
    if (is_head) {
        assert(input->length < sizeof(connection->head));
        memcpy(connection->head, input->data, input->length);
        connection->head_length = input->length;
    } else if (input->length > 0) {
        receive_pin(input->chunk);
        connection->unseen.chunk = input->chunk;
        connection->unseen.data = input->data;
        connection->unseen.length = input->length;
    }
}

void connection_resume(struct connection *connection)
{
    if (!connection->stream || !connection_can_resume(connection))
        return;
    connection->received_ns = loop_now_ns(connection->lane->loop); /* it was we who waited */
    struct input input = {
        .chunk = connection->unseen.chunk,
        .data = connection->unseen.chunk ? connection->unseen.data : connection->head,
        .length = connection->unseen.length,
    };
    connection->unseen.chunk = NULL;
    connection->unseen.length = 0;
    take_input(connection, &input);
    if (input.chunk)
        receive_unpin(input.chunk);
}

/* The client sends no more: it may still read. */
static void take_end(struct connection *connection)
{
    connection->input_ended = true;
    connection->may_send_more = false;
    if (!connection->in_transmission) {
        struct handshake *handshake = &connection->greeting->handshake;
        handshake_eof(handshake);
        end_of_handshake(connection, handshake);
        return;
    }
    const char *reason = transmission_eof(&connection->transmission, connection->head_length);
    if (reason)
        connection_complain(connection, reason);
    connection_drop_input(connection);
}

/* The first `length` bytes of a receive are the payload's that is awaited. Returns how many. */
static size_t take_payload(struct connection *connection, size_t length)
{
    struct server_request *request = connection->receiving;
    size_t left = transmission_payload_left(&connection->transmission);
    size_t part = length < left ? length : left;
    connection->receiving_filled += part;
    transmission_payload_taken(&connection->transmission, (uint32_t)part);
    if (part == left) {
        intake_end(connection);
        connection->receiving = NULL;
        start_request(request);
    } else {
        intake_arrived(connection, part);
    }
    return part;
}

/* What the next receive may bring of the payload that is awaited; 0: it has to wait. A stop looks
 * at what came just once, and what is not whole then is forgotten at once, so it waits for nothing.
 */
static size_t may_receive_of_payload(struct connection *connection)
{
    size_t left = transmission_payload_left(&connection->transmission);
    bool is_last_look = connection->stopping && connection->request_count == 1;
    return is_last_look ? left : intake_may_receive(connection, left);
}

void connection_receive(struct connection *connection)
{
    size_t payload = connection->receiving ? may_receive_of_payload(connection) : 0;
    if (connection->receiving && payload == 0)
        return;
    struct receive_pool *pool = &connection->lane->receive;
    struct stream *stream = connection->stream;
    struct receive_chunk *chunk;
    size_t space;
    uint8_t *memory = receive_borrow(pool, &chunk, &space);
    if (!memory) {
        connection_lose(connection, "no memory to receive into");
        return;
    }
    struct iovec iov[2];
    unsigned iov_count = 0;
    size_t head_length = connection->head_length;
    if (connection->receiving) {
        char *buffer = connection->receiving->buffer;
        iov[iov_count++] = (struct iovec){
            .iov_base = buffer + connection->receiving_filled,
            .iov_len = payload,
        };
    }
    memcpy(memory, connection->head, head_length);
    if (payload == transmission_payload_left(&connection->transmission)) {
        size_t behind = intake_behind_bytes(connection->lane, space - head_length);
        iov[iov_count++] = (struct iovec){.iov_base = memory + head_length, .iov_len = behind};
    }

    ssize_t got = stream->ops->readv(stream, iov, iov_count);
    size_t looked_at = 0;
    if (got == 0) {
        take_end(connection);
    } else if (got < 0) {
        if (got != -EAGAIN)
            connection_lose_by(connection, "cannot be read from", (int)got);
    } else {
        size_t length = (size_t)got;
        connection->received_ns = loop_now_ns(connection->lane->loop);
        loop_client_came(connection->lane->loop, connection);
        if (connection->receiving)
            length -= take_payload(connection, length);
        struct input input = {.chunk = chunk, .data = memory, .length = head_length + length};
        looked_at = input.length;
        connection->head_length = 0;
        if (!connection->receiving && input.length > 0)
            take_input(connection, &input);
    }
    receive_return(pool, looked_at);
}

bool connection_discard(struct connection *connection)
{
    struct receive_pool *pool = &connection->lane->receive;
    struct receive_chunk *chunk;
    struct iovec iov;
    iov.iov_base = receive_borrow(pool, &chunk, &iov.iov_len);
    if (!iov.iov_base)
        return false;
    ssize_t got = connection->stream->ops->readv(connection->stream, &iov, 1);
    receive_return(pool, 0);
    return got > 0 || got == -EAGAIN;
}
