/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_REMOVABLE_H
#define BLOCK_REMOVABLE_H

/*
 * What host_cdrom and host_floppy share: a drive whose medium comes and goes while it is open. It
 * stands on the core of the driver "file" (posix.h), as host_device does.
 *
 * The *drive* is the device; the *medium* is what lies in it, and has a size. node->size_bytes is
 * what the clients were told, the size of the medium that was there at the opening, and stays: a
 * request to what the present medium does not have is an error. Resizing the node to the size of
 * the present medium takes that over.
 *
 * A drive does one thing at a time, so one request has it from its look at the medium to the end of
 * its transfer; the others queue. What is not said to be guarded otherwise belongs to that one.
 */

#include "block/device_queue.h"
#include "block/posix.h"

#define HOST_FLOPPY_MAJOR 2 /* of its device files; Documentation/admin-guide/devices.txt */

struct removable {
    struct posix_file file;   /* first: see posix_of(); fd is -1 while the drive is closed */
    struct posix_opening how; /* it is opened, each time */
    char *path;
    struct device_queue medium; /* as of the last opening */

    pthread_mutex_t mutex; /* guards is_busy */
    bool is_busy;
    struct co_queue waiters;
};

static inline struct removable *removable_of(const struct block_node *node)
{
    return container_of(posix_of(node), struct removable, file);
}

/* Takes the options of the node, and nothing else; in memory of zeroes. more_flags: of open(2). */
int removable_init(struct removable *drive, struct block_node *node, struct node_options *options,
                   int more_flags, struct error *err);
/* It is closed. */
void removable_fini(struct removable *drive);
/* What the medium says becomes the node's, at its opening. */
void removable_tell_node(const struct removable *drive, struct block_node *node);

void removable_co_enter(struct removable *drive);
void removable_leave(struct removable *drive);

/* On a worker, by who has the drive. Opening an open drive closes the old descriptor once there is
 * a new one: the kernel looks at the medium when a drive is opened, and forgets what it had of
 * another one. On failure it is as it was. */
int removable_open(struct removable *drive, struct error *err);
void removable_close(struct removable *drive);
/* An ioctl that is carried on when it is interrupted; only on an open drive. */
int removable_ioctl(struct removable *drive, unsigned long request, void *argument);

/* By who has the drive: all of vec, from or to the medium as it is. */
int removable_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec);
int removable_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec);

/* co_resize of both drivers. */
int removable_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err);

#endif
