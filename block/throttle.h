/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_THROTTLE_H
#define BLOCK_THROTTLE_H

/*
 * How fast requests may go: leaky buckets, with qemu's words and qemu's rules (its
 * docs/throttle.txt is the source of both). Pure: no clock, no lock, no wait.
 *
 * There are six *rates*: bytes and operations a second, each of all requests, of reads, of writes.
 * A rate that is limited has a *bucket*. A request pours its bytes (its operations) in, the average
 * leaks out each second, and a request goes when no bucket of its is fuller than its size, however
 * much it then pours in itself; so one request may be larger than a bucket, and who comes next pays
 * for it by waiting. That is how a burst is bounded and the average is exact.
 *
 * How large a bucket is:
 *     average alone                 a tenth of a second of the average
 *     with a burst rate             one second of the burst rate
 *     with a burst length as well   so many seconds of the burst rate; and a second bucket, a tenth
 *                                   of a second large, leaks at the burst rate, so that the burst
 *                                   itself goes no faster
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

enum throttle_direction {
    THROTTLE_READ,
    THROTTLE_WRITE, /* and zeroes and discards */
    THROTTLE_DIRECTION_COUNT,
};

enum throttle_rate {
    THROTTLE_BPS_TOTAL,
    THROTTLE_BPS_READ,
    THROTTLE_BPS_WRITE,
    THROTTLE_IOPS_TOTAL,
    THROTTLE_IOPS_READ,
    THROTTLE_IOPS_WRITE,
    THROTTLE_RATE_COUNT,
};

/* qemu's names of them: "bps-total", ... */
extern const char *const throttle_rate_names[THROTTLE_RATE_COUNT];

#define THROTTLE_VALUE_MAX UINT64_C(1000000000000000)

struct throttle_limit {
    uint64_t average;        /* a second; 0: no limit */
    uint64_t burst;          /* a second, "-max"; 0: none given */
    uint64_t burst_length_s; /* "-max-length"; 1 where none is given */
};

struct throttle_limits {
    struct throttle_limit rates[THROTTLE_RATE_COUNT];
    /* A request counts as one operation for each so many bytes of it, and as one at least; 0: as
     * one, however long. */
    uint64_t iops_size_bytes;
};

/* No limit at all. */
void throttle_limits_init(struct throttle_limits *limits);
/* -EINVAL, with one sentence for the first rule that is broken. */
int throttle_limits_check(const struct throttle_limits *limits, struct error *err);
/* Whether anything limits requests of this direction. */
bool throttle_limits_concern(const struct throttle_limits *limits,
                             enum throttle_direction direction);
/* Whether anything is shared by reads and writes. */
bool throttle_limits_have_total(const struct throttle_limits *limits);

struct throttle_bucket {
    double level;
    double burst_level; /* of the second bucket */
};

struct throttle {
    struct throttle_limits limits;
    struct throttle_bucket buckets[THROTTLE_RATE_COUNT];
    uint64_t leaked_ns; /* they have leaked up to this moment */
};

/* limits have passed throttle_limits_check(). All buckets are empty. */
void throttle_init(struct throttle *throttle, const struct throttle_limits *limits);

/* How long a request of this direction has to wait; 0: it may go now. now_ns may be earlier than
 * before (loops read their clocks at different moments): no time has passed then. At most
 * THROTTLE_WAIT_MAX_NS. */
#define THROTTLE_WAIT_MAX_NS (UINT64_C(1) << 60)
uint64_t throttle_wait_ns(struct throttle *throttle, enum throttle_direction direction,
                          uint64_t now_ns);

/* A request goes. */
void throttle_account(struct throttle *throttle, enum throttle_direction direction,
                      uint64_t length_bytes);

#endif
