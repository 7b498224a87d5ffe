/* SPDX-License-Identifier: BSD-3-Clause */
/* request.c: which requests are carried out, and with which error the others are refused. */
#include "tests/unit/unit.h"

#include "protocol/request.h"
#include "protocol/wire.h"

#include <string.h>

#define SIZE UINT64_C(100000001)
#define CARRIED_OUT UINT32_MAX /* no error value: the request is good */

static const struct request_limits writable = {
    .size_bytes = SIZE,
    .transmission_flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
                          NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_DF |
                          NBD_FLAG_SEND_FAST_ZERO | NBD_FLAG_SEND_CACHE,
    .headers = NBD_HEADERS_STRUCTURED,
    .has_contexts = true,
    .block_minimum = 1,
    .payload_max = NBD_PAYLOAD_DEFAULT_MAX,
};

static const uint16_t all_commands[] = {NBD_CMD_READ, NBD_CMD_WRITE,        NBD_CMD_FLUSH,
                                        NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS,
                                        NBD_CMD_CACHE};
#define ALL (sizeof(all_commands) / sizeof(all_commands[0]))

static uint32_t check_on(const struct request_limits *limits, uint16_t command, uint16_t flags,
                         uint64_t offset, uint64_t length)
{
    struct request request = {.command = command,
                              .flags = flags,
                              .offset = offset,
                              .length = length,
                              .headers = limits->headers,
                              .cookie = 7};
    struct request_verdict verdict = {0};
    if (request_check(&request, limits, &verdict))
        return CARRIED_OUT;
    assert_int_equal(verdict.error == NBD_SUCCESS, verdict.text == NULL);
    return verdict.error;
}

static uint32_t check(uint16_t command, uint16_t flags, uint64_t offset, uint64_t length)
{
    return check_on(&writable, command, flags, offset, length);
}

/* A length that is good for the command. */
static uint32_t good_length(uint16_t command)
{
    return command == NBD_CMD_FLUSH ? 0 : 512;
}

static void a_header_is_taken_apart_in_network_order(void **state)
{
    (void)state;
    const uint8_t header[NBD_REQUEST_SIZE] = {0x25, 0x60, 0x95, 0x13, 0,   1,   0,   6,  1,  2,
                                              3,    4,    5,    6,    7,   8,   9,   10, 11, 12,
                                              13,   14,   15,   16,   0xf, 0xe, 0xd, 0xc};
    struct request request;
    assert_true(request_parse(header, NBD_HEADERS_STRUCTURED, &request));
    assert_int_equal(request.flags, NBD_CMD_FLAG_FUA);
    assert_int_equal(request.command, NBD_CMD_WRITE_ZEROES);
    assert_true(request.cookie == UINT64_C(0x0102030405060708));
    assert_true(request.offset == UINT64_C(0x090a0b0c0d0e0f10));
    assert_int_equal(request.length, 0x0f0e0d0c);
    assert_int_equal(request.headers, NBD_HEADERS_STRUCTURED);
    assert_false(request_parse(header, NBD_HEADERS_EXTENDED, &request));

    uint8_t wrong[NBD_REQUEST_SIZE];
    for (int bit = 0; bit < 32; bit++) {
        memcpy(wrong, header, sizeof(wrong));
        wrong[bit / 8] ^= 1 << bit % 8;
        assert_false(request_parse(wrong, NBD_HEADERS_STRUCTURED, &request));
    }
}

static void good_requests_are_carried_out(void **state)
{
    (void)state;
    assert_int_equal(check(NBD_CMD_READ, 0, 0, 1), CARRIED_OUT);
    assert_int_equal(check(NBD_CMD_READ, NBD_CMD_FLAG_DF, 3, 65536), CARRIED_OUT);
    assert_int_equal(check(NBD_CMD_WRITE, 0, SIZE - 1, 1), CARRIED_OUT);
    assert_int_equal(check(NBD_CMD_FLUSH, 0, 0, 0), CARRIED_OUT);
    assert_int_equal(check(NBD_CMD_TRIM, 0, 1, (uint32_t)SIZE - 1), CARRIED_OUT);
    assert_int_equal(check(NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 0, (uint32_t)SIZE),
                     CARRIED_OUT);
    assert_int_equal(check(NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 0, (uint32_t)SIZE),
                     CARRIED_OUT);
}

static void past_the_end_is_enospc_for_write_and_zeroes_and_einval_for_the_others(void **state)
{
    (void)state;
    static const struct {
        uint16_t command;
        uint32_t error;
    } table[] = {{NBD_CMD_READ, NBD_EINVAL},         {NBD_CMD_WRITE, NBD_ENOSPC},
                 {NBD_CMD_TRIM, NBD_EINVAL},         {NBD_CMD_WRITE_ZEROES, NBD_ENOSPC},
                 {NBD_CMD_BLOCK_STATUS, NBD_EINVAL}, {NBD_CMD_CACHE, NBD_EINVAL}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        uint16_t command = table[i].command;
        assert_int_equal(check(command, 0, SIZE - 511, 512), table[i].error);
        assert_int_equal(check(command, 0, SIZE, 1), table[i].error);
        assert_int_equal(check(command, 0, SIZE + 1, 0), table[i].error);
        assert_int_equal(check(command, 0, SIZE - 512, 512), CARRIED_OUT);
    }
}

static void offset_plus_length_does_not_wrap(void **state)
{
    (void)state;
    static const uint64_t offsets[] = {UINT64_MAX, UINT64_MAX - 511, UINT64_MAX - 510,
                                       UINT64_C(1) << 63, (UINT64_C(1) << 63) - 512};
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        assert_int_equal(check(NBD_CMD_READ, 0, offsets[i], 512), NBD_EINVAL);
        assert_int_equal(check(NBD_CMD_WRITE, 0, offsets[i], 512), NBD_ENOSPC);
        assert_int_equal(check(NBD_CMD_WRITE_ZEROES, 0, offsets[i], UINT32_MAX), NBD_ENOSPC);
        assert_int_equal(check(NBD_CMD_TRIM, 0, offsets[i], UINT32_MAX), NBD_EINVAL);
    }
}

static void a_read_only_export_answers_write_trim_and_zeroes_with_eperm(void **state)
{
    (void)state;
    struct request_limits limits = writable;
    limits.transmission_flags |= NBD_FLAG_READ_ONLY;
    for (int offered = 0; offered < 2; offered++) {
        assert_int_equal(check_on(&limits, NBD_CMD_WRITE, 0, 0, 512), NBD_EPERM);
        assert_int_equal(check_on(&limits, NBD_CMD_TRIM, 0, 0, 512), NBD_EPERM);
        assert_int_equal(check_on(&limits, NBD_CMD_WRITE_ZEROES, 0, 0, 512), NBD_EPERM);
        assert_int_equal(check_on(&limits, NBD_CMD_WRITE, 0, SIZE, 512), NBD_EPERM);
        assert_int_equal(check_on(&limits, NBD_CMD_WRITE, 0, 0, 0), NBD_EPERM);
        assert_int_equal(check_on(&limits, NBD_CMD_READ, 0, 0, 512), CARRIED_OUT);
        assert_int_equal(check_on(&limits, NBD_CMD_FLUSH, 0, 0, 0), CARRIED_OUT);
        limits.transmission_flags &= ~(NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES);
    }
}

static void fua_is_accepted_on_every_command_when_advertised_and_on_none_otherwise(void **state)
{
    (void)state;
    struct request_limits limits = writable;
    for (size_t i = 0; i < ALL; i++)
        assert_int_equal(check(all_commands[i], NBD_CMD_FLAG_FUA, 0, good_length(all_commands[i])),
                         CARRIED_OUT);
    limits.transmission_flags &= ~NBD_FLAG_SEND_FUA;
    for (size_t i = 0; i < ALL; i++)
        assert_int_equal(
            check_on(&limits, all_commands[i], NBD_CMD_FLAG_FUA, 0, good_length(all_commands[i])),
            NBD_EINVAL);
}

/* Goal: every bit with every command; only the pairs of the specification pass. */
static void a_flag_that_is_not_the_commands_own_is_einval(void **state)
{
    (void)state;
    for (size_t i = 0; i < ALL; i++)
        for (int bit = 0; bit < 16; bit++) {
            uint16_t command = all_commands[i], flag = (uint16_t)(1 << bit);
            bool good = flag == NBD_CMD_FLAG_FUA ||
                        (flag == NBD_CMD_FLAG_NO_HOLE && command == NBD_CMD_WRITE_ZEROES) ||
                        (flag == NBD_CMD_FLAG_FAST_ZERO && command == NBD_CMD_WRITE_ZEROES) ||
                        (flag == NBD_CMD_FLAG_DF && command == NBD_CMD_READ) ||
                        (flag == NBD_CMD_FLAG_REQ_ONE && command == NBD_CMD_BLOCK_STATUS);
            assert_int_equal(check(command, flag, 0, good_length(command)),
                             good ? CARRIED_OUT : NBD_EINVAL);
        }
}

static void df_without_structured_replies_is_einval(void **state)
{
    (void)state;
    struct request_limits limits = writable;
    limits.headers = NBD_HEADERS_SIMPLE;
    limits.transmission_flags &= ~NBD_FLAG_SEND_DF;
    assert_int_equal(check_on(&limits, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 512), NBD_EINVAL);
}

static void fast_zero_and_cache_are_not_advertised_and_so_einval(void **state)
{
    (void)state;
    struct request_limits limits = writable;
    limits.transmission_flags &= ~(NBD_FLAG_SEND_FAST_ZERO | NBD_FLAG_SEND_CACHE);
    assert_int_equal(check_on(&limits, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 0, 512),
                     NBD_EINVAL);
    assert_int_equal(check_on(&limits, NBD_CMD_CACHE, 0, 0, 512), NBD_EINVAL);
}

static void fast_zero_and_cache_are_carried_out_when_advertised_whatever_their_length(void **state)
{
    (void)state;
    struct request_limits limits = writable;
    const uint16_t fast = NBD_CMD_FLAG_FAST_ZERO;
    limits.size_bytes = UINT64_C(8) << 30;
    assert_int_equal(check_on(&limits, NBD_CMD_WRITE_ZEROES, fast, 0, UINT32_MAX), CARRIED_OUT);
    assert_int_equal(check_on(&limits, NBD_CMD_WRITE_ZEROES, fast | NBD_CMD_FLAG_NO_HOLE, 1, 511),
                     CARRIED_OUT);
    assert_int_equal(check_on(&limits, NBD_CMD_CACHE, 0, 0, UINT32_MAX), CARRIED_OUT);
    assert_int_equal(check(NBD_CMD_CACHE, 0, SIZE, 1), NBD_EINVAL);
    /* Flags of CACHE are for the future: "the server MUST reject any it does not recognize". */
    for (int bit = 1; bit < 16; bit++)
        assert_int_equal(check(NBD_CMD_CACHE, (uint16_t)(1 << bit), 0, 512), NBD_EINVAL);
    limits.transmission_flags |= NBD_FLAG_READ_ONLY;
    assert_int_equal(check_on(&limits, NBD_CMD_CACHE, 0, 0, 512), CARRIED_OUT);
    assert_int_equal(check_on(&limits, NBD_CMD_WRITE_ZEROES, fast, 0, 512), NBD_EPERM);
}

static void an_unknown_command_is_einval(void **state)
{
    (void)state;
    for (unsigned command = NBD_CMD_RESIZE; command <= 0xffff; command++)
        assert_int_equal(check((uint16_t)command, 0, 0, 0), NBD_EINVAL);
}

static void a_command_that_is_not_advertised_is_einval(void **state)
{
    (void)state;
    struct request_limits limits = writable;
    limits.transmission_flags = NBD_FLAG_HAS_FLAGS;
    assert_int_equal(check_on(&limits, NBD_CMD_FLUSH, 0, 0, 0), NBD_EINVAL);
    assert_int_equal(check_on(&limits, NBD_CMD_TRIM, 0, 0, 512), NBD_EINVAL);
    assert_int_equal(check_on(&limits, NBD_CMD_WRITE_ZEROES, 0, 0, 512), NBD_EINVAL);
    assert_int_equal(check_on(&limits, NBD_CMD_CACHE, 0, 0, 512), NBD_EINVAL);
    assert_int_equal(check_on(&limits, NBD_CMD_WRITE, 0, 0, 512), CARRIED_OUT);
}

static void too_long_a_read_is_eoverflow_when_structured_else_einval(void **state)
{
    (void)state;
    struct request_limits limits = writable;
    assert_int_equal(check(NBD_CMD_READ, 0, 0, NBD_PAYLOAD_DEFAULT_MAX), CARRIED_OUT);
    assert_int_equal(check(NBD_CMD_READ, 0, 0, NBD_PAYLOAD_DEFAULT_MAX + 1), NBD_EOVERFLOW);
    assert_int_equal(check(NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, NBD_PAYLOAD_DEFAULT_MAX + 1),
                     NBD_EOVERFLOW);
    limits.headers = NBD_HEADERS_SIMPLE;
    assert_int_equal(check_on(&limits, NBD_CMD_READ, 0, 0, NBD_PAYLOAD_DEFAULT_MAX + 1),
                     NBD_EINVAL);
    assert_int_equal(check_on(&limits, NBD_CMD_READ, 0, 0, UINT32_MAX), NBD_EINVAL);
}

static void too_long_a_write_is_einval_and_without_payload_no_length_is_too_long(void **state)
{
    (void)state;
    struct request_limits limits = writable;
    limits.size_bytes = UINT64_C(8) << 30;
    assert_int_equal(check_on(&limits, NBD_CMD_WRITE, 0, 0, NBD_PAYLOAD_DEFAULT_MAX), CARRIED_OUT);
    assert_int_equal(check_on(&limits, NBD_CMD_WRITE, 0, 0, NBD_PAYLOAD_DEFAULT_MAX + 1),
                     NBD_EINVAL);
    assert_int_equal(check_on(&limits, NBD_CMD_TRIM, 0, 0, UINT32_MAX), CARRIED_OUT);
    assert_int_equal(check_on(&limits, NBD_CMD_WRITE_ZEROES, 0, 0, UINT32_MAX), CARRIED_OUT);
    assert_int_equal(check_on(&limits, NBD_CMD_BLOCK_STATUS, 0, 0, UINT32_MAX), CARRIED_OUT);
}

static void an_empty_request_succeeds_at_once_and_an_empty_status_is_einval(void **state)
{
    (void)state;
    static const uint64_t offsets[] = {0, 1, SIZE};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(check(NBD_CMD_READ, 0, offsets[i], 0), NBD_SUCCESS);
        assert_int_equal(check(NBD_CMD_WRITE, 0, offsets[i], 0), NBD_SUCCESS);
        assert_int_equal(check(NBD_CMD_TRIM, 0, offsets[i], 0), NBD_SUCCESS);
        assert_int_equal(check(NBD_CMD_WRITE_ZEROES, 0, offsets[i], 0), NBD_SUCCESS);
        assert_int_equal(check(NBD_CMD_BLOCK_STATUS, 0, offsets[i], 0), NBD_EINVAL);
    }
}

static void status_without_a_selected_context_is_einval(void **state)
{
    (void)state;
    struct request_limits limits = writable;
    limits.has_contexts = false;
    assert_int_equal(check_on(&limits, NBD_CMD_BLOCK_STATUS, 0, 0, 512), NBD_EINVAL);
}

static void the_reserved_fields_of_a_flush_must_be_zero(void **state)
{
    (void)state;
    assert_int_equal(check(NBD_CMD_FLUSH, 0, 1, 0), NBD_EINVAL);
    assert_int_equal(check(NBD_CMD_FLUSH, 0, 0, 1), NBD_EINVAL);
}

static void unaligned_to_the_minimum_block_is_einval(void **state)
{
    (void)state;
    struct request_limits limits = writable;
    limits.block_minimum = 512;
    for (size_t i = 0; i < ALL; i++) {
        if (all_commands[i] == NBD_CMD_FLUSH)
            continue;
        assert_int_equal(check_on(&limits, all_commands[i], 0, 512, 1024), CARRIED_OUT);
        assert_int_equal(check_on(&limits, all_commands[i], 0, 1, 512), NBD_EINVAL);
        assert_int_equal(check_on(&limits, all_commands[i], 0, 512, 511), NBD_EINVAL);
        assert_int_equal(check_on(&limits, all_commands[i], 0, 256, 256), NBD_EINVAL);
    }
}

static void shutting_down_answers_everything_with_eshutdown(void **state)
{
    (void)state;
    struct request_limits limits = writable;
    limits.shutting_down = true;
    for (size_t i = 0; i < ALL; i++)
        assert_int_equal(check_on(&limits, all_commands[i], 0, 0, good_length(all_commands[i])),
                         NBD_ESHUTDOWN);
    assert_int_equal(check_on(&limits, 99, 0, 0, 0), NBD_ESHUTDOWN);
}

static void an_extended_header_has_64_bits_of_length(void **state)
{
    (void)state;
    const uint8_t header[NBD_EXTENDED_REQUEST_SIZE] = {
        0x21, 0xe4, 0x1c, 0x71, 0,  0x20, 0,  1,  1,  2,  3,  4,  5,  6,  7,  8,
        9,    10,   11,   12,   13, 14,   15, 16, 17, 18, 19, 20, 21, 22, 23, 24};
    struct request request;
    assert_int_equal(request_header_size(NBD_HEADERS_EXTENDED), 32);
    assert_int_equal(request_header_size(NBD_HEADERS_STRUCTURED), 28);
    assert_true(request_parse(header, NBD_HEADERS_EXTENDED, &request));
    assert_int_equal(request.flags, NBD_CMD_FLAG_PAYLOAD_LEN);
    assert_int_equal(request.command, NBD_CMD_WRITE);
    assert_true(request.cookie == UINT64_C(0x0102030405060708));
    assert_true(request.offset == UINT64_C(0x090a0b0c0d0e0f10));
    assert_true(request.length == UINT64_C(0x1112131415161718));
    assert_int_equal(request.headers, NBD_HEADERS_EXTENDED);
    assert_false(request_parse(header, NBD_HEADERS_SIMPLE, &request));
}

static struct request_limits extended_limits(uint64_t size_bytes)
{
    struct request_limits limits = writable;
    limits.headers = NBD_HEADERS_EXTENDED;
    limits.size_bytes = size_bytes;
    return limits;
}

static void with_extended_headers_a_write_needs_payload_len_and_nothing_else_may_have_it(
    void **state)
{
    (void)state;
    const struct request_limits limits = extended_limits(SIZE);
    for (size_t i = 0; i < ALL; i++) {
        uint16_t command = all_commands[i];
        uint64_t length = good_length(command);
        bool is_write = command == NBD_CMD_WRITE;
        assert_int_equal(check_on(&limits, command, NBD_CMD_FLAG_PAYLOAD_LEN, 0, length),
                         is_write ? CARRIED_OUT : NBD_EINVAL);
        assert_int_equal(check_on(&limits, command, 0, 0, length),
                         is_write ? NBD_EINVAL : CARRIED_OUT);
        /* Without extended headers nobody may have it. */
        assert_int_equal(check(command, NBD_CMD_FLAG_PAYLOAD_LEN, 0, length), NBD_EINVAL);
    }
}

static void with_extended_headers_commands_without_payload_go_past_4_gib(void **state)
{
    (void)state;
    const uint64_t size = UINT64_C(1) << 50;
    const struct request_limits limits = extended_limits(size);
    static const uint16_t commands[] = {NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS};
    for (size_t i = 0; i < 3; i++) {
        uint32_t past_end = commands[i] == NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC : NBD_EINVAL;
        assert_int_equal(check_on(&limits, commands[i], 0, 0, size), CARRIED_OUT);
        assert_int_equal(check_on(&limits, commands[i], 0, 1, size), past_end);
        assert_int_equal(check_on(&limits, commands[i], 0, 1, UINT64_MAX), past_end);
        assert_int_equal(check_on(&limits, commands[i], 0, 0, UINT64_MAX), past_end);
    }
    assert_int_equal(check_on(&limits, NBD_CMD_READ, 0, 0, UINT64_C(1) << 32), NBD_EOVERFLOW);
    assert_int_equal(check_on(&limits, NBD_CMD_READ, 0, 0, NBD_PAYLOAD_DEFAULT_MAX), CARRIED_OUT);
}

static void with_extended_headers_payload_is_where_the_flag_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < ALL; i++)
        for (int flag = 0; flag < 2; flag++) {
            struct request request = {.command = all_commands[i],
                                      .flags = flag ? NBD_CMD_FLAG_PAYLOAD_LEN : 0,
                                      .headers = NBD_HEADERS_EXTENDED};
            assert_int_equal(request_has_payload(&request), flag);
            request.headers = NBD_HEADERS_STRUCTURED;
            assert_int_equal(request_has_payload(&request), request.command == NBD_CMD_WRITE);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_is_taken_apart_in_network_order),
        cmocka_unit_test(good_requests_are_carried_out),
        cmocka_unit_test(past_the_end_is_enospc_for_write_and_zeroes_and_einval_for_the_others),
        cmocka_unit_test(offset_plus_length_does_not_wrap),
        cmocka_unit_test(a_read_only_export_answers_write_trim_and_zeroes_with_eperm),
        cmocka_unit_test(fua_is_accepted_on_every_command_when_advertised_and_on_none_otherwise),
        cmocka_unit_test(a_flag_that_is_not_the_commands_own_is_einval),
        cmocka_unit_test(df_without_structured_replies_is_einval),
        cmocka_unit_test(fast_zero_and_cache_are_not_advertised_and_so_einval),
        cmocka_unit_test(fast_zero_and_cache_are_carried_out_when_advertised_whatever_their_length),
        cmocka_unit_test(an_unknown_command_is_einval),
        cmocka_unit_test(a_command_that_is_not_advertised_is_einval),
        cmocka_unit_test(too_long_a_read_is_eoverflow_when_structured_else_einval),
        cmocka_unit_test(too_long_a_write_is_einval_and_without_payload_no_length_is_too_long),
        cmocka_unit_test(an_empty_request_succeeds_at_once_and_an_empty_status_is_einval),
        cmocka_unit_test(status_without_a_selected_context_is_einval),
        cmocka_unit_test(the_reserved_fields_of_a_flush_must_be_zero),
        cmocka_unit_test(unaligned_to_the_minimum_block_is_einval),
        cmocka_unit_test(shutting_down_answers_everything_with_eshutdown),
        cmocka_unit_test(an_extended_header_has_64_bits_of_length),
        cmocka_unit_test(
            with_extended_headers_a_write_needs_payload_len_and_nothing_else_may_have_it),
        cmocka_unit_test(with_extended_headers_commands_without_payload_go_past_4_gib),
        cmocka_unit_test(with_extended_headers_payload_is_where_the_flag_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
