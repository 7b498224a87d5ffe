/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_VIRTIO_REQUEST_H
#define TESTS_HARNESS_VIRTIO_REQUEST_H

/*
 * One request of a virtio-blk guest: a chain that is understood and checked. VIRTIO 1.2, section
 * 5.2.6. How the driver cut header, data and status into buffers does not matter (2.7.4).
 *
 * Nothing here waits or touches the disk.
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/account.h"
#include "block/aio.h"
#include "tests/harness/virtio_config.h"
#include "tests/harness/virtio_ring.h"

struct virtio_blk_queue;

struct virtio_segment {
    uint64_t sector;
    uint32_t sector_count;
    bool may_unmap;
};

struct virtio_request {
    struct virtio_blk_queue *queue;
    struct list_link link; /* free, in a batch, or held */
    struct virtio_chain chain;
    uint32_t type; /* VIRTIO_BLK_T_... */
    uint64_t sector;
    struct block_vec data; /* in guest memory */
    uint8_t *status;       /* the same */
    unsigned segment_count, segment_next;
    struct virtio_segment segments[VIRTIO_SEGMENTS_MAX];

    struct block_aio aio;
    struct loop_moment start;
    struct virtio_request *next_merged; /* carried out as a part of the same request below */
    struct iovec *merged_iov;           /* what the first of them owns; NULL: there is none */

    struct iovec iov[]; /* chain.iov_max of them */
};

/* What is to be done with it. */
enum virtio_verdict {
    VIRTIO_CARRY_OUT,
    VIRTIO_ANSWER_OK,     /* it is done already */
    VIRTIO_ANSWER_IOERR,  /* it cannot be carried out */
    VIRTIO_ANSWER_UNSUPP, /* there is no such request */
    VIRTIO_BROKEN,        /* it cannot even be answered */
};

/* Fills the rest of a request whose chain was popped. features: what was negotiated. *ret_why: the
 * sentence of VIRTIO_BROKEN; else untouched. */
enum virtio_verdict virtio_request_parse(struct virtio_request *request,
                                         const struct virtio_blk_shape *shape, uint64_t features,
                                         const char **ret_why);

uint64_t virtio_request_offset(const struct virtio_request *request);
bool virtio_request_is_read(const struct virtio_request *request);

#endif
