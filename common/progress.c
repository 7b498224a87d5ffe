/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/progress.h"

#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#define NAME_MAX_COLUMNS 40

static int terminal_fd = -1; /* written once, before there are threads */

void progress_set_terminal(int fd)
{
    terminal_fd = fd;
}

static void put(const char *text, size_t length)
{
    /* A terminal that has gone needs no progress. */
    ssize_t ignored = write(terminal_fd, text, length);
    (void)ignored;
}

/* To the beginning of the line; what is behind its end is cleared. */
static void show(const struct progress *progress)
{
    char line[160];
    int length = snprintf(line, sizeof(line), "\rplatter: %s '%.*s': %d %%\033[K", progress->what,
                          NAME_MAX_COLUMNS, progress->name, progress->percent);
    if (length > 0 && (size_t)length < sizeof(line))
        put(line, (size_t)length);
}

void progress_start(struct progress *progress, const char *what, const char *name, uint64_t total)
{
    *progress = (struct progress){.what = what, .name = name, .total = total, .percent = -1};
}

void progress_step(struct progress *progress, uint64_t count)
{
    if (!progress || terminal_fd < 0)
        return;
    progress->done += count;
    uint64_t done = progress->done < progress->total ? progress->done : progress->total;
    int percent = progress->total > 0 ? (int)((double)done * 100 / (double)progress->total) : 100;
    if (percent == progress->percent)
        return;
    progress->percent = percent;
    show(progress);
}

void progress_end(struct progress *progress)
{
    if (terminal_fd >= 0 && progress->percent >= 0)
        put("\r\033[K", 4);
    progress->percent = -1;
}
