/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_SLEEP_H
#define BLOCK_SLEEP_H

#include <stdint.h>

/* Waits for at least this long, by a timer of the coroutine's own loop; 0 does not wait. */
void sleep_co_ns(uint64_t duration_ns);

#endif
