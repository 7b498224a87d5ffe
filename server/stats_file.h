/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_STATS_FILE_H
#define SERVER_STATS_FILE_H

/*
 * Where the statistics go: the FILE of --stats, replaced whole each time, or standard output ("-"),
 * or standard error as text when there is no --stats. Loop 0 makes the text; a worker writes the
 * file, since a disk may be slow.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/coroutine_lock.h"
#include "common/error.h"

struct export;
struct loop;
struct workers;

struct stats_file {
    struct loop *loop; /* NULL: not in use yet */
    struct workers *workers;
    struct export *export;
    char *path; /* absolute; "-": standard output; NULL: no --stats */
    uint64_t started_ns;
    bool is_writing; /* a coroutine of stats_file_write_soon() is */
    bool again;      /* it is asked to do so once more */
};

/* path as --stats has it, or NULL. A file that cannot be made there is refused now. -ENOMEM, or
 * what the system says. */
int stats_file_init(struct stats_file *file, const char *path, struct loop *loop,
                    struct workers *workers, struct error *err);
void stats_file_set_export(struct stats_file *file, struct export *export);
/* On loop 0: a signal asks for them. */
void stats_file_write_soon(struct stats_file *file);
/* The server has stopped, and every loop still turns: writes the last ones, after what is under
 * way. is_verbose: as text to standard error too. */
void stats_file_write_last(struct stats_file *file, bool is_verbose);
void stats_file_fini(struct stats_file *file);

#endif
