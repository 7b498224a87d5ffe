/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef COMMON_PROGRESS_H
#define COMMON_PROGRESS_H

/*
 * How far something is that a person waits for: one line of a terminal, written over again and
 * again, and gone at the end. Where there is no terminal nothing is written. One at a time; lines
 * of the log are for what happened.
 */

#include <stdint.h>

/* Called once, before threads start: the descriptor of a terminal. Without it nothing is shown. */
void progress_set_terminal(int fd);

/* Lives in its owner, from progress_start() to progress_end(). */
struct progress {
    const char *what; /* a constant, as "repairs" */
    const char *name; /* of the image */
    uint64_t done, total;
    int percent; /* that is shown; -1: none */
};

/* total: in whatever steps. */
void progress_start(struct progress *progress, const char *what, const char *name, uint64_t total);
/* So many steps more. Costs nothing where nothing changes on the screen. Takes NULL. */
void progress_step(struct progress *progress, uint64_t count);
/* The line is empty again. */
void progress_end(struct progress *progress);

#endif
