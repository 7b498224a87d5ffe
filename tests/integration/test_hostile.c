/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Clients that break the rules. Each costs its own connection and one line in the log; meanwhile a
 * good client on the same server sees nothing of it. Clients that keep the rules to the letter but
 * leave early are answered first.
 */
#include "tests/integration/fixture.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libnbd.h>

#include "common/endian.h"
#include "tests/integration/raw_client.h"

#define RESIDENT_GROWTH_MAX_KIB (64 * 1024)

static const char *const persistent[] = {"-t", "-e", "0", NULL};

/* The good client, there all the time. */
struct witness {
    struct nbd_handle *nbd;
    uint8_t data[65536];
    unsigned int rounds;
};

static void witness_start(struct witness *witness, struct server *server)
{
    fill_random(witness->data, sizeof(witness->data), 21);
    image_write(server, witness->data, sizeof(witness->data), 1 << 20);
    server_start(server, persistent);
    witness->rounds = 0;
    witness->nbd = nbd_create();
    assert_non_null(witness->nbd);
    assert_int_equal(nbd_connect_unix(witness->nbd, server->socket), 0);
}

static void witness_works(struct witness *witness)
{
    uint8_t got[sizeof(witness->data)];
    uint64_t spare = (8 << 20) + 4096 * (witness->rounds++ % 100);
    assert_int_equal(nbd_pread(witness->nbd, got, sizeof(got), 1 << 20, 0), 0);
    assert_memory_equal(got, witness->data, sizeof(got));
    assert_int_equal(nbd_pwrite(witness->nbd, witness->data, 4096, spare, 0), 0);
    assert_int_equal(nbd_pread(witness->nbd, got, 4096, spare, 0), 0);
    assert_memory_equal(got, witness->data, 4096);
}

static void witness_stop(struct witness *witness, struct server *server)
{
    witness_works(witness);
    assert_int_equal(nbd_shutdown(witness->nbd, 0), 0);
    nbd_close(witness->nbd);
    server_stop(server);
}

/* A figure of /proc/PID/status, in KiB. */
static unsigned long status_kib(const struct server *server, const char *name)
{
    char path[64], line[256];
    unsigned long kib = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", server->pid);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file)) {
        if (strncmp(line, name, strlen(name)) == 0) {
            kib = strtoul(line + strlen(name) + 1, NULL, 10);
        }
    }
    fclose(file);
    assert_true(kib > 0);
    return kib;
}

static unsigned long resident_kib(const struct server *server)
{
    return status_kib(server, "VmRSS");
}

/* What hostile clients may cost. A sanitizer (known by its terabytes of addresses) shadows each
 * byte. */
static unsigned long growth_max_kib(const struct server *server)
{
    bool sanitized = status_kib(server, "VmSize") > 1ul << 30;
    return RESIDENT_GROWTH_MAX_KIB * (sanitized ? 6 : 1);
}

static struct raw_client open_raw(const struct server *server)
{
    struct raw_client client;
    assert_int_equal(raw_open(&client, server->socket, "", true), 0);
    return client;
}

/* An offence: opens, sends, and says whether the client or the server is the one to close. */
struct offence {
    const char *name;
    void (*commit)(const struct server *server);
};

static void garbage_instead_of_flags(const struct server *server)
{
    struct raw_client client;
    uint8_t garbage[4096];
    fill_random(garbage, sizeof(garbage), 22);
    garbage[0] |= 0x80; /* an unknown client flag: the connection must be dropped */
    assert_int_equal(raw_connect(&client, server->socket), 0);
    int sent = raw_send(&client, garbage, sizeof(garbage));
    assert_true(sent == 0 || sent == -ENOTCONN);
    assert_int_equal(raw_wait_closed(&client), 0);
    raw_close(&client);
}

static void garbage_instead_of_an_option(const struct server *server)
{
    struct raw_client client;
    uint8_t garbage[4096];
    fill_random(garbage, sizeof(garbage), 23);
    assert_int_equal(raw_connect(&client, server->socket), 0);
    assert_int_equal(raw_greet(&client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES), 0);
    int sent = raw_send(&client, garbage, sizeof(garbage));
    assert_true(sent == 0 || sent == -ENOTCONN);
    assert_int_equal(raw_wait_closed(&client), 0);
    raw_close(&client);
}

static void an_option_of_4_GiB(const struct server *server)
{
    struct raw_client client;
    uint8_t header[16];
    store_be64(header, RAW_IHAVEOPT);
    store_be32(header + 8, RAW_OPT_GO);
    store_be32(header + 12, UINT32_MAX);
    assert_int_equal(raw_connect(&client, server->socket), 0);
    assert_int_equal(raw_greet(&client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES), 0);
    assert_int_equal(raw_send(&client, header, sizeof(header)), 0);
    assert_int_equal(raw_wait_closed(&client), 0);
    raw_close(&client);
}

static void half_an_option(const struct server *server)
{
    struct raw_client client;
    uint8_t header[16] = {0};
    store_be64(header, RAW_IHAVEOPT);
    assert_int_equal(raw_connect(&client, server->socket), 0);
    assert_int_equal(raw_greet(&client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES), 0);
    assert_int_equal(raw_send(&client, header, 11), 0);
    raw_close(&client);
}

static void garbage_instead_of_a_request(const struct server *server)
{
    struct raw_client client = open_raw(server);
    uint8_t garbage[4096];
    fill_random(garbage, sizeof(garbage), 24);
    int sent = raw_send(&client, garbage, sizeof(garbage));
    assert_true(sent == 0 || sent == -ENOTCONN);
    assert_int_equal(raw_wait_closed(&client), 0);
    raw_close(&client);
}

static void half_a_request_header(const struct server *server)
{
    struct raw_client client = open_raw(server);
    uint8_t request[RAW_REQUEST_BYTES];
    raw_fill_request(request, 0, RAW_CMD_READ, 1, 0, 4096);
    assert_int_equal(raw_send(&client, request, 13), 0);
    raw_close(&client);
}

static void vanishing_in_the_middle_of_a_payload(const struct server *server)
{
    struct raw_client client = open_raw(server);
    uint8_t half[10000];
    memset(half, 0xdd, sizeof(half));
    assert_int_equal(raw_request(&client, 0, RAW_CMD_WRITE, 1, 32 << 20, 2 * sizeof(half)), 0);
    assert_int_equal(raw_send(&client, half, sizeof(half)), 0);
    raw_close(&client);
}

static const struct offence offences[] = {
    {"garbage instead of flags", garbage_instead_of_flags},
    {"garbage instead of an option", garbage_instead_of_an_option},
    {"an option of 4 GiB", an_option_of_4_GiB},
    {"half an option", half_an_option},
    {"garbage instead of a request", garbage_instead_of_a_request},
    {"half a request header", half_a_request_header},
    {"vanishing in the middle of a payload", vanishing_in_the_middle_of_a_payload},
};

static void an_offence_costs_its_own_connection_and_one_log_line(void **state)
{
    struct server *server = *state;
    struct witness witness;
    unsigned int wrong = 0;
    witness_start(&witness, server);
    for (size_t i = 0; i < sizeof(offences) / sizeof(offences[0]); i++) {
        unsigned int before = server_log_lines(server);
        witness_works(&witness);
        offences[i].commit(server);
        witness_works(&witness);
        unsigned int lines = server_wait_log_lines(server, before + 1) - before;
        if (lines != 1) {
            print_error("%s: %u log lines, not 1\n", offences[i].name, lines);
            wrong++;
        }
    }
    witness_stop(&witness, server);
    assert_int_equal(wrong, 0);
}

static void hundreds_of_offences_cost_no_memory_and_no_descriptor(void **state)
{
    struct server *server = *state;
    struct witness witness;
    witness_start(&witness, server);
    unsigned long before_kib = 0;
    for (unsigned int round = 0; round < 60; round++) {
        for (size_t i = 0; i < sizeof(offences) / sizeof(offences[0]); i++) {
            offences[i].commit(server);
        }
        if (round == 10) {
            before_kib = resident_kib(server);
        }
    }
    witness_works(&witness);
    assert_true(resident_kib(server) < before_kib + growth_max_kib(server));
    witness_stop(&witness, server);
}

static void a_half_written_payload_does_not_reach_the_image(void **state)
{
    struct server *server = *state;
    struct witness witness;
    uint8_t got[20000], zero[20000] = {0};
    witness_start(&witness, server);
    vanishing_in_the_middle_of_a_payload(server);
    witness_works(&witness);
    witness_stop(&witness, server);
    image_read(server, got, sizeof(got), 32 << 20);
    assert_memory_equal(got, zero, sizeof(got));
}

static void giant_lengths_are_refused_before_memory_is_taken(void **state)
{
    struct server *server = *state;
    struct witness witness;
    struct raw_reply reply;
    witness_start(&witness, server);
    unsigned long before_kib = resident_kib(server);

    struct raw_client reader = open_raw(server);
    for (unsigned int i = 0; i < 100; i++) {
        assert_int_equal(raw_request(&reader, 0, RAW_CMD_READ, i, 0, UINT32_MAX), 0);
    }
    for (unsigned int i = 0; i < 100; i++) {
        assert_int_equal(raw_receive_reply(&reader, &reply, NULL, 0, 0), 0);
        assert_true(reply.error == RAW_EINVAL || reply.error == RAW_EOVERFLOW);
        assert_false(reply.simple); /* an error of a structured read is a chunk */
    }
    raw_close(&reader);

    /* Writes that promise 4 GiB and send a little: nothing may be set aside for the promise. */
    struct raw_client writers[16];
    uint8_t little[4096] = {0};
    for (size_t i = 0; i < 16; i++) {
        writers[i] = open_raw(server);
        assert_int_equal(raw_request(&writers[i], 0, RAW_CMD_WRITE, i, 0, UINT32_MAX), 0);
        int sent = raw_send(&writers[i], little, sizeof(little));
        assert_true(sent == 0 || sent == -ENOTCONN);
    }
    witness_works(&witness);
    assert_true(resident_kib(server) < before_kib + growth_max_kib(server));
    for (size_t i = 0; i < 16; i++) {
        raw_close(&writers[i]);
    }
    witness_stop(&witness, server);
}

/* Replies that nobody reads must stop the server from reading requests, not fill its memory. */
static void a_client_that_never_reads_is_held_back(void **state)
{
    struct server *server = *state;
    struct witness witness;
    uint8_t request[RAW_REQUEST_BYTES];
    uint64_t sent_count = 0;
    witness_start(&witness, server);
    unsigned long before_kib = resident_kib(server);
    struct raw_client client = open_raw(server);
    struct pollfd writable = {.fd = client.fd, .events = POLLOUT};
    /* 1 MiB of data asked for at a time; at most 4 GiB if nothing holds it back. */
    while (sent_count < 4096 && poll(&writable, 1, 500) > 0) {
        raw_fill_request(request, 0, RAW_CMD_READ, sent_count, 1 << 20, 1 << 20);
        if (send(client.fd, request, sizeof(request), MSG_DONTWAIT | MSG_NOSIGNAL) !=
            sizeof(request)) {
            break;
        }
        sent_count++;
    }
    witness_works(&witness);
    assert_true(resident_kib(server) < before_kib + 2 * growth_max_kib(server));
    raw_close(&client);
    witness_stop(&witness, server);
}

/* DISC is a promise to the requests before it: each is answered, then the server closes. */
static void DISC_with_64_FUA_writes_outstanding_answers_all(void **state)
{
    enum { COUNT = 64, LENGTH = 4096 };
    struct server *server = *state;
    struct witness witness;
    struct raw_reply reply;
    uint8_t *batch = malloc(COUNT * (RAW_REQUEST_BYTES + LENGTH) + RAW_REQUEST_BYTES), *at = batch;
    uint8_t got[LENGTH];
    bool answered[COUNT] = {false};
    witness_start(&witness, server);
    struct raw_client client = open_raw(server);
    for (unsigned int i = 0; i < COUNT; i++) {
        raw_fill_request(at, RAW_FLAG_FUA, RAW_CMD_WRITE, i, (16 << 20) + i * LENGTH, LENGTH);
        fill_random(at + RAW_REQUEST_BYTES, LENGTH, 300 + i);
        at += RAW_REQUEST_BYTES + LENGTH;
    }
    raw_fill_request(at, 0, RAW_CMD_DISC, COUNT, 0, 0);
    at += RAW_REQUEST_BYTES;
    assert_int_equal(raw_send(&client, batch, at - batch), 0);
    for (unsigned int i = 0; i < COUNT; i++) {
        int code = raw_receive_reply(&client, &reply, NULL, 0, 0);
        if (code < 0) {
            fail_msg("%u of %u writes were answered before the connection closed", i, COUNT);
        }
        assert_int_equal(reply.error, 0);
        assert_true(reply.cookie < COUNT);
        assert_false(answered[reply.cookie]);
        answered[reply.cookie] = true;
    }
    assert_int_equal(raw_wait_closed(&client), 0);
    raw_close(&client);
    witness_stop(&witness, server);
    for (unsigned int i = 0; i < COUNT; i++) {
        image_read(server, got, LENGTH, (16 << 20) + i * LENGTH);
        fill_random(batch, LENGTH, 300 + i);
        assert_memory_equal(got, batch, LENGTH);
    }
    free(batch);
}

static void a_half_close_with_requests_outstanding_is_answered(void **state)
{
    enum { COUNT = 16, LENGTH = 65536 };
    struct server *server = *state;
    struct witness witness;
    struct raw_reply reply;
    uint8_t *got = malloc(LENGTH);
    uint8_t requests[COUNT * RAW_REQUEST_BYTES];
    witness_start(&witness, server);
    struct raw_client client = open_raw(server);
    for (unsigned int i = 0; i < COUNT; i++) {
        raw_fill_request(requests + i * RAW_REQUEST_BYTES, 0, RAW_CMD_READ, i, 1 << 20, LENGTH);
    }
    assert_int_equal(raw_send(&client, requests, sizeof(requests)), 0);
    assert_int_equal(shutdown(client.fd, SHUT_WR), 0);
    for (unsigned int i = 0; i < COUNT; i++) {
        int code = raw_receive_reply(&client, &reply, got, 1 << 20, LENGTH);
        if (code < 0) {
            fail_msg("%u of %u reads were answered after the half close", i, COUNT);
        }
        assert_int_equal(reply.error, 0);
        assert_memory_equal(got, witness.data, LENGTH);
    }
    assert_int_equal(raw_wait_closed(&client), 0);
    raw_close(&client);
    witness_stop(&witness, server);
    free(got);
}

static void an_unknown_command_or_flag_is_EINVAL_and_the_stream_goes_on(void **state)
{
    struct server *server = *state;
    struct witness witness;
    struct raw_reply reply;
    uint8_t got[4096], payload[4096] = {0};
    witness_start(&witness, server);
    struct raw_client client = open_raw(server);
    assert_int_equal(raw_request(&client, 0, 77, 1, 0, 4096), 0);
    assert_int_equal(raw_receive_reply(&client, &reply, NULL, 0, 0), 0);
    assert_int_equal(reply.error, RAW_EINVAL);
    assert_int_equal(raw_request(&client, 0x4000, RAW_CMD_READ, 2, 0, 4096), 0);
    assert_int_equal(raw_receive_reply(&client, &reply, NULL, 0, 0), 0);
    assert_int_equal(reply.error, RAW_EINVAL);
    assert_false(reply.simple);
    assert_int_equal(raw_request(&client, 0x4000, RAW_CMD_WRITE, 3, 0, 4096), 0);
    assert_int_equal(raw_send(&client, payload, sizeof(payload)), 0);
    assert_int_equal(raw_receive_reply(&client, &reply, NULL, 0, 0), 0);
    assert_int_equal(reply.error, RAW_EINVAL);
    /* WRITE_ZEROES with FAST_ZERO that was not offered. */
    if (!(client.export_flags & (1 << 11))) {
        assert_int_equal(raw_request(&client, 1 << 4, RAW_CMD_WRITE_ZEROES, 4, 0, 4096), 0);
        assert_int_equal(raw_receive_reply(&client, &reply, NULL, 0, 0), 0);
        assert_int_equal(reply.error, RAW_EINVAL);
    }
    /* BLOCK_STATUS without a context chosen. */
    assert_int_equal(raw_request(&client, 0, RAW_CMD_BLOCK_STATUS, 5, 0, 4096), 0);
    assert_int_equal(raw_receive_reply(&client, &reply, NULL, 0, 0), 0);
    assert_int_equal(reply.error, RAW_EINVAL);
    assert_int_equal(raw_request(&client, 0, RAW_CMD_READ, 6, 1 << 20, 4096), 0);
    assert_int_equal(raw_receive_reply(&client, &reply, got, 1 << 20, 4096), 0);
    assert_int_equal(reply.error, 0);
    assert_int_equal(reply.cookie, 6);
    assert_memory_equal(got, witness.data, 4096);
    raw_close(&client);
    witness_stop(&witness, server);
}

int main(void)
{
    fixture_require_server();
#define with_server(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        with_server(an_offence_costs_its_own_connection_and_one_log_line),
        with_server(hundreds_of_offences_cost_no_memory_and_no_descriptor),
        with_server(a_half_written_payload_does_not_reach_the_image),
        with_server(giant_lengths_are_refused_before_memory_is_taken),
        with_server(a_client_that_never_reads_is_held_back),
        with_server(DISC_with_64_FUA_writes_outstanding_answers_all),
        with_server(a_half_close_with_requests_outstanding_is_answered),
        with_server(an_unknown_command_or_flag_is_EINVAL_and_the_stream_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
