/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_DRIVER_H
#define BLOCK_DRIVER_H

/*
 * The block layer for drivers: what a driver provides, and how it reaches its children.
 *
 * A driver is two const tables. struct block_driver has what every request needs; struct
 * block_driver_admin has what a person asks for now and then. A NULL call means "not supported":
 * the default is made in block/doorway alone, which also asserts each call's contract before and
 * after.
 *
 * Drivers are straight-line code that waits. Calls run on any loop, many at a time; what they share
 * is guarded by the driver's own mutexes, held over memory operations alone, never across a wait.
 *
 * A range handed to a driver lies inside [0, size), or past the end where the driver has
 * BLOCK_DRIVER_GROWS; its offset is a multiple of limits.request_alignment, and so is its length
 * unless it ends at the node's size or (growing it) past it; it is no longer than the limits say.
 * Status and cache alone are asked byte by byte: any offset, any length, inside the size.
 *
 * Memory comes aligned: every iovec begins at a multiple of limits.memory_alignment, and is a
 * multiple of it long, but for the last one of a range that ends at an odd size. block/align sees
 * to it, for every driver. While a range with an odd end is in flight, the node's size stays as it
 * is.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/account.h"
#include "block/block.h"
#include "block/coroutine_lock.h"
#include "block/node_names.h"
#include "common/list.h"

struct dirty_bitmap;
struct host_files;
struct kept_memory;
struct node_options;

enum block_driver_flag {
    BLOCK_DRIVER_PROTOCOL = 1 << 0, /* the bottom of a graph: has no child */
    BLOCK_DRIVER_GROWS = 1 << 1,    /* a write past the end makes the node larger */
    BLOCK_DRIVER_FUA = 1 << 2,      /* honours BLOCK_FUA itself; else a flush is added */
    /* Shows its child's bytes, offset by offset (block/filter.h). It may stand anywhere: on top, it
     * is no format, and the format of an image below it is probed for. */
    BLOCK_DRIVER_FILTER = 1 << 3,
};

/* What becomes of a write whose data is all zero: the option "detect-zeroes" of every node. */
enum block_detect_zeroes {
    BLOCK_DETECT_OFF,   /* it is written */
    BLOCK_DETECT_ON,    /* it is a write-zeroes that keeps the space */
    BLOCK_DETECT_UNMAP, /* it is a write-zeroes that may give the space back */
};

#define BLOCK_PROBE_BYTES 2048 /* the head of a file that probes see; short files give less */

struct block_driver {
    const char *name;
    const char *alias; /* the name qemu has for it, where that is another; or NULL */
    unsigned flags;    /* enum block_driver_flag */

    /* 0 to 100: how sure it is that this head begins one of its images. Pure. NULL: never probed.
     */
    int (*probe)(const uint8_t *head, size_t length);
    /* A protocol driver that takes a "filename": 0 to 100, how sure it is that this path of the
     * host is for it. On a worker; may block. NULL: it has no path. */
    int (*probe_path)(struct host_files *files, const char *path);

    /* Reads its keys from options (what is left over is an error for the person), opens its
     * children by block_co_open_child(), sets node->state, node->size_bytes, node->limits, and
     * obeys node->read_only. On failure it leaves nothing behind; children are closed by the graph.
     */
    int (*co_open)(struct block_node *node, struct node_options *options, struct error *err);
    /* Nothing is in flight; everything was flushed. Frees node->state. */
    void (*co_close)(struct block_node *node);

    int (*co_read)(struct block_node *node, uint64_t offset, const struct block_vec *vec);
    int (*co_write)(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                    unsigned flags);
    /* -ENOTSUP: zeroes are written instead. With BLOCK_FAST that is the answer to whatever cannot
     * be done quicker than by writing, before anything is changed. */
    int (*co_zero)(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags);
    /* A hint: may do nothing. */
    int (*co_discard)(struct block_node *node, uint64_t offset, uint64_t length);
    /* A hint that the range, any part of the node, will be read. NULL, -ENOTSUP: it is read into
     * nothing. */
    int (*co_cache)(struct block_node *node, uint64_t offset, uint64_t length);
    /* What was written before is on stable storage afterwards; called only when something was. NULL
     * in a format that caches nothing: its child is flushed. */
    int (*co_flush)(struct block_node *node);
    int (*co_status)(struct block_node *node, uint64_t offset, uint64_t length,
                     struct block_extent *ret_extent);
    /* The same for one extent and what follows it, where that costs less than asking for each.
     * NULL: it does not. */
    int (*co_statuses)(struct block_node *node, uint64_t offset, uint64_t length,
                       struct block_extents *ret_extents);
    /* Whether what the range shows at its start is this node's own, and for how much of the range
     * that is so, at least 1. Else it lies in its backing file, or would, if there were one, or it
     * were longer. Asked byte by byte, as status. NULL: all of it is its own. */
    int (*co_is_own)(struct block_node *node, uint64_t offset, uint64_t length, bool *ret_is_own,
                     uint64_t *ret_length);
    /* What co_status would say, from memory alone; see block_status_remembered(). */
    void (*status_remembered)(struct block_node *node, uint64_t offset, uint64_t length,
                              struct block_extent *ret_extent);
    /* Asks the child by node_lend() where the range lies there, or, in a protocol driver, calls
     * loan->use(); see block.h. Never waits. -EAGAIN, -ENOTSUP. Unless they are copied, only for a
     * driver in which a place of the host belongs to one guest offset as long as the node is open:
     * the reader may look at it, through references, after the loan is over, and must not see
     * another offset's bytes. */
    int (*lend)(struct block_node *node, uint64_t offset, uint64_t length, struct block_loan *loan);

    /* Between these two, what waits here for time alone (a rate limit, a delay) goes on at once,
     * and so does what comes: somebody above waits until nothing is in flight, or wants to end.
     * They nest. On any loop; must not wait. NULL: nothing here waits for time. */
    void (*hurry_begin)(struct block_node *node);
    void (*hurry_end)(struct block_node *node);

    const struct block_driver_admin *admin;
};

/* One node's part in a change of an open graph; see block/reopen.h. */
struct block_reopen {
    struct node_options *options; /* what is to be changed, in the words of co_open */
    bool read_only;               /* what node->read_only becomes; it is set by block/reopen */
    void *state;                  /* the driver's own, from prepare to commit or abort */
};

struct block_driver_admin {
    /* Makes a new image from options ("size" and the driver's own); opens and closes what it needs.
     * Options that nobody knows are refused (node_options_check_all_taken()) before anything is
     * touched: an old image of that name is lost by what comes after. */
    int (*co_create)(struct block_env *env, struct node_options *options, struct error *err);
    /* Nothing is in flight. Growing shows zeroes; shrinking cuts off. Sets node->size_bytes. */
    int (*co_resize)(struct block_node *node, uint64_t size_bytes, struct error *err);
    /* See block_co_check(). Nothing is in flight; writes to nothing but what is to be flushed. */
    int (*co_check)(struct block_node *node, block_check_report *report, void *arg,
                    struct block_check *ret_check, struct error *err);
    /* A change of the open node, in two phases; nothing is in flight on it, and what was written is
     * flushed. prepare takes the keys it knows of reopen->options (what is left over is refused),
     * does all that can fail, and changes nothing that a request could see; it may write to the
     * children, which are not prepared yet, and on failure leaves nothing behind. Then comes either
     * commit, when the children's is done: it sets node->limits anew where they follow a child's;
     * or abort. After commit, when the whole graph is what it will be and no request has come yet,
     * finish may read and write the children once more. NULL prepare: the driver has nothing that
     * can be changed, not even its rights. NULL commit, finish or abort: there is nothing to do in
     * it. */
    int (*co_reopen_prepare)(struct block_node *node, struct block_reopen *reopen,
                             struct error *err);
    void (*co_reopen_commit)(struct block_node *node, struct block_reopen *reopen);
    void (*co_reopen_finish)(struct block_node *node, struct block_reopen *reopen);
    void (*co_reopen_abort)(struct block_node *node, struct block_reopen *reopen);
    /* See activity.h; nothing is in flight. co_inactivate: nothing is in memory alone afterwards,
     * nothing keeps others from the file, and nothing comes but close or co_invalidate; the
     * children are active until it returns. On failure all is as before. co_invalidate, with active
     * children: what was known of them may not be true any more, and the node is active again; on
     * failure it is as inactive as before. NULL: there is nothing to do in it. */
    int (*co_inactivate)(struct block_node *node, struct error *err);
    int (*co_invalidate)(struct block_node *node, struct error *err);
    /* See node_co_keep() in kept.h; of a protocol driver. NULL: there is no such memory. */
    int (*co_keep)(struct block_node *node, size_t length, bool only_look,
                   struct kept_memory **ret_kept, struct error *err);
    /* How large the node would be if it were opened now: asks the host, or, in a format, the child
     * by node_co_stored_size(). Requests are in flight. NULL: its size changes through it alone. */
    int (*co_stored_size)(struct block_node *node, uint64_t *ret_size_bytes);
    /* Whether a new image reads as zeroes before anything is written. */
    bool (*has_zero_init)(struct block_node *node);
    /* The dirty bitmap of that name that belongs to the node's disk. It is the driver's, is good as
     * long as the node is open, and where the node keeps it true, it is what it is at each moment.
     * -ENOENT: there is none (no sentence); other errors with one. One call at a time of a node. */
    int (*co_find_bitmap)(struct block_node *node, const char *name,
                          const struct dirty_bitmap **ret_bitmap, struct error *err);
    /* NULL-ended: the points that the driver announces by node_co_event(). */
    const char *const *events;
    /* Calls tell() for each number that the driver keeps itself, as a cache its hits; the names are
     * in the manner of node_counter()'s. On any loop, while requests are in flight; never waits. */
    void (*tell_numbers)(const struct block_node *node, block_tell_number *tell, void *arg);
    /* A filter that does something at such points of the nodes above it. May wait. */
    void (*co_event)(struct block_node *node, const char *event);
};

/* What one loop's requests touch of a node: the in-flight list and the counters. */
struct node_lane {
    pthread_mutex_t mutex; /* guards in_flight; taken by others only to serialise or drain */
    struct list in_flight; /* struct tracked_request.link */
    /* writes, zeroes and discards that ended here; flush.h compares sums over the lanes */
    _Atomic uint64_t write_generation;
} __attribute__((aligned(64)));

/* Kept by block/tracked; see there. */
struct node_serialising {
    pthread_mutex_t mutex;
    struct list requests; /* serialising requests and drains, oldest first */
    _Atomic unsigned count;
};

/* Kept by block/flush; see there. */
struct node_flush {
    pthread_mutex_t mutex;
    struct co_queue waiters;
    bool running;       /* one coroutine leads: gathers, then flushes */
    _Atomic int failed; /* the errno of a flush that failed: every later one fails with it */
    uint64_t flushed_generation; /* everything up to here is on stable storage */
};

/* Kept by block/observer; see there. */
struct node_observers {
    _Atomic unsigned count;
    struct list list; /* struct block_observer.link; changes while nothing is in flight */
};

#define BLOCK_CHILDREN_MAX 8
#define BLOCK_CHILD_KEY_BYTES 32

struct block_node {
    const struct block_driver *driver;
    void *state; /* the driver's own */
    struct block_env *env;
    struct block_node *file; /* the child that holds the image's bytes; NULL in a protocol driver */
    /* The child "backing": what is not this node's own (co_is_own) is read there. NULL: none. Set
     * by the graph. */
    struct block_node *backing;
    struct block_node
        *given_backing; /* set before co_open: it is this one; NULL, mostly: not said */
    /* The uppermost filter with co_event, from this node itself down; NULL, mostly: none. */
    struct block_node *event_filter;
    struct block_limits limits;
    _Atomic uint64_t size_bytes;
    bool read_only; /* set before co_open: the option "read-only", else as the parent */
    enum block_detect_zeroes detect_zeroes;
    bool is_image; /* set before co_open: here an image stands, not the file below one, so a filter
                    * here has an image below it too */
    bool is_guess; /* set before co_open: nobody named the format; the driver sees to it that no
                    * client can make the image look like one of another */
    char *name;    /* for messages: the file name, or the driver's name */
    char node_name[NODE_NAME_MAX + 1]; /* the option "node-name"; empty, mostly: none */

    /* Which file of the host a protocol driver serves, set by its co_open; both 0: not a file. */
    uint64_t file_device, file_inode;

    /* block/'s own */
    _Atomic unsigned references;
    struct list_link names_link; /* on env->node_names, when it has a node_name */
    bool is_published;           /* graph_find_node() finds it; guarded by env->node_names */
    const struct block_node
        *parent;    /* NULL on top; from before co_open until the child is closed */
    unsigned depth; /* the top node's is 1 */
    bool opened;    /* between a co_open that succeeded and co_close */
    struct block_node *children[BLOCK_CHILDREN_MAX]; /* in the order they were opened */
    char child_keys[BLOCK_CHILDREN_MAX]
                   [BLOCK_CHILD_KEY_BYTES]; /* under which they were described */
    unsigned child_count;
    struct account account;  /* a driver may count in it: see node_counter() */
    struct node_lane *lanes; /* env->loop_count of them */
    struct node_serialising serialising;
    struct node_flush flush;
    struct node_observers observers;
};

#define BLOCK_GRAPH_DEPTH_MAX 64

/* Opens the child that options describe under key (as "file.driver=file,file.filename=..."). Called
 * from co_open; the child is let go by the graph, after co_close. The driver itself sets
 * parent->file. */
int block_co_open_child(struct block_node *parent, struct node_options *options, const char *key,
                        struct block_node **ret_child, struct error *err);
/* The same for a child that is an image of its own, as a backing file: what the options say wins
 * over filename and format (NULL: by probing), as in block_co_open_image(). */
int block_co_open_image_child(struct block_node *parent, struct node_options *options,
                              const char *key, const char *filename, const char *format,
                              struct block_node **ret_child, struct error *err);
/* The same for a child whose bytes a filter shows, so that it stands in the filter's own place:
 * where that is an image's, a child without a driver is probed as block_co_open_image() does it. A
 * filter that may be written has a child that may be. */
int block_co_open_filtered(struct block_node *parent, struct node_options *options, const char *key,
                           struct block_node **ret_child, struct error *err);

/*
 * What a driver counts besides requests (cache hits, bytes decompressed), for people who look at
 * the statistics. In co_open: a counter of that name, which is static and in the manner of
 * "cache_hits"; returns its number (a dozen fit). node_count() on a loop, wherever it happened; it
 * costs a plain store.
 */
unsigned node_counter(struct block_node *node, const char *name);
void node_count(struct block_node *node, unsigned counter, uint64_t by);
uint64_t node_counted(const struct block_node *node, unsigned counter); /* in all; any thread */

/*
 * Requests to a node, as drivers send them to their children and the backend to the top node: the
 * whole pipeline of block/io. A driver with BLOCK_DRIVER_GROWS takes writes and zeroes past its
 * end; a read past the end of a node gives zeroes.
 */
int node_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec);
int node_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                  unsigned flags);
int node_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags);
int node_co_discard(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags);
int node_co_cache(struct block_node *node, uint64_t offset, uint64_t length);
int node_co_flush(struct block_node *node);
int node_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                   struct block_extent *ret_extent);
int node_co_statuses(struct block_node *node, uint64_t offset, uint64_t length,
                     struct block_extents *ret_extents);
/* As co_is_own above; filters are looked through. */
int node_co_is_own(struct block_node *node, uint64_t offset, uint64_t length, bool *ret_is_own,
                   uint64_t *ret_length);
void node_status_remembered(struct block_node *node, uint64_t offset, uint64_t length,
                            struct block_extent *ret_extent);
/*
 * A driver announces a point that it passes, by its own node and the point's name: a filter below
 * (filter_fault) may fail what comes next, or hold this coroutine up until a test lets it go on. So
 * it is called where waiting is allowed. Without such a filter it costs one look at a pointer.
 * Names are those of qemu's blkdebug where it has them, and stand in the driver's admin->events.
 */
static inline void node_co_event(struct block_node *node, const char *event)
{
    if (__builtin_expect(node->event_filter != NULL, 0))
        node->event_filter->driver->admin->co_event(node->event_filter, event);
}
/* What the pipeline itself announces, of every node: see align.c and flush.c. NULL-ended. */
extern const char *const pipeline_events[];

/* Runs co_run(arg) while nothing else is in flight on the node, for what changes an image as a
 * whole; returns what it returns. A flush may still come, since it changes nothing. */
int node_co_alone(struct block_node *node, int (*co_run)(void *arg), void *arg);
/* As block_co_resize(), for a child; a driver calls it from its own co_resize. */
int node_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err);
int node_co_stored_size(struct block_node *node, uint64_t *ret_size_bytes);
/* Gives -EAGAIN where it would have to wait, and for what is not wholly inside the node. */
int node_lend(struct block_node *node, uint64_t offset, uint64_t length, struct block_loan *loan);

/* The protocol drivers for files and devices, with the names that qemu has (or had) for them. */
extern const struct block_driver block_driver_file;
extern const struct block_driver block_driver_host_device;
extern const struct block_driver block_driver_host_cdrom;
extern const struct block_driver block_driver_host_floppy;
/* The one for measurements: a disk that keeps nothing; see null.c. */
extern const struct block_driver block_driver_null;

#endif
