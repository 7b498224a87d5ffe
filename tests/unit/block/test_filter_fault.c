/* SPDX-License-Identifier: BSD-3-Clause */
/* filter_fault.c, fault_rules.c, fault_options.c: what rules fail and what they leave alone,
 * events, states, breakpoints, bounds, and rules that make no sense. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/coroutine.h"
#include "block/fault.h"
#include "block/filters.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 65536

/* "talker" hands on, and says so: read_aio, write_aio. */
static struct block_driver talker;
static const struct block_driver *drivers[] = {&block_filter_fault, NULL, NULL, &talker, NULL};

static int talk_and_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    node_co_event(node, "read_aio");
    return node_co_read(node->file, offset, vec);
}

static int talk_and_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                          unsigned flags)
{
    node_co_event(node, "write_aio");
    return node_co_write(node->file, offset, vec, flags);
}

static const char *const talker_events[] = {"read_aio", "write_aio", "l2_load", NULL};
static const struct block_driver_admin talker_admin = {.events = talker_events};

/* prefix: where the disk is. */
static int co_try_open(struct fixture *fixture, const char *text, const char *prefix,
                       struct error *err)
{
    struct node_options *options = node_options_new();
    int rc = node_options_parse(options, text, err);
    assert_int_equal(rc, 0);
    memory_disk_options(&fixture->disk, options, prefix, "growing");
    return block_co_open(&fixture->env, options, &fixture->node, err);
}

static struct block_node *co_open(struct fixture *fixture, const char *text)
{
    struct error err = {""};
    fixture_co_close(fixture);
    bool below = strncmp(text, "driver=talker", 13) == 0;
    if (co_try_open(fixture, text, below ? "file.file." : "file.", &err) < 0)
        fail_msg("%s", err.message);
    memory_disk_forget_calls(&fixture->disk);
    return fixture->node;
}

static int co_read_at(struct block_node *node, uint64_t offset, size_t length)
{
    static uint8_t data[SIZE];
    return fixture_co_read(node, offset, data, length);
}

static int co_write_at(struct block_node *node, uint64_t offset, size_t length)
{
    static const uint8_t data[SIZE];
    return fixture_co_write(node, offset, data, length, 0);
}

static int co_status_at(struct block_node *node, uint64_t offset)
{
    struct block_extent extent;
    return node_co_status(node, offset, 16, &extent);
}

#define FAULT "driver=fault,"
#define TALKER "driver=talker,file.driver=blkdebug,"

static void co_a_rule_without_more_fails_every_request_but_status(struct fixture *fixture,
                                                                  void *arg)
{
    (void)arg;
    struct block_node *node = co_open(fixture, FAULT "inject-error.0.once=off");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(co_read_at(node, 0, 16), -EIO);
        assert_int_equal(co_write_at(node, 0, 16), -EIO);
        assert_int_equal(node_co_zero(node, 0, 16, 0), -EIO);
        assert_int_equal(node_co_discard(node, 0, 16, 0), -EIO);
        assert_int_equal(co_status_at(node, 0), 0);
    }
    assert_int_equal(node_co_flush(node), -EIO);
    assert_int_equal(fixture->disk.call_count, 3); /* the three questions */
}

static void co_each_kind_is_failed_alone(struct fixture *fixture, void *arg)
{
    static const char *const names[] = {"read",  "write",        "write-zeroes", "discard",
                                        "flush", "block-status", "zero",         "status"};
    static const int kinds[] = {0, 1, 2, 3, 4, 5, 2, 5};
    (void)arg;
    for (int i = 0; i < 8; i++) {
        char text[200];
        snprintf(text, sizeof(text), FAULT "inject-error.0.iotype=%s,inject-error.0.errno=28",
                 names[i]);
        struct block_node *node = co_open(fixture, text);
        int rc[] = {co_read_at(node, 0, 16),      co_write_at(node, 0, 16),
                    node_co_zero(node, 0, 16, 0), node_co_discard(node, 0, 16, 0),
                    node_co_flush(node),          co_status_at(node, 0)};
        for (int kind = 0; kind < 6; kind++)
            assert_int_equal(rc[kind], kind == kinds[i] ? -ENOSPC : 0);
    }
}

static void co_a_range_is_failed_where_it_is_touched(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_node *node = co_open(fixture, FAULT "inject-error.0.sector=2");
    assert_int_equal(co_read_at(node, 0, 1024), 0);
    assert_int_equal(co_read_at(node, 0, 1025), -EIO);
    assert_int_equal(co_read_at(node, 1535, 1), -EIO);
    assert_int_equal(co_write_at(node, 1536, 1000), 0);
    assert_int_equal(node_co_zero(node, 1100, 3, 0), -EIO);
    assert_int_equal(node_co_flush(node), 0); /* has no range */
    node = co_open(fixture, FAULT "inject-error.0.offset=4K,inject-error.0.length=2");
    assert_int_equal(co_read_at(node, 4095, 1), 0);
    assert_int_equal(co_read_at(node, 4097, 1), -EIO);
    assert_int_equal(co_read_at(node, 4098, 1), 0);
}

static void co_once_is_once_and_nth_is_from_there(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_node *node = co_open(
        fixture, FAULT "inject-error.0.once=on,inject-error.0.nth=3,inject-error.0.iotype=write");
    assert_int_equal(co_write_at(node, 0, 1), 0);
    assert_int_equal(co_read_at(node, 0, 1), 0); /* does not count */
    assert_int_equal(co_write_at(node, 0, 1), 0);
    assert_int_equal(co_write_at(node, 0, 1), -EIO);
    assert_int_equal(co_write_at(node, 0, 1), 0);
    node = co_open(fixture, FAULT "inject-error.0.nth=2");
    assert_int_equal(co_read_at(node, 0, 1), 0);
    assert_int_equal(co_read_at(node, 0, 1), -EIO);
    assert_int_equal(co_read_at(node, 0, 1), -EIO);
}

static void co_the_first_rule_that_fits_decides(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_node *node =
        co_open(fixture, FAULT "inject-error.0.offset=0,inject-error.0.errno=0,"
                               "inject-error.1.iotype=read,inject-error.1.errno=ENOMEM,"
                               "inject-error.2.errno=ESHUTDOWN");
    assert_int_equal(co_read_at(node, 0, 1), 0); /* errno=0: it passes */
    assert_int_equal(co_read_at(node, 1, 1), -ENOMEM);
    assert_int_equal(co_write_at(node, 1, 1), -ESHUTDOWN);
}

static void co_a_part_is_transferred_before_it_fails(struct fixture *fixture, void *arg)
{
    uint8_t data[100];
    (void)arg;
    struct block_node *node =
        co_open(fixture, FAULT "inject-error.0.partial=30,inject-error.0.errno=ENOSPC");
    memset(data, 7, 100);
    assert_int_equal(fixture_co_write(node, 10, data, 100, BLOCK_FUA), -ENOSPC);
    assert_int_equal(fixture->disk.data[39], 7);
    assert_int_equal(fixture->disk.data[40], 0);
    memset(data, 1, 100);
    assert_int_equal(fixture_co_read(node, 10, data, 100), -ENOSPC);
    assert_int_equal(data[29], 7);
    assert_int_equal(data[30], 1);
    assert_int_equal(node_co_zero(node, 0, 100, 0), -ENOSPC);
    assert_int_equal(fixture->disk.data[29], 0);
    assert_int_equal(fixture->disk.data[30], 7);
    assert_int_equal(fixture_co_write(node, 50, data, 5, 0), -ENOSPC); /* all of it, and fails */
    assert_int_equal(fixture->disk.data[54], 7);
}

static void co_an_event_makes_its_rules_active(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_node *node =
        co_open(fixture, TALKER "file.inject-error.0.event=read_aio,file.inject-error.0.errno=5,"
                                "file.inject-error.0.once=on");
    assert_int_equal(co_write_at(node, 0, 1), 0);
    assert_int_equal(co_read_at(node, 0, 1), -EIO);
    assert_int_equal(co_read_at(node, 0, 1), 0);

    node = co_open(fixture, TALKER "file.inject-error.0.event=l2_load,"
                                   "file.inject-error.0.errno=ENOSPC,"
                                   "file.inject-error.1.event=write_aio,"
                                   "file.inject-error.1.errno=ENOMEM");
    assert_int_equal(co_read_at(node, 0, 1), 0);
    node_co_event(node, "l2_load");
    assert_int_equal(co_read_at(node, 0, 1), -ENOSPC);
    assert_int_equal(co_write_at(node, 0, 1), -ENOMEM); /* the other's turn */
    assert_int_equal(co_read_at(node, 0, 1), -ENOMEM);  /* until an event says something else */
    node_co_event(node, "l2_load");
    assert_int_equal(co_read_at(node, 0, 1), -ENOSPC);

    node = co_open(fixture, FAULT "inject-error.0.event=none,inject-error.0.iotype=read");
    assert_int_equal(co_read_at(node, 0, 1), -EIO); /* since it was opened */
}

static void co_the_pipeline_announces_too(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_node *node =
        co_open(fixture, FAULT "align=512,inject-error.0.event=pwritev_rmw_head,"
                               "inject-error.0.errno=ENOSPC,inject-error.1.event=pwritev_done,"
                               "inject-error.1.errno=0");
    assert_int_equal(co_write_at(node, 0, 512), 0);
    assert_int_equal(co_write_at(node, 1, 511), -ENOSPC);
    assert_int_equal(co_read_at(node, 1, 511), 0);
    node = co_open(fixture, TALKER "file.inject-error.0.event=flush_to_disk");
    assert_int_equal(co_write_at(node, 0, 512), 0);
    assert_int_equal(node_co_flush(node), -EIO);
}

static void co_states_choose_the_rules(struct fixture *fixture, void *arg)
{
    (void)arg;
    /* The second read turns the state; from then on writes fail, and state 1's rule is silent. */
    struct block_node *node =
        co_open(fixture, TALKER "file.set-state.0.event=read_aio,file.set-state.0.state=1,"
                                "file.set-state.0.new_state=2,"
                                "file.set-state.1.event=read_aio,file.set-state.1.state=2,"
                                "file.set-state.1.new_state=3,"
                                "file.inject-error.0.state=3,file.inject-error.0.iotype=write,"
                                "file.inject-error.1.state=1,file.inject-error.1.iotype=flush,"
                                "file.inject-error.2.event=l2_load,file.inject-error.2.state=3,"
                                "file.inject-error.2.errno=ENOMEM,file.inject-error.2.iotype=read");
    node_co_event(node, "l2_load"); /* not in state 1 */
    assert_int_equal(co_read_at(node, 0, 1), 0);
    assert_int_equal(co_write_at(node, 0, 1), 0);
    assert_int_equal(co_read_at(node, 0, 1), 0);
    assert_int_equal(co_write_at(node, 0, 1), -EIO);
    assert_int_equal(node_co_flush(node), 0);
    node_co_event(node, "l2_load");
    assert_int_equal(co_read_at(node, 0, 1), -ENOMEM);
}

/* --- breakpoints ----------------------------------------------------------------------------- */

struct one {
    struct block_node *node;
    uint64_t offset;
    bool is_done;
};

static void co_write_one(void *arg)
{
    struct one *one = arg;
    assert_int_equal(fixture_co_write(one->node, one->offset, "x", 1, 0), 0);
    one->is_done = true;
}

static void co_wait_until_suspended(struct block_node *node, const char *tag)
{
    for (int turns = 0; !fault_is_suspended(node, tag); turns++) {
        assert_true(turns < 10000000);
        coroutine_co_pause();
    }
}

static void co_who_passes_a_breakpoint_waits_until_it_may_go_on(struct fixture *fixture, void *arg)
{
    struct group group;
    (void)arg;
    struct block_node *node = co_open(fixture, TALKER "file.align=512");
    struct one first = {.node = node, .offset = 0}, second = {.node = node, .offset = 1};
    group_init(&group, fixture->loop);
    assert_false(fault_is_suspended(node, "A"));
    assert_int_equal(fault_resume(node, "A"), -ENOENT);
    assert_int_equal(fault_suspend(node, "write_aio", "A"), 0);
    assert_int_equal(fault_suspend(node, "pwritev_rmw_after_head", "B"), 0);
    group_start(&group, co_write_one, &first);
    co_wait_until_suspended(node, "A");
    assert_int_equal(fixture->disk.call_count, 0);
    group_start(&group, co_write_one, &second); /* passes: the breakpoint was for one */
    co_wait_until_suspended(node, "B");
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 1);
    assert_int_equal(fault_resume(node, "A"), 0);
    for (int i = 0; i < 100; i++)
        coroutine_co_pause();
    /* The same block is being read and written by the other one: it waits in the pipeline. */
    assert_false(first.is_done || second.is_done);
    assert_int_equal(fault_resume(node, "B"), 0);
    group_co_wait(&group);
    assert_true(first.is_done && second.is_done);
    assert_int_equal(fixture->disk.data[0], 'x');
    assert_int_equal(fixture->disk.data[1], 'x');

    assert_int_equal(fault_suspend(node, "no_such_event", "A"), -EINVAL);
    assert_int_equal(fault_suspend(node->file->file, "write_aio", "A"), -ENOENT);
    assert_int_equal(fault_suspend(node, "l2_load", "left at the close"), 0);
}

static void co_breakpoints_of_one_tag_go_on_together(struct fixture *fixture, void *arg)
{
    struct group group;
    struct one many[8];
    (void)arg;
    struct block_node *node = co_open(fixture, TALKER "file.align=1");
    group_init(&group, fixture->loop);
    for (unsigned i = 0; i < 8; i++) {
        many[i] = (struct one){.node = node, .offset = i};
        assert_int_equal(fault_suspend(node, "write_aio", i == 7 ? "last" : "some"), 0);
        group_start(&group, co_write_one, &many[i]);
    }
    assert_int_equal(fault_resume(node, "some"), 0);
    for (int i = 0; i < 100; i++)
        coroutine_co_pause();
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(many[i].is_done, i < 7);
    assert_int_equal(fault_resume(node, "last"), 0);
    group_co_wait(&group);
}

struct failing {
    struct block_node *node;
    bool is_done;
};

static void co_read_and_fail(void *arg)
{
    struct failing *failing = arg;
    assert_int_equal(co_read_at(failing->node, 0, 1), -EIO);
    failing->is_done = true;
}

static void co_only_what_fails_immediately_does_not_wait(struct fixture *fixture, void *arg)
{
    static const char *const texts[] = {FAULT "inject-error.0.immediately=off",
                                        FAULT "inject-error.0.immediately=on"};
    struct group group;
    (void)arg;
    group_init(&group, fixture->loop);
    for (int i = 0; i < 2; i++) {
        struct failing failing = {.node = co_open(fixture, texts[i])};
        group_start(&group, co_read_and_fail, &failing);
        assert_int_equal(failing.is_done, i == 1); /* before anyone else could run */
        group_co_wait(&group);
        assert_true(failing.is_done);
    }
}

/* --- bounds ---------------------------------------------------------------------------------- */

static void co_bounds_are_the_nodes_limits(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_node *node =
        co_open(fixture, FAULT "align=4K,max-transfer=8K,max-write-zero=16K,max-discard=12K");
    assert_int_equal(node->limits.request_alignment, 4096);
    assert_int_equal(co_read_at(node, 0, 32768), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 4);
    assert_int_equal(node_co_zero(node, 0, 32768, 0), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_ZERO], 2);
    assert_int_equal(node_co_discard(node, 0, 32768, 0), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_DISCARD], 3);
    memory_disk_forget_calls(&fixture->disk);
    assert_int_equal(co_write_at(node, 100, 1), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 1);
    assert_int_equal(fixture->disk.log[1].length, 4096);

    fixture->disk.limits.request_alignment = 512;
    fixture->disk.limits.transfer_bytes_max = 1536;
    node = co_open(fixture, FAULT "align=4K");
    assert_int_equal(node->limits.transfer_bytes_max, 0); /* 1536 is for the child's own blocks */
    assert_int_equal(co_read_at(node, 0, 4096), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 3);
}

static void co_only_whole_multiples_are_zeroed_or_discarded(struct fixture *fixture, void *arg)
{
    static const uint8_t zeroes[20000];
    uint8_t ones[20000];
    (void)arg;
    struct block_node *node = co_open(fixture, FAULT "opt-write-zero=3000,opt-discard=3000");
    memset(ones, 1, sizeof(ones));
    assert_int_equal(fixture_co_write(node, 0, ones, sizeof(ones), 0), 0);
    memory_disk_forget_calls(&fixture->disk);
    assert_int_equal(node_co_zero(node, 1000, 10000, BLOCK_FUA), 0);
    assert_int_equal(fixture->disk.log[0].op, MEMORY_WRITE);
    assert_int_equal(fixture->disk.log[0].length, 2000);
    assert_int_equal(fixture->disk.log[0].flags, BLOCK_FUA);
    assert_int_equal(fixture->disk.log[1].op, MEMORY_ZERO);
    assert_int_equal(fixture->disk.log[1].offset, 3000);
    assert_int_equal(fixture->disk.log[1].length, 6000);
    assert_int_equal(fixture->disk.log[2].offset, 9000);
    assert_int_equal(fixture->disk.log[2].length, 2000);
    assert_memory_equal(fixture->disk.data + 1000, zeroes, 10000);
    assert_int_equal(fixture->disk.data[999], 1);
    assert_int_equal(fixture->disk.data[11000], 1);
    /* None in it: not supported, so it is written; quickly it cannot be done. */
    memory_disk_forget_calls(&fixture->disk);
    assert_int_equal(node_co_zero(node, 12001, 5998, BLOCK_FAST), -ENOTSUP);
    assert_int_equal(node_co_zero(node, 12000, 3001, BLOCK_FAST), -ENOTSUP);
    assert_int_equal(node_co_zero(node, 11999, 2999, BLOCK_FAST), -ENOTSUP);
    assert_int_equal(fixture->disk.call_count, 0);
    assert_int_equal(node_co_zero(node, 12001, 2999, 0), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_ZERO], 0);
    assert_memory_equal(fixture->disk.data + 12001, zeroes, 2999);
    assert_int_equal(node_co_discard(node, 15001, 2999, 0), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_DISCARD], 0);
    assert_int_equal(node_co_discard(node, 14000, 5000, 0), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_DISCARD], 1);
    assert_int_equal(fixture->disk.data[14999], 0); /* by the zero before */
    assert_int_equal(fixture->disk.data[15000], 0);
    assert_int_equal(fixture->disk.data[18000], 1);
}

static void co_short_transfers_make_the_whole(struct fixture *fixture, void *arg)
{
    uint8_t data[1000], again[1000];
    (void)arg;
    struct block_node *node = co_open(fixture, FAULT "short-read=333,short-write=100");
    for (unsigned i = 0; i < 1000; i++)
        data[i] = (uint8_t)i;
    assert_int_equal(fixture_co_write(node, SIZE - 500, data, 1000, 0), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 10);
    assert_int_equal(node->size_bytes, SIZE + 500);
    assert_int_equal(fixture_co_read(node, SIZE - 500, again, 1000), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 4);
    assert_memory_equal(data, again, 1000);
    struct block_loan loan = {.begins = true};
    assert_int_equal(node_lend(node, 0, 10, &loan), -ENOTSUP);
}

/* --- mistakes -------------------------------------------------------------------------------- */

static void co_rules_that_make_no_sense_are_refused(struct fixture *fixture, void *arg)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {"inject-error.0.event=l3_load", "inject-error.0.event: no driver announces 'l3_load'"},
        {"inject-error.0.errno=EWRONG", "inject-error.0.errno: cannot be 'EWRONG'"},
        {"inject-error.0.errno=4096", "inject-error.0.errno: cannot be 4096"},
        {"inject-error.0.errno=5x", "inject-error.0.errno: cannot be '5x'"},
        {"inject-error.0.iotype=seek", "inject-error.0.iotype: cannot be 'seek'"},
        {"inject-error.0.sector=1,inject-error.0.offset=1", "inject-error.0.sector: not together"},
        {"inject-error.0.length=1", "inject-error.0.length: without 'offset'"},
        {"inject-error.0.offset=1,inject-error.0.length=0", "inject-error.0.length: the range is"},
        {"inject-error.0.offset=18446744073709551615", "inject-error.0.offset: the range is empty"},
        {"inject-error.0.sector=36028797018963968", "inject-error.0.sector: too large"},
        {"inject-error.0.nth=0", "inject-error.0.nth: cannot be 0"},
        {"inject-error.0.once=maybe", "inject-error.0.once: cannot be 'maybe'"},
        {"inject-error.0.colour=red", "inject-error.0.colour: a rule of the driver fault knows"},
        {"inject-error.1.errno=5", "inject-error.1.errno: the driver fault, whose rules count"},
        {"inject-error=5", "inject-error: the driver fault knows no such option"},
        {"set-state.0.event=read_aio", "set-state.0.new_state: missing"},
        {"set-state.0.new_state=2", "set-state.0.event: missing"},
        {"set-state.0.event=read_aio,set-state.0.new_state=0", "set-state.0.new_state: cannot be"},
        {"set-state.0.event=read_aio,set-state.0.new_state=2,set-state.0.errno=5",
         "set-state.0.errno: a rule of the driver fault knows"},
        {"align=3", "align: cannot be 3; say a power of two"},
        {"align=4M", "align: cannot be 4194304; say a power of two"},
        {"align=512,max-transfer=1000", "max-transfer: cannot be 1000; say a multiple"},
        {"align=512,max-write-zero=1", "max-write-zero: cannot be 1;"},
        {"align=512,max-discard=1", "max-discard: cannot be 1;"},
        {"align=512,opt-write-zero=1", "opt-write-zero: cannot be 1;"},
        {"align=512,opt-discard=1", "opt-discard: cannot be 1;"},
        {"short-read=little", "short-read: cannot be 'little'"},
    };
    (void)arg;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char text[300];
        struct error err = {""};
        snprintf(text, sizeof(text), FAULT "%s", cases[i].text);
        assert_int_equal(co_try_open(fixture, text, "file.", &err), -EINVAL);
        if (strncmp(err.message, cases[i].sentence, strlen(cases[i].sentence)) != 0)
            fail_msg("'%s' gives: %s", cases[i].text, err.message);
    }
    assert_int_equal(fixture->disk.counts[MEMORY_OPEN], fixture->disk.counts[MEMORY_CLOSE]);
}

static void co_the_child_may_be_called_image(struct fixture *fixture, void *arg)
{
    (void)arg;
    assert_int_equal(co_try_open(fixture, "driver=blkdebug,image.filename=a.img", "image.", NULL),
                     0);
    assert_string_equal(fixture->node->name, "a.img");
    assert_int_equal(co_read_at(fixture->node, 0, 1), 0);
}

#define TESTS(X)                                          \
    X(a_rule_without_more_fails_every_request_but_status) \
    X(each_kind_is_failed_alone)                          \
    X(a_range_is_failed_where_it_is_touched)              \
    X(once_is_once_and_nth_is_from_there)                 \
    X(the_first_rule_that_fits_decides)                   \
    X(a_part_is_transferred_before_it_fails)              \
    X(an_event_makes_its_rules_active)                    \
    X(the_pipeline_announces_too)                         \
    X(states_choose_the_rules)                            \
    X(who_passes_a_breakpoint_waits_until_it_may_go_on)   \
    X(breakpoints_of_one_tag_go_on_together)              \
    X(only_what_fails_immediately_does_not_wait)          \
    X(bounds_are_the_nodes_limits)                        \
    X(only_whole_multiples_are_zeroed_or_discarded)       \
    X(short_transfers_make_the_whole)                     \
    X(rules_that_make_no_sense_are_refused)               \
    X(the_child_may_be_called_image)

#define DEFINE_TEST(name) FIXTURE_TEST_WITH(name, drivers, SIZE, 2 * SIZE)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    drivers[1] = memory_drivers[0];
    drivers[2] = memory_drivers[1];
    talker = *memory_drivers[3];
    talker.name = "talker";
    talker.co_read = talk_and_read;
    talker.co_write = talk_and_write;
    talker.admin = &talker_admin;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
