/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/replay/replay.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/coroutine.h"
#include "common/align.h"
#include "tests/replay/judge.h"

#define END_CHUNK_SECTORS 512 /* the whole disk is read in such pieces */

struct replay {
    const struct trace *trace;
    struct guest_device *device;
    struct judge judge;
    struct replay_result *result;
    struct coroutine *waiter; /* for an answer */
    unsigned in_flight, depth;
    struct flight *flights; /* `depth` of them */
};

/* A step on its way, piece by piece where the device takes no request of that length. */
struct flight {
    struct replay *replay;
    const struct trace_step *step; /* NULL: free */
    unsigned number;               /* of the step; the reads at the end count on */
    uint32_t done_sectors;
    struct judged judged;
    uint8_t *buffer;
    size_t buffer_bytes;
    struct guest_request request;
};

__attribute__((format(printf, 3, 4))) static void failed(struct replay *replay,
                                                         const struct trace_step *step,
                                                         const char *format, ...)
{
    char *to = replay->result->failure;
    size_t room = sizeof(replay->result->failure);
    va_list arguments;
    int used;
    if (*to)
        return;
    used = step->line ? snprintf(to, room, "line %u: ", step->line)
                      : snprintf(to, room, "the disk in the end: ");
    va_start(arguments, format);
    vsnprintf(to + used, room - (size_t)used, format, arguments);
    va_end(arguments);
}

/* --- what was answered -------------------------------------------------------------------------
 */

/* Answers come in any order, so the numbers are added. */
static void count_read(const struct flight *flight)
{
    struct replay_result *result = flight->replay->result;
    uint64_t hash = content_hash(flight->replay->judge.content, flight->step->sector,
                                 flight->step->count, flight->buffer, flight->number + 1);
    if (flight->step->line)
        result->read_hash += hash;
    else
        result->end_hash += hash;
}

static const char *result_name(int result)
{
    switch (result) {
    case 0:
        return "ok";
    case -EIO:
        return "eio";
    case -ENOTSUP:
        return "enotsup";
    default:
        return strerror(-result);
    }
}

static void end(struct flight *flight, int result)
{
    struct replay *replay = flight->replay;
    const char *wrong = judge_answered(&replay->judge, &flight->judged, result, flight->buffer,
                                       replay->result->is_cache_off);
    if (result != flight->step->result)
        failed(replay, flight->step, "the answer is %s, not %s", result_name(result),
               result_name(flight->step->result));
    if (wrong)
        failed(replay, flight->step, "%s", wrong);
    if (result == 0 && flight->step->verb == TRACE_READ)
        count_read(flight);
    flight->step = NULL;
    replay->in_flight--;
    if (replay->waiter) {
        coroutine_wake(replay->waiter);
        replay->waiter = NULL;
    }
}

/* --- what is asked -----------------------------------------------------------------------------
 */

static void send_piece(struct flight *flight);

static void piece_done(struct guest_request *request, int result)
{
    struct flight *flight = container_of(request, struct flight, request);
    flight->done_sectors += request->bytes / GUEST_SECTOR;
    if (result == 0 && flight->done_sectors < flight->step->count)
        send_piece(flight);
    else
        end(flight, result);
}

static enum guest_op op_of(enum trace_verb verb)
{
    switch (verb) {
    case TRACE_READ:
        return GUEST_READ;
    case TRACE_WRITE:
        return GUEST_WRITE;
    case TRACE_DISCARD:
        return GUEST_DISCARD;
    case TRACE_ZERO:
        return GUEST_ZERO;
    default:
        return GUEST_FLUSH;
    }
}

static bool has_data(const struct trace_step *step)
{
    return step->verb == TRACE_READ || step->verb == TRACE_WRITE;
}

static void send_piece(struct flight *flight)
{
    const struct trace_step *step = flight->step;
    struct guest_device *device = flight->replay->device;
    uint64_t left = (uint64_t)(step->count - flight->done_sectors) * TRACE_SECTOR;
    if (has_data(step))
        left = smaller(left, align_down(device->bytes_max, TRACE_SECTOR));
    flight->request = (struct guest_request){
        .op = op_of(step->verb),
        .by_pio = step->by_pio,
        .sector = step->sector + flight->done_sectors,
        .bytes = (uint32_t)left,
        .buffer =
            has_data(step) ? flight->buffer + (size_t)flight->done_sectors * TRACE_SECTOR : NULL,
        .done = piece_done,
    };
    link_init(&flight->request.link);
    device->ops->submit(device, &flight->request);
}

static int make_room(struct flight *flight, size_t bytes)
{
    if (flight->buffer_bytes >= bytes)
        return 0;
    free(flight->buffer);
    flight->buffer = malloc(bytes);
    flight->buffer_bytes = flight->buffer ? bytes : 0;
    return flight->buffer ? 0 : -ENOMEM;
}

static void co_wait_for_answer(struct replay *replay)
{
    replay->waiter = coroutine_self();
    coroutine_yield();
}

static void co_wait_for_all(struct replay *replay)
{
    while (replay->in_flight > 0)
        co_wait_for_answer(replay);
}

/* Whether a request in flight and this one must not be so together. */
static bool is_in_the_way(const struct replay *replay, const struct trace_step *one,
                          const struct trace_step *other)
{
    if (replay->trace->overlaps)
        return false;
    if (one->verb == TRACE_FLUSH || other->verb == TRACE_FLUSH)
        return false;
    if (one->verb == TRACE_READ && other->verb == TRACE_READ)
        return false;
    return one->sector < other->sector + other->count && other->sector < one->sector + one->count;
}

/* A flight for the step, once it may begin. */
static struct flight *co_place(struct replay *replay, const struct trace_step *step)
{
    for (;;) {
        struct flight *place = NULL;
        bool may_begin = true;
        for (unsigned i = 0; i < replay->depth; i++) {
            struct flight *flight = &replay->flights[i];
            if (!flight->step)
                place = flight;
            else if (is_in_the_way(replay, flight->step, step))
                may_begin = false;
        }
        if (place && may_begin)
            return place;
        co_wait_for_answer(replay);
    }
}

static void co_send(struct replay *replay, const struct trace_step *step, unsigned number)
{
    struct flight *flight = co_place(replay, step);
    flight->replay = replay;
    flight->number = number;
    flight->done_sectors = 0;
    if (has_data(step) && make_room(flight, (size_t)step->count * TRACE_SECTOR) < 0) {
        failed(replay, step, "no memory for %u sectors", step->count);
        return;
    }
    judge_sent(&replay->judge, &flight->judged, step, flight->buffer);
    flight->step = step;
    replay->in_flight++;
    replay->result->requests++;
    send_piece(flight);
}

/* --- steps -------------------------------------------------------------------------------------
 */

static void co_switch_cache(struct replay *replay, const struct trace_step *step)
{
    struct guest_device *device = replay->device;
    bool on = step->verb == TRACE_CACHE_ON;
    co_wait_for_all(replay);
    if (device->ops->co_set_write_cache(device, on) < 0)
        failed(replay, step, "the device cannot switch its write cache");
    replay->result->is_cache_off = !on;
}

/* Everything but a crash. */
static void co_step(struct replay *replay, unsigned number)
{
    const struct trace_step *step = &replay->trace->steps[number];
    struct guest_device *device = replay->device;
    switch (step->verb) {
    case TRACE_WAIT:
        co_wait_for_all(replay);
        break;
    case TRACE_CACHE_ON:
    case TRACE_CACHE_OFF:
        co_switch_cache(replay, step);
        break;
    case TRACE_RESET:
        co_wait_for_all(replay);
        device->ops->co_reset(device);
        replay->result->is_cache_off = false;
        break;
    default:
        co_send(replay, step, number);
    }
}

/* The sectors from there on that can be read: a bad one has no content. */
static uint32_t readable_count(const struct trace *trace, uint64_t sector, uint64_t *ret_skip)
{
    uint64_t count = trace->size_bytes / TRACE_SECTOR - sector;
    *ret_skip = 0;
    for (unsigned i = 0; i < trace->bad_count; i++) {
        const struct trace_bad *bad = &trace->bad[i];
        if (!bad->of_reads || sector >= bad->sector + bad->count)
            continue;
        if (sector >= bad->sector) {
            *ret_skip = bad->sector + bad->count - sector;
            return 0;
        }
        count = smaller(count, bad->sector - sector);
    }
    return (uint32_t)smaller(count, END_CHUNK_SECTORS);
}

static void co_read_disk(struct replay *replay)
{
    static const struct trace_step flush = {.verb = TRACE_FLUSH};
    uint64_t sectors = replay->trace->size_bytes / TRACE_SECTOR, sector = 0, skip;
    unsigned number = replay->trace->step_count;
    co_wait_for_all(replay);
    co_send(replay, &flush, number);
    while (sector < sectors && !replay->result->failure[0]) {
        struct trace_step step = {.verb = TRACE_READ, .sector = sector};
        step.count = readable_count(replay->trace, sector, &skip);
        sector += step.count + skip;
        if (step.count == 0)
            continue;
        co_send(replay, &step, ++number);
        co_wait_for_all(replay); /* `step` lives here */
    }
    co_wait_for_all(replay);
}

int replay_co_run(const struct trace *trace, struct guest_device *device, struct content *content,
                  struct replay_result *result)
{
    struct replay replay = {
        .trace = trace,
        .device = device,
        .result = result,
        .depth = (unsigned)smaller(trace->depth, device->depth),
    };
    bool has_crash = false;
    assert(device->sector_count >= trace->size_bytes / TRACE_SECTOR);
    replay.flights = calloc(replay.depth, sizeof(*replay.flights));
    if (!replay.flights) {
        snprintf(result->failure, sizeof(result->failure), "no memory for the requests in flight");
        return -1;
    }
    judge_init(&replay.judge, trace, content);
    result->is_loose |= trace->overlaps;
    while (result->next_step < trace->step_count && !has_crash && !result->failure[0]) {
        has_crash = trace->steps[result->next_step].verb == TRACE_CRASH;
        if (!has_crash)
            co_step(&replay, result->next_step);
        result->next_step++;
    }
    co_wait_for_all(&replay);
    if (has_crash) {
        result->crashes++;
        result->is_cache_off = false;
        result->is_loose |= content_crash(content);
    } else if (!result->failure[0]) {
        co_read_disk(&replay);
    }
    for (unsigned i = 0; i < replay.depth; i++)
        free(replay.flights[i].buffer);
    free(replay.flights);
    judge_fini(&replay.judge);
    return result->failure[0] ? -1 : 0;
}
