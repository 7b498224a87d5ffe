/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/parts.h"

#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "block/coroutine.h"
#include "common/align.h"

struct slot {
    struct parts *parts;
    bool is_used;
    max_align_t part[]; /* the caller's */
};

struct parts {
    parts_run *co_run;
    size_t part_bytes, slot_bytes;
    unsigned running;
    int ret;                  /* of the first that failed */
    struct coroutine *waiter; /* NULL: nobody waits for one to end */
    max_align_t slots[];      /* PARTS_AT_ONCE of slot_bytes */
};

struct parts *parts_new(size_t part_bytes, parts_run *co_run)
{
    size_t slot_bytes = align_up(sizeof(struct slot) + part_bytes, alignof(max_align_t));
    struct parts *parts = calloc(1, sizeof(*parts) + PARTS_AT_ONCE * slot_bytes);
    if (!parts)
        return NULL;
    parts->co_run = co_run;
    parts->part_bytes = part_bytes;
    parts->slot_bytes = slot_bytes;
    return parts;
}

static void slot_entry(void *arg)
{
    struct slot *slot = arg;
    struct parts *parts = slot->parts;
    int ret = parts->co_run(slot->part);
    if (ret < 0 && parts->ret == 0)
        parts->ret = ret;
    slot->is_used = false;
    parts->running--;
    if (parts->waiter) {
        struct coroutine *waiter = parts->waiter;
        parts->waiter = NULL;
        coroutine_wake(waiter);
    }
}

static void co_wait_until(struct parts *parts, unsigned running_max)
{
    while (parts->running > running_max) {
        parts->waiter = coroutine_self();
        coroutine_yield();
    }
}

static struct slot *slot_at(struct parts *parts, unsigned index)
{
    return (struct slot *)(void *)((char *)parts->slots + index * parts->slot_bytes);
}

static struct slot *co_take_slot(struct parts *parts)
{
    unsigned i = 0;
    co_wait_until(parts, PARTS_AT_ONCE - 1);
    while (slot_at(parts, i)->is_used)
        i++;
    struct slot *slot = slot_at(parts, i);
    slot->parts = parts;
    slot->is_used = true;
    parts->running++;
    return slot;
}

void parts_co_start(struct parts *parts, const void *part)
{
    struct slot *slot = co_take_slot(parts);
    memcpy(slot->part, part, parts->part_bytes);
    if (coroutine_start(coroutine_loop(coroutine_self()), slot_entry, slot) < 0)
        slot_entry(slot); /* one after the other, then */
}

bool parts_failed(const struct parts *parts)
{
    return parts->ret < 0;
}

int parts_co_end(struct parts *parts)
{
    co_wait_until(parts, 0);
    int ret = parts->ret;
    free(parts);
    return ret;
}
