/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/crash/survivors.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/align.h"
#include "common/checked.h"

#define ALL_SUBSETS_OF 3 /* of so many changes all subsets are shown */
#define SAMPLES 5        /* of more of them, so many */
#define TORN_SAMPLES 2   /* and so many in which the newest is torn */
#define NO_CHANGE SIZE_MAX

void crash_survivors_init(struct crash_survivors *survivors, unsigned disk_count,
                          uint64_t room_bytes)
{
    *survivors = (struct crash_survivors){.disk_count = disk_count};
    for (unsigned i = 0; i < disk_count; i++) {
        crash_disk_init(&survivors->durable[i], room_bytes);
        crash_disk_init(&survivors->shown[i], room_bytes);
    }
}

void crash_survivors_fini(struct crash_survivors *survivors)
{
    for (unsigned i = 0; i < survivors->disk_count; i++) {
        crash_disk_fini(&survivors->durable[i]);
        crash_disk_fini(&survivors->shown[i]);
    }
    free(survivors->pending);
    free(survivors->covers);
}

void crash_survivors_start(struct crash_survivors *survivors, const struct crash_tape *tape,
                           const struct crash_disk *disks, uint64_t seed)
{
    survivors->tape = tape;
    survivors->pending_count = survivors->cover_count = 0;
    random_seed(&survivors->random, seed);
    for (unsigned i = 0; i < survivors->disk_count; i++) {
        crash_disk_copy(&survivors->durable[i], &disks[i]);
        crash_disk_copy(&survivors->shown[i], &disks[i]);
    }
}

static void *copy_array(void *array, const void *from, size_t bytes)
{
    array = crash_realloc(array, bytes + 1);
    if (bytes > 0)
        memcpy(array, from, bytes);
    return array;
}

void crash_survivors_copy(struct crash_survivors *survivors, const struct crash_survivors *from,
                          const struct crash_tape *tape)
{
    survivors->tape = tape;
    survivors->now = from->now;
    survivors->random = from->random;
    survivors->pending_count = survivors->pending_room = from->pending_count;
    survivors->pending =
        copy_array(survivors->pending, from->pending, from->pending_count * sizeof(*from->pending));
    survivors->cover_count = survivors->cover_room = from->cover_count;
    survivors->covers =
        copy_array(survivors->covers, from->covers, from->cover_count * sizeof(*from->covers));
    for (unsigned i = 0; i < survivors->disk_count; i++) {
        crash_disk_copy(&survivors->durable[i], &from->durable[i]);
        crash_disk_copy(&survivors->shown[i], &from->durable[i]);
    }
}

/* --- changes ------------------------------------------------------------------------------------
 */

static const struct crash_change *change_of(const struct crash_survivors *survivors,
                                            uint32_t change)
{
    return &survivors->tape->changes[change];
}

static const uint8_t *bytes_on(const struct crash_tape *tape, const struct crash_change *change)
{
    return change->kind == CRASH_WRITE ? crash_tape_bytes(tape, change) : NULL;
}

static const uint8_t *bytes_of(const struct crash_survivors *survivors,
                               const struct crash_change *change)
{
    return bytes_on(survivors->tape, change);
}

void crash_apply_change(const struct crash_tape *tape, const struct crash_change *change,
                        struct crash_disk *disk)
{
    if (change->kind == CRASH_SIZE)
        crash_disk_set_size(disk, change->length);
    else
        crash_disk_store(disk, change->offset, bytes_on(tape, change), change->length);
}

static void apply_whole(const struct crash_survivors *survivors, struct crash_disk *disk,
                        const struct crash_change *change)
{
    crash_apply_change(survivors->tape, change, disk);
}

/* Each sector by itself; and now and then the file has the size already, without the bytes. */
static void apply_torn(struct crash_survivors *survivors, struct crash_disk *disk,
                       const struct crash_change *change)
{
    const uint8_t *bytes = bytes_of(survivors, change);
    uint64_t end = change->offset + change->length, to;
    if (change->kind == CRASH_SIZE) {
        apply_whole(survivors, disk, change);
        return;
    }
    uint64_t in = 1 + random_below(&survivors->random, 4);
    for (uint64_t at = change->offset; at < end; at = to) {
        to = align_down(at, CRASH_SECTOR) + CRASH_SECTOR;
        to = to < end ? to : end;
        if (random_once_in(&survivors->random, in))
            crash_disk_store(disk, at, bytes ? bytes + (at - change->offset) : NULL, to - at);
    }
    if (disk->size_bytes < end && random_once_in(&survivors->random, 2))
        crash_disk_set_size(disk, end);
}

/* --- playing ------------------------------------------------------------------------------------
 */

/* Whether `later` took effect after `earlier` where both are. */
static bool covers(const struct crash_change *later, const struct crash_change *earlier)
{
    return later->disk == earlier->disk && earlier->effect < later->effect &&
           later->kind != CRASH_SIZE && earlier->kind != CRASH_SIZE &&
           ranges_overlap(later->offset, later->length, earlier->offset, earlier->length);
}

static bool covers_any(const struct crash_survivors *survivors, uint32_t later)
{
    for (size_t i = 0; i < survivors->pending_count; i++)
        if (covers(change_of(survivors, later), change_of(survivors, survivors->pending[i].change)))
            return true;
    return false;
}

/* Kept in the order of their effects, which is not the order in which they became durable. */
static void add_cover(struct crash_survivors *survivors, uint32_t change)
{
    if (survivors->cover_count == survivors->cover_room) {
        survivors->cover_room = survivors->cover_room ? survivors->cover_room * 2 : 64;
        survivors->covers =
            crash_realloc(survivors->covers, survivors->cover_room * sizeof(*survivors->covers));
    }
    size_t at = survivors->cover_count++;
    for (; at > 0 && change_of(survivors, survivors->covers[at - 1])->effect >
                         change_of(survivors, change)->effect;
         at--)
        survivors->covers[at] = survivors->covers[at - 1];
    survivors->covers[at] = change;
}

static void forget_idle_covers(struct crash_survivors *survivors)
{
    size_t kept = 0;
    for (size_t i = 0; i < survivors->cover_count; i++)
        if (covers_any(survivors, survivors->covers[i]))
            survivors->covers[kept++] = survivors->covers[i];
    survivors->cover_count = kept;
}

/* What both have, of the later one. */
static void apply_common(const struct crash_survivors *survivors, struct crash_disk *disk,
                         const struct crash_change *later, const struct crash_change *earlier)
{
    const uint8_t *bytes = bytes_of(survivors, later);
    uint64_t from = later->offset > earlier->offset ? later->offset : earlier->offset;
    uint64_t later_end = later->offset + later->length;
    uint64_t earlier_end = earlier->offset + earlier->length;
    uint64_t to = later_end < earlier_end ? later_end : earlier_end;
    crash_disk_store(disk, from, bytes ? bytes + (from - later->offset) : NULL, to - from);
}

/* After a change was applied that is older than them. */
static void apply_covers(struct crash_survivors *survivors, struct crash_disk *disk,
                         const struct crash_change *change)
{
    for (size_t i = 0; i < survivors->cover_count; i++) {
        const struct crash_change *cover = change_of(survivors, survivors->covers[i]);
        if (covers(cover, change))
            apply_common(survivors, disk, cover, change);
    }
}

static void make_durable(struct crash_survivors *survivors, size_t index)
{
    uint32_t number = survivors->pending[index].change;
    const struct crash_change *change = change_of(survivors, number);
    struct crash_disk *shown = &survivors->shown[change->disk];
    apply_whole(survivors, &survivors->durable[change->disk], change);
    apply_covers(survivors, &survivors->durable[change->disk], change);
    /* what is shown is not what is durable any more there */
    if (change->kind == CRASH_SIZE)
        crash_disk_copy(shown, &survivors->durable[change->disk]);
    else
        crash_disk_touch(shown, change->offset, change->length);
    survivors->pending[index] = survivors->pending[--survivors->pending_count];
    if (covers_any(survivors, number))
        add_cover(survivors, number);
    forget_idle_covers(survivors);
}

static bool is_over_before(const struct crash_change *change, uint64_t event)
{
    return change->ended < event && change->effect < event;
}

/* Of what had ended before the flush began, the one that took effect first. */
static size_t first_flushed(const struct crash_survivors *survivors,
                            const struct crash_change *flush)
{
    size_t first = NO_CHANGE;
    for (size_t i = 0; i < survivors->pending_count; i++) {
        const struct crash_change *change = change_of(survivors, survivors->pending[i].change);
        if (change->disk != flush->disk || survivors->pending[i].is_lost ||
            !is_over_before(change, flush->began))
            continue;
        if (first == NO_CHANGE ||
            change->effect < change_of(survivors, survivors->pending[first].change)->effect)
            first = i;
    }
    return first;
}

static size_t find_pending(const struct crash_survivors *survivors, uint32_t number)
{
    for (size_t i = 0; i < survivors->pending_count; i++)
        if (survivors->pending[i].change == number)
            return i;
    return NO_CHANGE;
}

void crash_survivors_forget(struct crash_survivors *survivors, uint32_t change)
{
    size_t index = find_pending(survivors, change);
    survivors->pending[index] = survivors->pending[--survivors->pending_count];
}

static void play_end(struct crash_survivors *survivors, uint32_t number)
{
    const struct crash_change *change = change_of(survivors, number);
    size_t index;
    if (change->kind == CRASH_FLUSH) {
        while ((index = first_flushed(survivors, change)) != NO_CHANGE)
            make_durable(survivors, index);
    } else if (change->kind == CRASH_FLUSH_FAILED) {
        while ((index = first_flushed(survivors, change)) != NO_CHANGE)
            survivors->pending[index].is_lost = true;
    } else if (change->is_forced) {
        make_durable(survivors, find_pending(survivors, number));
    }
}

static void play_begin(struct crash_survivors *survivors, uint32_t number)
{
    const struct crash_change *change = change_of(survivors, number);
    if (change->kind == CRASH_FLUSH || change->kind == CRASH_FLUSH_FAILED)
        return;
    if (survivors->pending_count == survivors->pending_room) {
        survivors->pending_room = survivors->pending_room ? survivors->pending_room * 2 : 64;
        survivors->pending = crash_realloc(survivors->pending,
                                           survivors->pending_room * sizeof(*survivors->pending));
    }
    survivors->pending[survivors->pending_count++] = (struct crash_pending){.change = number};
}

void crash_survivors_play(struct crash_survivors *survivors, uint64_t index)
{
    const struct crash_event *event = &survivors->tape->events[index];
    survivors->now = index;
    if (event->kind == CRASH_BEGAN)
        play_begin(survivors, event->number);
    else if (event->kind == CRASH_ENDED)
        play_end(survivors, event->number);
}

/* --- cutting ------------------------------------------------------------------------------------
 */

/* What took effect comes in that order, what did not yet comes behind. */
static uint64_t order_of(const struct crash_survivors *survivors,
                         const struct crash_pending *pending)
{
    const struct crash_change *change = change_of(survivors, pending->change);
    return change->effect <= survivors->now ? change->effect : survivors->now + 1 + change->began;
}

static int compare(const void *left, const void *right, void *arg)
{
    uint64_t a = order_of(arg, left), b = order_of(arg, right);
    return a < b ? -1 : a > b;
}

static void show_pending(struct crash_survivors *survivors, const struct crash_pending *pending)
{
    const struct crash_change *change = change_of(survivors, pending->change);
    struct crash_disk *shown = &survivors->shown[change->disk];
    if (pending->fate == CRASH_DROPPED)
        return;
    if (pending->fate == CRASH_KEPT)
        apply_whole(survivors, shown, change);
    else
        apply_torn(survivors, shown, change);
    apply_covers(survivors, shown, change);
}

static bool show(struct crash_survivors *survivors, crash_judge *judge, void *arg)
{
    for (unsigned i = 0; i < survivors->disk_count; i++)
        crash_disk_revert(&survivors->shown[i], &survivors->durable[i]);
    for (size_t i = 0; i < survivors->pending_count; i++)
        show_pending(survivors, &survivors->pending[i]);
    survivors->states++;
    return judge(arg);
}

static void set_all(struct crash_survivors *survivors, int fate)
{
    for (size_t i = 0; i < survivors->pending_count; i++)
        survivors->pending[i].fate = fate;
}

/* Most of them, some of them, few of them; a third of those that are there torn, now and then. */
static void draw_all(struct crash_survivors *survivors)
{
    struct random *random = &survivors->random;
    uint64_t in = 2 + random_below(random, 4);
    bool most = random_once_in(random, 2), tears = random_once_in(random, 2);
    for (size_t i = 0; i < survivors->pending_count; i++) {
        bool is_kept = random_once_in(random, in) != most;
        bool is_torn = tears && random_once_in(random, 3);
        survivors->pending[i].fate = !is_kept ? CRASH_DROPPED : is_torn ? CRASH_TORN : CRASH_KEPT;
    }
}

static void fix_newest(struct crash_survivors *survivors, size_t newest, int fate)
{
    if (newest != NO_CHANGE)
        survivors->pending[newest].fate = fate;
}

static bool show_all_subsets(struct crash_survivors *survivors, size_t newest, crash_judge *judge,
                             void *arg)
{
    size_t count = survivors->pending_count;
    for (unsigned set = 0; set < 1u << count; set++) {
        if (newest != NO_CHANGE && !(set & 1u << newest))
            continue;
        for (size_t i = 0; i < count; i++)
            survivors->pending[i].fate = set & 1u << i ? CRASH_KEPT : CRASH_DROPPED;
        if (!show(survivors, judge, arg))
            return false;
    }
    return true;
}

static bool show_samples(struct crash_survivors *survivors, size_t newest, crash_judge *judge,
                         void *arg)
{
    for (unsigned i = 0; i < SAMPLES; i++) {
        if (i == 0)
            set_all(survivors, CRASH_KEPT);
        else if (i == 1)
            set_all(survivors, CRASH_DROPPED);
        else
            draw_all(survivors);
        fix_newest(survivors, newest, CRASH_KEPT);
        if (!show(survivors, judge, arg))
            return false;
    }
    return true;
}

/* The newest one by itself has more than one sector. */
static bool may_tear(const struct crash_survivors *survivors, size_t newest)
{
    if (newest == NO_CHANGE)
        return false;
    const struct crash_change *change = change_of(survivors, survivors->pending[newest].change);
    return change->kind != CRASH_SIZE &&
           change->offset / CRASH_SECTOR != (change->offset + change->length - 1) / CRASH_SECTOR;
}

bool crash_survivors_cut(struct crash_survivors *survivors, bool is_newest, crash_judge *judge,
                         void *arg)
{
    size_t newest = NO_CHANGE;
    uint32_t number = is_newest ? survivors->pending[survivors->pending_count - 1].change : 0;
    survivors->cuts++;
    if (survivors->pending_count > 1)
        qsort_r(survivors->pending, survivors->pending_count, sizeof(*survivors->pending), compare,
                survivors);
    if (is_newest)
        newest = find_pending(survivors, number);
    bool is_short = survivors->pending_count <= ALL_SUBSETS_OF;
    bool goes_on = is_short ? show_all_subsets(survivors, newest, judge, arg)
                            : show_samples(survivors, newest, judge, arg);
    for (unsigned i = 0; i < TORN_SAMPLES && goes_on && may_tear(survivors, newest); i++) {
        draw_all(survivors);
        fix_newest(survivors, newest, CRASH_TORN);
        goes_on = show(survivors, judge, arg);
    }
    return goes_on;
}

void crash_survivors_describe(const struct crash_survivors *survivors, char *text, size_t room)
{
    static const char *const kinds[] = {"write", "zero", "discard", "size", "flush", "flush"};
    static const char *const fates[] = {"lost", "kept", "torn"};
    size_t used = 0;
    *text = '\0';
    for (size_t i = 0; i < survivors->pending_count && used < room; i++) {
        const struct crash_pending *pending = &survivors->pending[i];
        const struct crash_change *change = change_of(survivors, pending->change);
        used += (size_t)snprintf(text + used, room - used,
                                 "%s%s of disk %u %#" PRIx64 "+%#" PRIx64 " %s", i > 0 ? ", " : "",
                                 kinds[change->kind], change->disk, change->offset, change->length,
                                 fates[pending->fate]);
    }
}
