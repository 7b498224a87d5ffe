/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/crash/workload.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/coroutine.h"
#include "tests/crash/no_memory.h"

/* --- drawing ------------------------------------------------------------------------------------
 */

#define PLACES 3 /* where most requests go */

struct places {
    uint64_t at[PLACES];
    uint64_t units; /* of the disk */
};

static unsigned step_count(const struct crash_format *format)
{
    unsigned count = 0;
    while (format->steps && format->steps[count].name)
        count++;
    return count;
}

static enum crash_request_kind draw_kind(const struct crash_bench *bench, struct random *random)
{
    uint64_t choice = random_below(random, 100);
    if (choice < 8 && step_count(bench->format) > 0)
        return CRASH_REQUEST_STEP;
    if (choice < 12 && bench->shape->resizes)
        return CRASH_REQUEST_RESIZE;
    if (choice < 48)
        return CRASH_REQUEST_WRITE;
    if (choice < 58)
        return CRASH_REQUEST_ZERO;
    if (choice < 63)
        return CRASH_REQUEST_ZERO_KEEP;
    if (choice < 76)
        return CRASH_REQUEST_DISCARD;
    return choice < 91 ? CRASH_REQUEST_FLUSH : CRASH_REQUEST_READ;
}

/* Whole units, parts of one, or something odd that crosses a border. */
static void draw_range(const struct crash_bench *bench, const struct places *places,
                       struct random *random, uint64_t *ret_offset, uint64_t *ret_length)
{
    uint64_t size = bench->shape->disk_bytes, unit = bench->shape->unit_bytes;
    uint64_t index = random_once_in(random, 6)
                         ? random_below(random, places->units)
                         : places->at[random_below(random, PLACES)] + random_below(random, 3);
    uint64_t offset = index * unit, length = unit * (1 + random_below(random, 3));
    switch (random_below(random, 4)) {
    case 0:
        length = unit;
        break;
    case 1:
        offset += random_below(random, unit);
        length = 1 + random_below(random, unit);
        break;
    case 2:
        offset += random_below(random, unit / 512) * 512;
        length = 512 * (1 + random_below(random, unit / 256));
        break;
    default:
        break;
    }
    if (offset >= size)
        offset = size - 1;
    *ret_offset = offset;
    *ret_length = length < size - offset ? length : size - offset;
}

static struct crash_request draw_request(const struct crash_bench *bench,
                                         const struct places *places, struct random *random)
{
    struct crash_request request = {.kind = draw_kind(bench, random),
                                    .is_forced = random_once_in(random, 8)};
    draw_range(bench, places, random, &request.offset, &request.length);
    if (request.kind == CRASH_REQUEST_STEP)
        request.step = (unsigned)random_below(random, step_count(bench->format));
    if (request.kind == CRASH_REQUEST_RESIZE) /* in sectors, and not to nothing */
        request.length = 512 * (1 + random_below(random, bench->shape->disk_bytes / 512));
    return request;
}

/* Clusters change hands while others read them: one client frees those of one place, and takes them
 * for another one at once. */
static void draw_reuse(struct crash_workload *workload, const struct crash_bench *bench,
                       struct random *random)
{
    uint64_t unit = bench->shape->unit_bytes, units = bench->shape->disk_bytes / unit;
    uint64_t many = units < 16 ? units / 2 : 8;
    struct crash_request round[] = {
        {.kind = CRASH_REQUEST_DISCARD, .length = many * unit},
        {.kind = CRASH_REQUEST_FLUSH, .length = unit},
        {.kind = CRASH_REQUEST_WRITE, .offset = many * unit, .length = many * unit},
    };
    workload->reads_slowly = true;
    workload->client_count = 3;
    for (unsigned i = 0; i < 2; i++) {
        workload->counts[i] = CRASH_REQUESTS_MAX / 2;
        for (unsigned n = 0; n < workload->counts[i]; n++)
            workload->requests[i][n] =
                (struct crash_request){.kind = CRASH_REQUEST_READ,
                                       .offset = random_below(random, 2 * many) * unit,
                                       .length = unit};
    }
    workload->counts[2] = CRASH_REQUESTS_MAX;
    for (unsigned n = 0; n < CRASH_REQUESTS_MAX; n++) {
        struct crash_request request = round[n % 3];
        if (n / 3 % 2 == 1 && request.kind != CRASH_REQUEST_FLUSH) /* the other way round */
            request.offset = many * unit - request.offset;
        workload->requests[2][n] = request;
    }
}

void crash_workload_draw(struct crash_workload *workload, const struct crash_bench *bench,
                         struct random *random)
{
    uint64_t size = bench->shape->disk_bytes, unit = bench->shape->unit_bytes;
    struct places places = {.units = (size + unit - 1) / unit};
    if (!bench->shape->resizes && random_once_in(random, 8)) {
        draw_reuse(workload, bench, random);
        return;
    }
    workload->reads_slowly = false;
    for (unsigned i = 0; i < PLACES; i++)
        places.at[i] = random_below(random, places.units);
    if (random_once_in(random, 3)) /* the end of the disk, which may be in the middle of a unit */
        places.at[0] = places.units - 1;
    workload->client_count =
        bench->shape->resizes ? 1 : 1 + (unsigned)random_below(random, CRASH_CLIENTS_MAX);
    for (unsigned i = 0; i < workload->client_count; i++) {
        unsigned most = CRASH_REQUESTS_MAX / workload->client_count;
        workload->counts[i] = 1 + (unsigned)random_below(random, most);
        for (unsigned n = 0; n < workload->counts[i]; n++)
            workload->requests[i][n] = draw_request(bench, &places, random);
    }
}

/* --- all short sequences ------------------------------------------------------------------------
 */

/* Ranges in quarters of a unit, so that there is a whole one, a part of it, and both of two. */
static const struct {
    enum crash_request_kind kind;
    unsigned from, count;
    bool is_forced;
} alphabet[] = {
    {CRASH_REQUEST_WRITE, 0, 4, false},   {CRASH_REQUEST_WRITE, 1, 1, false},
    {CRASH_REQUEST_WRITE, 4, 4, false},   {CRASH_REQUEST_WRITE, 2, 4, true},
    {CRASH_REQUEST_ZERO, 0, 4, false},    {CRASH_REQUEST_ZERO_KEEP, 0, 8, false},
    {CRASH_REQUEST_DISCARD, 0, 4, false}, {CRASH_REQUEST_DISCARD, 0, 8, true},
    {CRASH_REQUEST_FLUSH, 0, 1, false},
};
#define LETTERS (sizeof(alphabet) / sizeof(*alphabet))

uint64_t crash_sequence_count(void)
{
    uint64_t count = 1;
    for (unsigned i = 0; i < CRASH_SEQUENCE_REQUESTS; i++)
        count *= LETTERS;
    return count;
}

/* A flush comes before the last one, and after it, so that something is durable and something may
 * be lost. */
bool crash_workload_sequence(struct crash_workload *workload, const struct crash_bench *bench,
                             uint64_t number)
{
    uint64_t quarter = bench->shape->unit_bytes / 4;
    if (number >= crash_sequence_count())
        return false;
    memset(workload, 0, sizeof(*workload));
    workload->client_count = 1;
    struct crash_request *next = workload->requests[0];
    for (unsigned i = 0; i < CRASH_SEQUENCE_REQUESTS; i++, number /= LETTERS) {
        unsigned letter = (unsigned)(number % LETTERS);
        if (i == CRASH_SEQUENCE_REQUESTS - 1)
            *next++ = (struct crash_request){.kind = CRASH_REQUEST_FLUSH};
        *next++ = (struct crash_request){.kind = alphabet[letter].kind,
                                         .is_forced = alphabet[letter].is_forced,
                                         .offset = alphabet[letter].from * quarter,
                                         .length = alphabet[letter].count * quarter};
    }
    *next++ = (struct crash_request){.kind = CRASH_REQUEST_FLUSH};
    workload->counts[0] = (unsigned)(next - workload->requests[0]);
    return true;
}

/* --- carrying out -------------------------------------------------------------------------------
 */

struct client {
    struct crash_worker *worker;
    unsigned number;
    const struct crash_request *requests;
    unsigned count;
    struct gathering *gathering;
};

struct gathering {
    unsigned running;
    struct coroutine *waiter;
};

static void note(struct crash_worker *worker, struct crash_event event)
{
    if (worker->tape)
        crash_tape_note(worker->tape, event);
}

static void failed(struct crash_worker *worker, const char *what, int rc)
{
    worker->failed++;
    if (!worker->may_fail)
        sim_fail(worker->oracle->sim, "%s failed: %s", what, error_text(rc));
}

/* The block layer's own allocations are those that may be made to fail. */
static void enter(struct crash_worker *worker)
{
    crash_no_memory_rearm(worker->lacks_memory);
}

/* What a request was answered. */
static int left(int rc)
{
    crash_no_memory_disarm();
    return rc;
}

/* What a change was answered. */
static void answered(struct crash_worker *worker, const struct crash_request *request,
                     uint32_t number, int rc)
{
    if (rc < 0) {
        oracle_fail(worker->oracle, number);
        note(worker, (struct crash_event){.kind = CRASH_FAILED, .number = number});
        failed(worker, "a request", rc);
        return;
    }
    oracle_answer(worker->oracle, number);
    note(worker, (struct crash_event){.kind = CRASH_ANSWERED, .number = number});
    if (!request->is_forced)
        return;
    oracle_forced(worker->oracle, number, NULL, NULL);
    note(worker, (struct crash_event){.kind = CRASH_FORCED, .number = number});
}

static uint32_t send(struct client *client, enum oracle_kind kind,
                     const struct crash_request *request)
{
    uint32_t number =
        oracle_send(client->worker->oracle, client->number, kind, request->offset, request->length);
    note(client->worker, (struct crash_event){.kind = CRASH_SENT,
                                              .number = number,
                                              .request = kind,
                                              .client = client->number,
                                              .offset = request->offset,
                                              .length = request->length});
    return number;
}

static void co_write(struct client *client, const struct crash_request *request)
{
    struct iovec iov;
    uint32_t number = send(client, ORACLE_WRITE, request);
    uint8_t *bytes = crash_alloc(request->length);
    struct block_vec vec = vec_of_buffer(&iov, bytes, request->length);
    oracle_pattern(client->worker->oracle, number, bytes);
    enter(client->worker);
    int rc = left(block_co_write(client->worker->backend, request->offset, &vec,
                                 request->is_forced ? BLOCK_FUA : 0));
    free(bytes);
    answered(client->worker, request, number, rc);
}

static void co_zero(struct client *client, const struct crash_request *request)
{
    unsigned flags = request->is_forced ? BLOCK_FUA : 0;
    if (request->kind == CRASH_REQUEST_ZERO_KEEP)
        flags |= BLOCK_NO_UNMAP;
    uint32_t number = send(client, ORACLE_ZERO, request);
    enter(client->worker);
    int rc = left(block_co_zero(client->worker->backend, request->offset, request->length, flags));
    answered(client->worker, request, number, rc);
}

static void co_discard(struct client *client, const struct crash_request *request)
{
    uint32_t number = send(client, ORACLE_TRIM, request);
    enter(client->worker);
    int rc = left(block_co_discard(client->worker->backend, request->offset, request->length,
                                   request->is_forced ? BLOCK_FUA : 0));
    answered(client->worker, request, number, rc);
}

static void co_flush(struct client *client)
{
    struct crash_worker *worker = client->worker;
    uint32_t sent = oracle_flush_send(worker->oracle), number = worker->flushes++;
    note(worker, (struct crash_event){.kind = CRASH_FLUSH_SENT, .number = number});
    enter(worker);
    int rc = left(block_co_flush(worker->backend));
    worker->flush_succeeded = rc == 0;
    if (rc < 0) {
        failed(worker, "a flush", rc);
        return;
    }
    oracle_flushed(worker->oracle, sent, NULL, NULL);
    note(worker, (struct crash_event){.kind = CRASH_FLUSHED, .number = number});
}

static void co_read(struct client *client, const struct crash_request *request)
{
    struct iovec iov;
    struct oracle_view view;
    struct crash_worker *worker = client->worker;
    uint8_t *bytes = crash_alloc(request->length);
    struct block_vec vec = vec_of_buffer(&iov, bytes, request->length);
    oracle_view_open(worker->oracle, &view, request->offset, request->length);
    enter(worker);
    int rc = left(block_co_read(worker->backend, request->offset, &vec));
    if (rc < 0)
        failed(worker, "a read", rc);
    else
        oracle_view_check(worker->oracle, &view, bytes, "a read");
    oracle_view_close(&view);
    free(bytes);
}

static void co_step(struct client *client, const struct crash_request *request)
{
    struct crash_worker *worker = client->worker;
    struct error err = {.message = ""};
    const struct crash_step *step = &worker->bench->format->steps[request->step];
    enter(worker);
    int rc = left(step->co_run(worker->backend, &worker->random, &err));
    if (rc < 0)
        failed(worker, step->name, rc);
}

/* What is cut off is zeroes from then on: it was there, or it is not, or zeroes came in its place.
 */
static void co_resize(struct client *client, uint64_t size_bytes)
{
    struct crash_worker *worker = client->worker;
    struct error err = {.message = ""};
    uint64_t old_bytes = block_backend_size_bytes(worker->backend);
    struct crash_request cut = {.kind = CRASH_REQUEST_ZERO, .offset = size_bytes};
    uint32_t number = 0;
    note(worker, (struct crash_event){.kind = CRASH_RESIZE_SENT, .length = size_bytes});
    if (size_bytes < old_bytes) {
        cut.length = old_bytes - size_bytes;
        number = send(client, ORACLE_ZERO, &cut);
    }
    enter(worker);
    int rc = left(block_co_resize(worker->backend, size_bytes, &err));
    note(worker, (struct crash_event){.kind = CRASH_RESIZED,
                                      .length = block_backend_size_bytes(worker->backend)});
    if (number > 0)
        answered(worker, &cut, number, rc);
    else if (rc < 0)
        failed(worker, err.message, rc);
}

/* Inside the disk, where it may be smaller than at the beginning. */
static struct crash_request fit(const struct crash_worker *worker, struct crash_request request)
{
    uint64_t size = block_backend_size_bytes(worker->backend);
    if (request.offset >= size)
        request.offset %= size;
    if (request.length > size - request.offset)
        request.length = size - request.offset;
    return request;
}

static void co_request(struct client *client, const struct crash_request *drawn)
{
    struct crash_request request = *drawn;
    if (client->worker->bench->shape->resizes && request.kind != CRASH_REQUEST_RESIZE)
        request = fit(client->worker, request);
    switch (request.kind) {
    case CRASH_REQUEST_WRITE:
        co_write(client, &request);
        break;
    case CRASH_REQUEST_ZERO:
    case CRASH_REQUEST_ZERO_KEEP:
        co_zero(client, &request);
        break;
    case CRASH_REQUEST_DISCARD:
        co_discard(client, &request);
        break;
    case CRASH_REQUEST_FLUSH:
        co_flush(client);
        break;
    case CRASH_REQUEST_READ:
        co_read(client, &request);
        break;
    case CRASH_REQUEST_RESIZE:
        co_resize(client, request.length);
        break;
    default:
        co_step(client, &request);
    }
}

static void client_main(void *arg)
{
    struct client *client = arg;
    struct crash_worker *worker = client->worker;
    for (unsigned i = 0; i < client->count && !sim_failed(worker->oracle->sim); i++) {
        co_request(client, &client->requests[i]);
        for (uint64_t left = random_below(&worker->random, worker->pauses_max + 1); left > 0;
             left--)
            coroutine_co_pause();
    }
    struct gathering *gathering = client->gathering;
    gathering->running--;
    if (gathering->running == 0 && gathering->waiter)
        coroutine_wake(gathering->waiter);
}

void crash_co_work(struct crash_worker *worker, const struct crash_workload *workload)
{
    struct client clients[CRASH_CLIENTS_MAX];
    struct gathering gathering = {.running = 0};
    for (unsigned i = 0; i < workload->client_count; i++) {
        clients[i] = (struct client){.worker = worker,
                                     .number = i,
                                     .requests = workload->requests[i],
                                     .count = workload->counts[i],
                                     .gathering = &gathering};
        gathering.running++;
        if (coroutine_start(worker->bench->loop, client_main, &clients[i]) < 0)
            crash_die("no memory for a coroutine");
    }
    if (gathering.running > 0) {
        gathering.waiter = coroutine_self();
        coroutine_yield();
    }
}

void crash_workload_print(const struct crash_workload *workload)
{
    static const char *const names[CRASH_REQUEST_KINDS] = {
        "write", "zero", "zero, no hole", "discard", "flush", "read", "step", "resize"};
    for (unsigned i = 0; i < workload->client_count; i++) {
        for (unsigned n = 0; n < workload->counts[i]; n++) {
            const struct crash_request *request = &workload->requests[i][n];
            printf("    client %u: %s %#" PRIx64 "+%#" PRIx64 "%s\n", i, names[request->kind],
                   request->offset, request->length, request->is_forced ? ", FUA" : "");
        }
    }
}
