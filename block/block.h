/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

/*
 * The block layer for those above it: open a graph of nodes, and read and write through a backend.
 * Drivers read driver.h instead.
 *
 * A *node* is one image, file or filter; it has a driver and may have children. A *backend* is one
 * user's doorway to the top node of a graph: it checks bounds and rights, counts, and can be
 * drained.
 *
 * Offsets and lengths are in bytes, of any alignment. Functions with `_co_` may wait and are called
 * inside a coroutine; from a tool or a test, enter by loop_run_co(). Data calls return 0 or a
 * negative errno: -EINVAL and -ENOSPC for what lies past the end, -EPERM on a read-only backend,
 * -EIO and the host's own errors otherwise. Requests that overlap and are in flight together have
 * no order.
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/vec.h"
#include "common/error.h"

struct account;
struct block_env;
struct block_node;
struct block_backend;
struct dirty_bitmap;
struct node_options;

enum block_request_flag {
    BLOCK_FUA = 1 << 0,      /* done means on stable storage: write, zero, discard */
    BLOCK_NO_UNMAP = 1 << 1, /* zero: the space stays taken (NBD_CMD_FLAG_NO_HOLE) */
    /* zero: only when it is quicker than writing (NBD_CMD_FLAG_FAST_ZERO); else -ENOTSUP, at once
     * and with nothing changed. An unaligned end that must be written is a reason for that. */
    BLOCK_FAST = 1 << 2,
    /* write: what is whole blocks of limits.compress_bytes is stored compressed, where it becomes
     * smaller; a hint, which a node that cannot do that ignores */
    BLOCK_COMPRESS = 1 << 3,
};

/* What is known about a range. */
enum block_extent_flag {
    BLOCK_EXTENT_ALLOCATED = 1 << 0, /* takes space; without it, a hole */
    BLOCK_EXTENT_ZERO = 1 << 1,      /* reads as zeroes */
};

struct block_extent {
    uint64_t length; /* from the offset that was asked about; at least 1 */
    unsigned flags;  /* enum block_extent_flag */
};

/* Some of them, one behind the other. */
#define BLOCK_EXTENTS_MAX 32
struct block_extents {
    unsigned count; /* at least 1 */
    struct block_extent all[BLOCK_EXTENTS_MAX];
};

/* What may be asked of the node below in one piece; each is a power of two or 0 for no limit. */
struct block_limits {
    uint32_t request_alignment;  /* of offset and length of reads and writes; at least 1 */
    uint32_t memory_alignment;   /* of the buffers; at least 1 */
    uint32_t preferred_bytes;    /* what it does without extra work; 0: not known */
    uint64_t transfer_bytes_max; /* reads and writes; a multiple of request_alignment */
    uint64_t zero_bytes_max;     /* write zeroes; a multiple of it too */
    uint64_t discard_bytes_max;  /* the same for discards */
    uint32_t compress_bytes;     /* what is compressed in one piece; 0: nothing is */
};

/* --- graph --------------------------------------------------------------------------------------
 */

/* Opens what options describe (see node_options.h; the "driver" key names the top node's driver)
 * with all its children. Takes the options in any case and frees them. May wait. */
int block_co_open(struct block_env *env, struct node_options *options, struct block_node **ret_node,
                  struct error *err);

/* The image at the path `filename` as qemu-nbd's -f FORMAT would open it: adds the protocol driver
 * below. format NULL: by probing; a header of a known format that is not named is refused. What
 * the options say already wins: "file.filename" over filename, and "driver" over probing. */
int block_co_open_image(struct block_env *env, const char *filename, const char *format,
                        struct node_options *options, struct block_node **ret_node,
                        struct error *err);

/* Opens what options describe, an image, above the open node `backing`, whose backing file that is,
 * whatever the image says. It takes a reference of its own. `name` is what messages call the image.
 * Takes the options in any case and frees them. May wait. */
int block_co_open_above(struct block_env *env, struct node_options *options, const char *name,
                        struct block_node *backing, struct block_node **ret_node,
                        struct error *err);

/* Makes a new image: the option "driver" names its format, the others are that driver's
 * ("filename", "size", ...). What is there under that name loses its content. Takes the options in
 * any case and frees them. May wait. */
int block_co_create(struct block_env *env, struct node_options *options, struct error *err);

/* For formats that make their images in it: a new file of the host, empty or of that size, and a
 * file opened by itself, to be written. What has that name loses its content. May wait. */
int block_co_create_file(struct block_env *env, const char *path, uint64_t size_bytes,
                         struct error *err);
/* The same; preallocation is the option of posix_create.c: off, falloc, full. */
int block_co_create_file_as(struct block_env *env, const char *path, uint64_t size_bytes,
                            const char *preallocation, struct error *err);
int block_co_open_file(struct block_env *env, const char *path, struct block_node **ret_file,
                       struct error *err);

struct block_node *block_node_ref(struct block_node *node);
/* The last one flushes and closes the node and lets its children go. A failure in that is returned
 * by block_co_flush() before, not here. May wait. Takes NULL. */
void block_co_node_unref(struct block_node *node);

const char *block_node_driver_name(const struct block_node *node);
uint64_t block_node_size_bytes(const struct block_node *node);
struct block_env *block_node_env(const struct block_node *node);
/* For people who look at a graph: a name for messages, what went through (account.h), and the
 * children, in the order they were opened; NULL from the last on. */
const char *block_node_name(const struct block_node *node);
const char *block_node_given_name(const struct block_node *node); /* "node-name"; NULL: none */
const struct account *block_node_account(const struct block_node *node);
/* Calls tell() for each number that the node has besides its account's: its driver's counters, and
 * what the driver keeps itself, as a cache its hits. Names are such as "cache_hits". Never waits.
 */
typedef void block_tell_number(void *arg, const char *name, uint64_t value);
void block_node_tell_numbers(const struct block_node *node, block_tell_number *tell, void *arg);
const struct block_node *block_node_child(const struct block_node *node, unsigned index);

/* What a check of an image has found. Blocks are what the format calls clusters or blocks. */
struct block_check {
    uint64_t errors;     /* what may lose data */
    uint64_t leaks;      /* blocks that are counted and not used: space that is lost */
    uint64_t unreadable; /* tables that could not be read */
    uint64_t data_blocks, compressed_blocks; /* of the disk */
    uint64_t end_offset;                     /* in the file, behind the last one that is used */
};
/* What is wrong, one sentence at a time, the first of many. */
typedef void block_check_report(void *arg, const char *sentence);

/* Looks whether the image is consistent; changes nothing but that it is flushed. Requests wait
 * meanwhile. report NULL: nobody wants to know. 0: the check was made, whatever it found. -ENOTSUP:
 * the format has none. May wait. */
int block_co_check(struct block_node *node, block_check_report *report, void *arg,
                   struct block_check *ret_check, struct error *err);

/* --- backend ------------------------------------------------------------------------------------
 */

/* Takes a reference to the node. */
int block_backend_new(struct block_backend **ret_backend, struct block_node *node, bool read_only,
                      struct error *err);
/* Drains, flushes unless read-only, and drops the node. Returns the flush's result; the backend is
 * gone in any case. May wait. Takes NULL. */
int block_co_backend_free(struct block_backend *backend);

/* Its node, as long as the backend is there. */
const struct block_node *block_backend_node(const struct block_backend *backend);
uint64_t block_backend_size_bytes(const struct block_backend *backend);
bool block_backend_is_read_only(const struct block_backend *backend);
const struct block_limits *block_backend_limits(const struct block_backend *backend);
/* What a client is told to prefer: requests of such blocks go without extra work, also where a
 * smaller one would have to be read for first. A power of two between the bounds, which are two. */
uint32_t block_backend_preferred_bytes(const struct block_backend *backend, uint32_t minimum,
                                       uint32_t maximum);

int block_co_read(struct block_backend *backend, uint64_t offset, const struct block_vec *vec);
int block_co_write(struct block_backend *backend, uint64_t offset, const struct block_vec *vec,
                   unsigned flags);
/* The range reads as zeroes afterwards. */
int block_co_zero(struct block_backend *backend, uint64_t offset, uint64_t length, unsigned flags);
/* The range's content does not matter any more; it reads as the old bytes or as zeroes. */
int block_co_discard(struct block_backend *backend, uint64_t offset, uint64_t length,
                     unsigned flags);
/* The range is going to be asked for: what makes that quicker may be done, by reading it where
 * nothing better is known. All of it inside the size. Whether it helped is not told. */
int block_co_cache(struct block_backend *backend, uint64_t offset, uint64_t length);
/* Every write, zero and discard that was answered before is on stable storage afterwards. */
int block_co_flush(struct block_backend *backend);
/* What is known from offset on; the answer's length is at most `length`, which is at least 1. Where
 * nothing better is known: allocated, not zero. */
int block_co_status(struct block_backend *backend, uint64_t offset, uint64_t length,
                    struct block_extent *ret_extent);
/* The same, and what follows, `length` at most in all, as far as that is no more trouble. */
int block_co_statuses(struct block_backend *backend, uint64_t offset, uint64_t length,
                      struct block_extents *ret_extents);

/* Which image of the chain has what lies at offset, and for how much of the range, at least 1: 1 is
 * the image itself, 2 its backing file, and so on; 0: none, it was never written. */
int block_co_depth(struct block_backend *backend, uint64_t offset, uint64_t length,
                   uint32_t *ret_depth, uint64_t *ret_length);
/* The dirty bitmap of that name of the image, or else of the first one behind it that has one; see
 * dirty_bitmap.h. It is there as long as the backend's node is. -ENOENT, and what keeps it from
 * being used; with a sentence. One call at a time. */
int block_co_find_bitmap(struct block_backend *backend, const char *name,
                         const struct dirty_bitmap **ret_bitmap, struct error *err);

/* Gives the image a new size; what is added reads as zeroes, what is cut off is lost. Requests wait
 * meanwhile. A format may round up: block_backend_size_bytes() tells. An export keeps the size that
 * its clients were told. */
int block_co_resize(struct block_backend *backend, uint64_t size_bytes, struct error *err);

/* Like block_co_status(), but only what memory knows: never a system call, never a wait. */
void block_status_remembered(struct block_backend *backend, uint64_t offset, uint64_t length,
                             struct block_extent *ret_extent);

/*
 * A look at stored bytes where they lie in the host, without a copy: for a reader that can hand
 * them on from a descriptor, as sendfile(2) does.
 *
 * Nothing here waits, and nothing is held afterwards: the bytes are lent for the time of one call
 * of use(). For that time they are tracked as a read in flight on every node they belong to, so
 * drains, resizes and serialising writes come before or after it. What use() took in by reference,
 * as a socket does with pages, may still change until it is read: see block/posix_lend.c.
 */
struct block_loan {
    /* Called once at most. From host_offset on, `length` bytes are there: at least 1, at most what
     * was asked for. Must not wait. Returns how many it took, for the counters. */
    size_t (*use)(struct block_loan *loan, int fd, uint64_t host_offset, size_t length);
    bool known_in_memory; /* this range was lent a moment ago: the host is not asked again */
    bool begins;          /* a request's first loan: counts as a read */
    bool only_asks;       /* use() takes nothing, and has no chance to wait */
    /* Room for what is asked for. The bytes are copied there before use() is called, which then
     * holds no reference to them, and is not called when they are not all in memory. NULL: they
     * stay where they are. */
    void *copy_to;
};

/* 0: use() was called. -EAGAIN: not without waiting (not in memory, a drain, a serialising
 * request). -ENOTSUP: never here. In both cases block_co_read() it. On a loop, in a coroutine or
 * outside of one. */
int block_lend(struct block_backend *backend, uint64_t offset, uint64_t length,
               struct block_loan *loan);

/* A small read that takes no coroutine: 0 when all of the range, 1 to BLOCK_READ_AT_ONCE_MAX bytes,
 * was copied from memory to `to`. -EAGAIN, -ENOTSUP: as block_lend(), and `to` may hold anything.
 * Of what is not in memory the host may begin to read from the disk, so after one of those the
 * next few of the same file are not tried. On a loop, in a coroutine or outside of one. */
#define BLOCK_READ_AT_ONCE_MAX (64u << 10)
int block_read_at_once(struct block_backend *backend, uint64_t offset, void *to, uint32_t length);
/* Whether to prepare for one and try. After -ENOTSUP this loop's next BLOCK_READS_NOT_AT_ONCE are
 * not worth it; the graph may be another one afterwards. */
#define BLOCK_READS_NOT_AT_ONCE 256
bool block_may_read_at_once(struct block_backend *backend);

/* Holds new requests back and waits until none is in flight; block_backend_resume() lets them go
 * on. May be nested. */
void block_co_backend_drain(struct block_backend *backend);
void block_backend_resume(struct block_backend *backend);

/* From now on, nothing in the graph waits for time alone (a rate limit, a delay): for a server that
 * stops. On a loop; by one caller. */
void block_backend_hurry(struct block_backend *backend);

/* Sums over the loops; each alone is exact, together they are of slightly different moments. */
struct block_counters {
    uint64_t reads, writes, zeroes, discards, flushes, statuses, caches;
    uint64_t read_bytes, written_bytes;
    uint64_t failed;
};
void block_backend_counters(const struct block_backend *backend, struct block_counters *ret);

#endif
