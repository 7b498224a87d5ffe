/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/list.h"

#define EVENTS_MAX 4000000

static uint64_t sim_clock_now_ns(struct clock *clock)
{
    return container_of(clock, struct sim, clock)->now_ns;
}

void sim_init(struct sim *sim, uint64_t seed, bool is_traced)
{
    memset(sim, 0, sizeof(*sim));
    sim->clock.now_ns = sim_clock_now_ns;
    sim->seed = seed;
    sim->is_traced = is_traced;
    sim->now_ns = NS_PER_S; /* a clock that starts at 0 would hide a "never" spelled 0 */
    sim->events_max = EVENTS_MAX;
}

void sim_fini(struct sim *sim)
{
    free(sim->heap);
    sim->heap = NULL;
}

/* FNV-1a: names are short. */
static uint64_t hash_name(const char *name)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *name; name++)
        hash = (hash ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9fb21c651e98df25);
    return hash ^ (hash >> 32);
}

struct random sim_random(const struct sim *sim, const char *part, uint64_t number)
{
    struct random random;
    random_seed(&random, mix(mix(mix(sim->seed, 1 + sim->life), hash_name(part)), number));
    random_u64(&random);
    return random;
}

/* --- the queue ------------------------------------------------------------------------------- */

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->sequence < b->sequence);
}

static void heap_put(struct sim *sim, size_t index, struct sim_event *event)
{
    sim->heap[index] = event;
    event->index = index;
}

static void heap_up(struct sim *sim, struct sim_event *event)
{
    size_t index = event->index;
    for (; index > 1 && is_before(event, sim->heap[index / 2]); index /= 2)
        heap_put(sim, index, sim->heap[index / 2]);
    heap_put(sim, index, event);
}

static void heap_down(struct sim *sim, struct sim_event *event)
{
    size_t index = event->index;
    while (index * 2 <= sim->heap_count) {
        size_t child = index * 2;
        if (child < sim->heap_count && is_before(sim->heap[child + 1], sim->heap[child]))
            child++;
        if (!is_before(sim->heap[child], event))
            break;
        heap_put(sim, index, sim->heap[child]);
        index = child;
    }
    heap_put(sim, index, event);
}

void event_init(struct sim_event *event, struct sim *sim, void (*run)(struct sim_event *event))
{
    *event = (struct sim_event){.run = run, .sim = sim};
}

void event_clear(struct sim_event *event)
{
    struct sim *sim = event->sim;
    if (!event_is_set(event))
        return;
    struct sim_event *last = sim->heap[sim->heap_count--];
    if (last != event) {
        heap_put(sim, event->index, last);
        heap_up(sim, last);
        heap_down(sim, last);
    }
    event->index = 0;
}

void event_set(struct sim_event *event, uint64_t delay_ns)
{
    struct sim *sim = event->sim;
    event_clear(event);
    event->due_ns = sim->now_ns + delay_ns;
    event->sequence = sim->sequence++;
    if (sim->heap_count + 1 >= sim->heap_room) {
        sim->heap_room = sim->heap_room ? sim->heap_room * 2 : 64;
        sim->heap = realloc(sim->heap, sim->heap_room * sizeof(*sim->heap));
        assert(sim->heap);
    }
    heap_put(sim, ++sim->heap_count, event);
    heap_up(sim, event);
}

void event_set_no_later(struct sim_event *event, uint64_t delay_ns)
{
    if (!event_is_set(event) || event->due_ns > event->sim->now_ns + delay_ns)
        event_set(event, delay_ns);
}

bool sim_holds(struct sim *sim, struct sim_event *event)
{
    if (sim->hold_at == 0 || --sim->hold_at > 0)
        return false;
    sim->held = event;
    sim_note(sim, "is held", 0, 0, 0);
    return true;
}

void sim_release(struct sim *sim, uint64_t delay_ns)
{
    sim->hold_at = 0;
    if (sim->held)
        event_set(sim->held, delay_ns);
    sim->held = NULL;
}

void sim_forget_events(struct sim *sim)
{
    sim->hold_at = 0;
    sim->held = NULL;
    while (sim->heap_count > 0)
        event_clear(sim->heap[sim->heap_count]);
}

void sim_pass_time(struct sim *sim, uint64_t delay_ns)
{
    sim->now_ns += delay_ns;
}

void sim_run(struct sim *sim)
{
    while (sim->heap_count > 0 && !sim_failed(sim) && !sim->is_halted) {
        struct sim_event *event = sim->heap[1];
        event_clear(event);
        if (event->due_ns > sim->now_ns)
            sim->now_ns = event->due_ns;
        if (++sim->events > sim->events_max)
            sim_fail(sim, "does not come to rest: %" PRIu64 " events ran", sim->events_max);
        else
            event->run(event);
        if (sim->after_event)
            sim->after_event(sim);
    }
}

/* --- notes ----------------------------------------------------------------------------------- */

void sim_note(struct sim *sim, const char *what, uint64_t a, uint64_t b, uint64_t c)
{
    sim->hash = mix(mix(mix(mix(sim->hash, sim->now_ns), a), b), c);
    if (sim->is_traced)
        printf("%12.3f us  %-16s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
               (double)(sim->now_ns - NS_PER_S) / 1000, what, a, b, c);
}

void sim_note_bytes(struct sim *sim, const char *what, uint64_t a, const void *bytes, size_t length)
{
    uint64_t hash = length;
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        uint64_t word;
        memcpy(&word, (const uint8_t *)bytes + i, 8);
        hash = mix(hash, word);
    }
    for (; i < length; i++)
        hash = mix(hash, ((const uint8_t *)bytes)[i]);
    sim_note(sim, what, a, length, hash);
}

void sim_fail(struct sim *sim, const char *format, ...)
{
    if (sim_failed(sim))
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(sim->failure, sizeof(sim->failure), format, args);
    va_end(args);
    if (sim->failure[0] == '\0')
        strcpy(sim->failure, "?");
}

/* --- drawing --------------------------------------------------------------------------------- */

uint64_t draw_between(struct random *random, uint64_t low, uint64_t high)
{
    assert(low <= high);
    return low + random_below(random, high - low + 1);
}

uint64_t draw_scaled(struct random *random, uint64_t low, uint64_t high)
{
    assert(low >= 1 && low <= high);
    unsigned low_bits = 63 - (unsigned)__builtin_clzll(low);
    unsigned high_bits = 63 - (unsigned)__builtin_clzll(high);
    uint64_t floor = UINT64_C(1) << draw_between(random, low_bits, high_bits);
    uint64_t drawn = floor + random_below(random, floor);
    return drawn < low ? low : drawn > high ? high : drawn;
}
