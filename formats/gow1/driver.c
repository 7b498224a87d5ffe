/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The format "gow1" ("grow on write"): blocks of 64 KiB of a disk of up to 64 GiB, in the order in
 * which they were first written, and one flat map of where they are. docs/formats/gow1.md says what
 * is known of it and what is our choice.
 *
 * Pure: layout.h (the numbers), header, survey (a whole map), blocks (which ones can be given).
 * Operations: open, writer (an image's begin and end as one that is written), map (a range of the
 * disk is looked up), read, status, write, zero; rewrite (the map past the cache) and what stands
 * on it: check, repair, resize; create, reopen. image.h is what they share. A read and a first
 * write go
 *
 *     read -> map -> cache -> read -> the file
 *     write -> map, cache -> write -> blocks -> the file -> cache
 */
#include "formats/gow1/driver.h"

#include "formats/gow1/image.h"

static bool gow1_has_zero_init(struct block_node *node)
{
    (void)node;
    return true; /* whatever the file is made of, free blocks read as zeroes */
}

/* The points that tests can hook: see node_co_event() in block/driver.h. */
static const char *const gow1_events[] = {"read_aio", "write_aio", "cluster_alloc", "l2_update",
                                          NULL};

static const struct block_driver_admin gow1_admin = {
    .events = gow1_events,
    .co_create = gow1_co_create,
    .co_resize = gow1_co_resize,
    .co_check = gow1_co_check,
    .co_reopen_prepare = gow1_co_reopen_prepare,
    .co_reopen_commit = gow1_co_reopen_commit,
    .co_reopen_abort = gow1_co_reopen_abort,
    .co_inactivate = gow1_co_inactivate,
    .co_invalidate = gow1_co_invalidate,
    .has_zero_init = gow1_has_zero_init,
    .tell_numbers = gow1_tell_numbers,
};

const struct block_driver format_gow1 = {
    .name = "gow1",
    .probe = gow1_probe,
    .co_open = gow1_co_open,
    .co_close = gow1_co_close,
    .co_read = gow1_co_read,
    .co_write = gow1_co_write,
    .co_zero = gow1_co_zero,
    .co_discard = gow1_co_discard,
    .co_flush = gow1_co_flush,
    .co_cache = gow1_co_cache,
    .co_status = gow1_co_status,
    .status_remembered = gow1_status_remembered,
    .lend = gow1_lend,
    .admin = &gow1_admin,
};
