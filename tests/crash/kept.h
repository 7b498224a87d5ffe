/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_CRASH_KEPT_H
#define TESTS_CRASH_KEPT_H

/*
 * Memory of a disk that outlives a kill (block/kept.h), and what was in it when. A redo log
 * (cache/redo_log.h) grows at its end alone, so of each moment its header is noted, and what has
 * come behind the end since the moment before.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/kept.h"
#include "common/random.h"

struct crash_kept {
    uint8_t *bytes;
    bool is_there; /* somebody has it, or has left it */
    bool is_open;
    struct kept_memory given;
};

void crash_kept_init(struct crash_kept *kept);
void crash_kept_fini(struct crash_kept *kept);
/* Nothing is there: the beginning, and after a power cut. */
void crash_kept_drop(struct crash_kept *kept);
/* As block_driver_admin's co_keep. */
int crash_kept_give(struct crash_kept *kept, size_t length, bool only_look,
                    struct kept_memory **ret_kept, struct error *err);
/* Whether there is a log that has something to be replayed. */
bool crash_kept_has_changes(const struct crash_kept *kept);
/* Whether there is a log, and it does not say that something is missing in it. */
bool crash_kept_is_whole(const struct crash_kept *kept);

/* --- on a tape ----------------------------------------------------------------------------------
 */

#define CRASH_KEPT_HEADER_BYTES 256 /* with all of a log's */

struct crash_kept_note {
    uint64_t event; /* it was so when this one came */
    bool is_there;
    uint64_t ring_from, ring_to; /* since the beginning of the log, as its header counts */
    size_t data;                 /* the header, and then these bytes of the ring */
};

struct crash_kept_tape {
    struct crash_kept *kept; /* NULL: nothing is noted */
    struct crash_kept_note *notes;
    size_t note_count, note_room;
    uint8_t *data;
    size_t data_length, data_room;
    /* As it was at the last note: */
    bool was_there;
    uint8_t header[CRASH_KEPT_HEADER_BYTES];
};

void crash_kept_tape_clear(struct crash_kept_tape *tape);
void crash_kept_tape_fini(struct crash_kept_tape *tape);
/* Event `event` comes now: what has changed is noted. */
void crash_kept_tape_note(struct crash_kept_tape *tape, uint64_t event);
/* The notes up to that event's; what is noted from then on is of `kept`, which is as they say. */
void crash_kept_tape_copy(struct crash_kept_tape *tape, const struct crash_kept_tape *from,
                          uint64_t event, struct crash_kept *kept);
/* Makes kept what it was when that event came: by the notes from *next on, which it moves. */
void crash_kept_play(const struct crash_kept_tape *tape, struct crash_kept *kept, size_t *next,
                     uint64_t event);
/* kept is as it was when that event came, the last one that has a note. It becomes what it was
 * after some of the records that have come since the event before, or none; where only records
 * have. */
void crash_kept_step_back(struct crash_kept *kept, const struct crash_kept_tape *tape,
                          uint64_t event, struct random *random);
/* There were so many events. It dies where what was noted is not what is there: then the tests are
 * wrong. */
void crash_kept_tape_finish(struct crash_kept_tape *tape, uint64_t event_count);

#endif
