/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A redo log is written to the tables: redo.h says in which order, and why it may be cut.
 *
 *     read the records -> leave out what was forgotten -> flush the nodes
 *     -> each class: each window of the node: read, change, write; flush -> the log is empty
 *
 * A *change* is what one record, or a part of it, does inside one *window* of a node. The node is
 * read and written in whole blocks of 512 bytes, those that a change touches, since smaller pieces
 * are made of such by the node itself; the bytes beside the change stay as they are.
 *
 * The records come from outside: every number is looked at before anything is written. Their bytes
 * are anything.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "block/buffer.h"
#include "block/driver.h"
#include "block/env.h"
#include "cache/table.h"
#include "common/align.h"
#include "common/checked.h"

#define BLOCK_BYTES 512
#define WINDOW_BYTES CACHE_TABLE_BYTES_MAX /* a record is in two of them at most */
#define WINDOW_BLOCKS (WINDOW_BYTES / BLOCK_BYTES)

struct change {
    uint64_t node_offset, number; /* of the record, from 0 */
    const uint8_t *bytes;         /* in the ring; NULL: zeroes */
    uint32_t length;
    uint8_t class_index, node_index;
    bool is_void;
};

struct forgotten {
    uint64_t node_offset, length, number;
    unsigned node_index;
};

struct replay {
    struct redo *redo;
    struct cache *cache;
    uint64_t end_limit_bytes;
    uint64_t head, tail; /* as the header had them once */
    uint64_t records;
    struct change *changes;
    size_t change_count, change_max;
    struct forgotten *forgotten;
    size_t forgotten_count, forgotten_max;
};

/* --- the records --------------------------------------------------------------------------------
 */

static int refuse(struct error *err, uint64_t at, const char *what)
{
    return error_set(err, -EBADMSG,
                     "the redo log makes no sense at byte %" PRIu64
                     ", where it has %s; it is not used",
                     at, what);
}

/* NULL: it is in the place. */
static const char *fault_of_place(const struct replay *replay, const struct redo_record *record)
{
    const struct cache *cache = replay->cache;
    if (record->index >= cache->kind_count)
        return "a kind of tables that there is not";
    const struct cache_kind_config *config = &cache->kinds[record->index].config;
    const struct block_node *node = cache->nodes[config->node_index].node;
    uint64_t limit = replay->end_limit_bytes;
    if (!(node->driver->flags & BLOCK_DRIVER_GROWS))
        limit = smaller(limit, atomic_load(&node->size_bytes));
    if (config->end > 0)
        limit = smaller(limit, config->end);
    if (!range_is_inside(record->node_offset, record->length, limit))
        return "a place beyond the end";
    if (record->length == 0 || record->node_offset < config->base)
        return "a place that is in no table";
    uint64_t from = (record->node_offset - config->base) & (config->table_bytes - 1);
    return range_is_inside(from, record->length, config->table_bytes)
               ? NULL
               : "a place that is in two tables";
}

static void add_change(struct replay *replay, const struct redo_record *record,
                       const uint8_t *payload)
{
    const struct cache_kind_config *config = &replay->cache->kinds[record->index].config;
    for (uint32_t done = 0, piece; done < record->length; done += piece) {
        uint64_t node_offset = record->node_offset + done;
        uint64_t left = WINDOW_BYTES - node_offset % WINDOW_BYTES;
        piece = (uint32_t)smaller(left, record->length - done);
        assert(replay->change_count < replay->change_max);
        replay->changes[replay->change_count++] = (struct change){
            .node_offset = node_offset,
            .number = replay->records,
            .bytes = payload ? payload + done : NULL,
            .length = piece,
            .class_index = (uint8_t)config->class_index,
            .node_index = (uint8_t)config->node_index,
        };
    }
}

static const char *take_forgotten(struct replay *replay, const struct redo_record *record,
                                  const uint8_t *payload)
{
    struct forgotten forgotten = {
        .node_offset = record->node_offset,
        .number = replay->records,
        .node_index = record->index,
    };
    if (record->length != sizeof(forgotten.length))
        return "a length of another length";
    memcpy(&forgotten.length, payload, sizeof(forgotten.length));
    if (record->index >= replay->cache->node_count)
        return "a node that there is not";
    if (!range_is_inside(forgotten.node_offset, forgotten.length, UINT64_MAX))
        return "a range beyond all numbers";
    assert(replay->forgotten_count < replay->forgotten_max);
    replay->forgotten[replay->forgotten_count++] = forgotten;
    return NULL;
}

/* *ret_bytes is how long it is, what follows it too. */
static const char *take_record(struct replay *replay, uint64_t position, uint64_t *ret_bytes)
{
    const struct redo *redo = replay->redo;
    uint64_t at = position % redo->ring_bytes, bytes;
    const uint8_t *from = redo->ring + at, *payload = from + sizeof(struct redo_record);
    struct redo_record record;
    memcpy(&record, from, sizeof(record));
    bytes = sizeof(record);
    if (record.type != REDO_ZERO)
        bytes += align_up(record.length, REDO_ALIGNMENT);
    if (bytes > redo->ring_bytes - at || bytes > replay->tail - position)
        return "a record that does not end";
    if (record.reserved != 0)
        return "no record";
    *ret_bytes = bytes;
    switch (record.type) {
    case REDO_STORE:
    case REDO_ZERO: {
        const char *fault = fault_of_place(replay, &record);
        if (!fault)
            add_change(replay, &record, record.type == REDO_STORE ? payload : NULL);
        return fault;
    }
    case REDO_FORGET:
        return take_forgotten(replay, &record, payload);
    case REDO_PAD:
        return at + bytes == redo->ring_bytes ? NULL : "a pad that does not end the ring";
    default:
        return "no record";
    }
}

static int take_records(struct replay *replay, struct error *err)
{
    uint64_t bytes;
    for (uint64_t position = replay->head; position != replay->tail; position += bytes) {
        const char *fault = take_record(replay, position, &bytes);
        if (fault)
            return refuse(err, position, fault);
        replay->records++;
    }
    return 0;
}

static int check_ends(struct replay *replay, struct error *err)
{
    const struct redo_header *header = replay->redo->header;
    replay->head = atomic_load(&header->head);
    replay->tail = atomic_load(&header->tail);
    if (replay->head > replay->tail || replay->tail - replay->head > replay->redo->ring_bytes ||
        !is_aligned(replay->head, REDO_ALIGNMENT) || !is_aligned(replay->tail, REDO_ALIGNMENT))
        return refuse(err, replay->head, "ends that cannot be");
    return 0;
}

/* --- what was forgotten -------------------------------------------------------------------------
 */

static int compare(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

/* Class by class, in each the windows of each node, in each as they were made. */
static int compare_changes(const void *a, const void *b)
{
    const struct change *one = a, *two = b;
    if (one->class_index != two->class_index)
        return compare(one->class_index, two->class_index);
    if (one->node_index != two->node_index)
        return compare(one->node_index, two->node_index);
    if (one->node_offset / WINDOW_BYTES != two->node_offset / WINDOW_BYTES)
        return compare(one->node_offset / WINDOW_BYTES, two->node_offset / WINDOW_BYTES);
    return compare(one->number, two->number);
}

/* Those of one window are [begin, the end). */
static size_t end_of_window(const struct replay *replay, size_t begin)
{
    const struct change *changes = replay->changes;
    size_t end = begin + 1;
    while (end < replay->change_count && changes[end].class_index == changes[begin].class_index &&
           changes[end].node_index == changes[begin].node_index &&
           changes[end].node_offset / WINDOW_BYTES == changes[begin].node_offset / WINDOW_BYTES)
        end++;
    return end;
}

static const char *leave_out_of_window(struct change *changes, size_t count,
                                       const struct forgotten *forgotten)
{
    for (size_t i = 0; i < count && changes[i].number < forgotten->number; i++) {
        struct change *change = &changes[i];
        if (change->is_void || !ranges_overlap(change->node_offset, change->length,
                                               forgotten->node_offset, forgotten->length))
            continue;
        if (change->node_offset < forgotten->node_offset ||
            change->node_offset + change->length > forgotten->node_offset + forgotten->length)
            return "a change that was forgotten in part";
        change->is_void = true;
    }
    return NULL;
}

static int leave_out_forgotten(struct replay *replay, struct error *err)
{
    const char *fault = NULL;
    for (size_t begin = 0, end; begin < replay->change_count; begin = end) {
        struct change *changes = &replay->changes[begin];
        uint64_t window = align_down(changes->node_offset, WINDOW_BYTES);
        end = end_of_window(replay, begin);
        for (size_t i = 0; i < replay->forgotten_count && !fault; i++) {
            const struct forgotten *forgotten = &replay->forgotten[i];
            if (forgotten->node_index == changes->node_index &&
                ranges_overlap(window, WINDOW_BYTES, forgotten->node_offset, forgotten->length))
                fault = leave_out_of_window(changes, end - begin, forgotten);
        }
    }
    return fault ? refuse(err, replay->head, fault) : 0;
}

/* --- writing ------------------------------------------------------------------------------------
 */

struct window {
    struct block_node *node;
    uint64_t node_offset;
    uint64_t end; /* of what is changed */
    uint8_t *bytes;
    bool is_touched[WINDOW_BLOCKS];
};

static void touch(struct window *window, const struct change *change)
{
    uint64_t from = change->node_offset - window->node_offset;
    uint64_t last = from + change->length - 1;
    memset(&window->is_touched[from / BLOCK_BYTES], 1, last / BLOCK_BYTES - from / BLOCK_BYTES + 1);
    if (change->node_offset + change->length > window->end)
        window->end = change->node_offset + change->length;
}

static void apply(struct window *window, const struct change *change)
{
    uint8_t *to = window->bytes + (change->node_offset - window->node_offset);
    if (change->bytes)
        memcpy(to, change->bytes, change->length);
    else
        memset(to, 0, change->length);
}

/* The node does not become longer than the tables are. */
static int co_move_blocks(const struct window *window, size_t first, size_t end, bool is_write)
{
    struct iovec iov;
    uint64_t from = window->node_offset + first * BLOCK_BYTES;
    uint64_t to = window->node_offset + end * BLOCK_BYTES;
    uint64_t size = atomic_load(&window->node->size_bytes);
    if (is_write && to > size)
        to = smaller(to, size > window->end ? size : window->end);
    struct block_vec vec =
        vec_of_buffer(&iov, window->bytes + first * BLOCK_BYTES, (size_t)(to - from));
    return is_write ? node_co_write(window->node, from, &vec, 0)
                    : node_co_read(window->node, from, &vec);
}

static int co_move_window(const struct window *window, bool is_write)
{
    int rc = 0;
    for (size_t first = 0, end; first < WINDOW_BLOCKS && rc == 0; first = end + 1) {
        end = first;
        while (end < WINDOW_BLOCKS && window->is_touched[end])
            end++;
        if (end > first)
            rc = co_move_blocks(window, first, end, is_write);
    }
    return rc;
}

/* Changes of one window. */
static int co_write_window(struct window *window, const struct change *changes, size_t count)
{
    window->node_offset = align_down(changes->node_offset, WINDOW_BYTES);
    window->end = 0;
    memset(window->is_touched, 0, sizeof(window->is_touched));
    for (size_t i = 0; i < count; i++) {
        if (!changes[i].is_void)
            touch(window, &changes[i]);
    }
    int rc = co_move_window(window, false);
    for (size_t i = 0; i < count && rc == 0; i++) {
        if (!changes[i].is_void)
            apply(window, &changes[i]);
    }
    return rc == 0 ? co_move_window(window, true) : rc;
}

/* A flush that fails may have lost what the tables would point to, and the next one succeeds, so
 * there is no next time. */
static int co_flush_nodes(struct replay *replay)
{
    struct cache *cache = replay->cache;
    int rc = 0;
    for (unsigned i = 0; i < cache->node_count && rc == 0; i++)
        rc = node_co_flush(cache->nodes[i].node);
    if (rc < 0)
        redo_break_for_good(replay->redo);
    return rc;
}

/* In front of the first class, between two, and behind the last one, the nodes are flushed; one
 * that nothing was written to meanwhile costs nothing. */
static int co_write_all(struct replay *replay, struct window *window)
{
    unsigned class_index = CACHE_CLASSES_MAX;
    int rc = 0;
    for (size_t begin = 0, end; begin < replay->change_count && rc == 0; begin = end) {
        const struct change *changes = &replay->changes[begin];
        end = end_of_window(replay, begin);
        window->node = replay->cache->nodes[changes->node_index].node;
        if (changes->class_index != class_index)
            rc = co_flush_nodes(replay);
        class_index = changes->class_index;
        redo_beat_replay(replay->redo);
        if (rc == 0)
            rc = co_write_window(window, changes, end - begin);
    }
    return rc == 0 ? co_flush_nodes(replay) : rc;
}

static int co_write(struct replay *replay, struct error *err)
{
    struct cache *cache = replay->cache;
    struct buffer_pool *pool = &block_env_local(cache->env)->buffers;
    struct window *window = malloc(sizeof(*window));
    uint8_t *bytes = buffer_get(pool, WINDOW_BYTES);
    int rc = -ENOMEM;
    if (window && bytes) {
        window->bytes = bytes;
        rc = co_write_all(replay, window);
    }
    buffer_put(pool, bytes, WINDOW_BYTES);
    free(window);
    if (rc < 0)
        error_set(err, rc, "the redo log's changes cannot be written to the tables of '%s': %s",
                  cache->nodes[0].node->name, error_text(rc));
    return rc;
}

/* --- all of it ----------------------------------------------------------------------------------
 */

/* As many as there can be; what no record is found for is never touched. */
static int make_room(struct replay *replay, struct error *err)
{
    size_t records = (size_t)(replay->tail - replay->head) / sizeof(struct redo_record);
    replay->change_max = 2 * records;
    replay->forgotten_max = records / 2; /* each has a length with it */
    replay->changes = malloc((replay->change_max + 1) * sizeof(*replay->changes));
    replay->forgotten = malloc((replay->forgotten_max + 1) * sizeof(*replay->forgotten));
    if (replay->changes && replay->forgotten)
        return 0;
    return error_set(err, -ENOMEM, "no memory to look through a redo log of %zu bytes",
                     (size_t)(replay->tail - replay->head));
}

static int prepare(struct replay *replay, struct error *err)
{
    int rc = check_ends(replay, err);
    if (rc == 0)
        rc = make_room(replay, err);
    if (rc == 0)
        rc = take_records(replay, err);
    if (rc < 0)
        return rc;
    qsort(replay->changes, replay->change_count, sizeof(*replay->changes), compare_changes);
    return leave_out_forgotten(replay, err);
}

static uint64_t count_changes(const struct replay *replay)
{
    uint64_t count = 0;
    for (size_t i = 0; i < replay->change_count; i++)
        count += !replay->changes[i].is_void;
    return count;
}

int redo_co_replay(struct redo *redo, struct cache *cache, uint64_t end_limit_bytes,
                   uint64_t *ret_count, struct error *err)
{
    struct replay replay = {.redo = redo, .cache = cache, .end_limit_bytes = end_limit_bytes};
    pthread_mutex_lock(cache->monitor);
    assert(!cache_is_dirty(cache));
    pthread_mutex_unlock(cache->monitor);
    int rc = prepare(&replay, err);
    if (rc == 0) {
        rc = co_write(&replay, err);
        cache_invalidate(cache);
    }
    if (rc == 0) {
        *ret_count = count_changes(&replay);
        pthread_mutex_lock(cache->monitor);
        redo_replayed(redo, replay.tail);
        pthread_mutex_unlock(cache->monitor);
    }
    free(replay.changes);
    free(replay.forgotten);
    return rc;
}
