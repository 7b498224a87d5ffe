/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/replay/nbd_guest.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/error.h"

#define CONNECT_NS_MAX (UINT64_C(30) * 1000000000)

/* One request at libnbd. */
struct nbd_call {
    struct nbd_guest *guest;
    struct guest_request *request;
    int result;
    struct list_link link;
};

static struct nbd_guest *nbd_of(struct guest_device *device)
{
    return container_of(device, struct nbd_guest, guest);
}

/* Asks libnbd what it waits for. */
static void watch_again(struct nbd_guest *guest)
{
    unsigned direction = nbd_aio_get_direction(guest->nbd), wanted = 0;
    if (direction & LIBNBD_AIO_DIRECTION_READ)
        wanted |= LOOP_READABLE;
    if (direction & LIBNBD_AIO_DIRECTION_WRITE)
        wanted |= LOOP_WRITABLE;
    loop_watch_set(guest->loop, &guest->watch, wanted);
}

/* Nothing more is done in libnbd's callback: it is inside of libnbd's own state machine. */
static int call_ended(void *user, int *error)
{
    struct nbd_call *call = user;
    call->result = -*error;
    list_append(&call->guest->ended, &call->link);
    loop_at_round_end(call->guest->loop, &call->guest->answer);
    return 1; /* libnbd may forget it */
}

static void answer_all(struct loop_task *task)
{
    struct nbd_guest *guest = container_of(task, struct nbd_guest, answer);
    struct list_link *link;
    while ((link = list_pop(&guest->ended))) {
        struct nbd_call *call = container_of(link, struct nbd_call, link);
        struct guest_request *request = call->request;
        int result = call->result;
        free(call);
        request->done(request, result);
    }
}

static void ready(struct loop_watch *watch, unsigned events)
{
    struct nbd_guest *guest = container_of(watch, struct nbd_guest, watch);
    unsigned direction = nbd_aio_get_direction(guest->nbd);
    if (events & LOOP_READABLE && direction & LIBNBD_AIO_DIRECTION_READ)
        nbd_aio_notify_read(guest->nbd);
    else if (events & LOOP_WRITABLE && direction & LIBNBD_AIO_DIRECTION_WRITE)
        nbd_aio_notify_write(guest->nbd);
    watch_again(guest);
}

static int64_t start(struct nbd_guest *guest, struct guest_request *request,
                     nbd_completion_callback done)
{
    uint64_t offset = request->sector * GUEST_SECTOR;
    uint32_t fua = guest->has_write_cache ? 0 : LIBNBD_CMD_FLAG_FUA;
    switch (request->op) {
    case GUEST_READ:
        return nbd_aio_pread(guest->nbd, request->buffer, request->bytes, offset, done, 0);
    case GUEST_WRITE:
        return nbd_aio_pwrite(guest->nbd, request->buffer, request->bytes, offset, done, fua);
    case GUEST_DISCARD:
        return nbd_aio_trim(guest->nbd, request->bytes, offset, done, 0);
    case GUEST_ZERO:
        return nbd_aio_zero(guest->nbd, request->bytes, offset, done, fua);
    case GUEST_FLUSH:
        break;
    }
    return nbd_aio_flush(guest->nbd, done, 0);
}

static void submit(struct guest_device *device, struct guest_request *request)
{
    struct nbd_guest *guest = nbd_of(device);
    struct nbd_call *call = calloc(1, sizeof(*call));
    assert(call);
    *call = (struct nbd_call){.guest = guest, .request = request};
    link_init(&call->link);
    /* What cannot even start, as on a connection that is gone, has no callback. */
    if (start(guest, request,
              (nbd_completion_callback){.callback = call_ended, .user_data = call}) < 0) {
        int error = nbd_get_errno() ? nbd_get_errno() : EIO;
        call_ended(call, &error);
    }
    watch_again(guest);
}

static int co_set_write_cache(struct guest_device *device, bool on)
{
    nbd_of(device)->has_write_cache = on;
    return 0;
}

/* A connection has nothing to reset but what a guest would find reset: its write cache. */
static void co_reset(struct guest_device *device)
{
    nbd_of(device)->has_write_cache = true;
}

static const struct guest_device_ops nbd_guest_ops = {
    .name = "nbd",
    .submit = submit,
    .co_set_write_cache = co_set_write_cache,
    .co_reset = co_reset,
};

/* A handle that failed cannot connect again, so each try has one of its own. */
static struct nbd_handle *connect_once(const char *socket)
{
    struct nbd_handle *nbd = nbd_create();
    if (nbd && nbd_connect_unix(nbd, socket) == 0)
        return nbd;
    nbd_close(nbd);
    return NULL;
}

int nbd_guest_init(struct nbd_guest *guest, struct loop *loop, const char *socket,
                   struct error *err)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    uint64_t from = clock_monotonic.now_ns(&clock_monotonic);
    int64_t size;
    *guest = (struct nbd_guest){.loop = loop, .has_write_cache = true};
    while (!(guest->nbd = connect_once(socket))) {
        if (clock_monotonic.now_ns(&clock_monotonic) - from > CONNECT_NS_MAX)
            return error_set(err, -1, "no server at %s: %s", socket, nbd_get_error());
        nanosleep(&pause, NULL);
    }
    size = nbd_get_size(guest->nbd);
    if (size < 0) {
        nbd_close(guest->nbd);
        return error_set(err, -1, "the server at %s tells no size: %s", socket, nbd_get_error());
    }
    guest->guest = (struct guest_device){
        .ops = &nbd_guest_ops,
        .sector_count = (uint64_t)size / GUEST_SECTOR,
        .depth = 1024,
        .bytes_max = 1 << 20,
    };
    list_init(&guest->ended);
    link_init(&guest->answer.link);
    guest->answer.run = answer_all;
    loop_watch_init(&guest->watch, nbd_aio_get_fd(guest->nbd), ready);
    watch_again(guest);
    return 0;
}

void nbd_guest_fini(struct nbd_guest *guest)
{
    loop_watch_set(guest->loop, &guest->watch, 0);
    nbd_shutdown(guest->nbd, 0);
    nbd_close(guest->nbd);
}
