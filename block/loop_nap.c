/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/loop_nap.h"

#include "common/align.h"
#include "common/clock.h"

#define INTERVAL_FIRST 8
#define INTERVAL_IN_DOUBT 4   /* windows, after a trial without naps that was better */
#define LOSS_OF_RATE 32       /* one in so many is no loss: it is within what windows differ by */
#define NAP_NS_MIN 2000       /* what is saved by less is not worth the calls */
#define TOO_SHORT_MAX 16      /* in a row; then the pace is found out anew */
#define TOO_LONG_MAX 8        /* in a row; then there are none for now */
#define TOOK_NS_MAX NS_PER_MS /* of longer ones the processor was lost: they teach nothing */

void loop_nap_init(struct loop_nap *nap)
{
    *nap = (struct loop_nap){.interval = INTERVAL_FIRST};
}

static bool naps_won(const struct loop_nap *nap, uint64_t rate)
{
    uint64_t with = nap->is_on ? rate : nap->rate_before;
    uint64_t without = nap->is_on ? nap->rate_before : rate;
    return with >= without - without / LOSS_OF_RATE;
}

static void end_trial(struct loop_nap *nap, bool is_on, unsigned interval)
{
    nap->is_trial = false;
    nap->is_on = is_on;
    nap->interval = interval;
    nap->windows = 0;
    nap->too_long = 0;
}

/* With naps it was no better: next time later. */
static void give_up(struct loop_nap *nap)
{
    end_trial(nap, false, (unsigned)smaller(2 * nap->interval, LOOP_NAP_INTERVAL));
}

static void judge_trial(struct loop_nap *nap, uint64_t rate)
{
    if (naps_won(nap, rate))
        end_trial(nap, true, LOOP_NAP_INTERVAL);
    else if (!nap->is_on && nap->interval != INTERVAL_IN_DOUBT)
        end_trial(nap, true, INTERVAL_IN_DOUBT);
    else
        give_up(nap);
}

static void begin_trial(struct loop_nap *nap, uint64_t rate)
{
    nap->is_trial = true;
    nap->is_on = !nap->is_on;
    nap->rate_before = rate;
}

static void end_window(struct loop_nap *nap, uint64_t span_ns)
{
    uint64_t rate = nap->window_bytes * NS_PER_MS / span_ns;
    if (span_ns >= 2 * LOOP_NAP_WINDOW_NS) { /* the loop slept meanwhile: no rate */
        if (nap->is_trial)
            end_trial(nap, !nap->is_on, nap->interval);
    } else if (nap->is_trial) {
        judge_trial(nap, rate);
    } else if (++nap->windows >= nap->interval) {
        begin_trial(nap, rate);
    }
}

bool loop_nap_is_on(struct loop_nap *nap, uint64_t now_ns)
{
    uint64_t span_ns = now_ns - nap->window_began_ns;
    if (span_ns >= LOOP_NAP_WINDOW_NS) {
        end_window(nap, span_ns);
        nap->window_began_ns = now_ns;
        nap->window_bytes = 0;
    }
    return nap->is_on;
}

uint64_t loop_nap_ns(struct loop_nap *nap, size_t unread, uint64_t limit_ns)
{
    if (unread == 0)
        return 0;
    if (nap->ns_per_kib == 0)
        return smaller(NAP_NS_MIN, limit_ns);
    uint64_t half_ns = nap->ns_per_kib * unread / 2 / 1024;
    uint64_t ns = smaller(half_ns, limit_ns);
    if (ns >= nap->late_ns + NAP_NS_MIN) {
        nap->too_short = 0;
        return ns - nap->late_ns;
    }
    if (++nap->too_short == TOO_SHORT_MAX) {
        nap->too_short = 0;
        nap->ns_per_kib = 0;
    }
    return 0;
}

/* Weighs the newest as one of four. */
static uint64_t average(uint64_t so_far, uint64_t newest)
{
    return (3 * so_far + newest) / 4;
}

void loop_nap_learn(struct loop_nap *nap, const struct loop_nap_taken *taken)
{
    if (taken->took_ns > TOOK_NS_MAX)
        return;
    if (taken->took_ns > taken->asked_ns)
        nap->late_ns = average(nap->late_ns, taken->took_ns - taken->asked_ns);
    nap->too_long = taken->unread_after == 0 ? nap->too_long + 1 : 0;
    if (taken->unread_after == 0) {
        nap->ns_per_kib /= 2; /* he had no more to do, since when nobody knows */
        if (nap->too_long >= TOO_LONG_MAX)
            give_up(nap);
    } else if (taken->unread_after < taken->unread_before) {
        size_t was_read = taken->unread_before - taken->unread_after;
        uint64_t pace = taken->took_ns * 1024 / was_read;
        nap->ns_per_kib = nap->ns_per_kib ? average(nap->ns_per_kib, pace) : pace;
    }
}
