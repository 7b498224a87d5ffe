/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transmission.c: requests out of a stream, in sync whatever the client sends, and the same at any
 * split of the bytes.
 */
#include "tests/unit/unit.h"

#include "tests/unit/protocol/fixture.h"

#include "common/random.h"
#include "protocol/transmission.h"

#include <stdlib.h>
#include <string.h>

static struct transmission on_with(const struct nbd_export_info *export, enum nbd_headers headers)
{
    struct handshake_result result = {.export = export,
                                      .transmission_flags = export->transmission_flags,
                                      .headers = headers,
                                      .context_mask = 1};
    struct transmission transmission;
    transmission_init(&transmission, &result);
    return transmission;
}

static struct transmission on(const struct nbd_export_info *export)
{
    return on_with(export, NBD_HEADERS_STRUCTURED);
}

static void put(struct writer *stream, uint16_t command, uint64_t cookie, uint64_t offset,
                uint32_t length)
{
    writer_be32(stream, NBD_REQUEST_MAGIC);
    writer_be16(stream, 0);
    writer_be16(stream, command);
    writer_be64(stream, cookie);
    writer_be64(stream, offset);
    writer_be32(stream, length);
}

static void put_write(struct writer *stream, uint64_t cookie, uint64_t offset, uint32_t length)
{
    put(stream, NBD_CMD_WRITE, cookie, offset, length);
    for (uint32_t i = 0; i < length; i++)
        writer_bytes(stream, "W", 1);
}

/* One line for each event, so that two runs can be compared; keeps unread bytes as a connection
 * would. */
struct run {
    struct transmission transmission;
    enum nbd_headers headers;
    uint8_t held[REQUEST_HEADER_MAX]; /* the front of a header that is not whole */
    size_t held_length;
    struct writer events;
    enum transmission_event last;
};

static void run_event(struct run *run, enum transmission_event event,
                      const struct transmission_item *item)
{
    run->last = event;
    if (event == TRANSMISSION_NEED_MORE)
        return;
    writer_be32(&run->events, event);
    if (event == TRANSMISSION_REQUEST || event == TRANSMISSION_ANSWER)
        writer_be64(&run->events, item->request.cookie);
    if (event == TRANSMISSION_ANSWER)
        writer_be32(&run->events, item->verdict.error);
}

/* Feeds a piece; returns false at the stream's end. */
static bool run_feed(struct run *run, const uint8_t *piece, size_t piece_length)
{
    size_t length = run->held_length + piece_length;
    uint8_t *data = malloc(length + 1), *at = data;
    memcpy(data, run->held, run->held_length);
    memcpy(data + run->held_length, piece, piece_length);
    run->held_length = 0;
    bool open = true;
    while (open && run->held_length == 0) {
        size_t left = length - (size_t)(at - data), used = 0;
        uint32_t payload = transmission_payload_left(&run->transmission);
        if (payload > 0) {
            uint32_t taken = payload < left ? payload : (uint32_t)left;
            transmission_payload_taken(&run->transmission, taken);
            at += taken;
            if (taken < payload)
                break;
            continue;
        }
        struct transmission_item item;
        enum transmission_event event =
            transmission_next(&run->transmission, at, left, &used, &item);
        assert_true(used <= left);
        at += used;
        run_event(run, event, &item);
        open = event != TRANSMISSION_DISCONNECT && event != TRANSMISSION_BROKEN;
        if (event == TRANSMISSION_NEED_MORE) {
            assert_true(left - used < request_header_size(run->headers));
            run->held_length = left - used;
            memcpy(run->held, at, run->held_length);
            break;
        }
    }
    free(data);
    return open;
}

static void run_all(struct run *run, const struct writer *stream, size_t piece,
                    struct random *random)
{
    run->transmission = on_with(&fixture_disk, run->headers);
    run->held_length = 0;
    writer_init(&run->events, 1 << 20);
    for (size_t at = 0; at < stream->length;) {
        size_t length = piece ? piece : 1 + random_below(random, 60);
        if (length > stream->length - at)
            length = stream->length - at;
        if (!run_feed(run, stream->data + at, length))
            return;
        at += length;
    }
}

/* Plays the stream whole, byte by byte and in random pieces, and compares; leaves the last run. */
static void play_with(struct run *run, const struct writer *stream, enum nbd_headers headers)
{
    struct random random;
    random_seed(&random, fixture_seed());
    run->headers = headers;
    run_all(run, stream, SIZE_MAX, NULL);
    for (int i = 0; i < 4; i++) {
        struct run other = {.headers = headers};
        run_all(&other, stream, i == 0 ? 1 : 0, &random);
        assert_int_equal(other.last, run->last);
        assert_int_equal(other.held_length, run->held_length);
        assert_int_equal(other.events.length, run->events.length);
        if (run->events.length > 0)
            assert_memory_equal(other.events.data, run->events.data, run->events.length);
        writer_fini(&other.events);
    }
}

static void play(struct run *run, const struct writer *stream)
{
    play_with(run, stream, NBD_HEADERS_STRUCTURED);
}

static void expect(struct reader *events, enum transmission_event event, uint64_t cookie,
                   uint32_t error)
{
    assert_int_equal(reader_be32(events), event);
    if (event == TRANSMISSION_REQUEST || event == TRANSMISSION_ANSWER)
        assert_int_equal(reader_be64(events), cookie);
    if (event == TRANSMISSION_ANSWER)
        assert_int_equal(reader_be32(events), error);
    assert_false(events->failed);
}

static void one_large_receive_holds_many_requests(void **state)
{
    (void)state;
    struct writer stream;
    struct run run;
    struct reader events;
    writer_init(&stream, 1 << 20);
    for (uint64_t i = 0; i < 100; i++) {
        put(&stream, NBD_CMD_READ, 3 * i, 512 * i, 512);
        put_write(&stream, 3 * i + 1, 512 * i, (uint32_t)i + 1);
        put(&stream, NBD_CMD_FLUSH, 3 * i + 2, 0, 0);
    }
    play(&run, &stream);
    reader_init(&events, run.events.data, run.events.length);
    for (uint64_t i = 0; i < 300; i++)
        expect(&events, TRANSMISSION_REQUEST, i, 0);
    assert_true(reader_is_exhausted(&events));
    assert_int_equal(run.last, TRANSMISSION_NEED_MORE);
    writer_fini(&run.events);
    writer_fini(&stream);
}

static void a_refused_write_is_drained_and_the_stream_stays_in_sync(void **state)
{
    (void)state;
    struct writer stream;
    struct run run;
    struct reader events;
    writer_init(&stream, (size_t)64 << 20);
    put_write(&stream, 1, FIXTURE_SIZE - 10, 11);
    put(&stream, NBD_CMD_READ, 2, 0, 512);
    put(&stream, NBD_CMD_WRITE, 3, 0, NBD_PAYLOAD_DEFAULT_MAX + 1);
    writer_zeroes(&stream, NBD_PAYLOAD_DEFAULT_MAX + 1);
    put(&stream, NBD_CMD_READ, 4, 0, 512);

    /* Too long for a byte at a time: random and whole only. */
    struct random random;
    random_seed(&random, fixture_seed());
    run.headers = NBD_HEADERS_STRUCTURED;
    for (int i = 0; i < 2; i++) {
        run_all(&run, &stream, i == 0 ? SIZE_MAX : 1 + random_below(&random, 1 << 20), NULL);
        reader_init(&events, run.events.data, run.events.length);
        expect(&events, TRANSMISSION_ANSWER, 1, NBD_ENOSPC);
        expect(&events, TRANSMISSION_REQUEST, 2, 0);
        expect(&events, TRANSMISSION_ANSWER, 3, NBD_EINVAL);
        expect(&events, TRANSMISSION_REQUEST, 4, 0);
        assert_true(reader_is_exhausted(&events));
        writer_fini(&run.events);
    }
    writer_fini(&stream);
}

static void a_write_to_a_read_only_export_is_drained_too(void **state)
{
    (void)state;
    struct writer stream;
    writer_init(&stream, 1 << 20);
    put_write(&stream, 1, 0, 512);
    put(&stream, NBD_CMD_READ, 2, 0, 512);
    struct transmission transmission = on(&fixture_aligned);
    struct transmission_item item;
    size_t used, at = 0;
    assert_int_equal(transmission_next(&transmission, stream.data, stream.length, &used, &item),
                     TRANSMISSION_ANSWER);
    assert_int_equal(item.verdict.error, NBD_EPERM);
    at += used;
    assert_int_equal(
        transmission_next(&transmission, stream.data + at, stream.length - at, &used, &item),
        TRANSMISSION_REQUEST);
    assert_int_equal(item.request.cookie, 2);
    assert_int_equal(at + used, stream.length);
    writer_fini(&stream);
}

static void a_giant_refused_write_breaks_the_stream_instead_of_being_drained(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {TRANSMISSION_DRAIN_MAX + 1, UINT32_MAX};
    for (size_t i = 0; i < 2; i++) {
        struct writer stream;
        struct run run;
        writer_init(&stream, 1 << 20);
        put(&stream, NBD_CMD_WRITE, 1, 0, lengths[i]);
        put(&stream, NBD_CMD_READ, 2, 0, 512);
        play(&run, &stream);
        assert_int_equal(run.last, TRANSMISSION_BROKEN);
        writer_fini(&run.events);

        /* What follows is not looked at: it is payload, whatever it looks like. */
        struct transmission transmission = on(&fixture_disk);
        struct transmission_item item = {.reason = NULL};
        size_t used;
        assert_int_equal(transmission_next(&transmission, stream.data, stream.length, &used, &item),
                         TRANSMISSION_BROKEN);
        assert_int_equal(used, stream.length);
        assert_non_null(item.reason);
        writer_fini(&stream);
    }
}

static void a_wrong_magic_breaks_the_stream_for_good(void **state)
{
    (void)state;
    struct writer stream;
    writer_init(&stream, 1 << 20);
    put(&stream, NBD_CMD_READ, 1, 0, 512);
    writer_zeroes(&stream, NBD_REQUEST_SIZE);
    put(&stream, NBD_CMD_READ, 2, 0, 512);
    struct run run;
    struct reader events;
    play(&run, &stream);
    reader_init(&events, run.events.data, run.events.length);
    expect(&events, TRANSMISSION_REQUEST, 1, 0);
    expect(&events, TRANSMISSION_BROKEN, 0, 0);
    assert_true(reader_is_exhausted(&events));

    struct transmission_item item = {.reason = NULL};
    size_t used;
    assert_int_equal(transmission_next(&run.transmission, stream.data, 28, &used, &item),
                     TRANSMISSION_BROKEN);
    assert_int_equal(used, 28);
    assert_non_null(item.reason);
    writer_fini(&run.events);
    writer_fini(&stream);
}

static void disc_ends_the_stream_and_what_follows_is_ignored(void **state)
{
    (void)state;
    struct writer stream;
    struct run run;
    struct reader events;
    writer_init(&stream, 1 << 20);
    put(&stream, NBD_CMD_READ, 1, 0, 512);
    put(&stream, NBD_CMD_DISC, 2, 0, 0);
    put(&stream, NBD_CMD_READ, 3, 0, 512);
    play(&run, &stream);
    reader_init(&events, run.events.data, run.events.length);
    expect(&events, TRANSMISSION_REQUEST, 1, 0);
    expect(&events, TRANSMISSION_DISCONNECT, 0, 0);
    assert_true(reader_is_exhausted(&events));
    assert_null(transmission_eof(&run.transmission, 0));
    assert_null(transmission_eof(&run.transmission, 5)); /* nor is it news that more came */
    struct transmission_item item;
    size_t used;
    assert_int_equal(transmission_next(&run.transmission, stream.data, 28, &used, &item),
                     TRANSMISSION_DISCONNECT);
    assert_int_equal(used, 28);
    writer_fini(&run.events);
    writer_fini(&stream);
}

static void an_empty_write_has_no_payload_and_succeeds(void **state)
{
    (void)state;
    struct writer stream;
    struct run run;
    struct reader events;
    writer_init(&stream, 1 << 20);
    put(&stream, NBD_CMD_WRITE, 1, 0, 0);
    put(&stream, NBD_CMD_READ, 2, 0, 0);
    put(&stream, NBD_CMD_READ, 3, 0, 1);
    play(&run, &stream);
    reader_init(&events, run.events.data, run.events.length);
    expect(&events, TRANSMISSION_ANSWER, 1, NBD_SUCCESS);
    expect(&events, TRANSMISSION_ANSWER, 2, NBD_SUCCESS);
    expect(&events, TRANSMISSION_REQUEST, 3, 0);
    writer_fini(&run.events);
    writer_fini(&stream);
}

static void the_payload_is_where_it_lies_and_is_taken_in_parts(void **state)
{
    (void)state;
    struct writer stream;
    writer_init(&stream, 1 << 20);
    put_write(&stream, 1, 0, 100);
    struct transmission transmission = on(&fixture_disk);
    struct transmission_item item;
    size_t used;
    assert_int_equal(transmission_next(&transmission, stream.data, stream.length, &used, &item),
                     TRANSMISSION_REQUEST);
    assert_int_equal(used, NBD_REQUEST_SIZE);
    assert_int_equal(item.request.length, 100);
    assert_int_equal(transmission_payload_left(&transmission), 100);
    assert_non_null(transmission_eof(&transmission, 0));
    transmission_payload_taken(&transmission, 60);
    assert_int_equal(transmission_payload_left(&transmission), 40);
    transmission_payload_taken(&transmission, 40);
    assert_null(transmission_eof(&transmission, 0));
    writer_fini(&stream);
}

static void leaving_inside_a_header_or_a_payload_is_told(void **state)
{
    (void)state;
    struct transmission transmission = on(&fixture_disk);
    assert_null(transmission_eof(&transmission, 0));
    assert_non_null(transmission_eof(&transmission, 1));
    assert_non_null(transmission_eof(&transmission, NBD_REQUEST_SIZE - 1));
}

static void shutting_down_refuses_what_comes_and_drains_it(void **state)
{
    (void)state;
    struct writer stream;
    writer_init(&stream, 1 << 20);
    put_write(&stream, 1, 0, 64);
    put(&stream, NBD_CMD_READ, 2, 0, 512);
    put(&stream, NBD_CMD_DISC, 3, 0, 0);
    struct transmission transmission = on(&fixture_disk);
    transmission_shut_down(&transmission);
    struct transmission_item item;
    size_t used, at = 0;
    for (uint64_t cookie = 1; cookie <= 2; cookie++) {
        assert_int_equal(
            transmission_next(&transmission, stream.data + at, stream.length - at, &used, &item),
            TRANSMISSION_ANSWER);
        assert_int_equal(item.request.cookie, cookie);
        assert_int_equal(item.verdict.error, NBD_ESHUTDOWN);
        at += used;
    }
    assert_int_equal(
        transmission_next(&transmission, stream.data + at, stream.length - at, &used, &item),
        TRANSMISSION_DISCONNECT);
    writer_fini(&stream);
}

static void the_limits_come_from_what_was_negotiated(void **state)
{
    (void)state;
    struct handshake_result result = {.export = &fixture_aligned,
                                      .transmission_flags = NBD_FLAG_HAS_FLAGS,
                                      .headers = NBD_HEADERS_SIMPLE,
                                      .context_mask = 0};
    struct transmission transmission;
    transmission_init(&transmission, &result);
    assert_int_equal(transmission.limits.size_bytes, fixture_aligned.size_bytes);
    assert_int_equal(transmission.limits.block_minimum, 512);
    assert_int_equal(transmission.limits.payload_max, 1 << 20);
    assert_int_equal(transmission.limits.transmission_flags, NBD_FLAG_HAS_FLAGS);
    assert_int_equal(transmission.limits.headers, NBD_HEADERS_SIMPLE);
    assert_false(transmission.limits.has_contexts);
}

static void put_extended(struct writer *stream, uint16_t flags, uint16_t command, uint64_t cookie,
                         uint64_t offset, uint64_t length)
{
    writer_be32(stream, NBD_EXTENDED_REQUEST_MAGIC);
    writer_be16(stream, flags);
    writer_be16(stream, command);
    writer_be64(stream, cookie);
    writer_be64(stream, offset);
    writer_be64(stream, length);
    if (flags & NBD_CMD_FLAG_PAYLOAD_LEN && length < 4096)
        for (uint64_t i = 0; i < length; i++)
            writer_bytes(stream, "P", 1);
}

static void extended_requests_come_in_32_bytes_with_payload_where_the_flag_says(void **state)
{
    (void)state;
    const uint16_t payload = NBD_CMD_FLAG_PAYLOAD_LEN;
    struct writer stream;
    struct run run;
    struct reader events;
    writer_init(&stream, 1 << 20);
    put_extended(&stream, 0, NBD_CMD_READ, 1, 0, 512);
    put_extended(&stream, payload, NBD_CMD_WRITE, 2, 0, 33);
    put_extended(&stream, payload, NBD_CMD_WRITE, 3, 0, 0);
    put_extended(&stream, payload, NBD_CMD_WRITE, 4, FIXTURE_SIZE, 33);
    put_extended(&stream, 0, NBD_CMD_WRITE, 5, 0, 33); /* no payload follows this one */
    put_extended(&stream, 0, NBD_CMD_TRIM, 6, 0, FIXTURE_SIZE);
    put_extended(&stream, 0, NBD_CMD_TRIM, 7, 0, UINT64_C(1) << 40);
    put_extended(&stream, 0, NBD_CMD_DISC, 8, 0, 0);
    play_with(&run, &stream, NBD_HEADERS_EXTENDED);
    reader_init(&events, run.events.data, run.events.length);
    expect(&events, TRANSMISSION_REQUEST, 1, 0);
    expect(&events, TRANSMISSION_REQUEST, 2, 0);
    expect(&events, TRANSMISSION_ANSWER, 3, NBD_SUCCESS);
    expect(&events, TRANSMISSION_ANSWER, 4, NBD_ENOSPC);
    expect(&events, TRANSMISSION_ANSWER, 5, NBD_EINVAL);
    expect(&events, TRANSMISSION_REQUEST, 6, 0);
    expect(&events, TRANSMISSION_ANSWER, 7, NBD_EINVAL);
    expect(&events, TRANSMISSION_DISCONNECT, 0, 0);
    assert_true(reader_is_exhausted(&events));
    writer_fini(&run.events);
    writer_fini(&stream);
}

/* BLOCK_STATUS too: its payload form was not advertised. */
static void an_unexpected_payload_is_drained_and_answered_einval(void **state)
{
    (void)state;
    static const uint16_t commands[] = {NBD_CMD_READ,         NBD_CMD_FLUSH,        NBD_CMD_TRIM,
                                        NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS, 99};
    struct writer stream;
    struct run run;
    struct reader events;
    writer_init(&stream, 1 << 20);
    for (uint64_t i = 0; i < 6; i++)
        put_extended(&stream, NBD_CMD_FLAG_PAYLOAD_LEN, commands[i], i, 0, 12);
    put_extended(&stream, 0, NBD_CMD_READ, 6, 0, 512);
    play_with(&run, &stream, NBD_HEADERS_EXTENDED);
    reader_init(&events, run.events.data, run.events.length);
    for (uint64_t i = 0; i < 6; i++)
        expect(&events, TRANSMISSION_ANSWER, i, NBD_EINVAL);
    expect(&events, TRANSMISSION_REQUEST, 6, 0);
    assert_true(reader_is_exhausted(&events));
    writer_fini(&run.events);
    writer_fini(&stream);
}

static void an_extended_payload_past_the_maximum_breaks_the_stream(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {NBD_PAYLOAD_DEFAULT_MAX + 1, UINT64_C(1) << 32,
                                       (UINT64_C(1) << 32) + 1, UINT64_MAX};
    static const uint16_t commands[] = {NBD_CMD_WRITE, NBD_CMD_READ, NBD_CMD_BLOCK_STATUS};
    for (size_t i = 0; i < 12; i++) {
        struct writer stream;
        struct run run;
        writer_init(&stream, 1 << 20);
        put_extended(&stream, NBD_CMD_FLAG_PAYLOAD_LEN, commands[i % 3], 1, 0, lengths[i / 3]);
        put_extended(&stream, 0, NBD_CMD_READ, 2, 0, 512);
        play_with(&run, &stream, NBD_HEADERS_EXTENDED);
        assert_int_equal(run.last, TRANSMISSION_BROKEN);
        writer_fini(&run.events);
        writer_fini(&stream);
    }
}

static void a_compact_request_on_an_extended_stream_breaks_it(void **state)
{
    (void)state;
    struct writer stream;
    struct run run;
    writer_init(&stream, 1 << 20);
    put(&stream, NBD_CMD_READ, 1, 0, 512);
    put(&stream, NBD_CMD_READ, 2, 0, 512);
    play_with(&run, &stream, NBD_HEADERS_EXTENDED);
    assert_int_equal(run.last, TRANSMISSION_BROKEN);
    writer_fini(&run.events);

    writer_truncate(&stream, 0);
    put_extended(&stream, 0, NBD_CMD_READ, 1, 0, 512);
    play(&run, &stream);
    assert_int_equal(run.last, TRANSMISSION_BROKEN);
    writer_fini(&run.events);
    writer_fini(&stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_large_receive_holds_many_requests),
        cmocka_unit_test(a_refused_write_is_drained_and_the_stream_stays_in_sync),
        cmocka_unit_test(a_write_to_a_read_only_export_is_drained_too),
        cmocka_unit_test(a_giant_refused_write_breaks_the_stream_instead_of_being_drained),
        cmocka_unit_test(a_wrong_magic_breaks_the_stream_for_good),
        cmocka_unit_test(disc_ends_the_stream_and_what_follows_is_ignored),
        cmocka_unit_test(an_empty_write_has_no_payload_and_succeeds),
        cmocka_unit_test(the_payload_is_where_it_lies_and_is_taken_in_parts),
        cmocka_unit_test(leaving_inside_a_header_or_a_payload_is_told),
        cmocka_unit_test(shutting_down_refuses_what_comes_and_drains_it),
        cmocka_unit_test(the_limits_come_from_what_was_negotiated),
        cmocka_unit_test(extended_requests_come_in_32_bytes_with_payload_where_the_flag_says),
        cmocka_unit_test(an_unexpected_payload_is_drained_and_answered_einval),
        cmocka_unit_test(an_extended_payload_past_the_maximum_breaks_the_stream),
        cmocka_unit_test(a_compact_request_on_an_extended_stream_breaks_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
