/* SPDX-License-Identifier: BSD-3-Clause */
/* The handshake, byte by byte, out of step and in pieces: what no library would send. */
#include "tests/integration/fixture.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/endian.h"
#include "tests/integration/raw_client.h"

#define NAME_BYTES_MAX 4096

static const char *const options_named[] = {"-t", "-e", "0", "-x", "disk", "-D", "one disk", NULL};

static struct raw_client connect_greeted(const struct server *server)
{
    struct raw_client client;
    assert_int_equal(raw_connect(&client, server->socket), 0);
    assert_int_equal(raw_greet(&client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES), 0);
    return client;
}

/* The connection is in step: an export opens and a read is answered. */
static void expect_in_step(struct raw_client *client)
{
    struct raw_reply reply;
    assert_int_equal(raw_go(client, "disk"), 0);
    assert_int_equal(client->export_size_bytes, FIXTURE_IMAGE_BYTES);
    assert_int_equal(raw_request(client, 0, RAW_CMD_READ, 9, 0, 512), 0);
    assert_int_equal(raw_receive_reply(client, &reply, NULL, 0, 512), 0);
    assert_int_equal(reply.error, 0);
    assert_int_equal(reply.cookie, 9);
    raw_close(client);
}

static uint32_t negotiate(const struct raw_client *client, uint32_t option, const void *data,
                          size_t length)
{
    uint32_t type = 0;
    assert_int_equal(raw_negotiate(client, option, data, length, &type), 0);
    return type;
}

static void start(void **state)
{
    server_start(*state, options_named);
}

static void unknown_options_are_UNSUP_and_drained(void **state)
{
    struct server *server = *state;
    uint8_t payload[3000] = {0};
    start(state);
    struct raw_client client = connect_greeted(server);
    assert_int_equal(negotiate(&client, 4, NULL, 0), RAW_REP_ERR_UNSUP); /* PEEK_EXPORT */
    assert_int_equal(negotiate(&client, 77, payload, sizeof(payload)), RAW_REP_ERR_UNSUP);
    assert_int_equal(negotiate(&client, UINT32_MAX, payload, 1), RAW_REP_ERR_UNSUP);
    expect_in_step(&client);
    server_stop(server);
}

static void a_payload_where_none_belongs_is_INVALID(void **state)
{
    struct server *server = *state;
    start(state);
    struct raw_client client = connect_greeted(server);
    assert_int_equal(negotiate(&client, RAW_OPT_LIST, "junk", 4), RAW_REP_ERR_INVALID);
    assert_int_equal(negotiate(&client, RAW_OPT_STRUCTURED_REPLY, "junk", 4), RAW_REP_ERR_INVALID);
    assert_int_equal(negotiate(&client, RAW_OPT_LIST, NULL, 0), RAW_REP_ACK);
    expect_in_step(&client);
    server_stop(server);
}

static void a_GO_whose_lengths_disagree_is_INVALID(void **state)
{
    struct server *server = *state;
    start(state);
    struct raw_client client = connect_greeted(server);
    uint8_t payload[64] = {0};
    const uint32_t options[] = {RAW_OPT_GO, RAW_OPT_INFO};
    for (size_t i = 0; i < 2; i++) {
        uint32_t option = options[i];
        assert_int_equal(negotiate(&client, option, NULL, 0), RAW_REP_ERR_INVALID);
        assert_int_equal(negotiate(&client, option, payload, 5), RAW_REP_ERR_INVALID);
        store_be32(payload, 100); /* a name longer than the option */
        assert_int_equal(negotiate(&client, option, payload, 20), RAW_REP_ERR_INVALID);
        store_be32(payload, UINT32_MAX); /* the sum wraps */
        assert_int_equal(negotiate(&client, option, payload, 20), RAW_REP_ERR_INVALID);
        store_be32(payload, 4);
        memcpy(payload + 4, "disk", 4);
        store_be16(payload + 8, 3); /* three infos promised, one there */
        assert_int_equal(negotiate(&client, option, payload, 12), RAW_REP_ERR_INVALID);
        store_be16(payload + 8, 0); /* bytes after the end */
        assert_int_equal(negotiate(&client, option, payload, 14), RAW_REP_ERR_INVALID);
        memset(payload, 0, sizeof(payload));
    }
    expect_in_step(&client);
    server_stop(server);
}

static void an_unknown_export_of_any_length_is_refused_and_the_next_GO_opens(void **state)
{
    struct server *server = *state;
    const size_t lengths[] = {1, 255, 256, 257, 3000, NAME_BYTES_MAX};
    char *name = malloc(NAME_BYTES_MAX + 7);
    uint8_t *payload = malloc(NAME_BYTES_MAX + 7);
    start(state);
    struct raw_client client = connect_greeted(server);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        memset(name, 'n', lengths[i]);
        store_be32(payload, lengths[i]);
        memcpy(payload + 4, name, lengths[i]);
        store_be16(payload + 4 + lengths[i], 0);
        assert_int_equal(negotiate(&client, RAW_OPT_GO, payload, lengths[i] + 6),
                         RAW_REP_ERR_UNKNOWN);
    }
    store_be32(payload, NAME_BYTES_MAX + 1);
    uint32_t type = negotiate(&client, RAW_OPT_GO, payload, NAME_BYTES_MAX + 7);
    assert_true(type == RAW_REP_ERR_INVALID || type == RAW_REP_ERR_TOO_BIG ||
                type == RAW_REP_ERR_UNKNOWN);
    expect_in_step(&client);
    server_stop(server);
    free(name);
    free(payload);
}

static void LIST_names_the_export_each_time(void **state)
{
    struct server *server = *state;
    uint8_t data[256];
    size_t length;
    uint32_t type;
    start(state);
    struct raw_client client = connect_greeted(server);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(raw_send_option(&client, RAW_OPT_LIST, NULL, 0), 0);
        assert_int_equal(
            raw_receive_option_reply(&client, RAW_OPT_LIST, &type, data, sizeof(data), &length), 0);
        assert_int_equal(type, RAW_REP_SERVER);
        assert_true(length >= 8);
        assert_int_equal(load_be32(data), 4);
        assert_memory_equal(data + 4, "disk", 4);
        assert_int_equal(
            raw_receive_option_reply(&client, RAW_OPT_LIST, &type, data, sizeof(data), &length), 0);
        assert_int_equal(type, RAW_REP_ACK);
    }
    expect_in_step(&client);
    server_stop(server);
}

/* SET_META_CONTEXT or LIST_META_CONTEXT for "disk"; returns how many contexts came, -1 for an
 * error. */
static int meta_contexts(const struct raw_client *client, uint32_t option, const char *export_name,
                         const char *const queries[])
{
    uint8_t payload[256], *at = payload;
    uint32_t type, count = 0;
    size_t length;
    store_be32(at, strlen(export_name));
    memcpy(at + 4, export_name, strlen(export_name));
    at += 4 + strlen(export_name);
    uint8_t *count_at = at;
    at += 4;
    for (; queries[count]; count++) {
        store_be32(at, strlen(queries[count]));
        memcpy(at + 4, queries[count], strlen(queries[count]));
        at += 4 + strlen(queries[count]);
    }
    store_be32(count_at, count);
    assert_int_equal(raw_send_option(client, option, payload, at - payload), 0);
    for (int found = 0;; found++) {
        assert_int_equal(raw_receive_option_reply(client, option, &type, NULL, 0, &length), 0);
        if (type != RAW_REP_META_CONTEXT) {
            return type == RAW_REP_ACK ? found : -1;
        }
    }
}

#define QUERIES(...) ((const char *const[]){__VA_ARGS__, NULL})

static uint32_t status_error(struct raw_client *client)
{
    struct raw_reply reply;
    assert_int_equal(raw_request(client, 0, RAW_CMD_BLOCK_STATUS, 5, 0, 4096), 0);
    assert_int_equal(raw_receive_reply(client, &reply, NULL, 0, 0), 0);
    return reply.error;
}

static void meta_contexts_are_chosen_by_the_letter(void **state)
{
    struct server *server = *state;
    start(state);
    struct raw_client client = connect_greeted(server);
    /* SET needs structured replies first. */
    assert_int_equal(
        meta_contexts(&client, RAW_OPT_SET_META_CONTEXT, "disk", QUERIES("base:allocation")), -1);
    assert_int_equal(negotiate(&client, RAW_OPT_STRUCTURED_REPLY, NULL, 0), RAW_REP_ACK);
    client.structured = true;
    assert_int_equal(
        meta_contexts(&client, RAW_OPT_SET_META_CONTEXT, "disk", QUERIES("base:allocation")), 1);
    assert_int_equal(meta_contexts(&client, RAW_OPT_SET_META_CONTEXT, "disk",
                                   QUERIES("base:allocation", "base:allocation")),
                     1);
    assert_int_equal(meta_contexts(&client, RAW_OPT_SET_META_CONTEXT, "disk",
                                   QUERIES("nosuch:thing", "base:allocation", "base:other")),
                     1);
    assert_int_equal(meta_contexts(&client, RAW_OPT_LIST_META_CONTEXT, "disk", QUERIES("base:")),
                     1);
    assert_int_equal(meta_contexts(&client, RAW_OPT_LIST_META_CONTEXT, "disk", QUERIES("nosuch:")),
                     0);
    assert_true(meta_contexts(&client, RAW_OPT_LIST_META_CONTEXT, "disk",
                              (const char *const[]){NULL}) >= 1);
    assert_int_equal(raw_go(&client, "disk"), 0);
    assert_int_equal(status_error(&client), 0);
    raw_close(&client);

    /* "base:" asks for nothing in SET, and takes the earlier choice away. */
    client = connect_greeted(server);
    negotiate(&client, RAW_OPT_STRUCTURED_REPLY, NULL, 0);
    assert_int_equal(
        meta_contexts(&client, RAW_OPT_SET_META_CONTEXT, "disk", QUERIES("base:allocation")), 1);
    assert_int_equal(meta_contexts(&client, RAW_OPT_SET_META_CONTEXT, "disk", QUERIES("base:")), 0);
    assert_int_equal(raw_go(&client, "disk"), 0);
    assert_int_equal(status_error(&client), RAW_EINVAL);
    raw_close(&client);

    /* A SET that fails clears the choice before it. */
    client = connect_greeted(server);
    negotiate(&client, RAW_OPT_STRUCTURED_REPLY, NULL, 0);
    assert_int_equal(
        meta_contexts(&client, RAW_OPT_SET_META_CONTEXT, "disk", QUERIES("base:allocation")), 1);
    assert_int_equal(
        meta_contexts(&client, RAW_OPT_SET_META_CONTEXT, "other", QUERIES("base:allocation")), -1);
    assert_int_equal(raw_go(&client, "disk"), 0);
    assert_int_equal(status_error(&client), RAW_EINVAL);
    raw_close(&client);
    server_stop(server);
}

static void INFO_tells_the_same_as_GO_and_does_not_open(void **state)
{
    struct server *server = *state;
    uint8_t payload[14], info[64];
    uint32_t type;
    size_t length;
    bool told = false;
    start(state);
    struct raw_client client = connect_greeted(server);
    store_be32(payload, 4);
    memcpy(payload + 4, "disk", 4);
    store_be16(payload + 8, 2);
    store_be16(payload + 10, 1); /* NAME */
    store_be16(payload + 12, 3); /* BLOCK_SIZE */
    assert_int_equal(raw_send_option(&client, RAW_OPT_INFO, payload, sizeof(payload)), 0);
    do {
        assert_int_equal(
            raw_receive_option_reply(&client, RAW_OPT_INFO, &type, info, sizeof(info), &length), 0);
        if (type == RAW_REP_INFO && load_be16(info) == 0) {
            assert_int_equal(length, 12);
            assert_int_equal(load_be64(info + 2), FIXTURE_IMAGE_BYTES);
            told = true;
        }
        if (type == RAW_REP_INFO && load_be16(info) == 1) {
            assert_int_equal(length, 6);
            assert_memory_equal(info + 2, "disk", 4);
        }
        if (type == RAW_REP_INFO && load_be16(info) == 3) {
            assert_int_equal(length, 14);
            assert_int_equal(load_be32(info + 2), 1);
            assert_true(load_be32(info + 6) >= 512);
            assert_true(load_be32(info + 10) >= 1 << 20);
        }
    } while (type == RAW_REP_INFO);
    assert_int_equal(type, RAW_REP_ACK);
    assert_true(told);
    expect_in_step(&client);
    server_stop(server);
}

static void a_handshake_one_byte_at_a_time_works(void **state)
{
    struct server *server = *state;
    uint8_t script[256], *at = script;
    start(state);
    struct raw_client client;
    assert_int_equal(raw_connect(&client, server->socket), 0);
    store_be32(at, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES);
    at += 4;
    store_be64(at, RAW_IHAVEOPT);
    store_be32(at + 8, RAW_OPT_GO);
    store_be32(at + 12, 10);
    store_be32(at + 16, 4);
    memcpy(at + 20, "disk", 4);
    store_be16(at + 24, 0);
    at += 26;
    raw_fill_request(at, 0, RAW_CMD_READ, 3, 0, 512);
    at += RAW_REQUEST_BYTES;
    for (uint8_t *byte = script; byte < at; byte++) {
        assert_int_equal(raw_send(&client, byte, 1), 0);
        poll(NULL, 0, 1);
    }
    uint8_t greeting[18], header[20], data[64];
    struct raw_reply reply;
    assert_int_equal(raw_receive(&client, greeting, sizeof(greeting)), 0);
    do {
        assert_int_equal(raw_receive(&client, header, sizeof(header)), 0);
        assert_int_equal(load_be64(header), RAW_OPT_REPLY_MAGIC);
        assert_true(load_be32(header + 16) <= sizeof(data));
        assert_int_equal(raw_receive(&client, data, load_be32(header + 16)), 0);
    } while (load_be32(header + 12) == RAW_REP_INFO);
    assert_int_equal(load_be32(header + 12), RAW_REP_ACK);
    assert_int_equal(raw_receive_reply(&client, &reply, NULL, 0, 512), 0);
    assert_int_equal(reply.cookie, 3);
    raw_close(&client);

    /* The same in one piece, requests behind the options, the greeting not waited for. */
    assert_int_equal(raw_connect(&client, server->socket), 0);
    assert_int_equal(raw_send(&client, script, at - script), 0);
    assert_int_equal(raw_receive(&client, greeting, sizeof(greeting)), 0);
    do {
        assert_int_equal(raw_receive(&client, header, sizeof(header)), 0);
        assert_true(load_be32(header + 16) <= sizeof(data));
        assert_int_equal(raw_receive(&client, data, load_be32(header + 16)), 0);
    } while (load_be32(header + 12) == RAW_REP_INFO);
    assert_int_equal(raw_receive_reply(&client, &reply, NULL, 0, 512), 0);
    assert_int_equal(reply.cookie, 3);
    raw_close(&client);

    /* Hanging up after each byte of it leaves the server whole. */
    for (uint8_t *end = script; end <= at; end++) {
        assert_int_equal(raw_connect(&client, server->socket), 0);
        assert_int_equal(raw_send(&client, script, end - script), 0);
        raw_close(&client);
    }
    client = connect_greeted(server);
    expect_in_step(&client);
    server_stop(server);
}

static void thousands_of_options_are_bounded_or_answered(void **state)
{
    struct server *server = *state;
    uint32_t type;
    start(state);
    struct raw_client client = connect_greeted(server);
    int code = 0;
    for (unsigned int i = 0; i < 5000 && code == 0; i++) {
        code = raw_negotiate(&client, RAW_OPT_LIST, NULL, 0, &type);
    }
    assert_true(code == 0 || code == -ENOTCONN);
    raw_close(&client);
    client = connect_greeted(server);
    expect_in_step(&client);
    server_stop(server);
}

int main(void)
{
    fixture_require_server();
#define with_server(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        with_server(unknown_options_are_UNSUP_and_drained),
        with_server(a_payload_where_none_belongs_is_INVALID),
        with_server(a_GO_whose_lengths_disagree_is_INVALID),
        with_server(an_unknown_export_of_any_length_is_refused_and_the_next_GO_opens),
        with_server(LIST_names_the_export_each_time),
        with_server(meta_contexts_are_chosen_by_the_letter),
        with_server(INFO_tells_the_same_as_GO_and_does_not_open),
        with_server(a_handshake_one_byte_at_a_time_works),
        with_server(thousands_of_options_are_bounded_or_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
