/* SPDX-License-Identifier: BSD-3-Clause */
/* trace.c: what a trace may say, and what is said of one that makes no sense. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/replay/trace.h"

#define HEAD "platter-trace 1\ndevice virtio-blk\nsize 1048576\n"

static void parse(struct trace *trace, const char *text)
{
    struct error err = {.message = ""};
    if (trace_parse(trace, text, strlen(text), &err) < 0)
        fail_msg("%s", err.message);
}

static void refused(const char *text, const char *why)
{
    struct trace trace = {.depth = 77};
    struct error err = {.message = ""};
    assert_int_equal(trace_parse(&trace, text, strlen(text), &err), -EINVAL);
    assert_string_equal(err.message, why);
    assert_int_equal(trace.depth, 77);
}

static void check_step(const struct trace_step *step, enum trace_verb verb, uint64_t sector,
                       uint32_t count, uint64_t seed, int result)
{
    assert_int_equal(step->verb, verb);
    assert_int_equal(step->sector, sector);
    assert_int_equal(step->count, count);
    assert_int_equal(step->seed, seed);
    assert_int_equal(step->result, result);
}

static void every_line_has_its_meaning(void **state)
{
    struct trace trace;
    (void)state;
    parse(&trace, "# captured\n\nplatter-trace 1\ndevice ide\n size  1048576\r\ndepth 4\n"
                  "bad read 100 8\nbad write 2047 1\n"
                  "read 0 8\nwrite 8 16 77 # data\npio-read 1 2 eio\npio-write 3 4 5 ok\n"
                  "discard 6 7\nzero 8 9 enotsup\nflush eio\nwait\ncache on\ncache off\nreset\n"
                  "crash\nflush");
    assert_string_equal(trace.device, "ide");
    assert_int_equal(trace.size_bytes, 1048576);
    assert_int_equal(trace.depth, 4);
    assert_int_equal(trace.bad_count, 2);
    assert_true(trace.bad[0].of_reads);
    assert_int_equal(trace.bad[0].sector, 100);
    assert_int_equal(trace.bad[0].count, 8);
    assert_false(trace.bad[1].of_reads);
    assert_int_equal(trace.step_count, 13);
    check_step(&trace.steps[0], TRACE_READ, 0, 8, 0, 0);
    check_step(&trace.steps[1], TRACE_WRITE, 8, 16, 77, 0);
    check_step(&trace.steps[2], TRACE_READ, 1, 2, 0, -EIO);
    check_step(&trace.steps[3], TRACE_WRITE, 3, 4, 5, 0);
    check_step(&trace.steps[4], TRACE_DISCARD, 6, 7, 0, 0);
    check_step(&trace.steps[5], TRACE_ZERO, 8, 9, 0, -ENOTSUP);
    check_step(&trace.steps[6], TRACE_FLUSH, 0, 0, 0, -EIO);
    check_step(&trace.steps[7], TRACE_WAIT, 0, 0, 0, 0);
    check_step(&trace.steps[8], TRACE_CACHE_ON, 0, 0, 0, 0);
    check_step(&trace.steps[9], TRACE_CACHE_OFF, 0, 0, 0, 0);
    check_step(&trace.steps[10], TRACE_RESET, 0, 0, 0, 0);
    check_step(&trace.steps[11], TRACE_CRASH, 0, 0, 0, 0);
    assert_false(trace.steps[0].by_pio);
    assert_true(trace.steps[2].by_pio && trace.steps[3].by_pio);
    assert_int_equal(trace.steps[0].line, 9);
    assert_int_equal(trace.steps[11].line, 20);
    trace_fini(&trace);
}

static void without_a_depth_requests_come_one_by_one(void **state)
{
    struct trace trace;
    (void)state;
    parse(&trace, HEAD);
    assert_int_equal(trace.depth, 1);
    assert_int_equal(trace.step_count, 0);
    trace_fini(&trace);
}

static void requests_overlap_where_it_says_so(void **state)
{
    struct trace trace;
    (void)state;
    parse(&trace, HEAD "flush");
    assert_false(trace.overlaps);
    trace_fini(&trace);
    parse(&trace, HEAD "overlap\nread 0 8\nwrite 4 8 1");
    assert_true(trace.overlaps);
    assert_int_equal(trace.step_count, 2);
    trace_fini(&trace);
}

static void a_trace_that_makes_no_sense_is_refused_with_the_line(void **state)
{
    (void)state;
    refused("", "line 0 of the trace: it ends without a device and a size");
    refused("read 0 8\n", "line 1 of the trace: it must be: platter-trace 1");
    refused("platter-trace 2\n", "line 1 of the trace: it must be: platter-trace 1");
    refused("platter-trace 1\nread 0 1\n",
            "line 2 of the trace: the device and the size must come before the first request");
    refused("platter-trace 1\ndevice scsi\n",
            "line 2 of the trace: there are the devices virtio-blk and ide");
    refused("platter-trace 1\nbad read 0 1\n", "line 2 of the trace: the size must come before it");
    refused("platter-trace 1\nsize 1000\n",
            "line 2 of the trace: the size must be whole sectors, at most 64 GiB");
    refused("platter-trace 1\nsize 512\nsize 512\n",
            "line 3 of the trace: the size was said before");
    refused("platter-trace 1\ndevice ide\ndevice ide\n",
            "line 3 of the trace: the device was named before");
    refused(HEAD "depth 1\ndepth 1", "line 5 of the trace: the depth was said before");
    refused(HEAD "depth 0", "line 4 of the trace: the depth must be 1 to 1024");
    refused(HEAD "depth 1025", "line 4 of the trace: the depth must be 1 to 1024");
    refused("platter-trace 1\ndevice ide\noverlap",
            "line 3 of the trace: the size must come before it, and be at most 4 MiB");
    refused("platter-trace 1\ndevice ide\nsize 4194816\noverlap",
            "line 4 of the trace: the size must come before it, and be at most 4 MiB");
    refused(HEAD "overlap 1", "line 4 of the trace: it has too many words, or too few");
    refused(HEAD "overlap\nflush\ncrash\nflush",
            "line 6 of the trace: where requests overlap nothing can crash");
    refused(HEAD "flush\noverlap", "line 5 of the trace: it must come before the first request");
    refused(HEAD "flush\ndepth 2", "line 5 of the trace: it must come before the first request");
    refused(HEAD "bad flush 0 1", "line 4 of the trace: reads or writes can be bad");
    refused(HEAD "bad read 2048 1", "line 4 of the trace: it goes beyond the disk");
    refused(HEAD "read 2040 9", "line 4 of the trace: it goes beyond the disk");
    refused(HEAD "read 18446744073709551615 1", "line 4 of the trace: it goes beyond the disk");
    refused(HEAD "read 18446744073709551616 1", "line 4 of the trace: a number is too large");
    refused(HEAD "read 0 0", "line 4 of the trace: so many sectors cannot be asked for at once");
    refused(HEAD "read 0 65537",
            "line 4 of the trace: so many sectors cannot be asked for at once");
    refused(HEAD "read 0", "line 4 of the trace: a number is missing");
    refused(HEAD "write 0 1", "line 4 of the trace: a number is missing");
    refused(HEAD "read -1 1", "line 4 of the trace: something else stands where a number must be");
    refused(HEAD "write 0 1 9223372036854775808", "line 4 of the trace: seeds are below 2^63");
    refused(HEAD "read 0 1 good", "line 4 of the trace: a result is ok, eio or enotsup");
    refused(HEAD "read 0 1 ok ok", "line 4 of the trace: it has too many words, or too few");
    refused(HEAD "wait ok", "line 4 of the trace: it has too many words, or too few");
    refused(HEAD "flush\ncrash\n",
            "line 5 of the trace: it ends with a crash; let something be read after it");
    refused(HEAD "cache", "line 4 of the trace: it has too many words, or too few");
    refused(HEAD "cache maybe", "line 4 of the trace: the cache is on or off");
    refused(HEAD "frobnicate", "line 4 of the trace: there is no such request");
    refused(HEAD "a b c d e f g", "line 4 of the trace: too many words");
    refused(HEAD "readreadreadreadreadreadreadread 0 1",
            "line 4 of the trace: a word is too long, or holds a zero byte");
}

static void error_points_are_bounded(void **state)
{
    char text[1024] = HEAD;
    (void)state;
    for (unsigned i = 0; i < TRACE_BAD_MAX; i++)
        strcat(text, "bad read 1 1\n");
    struct trace trace;
    parse(&trace, text);
    assert_int_equal(trace.bad_count, TRACE_BAD_MAX);
    trace_fini(&trace);
    strcat(text, "bad read 1 1\n");
    refused(text, "line 20 of the trace: there are too many error points");
}

static void a_file_is_loaded(void **state)
{
    char path[] = "/tmp/platter-trace.XXXXXX";
    struct error err = {.message = ""};
    struct trace trace;
    int fd = mkstemp(path);
    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, HEAD, strlen(HEAD)), strlen(HEAD));
    for (unsigned i = 0; i < 10000; i++)
        assert_int_equal(dprintf(fd, "read %u 1\n", i % 2048) > 0, 1);
    close(fd);
    assert_int_equal(trace_load(&trace, path, &err), 0);
    assert_int_equal(trace.step_count, 10000);
    check_step(&trace.steps[9999], TRACE_READ, 9999 % 2048, 1, 0, 0);
    trace_fini(&trace);
    unlink(path);
    assert_int_equal(trace_load(&trace, path, &err), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_line_has_its_meaning),
        cmocka_unit_test(without_a_depth_requests_come_one_by_one),
        cmocka_unit_test(requests_overlap_where_it_says_so),
        cmocka_unit_test(a_trace_that_makes_no_sense_is_refused_with_the_line),
        cmocka_unit_test(error_points_are_bounded),
        cmocka_unit_test(a_file_is_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
