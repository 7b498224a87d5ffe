/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/crash/tape.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/crash/crash.h"

void crash_tape_clear(struct crash_tape *tape)
{
    tape->event_count = tape->change_count = tape->data_length = 0;
    crash_kept_tape_clear(&tape->kept);
}

void crash_tape_fini(struct crash_tape *tape)
{
    free(tape->events);
    free(tape->changes);
    free(tape->data);
    crash_kept_tape_fini(&tape->kept);
    *tape = (struct crash_tape){.event_count = 0};
}

/* Room for `more` behind `count` elements. */
static void *grow(void *array, size_t count, size_t more, size_t *room, size_t element_bytes)
{
    if (count + more <= *room)
        return array;
    while (count + more > *room)
        *room = *room ? *room * 2 : 256;
    return crash_realloc(array, *room * element_bytes);
}

void crash_tape_note(struct crash_tape *tape, struct crash_event event)
{
    crash_kept_tape_note(&tape->kept, tape->event_count);
    tape->events =
        grow(tape->events, tape->event_count, 1, &tape->event_room, sizeof(*tape->events));
    tape->events[tape->event_count++] = event;
}

uint32_t crash_tape_begin(struct crash_tape *tape, struct crash_change change, uint8_t **ret_data)
{
    uint32_t number = (uint32_t)tape->change_count;
    size_t length = change.kind == CRASH_WRITE ? (size_t)change.length : 0;
    tape->changes =
        grow(tape->changes, tape->change_count, 1, &tape->change_room, sizeof(*tape->changes));
    tape->data = grow(tape->data, tape->data_length, length, &tape->data_room, 1);
    change.data = tape->data_length;
    change.began = tape->event_count;
    change.effect = change.ended = UINT64_MAX;
    tape->data_length += length;
    tape->changes[tape->change_count++] = change;
    if (ret_data)
        *ret_data = tape->data + change.data;
    crash_tape_note(tape, (struct crash_event){.kind = CRASH_BEGAN, .number = number});
    return number;
}

void crash_tape_effect(struct crash_tape *tape, uint32_t change)
{
    assert(tape->changes[change].effect == UINT64_MAX);
    tape->changes[change].effect = tape->event_count;
    crash_tape_note(tape, (struct crash_event){.kind = CRASH_EFFECT, .number = change});
}

void crash_tape_end(struct crash_tape *tape, uint32_t change)
{
    assert(tape->changes[change].ended == UINT64_MAX);
    tape->changes[change].ended = tape->event_count;
    crash_tape_note(tape, (struct crash_event){.kind = CRASH_ENDED, .number = change});
}

static void copy_change(struct crash_tape *tape, const struct crash_tape *from, uint32_t number)
{
    struct crash_change change = from->changes[number];
    uint64_t end = tape->event_count;
    change.effect = change.effect < end ? change.effect : UINT64_MAX;
    change.ended = change.ended < end ? change.ended : UINT64_MAX;
    tape->changes[tape->change_count++] = change;
}

void crash_tape_copy(struct crash_tape *tape, const struct crash_tape *from, size_t event_count,
                     bool with_next, struct crash_kept *kept)
{
    crash_tape_clear(tape);
    tape->events = grow(tape->events, 0, event_count, &tape->event_room, sizeof(*tape->events));
    tape->changes =
        grow(tape->changes, 0, from->change_count, &tape->change_room, sizeof(*tape->changes));
    tape->data = grow(tape->data, 0, from->data_length, &tape->data_room, 1);
    memcpy(tape->events, from->events, event_count * sizeof(*tape->events));
    memcpy(tape->data, from->data, from->data_length);
    tape->event_count = event_count;
    tape->data_length = from->data_length;
    for (uint32_t i = 0; i < from->change_count && from->changes[i].began < event_count; i++)
        copy_change(tape, from, i);
    crash_kept_tape_copy(&tape->kept, &from->kept, event_count - !with_next, kept);
}

/* --- for people ---------------------------------------------------------------------------------
 */

static void print_change(const struct crash_tape *tape, const struct crash_event *event)
{
    static const char *const kinds[] = {"write", "zero",  "discard",
                                        "size",  "flush", "failed flush"};
    static const char *const moments[] = {
        [CRASH_BEGAN] = "begins", [CRASH_EFFECT] = "takes effect", [CRASH_ENDED] = "has ended"};
    const struct crash_change *change = &tape->changes[event->number];
    printf("        disk %u: %s %" PRIu32 " of %#" PRIx64 "+%#" PRIx64 "%s %s", change->disk,
           kinds[change->kind], event->number, change->offset, change->length,
           change->is_forced ? " with FUA" : "", moments[event->kind]);
}

static void print_client(const struct crash_event *event)
{
    static const char *const requests[] = {"", "write", "zero", "discard"};
    static const char *const words[] = {
        [CRASH_ANSWERED] = "is answered",      [CRASH_FAILED] = "has failed",
        [CRASH_FORCED] = "is durable",         [CRASH_FLUSH_SENT] = "flush is sent",
        [CRASH_FLUSHED] = "flush is answered", [CRASH_CLOSED] = "the image is closed",
        [CRASH_RESIZED] = "resize is answered"};
    if (event->kind == CRASH_SENT)
        printf("client %u sends %" PRIu32 ": %s of %#" PRIx64 "+%#" PRIx64, event->client,
               event->number, requests[event->request], event->offset, event->length);
    else if (event->kind == CRASH_RESIZE_SENT)
        printf("client 0 sends: resize to %#" PRIx64, event->length);
    else
        printf("%" PRIu32 " %s", event->number, words[event->kind]);
}

void crash_tape_print(const struct crash_tape *tape, uint64_t last)
{
    for (size_t i = 0; i < tape->event_count && i <= last; i++) {
        const struct crash_event *event = &tape->events[i];
        printf("  %4zu ", i);
        if (event->kind <= CRASH_ENDED)
            print_change(tape, event);
        else
            print_client(event);
        printf("\n");
    }
}
