/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_POSIX_H
#define BLOCK_POSIX_H

/*
 * Inside the driver "file", and what the drivers of devices share with it; nobody but
 * block/posix*.c and block/host_*.c includes this. posix.c is the page to read first, host_device.c
 * the next.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/coroutine_lock.h"
#include "block/driver.h"
#include "block/engine.h"
#include "block/host_files.h"
#include "block/posix_extents.h"
#include "block/posix_pace.h"

/* What one engine operation takes at most; a longer view takes several, one after the other. */
#define POSIX_IOVECS_MAX 64

/* Keeps writes of an odd end apart from direct ones; see posix_tail.c. */
struct posix_tail {
    pthread_mutex_t mutex; /* guards all of it */
    unsigned direct_writes, odd_waiting;
    bool is_written;
    struct co_queue waiters;
};

/* Those whose writes are made one at a time; see posix_writer.c. */
struct posix_writer {
    pthread_mutex_t mutex; /* guards all of it */
    bool is_writing;
    struct list waiting;
};

enum posix_locking {
    POSIX_LOCKING_AUTO, /* where the file system can */
    POSIX_LOCKING_ON,   /* or not at all */
    POSIX_LOCKING_OFF,
};

/* What small reads of a part of the file have found. */
struct posix_area {
    /* So many are the engine's before one is tried at once again. */
    _Atomic unsigned engine_reads_due;
    /* How many more than one that will be when a page is missing again. */
    _Atomic unsigned engine_reads_more;
};
#define POSIX_AREAS 64

#define POSIX_SEEKS_BEFORE_QUICK 8

struct posix_file {
    struct host_files *files;
    const struct engine_ops *engine_ops;
    int fd;          /* all but the odd tail; with O_DIRECT when direct */
    int buffered_fd; /* the odd tail; the same as fd unless direct */
    enum posix_locking locking;
    bool direct;
    bool no_flush;
    bool unmap; /* discard=unmap: zeroes and discards may give space back */

    /* What the file system turned out not to have; never asked for again. */
    _Atomic bool no_zero_range, no_punch_hole, no_allocate, no_seek;

    struct posix_pace writes; /* buffered ones */
    struct posix_pace seeks;  /* POSIX_SEEKS_BEFORE_QUICK due at first */
    /* Writes and fallocates that are not made in a loop: they have the file's lock meanwhile. */
    _Atomic unsigned changes_under_way;

    struct posix_area areas[POSIX_AREAS];

    /* So many more are asked of the host in the way that is always true. */
    _Atomic unsigned exact_questions_due;
    /* How many more than usual that will be. */
    _Atomic unsigned exact_questions_more;
    /* In so many more uses of what is lent the thread's sleeps are counted. */
    _Atomic unsigned counted_uses_due;

    struct host_pages pages; /* for posix_lend(); base NULL: nothing is lent without a copy */
    struct posix_tail tail;
    struct posix_writer writer;
    struct posix_extents data; /* where SEEK_DATA found data */
};

/* node->state of every driver that stands on this core begins with one. */
static inline struct posix_file *posix_of(const struct block_node *node)
{
    return node->state;
}

/* --- posix_open.c ---------------------------------------------------------------------------- */

/* What a person may say of a file or a device. */
struct posix_options {
    const char *path;
    const char *within, *allowed; /* see posix_within.c; NULL: it may be anywhere */
    const struct engine_ops *engine_ops;
    enum posix_locking locking;
    bool direct;
    bool no_flush;
    bool unmap;
};

/* One opening, made on a worker. */
struct posix_opening {
    const struct block_node *node;
    struct host_files *files;
    enum host_file_kind kind; /* what it must be */
    struct posix_options options;
    bool read_only;
    int more_flags; /* of open(2), beside those that the options mean */
    /* A reopen's: what is open already, with locks of its own. -1: nothing is. */
    int replaced_fd;
    bool replaces_writer;
    struct error *err;
    /* results; -1: not open */
    int fd, buffered_fd;
    struct host_file_info info;
    struct block_limits limits;
    struct host_pages pages;
};

int posix_co_open(struct block_node *node, struct node_options *options, struct error *err);
/* Of a node whose state was one allocation. */
void posix_co_close(struct block_node *node);

/* Takes them of the node's options, for the opening that is to come. */
int posix_take_options(struct block_node *node, struct node_options *options,
                       enum host_file_kind kind, struct posix_opening *ret_opening,
                       struct error *err);
/* Of them, those that may be changed later; what is not given stays in *taken as it is. */
int posix_take_modes(const struct block_env *env, struct node_options *options,
                     struct posix_options *taken, struct error *err);
/* On a worker: opens fd, looks at what it is, locks it. On failure nothing is left open. */
int posix_opening_open(struct posix_opening *opening);
/* The same, and the rest of what a regular file needs; arg is the opening. For workers_co_run(). */
int posix_opening_work(void *arg);
void posix_opening_close(struct posix_opening *opening);
/* What was opened goes over to file, in memory of zeroes. */
void posix_file_init(struct posix_file *file, const struct posix_opening *opening);
void posix_file_fini(struct posix_file *file);

/* What is at this path, without opening it: that may wait, or do things. May block. */
int posix_look_at(struct host_files *files, const char *path, struct host_file_info *ret_info);
/* The sentence for a file that could not be opened; returns code. */
int posix_open_failed(const char *path, int code, bool for_writing, struct error *err);
/* 0 when it is of the kind that is wanted; else an error with the sentence. */
int posix_check_kind(const char *path, enum host_file_kind wanted, enum host_file_kind kind,
                     struct error *err);

/* --- posix_within.c -------------------------------------------------------------------------- */

/* Opens a path that, unless within is NULL, must lie inside that directory or one of `allowed`
 * (NULL, or paths with a colon between them). A descriptor, -EXDEV where it lies outside, -ENOSYS
 * where the host cannot tell, or another errno. May block. */
int posix_open_within(struct host_files *files, const char *path, const char *within,
                      const char *allowed, int flags);
/* The sentence for -EXDEV; returns -EPERM. */
int posix_refuse_outside(struct host_files *files, const char *path, const char *within,
                         struct error *err);

/* --- posix_lock.c ---------------------------------------------------------------------------- */

/* Locks the file for as long as fd is open; may block. -EBUSY: someone else uses it in a way that
 * does not go with this one. On failure some locks may be taken: close fd. */
int posix_lock_file(struct host_files *files, int fd, enum posix_locking locking, bool for_writing,
                    const char *path, struct error *err);

/* The same for a file that we have open already with locks of that kind, as replaced_fd; it keeps
 * them, and they do not contradict those of fd. */
int posix_lock_again(struct host_files *files, int fd, int replaced_fd, bool replaces_writer,
                     enum posix_locking locking, bool for_writing, const char *path,
                     struct error *err);

/* Lets the locks go that a file of that kind has by fd; they are taken again by posix_lock_file().
 */
void posix_unlock_file(struct host_files *files, int fd, enum posix_locking locking,
                       bool for_writing);

/* --- posix_direct.c -------------------------------------------------------------------------- */

/* Finds out what O_DIRECT on fd wants; may block. request_alignment and memory_alignment alone are
 * set. */
int posix_probe_direct(struct host_files *files, int fd, const struct host_file_info *info,
                       const char *path, struct block_limits *ret_limits, struct error *err);

/* --- posix_transfer.c ------------------------------------------------------------------------ */

/* Reads from fd until vec is full, the file ends, or a count that is no multiple of alignment shows
 * that it ends within; *ret_done says how far it came, also on failure. */
int posix_co_read_range(struct block_node *node, int fd, uint32_t alignment, uint64_t offset,
                        const struct block_vec *vec, size_t *ret_done);
/* Writes all of vec; *ret_done says how far it came, also on failure. */
int posix_co_write_range(struct block_node *node, int fd, uint32_t alignment, uint64_t offset,
                         const struct block_vec *vec, size_t *ret_done);
/* One operation without data, carried on when a signal interrupts it. */
int posix_co_operation(struct block_node *node, const struct engine_op *op);

/* --- posix_writer.c -------------------------------------------------------------------------- */

struct posix_written {
    int64_t result; /* a count or a negative errno */
    uint64_t took_ns;
    bool was_quick;
};

/* Makes a buffered write on this thread. */
struct posix_written posix_write_now(struct host_files *files, struct clock *clock,
                                     const struct engine_op *op);

void posix_writer_init(struct posix_writer *writer);
void posix_writer_fini(struct posix_writer *writer);
/* Makes a buffered write on a worker's thread, when it is its turn. */
struct posix_written posix_writer_co_write(struct posix_file *file, struct workers *workers,
                                           const struct engine_op *op);

/* --- posix_tail.c ---------------------------------------------------------------------------- */

void posix_tail_init(struct posix_tail *tail);
void posix_tail_fini(struct posix_tail *tail);
/* Before and after each write of a direct file; is_odd: its end is written through the page cache.
 */
void posix_tail_co_enter(struct posix_tail *tail, bool is_odd);
void posix_tail_leave(struct posix_tail *tail, bool is_odd);

/* --- posix_lend.c ---------------------------------------------------------------------------- */

/* On a worker, after a file of this size was opened to be buffered, and before it is closed. */
void posix_lend_open(struct host_files *files, int fd, uint64_t size_bytes,
                     struct host_pages *ret_pages);
void posix_lend_close(struct posix_file *file);
int posix_lend(struct block_node *node, uint64_t offset, uint64_t length, struct block_loan *loan);
/* Whether the page cache has all of the range. The host may not tell, as of what the file has grown
 * by since it was opened. */
enum engine_memory posix_ask_memory(const struct posix_file *file, uint64_t offset, size_t length);

/* --- posix_at_once.c ------------------------------------------------------------------------- */

/* posix_lend() of a loan with copy_to. */
int posix_lend_at_once(struct posix_file *file, uint64_t offset, size_t length,
                       struct block_loan *loan);

/* --- posix.c --------------------------------------------------------------------------------- */

/* The file is at least this large now. */
void posix_grew_to(struct block_node *node, uint64_t size_bytes);
int posix_co_flush(struct block_node *node);

/* --- posix_zero.c, posix_status.c, posix_create.c: the driver's calls --------------------------
 */

int posix_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags);
int posix_co_discard(struct block_node *node, uint64_t offset, uint64_t length);
/* -ENOTSUP: this file or device has none, as is remembered. */
int posix_co_punch(struct block_node *node, uint64_t offset, uint64_t length);
int posix_co_cache(struct block_node *node, uint64_t offset, uint64_t length);
int posix_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                    struct block_extent *ret_extent);
int posix_co_statuses(struct block_node *node, uint64_t offset, uint64_t length,
                      struct block_extents *ret_extents);
void posix_status_remembered(struct block_node *node, uint64_t offset, uint64_t length,
                             struct block_extent *ret_extent);
extern const struct block_driver_admin posix_admin;

/* --- posix_activity.c -------------------------------------------------------------------------
 */

int posix_co_inactivate(struct block_node *node, struct error *err);
int posix_co_invalidate(struct block_node *node, struct error *err);

/* --- posix_kept.c ------------------------------------------------------------------------------
 */

int posix_co_keep(struct block_node *node, size_t length, bool only_look,
                  struct kept_memory **ret_kept, struct error *err);

/* --- posix_reopen.c ----------------------------------------------------------------------------
 */

int posix_co_reopen_prepare(struct block_node *node, struct block_reopen *reopen,
                            struct error *err);
void posix_co_reopen_commit(struct block_node *node, struct block_reopen *reopen);
/* The file's size as the host tells it. */
int posix_co_stored_size(struct block_node *node, uint64_t *ret_size_bytes);
void posix_co_reopen_abort(struct block_node *node, struct block_reopen *reopen);

#endif
