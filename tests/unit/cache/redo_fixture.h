/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_CACHE_REDO_FIXTURE_H
#define TESTS_UNIT_CACHE_REDO_FIXTURE_H

/* A small redo log in memory that a test owns. */

#include <stdlib.h>
#include <string.h>

#include "cache/redo_log.h"

#define LOG_BYTES REDO_MEMORY_BYTES_MIN
#define RING_BYTES (LOG_BYTES - REDO_HEADER_BYTES)

static const struct redo_identity log_identity = {.bytes = "mine"};

static inline void *new_log_memory(void)
{
    void *memory = aligned_alloc(REDO_HEADER_BYTES, LOG_BYTES);
    assert_non_null(memory);
    memset(memory, 0, LOG_BYTES);
    return memory;
}

static inline struct redo *new_log(void *memory)
{
    struct redo *redo;
    assert_int_equal(redo_new(&redo, memory, LOG_BYTES), 0);
    return redo;
}

static inline enum redo_content log_content(const struct redo *redo)
{
    return redo_look(redo, &log_identity);
}

static inline struct redo_counters log_counters(const struct redo *redo)
{
    struct redo_counters counters;
    redo_counters(redo, &counters);
    return counters;
}

/* The record at that place of the ring. */
static inline struct redo_record *record_at(void *memory, uint64_t at)
{
    return (struct redo_record *)(void *)((uint8_t *)memory + REDO_HEADER_BYTES + at);
}

#endif
