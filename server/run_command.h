/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_RUN_COMMAND_H
#define SERVER_RUN_COMMAND_H

/*
 * The command of --run: a shell that loop 0 waits for. The server serves until it has ended, and
 * ends with its status.
 *
 * With a terminal on standard input the command stays in the server's process group, so that it
 * reads the terminal and gets its Ctrl-C. Otherwise it leads a group of its own, and a signal to
 * the server reaches all of that: none of it outlives the server then.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "block/loop.h"
#include "common/error.h"

/* After a signal to the server the command has this long to end. */
#define RUN_COMMAND_STOP_TIMEOUT_MS 5000

struct run_command {
    struct loop *loop; /* NULL: no command was started */
    pid_t pid;         /* 0: it has ended */
    bool leads_group;
    bool was_signalled;
    struct loop_watch watch;
    int fd; /* tells of children that end */
    struct loop_timer kill_timer;
    int status; /* the command's exit status, or 128 and the signal that ended it */
    void (*ended)(void *ctx);
    void *ctx;
};

/* Starts `/bin/sh -c command`. ended() runs on the loop, once. After signals_block(). */
int run_command_start(struct run_command *run, struct loop *loop, const char *command,
                      char *const *environment, void (*ended)(void *ctx), void *ctx,
                      struct error *err);
/* Whether there is a command that has not ended. */
bool run_command_is_running(const struct run_command *run);
/* On the loop: hands a signal on, and ends the command by force when that does not. */
void run_command_signal(struct run_command *run, int number);
/* The command has ended, or was never started. */
void run_command_fini(struct run_command *run);

#endif
