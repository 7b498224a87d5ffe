/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

static sigset_t our_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    return set;
}

void signals_block(void)
{
    sigset_t set = our_signals();
    sigaddset(&set, SIGCHLD); /* read by run_command */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN); /* sockets do not raise it, but a closed stderr would */
}

static void signals_ready(struct loop_watch *watch, unsigned events)
{
    (void)events;
    struct signals *signals = container_of(watch, struct signals, watch);
    struct signalfd_siginfo info;
    if (read(signals->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        signals->told(signals->ctx, (int)info.ssi_signo);
}

int signals_watch(struct signals *signals, struct loop *loop, void (*told)(void *ctx, int number),
                  void *ctx, struct error *err)
{
    sigset_t set = our_signals();
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return error_set(err, -errno, "cannot watch for signals: %s", error_text(errno));
    *signals = (struct signals){.loop = loop, .fd = fd, .told = told, .ctx = ctx};
    loop_watch_init(&signals->watch, fd, signals_ready);
    loop_watch_set(loop, &signals->watch, LOOP_READABLE);
    return 0;
}

void signals_unwatch(struct signals *signals)
{
    if (!signals->loop)
        return;
    loop_watch_set(signals->loop, &signals->watch, 0);
    close(signals->fd);
    signals->loop = NULL;
}
