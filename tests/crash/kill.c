/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/crash/kill.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/align.h"

#define KILLS_A_LIFE 12
#define CUT_ONCE_IN 3 /* kills, of those that leave something to be replayed */

struct crash_kills *crash_kills_new(unsigned disk_count)
{
    struct crash_kills *kills = crash_alloc(sizeof(*kills));
    kills->disk_count = disk_count;
    crash_kept_init(&kills->live);
    crash_kept_init(&kills->left);
    crash_survivors_init(&kills->survivors, disk_count, CRASH_ROOM_BYTES);
    for (unsigned i = 0; i < disk_count; i++) {
        crash_disk_init(&kills->cached[i], CRASH_ROOM_BYTES);
        crash_disk_init(&kills->killed[i], CRASH_ROOM_BYTES);
        crash_disk_init(&kills->again[i], CRASH_ROOM_BYTES);
    }
    return kills;
}

void crash_kills_free(struct crash_kills *kills)
{
    if (!kills)
        return;
    for (unsigned i = 0; i < kills->disk_count; i++) {
        crash_disk_fini(&kills->cached[i]);
        crash_disk_fini(&kills->killed[i]);
        crash_disk_fini(&kills->again[i]);
    }
    crash_survivors_fini(&kills->survivors);
    crash_tape_fini(&kills->tape);
    crash_kept_fini(&kills->live);
    crash_kept_fini(&kills->left);
    free(kills);
}

/* For people. */
static __attribute__((format(printf, 2, 3))) void add_words(struct crash_kills *kills,
                                                            const char *format, ...)
{
    size_t length = strlen(kills->what);
    va_list args;
    va_start(args, format);
    vsnprintf(kills->what + length, sizeof(kills->what) - length, format, args);
    va_end(args);
}

/* --- what was under way -------------------------------------------------------------------------
 */

/* It has begun, and nobody has seen it yet. */
static bool is_under_way(const struct crash_change *change)
{
    return change->effect == UINT64_MAX && change->kind != CRASH_FLUSH &&
           change->kind != CRASH_FLUSH_FAILED;
}

/* What is made of a change: nothing (false), all, or some sectors of it. */
static bool draw_part(struct random *random, const struct crash_change *change,
                      struct crash_change *ret_part)
{
    uint64_t end = change->offset + change->length;
    *ret_part = *change;
    ret_part->is_forced = false;
    if (random_once_in(random, 3))
        return false;
    if (change->kind == CRASH_SIZE || random_once_in(random, 2))
        return true;
    uint64_t from = align_down(change->offset + random_below(random, change->length), CRASH_SECTOR);
    uint64_t to = align_up(from + 1 + random_below(random, change->length), CRASH_SECTOR);
    ret_part->offset = from > change->offset ? from : change->offset;
    ret_part->length = (to < end ? to : end) - ret_part->offset;
    if (change->kind == CRASH_WRITE)
        ret_part->data += (size_t)(ret_part->offset - change->offset);
    return true;
}

/* As a change of its own, which has ended. */
static void note_part(struct crash_tape *tape, struct crash_change part)
{
    uint8_t *data;
    size_t from = part.data;
    uint32_t number = crash_tape_begin(tape, part, &data);
    if (part.kind == CRASH_WRITE)
        memcpy(data, tape->data + from, (size_t)part.length);
    crash_tape_effect(tape, number);
    crash_tape_end(tape, number);
}

/* On the tape of the kill, its survivors and its disks. */
static void settle(struct crash_kills *kills, struct random *random)
{
    struct crash_tape *tape = &kills->tape;
    uint32_t count = (uint32_t)tape->change_count;
    uint64_t events = tape->event_count;
    for (uint32_t i = 0; i < count; i++) {
        struct crash_change part;
        if (!is_under_way(&tape->changes[i]))
            continue;
        crash_survivors_forget(&kills->survivors, i);
        if (!draw_part(random, &tape->changes[i], &part))
            continue;
        crash_apply_change(tape, &part, &kills->killed[part.disk]);
        note_part(tape, part);
    }
    for (; events < tape->event_count; events++)
        crash_survivors_play(&kills->survivors, events);
}

/* --- judging ------------------------------------------------------------------------------------
 */

static bool outlives_kill(const struct crash_bench *bench)
{
    return bench->format->outlives_kill && bench->format->outlives_kill(bench->shape);
}

static bool judge_disks(struct crash_life *life, struct crash_disk *disks, bool was_killed)
{
    struct crash_runner *runner = life->runner;
    bool all = was_killed && !runner->kills->is_excused && outlives_kill(&runner->bench);
    struct crash_judging judging = {.bench = &runner->bench,
                                    .disks = disks,
                                    .oracle = &life->oracle,
                                    .sizes = all ? &runner->kills->sizes : &life->sizes,
                                    .alignment = life->alignment,
                                    .foreign_once_in = runner->foreign_once_in,
                                    .was_killed = all,
                                    .verdicts = &runner->verdicts};
    return crash_judge_image(&judging);
}

static void record_disks(struct crash_life *life, struct crash_tape *tape)
{
    struct crash_kills *kills = life->runner->kills;
    for (unsigned i = 0; i < kills->disk_count; i++) {
        struct crash_disk *disk = &kills->killed[i];
        disk->tape = tape;
        disk->number = i;
        disk->random = tape ? &life->random : NULL;
        disk->pauses_max = tape ? life->pauses_max : 0;
        disk->slow_once_in = life->slow_once_in;
    }
}

/* The second server opens it, shows it all, and closes it. */
static bool open_killed(struct crash_life *life)
{
    struct crash_kills *kills = life->runner->kills;
    kills->with_changes += crash_kept_has_changes(&kills->left);
    record_disks(life, &kills->tape);
    kills->killed[CRASH_FILE].kept = &kills->left;
    bool is_good = judge_disks(life, kills->killed, true);
    kills->killed[CRASH_FILE].kept = NULL;
    record_disks(life, NULL);
    return is_good;
}

static bool judge_cut(void *arg)
{
    struct crash_life *life = arg;
    return judge_disks(life, life->runner->kills->survivors.shown, false);
}

/* The power is cut while the second server works, from that event of its tape on. */
static bool cut_second(struct crash_life *life, uint64_t from)
{
    struct crash_kills *kills = life->runner->kills;
    const struct crash_tape *tape = &kills->tape;
    add_words(kills, ", then the power is cut");
    for (uint64_t i = from; i < tape->event_count; i++) {
        const struct crash_event *event = &tape->events[i];
        crash_survivors_play(&kills->survivors, i);
        if (event->kind != CRASH_BEGAN || tape->changes[event->number].kind == CRASH_FLUSH)
            continue;
        kills->cuts++;
        if (!crash_survivors_cut(&kills->survivors, true, judge_cut, life))
            return false;
    }
    return true;
}

/* kills->again becomes what the disks show after that event of the second server's tape. */
static void show_again(struct crash_kills *kills, struct random *random, uint64_t from, uint64_t at)
{
    const struct crash_tape *tape = &kills->tape;
    for (uint64_t i = from; i <= at; i++) {
        const struct crash_change *change = &tape->changes[tape->events[i].number];
        if (tape->events[i].kind == CRASH_EFFECT)
            crash_apply_change(tape, change, &kills->again[change->disk]);
    }
    for (uint32_t i = 0; i < tape->change_count; i++) {
        struct crash_change part, change = tape->changes[i];
        if (change.began < from || change.began > at || change.effect <= at)
            continue;
        change.effect = UINT64_MAX;
        if (is_under_way(&change) && draw_part(random, &change, &part))
            crash_apply_change(tape, &part, &kills->again[part.disk]);
    }
}

/* The second server is killed too, at some event from that one on; kills->again is what it found.
 */
static bool kill_second(struct crash_life *life, uint64_t from)
{
    struct crash_kills *kills = life->runner->kills;
    uint64_t at = from + random_below(&life->random, kills->tape.event_count - from);
    size_t note = 0;
    show_again(kills, &life->random, from, at);
    crash_kept_drop(&kills->left);
    crash_kept_play(&kills->tape.kept, &kills->left, &note, at);
    add_words(kills, ", and the next one after event %" PRIu64 " of its own", at - from);
    kills->second_kills++;
    kills->again[CRASH_FILE].kept = &kills->left;
    bool is_good = judge_disks(life, kills->again, true);
    kills->again[CRASH_FILE].kept = NULL;
    return is_good;
}

/* --- killing ------------------------------------------------------------------------------------
 */

/* After so many events. with_next: what comes before the next one is in kept memory, or the first
 * records of it are. */
static bool kill_after(struct crash_life *life, uint64_t events, bool with_next)
{
    struct crash_runner *runner = life->runner;
    struct crash_kills *kills = runner->kills;
    size_t note = 0;
    kills->what[0] = '\0';
    add_words(kills, "killed after event %" PRIu64 "%s", events - 1,
              with_next ? ", as the next one comes" : "");
    kills->kills++;
    crash_kept_drop(&kills->left);
    crash_tape_copy(&kills->tape, &runner->tape, events, with_next, &kills->left);
    crash_kept_play(&kills->tape.kept, &kills->left, &note, UINT64_MAX);
    if (with_next && random_once_in(&life->random, 2))
        crash_kept_step_back(&kills->left, &kills->tape.kept, events, &life->random);
    crash_survivors_copy(&kills->survivors, &runner->survivors, &kills->tape);
    for (unsigned i = 0; i < kills->disk_count; i++)
        crash_disk_copy(&kills->killed[i], &kills->cached[i]);
    settle(kills, &life->random);
    for (unsigned i = 0; i < kills->disk_count; i++)
        crash_disk_copy(&kills->again[i], &kills->killed[i]);
    uint64_t from = kills->tape.event_count;
    bool goes_on = crash_kept_has_changes(&kills->left);
    kills->is_excused = life->trouble->faults.failed > 0 && !crash_kept_is_whole(&kills->left);
    bool is_good = open_killed(life);
    if (is_good && goes_on && random_once_in(&life->random, CUT_ONCE_IN))
        is_good = cut_second(life, from);
    else if (is_good && goes_on && kills->tape.event_count > from)
        is_good = kill_second(life, from);
    if (is_good)
        kills->what[0] = '\0';
    return is_good;
}

void crash_kills_start(struct crash_life *life)
{
    struct crash_runner *runner = life->runner;
    struct crash_kills *kills = runner->kills;
    kills->sizes = (struct crash_sizes){.all = {life->base_bytes}, .count = 1};
    kills->once_in = 1 + (unsigned)(runner->tape.event_count / KILLS_A_LIFE);
    for (unsigned i = 0; i < kills->disk_count; i++)
        crash_disk_copy(&kills->cached[i], &runner->next[i]);
}

static void play(struct crash_kills *kills, const struct crash_tape *tape,
                 const struct crash_event *event)
{
    const struct crash_change *change = &tape->changes[event->number];
    if (event->kind == CRASH_EFFECT)
        crash_apply_change(tape, change, &kills->cached[change->disk]);
    if (event->kind == CRASH_RESIZE_SENT)
        kills->sizes.all[kills->sizes.count++] = event->length;
    if (event->kind == CRASH_RESIZED)
        kills->sizes = (struct crash_sizes){.all = {event->length}, .count = 1};
}

bool crash_kills_play(struct crash_life *life, uint64_t index)
{
    struct crash_kills *kills = life->runner->kills;
    const struct crash_tape *tape = &life->runner->tape;
    play(kills, tape, &tape->events[index]);
    if (random_once_in(&life->random, kills->once_in) && !kill_after(life, index + 1, false))
        return false;
    return index + 1 == tape->event_count || !random_once_in(&life->random, kills->once_in) ||
           kill_after(life, index + 1, true);
}
