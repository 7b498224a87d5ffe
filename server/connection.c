/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/connection.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/loop_backlog.h"
#include "common/align.h"
#include "common/log.h"
#include "server/connection_private.h"
#include "server/dispatch.h"
#include "server/dispatch_lend.h"
#include "server/export.h"
#include "server/lane.h"
#include "server/pressure.h"
#include "server/server.h"
#include "server/server_private.h"
#include "server/stream.h"

/* --- birth and end ------------------------------------------------------------------------------
 */

static void send_at_round_end(struct loop_task *task);
static void forget_started_reads(struct loop_task *task);
static void receive_late(struct loop_task *task);

struct connection *connection_new(struct server_lane *lane, struct export *export,
                                  struct stream *stream)
{
    struct connection *connection = calloc(1, sizeof(*connection));
    struct connection_greeting *greeting = malloc(sizeof(*greeting));
    if (!connection || !greeting) {
        free(connection);
        free(greeting);
        return NULL;
    }
    greeting->exports = export_view_as_list(&greeting->view);
    handshake_init(&greeting->handshake, &greeting->exports);
    writer_init(&greeting->output, HANDSHAKE_OUTPUT_MAX);
    connection->lane = lane;
    connection->export = export;
    connection->stream = stream;
    connection->greeting = greeting;
    link_init(&connection->link);
    link_init(&connection->deadline.link);
    link_init(&connection->waiting_link);
    link_init(&connection->intake.link);
    sendq_init(&connection->sendq);
    connection->send_task.run = send_at_round_end;
    link_init(&connection->send_task.link);
    connection->turn_task.run = forget_started_reads;
    link_init(&connection->turn_task.link);
    connection->receive_task.run = receive_late;
    link_init(&connection->receive_task.link);
    return connection;
}

static void free_greeting(struct connection *connection)
{
    if (!connection->greeting)
        return;
    handshake_fini(&connection->greeting->handshake);
    writer_fini(&connection->greeting->output);
    free(connection->greeting);
    connection->greeting = NULL;
}

void connection_free(struct connection *connection)
{
    assert(!connection->stream && connection->request_count == 0);
    free_greeting(connection);
    free(connection);
}

/* Gives up the stream and everything that only it would have made use of. */
static void close_stream(struct connection *connection)
{
    if (!connection->stream)
        return;
    connection->stream->ops->close(connection->stream);
    connection->stream = NULL;
    connection->input_ended = true;
    loop_timer_clear(&connection->deadline);
    loop_task_cancel(&connection->send_task);
    loop_task_cancel(&connection->turn_task);
    loop_task_cancel(&connection->receive_task);
    connection_drop_input(connection);

    struct list dropped;
    struct list_link *link;
    list_init(&dropped);
    sendq_drop(&connection->sendq, &dropped);
    while ((link = list_pop(&dropped)) != NULL) {
        struct server_request *request = container_of(link, struct server_request, reply.link);
        if (request != connection->fetching) /* else it is freed when it was fetched */
            connection_free_request(connection, request);
    }
    free_greeting(connection);
}

void connection_complain(struct connection *connection, const char *what)
{
    if (connection->complained)
        log_verbose("%s: %s", connection->stream->peer, what);
    else
        log_warning("%s: %s", connection->stream->peer, what);
    connection->complained = true;
}

void connection_lose(struct connection *connection, const char *reason)
{
    if (!connection->stream)
        return;
    connection_complain(connection, reason);
    close_stream(connection);
}

void connection_lose_by(struct connection *connection, const char *what, int code)
{
    char reason[128];
    snprintf(reason, sizeof(reason), "%s: %s", what, error_text(code));
    connection_lose(connection, reason);
}

static void check_stall(struct connection *connection);

static void deadline_expired(struct loop_timer *timer)
{
    struct connection *connection = container_of(timer, struct connection, deadline);
    connection_enter(connection);
    if (connection->lingering || (connection->stopping && !connection->in_transmission))
        close_stream(connection);
    else if (!connection->in_transmission)
        connection_lose(connection, "did not finish the handshake in time");
    else
        check_stall(connection);
    connection_leave(connection);
}

static void set_deadline(struct connection *connection, uint32_t timeout_ms)
{
    struct loop *loop = connection->lane->loop;
    connection->deadline.expired = deadline_expired;
    loop_timer_set(loop, &connection->deadline, loop_now_ns(loop) + timeout_ms * NS_PER_MS);
}

static uint64_t stall_timeout_ns(const struct connection *connection)
{
    return server_options_of(connection->lane->server)->stall_timeout_ms * NS_PER_MS;
}

/* The timer was set when a request had come in part: this one, or one that is long done. */
static void check_stall(struct connection *connection)
{
    uint64_t timeout_ns = stall_timeout_ns(connection);
    if (connection_is_mid_request(connection) &&
        loop_now_ns(connection->lane->loop) - connection->received_ns >= timeout_ns)
        connection_lose(connection, "sent a part of a request, and no more of it in time");
}

static void watch_for_stall(struct connection *connection)
{
    uint64_t timeout_ns = stall_timeout_ns(connection);
    if (timeout_ns == 0 || link_is_listed(&connection->deadline.link) ||
        !connection_is_mid_request(connection))
        return;
    connection->deadline.expired = deadline_expired;
    loop_timer_set(connection->lane->loop, &connection->deadline,
                   connection->received_ns + timeout_ns);
}

static void receive_or_discard(struct connection *connection)
{
    loop_task_cancel(&connection->receive_task);
    connection->passed_over = 0;
    if (!connection->lingering)
        connection_receive(connection);
    else if (!connection_discard(connection))
        close_stream(connection);
}

/* But for the loop's backlog. */
static bool may_receive(const struct connection *connection)
{
    return connection->lingering ||
           (!connection->input_ended && !connection_is_paused(connection) &&
            !intake_waits(connection));
}

static void receive_late(struct loop_task *task)
{
    struct connection *connection = container_of(task, struct connection, receive_task);
    connection_enter(connection);
    connection->passed_over = 0;
    if (may_receive(connection))
        receive_or_discard(connection);
    connection_leave(connection);
}

static void stream_ready(struct stream *stream, unsigned events)
{
    struct connection *connection = stream->owner;
    connection_enter(connection);
    bool is_readable = (events & LOOP_READABLE) && (connection->wanted & LOOP_READABLE);
    if (events & LOOP_WRITABLE) {
        is_readable |= connection_is_left_alone(connection) && may_receive(connection);
        loop_at_round_end(connection->lane->loop, &connection->send_task);
    }
    if (is_readable) {
        bool is_wanted = intake_has_reserve(connection); /* by those who wait for its end */
        if (loop_is_backlogged(connection->lane->loop) && !is_wanted) {
            connection->passed_over++;
            loop_when_backlog_falls(connection->lane->loop, &connection->receive_task);
        } else {
            receive_or_discard(connection);
        }
    }
    connection_leave(connection);
}

void connection_start(struct connection *connection)
{
    struct server_lane *lane = connection->lane;
    list_append(&lane->connections, &connection->link);
    connection_enter(connection);
    if (lane->stopping) {
        close_stream(connection);
    } else {
        struct stream *stream = connection->stream;
        stream->owner = connection;
        stream->ready = stream_ready;
        stream->ops->attach(stream, lane->loop);
        uint32_t handshake_timeout_ms = server_options_of(lane->server)->handshake_timeout_ms;
        if (handshake_timeout_ms > 0)
            set_deadline(connection, handshake_timeout_ms);
        export_view_init(&connection->greeting->view, connection->export);
        handshake_start(&connection->greeting->handshake, &connection->greeting->output);
        connection_send_soon(connection);
    }
    connection_leave(connection);
}

void connection_abort(struct connection *connection, const char *reason)
{
    connection_enter(connection);
    connection_lose(connection, reason);
    connection_leave(connection);
}

/* It may have an option on its way, or be about to ask for one: that is worth a moment. */
static void stop_handshake(struct connection *connection)
{
    struct handshake *handshake = &connection->greeting->handshake;
    handshake_shut_down(handshake);
    if (!connection_is_paused(connection))
        connection_receive(connection);
    if (!connection->stream || connection->input_ended)
        return;
    if (handshake_is_silent(handshake)) {
        log_verbose("%s: closed in the handshake: the server stops", connection->stream->peer);
        close_stream(connection);
        return;
    }
    set_deadline(connection, CONNECTION_LINGER_MS);
}

void connection_stop(struct connection *connection)
{
    connection_enter(connection);
    if (connection->stream && !connection->input_ended) {
        connection->stopping = true;
        if (!connection->in_transmission) {
            stop_handshake(connection);
        } else {
            transmission_shut_down(&connection->transmission);
            /* An idle client is not waited for. */
            connection->may_send_more |= connection->request_count > 0;
        }
    }
    connection_leave(connection);
}

/* Between stop and end: looks at what there is to be read; when nothing is under way any more,
 * there is nothing to wait for. */
static void end_stopped(struct connection *connection)
{
    unsigned in_parts = connection->receiving ? 1 : 0;
    if (connection->input_ended || connection_is_paused(connection) ||
        connection->request_count > in_parts)
        return;
    connection_receive(connection);
    if (!connection->stream || connection->input_ended || connection_is_paused(connection))
        return;
    in_parts = connection->receiving ? 1 : 0;
    connection->may_send_more |= connection->request_count > 0;
    if (connection->request_count == in_parts)
        connection_end_input(connection);
}

/* --- what is next -------------------------------------------------------------------------------
 */

void connection_enter(struct connection *connection)
{
    connection->holds++;
}

/* Nothing is left to be received, done, or sent. */
static bool is_drained(const struct connection *connection)
{
    return connection->input_ended && connection->request_count == 0 &&
           !connection_is_paused(connection) && !connection->greeting;
}

static void run_resume(struct loop_job *job)
{
    struct connection *connection = container_of(job, struct connection, resume_job);
    connection->resume_posted = false;
    connection_resume(connection);
    connection_leave(connection); /* entered when it was posted */
}

static void post_resume(struct connection *connection)
{
    if (connection->resume_posted)
        return;
    connection->resume_posted = true;
    connection->resume_job.run = run_resume;
    connection_enter(connection);
    loop_post(connection->lane->loop, &connection->resume_job);
}

/* Everything is answered. */
static void finish_stream(struct connection *connection)
{
    log_verbose("%s: closed", connection->stream->peer);
    if (!connection->may_send_more) {
        close_stream(connection);
        return;
    }
    connection->stream->ops->shut_down(connection->stream);
    connection->lingering = true;
    set_deadline(connection, CONNECTION_LINGER_MS);
}

static void update_wanted(struct connection *connection)
{
    unsigned wanted = connection->write_blocked ? LOOP_WRITABLE : 0;
    if (may_receive(connection) && !connection_is_left_alone(connection) &&
        connection->passed_over < CONNECTION_PASSED_OVER_MAX)
        wanted |= LOOP_READABLE;
    if (wanted == connection->wanted)
        return;
    connection->wanted = wanted;
    connection->stream->ops->want(connection->stream, wanted);
}

void connection_leave(struct connection *connection)
{
    assert(connection->holds > 0);
    if (connection->holds > 1) {
        connection->holds--;
        return;
    }
    if (connection->stream && connection->stopping && connection->in_transmission)
        end_stopped(connection);
    if (connection->input_ended && connection->request_count > 0)
        error_policy_abandon(&connection->export->error_policy, connection);
    if (connection->stream && !connection->lingering && is_drained(connection))
        finish_stream(connection);
    if (connection->stream && connection_can_resume(connection))
        post_resume(connection);
    else if (connection->stream && connection_waits_for_pressure(connection))
        pressure_wait(connection); /* by now nothing of its own holds it back */
    connection->holds--;
    if (connection->stream) {
        update_wanted(connection);
        watch_for_stall(connection);
    } else if (connection->request_count == 0 && connection->holds == 0) {
        list_remove(&connection->link);
        server_connection_ended(connection);
    }
}

/* --- requests and output ------------------------------------------------------------------------
 */

struct server_request *connection_new_request(struct connection *connection,
                                              const struct request *wire, size_t cost_bytes)
{
    struct server_request *request = lane_get_request(connection->lane);
    if (!request)
        return NULL;
    request->wire = *wire;
    request->export = connection->export;
    request->size_bytes = connection->transmission.limits.size_bytes;
    request->context_mask = connection->transmission.context_mask;
    request->loop = connection->lane->loop;
    request->buffers = connection->lane->buffers;
    request->pinned = NULL;
    request->buffer = NULL;
    request->buffer_length = 0;
    request->may_lend = connection->stream && connection->stream->ops->write_file;
    request->reply.send_lent = NULL;
    request->done = NULL;
    request->owner = connection;
    request->client_has_left = &connection->input_ended;
    request->cost_bytes = cost_bytes;
    connection->request_count++;
    connection->request_bytes += request->cost_bytes;
    pressure_add(connection->lane, request->cost_bytes);
    return request;
}

void connection_free_request(struct connection *connection, struct server_request *request)
{
    assert(connection->request_count > 0 && connection->request_bytes >= request->cost_bytes);
    connection->request_count--;
    connection->request_bytes -= request->cost_bytes;
    pressure_remove(connection->lane, request->cost_bytes);
    dispatch_release(request);
    lane_put_request(connection->lane, request);
}

static void set_cost(struct connection *connection, struct server_request *request,
                     size_t cost_bytes)
{
    connection->request_bytes += cost_bytes - request->cost_bytes;
    pressure_remove(connection->lane, request->cost_bytes);
    pressure_add(connection->lane, cost_bytes);
    request->cost_bytes = cost_bytes;
}

static void queue_reply(struct connection *connection, struct server_request *request)
{
    if (request->reply.send_lent) { /* it holds no memory */
        connection->started_read_bytes -=
            smaller(connection->started_read_bytes, request->cost_bytes);
        set_cost(connection, request, 0);
        connection->lends_in_round++;
        loop_at_round_end(connection->lane->loop, &connection->turn_task);
    }
    sendq_add(&connection->sendq, &request->reply);
    connection->unsent_bytes += request->cost_bytes;
    connection_send_soon(connection);
}

void connection_reply(struct connection *connection, struct server_request *request)
{
    connection_enter(connection);
    if (connection->stream) {
        queue_reply(connection, request);
    } else {
        connection_free_request(connection, request);
    }
    connection_leave(connection);
}

void connection_send_soon(struct connection *connection)
{
    if (!connection->write_blocked && !connection->fetching)
        loop_at_round_end(connection->lane->loop, &connection->send_task);
}

/* As sendq_flush(), for the handshake's output, which goes before all replies. */
static int send_greeting(struct connection *connection)
{
    struct connection_greeting *greeting = connection->greeting;
    struct stream *stream = connection->stream;
    if (!greeting)
        return 0;
    if (greeting->output.length > 0) {
        struct iovec iov = {.iov_base = greeting->output.data, .iov_len = greeting->output.length};
        ssize_t written = stream->ops->writev(stream, &iov, 1);
        if (written < 0)
            return (int)written;
        writer_consume(&greeting->output, (size_t)written);
        if (greeting->output.length > 0)
            return -EAGAIN;
    }
    if (connection->in_transmission || connection->input_ended)
        free_greeting(connection);
    return 0;
}

/* Those READs are sent, or wait for the disk or the stream: others may start. */
static void forget_started_reads(struct loop_task *task)
{
    struct connection *connection = container_of(task, struct connection, turn_task);
    connection_enter(connection);
    connection->started_read_bytes = 0;
    connection->lends_in_round = 0;
    connection_leave(connection);
}

static void free_sent(struct connection *connection, struct server_request *request)
{
    connection->unsent_bytes -= request->cost_bytes;
    connection_free_request(connection, request);
}

/* Bytes that were promised in a header that is out must come; there is no way back but the end. */
static void fetched(struct server_request *request, int code)
{
    struct connection *connection = request->owner;
    connection_enter(connection);
    connection->fetching = NULL;
    if (!connection->stream) {
        connection_free_request(connection, request);
    } else if (code < 0 && connection->sendq.front_sent > 0) {
        connection_lose_by(connection, "cannot be sent the rest of what it reads", code);
    } else {
        if (code < 0)
            dispatch_fail(request, code);
        connection_send_soon(connection);
    }
    connection_leave(connection);
}

/* What the first in the queue was to lend is not in memory any more. So little of it is fetched at
 * a time that it need not wait for room; what is behind that may be lent again. */
static void fetch_first(struct connection *connection)
{
    struct server_request *request =
        container_of(sendq_first(&connection->sendq), struct server_request, reply);
    size_t length = smaller(dispatch_unfetched_bytes(request), PRESSURE_SMALL_BYTES);
    connection->unsent_bytes += length - request->cost_bytes; /* the piece before is out */
    set_cost(connection, request, length);
    connection->fetching = request;
    request->fetched = fetched;
    dispatch_fetch(request, length);
}

static void send_at_round_end(struct loop_task *task)
{
    struct connection *connection = container_of(task, struct connection, send_task);
    struct list sent;
    struct list_link *link;
    list_init(&sent);
    size_t front_sent = connection->sendq.front_sent;
    connection_enter(connection);
    int code = send_greeting(connection);
    if (code == 0)
        code = sendq_flush(&connection->sendq, connection->stream, &sent);
    bool sent_some = !list_is_empty(&sent);
    while ((link = list_pop(&sent)) != NULL)
        free_sent(connection, container_of(link, struct server_request, reply.link));
    if (!connection->write_blocked || sent_some || connection->sendq.front_sent != front_sent)
        connection->sent_ns = loop_now_ns(connection->lane->loop);
    connection->write_blocked = code == -EAGAIN;
    if (code == -ENODATA)
        fetch_first(connection);
    else if (code == -EBUSY)
        connection_send_soon(connection);
    else if (code < 0 && code != -EAGAIN)
        connection_lose_by(connection, "cannot be sent its answers", code);
    connection_leave(connection);
}
