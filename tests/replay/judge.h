/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_REPLAY_JUDGE_H
#define TESTS_REPLAY_JUDGE_H

/*
 * Who says whether what a replay reads may be there. There are two.
 *
 * content.h: requests in flight do not touch the same sectors, so each read has one answer, which
 * is the same for every way to serve the disk; a crash is survived with what it may have lost.
 *
 * oracle.h, for a trace with the line "overlap": requests in flight may touch the same sectors, in
 * whichever order they take effect; nothing crashes. What writes carry follows from their order,
 * not from their seeds.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/harness/oracle.h"
#include "tests/replay/content.h"
#include "tests/replay/trace.h"

struct judge {
    struct content *content; /* the caller's */
    char sentence[80];
    bool has_oracle;
    struct sim sim; /* the oracle's; nothing is simulated */
    struct oracle oracle;
};

/* What the judge keeps of a request in flight. */
struct judged {
    const struct trace_step *step;
    uint32_t since;  /* a flush: when it was sent */
    uint32_t number; /* the oracle's, of what changes something */
    struct oracle_view view;
};

void judge_init(struct judge *judge, const struct trace *trace, struct content *content);
void judge_fini(struct judge *judge);

/* The step is about to be sent; a write gets its bytes here. */
void judge_sent(struct judge *judge, struct judged *judged, const struct trace_step *step,
                void *buffer);
/* It was answered: by 0, with what a read brought in the buffer, or by an error. is_durable: the
 * write cache is off. NULL; or a sentence that lives as long as the judge: it cannot be so. */
const char *judge_answered(struct judge *judge, struct judged *judged, int result,
                           const void *buffer, bool is_durable);

#endif
