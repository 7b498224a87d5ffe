/* SPDX-License-Identifier: BSD-3-Clause */
/* Raw images, which have nothing to be checked: what is written is there, where it was written. */
#include <string.h>

#include "formats/raw.h"
#include "tests/crash/crash.h"

static const struct crash_shape shapes[] = {
    {.name = "plain", .disk_bytes = 96 << 10, .unit_bytes = 4096},
    {.name = "odd", .disk_bytes = (40 << 10) + 77, .unit_bytes = 512},
    {.name = NULL},
};

static void make(const struct crash_shape *shape, const char *folder,
                 struct crash_content contents[CRASH_ROLES])
{
    (void)folder;
    contents[CRASH_FILE] = (struct crash_content){.bytes = crash_alloc(shape->disk_bytes),
                                                  .length = shape->disk_bytes};
    memset(contents[CRASH_FILE].bytes, 0x5a, shape->disk_bytes / 2);
}

static bool always(const struct crash_shape *shape)
{
    (void)shape;
    return true;
}

const struct crash_format crash_raw = {
    .name = "raw",
    .driver = &format_raw,
    .outlives_kill = always,
    .shapes = shapes,
    .make = make,
    .prefixes = {[CRASH_FILE] = "file."},
};
