/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_SIGNALS_H
#define SERVER_SIGNALS_H

/*
 * SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2, as something that loop 0 reads. They are blocked
 * everywhere, so that no thread is interrupted by one.
 */

#include "block/loop.h"
#include "common/error.h"

struct signals {
    struct loop *loop; /* NULL: not watched */
    struct loop_watch watch;
    int fd;
    void (*told)(void *ctx, int number);
    void *ctx;
};

/* Blocks them and SIGCHLD, and ignores SIGPIPE. Before any thread starts; children inherit it. */
void signals_block(void);

/* From now on told() runs on the loop for each signal, those that came since signals_block() too.
 */
int signals_watch(struct signals *signals, struct loop *loop, void (*told)(void *ctx, int number),
                  void *ctx, struct error *err);
/* Harmless when nothing is watched. */
void signals_unwatch(struct signals *signals);

#endif
