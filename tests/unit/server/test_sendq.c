/* SPDX-License-Identifier: BSD-3-Clause */
/* sendq.c: every byte goes out once and in its place, wherever the stream stops taking them. */
#include "tests/unit/unit.h"

#include "server/sendq.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "server/stream.h"

#define OUTPUT_MAX 8192

/* A stream that takes at most `room` bytes in all until more room is made. */
struct fake_stream {
    struct stream stream;
    char output[OUTPUT_MAX];
    size_t output_length;
    size_t room;
    unsigned calls;
    int failure; /* what a full stream says */
};

static ssize_t fake_writev(struct stream *stream, const struct iovec *iov, unsigned iov_count)
{
    struct fake_stream *fake = (struct fake_stream *)stream;
    size_t taken = 0;
    fake->calls++;
    assert_in_range(iov_count, 1, IOV_MAX);
    if (fake->room == 0)
        return fake->failure;
    for (unsigned i = 0; i < iov_count && fake->room > 0; i++) {
        size_t part = iov[i].iov_len < fake->room ? iov[i].iov_len : fake->room;
        assert_true(iov[i].iov_len > 0);
        assert_true(fake->output_length + part <= OUTPUT_MAX);
        memcpy(fake->output + fake->output_length, iov[i].iov_base, part);
        fake->output_length += part;
        fake->room -= part;
        taken += part;
    }
    return (ssize_t)taken;
}

static const struct stream_ops fake_ops = {.writev = fake_writev};

static void fake_init(struct fake_stream *fake, size_t room)
{
    memset(fake, 0, sizeof(*fake));
    fake->stream.ops = &fake_ops;
    fake->room = room;
    fake->failure = -EAGAIN;
}

static unsigned count_of(const struct list *list)
{
    unsigned count = 0;
    list_for_each (link, list)
        count++;
    return count;
}

#define ITEM_COUNT 3

/* Three replies of 5, 7 and 2 bytes, of one to three buffers. */
struct three_items {
    char bytes[14];
    struct iovec iov[6];
    struct sendq_item items[ITEM_COUNT];
};

static void three_items_init(struct three_items *three, struct sendq *queue)
{
    static const size_t lengths[] = {2, 3, 1, 4, 2, 2};
    static const unsigned counts[] = {2, 3, 1};
    memcpy(three->bytes, "abcdefghijklmn", 14);
    size_t at = 0;
    unsigned next = 0;
    for (unsigned i = 0; i < 6; i++) {
        three->iov[i] = (struct iovec){.iov_base = three->bytes + at, .iov_len = lengths[i]};
        at += lengths[i];
    }
    assert_int_equal(at, 14);
    sendq_init(queue);
    for (unsigned i = 0; i < ITEM_COUNT; i++) {
        three->items[i] = (struct sendq_item){.iov = three->iov + next, .iov_count = counts[i]};
        next += counts[i];
        sendq_add(queue, &three->items[i]);
    }
}

static void everything_goes_out_in_one_call(void **state)
{
    (void)state;
    struct three_items three;
    struct sendq queue;
    struct fake_stream fake;
    struct list sent;
    list_init(&sent);
    three_items_init(&three, &queue);
    fake_init(&fake, 100);
    assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), 0);
    assert_int_equal(fake.calls, 1);
    assert_int_equal(fake.output_length, 14);
    assert_memory_equal(fake.output, "abcdefghijklmn", 14);
    assert_int_equal(count_of(&sent), 3);
    assert_ptr_equal(list_first(&sent), &three.items[0].link);
    assert_true(sendq_is_empty(&queue));
}

static void an_empty_queue_asks_nothing_of_the_stream(void **state)
{
    (void)state;
    struct sendq queue;
    struct fake_stream fake;
    struct list sent;
    list_init(&sent);
    sendq_init(&queue);
    fake_init(&fake, 0);
    assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), 0);
    assert_int_equal(fake.calls, 0);
}

/* For every pair of stops. */
static void a_partial_send_is_carried_on_at_every_split(void **state)
{
    (void)state;
    static const size_t ends[ITEM_COUNT] = {5, 12, 14};
    for (size_t first = 0; first < 14; first++) {
        for (size_t second = first; second < 14; second++) {
            struct three_items three;
            struct sendq queue;
            struct fake_stream fake;
            struct list sent;
            list_init(&sent);
            three_items_init(&three, &queue);
            fake_init(&fake, first);
            assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), -EAGAIN);
            assert_int_equal(fake.calls, 1); /* a short write is not asked again */
            for (unsigned i = 0; i < ITEM_COUNT; i++)
                assert_true(link_is_listed(&three.items[i].link));
            assert_int_equal(count_of(&sent), (first >= ends[0]) + (first >= ends[1]));
            fake.room = second - first;
            assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), -EAGAIN);
            assert_int_equal(count_of(&sent), (second >= ends[0]) + (second >= ends[1]));
            fake.room = 100;
            assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), 0);
            assert_int_equal(count_of(&sent), 3);
            assert_int_equal(fake.output_length, 14);
            assert_memory_equal(fake.output, "abcdefghijklmn", 14);
        }
    }
}

static void what_comes_during_a_stall_goes_out_after_it(void **state)
{
    (void)state;
    struct three_items three;
    struct sendq queue;
    struct fake_stream fake;
    struct list sent;
    struct iovec iov = {.iov_base = (char[]){'!'}, .iov_len = 1};
    struct sendq_item late = {.iov = &iov, .iov_count = 1};
    list_init(&sent);
    three_items_init(&three, &queue);
    fake_init(&fake, 6);
    assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), -EAGAIN);
    sendq_add(&queue, &late);
    fake.room = 100;
    assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), 0);
    assert_memory_equal(fake.output, "abcdefghijklmn!", 15);
}

static void more_buffers_than_one_call_takes_go_out_in_several(void **state)
{
    (void)state;
    enum { COUNT = 2 * IOV_MAX + 7 };
    static struct sendq_item items[COUNT];
    static struct iovec iov[COUNT];
    static char bytes[COUNT];
    struct sendq queue;
    struct fake_stream fake;
    struct list sent;
    list_init(&sent);
    sendq_init(&queue);
    for (unsigned i = 0; i < COUNT; i++) {
        bytes[i] = (char)(i % 251);
        iov[i] = (struct iovec){.iov_base = &bytes[i], .iov_len = 1};
        items[i] = (struct sendq_item){.iov = &iov[i], .iov_count = 1};
        sendq_add(&queue, &items[i]);
    }
    fake_init(&fake, SIZE_MAX);
    assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), 0);
    assert_int_equal(fake.calls, 3);
    assert_int_equal(fake.output_length, COUNT);
    assert_memory_equal(fake.output, bytes, COUNT);
    assert_int_equal(count_of(&sent), COUNT);
}

static void a_broken_stream_is_reported_and_the_rest_can_be_dropped(void **state)
{
    (void)state;
    struct three_items three;
    struct sendq queue;
    struct fake_stream fake;
    struct list sent, dropped;
    list_init(&sent);
    list_init(&dropped);
    three_items_init(&three, &queue);
    fake_init(&fake, 6);
    assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), -EAGAIN);
    fake.failure = -EPIPE;
    assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), -EPIPE);
    assert_int_equal(count_of(&sent), 1);
    sendq_drop(&queue, &dropped);
    assert_int_equal(count_of(&dropped), 2);
    assert_true(sendq_is_empty(&queue));
    /* The queue begins anew at the first byte. */
    three_items_init(&three, &queue);
    fake_init(&fake, 100);
    assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), 0);
    assert_memory_equal(fake.output, "abcdefghijklmn", 14);
}

/* --- lent buffers -------------------------------------------------------------------------------
 */

/* Five bytes of head, then nine that are lent in pieces of `piece_max`; after `loans` none are. */
struct lender {
    struct sendq_item item;
    struct iovec iov[2];
    char head[5], lent[9];
    size_t piece_max;
    unsigned loans;
};

static ssize_t lend(struct sendq_item *item, size_t skip, struct stream *stream,
                    const struct iovec *before, unsigned before_count, bool *ret_full)
{
    struct lender *lender = container_of(item, struct lender, item);
    struct iovec iov[8];
    size_t bytes = 0;
    assert_true(before_count < 8 && skip < sizeof(lender->lent));
    if (lender->loans == 0)
        return -ENODATA;
    lender->loans--;
    memcpy(iov, before, before_count * sizeof(iov[0]));
    size_t length = sizeof(lender->lent) - skip;
    if (length > lender->piece_max)
        length = lender->piece_max;
    iov[before_count] = (struct iovec){.iov_base = lender->lent + skip, .iov_len = length};
    for (unsigned i = 0; i <= before_count; i++)
        bytes += iov[i].iov_len;
    ssize_t put = stream->ops->writev(stream, iov, before_count + 1);
    *ret_full = put >= 0 && (size_t)put < bytes;
    return put;
}

/* Before the last of the three, which overtakes it. */
struct lending_queue {
    struct three_items three;
    struct lender lender;
    struct sendq queue;
};

static void lender_init(struct lender *lender, size_t piece_max)
{
    *lender = (struct lender){.piece_max = piece_max, .loans = UINT_MAX};
    memcpy(lender->lent, "123456789", 9);
    memcpy(lender->head, "HEAD:", 5);
    lender->iov[0] = (struct iovec){.iov_base = lender->head, .iov_len = 5};
    lender->iov[1] = (struct iovec){.iov_base = NULL, .iov_len = 9};
    lender->item = (struct sendq_item){.iov = lender->iov, .iov_count = 2, .send_lent = lend};
}

static void lending_queue_init(struct lending_queue *all, size_t piece_max)
{
    three_items_init(&all->three, &all->queue);
    lender_init(&all->lender, piece_max);
    list_remove(&all->three.items[2].link);
    sendq_add(&all->queue, &all->lender.item);
    sendq_add(&all->queue, &all->three.items[2]);
}

static const char lending_output[] = "abcdefghijklmnHEAD:123456789";
#define BYTES_BEFORE 14u
#define LENDING_BYTES (sizeof(lending_output) - 1)

/* And what comes when it was its turn, begun or not, goes after it. */
static void a_lent_buffer_is_carried_on_at_every_split_in_pieces_of_every_size(void **state)
{
    (void)state;
    for (size_t piece_max = 1; piece_max <= 9; piece_max++) {
        for (size_t first = 0; first < LENDING_BYTES; first++) {
            for (size_t second = first; second < LENDING_BYTES; second++) {
                struct lending_queue all;
                struct fake_stream fake;
                struct list sent;
                struct iovec iov = {.iov_base = (char[]){'!'}, .iov_len = 1};
                struct sendq_item late = {.iov = &iov, .iov_count = 1};
                list_init(&sent);
                lending_queue_init(&all, piece_max);
                fake_init(&fake, first);
                assert_int_equal(sendq_flush(&all.queue, &fake.stream, &sent), -EAGAIN);
                assert_int_equal(fake.output_length, first);
                sendq_add(&all.queue, &late);
                fake.room = second - first;
                assert_int_equal(sendq_flush(&all.queue, &fake.stream, &sent), -EAGAIN);
                assert_int_equal(fake.output_length, second);
                fake.room = 100;
                assert_int_equal(sendq_flush(&all.queue, &fake.stream, &sent), 0);
                assert_int_equal(fake.output_length, LENDING_BYTES + 1);
                assert_memory_equal(fake.output, lending_output, LENDING_BYTES);
                assert_int_equal(fake.output[LENDING_BYTES], '!');
                assert_int_equal(count_of(&sent), 5);
            }
        }
    }
}

/* The one whose turn it is goes on; the other one is overtaken until it is its turn. */
static void of_several_lent_ones_each_has_its_turn(void **state)
{
    (void)state;
    struct lender lenders[2];
    struct sendq queue;
    struct fake_stream fake;
    struct list sent;
    struct iovec iov[3];
    struct sendq_item others[3];
    char bytes[3] = "abc";
    list_init(&sent);
    sendq_init(&queue);
    fake_init(&fake, 7);
    for (unsigned i = 0; i < 3; i++) {
        iov[i] = (struct iovec){.iov_base = &bytes[i], .iov_len = 1};
        others[i] = (struct sendq_item){.iov = &iov[i], .iov_count = 1};
    }
    lender_init(&lenders[0], 9);
    lender_init(&lenders[1], 9);
    lenders[1].head[0] = 'h';
    sendq_add(&queue, &lenders[0].item);
    sendq_add(&queue, &lenders[1].item);
    sendq_add(&queue, &others[0]);
    assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), -EAGAIN);
    assert_memory_equal(fake.output, "aHEAD:1", 7);
    sendq_add(&queue, &others[1]);
    fake.room = 8 + 1 + 5;
    assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), -EAGAIN);
    sendq_add(&queue, &others[2]);
    fake.room = 100;
    assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), 0);
    assert_memory_equal(fake.output, "aHEAD:123456789bhEAD:123456789c", 31);
    assert_int_equal(fake.output_length, 31);
    assert_int_equal(count_of(&sent), 5);
}

static void those_that_are_overtaken_can_be_dropped_too(void **state)
{
    (void)state;
    struct lending_queue all;
    struct lender second;
    struct fake_stream fake;
    struct list sent, dropped;
    list_init(&sent);
    list_init(&dropped);
    lending_queue_init(&all, 9);
    lender_init(&second, 9);
    sendq_add(&all.queue, &second.item);
    fake_init(&fake, BYTES_BEFORE + 3);
    assert_int_equal(sendq_flush(&all.queue, &fake.stream, &sent), -EAGAIN);
    assert_int_equal(count_of(&sent), 3);
    sendq_drop(&all.queue, &dropped);
    assert_int_equal(count_of(&dropped), 2);
    assert_true(sendq_is_empty(&all.queue));
    list_init(&sent);
    lending_queue_init(&all, 9);
    fake_init(&fake, 100);
    assert_int_equal(sendq_flush(&all.queue, &fake.stream, &sent), 0);
    assert_memory_equal(fake.output, lending_output, LENDING_BYTES);
}

/* One whose lent bytes are many, and go to nobody. */
static ssize_t lend_many(struct sendq_item *item, size_t skip, struct stream *stream,
                         const struct iovec *before, unsigned before_count, bool *ret_full)
{
    size_t before_bytes = 0;
    (void)stream;
    for (unsigned i = 0; i < before_count; i++)
        before_bytes += before[i].iov_len;
    *ret_full = false;
    return (ssize_t)(before_bytes + item->iov[1].iov_len - skip);
}

/* A stream that takes everything; the others of the loop have their turn all the same. */
static void a_flush_ends_where_it_has_lent_enough(void **state)
{
    (void)state;
    enum { ITEMS = 10, LENT_BYTES = SENDQ_LENT_BYTES_MAX / 4 };
    struct iovec iov[2] = {{.iov_base = (char[]){'h'}, .iov_len = 1}, {.iov_len = LENT_BYTES}};
    struct sendq_item items[ITEMS];
    struct sendq queue;
    struct fake_stream fake;
    struct list sent;
    list_init(&sent);
    sendq_init(&queue);
    fake_init(&fake, SIZE_MAX);
    for (unsigned i = 0; i < ITEMS; i++) {
        items[i] = (struct sendq_item){.iov = iov, .iov_count = 2, .send_lent = lend_many};
        sendq_add(&queue, &items[i]);
    }
    assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), -EBUSY);
    assert_int_equal(count_of(&sent), 4);
    assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), -EBUSY);
    assert_int_equal(count_of(&sent), 8);
    assert_int_equal(sendq_flush(&queue, &fake.stream, &sent), 0);
    assert_int_equal(count_of(&sent), ITEMS);
    assert_true(sendq_is_empty(&queue));
}

/* Refused at the first loan or a later one: what is before it is out, and what is said of the first
 * item is true; when it can lend again it goes on. */
static void what_is_not_lent_for_a_while_goes_on_at_the_very_byte(void **state)
{
    (void)state;
    for (unsigned loans = 0; loans < 9; loans++) {
        struct lending_queue all;
        struct fake_stream fake;
        struct list sent;
        list_init(&sent);
        lending_queue_init(&all, 1);
        all.lender.loans = loans;
        fake_init(&fake, 100);
        assert_int_equal(sendq_flush(&all.queue, &fake.stream, &sent), -ENODATA);
        assert_int_equal(count_of(&sent), 3);
        assert_ptr_equal(sendq_first(&all.queue), &all.lender.item);
        assert_int_equal(all.queue.front_sent, loans == 0 ? 0 : 5 + loans);
        assert_int_equal(fake.output_length, BYTES_BEFORE + all.queue.front_sent);
        assert_int_equal(sendq_flush(&all.queue, &fake.stream, &sent), -ENODATA);
        all.lender.loans = UINT_MAX;
        assert_int_equal(sendq_flush(&all.queue, &fake.stream, &sent), 0);
        assert_int_equal(fake.output_length, LENDING_BYTES);
        assert_memory_equal(fake.output, lending_output, LENDING_BYTES);
    }
}

static void what_is_before_a_refused_loan_waits_for_a_full_stream_as_ever(void **state)
{
    (void)state;
    struct lending_queue all;
    struct fake_stream fake;
    struct list sent;
    list_init(&sent);
    lending_queue_init(&all, 9);
    all.lender.loans = 0;
    fake_init(&fake, 7);
    assert_int_equal(sendq_flush(&all.queue, &fake.stream, &sent), -EAGAIN);
    assert_int_equal(fake.output_length, 7);
    fake.room = 100;
    assert_int_equal(sendq_flush(&all.queue, &fake.stream, &sent), -ENODATA);
    assert_int_equal(fake.output_length, BYTES_BEFORE);
}

static void a_stream_that_breaks_in_a_loan_is_reported(void **state)
{
    (void)state;
    struct lending_queue all;
    struct fake_stream fake;
    struct list sent;
    list_init(&sent);
    lending_queue_init(&all, 9);
    fake_init(&fake, BYTES_BEFORE + 2);
    assert_int_equal(sendq_flush(&all.queue, &fake.stream, &sent), -EAGAIN);
    fake.failure = -EPIPE;
    assert_int_equal(sendq_flush(&all.queue, &fake.stream, &sent), -EPIPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_goes_out_in_one_call),
        cmocka_unit_test(an_empty_queue_asks_nothing_of_the_stream),
        cmocka_unit_test(a_partial_send_is_carried_on_at_every_split),
        cmocka_unit_test(what_comes_during_a_stall_goes_out_after_it),
        cmocka_unit_test(more_buffers_than_one_call_takes_go_out_in_several),
        cmocka_unit_test(a_lent_buffer_is_carried_on_at_every_split_in_pieces_of_every_size),
        cmocka_unit_test(of_several_lent_ones_each_has_its_turn),
        cmocka_unit_test(those_that_are_overtaken_can_be_dropped_too),
        cmocka_unit_test(a_flush_ends_where_it_has_lent_enough),
        cmocka_unit_test(what_is_not_lent_for_a_while_goes_on_at_the_very_byte),
        cmocka_unit_test(what_is_before_a_refused_loan_waits_for_a_full_stream_as_ever),
        cmocka_unit_test(a_stream_that_breaks_in_a_loan_is_reported),
        cmocka_unit_test(a_broken_stream_is_reported_and_the_rest_can_be_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
