/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The text of a trace. Input: the text. Properties: a refusal names a line and says why; each
 * request that was taken lies inside of the disk and has a length that can be asked for.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

#include "tests/replay/trace.h"

static void check_range(const struct trace *trace, uint64_t sector, uint64_t count)
{
    uint64_t sectors = trace->size_bytes / TRACE_SECTOR;
    FUZZ_CHECK(count >= 1 && sector < sectors && count <= sectors - sector);
}

static void check_step(const struct trace *trace, const struct trace_step *step)
{
    bool has_range = step->verb <= TRACE_ZERO;
    FUZZ_CHECK(step->verb <= TRACE_CRASH);
    FUZZ_CHECK(step->result == 0 || step->result == -EIO || step->result == -ENOTSUP);
    FUZZ_CHECK(step->result == 0 || step->verb <= TRACE_FLUSH);
    FUZZ_CHECK(step->count <= TRACE_SECTORS_MAX && (step->count > 0) == has_range);
    FUZZ_CHECK(step->seed <= TRACE_SEED_MAX);
    if (has_range)
        check_range(trace, step->sector, step->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trace trace = {.depth = 0};
    struct error err = {.message = ""};
    int rc = trace_parse(&trace, (const char *)data, size, &err);
    if (rc < 0) {
        FUZZ_CHECK(rc == -EINVAL && strncmp(err.message, "line ", 5) == 0);
        FUZZ_CHECK(!trace.steps && trace.depth == 0);
        return 0;
    }
    FUZZ_CHECK(trace.device[0] != '\0' && trace.size_bytes >= TRACE_SECTOR);
    FUZZ_CHECK(!trace.overlaps || trace.size_bytes <= TRACE_OVERLAP_BYTES_MAX);
    FUZZ_CHECK(trace.depth >= 1 && trace.depth <= TRACE_DEPTH_MAX);
    for (unsigned i = 0; i < trace.bad_count; i++)
        check_range(&trace, trace.bad[i].sector, trace.bad[i].count);
    for (unsigned i = 0; i < trace.step_count; i++)
        check_step(&trace, &trace.steps[i]);
    for (unsigned i = 0; trace.overlaps && i < trace.step_count; i++)
        FUZZ_CHECK(trace.steps[i].verb != TRACE_CRASH);
    trace_fini(&trace);
    return 0;
}
