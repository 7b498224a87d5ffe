/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_LOOP_NAP_H
#define BLOCK_LOOP_NAP_H

/*
 * Naps of a loop that looks on. A client who has answers left to read is busy with them; to look
 * for his next request meanwhile takes the processor, and each one that is found is received and
 * answered by itself. A *nap* is a short sleep that nothing ends: nobody has to wake anybody, and
 * what has come when it is over is received in one call and answered in one.
 *
 * How long: until half of what is unread is read, at the pace of the naps before. The client must
 * not find nothing; he would sleep, and be woken.
 *
 * Whether: that depends on the client (how long he works on an answer, how deep his queue is) and
 * on the machine (a nap of 10 us takes 12 or 30), so it is tried. Time is cut into windows of 2 ms.
 * Every 128 windows, and sooner in the beginning, one is a trial of the other way, with naps or
 * without; the way that brought more bytes in its window is kept, and naps where it is the same,
 * since they cost less; and they are given up after two trials only, four windows apart, since one
 * may have been disturbed. A client who has read everything after each of eight naps is spared the
 * rest.
 *
 * Numbers alone: no clock, no socket (block/loop_wait.c has them).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop_nap {
    /* whether */
    bool is_on, is_trial;
    unsigned windows;  /* since the last trial */
    unsigned interval; /* until the next one */
    uint64_t window_began_ns, window_bytes;
    uint64_t rate_before; /* the trial */
    /* how long */
    uint64_t ns_per_kib;          /* the client's pace; 0: not known */
    uint64_t late_ns;             /* naps take so much longer than they should */
    unsigned too_short, too_long; /* in a row */
};

#define LOOP_NAP_WINDOW_NS 2000000
#define LOOP_NAP_INTERVAL 128 /* windows */

void loop_nap_init(struct loop_nap *nap);

/* The client has sent so many bytes. */
static inline void loop_nap_came(struct loop_nap *nap, size_t bytes)
{
    nap->window_bytes += bytes;
}

/* Where the loop could nap: whether this is a time of naps. */
bool loop_nap_is_on(struct loop_nap *nap, uint64_t now_ns);

/* How long to nap with so many unread bytes, limit_ns at most; 0: it is not worth it. */
uint64_t loop_nap_ns(struct loop_nap *nap, size_t unread, uint64_t limit_ns);

struct loop_nap_taken {
    uint64_t asked_ns, took_ns;
    size_t unread_before, unread_after; /* bytes */
};
void loop_nap_learn(struct loop_nap *nap, const struct loop_nap_taken *taken);

#endif
