/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The redo log as it is written. What makes it good after a kill is the order in which the stores
 * of one moment become visible to who maps the memory afterwards. The kernel lets every store that
 * was executed arrive, so it is the order of the instructions, and that of two threads is the
 * monitor's. publish() is where an order matters: nothing moves over it, in the compiler or (for
 * who reads while we live) in the processor.
 *
 * Each change of the header takes the log from one good state to another:
 * - tail grows: the record behind it is whole. Before that, its bytes lie outside of [head, tail).
 * - head grows: the changes before it are on the disk. Their bytes are written over only then.
 * - is_broken becomes true: before the change that has no room returns to who makes it, so nobody
 *   was told that it is done. It becomes false: all that is not on the disk is in [head, tail)
 *   again.
 * - a log that is broken is not read, so while it is, head and tail change in any order.
 */
#include "cache/redo_log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/align.h"
#include "common/clock.h"

_Static_assert(sizeof(struct redo_header) <= REDO_HEADER_BYTES, "a page");

static void publish(_Atomic uint64_t *field, uint64_t value)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(field, value, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
}

/* --- the memory ---------------------------------------------------------------------------------
 */

int redo_new(struct redo **ret_redo, void *memory, size_t memory_bytes)
{
    assert(memory_bytes >= REDO_MEMORY_BYTES_MIN && is_aligned(memory_bytes, REDO_ALIGNMENT));
    assert(is_aligned((uintptr_t)memory, REDO_HEADER_BYTES));
    struct redo *redo = calloc(1, sizeof(*redo));
    if (!redo)
        return -ENOMEM;
    redo->header = memory;
    redo->ring = (uint8_t *)memory + REDO_HEADER_BYTES;
    redo->memory_bytes = memory_bytes;
    redo->ring_bytes = memory_bytes - REDO_HEADER_BYTES;
    *ret_redo = redo;
    return 0;
}

void redo_free(struct redo *redo)
{
    free(redo);
}

enum redo_content redo_look(const struct redo *redo, const struct redo_identity *identity)
{
    const struct redo_header *header = redo->header;
    if (atomic_load(&header->magic) != REDO_MAGIC || header->memory_bytes != redo->memory_bytes)
        return REDO_FOREIGN;
    if (memcmp(&header->identity, identity, sizeof(*identity)) != 0)
        return REDO_FOREIGN;
    if (atomic_load(&header->is_broken))
        return REDO_BROKEN;
    return atomic_load(&header->head) == atomic_load(&header->tail) ? REDO_EMPTY : REDO_CHANGES;
}

/* Nobody's until the magic is there again. */
void redo_format(struct redo *redo, const struct redo_identity *identity)
{
    struct redo_header *header = redo->header;
    publish(&header->magic, 0);
    header->memory_bytes = redo->memory_bytes;
    header->identity = *identity;
    atomic_store(&header->is_broken, 0);
    atomic_store(&header->head, 0);
    atomic_store(&header->tail, 0);
    atomic_store(&header->heartbeat_ns, 0);
    atomic_store(&header->replay_ns, 0);
    publish(&header->magic, REDO_MAGIC);
    redo->is_broken = redo->is_dead = false;
    redo_replayed(redo, 0);
}

void redo_replayed(struct redo *redo, uint64_t tail)
{
    publish(&redo->header->head, tail);
    redo->head = redo->tail = tail;
    redo->tail_at = tail % redo->ring_bytes;
    redo->is_healing = redo->is_in_round = redo->is_round_wanted = redo->is_asking = false;
    redo->is_ready = true;
}

void redo_beat(struct redo *redo, uint64_t realtime_ns)
{
    atomic_store_explicit(&redo->header->heartbeat_ns, realtime_ns, memory_order_relaxed);
}

void redo_set_clock(struct redo *redo, struct clock *clock)
{
    redo->clock = clock;
}

/* The clock stands still for some ms at a time, so mostly nothing is written that other processors
 * would have to fetch again. */
void redo_beat_now(struct redo *redo)
{
    uint64_t now_ns = redo->clock ? redo->clock->now_ns(redo->clock) : 0;
    if (redo->clock && now_ns != redo_heartbeat_ns(redo))
        redo_beat(redo, now_ns);
}

uint64_t redo_heartbeat_ns(const struct redo *redo)
{
    return atomic_load_explicit(&redo->header->heartbeat_ns, memory_order_relaxed);
}

void redo_beat_replay(struct redo *redo)
{
    if (redo->clock)
        atomic_store(&redo->header->replay_ns, redo->clock->now_ns(redo->clock));
}

uint64_t redo_replay_ns(const struct redo *redo)
{
    return atomic_load(&redo->header->replay_ns);
}

/* --- records ------------------------------------------------------------------------------------
 */

static void break_log(struct redo *redo)
{
    if (!redo->is_broken)
        publish(&redo->header->is_broken, 1);
    redo->is_broken = true;
    redo->is_healing = false;
    redo->is_round_wanted = !redo->is_dead;
    redo->breaks++;
}

void redo_break_for_good(struct redo *redo)
{
    redo->is_dead = true;
    break_log(redo);
}

static struct redo_record *at_tail(struct redo *redo)
{
    return (struct redo_record *)(void *)(redo->ring + redo->tail_at);
}

/* What is left of the ring becomes a pad; head and tail in memory do not know of it yet. */
static void pad(struct redo *redo, uint64_t left)
{
    *at_tail(redo) = (struct redo_record){
        .type = REDO_PAD,
        .length = (uint32_t)(left - sizeof(struct redo_record)),
    };
    redo->tail += left;
    redo->tail_at = 0;
}

/* Where a record of so many bytes goes. NULL: there is no room, or what came before is missing, so
 * that this one is of no use. */
static struct redo_record *reserve(struct redo *redo, uint64_t bytes)
{
    if (redo->is_broken && !redo->is_healing)
        return NULL;
    uint64_t left = redo->ring_bytes - redo->tail_at;
    uint64_t skipped = left < bytes ? left : 0;
    if (redo->tail - redo->head + skipped + bytes > redo->ring_bytes) {
        break_log(redo);
        return NULL;
    }
    if (skipped > 0)
        pad(redo, skipped);
    return at_tail(redo);
}

/* At half full a round is to be made; asked for once, until one has succeeded. */
static void ask_for_room(struct redo *redo)
{
    if (redo->is_asking || redo->tail - redo->head < redo->ring_bytes / 2)
        return;
    redo->is_asking = redo->is_round_wanted = true;
}

/* The record is whole. */
static void append(struct redo *redo, uint64_t bytes)
{
    redo->tail += bytes;
    redo->tail_at += bytes;
    if (redo->tail_at == redo->ring_bytes)
        redo->tail_at = 0;
    redo->records++;
    publish(&redo->header->tail, redo->tail);
    ask_for_room(redo);
}

/* `payload` bytes behind it; NULL and 0: none. */
static void add(struct redo *redo, const struct redo_record *record, const void *payload,
                size_t payload_bytes)
{
    uint64_t bytes = sizeof(*record) + align_up(payload_bytes, REDO_ALIGNMENT);
    struct redo_record *to = reserve(redo, bytes);
    if (!to)
        return;
    *to = *record;
    if (payload_bytes > 0)
        memcpy(to + 1, payload, payload_bytes);
    append(redo, bytes);
}

void redo_store(struct redo *redo, unsigned kind, uint64_t node_offset, const void *bytes,
                size_t length)
{
    struct redo_record record = {
        .length = (uint32_t)length,
        .type = REDO_STORE,
        .index = (uint8_t)kind,
        .node_offset = node_offset,
    };
    add(redo, &record, bytes, length);
}

void redo_zero(struct redo *redo, unsigned kind, uint64_t node_offset, size_t length)
{
    struct redo_record record = {
        .length = (uint32_t)length,
        .type = REDO_ZERO,
        .index = (uint8_t)kind,
        .node_offset = node_offset,
    };
    add(redo, &record, NULL, 0);
}

void redo_forget(struct redo *redo, unsigned node_index, uint64_t node_offset, uint64_t length)
{
    struct redo_record record = {
        .length = sizeof(length),
        .type = REDO_FORGET,
        .index = (uint8_t)node_index,
        .node_offset = node_offset,
    };
    if (redo->head != redo->tail)
        add(redo, &record, &length, sizeof(length));
}

/* --- rounds -------------------------------------------------------------------------------------
 */

void redo_attached(struct redo *redo, bool is_dirty)
{
    assert(redo->is_ready && redo->head == redo->tail);
    redo->is_in_round = false;
    if (is_dirty)
        break_log(redo);
}

void redo_round_begins(struct redo *redo)
{
    if (redo->is_broken && !redo->is_dead) {
        redo->head = redo->tail;
        publish(&redo->header->head, redo->head);
        redo->is_healing = true;
        redo->is_asking = false;
    }
    redo->is_in_round = true;
    redo->round_tail = redo->tail;
}

/* What it copied is on the disk. */
static void trim(struct redo *redo)
{
    redo->head = redo->round_tail;
    publish(&redo->header->head, redo->head);
    if (redo->is_healing) {
        publish(&redo->header->is_broken, 0);
        redo->is_broken = redo->is_healing = false;
    }
    redo->is_asking = false;
    ask_for_room(redo);
}

/* A round that failed leaves what it copied dirty, and a log that had begun with it is not whole.
 */
void redo_round_ended(struct redo *redo, int rc)
{
    if (!redo->is_in_round)
        return;
    redo->is_in_round = false;
    if (rc == 0)
        trim(redo);
    else
        redo->is_healing = false;
}

bool redo_has_work(const struct redo *redo)
{
    if (redo->is_broken)
        return !redo->is_dead && !redo->is_healing;
    return redo->tail != (redo->is_in_round ? redo->round_tail : redo->head);
}

bool redo_take_wanted(struct redo *redo)
{
    bool is_wanted = redo->is_round_wanted;
    redo->is_round_wanted = false;
    return is_wanted;
}

void redo_counters(const struct redo *redo, struct redo_counters *ret_counters)
{
    *ret_counters = (struct redo_counters){
        .records = redo->records, .breaks = redo->breaks, .live_bytes = redo->tail - redo->head};
}
