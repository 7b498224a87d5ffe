/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/bench/lean_load.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/endian.h"
#include "common/random.h"
#include "tests/integration/raw_client.h"

/*
 * One thread. A turn of a connection: one receive as large as the buffer, all replies in it parsed,
 * a new request for each that is done, one sendmsg for all new requests. The clock is read once
 * after the receive, so a latency is right to one turn. A single connection with nothing left to
 * send blocks in recv; more connections wait in epoll_wait.
 *
 * Payload of a read is dropped where it arrived, unless it is verified: the bytes at a place of the
 * export are a function of the place and nothing else, so any run can check what any run wrote.
 */

#define RECEIVE_BYTES (256 * 1024)

struct slot {
    uint8_t header[RAW_REQUEST_BYTES];
    uint16_t type;
    uint64_t offset;
    uint64_t start_ns;
    uint8_t *payload; /* its own only when verifying; else the load's */
};

enum parse_state { PARSE_HEADER, PARSE_DATA_PLACE, PARSE_DATA, PARSE_DROP };

struct connection {
    struct raw_client client;
    struct slot *slots;
    unsigned int in_flight;
    uint64_t next_offset; /* of the sequential modes */
    struct iovec *iov;    /* what is to be sent, iov_first up to iov_end */
    unsigned int iov_first, iov_end;
    bool wants_write; /* epoll watches for room to send */

    uint8_t *buffer;
    size_t kept_bytes; /* of a header that is not whole yet, at the buffer's start */
    enum parse_state state;
    unsigned int current; /* slot of the reply being parsed */
    bool current_done;    /* the reply ends with this chunk */
    bool current_failed;
    uint64_t data_offset;
    uint64_t data_left;
};

struct load {
    const struct lean_plan *plan;
    struct lean_result *result;
    struct random random;
    uint8_t *payload;
    uint64_t block_count;
    uint64_t issued;
    uint64_t now_ns;
    uint64_t end_ns; /* 0: by requests */
    struct connection *connections;
    int epoll;
};

static uint64_t now(void)
{
    return clock_monotonic.now_ns(&clock_monotonic);
}

static uint64_t pattern_word(uint64_t index)
{
    uint64_t word = (index + 1) * UINT64_C(0x9e3779b97f4a7c15);
    return word ^ word >> 29;
}

static uint8_t pattern_byte(uint64_t offset)
{
    return pattern_word(offset / 8) >> offset % 8 * 8;
}

static void pattern_fill(uint8_t *to, uint64_t offset, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        to[i] = pattern_byte(offset + i);
    }
}

static bool pattern_matches(const uint8_t *bytes, uint64_t offset, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] != pattern_byte(offset + i)) {
            return false;
        }
    }
    return true;
}

static bool mode_reads(enum lean_mode mode)
{
    return mode == LEAN_READ || mode == LEAN_RANDREAD;
}

static uint64_t next_offset(struct load *load, struct connection *connection)
{
    uint32_t block = load->plan->block_bytes;
    if (load->plan->mode == LEAN_READ || load->plan->mode == LEAN_WRITE) {
        uint64_t offset = connection->next_offset;
        connection->next_offset = (offset / block + 1) % load->block_count * block;
        return offset;
    }
    return random_below(&load->random, load->block_count) * block;
}

static void queue_bytes(struct connection *connection, void *from, size_t length)
{
    connection->iov[connection->iov_end++] = (struct iovec){.iov_base = from, .iov_len = length};
}

static void queue_request(struct load *load, struct connection *connection, unsigned int index,
                          uint16_t type, uint64_t offset)
{
    struct slot *slot = &connection->slots[index];
    uint32_t length = type == RAW_CMD_FLUSH ? 0 : load->plan->block_bytes;
    slot->type = type;
    raw_fill_request(slot->header, 0, type, index, type == RAW_CMD_FLUSH ? 0 : offset, length);
    queue_bytes(connection, slot->header, sizeof(slot->header));
    if (type == RAW_CMD_WRITE) {
        if (load->plan->verify) {
            pattern_fill(slot->payload, offset, length);
        }
        queue_bytes(connection, slot->payload, length);
    }
    connection->in_flight++;
}

static bool is_over(const struct load *load)
{
    return load->end_ns ? load->now_ns >= load->end_ns : load->issued >= load->plan->requests;
}

static void start_request(struct load *load, struct connection *connection, unsigned int index)
{
    struct slot *slot = &connection->slots[index];
    slot->offset = load->plan->part_offset + next_offset(load, connection);
    slot->start_ns = load->now_ns;
    load->issued++;
    queue_request(load, connection, index,
                  mode_reads(load->plan->mode) ? RAW_CMD_READ : RAW_CMD_WRITE, slot->offset);
}

/* A reply is whole: the next step of its slot. */
static void finish_reply(struct load *load, struct connection *connection)
{
    unsigned int index = connection->current;
    struct slot *slot = &connection->slots[index];
    connection->in_flight--;
    load->result->errors += connection->current_failed;
    connection->current_failed = false;
    if (load->plan->mode == LEAN_WRITEFLUSH && slot->type == RAW_CMD_WRITE) {
        queue_request(load, connection, index, RAW_CMD_FLUSH, 0);
        return;
    }
    load->result->requests++;
    latency_add(&load->result->latency, load->now_ns - slot->start_ns);
    if (!is_over(load)) {
        start_request(load, connection, index);
    }
}

/* The header of a simple reply or of a chunk, whole at `at`. Returns its length, or -EPROTO. */
static int parse_header(struct load *load, struct connection *connection, const uint8_t *at)
{
    uint64_t cookie = load_be64(at + 8);
    if (cookie >= load->plan->depth) {
        return -EPROTO;
    }
    connection->current = cookie;
    const struct slot *slot = &connection->slots[cookie];
    if (load_be32(at) == RAW_SIMPLE_MAGIC) {
        connection->current_failed = load_be32(at + 4) != 0;
        connection->current_done = true;
        connection->data_offset = slot->offset;
        connection->data_left =
            slot->type == RAW_CMD_READ && !connection->current_failed ? load->plan->block_bytes : 0;
        connection->state = PARSE_DATA;
        return RAW_SIMPLE_BYTES;
    }
    if (load_be32(at) != RAW_CHUNK_MAGIC) {
        return -EPROTO;
    }
    uint16_t type = load_be16(at + 6);
    connection->current_done = load_be16(at + 4) & RAW_CHUNK_FLAG_DONE;
    connection->current_failed = connection->current_failed || (type & 0x8000);
    connection->data_left = load_be32(at + 16);
    connection->state = PARSE_DROP;
    if (type == RAW_CHUNK_OFFSET_DATA) {
        if (connection->data_left <= 8) {
            return -EPROTO;
        }
        connection->data_left -= 8;
        connection->state = PARSE_DATA_PLACE;
    } else if (type == RAW_CHUNK_OFFSET_HOLE && load->plan->verify) {
        connection->current_failed = true; /* the pattern has no hole */
    }
    return RAW_CHUNK_BYTES;
}

static size_t header_bytes_wanted(const struct connection *connection, const uint8_t *at,
                                  size_t have)
{
    if (connection->state == PARSE_DATA_PLACE) {
        return 8;
    }
    if (have < 4) {
        return 4;
    }
    return load_be32(at) == RAW_SIMPLE_MAGIC ? RAW_SIMPLE_BYTES : RAW_CHUNK_BYTES;
}

/* Parses what arrived; keeps the start of a header that is not whole. */
static int parse(struct load *load, struct connection *connection, size_t bytes)
{
    const uint8_t *at = connection->buffer, *end = at + bytes;
    for (;;) {
        if (connection->state == PARSE_DATA || connection->state == PARSE_DROP) {
            size_t have = end - at;
            size_t now_bytes = have < connection->data_left ? have : connection->data_left;
            if (load->plan->verify && connection->state == PARSE_DATA &&
                !pattern_matches(at, connection->data_offset, now_bytes)) {
                connection->current_failed = true;
            }
            at += now_bytes;
            connection->data_offset += now_bytes;
            connection->data_left -= now_bytes;
            if (connection->data_left > 0) {
                break;
            }
            connection->state = PARSE_HEADER;
            if (connection->current_done) {
                finish_reply(load, connection);
            }
            continue;
        }
        size_t wanted = header_bytes_wanted(connection, at, end - at);
        if ((size_t)(end - at) < wanted) {
            break;
        }
        if (connection->state == PARSE_DATA_PLACE) {
            connection->data_offset = load_be64(at);
            connection->state = PARSE_DATA;
            at += 8;
            continue;
        }
        int length = parse_header(load, connection, at);
        if (length < 0) {
            return length;
        }
        at += length;
    }
    connection->kept_bytes = end - at;
    memmove(connection->buffer, at, connection->kept_bytes);
    return 0;
}

/* 0, -EAGAIN when nothing was there, or an error. */
static int receive(struct load *load, struct connection *connection, int flags)
{
    ssize_t got;
    do {
        got = recv(connection->client.fd, connection->buffer + connection->kept_bytes,
                   RECEIVE_BYTES - connection->kept_bytes, flags);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        return got == 0 ? -ENOTCONN : -errno;
    }
    load->now_ns = now();
    load->result->turns++;
    return parse(load, connection, connection->kept_bytes + got);
}

/* Sends what is queued, as far as the socket takes it. */
static int flush_queue(struct connection *connection)
{
    while (connection->iov_first < connection->iov_end) {
        unsigned int count = connection->iov_end - connection->iov_first;
        struct msghdr message = {.msg_iov = connection->iov + connection->iov_first,
                                 .msg_iovlen = count < 1024 ? count : 1024};
        ssize_t sent = sendmsg(connection->client.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0 && errno == EAGAIN) {
            break;
        }
        if (sent < 0) {
            return -errno;
        }
        struct iovec *iov = connection->iov + connection->iov_first;
        while (sent > 0 && (size_t)sent >= iov->iov_len) {
            sent -= iov->iov_len;
            iov++;
            connection->iov_first++;
        }
        if (sent > 0) {
            iov->iov_base = (uint8_t *)iov->iov_base + sent;
            iov->iov_len -= sent;
        }
    }
    /* What is left moves down, so that a queue of two entries a slot always has room. */
    unsigned int left = connection->iov_end - connection->iov_first;
    if (connection->iov_first > 0) {
        memmove(connection->iov, connection->iov + connection->iov_first,
                left * sizeof(*connection->iov));
    }
    connection->iov_first = 0;
    connection->iov_end = left;
    return 0;
}

static int run_single(struct load *load, struct connection *connection)
{
    int code = flush_queue(connection);
    while (code == 0 && connection->in_flight > 0) {
        if (connection->iov_end > 0) {
            struct pollfd ready = {.fd = connection->client.fd, .events = POLLIN | POLLOUT};
            if (poll(&ready, 1, -1) < 0 && errno != EINTR) {
                return -errno;
            }
        }
        code = receive(load, connection, connection->iov_end > 0 ? MSG_DONTWAIT : 0);
        if (code == 0 || code == -EAGAIN) {
            code = flush_queue(connection);
        }
    }
    return code;
}

static int watch(struct load *load, struct connection *connection, int operation)
{
    connection->wants_write = connection->iov_end > 0;
    struct epoll_event event = {.events = EPOLLIN | (connection->wants_write ? EPOLLOUT : 0),
                                .data.ptr = connection};
    return epoll_ctl(load->epoll, operation, connection->client.fd, &event) < 0 ? -errno : 0;
}

static int turn(struct load *load, struct connection *connection)
{
    int code = receive(load, connection, MSG_DONTWAIT);
    if (code == 0 || code == -EAGAIN) {
        code = flush_queue(connection);
    }
    if (code == 0 && connection->wants_write != (connection->iov_end > 0)) {
        code = watch(load, connection, EPOLL_CTL_MOD);
    }
    return code;
}

static int run_many(struct load *load)
{
    struct epoll_event events[64];
    unsigned int busy = load->plan->connections;
    int code = 0;
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned int i = 0; i < busy && code == 0; i++) {
        code = flush_queue(&load->connections[i]);
        if (code == 0) {
            code = watch(load, &load->connections[i], EPOLL_CTL_ADD);
        }
    }
    while (code == 0 && busy > 0) {
        int count = epoll_wait(load->epoll, events, 64, -1);
        for (int i = 0; i < count && code == 0; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection->in_flight == 0) {
                continue;
            }
            code = turn(load, connection);
            busy -= connection->in_flight == 0;
        }
    }
    return code;
}

static void *must_allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory) {
        perror("lean: memory");
        exit(1);
    }
    return memory;
}

static int open_connection(struct load *load, struct connection *connection, unsigned int index)
{
    const struct lean_plan *plan = load->plan;
    int code = raw_open(&connection->client, plan->address, plan->export_name, plan->structured);
    if (code < 0) {
        fprintf(stderr, "lean: cannot open export '%s' at %s: %s\n", plan->export_name,
                plan->address, strerror(-code));
        return code;
    }
    if (plan->structured && !connection->client.structured) {
        fprintf(stderr, "lean: the server has no structured replies; leave --structured out\n");
        return -ENOTSUP;
    }
    uint64_t size = connection->client.export_size_bytes;
    uint64_t behind = plan->part_offset < size ? size - plan->part_offset : 0;
    uint64_t part = plan->part_bytes && plan->part_bytes < behind ? plan->part_bytes : behind;
    load->block_count = part / plan->block_bytes;
    if (load->block_count == 0) {
        fprintf(stderr, "lean: the export, or the part of it, is smaller than one block\n");
        return -EINVAL;
    }
    connection->next_offset = load->block_count / plan->connections * index * plan->block_bytes;
    connection->buffer = must_allocate(1, RECEIVE_BYTES);
    connection->slots = must_allocate(plan->depth, sizeof(*connection->slots));
    connection->iov = must_allocate(2 * plan->depth, sizeof(*connection->iov));
    for (unsigned int i = 0; i < plan->depth; i++) {
        connection->slots[i].payload = load->payload;
        if (plan->verify && !mode_reads(plan->mode)) {
            connection->slots[i].payload = must_allocate(1, plan->block_bytes);
        }
    }
    return 0;
}

static void close_connection(struct load *load, struct connection *connection)
{
    if (connection->client.fd >= 0) {
        raw_request(&connection->client, 0, RAW_CMD_DISC, 0, 0, 0);
        raw_close(&connection->client);
    }
    for (unsigned int i = 0; connection->slots && i < load->plan->depth; i++) {
        if (connection->slots[i].payload != load->payload) {
            free(connection->slots[i].payload);
        }
    }
    free(connection->slots);
    free(connection->iov);
    free(connection->buffer);
}

int lean_run(const struct lean_plan *plan, struct lean_result *ret_result)
{
    struct load load = {.plan = plan, .result = ret_result, .epoll = -1};
    int code = 0;
    random_seed(&load.random, plan->seed);
    load.payload = must_allocate(1, plan->block_bytes);
    for (uint32_t i = 0; i < plan->block_bytes; i++) {
        load.payload[i] = random_u64(&load.random) >> 56;
    }
    load.connections = must_allocate(plan->connections, sizeof(*load.connections));
    for (unsigned int i = 0; i < plan->connections; i++) {
        load.connections[i].client.fd = -1;
    }
    for (unsigned int i = 0; i < plan->connections && code == 0; i++) {
        code = open_connection(&load, &load.connections[i], i);
    }
    if (code == 0) {
        uint64_t start_ns = load.now_ns = now();
        load.end_ns = plan->requests ? 0 : start_ns + plan->seconds * NS_PER_S;
        for (unsigned int i = 0; i < plan->depth; i++) {
            for (unsigned int c = 0; c < plan->connections && !is_over(&load); c++) {
                start_request(&load, &load.connections[c], i);
            }
        }
        code = plan->connections == 1 ? run_single(&load, load.connections) : run_many(&load);
        ret_result->seconds = (now() - start_ns) / 1e9;
        if (code < 0) {
            fprintf(stderr, "lean: the connection failed: %s\n", strerror(-code));
        }
    }
    for (unsigned int i = 0; i < plan->connections; i++) {
        close_connection(&load, &load.connections[i]);
    }
    if (load.epoll >= 0) {
        close(load.epoll);
    }
    free(load.connections);
    free(load.payload);
    return code;
}
