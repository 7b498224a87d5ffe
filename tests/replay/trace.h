/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_REPLAY_TRACE_H
#define TESTS_REPLAY_TRACE_H

/*
 * A trace: what a guest asked of its disk, as text that a person can write and a script can
 * capture. One line a request; # begins a comment; words are divided by blanks; numbers are
 * decimal. Sectors have 512 bytes. The first line is "platter-trace 1"; then, before the first
 * request, each once but for bad:
 *
 *     device virtio-blk | ide
 *     size BYTES                       of the disk, whole sectors; it holds zeroes at first
 *     depth COUNT                      requests in flight at most; 1 without this line
 *     overlap                          requests in flight may touch the same sectors; then SEEDs
 *                                      mean nothing, and there is no crash
 *     bad read | write SECTOR COUNT    an error point: such requests fail that touch these sectors
 *
 * and what the guest does:
 *
 *     read SECTOR COUNT [RESULT]
 *     write SECTOR COUNT SEED [RESULT]       what is written follows from SEED and each sector
 *     pio-read, pio-write                    the same by programmed I/O, where a device has that
 *     discard SECTOR COUNT [RESULT]
 *     zero SECTOR COUNT [RESULT]
 *     flush [RESULT]
 *     wait                             until all that comes before has been answered
 *     cache on | off                   switches the write cache; waits
 *     reset                            of the device; waits
 *     crash                            whoever serves the disk is killed; waits
 *
 * RESULT is ok (also without it), eio or enotsup.
 *
 * A request begins when the ones before it have begun, there is room in the depth, and none in
 * flight touches the same sectors, unless both read. So what it reads does not depend on chance,
 * but in a trace with "overlap".
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define TRACE_SECTOR 512
#define TRACE_STEPS_MAX (1 << 20)
#define TRACE_SECTORS_MAX (1 << 16)         /* of one request: 32 MiB */
#define TRACE_BYTES_MAX (UINT64_C(1) << 36) /* of the disk */
#define TRACE_DEPTH_MAX 1024
#define TRACE_BAD_MAX 16
#define TRACE_OVERLAP_BYTES_MAX (1 << 22) /* of the disk: the oracle keeps 30 bytes for each */
#define TRACE_SEED_MAX ((UINT64_C(1) << 63) - 1)

enum trace_verb {
    TRACE_READ,
    TRACE_WRITE,
    TRACE_DISCARD,
    TRACE_ZERO,
    TRACE_FLUSH,
    TRACE_WAIT,
    TRACE_CACHE_ON,
    TRACE_CACHE_OFF,
    TRACE_RESET,
    TRACE_CRASH,
};

struct trace_step {
    enum trace_verb verb;
    bool by_pio;
    uint32_t count;
    uint64_t sector;
    uint64_t seed;
    int result;    /* 0, -EIO or -ENOTSUP */
    unsigned line; /* where it stands */
};

struct trace_bad {
    bool of_reads; /* else of writes */
    uint64_t sector, count;
};

struct trace {
    char device[16];
    uint64_t size_bytes;
    unsigned depth;
    bool overlaps;
    unsigned bad_count;
    struct trace_bad bad[TRACE_BAD_MAX];
    struct trace_step *steps;
    unsigned step_count;
};

/* 0; -EINVAL: a line makes no sense, and err says which and why; -ENOMEM. The text may be anything.
 */
int trace_parse(struct trace *trace, const char *text, size_t length, struct error *err);
/* Reads the file at path; its size is bounded. */
int trace_load(struct trace *trace, const char *path, struct error *err);
/* Takes one that is all zero. */
void trace_fini(struct trace *trace);

#endif
