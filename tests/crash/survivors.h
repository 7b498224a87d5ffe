/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_CRASH_SURVIVORS_H
#define TESTS_CRASH_SURVIVORS_H

/*
 * What the disks of a run may show after a power cut, while its tape is played.
 *
 * The *durable* bytes are there in every case. A change is *pending* from its begin on: it may be
 * on the disk, whole, torn at 512 bytes, or not at all, whatever became of those before it; and so
 * may be the size that it gave the file. A flush that ends makes durable what had ended before the
 * flush began; a change with FUA does so for itself, and what took effect before it in the same
 * place is not seen any more. What a failed flush was for stays pending for ever.
 */

#include "common/random.h"
#include "tests/crash/crash.h"
#include "tests/crash/disk.h"

struct crash_pending {
    uint32_t change;
    bool is_lost; /* no flush makes it durable any more */
    enum { CRASH_DROPPED, CRASH_KEPT, CRASH_TORN } fate;
};

struct crash_survivors {
    const struct crash_tape *tape;
    unsigned disk_count;
    struct crash_disk durable[CRASH_WRITTEN];
    struct crash_disk shown[CRASH_WRITTEN]; /* one survivor; the judge may change it */
    struct crash_pending *pending;
    size_t pending_count, pending_room;
    uint32_t *covers; /* durable changes that took effect after a pending one of the same place */
    size_t cover_count, cover_room;
    uint64_t now; /* index of the event that was played last */
    struct random random;
    uint64_t cuts, states;
};

/* Gets its disks. */
void crash_survivors_init(struct crash_survivors *survivors, unsigned disk_count,
                          uint64_t room_bytes);
void crash_survivors_fini(struct crash_survivors *survivors);
/* All is durable that is on these disks. */
void crash_survivors_start(struct crash_survivors *survivors, const struct crash_tape *tape,
                           const struct crash_disk *disks, uint64_t seed);

/* The same as another one, over a tape that is a copy of its tape up to now. Both have disks. */
void crash_survivors_copy(struct crash_survivors *survivors, const struct crash_survivors *from,
                          const struct crash_tape *tape);
/* That change, which is pending, was not made after all. */
void crash_survivors_forget(struct crash_survivors *survivors, uint32_t change);

/* A disk has all of that change. */
void crash_apply_change(const struct crash_tape *tape, const struct crash_change *change,
                        struct crash_disk *disk);

/* The next event of the tape. */
void crash_survivors_play(struct crash_survivors *survivors, uint64_t index);

/* Shows survivors of a cut right now, one at a time, until judge() says no: every subset of what is
 * pending where that is not many, else some that are drawn. newest: only those that have the change
 * that began last, since the others were there before. False: judge() did. */
typedef bool crash_judge(void *arg);
bool crash_survivors_cut(struct crash_survivors *survivors, bool newest, crash_judge *judge,
                         void *arg);
/* Which changes the one that is shown has, in words. */
void crash_survivors_describe(const struct crash_survivors *survivors, char *text, size_t room);

#endif
