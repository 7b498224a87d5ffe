/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_REPLAY_RANDOM_TRACE_H
#define TESTS_REPLAY_RANDOM_TRACE_H

#include <stdbool.h>
#include <stdint.h>

/* Prints a trace that follows from the seed. has_crashes: with crashes at any moment, which may
 * lose what was not flushed. Returns 0, an exit status. */
int random_trace_print(uint64_t seed, bool has_crashes);

#endif
