/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_BOUNDS_MEASURE_H
#define TESTS_BOUNDS_MEASURE_H

/*
 * What a server costs, seen from outside, and a good client that must stay quick meanwhile.
 *
 * A sanitizer shadows each byte and keeps freed ones, so under one memory figures say nothing of
 * the server: measure_memory() is then false and the tests leave them out, with a line that says
 * so.
 */

#include <stdbool.h>
#include <stdint.h>

#include "tests/integration/fixture.h"
#include "tests/integration/raw_client.h"

/* Whether memory figures mean anything; says once when they do not. */
bool measure_memory(const struct server *server);
unsigned long measure_resident_kib(const struct server *server);
/* The most that was ever resident. */
unsigned long measure_peak_kib(const struct server *server);
unsigned measure_descriptors(const struct server *server);
/* Processor time of all threads so far. */
uint64_t measure_cpu_ms(const struct server *server);
uint64_t measure_now_ms(void);

/* Waits up to 20 s until no more descriptors are open than `count`; returns how many are. */
unsigned measure_wait_descriptors(const struct server *server, unsigned count);

/* Sleeps. */
void measure_pause_ms(unsigned ms);

/* Lets this process have as many descriptors as it may; returns how many. */
unsigned measure_raise_descriptors(void);

/* A good client: connected, structured replies negotiated. */
struct raw_client measure_open(const struct server *server);
/* The same, after reads and a flush on every loop: what a loop opens and keeps at first use is
 * there. */
struct raw_client measure_open_warm(const struct server *server);
/* Of count values, which it sorts. */
uint64_t measure_median(uint64_t *values, unsigned count);
/* Median of 41 reads of 4 KiB one after the other, in microseconds; each must succeed. */
uint64_t measure_read_us(const struct raw_client *client);
/* What the median may be: ten times the 5 ms aimed at. */
#define MEASURE_QUICK_US 50000

#endif
