/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/crash/disk.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "block/coroutine.h"
#include "block/node_options.h"
#include "common/align.h"
#include "tests/crash/crash.h"
#include "tests/crash/kept.h"

#define SLOW_READ_PAUSES 100

/* --- bytes --------------------------------------------------------------------------------------
 */

void crash_disk_init(struct crash_disk *disk, uint64_t room_bytes)
{
    assert(room_bytes % CRASH_PAGE == 0);
    size_t pages = room_bytes / CRASH_PAGE;
    *disk = (struct crash_disk){.room_bytes = room_bytes};
    disk->bytes = mmap(NULL, room_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (disk->bytes == MAP_FAILED)
        crash_die("no memory for a disk of %" PRIu64 " bytes", room_bytes);
    disk->is_touched = crash_alloc(pages);
    disk->touched = crash_alloc(pages * sizeof(*disk->touched));
}

void crash_disk_fini(struct crash_disk *disk)
{
    while (disk->late)
        crash_disk_forget_late(disk);
    munmap(disk->bytes, disk->room_bytes);
    free(disk->is_touched);
    free(disk->touched);
}

static void forget_touched(struct crash_disk *disk)
{
    for (uint32_t i = 0; i < disk->touched_count; i++)
        disk->is_touched[disk->touched[i]] = 0;
    disk->touched_count = 0;
}

void crash_disk_copy(struct crash_disk *disk, const struct crash_disk *from)
{
    assert(disk->room_bytes == from->room_bytes);
    if (disk->size_bytes > from->size_bytes)
        memset(disk->bytes + from->size_bytes, 0, disk->size_bytes - from->size_bytes);
    memcpy(disk->bytes, from->bytes, from->size_bytes);
    disk->size_bytes = from->size_bytes;
    forget_touched(disk);
}

void crash_disk_revert(struct crash_disk *disk, const struct crash_disk *to)
{
    assert(disk->room_bytes == to->room_bytes);
    for (uint32_t i = 0; i < disk->touched_count; i++) {
        size_t at = (size_t)disk->touched[i] * CRASH_PAGE;
        memcpy(disk->bytes + at, to->bytes + at, CRASH_PAGE);
    }
    disk->size_bytes = to->size_bytes;
    forget_touched(disk);
}

void crash_disk_touch(struct crash_disk *disk, uint64_t offset, uint64_t length)
{
    if (length == 0)
        return;
    assert(offset + length <= disk->room_bytes);
    for (uint64_t page = offset / CRASH_PAGE; page <= (offset + length - 1) / CRASH_PAGE; page++) {
        if (disk->is_touched[page])
            continue;
        disk->is_touched[page] = 1;
        disk->touched[disk->touched_count++] = (uint32_t)page;
    }
}

void crash_disk_store(struct crash_disk *disk, uint64_t offset, const uint8_t *bytes,
                      uint64_t length)
{
    crash_disk_touch(disk, offset, length);
    if (bytes)
        memcpy(disk->bytes + offset, bytes, length);
    else
        memset(disk->bytes + offset, 0, length);
    if (disk->size_bytes < offset + length)
        disk->size_bytes = offset + length;
}

void crash_disk_set_size(struct crash_disk *disk, uint64_t size_bytes)
{
    assert(size_bytes <= disk->room_bytes);
    if (size_bytes < disk->size_bytes) {
        crash_disk_touch(disk, size_bytes, disk->size_bytes - size_bytes);
        memset(disk->bytes + size_bytes, 0, disk->size_bytes - size_bytes);
    }
    disk->size_bytes = size_bytes;
}

/* --- a discard that comes late ------------------------------------------------------------------
 */

struct late_discard {
    struct late_discard *next;
    uint64_t offset, length;
    uint32_t change;
    unsigned calls_left;
};

void crash_disk_forget_late(struct crash_disk *disk)
{
    struct late_discard *late = disk->late;
    disk->late = late->next;
    free(late);
}

static void make_late_discards(struct crash_disk *disk)
{
    for (struct late_discard *late = disk->late; late; late = late->next)
        late->calls_left -= late->calls_left > 0;
    while (disk->late && disk->late->calls_left == 0) {
        struct late_discard *late = disk->late;
        crash_disk_store(disk, late->offset, NULL, late->length);
        crash_tape_effect(disk->tape, late->change);
        crash_disk_forget_late(disk);
    }
}

static void discard_late(struct crash_disk *disk, uint64_t offset, uint64_t length, uint32_t change)
{
    struct late_discard **end = &disk->late;
    while (*end)
        end = &(*end)->next;
    *end = crash_alloc(sizeof(**end));
    **end = (struct late_discard){
        .offset = offset, .length = length, .change = change, .calls_left = disk->discards_late};
}

/* --- the driver ---------------------------------------------------------------------------------
 */

/* Mostly for a few turns, now and then for so many that much else happens meanwhile. */

static void co_pause_somewhat(struct crash_disk *disk)
{
    if (disk->pauses_max == 0)
        return;
    uint64_t most = disk->pauses_max * (random_once_in(disk->random, disk->slow_once_in) ? 25 : 1);
    for (uint64_t left = random_below(disk->random, most + 1); left > 0; left--)
        coroutine_co_pause();
}

/* 0, or the error of a call that is to fail. */
static int begin_call(struct crash_disk *disk, enum crash_call call)
{
    struct crash_faults *faults = disk->faults;
    make_late_discards(disk);
    if (!faults)
        return 0;
    uint64_t number = ++faults->calls;
    if (faults->fail_at == 0 || number < faults->fail_at ||
        (number > faults->fail_at && !faults->is_sticky))
        return 0;
    faults->failed++;
    faults->failed_calls |= 1u << call;
    return faults->code;
}

/* What a change that fails has done all the same: nothing, or some sectors from the front. */
static uint64_t failed_part(struct crash_disk *disk, uint64_t length)
{
    return align_down(random_below(&disk->faults->random, length + 1), CRASH_SECTOR);
}

static int crash_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    uintptr_t address = 0;
    const char *value = node_options_take(options, "disk");
    node_options_take(options, "filename");
    if (!value || sscanf(value, "%" SCNxPTR, &address) != 1)
        return error_set(err, -EINVAL, "the option 'disk' names no disk in memory");
    struct crash_disk *disk = (void *)address;
    uint64_t alignment = 1;
    int rc = node_options_take_size(options, "align", &alignment, err);
    if (rc < 0)
        return rc;
    node->state = disk;
    node->limits =
        (struct block_limits){.request_alignment = (uint32_t)alignment, .memory_alignment = 1};
    atomic_store(&node->size_bytes, disk->size_bytes);
    return 0;
}

static void crash_co_close(struct block_node *node)
{
    struct crash_disk *disk = node->state;
    while (disk->late) {
        disk->late->calls_left = 1;
        make_late_discards(disk);
    }
}

static int crash_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    struct crash_disk *disk = node->state;
    int rc = begin_call(disk, CRASH_CALL_READ);
    for (unsigned i = 0; i < (disk->reads_slowly ? SLOW_READ_PAUSES : 1); i++)
        co_pause_somewhat(disk);
    if (rc == 0)
        vec_copy_from(vec, disk->bytes + offset);
    co_pause_somewhat(disk);
    return rc;
}

/* A device may fetch a write's bytes at any time until it has ended, and not all at once: the
 * second half of them is fetched late. Who changes them meanwhile gets what he deserves. */
static void fetch_late(uint8_t *data, const struct crash_change *change,
                       const struct block_vec *vec)
{
    size_t half = (size_t)align_down(change->length / 2, CRASH_SECTOR);
    struct block_vec rest = vec_slice(vec, half, (size_t)change->length - half);
    vec_copy_to(&rest, data + half);
}

static void take_effect(struct block_node *node, const struct crash_change *change,
                        const struct block_vec *vec)
{
    struct crash_disk *disk = node->state;
    if (vec) {
        struct block_vec part = vec_slice(vec, 0, (size_t)change->length);
        crash_disk_touch(disk, change->offset, change->length);
        vec_copy_to(&part, disk->bytes + change->offset);
        if (disk->size_bytes < change->offset + change->length)
            disk->size_bytes = change->offset + change->length;
    } else {
        crash_disk_store(disk, change->offset, NULL, change->length);
    }
    atomic_store(&node->size_bytes, disk->size_bytes);
}

static void co_taped_change(struct block_node *node, struct crash_change change,
                            const struct block_vec *vec)
{
    struct crash_disk *disk = node->state;
    uint8_t *data;
    change.disk = disk->number;
    uint32_t number = crash_tape_begin(disk->tape, change, &data);
    if (vec) {
        struct block_vec part = vec_slice(vec, 0, (size_t)change.length);
        vec_copy_to(&part, data);
    }
    co_pause_somewhat(disk);
    if (vec) {
        data = crash_tape_bytes(disk->tape, &disk->tape->changes[number]);
        fetch_late(data, &change, vec);
        crash_disk_store(disk, change.offset, data, change.length);
        atomic_store(&node->size_bytes, disk->size_bytes);
    } else {
        take_effect(node, &change, NULL);
    }
    crash_tape_effect(disk->tape, number);
    co_pause_somewhat(disk);
    crash_tape_end(disk->tape, number);
}

/* rc: what the call is to answer. One that fails may have done a part. */
static int co_change(struct block_node *node, struct crash_change change,
                     const struct block_vec *vec, int rc)
{
    struct crash_disk *disk = node->state;
    if (change.offset + change.length > disk->room_bytes)
        return rc < 0 ? rc : -ENOSPC;
    if (rc < 0)
        change.length = failed_part(disk, change.length);
    if (change.length == 0) {
        co_pause_somewhat(disk);
    } else if (disk->tape) {
        co_taped_change(node, change, vec);
    } else {
        co_pause_somewhat(disk);
        take_effect(node, &change, vec);
    }
    return rc;
}

static int crash_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                          unsigned flags)
{
    struct crash_change change = {.kind = CRASH_WRITE,
                                  .is_forced = flags & BLOCK_FUA,
                                  .offset = offset,
                                  .length = vec->length};
    return co_change(node, change, vec, begin_call(node->state, CRASH_CALL_WRITE));
}

static int crash_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    struct crash_change change = {
        .kind = CRASH_ZERO, .is_forced = flags & BLOCK_FUA, .offset = offset, .length = length};
    return co_change(node, change, NULL, begin_call(node->state, CRASH_CALL_ZERO));
}

/* A hint: now and then it is not taken. */
static int crash_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct crash_disk *disk = node->state;
    struct crash_change change = {.kind = CRASH_DISCARD, .offset = offset, .length = length};
    int rc = begin_call(disk, CRASH_CALL_DISCARD);
    if (rc == 0 && disk->discards_late > 0) {
        change.disk = disk->number;
        uint32_t number = crash_tape_begin(disk->tape, change, NULL);
        discard_late(disk, offset, length, number);
        crash_tape_end(disk->tape, number);
        return 0;
    }
    if (rc == 0 && disk->random && random_once_in(disk->random, 4))
        return 0;
    return co_change(node, change, NULL, rc);
}

static int crash_co_flush(struct block_node *node)
{
    struct crash_disk *disk = node->state;
    int rc = begin_call(disk, CRASH_CALL_FLUSH);
    uint32_t number = 0;
    struct crash_change change = {.kind = rc == 0 ? CRASH_FLUSH : CRASH_FLUSH_FAILED,
                                  .disk = disk->number};
    if (disk->tape)
        number = crash_tape_begin(disk->tape, change, NULL);
    co_pause_somewhat(disk);
    co_pause_somewhat(disk);
    if (disk->tape)
        crash_tape_end(disk->tape, number);
    return rc;
}

static int crash_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err)
{
    struct crash_disk *disk = node->state;
    int rc = begin_call(disk, CRASH_CALL_SIZE);
    if (rc == 0 && size_bytes > disk->room_bytes)
        rc = -ENOSPC;
    if (rc < 0)
        return error_set(err, rc, "cannot resize '%s': %s", node->name, error_text(rc));
    uint32_t number = 0;
    struct crash_change change = {.kind = CRASH_SIZE, .disk = disk->number, .length = size_bytes};
    if (disk->tape)
        number = crash_tape_begin(disk->tape, change, NULL);
    co_pause_somewhat(disk);
    crash_disk_set_size(disk, size_bytes);
    atomic_store(&node->size_bytes, size_bytes);
    if (disk->tape) {
        crash_tape_effect(disk->tape, number);
        crash_tape_end(disk->tape, number);
    }
    return 0;
}

static int crash_co_keep(struct block_node *node, size_t length, bool only_look,
                         struct kept_memory **ret_kept, struct error *err)
{
    const struct crash_disk *disk = node->state;
    return crash_kept_give(disk->kept, length, only_look, ret_kept, err);
}

static bool always(struct block_node *node)
{
    (void)node;
    return true;
}

static const struct block_driver_admin crash_disk_admin = {
    .co_resize = crash_co_resize,
    .co_keep = crash_co_keep,
    .has_zero_init = always,
};

const struct block_driver crash_disk_driver = {
    .name = "crash",
    .flags = BLOCK_DRIVER_PROTOCOL | BLOCK_DRIVER_GROWS | BLOCK_DRIVER_FUA,
    .co_open = crash_co_open,
    .co_close = crash_co_close,
    .co_read = crash_co_read,
    .co_write = crash_co_write,
    .co_zero = crash_co_zero,
    .co_discard = crash_co_discard,
    .co_flush = crash_co_flush,
    .admin = &crash_disk_admin,
};

void crash_disk_set_options(struct crash_disk *disk, struct node_options *options,
                            const char *prefix)
{
    char path[64], value[32];
    snprintf(path, sizeof(path), "%sdriver", prefix);
    int rc = node_options_set(options, path, "crash", NULL);
    snprintf(path, sizeof(path), "%sdisk", prefix);
    snprintf(value, sizeof(value), "%" PRIxPTR, (uintptr_t)disk);
    if (rc == 0)
        rc = node_options_set(options, path, value, NULL);
    if (rc < 0)
        crash_die("no memory for options");
}
