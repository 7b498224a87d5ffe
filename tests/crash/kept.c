/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/crash/kept.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cache/redo_log.h"
#include "common/align.h"
#include "common/clock.h"
#include "tests/crash/crash.h"

#define KEPT_BYTES REDO_MEMORY_BYTES_DEFAULT
#define RING_BYTES (KEPT_BYTES - REDO_HEADER_BYTES)

_Static_assert(sizeof(struct redo_header) <= CRASH_KEPT_HEADER_BYTES, "all of it is noted");

/* --- the memory ---------------------------------------------------------------------------------
 */

/* The same in every run: it goes into the log. */
static uint64_t no_time(struct clock *clock)
{
    (void)clock;
    return NS_PER_S;
}

static struct clock still_clock = {.now_ns = no_time};

void crash_kept_init(struct crash_kept *kept)
{
    *kept = (struct crash_kept){.bytes = mmap(NULL, KEPT_BYTES, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)};
    if (kept->bytes == MAP_FAILED)
        crash_die("no memory for memory that is kept");
}

void crash_kept_fini(struct crash_kept *kept)
{
    munmap(kept->bytes, KEPT_BYTES);
}

void crash_kept_drop(struct crash_kept *kept)
{
    if (madvise(kept->bytes, KEPT_BYTES, MADV_DONTNEED) < 0) /* zeroes from now on */
        crash_die("cannot drop memory");
    kept->is_there = kept->is_open = false;
}

static void kept_co_end(struct kept_memory *given, bool is_done)
{
    struct crash_kept *kept =
        (struct crash_kept *)(void *)((char *)given - offsetof(struct crash_kept, given));
    kept->is_open = false;
    if (is_done)
        crash_kept_drop(kept);
}

int crash_kept_give(struct crash_kept *kept, size_t length, bool only_look,
                    struct kept_memory **ret_kept, struct error *err)
{
    if (!kept)
        return error_set(err, -ENOTSUP, "nothing is kept of this disk");
    if (kept->is_open)
        return error_set(err, -EBUSY, "somebody has it");
    if (only_look && !kept->is_there)
        return error_set(err, -ENOENT, "nobody has left anything");
    if (length != KEPT_BYTES)
        crash_die("a log of %zu bytes is not what these tests know", length);
    kept->given = (struct kept_memory){.base = kept->bytes,
                                       .length = length,
                                       .is_found = kept->is_there,
                                       .clock = &still_clock,
                                       .co_close = kept_co_end};
    kept->is_there = kept->is_open = true;
    *ret_kept = &kept->given;
    return 0;
}

/* --- what is in it ------------------------------------------------------------------------------
 */

/* The live part of a log; there is none: empty. */
struct live {
    uint64_t head, tail;
};

/* On a tape it lies at any address. */
static struct redo_header header_of(const void *bytes)
{
    struct redo_header header;
    memcpy(&header, bytes, sizeof(header));
    return header;
}

static struct live live_of(bool is_there, const void *bytes)
{
    struct redo_header log = header_of(bytes);
    if (!is_there || atomic_load(&log.magic) != REDO_MAGIC)
        return (struct live){0, 0};
    return (struct live){atomic_load(&log.head), atomic_load(&log.tail)};
}

bool crash_kept_has_changes(const struct crash_kept *kept)
{
    struct live live = live_of(kept->is_there, kept->bytes);
    return live.head != live.tail;
}

bool crash_kept_is_whole(const struct crash_kept *kept)
{
    const struct redo_header *log = (const void *)kept->bytes;
    return kept->is_there && atomic_load(&log->magic) == REDO_MAGIC &&
           atomic_load(&log->is_broken) == 0;
}

/* Between the ring and bytes in a row. */
static void move_ring(uint8_t *memory, uint64_t from, uint64_t to, uint8_t *bytes, bool is_taken)
{
    for (uint64_t at = from, piece; at < to; at += piece, bytes += piece) {
        uint64_t in_ring = at % RING_BYTES;
        uint8_t *place = memory + REDO_HEADER_BYTES + in_ring;
        piece = to - at < RING_BYTES - in_ring ? to - at : RING_BYTES - in_ring;
        memcpy(is_taken ? bytes : place, is_taken ? place : bytes, piece);
    }
}

/* --- on a tape ----------------------------------------------------------------------------------
 */

void crash_kept_tape_clear(struct crash_kept_tape *tape)
{
    tape->kept = NULL;
    tape->note_count = tape->data_length = 0;
    tape->was_there = false;
    memset(tape->header, 0, sizeof(tape->header));
}

void crash_kept_tape_fini(struct crash_kept_tape *tape)
{
    free(tape->notes);
    free(tape->data);
}

static struct crash_kept_note *add_note(struct crash_kept_tape *tape, size_t data_bytes)
{
    if (tape->note_count == tape->note_room) {
        tape->note_room = tape->note_room ? tape->note_room * 2 : 256;
        tape->notes = crash_realloc(tape->notes, tape->note_room * sizeof(*tape->notes));
    }
    if (tape->data_length + data_bytes > tape->data_room) {
        tape->data_room = 2 * (tape->data_length + data_bytes);
        tape->data = crash_realloc(tape->data, tape->data_room);
    }
    tape->data_length += data_bytes;
    return &tape->notes[tape->note_count++];
}

void crash_kept_tape_note(struct crash_kept_tape *tape, uint64_t event)
{
    const struct crash_kept *kept = tape->kept;
    if (!kept || (kept->is_there == tape->was_there &&
                  memcmp(kept->bytes, tape->header, sizeof(tape->header)) == 0))
        return;
    struct live old = live_of(tape->was_there, tape->header);
    struct live live = live_of(kept->is_there, kept->bytes);
    bool has_grown = live.head >= old.head && live.tail >= old.tail;
    uint64_t from = has_grown && old.tail > live.head ? old.tail : live.head;
    size_t data = tape->data_length, ring_bytes = (size_t)(live.tail - from);
    *add_note(tape, sizeof(tape->header) + ring_bytes) =
        (struct crash_kept_note){.event = event,
                                 .is_there = kept->is_there,
                                 .ring_from = from,
                                 .ring_to = live.tail,
                                 .data = data};
    memcpy(tape->data + data, kept->bytes, sizeof(tape->header));
    move_ring(kept->bytes, from, live.tail, tape->data + data + sizeof(tape->header), true);
    memcpy(tape->header, kept->bytes, sizeof(tape->header));
    tape->was_there = kept->is_there;
}

void crash_kept_tape_copy(struct crash_kept_tape *tape, const struct crash_kept_tape *from,
                          uint64_t event, struct crash_kept *kept)
{
    crash_kept_tape_clear(tape);
    for (size_t i = 0; i < from->note_count && from->notes[i].event <= event; i++) {
        struct crash_kept_note note = from->notes[i];
        const uint8_t *bytes = from->data + note.data;
        size_t length = sizeof(tape->header) + (size_t)(note.ring_to - note.ring_from);
        note.data = tape->data_length;
        *add_note(tape, length) = note;
        memcpy(tape->data + note.data, bytes, length);
        memcpy(tape->header, bytes, sizeof(tape->header));
        tape->was_there = note.is_there;
    }
    tape->kept = kept;
}

void crash_kept_play(const struct crash_kept_tape *tape, struct crash_kept *kept, size_t *next,
                     uint64_t event)
{
    for (; *next < tape->note_count && tape->notes[*next].event <= event; (*next)++) {
        const struct crash_kept_note *note = &tape->notes[*next];
        uint8_t *bytes = tape->data + note->data;
        kept->is_there = note->is_there;
        memcpy(kept->bytes, bytes, sizeof(tape->header));
        move_ring(kept->bytes, note->ring_from, note->ring_to, bytes + sizeof(tape->header), false);
    }
}

/* As they are in the ring, where none is cut in two. */
static uint64_t record_bytes(const struct crash_kept *kept, uint64_t at)
{
    const struct redo_record *record =
        (const void *)(kept->bytes + REDO_HEADER_BYTES + at % RING_BYTES);
    uint64_t payload = record->type == REDO_ZERO ? 0 : record->length;
    return sizeof(*record) + align_up(payload, REDO_ALIGNMENT);
}

/* All but the ends of the two logs is the same. */
static bool has_only_grown(const uint8_t *old, const uint8_t *header)
{
    struct redo_header a = header_of(old), b = header_of(header);
    return atomic_load(&a.magic) == REDO_MAGIC && atomic_load(&b.magic) == REDO_MAGIC &&
           atomic_load(&a.head) == atomic_load(&b.head) && atomic_load(&b.is_broken) == 0 &&
           atomic_load(&a.is_broken) == 0 && atomic_load(&a.tail) < atomic_load(&b.tail);
}

void crash_kept_step_back(struct crash_kept *kept, const struct crash_kept_tape *tape,
                          uint64_t event, struct random *random)
{
    if (tape->note_count < 2 || tape->notes[tape->note_count - 1].event != event)
        return;
    const struct crash_kept_note *old = &tape->notes[tape->note_count - 2];
    const uint8_t *header = tape->data + old->data;
    if (!old->is_there || !kept->is_there || !has_only_grown(header, kept->bytes))
        return;
    uint64_t from = live_of(true, header).tail, to = live_of(true, kept->bytes).tail;
    uint64_t at = from, chosen = from;
    for (uint64_t count = 1; at < to; count++) {
        if (random_once_in(random, count))
            chosen = at;
        at += record_bytes(kept, at);
    }
    if (at != to)
        crash_die("the redo log has other records than these tests know");
    atomic_store(&((struct redo_header *)(void *)kept->bytes)->tail, chosen);
}

void crash_kept_tape_finish(struct crash_kept_tape *tape, uint64_t event_count)
{
    struct crash_kept played;
    size_t next = 0;
    crash_kept_tape_note(tape, event_count);
    crash_kept_init(&played);
    crash_kept_play(tape, &played, &next, UINT64_MAX);
    struct live live = live_of(played.is_there, played.bytes);
    bool is_same = played.is_there == tape->kept->is_there &&
                   memcmp(played.bytes, tape->kept->bytes, CRASH_KEPT_HEADER_BYTES) == 0;
    for (uint64_t at = live.head; at < live.tail && is_same; at++) {
        size_t place = REDO_HEADER_BYTES + (size_t)(at % RING_BYTES);
        is_same = played.bytes[place] == tape->kept->bytes[place];
    }
    crash_kept_fini(&played);
    if (!is_same)
        crash_die("the tape has another redo log than there is");
}
