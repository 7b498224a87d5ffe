/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/replay/judge.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

void judge_init(struct judge *judge, const struct trace *trace, struct content *content)
{
    uint8_t *zeroes;
    *judge = (struct judge){.content = content, .has_oracle = trace->overlaps};
    if (!judge->has_oracle)
        return;
    sim_init(&judge->sim, 0, false);
    oracle_init(&judge->oracle, &judge->sim, trace->size_bytes);
    zeroes = calloc(1, trace->size_bytes);
    assert(zeroes);
    oracle_go_on_with(&judge->oracle, zeroes);
    free(zeroes);
}

void judge_fini(struct judge *judge)
{
    if (!judge->has_oracle)
        return;
    oracle_fini(&judge->oracle);
    sim_fini(&judge->sim);
}

/* --- sent --------------------------------------------------------------------------------------
 */

static void sent_to_oracle(struct oracle *oracle, struct judged *judged, void *buffer)
{
    const struct trace_step *step = judged->step;
    uint64_t offset = step->sector * TRACE_SECTOR, length = (uint64_t)step->count * TRACE_SECTOR;
    switch (step->verb) {
    case TRACE_READ:
        oracle_view_open(oracle, &judged->view, offset, length);
        break;
    case TRACE_WRITE:
        judged->number = oracle_send(oracle, 0, ORACLE_WRITE, offset, length);
        oracle_pattern(oracle, judged->number, buffer);
        break;
    case TRACE_ZERO:
        judged->number = oracle_send(oracle, 0, ORACLE_ZERO, offset, length);
        break;
    case TRACE_DISCARD:
        judged->number = oracle_send(oracle, 0, ORACLE_TRIM, offset, length);
        break;
    default:
        judged->since = oracle_flush_send(oracle);
    }
}

void judge_sent(struct judge *judge, struct judged *judged, const struct trace_step *step,
                void *buffer)
{
    *judged = (struct judged){.step = step};
    if (judge->has_oracle) {
        sent_to_oracle(&judge->oracle, judged, buffer);
        return;
    }
    judged->since = judge->content->tick;
    if (step->verb == TRACE_WRITE)
        content_fill(step->sector, step->count, step->seed, buffer);
}

/* --- answered ----------------------------------------------------------------------------------
 */

static void answer_to_oracle(struct oracle *oracle, struct judged *judged, int result,
                             const void *buffer, bool is_durable)
{
    switch (judged->step->verb) {
    case TRACE_READ:
        if (result == 0)
            oracle_view_check(oracle, &judged->view, buffer, "a read");
        oracle_view_close(&judged->view);
        break;
    case TRACE_WRITE:
    case TRACE_ZERO:
    case TRACE_DISCARD:
        if (result < 0) {
            oracle_fail(oracle, judged->number);
            break;
        }
        oracle_answer(oracle, judged->number);
        if (is_durable)
            oracle_forced(oracle, judged->number, NULL, "a write");
        break;
    default:
        if (result == 0)
            oracle_flushed(oracle, judged->since, NULL, "a flush");
    }
}

static const char *success_to_content(struct judge *judge, const struct judged *judged,
                                      const void *buffer, bool is_durable)
{
    const struct trace_step *step = judged->step;
    struct content *content = judge->content;
    uint64_t wrong;
    switch (step->verb) {
    case TRACE_READ:
        if (content_check(content, step->sector, step->count, buffer, &wrong))
            break;
        snprintf(judge->sentence, sizeof(judge->sentence),
                 "sector %" PRIu64 " holds what nobody wrote there", wrong);
        return judge->sentence;
    case TRACE_WRITE:
        content_write(content, step->sector, step->count, step->seed, is_durable);
        break;
    case TRACE_ZERO:
        content_zero(content, step->sector, step->count, is_durable);
        break;
    case TRACE_DISCARD:
        content_discard(content, step->sector, step->count);
        break;
    default:
        content_flush(content, judged->since);
    }
    return NULL;
}

const char *judge_answered(struct judge *judge, struct judged *judged, int result,
                           const void *buffer, bool is_durable)
{
    const struct trace_step *step = judged->step;
    if (judge->has_oracle) {
        answer_to_oracle(&judge->oracle, judged, result, buffer, is_durable);
        return sim_failed(&judge->sim) ? judge->sim.failure : NULL;
    }
    if (result == 0)
        return success_to_content(judge, judged, buffer, is_durable);
    if (step->verb == TRACE_WRITE)
        content_write_failed(judge->content, step->sector, step->count, step->seed);
    return NULL;
}
