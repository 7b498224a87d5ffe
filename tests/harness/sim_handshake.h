/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_HANDSHAKE_H
#define TESTS_HARNESS_SIM_HANDSHAKE_H

/*
 * The client's half of the handshake, written from the specification alone: a script of options
 * drawn from the seed, sent one by one or all at once, and every answer checked.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/harness/sim.h"
#include "tests/harness/sim_bytes.h"

enum sim_step {
    STEP_STRUCTURED_REPLY,
    STEP_LIST,
    STEP_UNKNOWN_OPTION, /* is refused, and the next option is understood */
    STEP_INFO_WRONG_NAME,
    STEP_INFO,
    STEP_LIST_META_CONTEXT,
    STEP_SET_META_CONTEXT,
    STEP_GO,
    STEP_EXPORT_NAME,
    STEP_ABORT,
};

#define SIM_STEPS_MAX 10

struct sim_handshake {
    struct sim *sim;
    const char *who;
    const char *export_name;
    uint64_t size_bytes; /* that the export must have */

    /* What the client means to do. */
    enum sim_step steps[SIM_STEPS_MAX];
    unsigned step_count;
    bool no_zeroes, all_at_once, asks_block_size;
    bool server_stops; /* set by the client before each run: options may be refused for it */

    /* What came of it. */
    bool structured_replies, has_context;
    uint32_t context_id;
    uint16_t transmission_flags;
    uint32_t block_minimum;

    /* private */
    bool was_greeted, step_shown; /* step_shown: what the step is for has come */
    unsigned sent, answered;
};

enum sim_handshake_state {
    SIM_HANDSHAKE_MORE,
    SIM_HANDSHAKE_READY, /* transmission begins with what is left of the input */
    SIM_HANDSHAKE_LEFT,  /* ABORT was answered, or the server stops: it closes */
    SIM_HANDSHAKE_WRONG, /* the run has failed */
};

/* Draws the script. may_abort: it may end with ABORT. export_name and who stay the caller's. */
void sim_handshake_init(struct sim_handshake *handshake, struct sim *sim, struct random *random,
                        const char *export_name, uint64_t size_bytes, bool may_abort,
                        const char *who);
/* Every option was put into the output. */
static inline bool sim_handshake_is_sent(const struct sim_handshake *handshake)
{
    return handshake->was_greeted && handshake->sent == handshake->step_count;
}
/* Takes what the server sent; puts what is to be sent into output. */
enum sim_handshake_state sim_handshake_run(struct sim_handshake *handshake, struct sim_bytes *input,
                                           struct sim_bytes *output);

#endif
