/* SPDX-License-Identifier: BSD-3-Clause */
/* Each command of the protocol, sent by libnbd: what it does, and how it is refused. */
#include "tests/integration/fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <libnbd.h>

#define KIB (1024)
#define MIB (1024 * 1024)

static const char *const persistent[] = {"-t", "-e", "0", NULL};
static const char *const read_only[] = {"-t", "-e", "0", "-r", NULL};
static const char *const unmapping[] = {"-t", "-e", "0", "--discard=unmap", NULL};

static struct nbd_handle *make_handle(void)
{
    struct nbd_handle *nbd = nbd_create();
    assert_non_null(nbd);
    /* The tests send what the library would hold back. */
    assert_int_equal(nbd_set_strict_mode(nbd, 0), 0);
    assert_int_equal(nbd_add_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION), 0);
    return nbd;
}

static struct nbd_handle *open_server(const struct server *server)
{
    struct nbd_handle *nbd = make_handle();
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

#define expect_errno(call, code)                   \
    do {                                           \
        assert_int_equal((call), -1);              \
        assert_int_equal(nbd_get_errno(), (code)); \
    } while (0)

static void a_read_gives_the_bytes_of_the_image(void **state)
{
    struct server *server = *state;
    uint8_t want[70000], got[70000];
    fill_random(want, sizeof(want), 1);
    image_write(server, want, sizeof(want), 12345);
    server_start(server, persistent);
    struct nbd_handle *nbd = open_server(server);
    assert_int_equal(nbd_get_size(nbd), FIXTURE_IMAGE_BYTES);
    ok(nbd_pread(nbd, got, sizeof(got), 12345, 0));
    assert_memory_equal(got, want, sizeof(want));
    ok(nbd_pread(nbd, got, 1, 12345 + 69999, 0));
    assert_int_equal(got[0], want[69999]);
    close_server(nbd);
    server_stop(server);
}

static void a_read_of_32_MiB_is_served(void **state)
{
    struct server *server = *state;
    size_t length = 32 * MIB;
    uint8_t *want = malloc(length), *got = malloc(length);
    fill_random(want, length, 2);
    image_write(server, want, length, MIB);
    server_start(server, persistent);
    struct nbd_handle *nbd = open_server(server);
    ok(nbd_pread(nbd, got, length, MIB, 0));
    assert_int_equal(memcmp(got, want, length), 0);
    close_server(nbd);
    server_stop(server);
    free(want);
    free(got);
}

static void a_write_lands_in_the_image_and_nowhere_else(void **state)
{
    struct server *server = *state;
    uint8_t around[8192], data[3001], got[8192];
    fill_random(around, sizeof(around), 3);
    fill_random(data, sizeof(data), 4);
    image_write(server, around, sizeof(around), MIB);
    server_start(server, persistent);
    struct nbd_handle *nbd = open_server(server);
    ok(nbd_pwrite(nbd, data, sizeof(data), MIB + 777, 0));
    memcpy(around + 777, data, sizeof(data));
    ok(nbd_pread(nbd, got, sizeof(got), MIB, 0));
    assert_memory_equal(got, around, sizeof(got));
    close_server(nbd);
    server_stop(server);
    image_read(server, got, sizeof(got), MIB);
    assert_memory_equal(got, around, sizeof(got));
}

static void a_write_of_32_MiB_is_taken(void **state)
{
    struct server *server = *state;
    size_t length = 32 * MIB;
    uint8_t *data = malloc(length), *got = malloc(length);
    fill_random(data, length, 5);
    server_start(server, persistent);
    struct nbd_handle *nbd = open_server(server);
    ok(nbd_pwrite(nbd, data, length, 3 * MIB + 1, LIBNBD_CMD_FLAG_FUA));
    close_server(nbd);
    server_stop(server);
    image_read(server, got, length, 3 * MIB + 1);
    assert_int_equal(memcmp(got, data, length), 0);
    free(data);
    free(got);
}

static void FUA_and_flush_are_offered_and_succeed(void **state)
{
    struct server *server = *state;
    uint8_t data[4096], got[4096];
    fill_random(data, sizeof(data), 6);
    server_start(server, persistent);
    struct nbd_handle *nbd = open_server(server);
    assert_int_equal(nbd_can_flush(nbd), 1);
    assert_int_equal(nbd_can_fua(nbd), 1);
    ok(nbd_pwrite(nbd, data, sizeof(data), 0, LIBNBD_CMD_FLAG_FUA));
    ok(nbd_pread(nbd, got, sizeof(got), 0, 0));
    assert_memory_equal(got, data, sizeof(got));
    ok(nbd_flush(nbd, 0));
    ok(nbd_flush(nbd, 0)); /* nothing was written since */
    /* FUA must be accepted on every command once it is offered. */
    ok(nbd_zero(nbd, 4096, 8192, LIBNBD_CMD_FLAG_FUA));
    ok(nbd_trim(nbd, 4096, 8192, LIBNBD_CMD_FLAG_FUA));
    close_server(nbd);
    server_stop(server);
}

static void a_trim_leaves_the_neighbours_alone(void **state)
{
    struct server *server = *state;
    size_t length = 2 * MIB;
    uint8_t *data = malloc(length), *got = malloc(length);
    fill_random(data, length, 7);
    image_write(server, data, length, 0);
    uint64_t allocated = image_allocated_bytes(server);
    server_start(server, unmapping);
    struct nbd_handle *nbd = open_server(server);
    assert_int_equal(nbd_can_trim(nbd), 1);
    ok(nbd_trim(nbd, MIB, 512 * KIB + 100, 0));
    ok(nbd_flush(nbd, 0));
    ok(nbd_pread(nbd, got, length, 0, 0));
    assert_int_equal(memcmp(got, data, 512 * KIB + 100), 0);
    assert_int_equal(
        memcmp(got + 1536 * KIB + 100, data + 1536 * KIB + 100, length - 1536 * KIB - 100), 0);
    close_server(nbd);
    server_stop(server);
    assert_true(image_allocated_bytes(server) + MIB / 2 < allocated);
    free(data);
    free(got);
}

static void write_zeroes_writes_zeroes_and_NO_HOLE_keeps_the_space(void **state)
{
    struct server *server = *state;
    size_t length = 2 * MIB;
    uint8_t *data = malloc(length), *got = malloc(length);
    fill_random(data, length, 8);
    image_write(server, data, length, 0);
    uint64_t allocated = image_allocated_bytes(server);
    server_start(server, unmapping);
    struct nbd_handle *nbd = open_server(server);
    assert_int_equal(nbd_can_zero(nbd), 1);

    ok(nbd_zero(nbd, MIB, 100, LIBNBD_CMD_FLAG_NO_HOLE));
    memset(data + 100, 0, MIB);
    ok(nbd_pread(nbd, got, length, 0, 0));
    assert_int_equal(memcmp(got, data, length), 0);
    assert_true(image_allocated_bytes(server) + 64 * KIB >= allocated);

    ok(nbd_zero(nbd, MIB, 64 * KIB, 0));
    memset(data + 64 * KIB, 0, MIB);
    ok(nbd_pread(nbd, got, length, 0, 0));
    assert_int_equal(memcmp(got, data, length), 0);

    /* Over a hole, with NO_HOLE: the space is there afterwards. */
    ok(nbd_zero(nbd, 4 * MIB, 16 * MIB, LIBNBD_CMD_FLAG_NO_HOLE));
    ok(nbd_pread(nbd, got, MIB, 17 * MIB, 0));
    assert_int_equal(got[0] | memcmp(got, got + 1, MIB - 1), 0);
    assert_true(image_allocated_bytes(server) >= 5 * MIB);
    close_server(nbd);
    server_stop(server);
    free(data);
    free(got);
}

/* nbd-server zeroes the first 64 MiB only and reports success. */
static void write_zeroes_of_more_than_64_MiB_zeroes_all_of_it(void **state)
{
    struct server *server = *state;
    uint8_t mark[4096], got[4096];
    uint64_t size = UINT64_C(6) << 30;
    server_clean(server);
    server_make_image(server, size);
    fill_random(mark, sizeof(mark), 9);
    const uint64_t places[] = {0, 63 * MIB, 65 * MIB, UINT64_C(2) << 30, UINT64_C(3) << 30};
    for (size_t i = 0; i < 5; i++) {
        image_write(server, mark, sizeof(mark), places[i]);
    }
    image_write(server, mark, sizeof(mark), UINT64_C(5) << 30);
    server_start(server, persistent);
    struct nbd_handle *nbd = open_server(server);
    ok(nbd_zero(nbd, UINT32_MAX & ~UINT64_C(4095), 0, 0));
    for (size_t i = 0; i < 5; i++) {
        ok(nbd_pread(nbd, got, sizeof(got), places[i], 0));
        assert_int_equal(got[0] | memcmp(got, got + 1, sizeof(got) - 1), 0);
    }
    ok(nbd_pread(nbd, got, sizeof(got), UINT64_C(5) << 30, 0));
    assert_memory_equal(got, mark, sizeof(mark));
    close_server(nbd);
    server_stop(server);
}

struct extents {
    size_t count;
    uint64_t total_bytes;
    uint32_t first_bytes;
    uint32_t first_flags;
    uint32_t flags_at[8]; /* asked-for places */
    uint64_t places[8];
    size_t place_count;
};

static int take_extents(void *opaque, const char *context, uint64_t offset, uint32_t *entries,
                        size_t length, int *error)
{
    struct extents *extents = opaque;
    (void)error;
    assert_string_equal(context, LIBNBD_CONTEXT_BASE_ALLOCATION);
    extents->first_bytes = entries[0];
    extents->first_flags = entries[1];
    for (size_t i = 0; i < length; i += 2) {
        assert_true(entries[i] > 0);
        for (size_t p = 0; p < extents->place_count; p++) {
            if (extents->places[p] >= offset && extents->places[p] < offset + entries[i]) {
                extents->flags_at[p] = entries[i + 1];
            }
        }
        offset += entries[i];
        extents->total_bytes += entries[i];
        extents->count++;
    }
    return 0;
}

#define HOLE_AND_ZERO (LIBNBD_STATE_HOLE | LIBNBD_STATE_ZERO)

static void block_status_tells_data_from_holes(void **state)
{
    struct server *server = *state;
    uint8_t data[64 * KIB];
    fill_random(data, sizeof(data), 10);
    image_write(server, data, sizeof(data), 8 * MIB);
    server_start(server, persistent);
    struct nbd_handle *nbd = open_server(server);
    assert_int_equal(nbd_can_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION), 1);

    struct extents all = {.places = {0, 8 * MIB, 8 * MIB + 64 * KIB, 63 * MIB}, .place_count = 4};
    uint64_t at = 0;
    while (at < FIXTURE_IMAGE_BYTES) {
        uint64_t before = all.total_bytes;
        ok(nbd_block_status(nbd, FIXTURE_IMAGE_BYTES - at, at,
                            (nbd_extent_callback){.callback = take_extents, .user_data = &all}, 0));
        assert_true(all.total_bytes > before);
        at += all.total_bytes - before;
    }
    assert_int_equal(all.flags_at[0], HOLE_AND_ZERO);
    assert_int_equal(all.flags_at[1], 0);
    assert_int_equal(all.flags_at[2], HOLE_AND_ZERO);
    assert_int_equal(all.flags_at[3], HOLE_AND_ZERO);

    struct extents one = {0};
    ok(nbd_block_status(nbd, 16 * MIB, 0,
                        (nbd_extent_callback){.callback = take_extents, .user_data = &one},
                        LIBNBD_CMD_FLAG_REQ_ONE));
    assert_int_equal(one.count, 1);
    assert_int_equal(one.first_flags, HOLE_AND_ZERO);
    assert_true(one.total_bytes <= 8 * MIB);

    /* REQ_ONE: the one extent never reaches past the request. */
    struct extents inside = {0};
    ok(nbd_block_status(nbd, 1000, 8 * MIB + 24,
                        (nbd_extent_callback){.callback = take_extents, .user_data = &inside},
                        LIBNBD_CMD_FLAG_REQ_ONE));
    assert_int_equal(inside.count, 1);
    assert_int_equal(inside.first_flags, 0);
    assert_true(inside.total_bytes <= 1000);
    close_server(nbd);
    server_stop(server);
}

/* CVE-2025-47711 of another server: a request of nearly 4 GiB over a longer extent. */
static void block_status_of_the_longest_length_is_answered(void **state)
{
    struct server *server = *state;
    server_clean(server);
    server_make_image(server, UINT64_C(9) << 30);
    server_start(server, persistent);
    struct nbd_handle *nbd = open_server(server);
    struct extents extents = {0};
    ok(nbd_block_status(nbd, UINT32_MAX, 1,
                        (nbd_extent_callback){.callback = take_extents, .user_data = &extents}, 0));
    assert_true(extents.count >= 1);
    assert_int_equal(extents.first_flags, HOLE_AND_ZERO);
    close_server(nbd);
    server_stop(server);
}

struct chunks {
    unsigned int data_count, hole_count;
    uint64_t bytes;
};

static int take_chunk(void *opaque, const void *buffer, size_t count, uint64_t offset,
                      unsigned status, int *error)
{
    struct chunks *chunks = opaque;
    (void)buffer, (void)offset, (void)error;
    if (status == LIBNBD_READ_HOLE) {
        chunks->hole_count++;
    } else if (status == LIBNBD_READ_DATA) {
        chunks->data_count++;
    }
    chunks->bytes += count;
    return 0;
}

static void a_structured_read_of_a_hole_of_1_MiB_is_a_hole_chunk(void **state)
{
    struct server *server = *state;
    uint8_t *got = malloc(3 * MIB), *data = malloc(MIB);
    fill_random(data, MIB, 11);
    image_write(server, data, MIB, 4 * MIB);
    image_write(server, data, MIB, 6 * MIB);
    server_start(server, persistent);
    struct nbd_handle *nbd = open_server(server);
    assert_int_equal(nbd_get_structured_replies_negotiated(nbd), 1);

    struct chunks chunks = {0};
    memset(got, 0xee, 3 * MIB);
    ok(nbd_pread_structured(nbd, got, 3 * MIB, 4 * MIB,
                            (nbd_chunk_callback){.callback = take_chunk, .user_data = &chunks}, 0));
    assert_true(chunks.hole_count >= 1);
    assert_true(chunks.data_count >= 2);
    assert_int_equal(chunks.bytes, 3 * MIB);
    assert_int_equal(memcmp(got, data, MIB), 0);
    assert_int_equal(got[MIB] | memcmp(got + MIB, got + MIB + 1, MIB - 1), 0);
    assert_int_equal(memcmp(got + 2 * MIB, data, MIB), 0);

    struct chunks whole_hole = {0};
    ok(nbd_pread_structured(nbd, got, MIB, 20 * MIB,
                            (nbd_chunk_callback){.callback = take_chunk, .user_data = &whole_hole},
                            0));
    assert_true(whole_hole.hole_count >= 1);
    assert_int_equal(whole_hole.data_count, 0);
    close_server(nbd);
    server_stop(server);
    free(got);
    free(data);
}

static void DF_gives_one_chunk(void **state)
{
    struct server *server = *state;
    uint8_t got[64 * KIB], data[16 * KIB];
    fill_random(data, sizeof(data), 12);
    image_write(server, data, sizeof(data), 16 * KIB);
    server_start(server, persistent);
    struct nbd_handle *nbd = open_server(server);
    assert_int_equal(nbd_can_df(nbd), 1);
    struct chunks chunks = {0};
    ok(nbd_pread_structured(nbd, got, sizeof(got), 0,
                            (nbd_chunk_callback){.callback = take_chunk, .user_data = &chunks},
                            LIBNBD_CMD_FLAG_DF));
    assert_int_equal(chunks.data_count + chunks.hole_count, 1);
    assert_memory_equal(got + 16 * KIB, data, sizeof(data));
    close_server(nbd);
    server_stop(server);
}

static void past_the_end_is_ENOSPC_for_writers_and_EINVAL_for_readers(void **state)
{
    struct server *server = *state;
    uint8_t buffer[4096] = {1};
    const uint64_t end = FIXTURE_IMAGE_BYTES;
    const uint64_t places[] = {end - 100, end, end + 4096, UINT64_MAX - 100};
    server_start(server, persistent);
    struct nbd_handle *nbd = open_server(server);
    struct extents extents = {0};
    for (size_t i = 0; i < 4; i++) {
        expect_errno(nbd_pread(nbd, buffer, sizeof(buffer), places[i], 0), EINVAL);
        expect_errno(nbd_trim(nbd, sizeof(buffer), places[i], 0), EINVAL);
        expect_errno(nbd_block_status(
                         nbd, sizeof(buffer), places[i],
                         (nbd_extent_callback){.callback = take_extents, .user_data = &extents}, 0),
                     EINVAL);
        expect_errno(nbd_pwrite(nbd, buffer, sizeof(buffer), places[i], 0), ENOSPC);
        expect_errno(nbd_zero(nbd, sizeof(buffer), places[i], 0), ENOSPC);
    }
    ok(nbd_pwrite(nbd, buffer, 100, end - 100, 0)); /* in sync, and the last byte is there */
    ok(nbd_pread(nbd, buffer, 100, end - 100, 0));
    close_server(nbd);
    server_stop(server);
}

static void a_zero_length_command_keeps_the_connection(void **state)
{
    struct server *server = *state;
    uint8_t byte = 0x77, got;
    struct extents extents = {0};
    server_start(server, persistent);
    struct nbd_handle *nbd = open_server(server);
    nbd_pread(nbd, &byte, 0, 0, 0);
    nbd_pwrite(nbd, &byte, 0, 0, 0);
    nbd_trim(nbd, 0, 0, 0);
    nbd_zero(nbd, 0, 0, 0);
    nbd_block_status(nbd, 0, 0,
                     (nbd_extent_callback){.callback = take_extents, .user_data = &extents}, 0);
    ok(nbd_pwrite(nbd, &byte, 1, 5, 0));
    ok(nbd_pread(nbd, &got, 1, 5, 0));
    assert_int_equal(got, 0x77);
    close_server(nbd);
    server_stop(server);
}

static void a_read_only_export_refuses_writers_with_EPERM(void **state)
{
    struct server *server = *state;
    uint8_t data[8192], before[8192], got[8192];
    fill_random(before, sizeof(before), 13);
    memset(data, 0xff, sizeof(data));
    image_write(server, before, sizeof(before), 0);
    server_start(server, read_only);
    struct nbd_handle *nbd = open_server(server);
    assert_int_equal(nbd_is_read_only(nbd), 1);
    expect_errno(nbd_pwrite(nbd, data, sizeof(data), 0, 0), EPERM);
    expect_errno(nbd_trim(nbd, sizeof(data), 0, 0), EPERM);
    expect_errno(nbd_zero(nbd, sizeof(data), 0, 0), EPERM);
    ok(nbd_pread(nbd, got, sizeof(got), 0, 0)); /* the payload was drained */
    assert_memory_equal(got, before, sizeof(got));
    close_server(nbd);
    server_stop(server);
}

static void a_flush_covers_the_writes_of_the_other_connection(void **state)
{
    struct server *server = *state;
    uint8_t data[4096], got[4096];
    server_start(server, persistent);
    struct nbd_handle *one = open_server(server), *two = open_server(server);
    assert_int_equal(nbd_can_multi_conn(one), 1);
    for (unsigned int i = 0; i < 50; i++) {
        fill_random(data, sizeof(data), 100 + i);
        ok(nbd_pwrite(one, data, sizeof(data), i * 4096, 0));
        ok(nbd_flush(two, 0));
        ok(nbd_pread(two, got, sizeof(got), i * 4096, 0));
        assert_memory_equal(got, data, sizeof(got));
    }
    close_server(one);
    close_server(two);
    server_stop(server);
}

static void simple_replies_serve_the_same_commands(void **state)
{
    struct server *server = *state;
    uint8_t data[100000], got[100000];
    fill_random(data, sizeof(data), 14);
    server_start(server, persistent);
    struct nbd_handle *nbd = nbd_create();
    assert_int_equal(nbd_set_strict_mode(nbd, 0), 0);
    assert_int_equal(nbd_set_request_structured_replies(nbd, false), 0);
    ok(nbd_connect_unix(nbd, server->socket));
    assert_int_equal(nbd_get_structured_replies_negotiated(nbd), 0);
    assert_int_equal(nbd_can_df(nbd), 0);
    ok(nbd_pwrite(nbd, data, sizeof(data), MIB + 3, 0));
    ok(nbd_pread(nbd, got, sizeof(got), MIB + 3, 0));
    assert_memory_equal(got, data, sizeof(got));
    ok(nbd_pread(nbd, got, sizeof(got), 30 * MIB, 0));
    assert_int_equal(got[0] | memcmp(got, got + 1, sizeof(got) - 1), 0);
    ok(nbd_zero(nbd, 4096, MIB, 0));
    ok(nbd_flush(nbd, 0));
    expect_errno(nbd_pread(nbd, got, 4096, FIXTURE_IMAGE_BYTES, 0), EINVAL);
    expect_errno(nbd_pwrite(nbd, got, 4096, FIXTURE_IMAGE_BYTES, 0), ENOSPC);
    /* DF and BLOCK_STATUS need structured replies. */
    expect_errno(nbd_pread_structured(nbd, got, 4096, 0,
                                      (nbd_chunk_callback){.callback = take_chunk},
                                      LIBNBD_CMD_FLAG_DF),
                 EINVAL);
    struct extents extents = {0};
    expect_errno(
        nbd_block_status(nbd, 4096, 0,
                         (nbd_extent_callback){.callback = take_extents, .user_data = &extents}, 0),
        EINVAL);
    ok(nbd_pread(nbd, got, sizeof(got), MIB + 4096, 0));
    close_server(nbd);
    server_stop(server);
}

static void EXPORT_NAME_alone_opens_the_export(void **state)
{
    struct server *server = *state;
    uint8_t data[4096], got[4096];
    fill_random(data, sizeof(data), 15);
    server_start(server, (const char *const[]){"-t", "-x", "old style", NULL});
    /* With no handshake flags at all, and with NO_ZEROES left out only. */
    const uint32_t flag_sets[] = {0, LIBNBD_HANDSHAKE_FLAG_NO_ZEROES};
    for (size_t i = 0; i < 2; i++) {
        struct nbd_handle *nbd = nbd_create();
        assert_int_equal(nbd_set_handshake_flags(nbd, flag_sets[i]), 0);
        assert_int_equal(nbd_set_export_name(nbd, "old style"), 0);
        ok(nbd_connect_unix(nbd, server->socket));
        assert_string_equal(nbd_get_protocol(nbd), "newstyle");
        assert_int_equal(nbd_get_size(nbd), FIXTURE_IMAGE_BYTES);
        ok(nbd_pwrite(nbd, data, sizeof(data), 4096, 0));
        ok(nbd_pread(nbd, got, sizeof(got), 4096, 0));
        assert_memory_equal(got, data, sizeof(got));
        close_server(nbd);
    }
    struct nbd_handle *nbd = nbd_create();
    assert_int_equal(nbd_set_handshake_flags(nbd, 0), 0);
    assert_int_equal(nbd_set_export_name(nbd, "another"), 0);
    assert_int_equal(nbd_connect_unix(nbd, server->socket), -1);
    nbd_close(nbd);
    server_stop(server);
}

int main(void)
{
    fixture_require_server();
#define with_server(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        with_server(a_read_gives_the_bytes_of_the_image),
        with_server(a_read_of_32_MiB_is_served),
        with_server(a_write_lands_in_the_image_and_nowhere_else),
        with_server(a_write_of_32_MiB_is_taken),
        with_server(FUA_and_flush_are_offered_and_succeed),
        with_server(a_trim_leaves_the_neighbours_alone),
        with_server(write_zeroes_writes_zeroes_and_NO_HOLE_keeps_the_space),
        with_server(write_zeroes_of_more_than_64_MiB_zeroes_all_of_it),
        with_server(block_status_tells_data_from_holes),
        with_server(block_status_of_the_longest_length_is_answered),
        with_server(a_structured_read_of_a_hole_of_1_MiB_is_a_hole_chunk),
        with_server(DF_gives_one_chunk),
        with_server(past_the_end_is_ENOSPC_for_writers_and_EINVAL_for_readers),
        with_server(a_zero_length_command_keeps_the_connection),
        with_server(a_read_only_export_refuses_writers_with_EPERM),
        with_server(a_flush_covers_the_writes_of_the_other_connection),
        with_server(simple_replies_serve_the_same_commands),
        with_server(EXPORT_NAME_alone_opens_the_export),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
