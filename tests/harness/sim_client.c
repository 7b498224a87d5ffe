/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_client.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/list.h"

void sim_client_fail(struct sim_client *client, const struct sim_request *request,
                     const char *format, ...)
{
    char what[512], name[128] = "";
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    if (request)
        sim_request_name(client, request, name, sizeof(name));
    sim_fail(client->all->sim, "%s%s%s: %s", client->who, request ? ", " : "", name, what);
}

static void leave(struct sim_client *client, bool is_reset)
{
    assert(client->phase != PHASE_GONE);
    client->phase = PHASE_GONE;
    event_clear(&client->event);
    sim_stream_client_close(client->stream, is_reset);
    client->stream = NULL;
    for (unsigned i = 0; i < SIM_DEPTH_MAX; i++) {
        if (!client->requests[i].is_used)
            continue;
        struct sim_faults_request wanted = sim_request_for_faults(client, &client->requests[i]);
        sim_faults_abandon(client->all->faults, &wanted);
        sim_request_end(client, &client->requests[i]);
    }
}

/* --- the phases ------------------------------------------------------------------------------ */

static void run_handshake(struct sim_client *client)
{
    client->handshake.server_stops = client->all->is_stopping;
    switch (sim_handshake_run(&client->handshake, &client->input, &client->output)) {
    case SIM_HANDSHAKE_MORE:
        if (client->is_eager && sim_handshake_is_sent(&client->handshake))
            sim_client_send_eagerly(client);
        break;
    case SIM_HANDSHAKE_WRONG:
        break;
    case SIM_HANDSHAKE_READY:
        client->phase = PHASE_TRANSMISSION;
        break;
    case SIM_HANDSHAKE_LEFT:
        client->phase = PHASE_LEAVING;
        break;
    }
}

static void begin_leaving(struct sim_client *client)
{
    client->phase = PHASE_LEAVING;
    if (client->leave != LEAVE_HALF_CLOSE)
        sim_client_send_disconnect(client);
}

/* True while the client says nothing. */
static bool is_idle(struct sim_client *client)
{
    uint64_t now_ns = client->all->sim->now_ns;
    if (client->idles_at > 0 && client->requests_left <= client->idles_at) {
        client->idles_at = 0;
        client->idle_until_ns = now_ns + draw_between(&client->random, 15, 60) * NS_PER_S;
    }
    if (now_ns >= client->idle_until_ns)
        return false;
    event_set_no_later(&client->event, client->idle_until_ns - now_ns);
    return true;
}

static void run_transmission(struct sim_client *client)
{
    sim_client_take_replies(client);
    if (sim_failed(client->all->sim) || is_idle(client))
        return;
    sim_client_send_requests(client);
    if (client->requests_left > 0)
        return;
    switch (client->leave) {
    case LEAVE_AFTER_ALL:
        if (client->outstanding == 0)
            begin_leaving(client);
        break;
    case LEAVE_OUTSTANDING:
    case LEAVE_HALF_CLOSE:
        begin_leaving(client);
        break;
    case LEAVE_VANISH:
    case LEAVE_RESET:
        break; /* see vanishes_now() */
    }
}

/* In the middle of something: of sending, or of waiting for answers. */
static bool vanishes_now(struct sim_client *client)
{
    if (client->leave != LEAVE_VANISH && client->leave != LEAVE_RESET)
        return false;
    if (client->phase == PHASE_TRANSMISSION)
        return client->requests_left == 0 && random_once_in(&client->random, 3);
    if (client->phase == PHASE_LEAVING)
        return client->output.length == 0 || random_once_in(&client->random, 20);
    return false;
}

static void check_end(struct sim_client *client)
{
    bool may_end = client->kind == SIM_CLIENT_ROGUE || client->all->is_stopping ||
                   (client->phase == PHASE_LEAVING && client->outstanding == 0);
    if (!may_end)
        sim_client_fail(client, NULL, "the server hung up; %u answers are missing",
                        client->outstanding);
    else
        leave(client, false);
}

static void send_output(struct sim_client *client)
{
    size_t sent;
    do {
        sent =
            client->stream->to_server.ended ? 0 : sim_stream_send(client->stream, &client->output);
    } while (sent > 0);
    if (client->phase == PHASE_LEAVING && client->leave == LEAVE_HALF_CLOSE &&
        client->output.length == 0 && !client->stream->to_server.ended)
        sim_stream_half_close(client->stream);
}

static bool reads_now(const struct sim_client *client)
{
    if (client->kind != SIM_CLIENT_ROGUE || client->phase == PHASE_HANDSHAKE)
        return true;
    return sim_rogue_reads(client);
}

static void receive_input(struct sim_client *client)
{
    size_t length_max = SIZE_MAX;
    if (!reads_now(client))
        return;
    if (client->is_slow_reader)
        length_max = draw_scaled(&client->random, 1, 65536);
    if (sim_stream_receive(client->stream, &client->input, length_max) == length_max)
        event_set_no_later(&client->event, random_below(&client->random, 50000));
}

/* A rogue does its one thing, and then waits for the server to hang up, or hangs up itself. */
static void misbehave(struct sim_client *client)
{
    if (sim_rogue_send(client))
        client->leave = LEAVE_VANISH;
    client->phase = PHASE_LEAVING;
}

static void run_phase(struct sim_client *client)
{
    bool is_rogue = client->kind == SIM_CLIENT_ROGUE;
    if (client->phase == PHASE_HANDSHAKE) {
        if (is_rogue && !sim_rogue_negotiates(client))
            misbehave(client);
        else
            run_handshake(client);
    }
    if (client->phase == PHASE_TRANSMISSION && is_rogue)
        misbehave(client);
    else if (client->phase == PHASE_TRANSMISSION)
        run_transmission(client);
    else if (client->phase == PHASE_LEAVING && !is_rogue)
        sim_client_take_replies(client);
}

static void client_run(struct sim_event *event)
{
    struct sim_client *client = container_of(event, struct sim_client, event);
    sim_note(event->sim, "client runs", client->number, client->phase, client->outstanding);
    receive_input(client);
    run_phase(client);
    if (sim_failed(event->sim))
        return;
    send_output(client);
    bool is_hung_up_on = client->lingers && client->stream->server_closed;
    if (sim_stream_has_ended(client->stream) || is_hung_up_on)
        check_end(client);
    else if (vanishes_now(client))
        leave(client, client->leave == LEAVE_RESET);
    else if (client->leave >= LEAVE_VANISH && client->requests_left == 0)
        event_set_no_later(&client->event, random_below(&client->random, 200000));
}

/* --- life ------------------------------------------------------------------------------------ */

static void draw_plan(struct sim_client *client)
{
    struct random *random = &client->random;
    client->depth = (unsigned)draw_scaled(random, 1, 64);
    client->requests_left = draw_scaled(random, 1, 120);
    client->length_max = (uint32_t)draw_scaled(random, 512, 256 << 10);
    if (random_once_in(random, 10)) { /* a flood */
        client->depth = SIM_DEPTH_MAX;
        client->requests_left = draw_between(random, 100, 700);
        client->length_max = (uint32_t)draw_scaled(random, 512, 16384);
    }
    if (random_once_in(random, 10))
        client->idles_at = draw_between(random, 1, client->requests_left);
    client->changes_much = random_once_in(random, 3);
    client->alignment = random_once_in(random, 3) ? 1 : random_once_in(random, 2) ? 512 : 4096;
    client->is_slow_reader = random_once_in(random, 10);
    static const enum sim_leave leaves[] = {LEAVE_AFTER_ALL,  LEAVE_AFTER_ALL, LEAVE_OUTSTANDING,
                                            LEAVE_HALF_CLOSE, LEAVE_VANISH,    LEAVE_RESET};
    client->leave = leaves[random_below(random, 6)];
}

void sim_client_init(struct sim_client *client, struct sim_clients *all, unsigned number,
                     enum sim_client_kind kind)
{
    static const char *const kinds[] = {"client", "verifier", "rogue"};
    *client = (struct sim_client){.all = all, .number = number, .kind = kind};
    client->random = sim_random(all->sim, "client", number);
    snprintf(client->who, sizeof(client->who), "%s %u", kinds[kind], number);
    event_init(&client->event, all->sim, client_run);
    draw_plan(client);
    if (kind == SIM_CLIENT_VERIFIER) {
        client->leave = LEAVE_AFTER_ALL;
        client->idles_at = 0;
        client->requests_left = 1; /* until all is read: see sim_client_send_requests() */
    }
    if (kind == SIM_CLIENT_ROGUE)
        sim_rogue_draw(client);
    sim_handshake_init(&client->handshake, all->sim, &client->random, all->export_name,
                       all->oracle->size_bytes, kind == SIM_CLIENT_HONEST, client->who);
    client->is_eager = kind == SIM_CLIENT_HONEST && random_once_in(&client->random, 6) &&
                       client->handshake.steps[client->handshake.step_count - 1] != STEP_ABORT;
}

void sim_client_fini(struct sim_client *client)
{
    assert(client->phase == PHASE_GONE || client->phase == PHASE_OUTSIDE);
    bytes_free(&client->input);
    bytes_free(&client->output);
}

struct stream *sim_client_connect(struct sim_client *client)
{
    assert(client->phase == PHASE_OUTSIDE);
    client->stream = sim_stream_new(client->all->sim, client->number, &client->event);
    client->phase = PHASE_HANDSHAKE;
    event_set(&client->event, 0);
    return &client->stream->stream;
}

void sim_client_describe(const struct sim_client *client, char *text, size_t room)
{
    static const char *const phases[] = {"outside", "in the handshake", "in transmission",
                                         "leaving", "gone"};
    snprintf(text, room, "%s is %s, %u answers outstanding, %zu bytes to send", client->who,
             phases[client->phase], client->outstanding, client->output.length);
}
