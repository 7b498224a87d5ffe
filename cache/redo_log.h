/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CACHE_REDO_LOG_H
#define CACHE_REDO_LOG_H

/*
 * The redo log's own parts: for cache/ alone, and for tests that make bad logs.
 *
 * Memory: struct redo_header, then from REDO_HEADER_BYTES on the ring. A record begins at a
 * multiple of REDO_ALIGNMENT and lies in one piece: where the ring ends too early for it, a pad
 * takes what is left. Numbers are the host's own: the log is read where it was written.
 */

#include <stdatomic.h>
#include <stdbool.h>

#include "cache/redo.h"

#define REDO_MAGIC UINT64_C(0x31316f6465727470) /* its version is in it; of no other byte order */
#define REDO_ALIGNMENT 16

struct redo_header {
    _Atomic uint64_t magic; /* last of all; 0: there is no log */
    uint64_t memory_bytes;
    struct redo_identity identity;
    _Atomic uint64_t is_broken;
    _Atomic uint64_t head, tail; /* bytes since the begin of the log; the ring has tail - head */
    /* Written by all loops, the others under the monitor alone. */
    _Alignas(64) _Atomic uint64_t heartbeat_ns;
    _Atomic uint64_t replay_ns;
};

enum redo_record_type {
    REDO_STORE,  /* `length` bytes follow */
    REDO_ZERO,   /* `length` zeroes, of a table that is new */
    REDO_FORGET, /* a length of 8 bytes follows: what came before of that range is void */
    REDO_PAD,    /* `length` bytes up to the end of the ring */
    REDO_TYPE_COUNT,
};

struct redo_record {
    uint32_t length;
    uint8_t type;
    uint8_t index; /* of the kind; REDO_FORGET: of the node */
    uint16_t reserved;
    uint64_t node_offset;
};
_Static_assert(sizeof(struct redo_record) == REDO_ALIGNMENT, "as in memory");

struct redo {
    struct redo_header *header;
    uint8_t *ring;
    uint64_t ring_bytes, memory_bytes;
    struct clock *clock; /* of the heartbeat; NULL: the cache does not beat */

    /* Guarded by the monitor. The header says the same, for who comes after a kill; what is there
     * is never believed while it is in use. */
    uint64_t head, tail;
    uint64_t tail_at; /* tail, in the ring */
    bool is_ready;    /* head and tail are true */
    bool is_broken, is_dead;
    bool is_healing;      /* broken, and whole since round_tail */
    bool is_in_round;     /* which took its copies at round_tail */
    bool is_asking;       /* the ring was half full, and no round has succeeded since */
    bool is_round_wanted; /* for that, or to heal it; nobody has taken the wish yet */
    uint64_t round_tail;
    uint64_t records, breaks;
};

/* A replay is about to change the nodes. */
void redo_beat_replay(struct redo *redo);

/* --- redo.c. Monitor, all of them; they neither wait nor fail --- */

void redo_store(struct redo *redo, unsigned kind, uint64_t node_offset, const void *bytes,
                size_t length);
void redo_zero(struct redo *redo, unsigned kind, uint64_t node_offset, size_t length);
void redo_forget(struct redo *redo, unsigned node_index, uint64_t node_offset, uint64_t length);

/* It is used from here on; what is dirty by now is not in it. */
void redo_attached(struct redo *redo, bool is_dirty);
/* A round takes its copies; it has ended. */
void redo_round_begins(struct redo *redo);
void redo_round_ended(struct redo *redo, int rc);
/* Whether a round would make the log smaller or heal it, that is more than the one that runs. */
bool redo_has_work(const struct redo *redo);
/* Whether somebody should start a round; true once for each reason. */
bool redo_take_wanted(struct redo *redo);

/* Its changes are on the disk. It is ready for use. */
void redo_replayed(struct redo *redo, uint64_t tail);

#endif
