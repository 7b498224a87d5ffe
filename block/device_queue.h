/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_DEVICE_QUEUE_H
#define BLOCK_DEVICE_QUEUE_H

/*
 * What a block device says of itself: by ioctls, and by the files under
 * /sys/dev/block/MAJOR:MINOR/queue (Documentation/ABI/stable/sysfs-block in the kernel's source).
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/driver.h"
#include "block/host_files.h"

enum device_cache {
    DEVICE_CACHE_UNKNOWN,
    DEVICE_CACHE_NONE,     /* "write through": what it has taken is on the medium */
    DEVICE_CACHE_VOLATILE, /* "write back": it must be flushed */
};

struct device_queue {
    uint64_t size_bytes; /* whole logical blocks */
    bool read_only;
    uint32_t logical_bytes;  /* the smallest transfer; a power of two */
    uint32_t physical_bytes; /* the smallest write without a read before it; at least logical */
    uint32_t optimal_bytes;  /* what it likes; 0: it does not say */
    enum device_cache cache;
    /* Of discards: whole logical blocks; a granularity of 0 is none. The first whole granule begins
     * at the alignment. */
    uint64_t discard_granularity_bytes, discard_alignment_bytes;
    bool has_discard; /* also when it is not known */
    bool has_zeroes;  /* the device itself can make zeroes */
};

/* May block. path: for the sentence. */
int device_queue_read(struct host_files *files, int fd, const struct host_file_info *info,
                      const char *path, struct device_queue *ret_queue, struct error *err);
/* The size alone; 0 or a negative errno. */
int device_queue_size(struct host_files *files, int fd, uint32_t logical_bytes,
                      uint64_t *ret_bytes);

/* What a node on it asks of requests. */
struct block_limits device_queue_limits(const struct device_queue *queue);

/* Cuts the range down to whole granules; false: nothing is left. */
bool device_queue_discardable(const struct device_queue *queue, uint64_t *offset, uint64_t *length);

#endif
