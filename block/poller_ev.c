/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Readiness from libev; the only file that knows ev.h.
 *
 * One struct ev_loop a loop. It is turned once a wait, by one epoll_wait(); libev changes epoll's
 * set just before that, and only for what differs from the last time, so a watch that was paused
 * and resumed within one turn costs nothing. For that a watch must be told apart from a new one on
 * the same descriptor number: ev_io_set() always costs an epoll_ctl(), ev_io_modify() only when
 * something has changed. watch->loop is NULL until the first call, and says which it is.
 *
 * libev calls abort() when it gets no memory: block/poller_memory has what it may need beforehand.
 *
 * libev is not instrumented, so ThreadSanitizer sees nothing of it: what threads hand to each other
 * goes through the loop's inbox alone.
 */
#include "block/loop.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "block/poller_memory.h"
#include "common/processor.h"

/* ev.h's macros reach into watchers through pointers to their common first members. gcc warns of
 * that where the macros are used, so for this file the warning is off; libev itself is built apart,
 * and here nobody else looks at the same memory through another type. */
#pragma GCC diagnostic ignored "-Wstrict-aliasing"
#include <ev.h>

struct poller {
    struct ev_loop *ev;
    struct ev_async wake;
    struct ev_timer alarm; /* on only during a wait with a limit */
    bool any;              /* this wait has called somebody */
    bool asked_waited;     /* waited_fd is known */
    int waited_fd;         /* processor_open_waited() */
};

_Static_assert(sizeof(struct ev_io) <= sizeof(((struct loop_watch *)0)->poller_space),
               "an ev_io fits into a watch");

static struct ev_io *watch_io(struct loop_watch *watch)
{
    return (struct ev_io *)(void *)watch->poller_space;
}

static void on_wake(struct ev_loop *ev, struct ev_async *wake, int revents)
{
    (void)ev;
    (void)wake;
    (void)revents; /* its purpose was to end the wait */
}

static void on_alarm(struct ev_loop *ev, struct ev_timer *alarm, int revents)
{
    (void)ev;
    (void)alarm;
    (void)revents; /* as on_wake(): the loop keeps the timers itself */
}

static void on_io(struct ev_loop *ev, struct ev_io *io, int revents)
{
    struct loop_watch *watch = io->data;
    struct poller *poller = ev_userdata(ev);
    unsigned events = 0;
    if (revents & EV_READ)
        events |= LOOP_READABLE;
    if (revents & EV_WRITE)
        events |= LOOP_WRITABLE;
    if (revents & EV_ERROR) {
        /* epoll_ctl() failed, and libev has let the watch go. A bad descriptor is for its owner's
         * next call to tell. A kernel without memory is asked again each turn; until it has some
         * the owner is sent to look for himself, so nobody waits for what nothing watches. */
        events = watch->wanted;
        ev_io_set(io, io->fd, io->events & (EV_READ | EV_WRITE)); /* or epoll is not asked */
        ev_io_start(ev, io);
    }
    poller->any = true;
    watch->ready(watch, events); /* may end the watch's life */
}

static int ev_poller_open(struct loop *loop, void **ret_poller, struct error *err)
{
    struct poller *poller = calloc(1, sizeof(*poller));
    if (!poller)
        return error_set(err, -ENOMEM, "out of memory for event loop %u", loop_index(loop));
    int joined = poller_memory_join(err);
    if (joined < 0) {
        free(poller);
        return joined;
    }
    ev_set_allocator(poller_memory_realloc); /* the same one each time */
    poller->ev = ev_loop_new(EVFLAG_NOENV | EVFLAG_NOSIGMASK | EVBACKEND_EPOLL);
    if (!poller->ev) {
        int code = errno ? -errno : -EMFILE;
        poller_memory_leave();
        free(poller);
        return error_set(err, code,
                         "cannot open an epoll descriptor for event loop %u: %s; "
                         "raise the limit of open files (ulimit -n) if it is used up",
                         loop_index(loop), error_text(code));
    }
    ev_set_userdata(poller->ev, poller);
    ev_async_init(&poller->wake, on_wake);
    ev_async_start(poller->ev, &poller->wake);
    ev_timer_init(&poller->alarm, on_alarm, 0., 0.);
    *ret_poller = poller;
    return 0;
}

static void ev_poller_close(void *opaque)
{
    struct poller *poller = opaque;
    ev_async_stop(poller->ev, &poller->wake);
    ev_loop_destroy(poller->ev);
    poller_memory_leave();
    if (poller->asked_waited && poller->waited_fd >= 0)
        close(poller->waited_fd);
    free(poller);
}

static void ev_poller_watch(void *opaque, struct loop_watch *watch)
{
    struct poller *poller = opaque;
    struct ev_io *io = watch_io(watch);
    int events = 0;
    if (watch->wanted & LOOP_READABLE)
        events |= EV_READ;
    if (watch->wanted & LOOP_WRITABLE)
        events |= EV_WRITE;
    if (watch->loop) {
        ev_io_stop(poller->ev, io);
        ev_io_modify(io, events);
    } else {
        ev_io_init(io, on_io, watch->fd, events);
        io->data = watch;
    }
    if (events)
        ev_io_start(poller->ev, io);
}

static bool ev_poller_wait(void *opaque, int64_t timeout_ns)
{
    struct poller *poller = opaque;
    poller->any = false;
    if (timeout_ns > 0) {
        ev_now_update(poller->ev); /* a timer counts from libev's idea of now */
        ev_timer_set(&poller->alarm, (double)timeout_ns * 1e-9, 0.);
        ev_timer_start(poller->ev, &poller->alarm);
    }
    ev_run(poller->ev, timeout_ns == 0 ? EVRUN_NOWAIT : EVRUN_ONCE);
    if (timeout_ns > 0)
        ev_timer_stop(poller->ev, &poller->alarm);
    return poller->any;
}

static void ev_poller_wake(void *opaque)
{
    struct poller *poller = opaque;
    ev_async_send(poller->ev, &poller->wake);
}

/* An ordinary thread's sleeps end up to 50 us later than they should, unless it asks for more. */
static void be_punctual(void)
{
    static _Thread_local bool is_punctual;
    if (!is_punctual)
        prctl(PR_SET_TIMERSLACK, 1);
    is_punctual = true;
}

static void ev_poller_nap(void *opaque, uint64_t ns)
{
    (void)opaque;
    be_punctual();
    struct timespec span = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &span, NULL);
}

static uint64_t ev_poller_waited_ns(void *opaque)
{
    struct poller *poller = opaque;
    if (!poller->asked_waited)
        poller->waited_fd = processor_open_waited();
    poller->asked_waited = true;
    return processor_waited_ns(poller->waited_fd);
}

const struct poller_ops poller_ev = {
    .name = "libev",
    .open = ev_poller_open,
    .close = ev_poller_close,
    .watch = ev_poller_watch,
    .wait = ev_poller_wait,
    .wake = ev_poller_wake,
    .nap = ev_poller_nap,
    .waited_ns = ev_poller_waited_ns,
};
