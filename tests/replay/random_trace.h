/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_REPLAY_RANDOM_TRACE_H
#define TESTS_REPLAY_RANDOM_TRACE_H

#include <stdint.h>

enum random_kind {
    RANDOM_APART,   /* requests in flight do not touch the same sectors; crashes lose nothing */
    RANDOM_CRASHES, /* the same, with crashes at any moment, which may lose what was not flushed */
    RANDOM_OVERLAP, /* they do; no crashes, and a small disk */
    RANDOM_IDE,     /* the same for an IDE disk: no zeroes, some by programmed I/O */
};

/* Prints a trace that follows from the seed. Returns 0, an exit status. */
int random_trace_print(uint64_t seed, enum random_kind kind);

#endif
