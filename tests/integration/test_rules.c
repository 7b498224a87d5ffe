/* SPDX-License-Identifier: BSD-3-Clause */
/* Rules of the protocol that servers get wrong, each asked of the real server by a client. */
#include "tests/integration/fixture.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libnbd.h>

#include "tests/integration/raw_client.h"

#define KIB (1024)
#define MIB (1024 * 1024)

static const char *const persistent[] = {"-t", "-e", "0", NULL};
static const char *const unmapping[] = {"-t", "-e", "0", "--discard=unmap", NULL};
static const char *const direct[] = {"-t", "-e", "0", "--cache=none", NULL};
static const char *const read_only[] = {"-t", "-e", "0", "-r", NULL};

static struct nbd_handle *open_server(const struct server *server)
{
    struct nbd_handle *nbd = nbd_create();
    assert_non_null(nbd);
    assert_int_equal(nbd_set_strict_mode(nbd, 0), 0);
    if (nbd_connect_unix(nbd, server->socket) < 0) {
        fail_msg("connect: %s", nbd_get_error());
    }
    return nbd;
}

static void close_server(struct nbd_handle *nbd)
{
    assert_int_equal(nbd_shutdown(nbd, 0), 0);
    nbd_close(nbd);
}

static void ok(int result)
{
    if (result < 0) {
        fail_msg("%s", nbd_get_error());
    }
}

/* Fast zeroes at a few places; each is done, or refused with the bytes as they were. */
static void fast_zeroes(struct server *server, const char *const options[])
{
    static const struct {
        uint64_t offset, length;
    } ranges[] = {{0, MIB}, {MIB + 1, 4095}, {MIB + 777, 512 * KIB}, {2 * MIB - 10, 10}};
    uint8_t *want = malloc(2 * MIB), *got = malloc(2 * MIB);
    fill_random(want, 2 * MIB, 81);
    image_write(server, want, 2 * MIB, 0);
    server_start(server, options);
    struct nbd_handle *nbd = open_server(server);
    assert_int_equal(nbd_can_fast_zero(nbd), 1);
    for (size_t i = 0; i < 8; i++) {
        uint64_t offset = ranges[i / 2].offset, length = ranges[i / 2].length;
        uint32_t no_hole = i % 2 ? LIBNBD_CMD_FLAG_NO_HOLE : 0;
        int result = nbd_zero(nbd, length, offset, LIBNBD_CMD_FLAG_FAST_ZERO | no_hole);
        if (result == 0) {
            memset(want + offset, 0, length);
        } else {
            assert_int_equal(nbd_get_errno(), ENOTSUP);
        }
        ok(nbd_pread(nbd, got, 2 * MIB, 0, 0));
        assert_int_equal(memcmp(got, want, 2 * MIB), 0);
    }
    /* Any length; and never EOVERFLOW. */
    if (nbd_zero(nbd, FIXTURE_IMAGE_BYTES, 0, LIBNBD_CMD_FLAG_FAST_ZERO) < 0) {
        assert_int_equal(nbd_get_errno(), ENOTSUP);
    }
    /* Without the flag ENOTSUP is no answer. */
    ok(nbd_zero(nbd, 2 * MIB - 1, 1, LIBNBD_CMD_FLAG_NO_HOLE));
    close_server(nbd);
    server_stop(server);
    free(want);
    free(got);
}

static void FAST_ZERO_is_quick_or_ENOTSUP_and_changes_nothing(void **state)
{
    fast_zeroes(*state, persistent);
    fast_zeroes(*state, unmapping);
    fast_zeroes(*state, direct);
}

static void CACHE_succeeds_and_changes_nothing(void **state)
{
    struct server *server = *state;
    uint8_t want[100000], got[100000];
    fill_random(want, sizeof(want), 82);
    image_write(server, want, sizeof(want), MIB);
    const char *const *const all[] = {persistent, direct, read_only};
    for (size_t i = 0; i < 3; i++) {
        server_start(server, all[i]);
        struct nbd_handle *nbd = open_server(server);
        assert_int_equal(nbd_can_cache(nbd), 1);
        ok(nbd_cache(nbd, sizeof(want), MIB, 0));
        ok(nbd_cache(nbd, FIXTURE_IMAGE_BYTES, 0, 0));
        ok(nbd_cache(nbd, 1, FIXTURE_IMAGE_BYTES - 1, 0));
        assert_int_equal(nbd_cache(nbd, 2, FIXTURE_IMAGE_BYTES - 1, 0), -1);
        assert_int_equal(nbd_get_errno(), EINVAL);
        ok(nbd_pread(nbd, got, sizeof(got), MIB, 0));
        assert_memory_equal(got, want, sizeof(got));
        close_server(nbd);
        server_stop(server);
    }
}

/* Not rounded up, whatever the sector size: the last byte is there, and the one behind it is not.
 */
static void an_odd_file_length_is_announced_exactly(void **state)
{
    static const off_t sizes[] = {1, 511, 1000001};
    struct server *server = *state;
    const char *const *const all[] = {persistent, direct};
    for (size_t i = 0; i < 6; i++) {
        uint8_t byte = 0;
        off_t size = sizes[i / 2];
        assert_int_equal(truncate(server->image, size), 0);
        image_write(server, "z", 1, size - 1);
        server_start(server, all[i % 2]);
        struct nbd_handle *nbd = open_server(server);
        assert_int_equal(nbd_get_size(nbd), size);
        ok(nbd_pread(nbd, &byte, 1, size - 1, 0));
        assert_int_equal(byte, 'z');
        assert_int_equal(nbd_pread(nbd, &byte, 1, size, 0), -1);
        close_server(nbd);
        server_stop(server);
    }
}

/* --- when the server stops ----------------------------------------------------------------------
 */

static const char *const verbose[] = {"-t", "-e", "0", "-v", NULL};

/* SIGTERM, and the server has heard it. */
static void terminate(const struct server *server)
{
    unsigned int lines = server_log_lines(server);
    assert_int_equal(kill(server->pid, SIGTERM), 0);
    assert_true(server_wait_log_lines(server, lines + 1) > lines);
}

static void requests_after_SIGTERM_are_ESHUTDOWN_and_then_it_closes(void **state)
{
    enum { LENGTH = 8 * MIB };
    struct server *server = *state;
    struct raw_client client;
    struct raw_reply reply;
    uint8_t payload[4096] = {1}, got[4096];
    server_start(server, verbose);
    assert_int_equal(raw_open(&client, server->socket, "", true), 0);
    /* An answer that is not read keeps the connection open. */
    assert_int_equal(raw_request(&client, RAW_FLAG_DF, RAW_CMD_READ, 1, 0, LENGTH), 0);
    uint8_t head[RAW_CHUNK_BYTES];
    assert_int_equal(raw_receive(&client, head, sizeof(head)), 0);
    terminate(server);
    assert_int_equal(raw_request(&client, 0, RAW_CMD_WRITE, 2, 0, sizeof(payload)), 0);
    assert_int_equal(raw_send(&client, payload, sizeof(payload)), 0);
    assert_int_equal(raw_request(&client, 0, RAW_CMD_READ, 3, 0, 512), 0);
    assert_true(server_is_alive(server));

    uint8_t *data = malloc(8 + LENGTH);
    assert_int_equal(raw_receive(&client, data, 8 + LENGTH), 0);
    free(data);
    for (uint64_t cookie = 2; cookie < 4; cookie++) {
        assert_int_equal(raw_receive_reply(&client, &reply, NULL, 0, 0), 0);
        assert_true(reply.cookie == cookie);
        assert_int_equal(reply.error, RAW_ESHUTDOWN);
        assert_non_null(strstr(reply.text, "shutting down"));
    }
    assert_int_equal(raw_wait_closed(&client), 0);
    raw_close(&client);
    server_expect_end(server);
    image_read(server, got, sizeof(got), 0);
    assert_int_equal(got[0], 0);
}

/* The server gives it half a second; a machine that is slower than that gets another try. */
static void options_after_SIGTERM_are_ERR_SHUTDOWN(void **state)
{
    struct server *server = *state;
    bool seen = false;
    for (int tries = 0; tries < 5 && !seen; tries++) {
        struct raw_client client;
        uint32_t type = 0;
        server_start(server, verbose);
        assert_int_equal(raw_connect(&client, server->socket), 0);
        assert_int_equal(raw_greet(&client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES), 0);
        assert_int_equal(raw_negotiate(&client, RAW_OPT_LIST, NULL, 0, &type), 0);
        assert_int_equal(type, RAW_REP_ACK);
        terminate(server);
        int code = raw_negotiate(&client, RAW_OPT_STRUCTURED_REPLY, NULL, 0, &type);
        seen = code == 0;
        if (seen) {
            assert_int_equal(type, RAW_REP_ERR_SHUTDOWN);
        }
        if (seen && raw_negotiate(&client, RAW_OPT_ABORT, NULL, 0, &type) == 0) {
            assert_int_equal(type, RAW_REP_ACK);
        }
        assert_int_equal(raw_wait_closed(&client), 0);
        raw_close(&client);
        server_expect_end(server);
    }
    assert_true(seen);
}

/* --- sizes --------------------------------------------------------------------------------------
 */

/* A client that asks for the limits may rely on them: any alignment, 32 MiB at a time. */
static void block_sizes_are_announced_and_kept_in_each_cache_mode(void **state)
{
    struct server *server = *state;
    const char *const *const all[] = {persistent, direct};
    uint8_t *data = malloc(32 * MIB), *got = malloc(32 * MIB);
    fill_random(data, 32 * MIB, 83);
    for (size_t i = 0; i < 2; i++) {
        server_start(server, all[i]);
        struct nbd_handle *nbd = open_server(server);
        int64_t minimum = nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM);
        int64_t preferred = nbd_get_block_size(nbd, LIBNBD_SIZE_PREFERRED);
        assert_int_equal(minimum, 1);
        assert_true(preferred >= 4096 && (preferred & (preferred - 1)) == 0);
        assert_int_equal(nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM), 32 * MIB);
        ok(nbd_pwrite(nbd, data, 32 * MIB, 1, 0));
        ok(nbd_pwrite(nbd, data, 1, 40 * MIB + 3, 0));
        ok(nbd_pwrite(nbd, data, preferred, preferred, 0));
        memmove(data + preferred - 1, data, preferred); /* the two overlap by a byte */
        ok(nbd_pread(nbd, got, 32 * MIB, 1, 0));
        assert_int_equal(memcmp(got, data, 32 * MIB), 0);
        close_server(nbd);
        server_stop(server);
    }
    free(data);
    free(got);
}

static void above_the_maximum_payload_a_read_and_a_write_are_refused_in_sync(void **state)
{
    enum { LENGTH = 32 * MIB + 1 };
    struct server *server = *state;
    struct raw_client client;
    struct raw_reply reply;
    uint8_t *payload = calloc(1, LENGTH);
    memset(payload, 7, LENGTH);
    server_start(server, persistent);
    for (int structured = 0; structured < 2; structured++) {
        assert_int_equal(raw_open(&client, server->socket, "", structured), 0);
        assert_int_equal(raw_request(&client, 0, RAW_CMD_READ, 1, 0, LENGTH), 0);
        assert_int_equal(raw_receive_reply(&client, &reply, NULL, 0, LENGTH), 0);
        assert_int_equal(reply.error, structured ? RAW_EOVERFLOW : RAW_EINVAL);
        assert_int_equal(reply.simple, !structured);
        assert_int_equal(raw_request(&client, 0, RAW_CMD_WRITE, 2, 0, LENGTH), 0);
        assert_int_equal(raw_send(&client, payload, LENGTH), 0);
        assert_int_equal(raw_receive_reply(&client, &reply, NULL, 0, 0), 0);
        assert_int_equal(reply.error, RAW_EINVAL);
        assert_int_equal(raw_request(&client, 0, RAW_CMD_READ, 3, 0, 1), 0);
        assert_int_equal(raw_receive_reply(&client, &reply, payload, 0, 1), 0);
        assert_int_equal(reply.error, 0);
        assert_int_equal(payload[0], 0); /* nothing was written */
        raw_close(&client);
    }
    server_stop(server);
    free(payload);
}

int main(void)
{
    fixture_require_server();
#define with_server(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        with_server(FAST_ZERO_is_quick_or_ENOTSUP_and_changes_nothing),
        with_server(CACHE_succeeds_and_changes_nothing),
        with_server(an_odd_file_length_is_announced_exactly),
        with_server(requests_after_SIGTERM_are_ESHUTDOWN_and_then_it_closes),
        with_server(options_after_SIGTERM_are_ERR_SHUTDOWN),
        with_server(block_sizes_are_announced_and_kept_in_each_cache_mode),
        with_server(above_the_maximum_payload_a_read_and_a_write_are_refused_in_sync),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
