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

int main(void)
{
    fixture_require_server();
#define with_server(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        with_server(FAST_ZERO_is_quick_or_ENOTSUP_and_changes_nothing),
        with_server(CACHE_succeeds_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
