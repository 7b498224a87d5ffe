/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_ENGINE_H
#define TESTS_HARNESS_SIM_ENGINE_H

/*
 * An AIO engine whose operations take effect at a moment drawn from the seed, between being queued
 * and being told done, in any order. What two operations in flight do to the same bytes is up to
 * chance, as it is in the kernel. The calls themselves are those of host_files.
 */

#include "block/engine.h"

extern const struct engine_ops engine_sim; /* "sim" */

#endif
