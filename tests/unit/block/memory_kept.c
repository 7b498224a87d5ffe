/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/block/memory_kept.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/list.h"

#define PAGE_BYTES 4096

static uint64_t now_ns(struct clock *clock)
{
    return container_of(clock, struct memory_kept, clock)->now_ns;
}

void memory_kept_init(struct memory_kept *memory)
{
    *memory = (struct memory_kept){.clock = {.now_ns = now_ns}};
}

void memory_kept_fini(struct memory_kept *memory)
{
    assert(!memory->is_open);
    free(memory->bytes);
}

static void co_close(struct kept_memory *kept, bool is_done)
{
    struct memory_kept *memory = container_of(kept, struct memory_kept, kept);
    assert(memory->is_open);
    memory->is_open = false;
    if (!is_done)
        return;
    free(memory->bytes);
    memory->bytes = NULL;
}

/* False: a test wants that there is no memory. */
static bool make(struct memory_kept *memory, size_t length)
{
    assert(length % PAGE_BYTES == 0);
    memory->bytes = aligned_alloc(PAGE_BYTES, length);
    if (!memory->bytes)
        return false;
    memset(memory->bytes, 0, length);
    memory->kept.length = length;
    return true;
}

int memory_kept_open(struct memory_kept *memory, size_t length, bool only_look,
                     struct kept_memory **ret_kept, struct error *err)
{
    if (!memory->is_there)
        return error_set(err, -ENOTSUP, "this disk has no memory that stays");
    if (memory->is_open)
        return error_set(err, -EBUSY, "somebody has it");
    if (only_look && !memory->bytes)
        return error_set(err, -ENOENT, "nobody has left anything");
    bool is_found = memory->bytes;
    if (!is_found && !make(memory, length))
        return error_set(err, -ENOMEM, "no memory that stays is left");
    assert(memory->kept.length == length);
    memory->is_open = true;
    memory->kept = (struct kept_memory){
        .base = memory->bytes,
        .length = length,
        .is_found = is_found,
        .file_changed_ns = memory->file_changed_ns,
        .clock = &memory->clock,
        .co_close = co_close,
    };
    *ret_kept = &memory->kept;
    return 0;
}

void *memory_kept_save(const struct memory_kept *memory)
{
    void *copy = malloc(memory->kept.length);
    assert(copy && memory->bytes);
    return memcpy(copy, memory->bytes, memory->kept.length);
}

void memory_kept_put_back(struct memory_kept *memory, const void *bytes, size_t length)
{
    assert(!memory->is_open);
    free(memory->bytes);
    bool is_made = make(memory, length);
    assert(is_made);
    (void)is_made;
    memcpy(memory->bytes, bytes, length);
}
