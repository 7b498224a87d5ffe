/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/integration/raw_client.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/endian.h"

static int connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        int code = -errno;
        close(fd);
        return code;
    }
    return fd;
}

/* Splits "host:port" or "[host]:port" in place. */
static int split_host_port(char *address, char **ret_host, char **ret_port)
{
    char *colon = strrchr(address, ':');
    if (!colon) {
        return -EINVAL;
    }
    *colon = '\0';
    *ret_port = colon + 1;
    *ret_host = address;
    if (address[0] == '[' && colon > address && colon[-1] == ']') {
        colon[-1] = '\0';
        *ret_host = address + 1;
    }
    return 0;
}

static int connect_tcp(const char *address)
{
    char copy[128];
    char *host, *port;
    snprintf(copy, sizeof(copy), "%s", address);
    if (split_host_port(copy, &host, &port) < 0) {
        return -EINVAL;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    struct addrinfo *found;
    if (getaddrinfo(host, port, &hints, &found) != 0) {
        return -EINVAL;
    }
    int code;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) < 0) {
        code = -errno;
        if (fd >= 0) {
            close(fd);
        }
        fd = code;
    }
    freeaddrinfo(found);
    if (fd >= 0) {
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    return fd;
}

int raw_connect(struct raw_client *client, const char *address)
{
    int fd = address[0] == '/' ? connect_unix(address) : connect_tcp(address);
    *client = (struct raw_client){.fd = fd < 0 ? -1 : fd};
    if (fd < 0) {
        return fd;
    }
    struct timeval limit = {.tv_sec = RAW_TIMEOUT_S};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0) {
        int code = -errno;
        raw_close(client);
        return code;
    }
    return 0;
}

void raw_close(struct raw_client *client)
{
    if (client->fd >= 0) {
        close(client->fd);
        client->fd = -1;
    }
}

int raw_send(const struct raw_client *client, const void *from, size_t length)
{
    const char *at = from;
    while (length > 0) {
        ssize_t sent = send(client->fd, at, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0) {
            return errno == EPIPE || errno == ECONNRESET ? -ENOTCONN : -errno;
        }
        at += sent;
        length -= sent;
    }
    return 0;
}

int raw_receive(const struct raw_client *client, void *to, size_t length)
{
    char *at = to;
    while (length > 0) {
        ssize_t got = recv(client->fd, at, length, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got == 0 || (got < 0 && errno == ECONNRESET)) {
            return -ENOTCONN;
        }
        if (got < 0) {
            return -errno;
        }
        at += got;
        length -= got;
    }
    return 0;
}

static int raw_drop(const struct raw_client *client, uint64_t length)
{
    char waste[4096];
    while (length > 0) {
        size_t now = length < sizeof(waste) ? length : sizeof(waste);
        int code = raw_receive(client, waste, now);
        if (code < 0) {
            return code;
        }
        length -= now;
    }
    return 0;
}

int raw_wait_closed(const struct raw_client *client)
{
    for (;;) {
        int code = raw_drop(client, 1);
        if (code < 0) {
            return code == -ENOTCONN ? 0 : code;
        }
    }
}

int raw_greet(struct raw_client *client, uint32_t client_flags)
{
    uint8_t greeting[18], flags[4];
    int code = raw_receive(client, greeting, sizeof(greeting));
    if (code < 0) {
        return code;
    }
    if (load_be64(greeting) != RAW_NBDMAGIC || load_be64(greeting + 8) != RAW_IHAVEOPT) {
        return -EPROTO;
    }
    store_be32(flags, client_flags);
    return raw_send(client, flags, sizeof(flags));
}

int raw_send_option(const struct raw_client *client, uint32_t option, const void *data,
                    size_t length)
{
    uint8_t header[16];
    store_be64(header, RAW_IHAVEOPT);
    store_be32(header + 8, option);
    store_be32(header + 12, length);
    int code = raw_send(client, header, sizeof(header));
    return code < 0 ? code : raw_send(client, data, length);
}

int raw_receive_option_reply(const struct raw_client *client, uint32_t option, uint32_t *ret_type,
                             void *data, size_t size, size_t *ret_length)
{
    uint8_t header[20];
    int code = raw_receive(client, header, sizeof(header));
    if (code < 0) {
        return code;
    }
    if (load_be64(header) != RAW_OPT_REPLY_MAGIC || load_be32(header + 8) != option) {
        return -EPROTO;
    }
    size_t length = load_be32(header + 16);
    size_t kept = length < size ? length : size;
    code = raw_receive(client, data, kept);
    if (code == 0) {
        code = raw_drop(client, length - kept);
    }
    if (code == 0) {
        *ret_type = load_be32(header + 12);
        *ret_length = length;
    }
    return code;
}

int raw_negotiate(const struct raw_client *client, uint32_t option, const void *data, size_t length,
                  uint32_t *ret_type)
{
    uint32_t type;
    size_t dropped;
    int code = raw_send_option(client, option, data, length);
    while (code == 0) {
        code = raw_receive_option_reply(client, option, &type, NULL, 0, &dropped);
        if (code == 0 && (type == RAW_REP_ACK || (type & RAW_REP_ERROR))) {
            *ret_type = type;
            return 0;
        }
    }
    return code;
}

int raw_go(struct raw_client *client, const char *export_name)
{
    uint8_t payload[4 + 4096 + 2], info[64];
    size_t name_length = strlen(export_name), length;
    uint32_t type;

    if (name_length > 4096) {
        return -ENAMETOOLONG;
    }
    store_be32(payload, name_length);
    memcpy(payload + 4, export_name, name_length);
    store_be16(payload + 4 + name_length, 0);
    int code = raw_send_option(client, RAW_OPT_GO, payload, name_length + 6);
    while (code == 0) {
        code = raw_receive_option_reply(client, RAW_OPT_GO, &type, info, sizeof(info), &length);
        if (code < 0) {
            return code;
        }
        if (type == RAW_REP_INFO && length == 12 && load_be16(info) == 0) {
            client->export_size_bytes = load_be64(info + 2);
            client->export_flags = load_be16(info + 10);
        }
        if (type == RAW_REP_ACK) {
            return 0;
        }
        if (type & RAW_REP_ERROR) {
            return -ENOENT;
        }
    }
    return code;
}

int raw_open(struct raw_client *client, const char *address, const char *export_name,
             bool structured)
{
    uint32_t type;
    int code = raw_connect(client, address);
    if (code < 0) {
        return code;
    }
    code = raw_greet(client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES);
    if (code == 0 && structured) {
        code = raw_negotiate(client, RAW_OPT_STRUCTURED_REPLY, NULL, 0, &type);
        client->structured = code == 0 && type == RAW_REP_ACK;
    }
    if (code == 0) {
        code = raw_go(client, export_name);
    }
    if (code < 0) {
        raw_close(client);
    }
    return code;
}

int raw_set_allocation(struct raw_client *client, const char *export_name)
{
    static const char query[] = "base:allocation";
    uint8_t payload[4 + 4096 + 8 + sizeof(query)], context[4];
    size_t name_length = strlen(export_name), query_length = strlen(query), length;
    uint32_t type;
    if (name_length > 4096) {
        return -ENAMETOOLONG;
    }
    store_be32(payload, name_length);
    memcpy(payload + 4, export_name, name_length);
    store_be32(payload + 4 + name_length, 1);
    store_be32(payload + 8 + name_length, query_length);
    memcpy(payload + 12 + name_length, query, query_length);
    int code =
        raw_send_option(client, RAW_OPT_SET_META_CONTEXT, payload, 12 + name_length + query_length);
    client->context_id = 0;
    while (code == 0) {
        code = raw_receive_option_reply(client, RAW_OPT_SET_META_CONTEXT, &type, context,
                                        sizeof(context), &length);
        if (code < 0 || (type & RAW_REP_ERROR)) {
            return code < 0 ? code : -ENOENT;
        }
        if (type == RAW_REP_ACK) {
            return client->context_id ? 0 : -ENOENT;
        }
        client->context_id = load_be32(context);
    }
    return code;
}

int raw_open_extended(struct raw_client *client, const char *address, const char *export_name)
{
    uint32_t type;
    int code = raw_connect(client, address);
    if (code < 0) {
        return code;
    }
    code = raw_greet(client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES);
    if (code == 0) {
        code = raw_negotiate(client, RAW_OPT_EXTENDED_HEADERS, NULL, 0, &type);
    }
    if (code == 0 && type != RAW_REP_ACK) {
        code = -ENOTSUP;
    }
    client->extended = client->structured = code == 0;
    if (code == 0) {
        code = raw_set_allocation(client, export_name);
    }
    if (code == 0) {
        code = raw_go(client, export_name);
    }
    if (code < 0) {
        raw_close(client);
    }
    return code;
}

void raw_fill_request(uint8_t to[RAW_REQUEST_BYTES], uint16_t flags, uint16_t type, uint64_t cookie,
                      uint64_t offset, uint32_t length)
{
    store_be32(to, RAW_REQUEST_MAGIC);
    store_be16(to + 4, flags);
    store_be16(to + 6, type);
    store_be64(to + 8, cookie);
    store_be64(to + 16, offset);
    store_be32(to + 24, length);
}

int raw_request(const struct raw_client *client, uint16_t flags, uint16_t type, uint64_t cookie,
                uint64_t offset, uint32_t length)
{
    uint8_t request[RAW_REQUEST_BYTES];
    raw_fill_request(request, flags, type, cookie, offset, length);
    return raw_send(client, request, sizeof(request));
}

int raw_request_long(const struct raw_client *client, uint16_t flags, uint16_t type,
                     uint64_t cookie, uint64_t offset, uint64_t length)
{
    uint8_t request[RAW_EXTENDED_BYTES];
    if (!client->extended) {
        return length > UINT32_MAX
                   ? -EOVERFLOW
                   : raw_request(client, flags, type, cookie, offset, (uint32_t)length);
    }
    store_be32(request, RAW_EXTENDED_REQUEST_MAGIC);
    store_be16(request + 4, flags);
    store_be16(request + 6, type);
    store_be64(request + 8, cookie);
    store_be64(request + 16, offset);
    store_be64(request + 24, length);
    return raw_send(client, request, sizeof(request));
}

/* The data of a read, `length` bytes at `offset` of the export, to its place. */
static int receive_data(const struct raw_client *client, char *data, uint64_t read_offset,
                        uint32_t read_length, uint64_t offset, uint64_t length)
{
    if (offset < read_offset || length > read_length ||
        offset - read_offset > read_length - length) {
        return -EPROTO;
    }
    return data ? raw_receive(client, data + (offset - read_offset), length)
                : raw_drop(client, length);
}

/* The header of a reply or of one chunk of it. */
struct header {
    bool simple;
    uint16_t flags, type;
    uint32_t error;
    uint64_t cookie, length;
};

static int receive_extended_header(const struct raw_client *client, uint64_t request_offset,
                                   struct header *ret_header)
{
    uint8_t bytes[RAW_EXTENDED_BYTES];
    int code = raw_receive(client, bytes, sizeof(bytes));
    if (code < 0) {
        return code;
    }
    if (load_be32(bytes) != RAW_EXTENDED_REPLY_MAGIC || load_be64(bytes + 16) != request_offset) {
        return -EPROTO;
    }
    *ret_header = (struct header){
        .flags = load_be16(bytes + 4),
        .type = load_be16(bytes + 6),
        .cookie = load_be64(bytes + 8),
        .length = load_be64(bytes + 24),
    };
    return 0;
}

static int receive_header(const struct raw_client *client, uint64_t request_offset,
                          struct header *ret_header)
{
    uint8_t bytes[RAW_CHUNK_BYTES];
    if (client->extended) {
        return receive_extended_header(client, request_offset, ret_header);
    }
    int code = raw_receive(client, bytes, RAW_SIMPLE_BYTES);
    if (code < 0) {
        return code;
    }
    *ret_header = (struct header){.cookie = load_be64(bytes + 8)};
    if (load_be32(bytes) == RAW_SIMPLE_MAGIC) {
        ret_header->simple = true;
        ret_header->error = load_be32(bytes + 4);
        return 0;
    }
    if (load_be32(bytes) != RAW_CHUNK_MAGIC) {
        return -EPROTO;
    }
    ret_header->flags = load_be16(bytes + 4);
    ret_header->type = load_be16(bytes + 6);
    code = raw_receive(client, bytes + RAW_SIMPLE_BYTES, 4);
    ret_header->length = load_be32(bytes + RAW_SIMPLE_BYTES);
    return code;
}

static int receive_error_chunk(const struct raw_client *client, struct raw_reply *reply,
                               uint64_t length)
{
    uint8_t fixed[6];
    if (length < sizeof(fixed)) {
        return -EPROTO;
    }
    int code = raw_receive(client, fixed, sizeof(fixed));
    if (code < 0) {
        return code;
    }
    length -= sizeof(fixed);
    uint16_t text_length = load_be16(fixed + 4);
    if (text_length > length) {
        return -EPROTO;
    }
    if (reply->error == 0) {
        reply->error = load_be32(fixed);
    }
    size_t kept = text_length < sizeof(reply->text) ? text_length : sizeof(reply->text) - 1;
    code = raw_receive(client, reply->text, kept);
    reply->text[kept] = '\0';
    return code < 0 ? code : raw_drop(client, length - kept);
}

static int receive_hole(const struct raw_client *client, uint64_t length, struct raw_reply *reply,
                        char *data, uint64_t read_offset, uint32_t read_length)
{
    uint8_t place[12];
    int code = length == 12 ? raw_receive(client, place, 12) : -EPROTO;
    if (code < 0) {
        return code;
    }
    uint64_t offset = load_be64(place);
    uint32_t hole_bytes = load_be32(place + 8);
    if (offset < read_offset || hole_bytes > read_length ||
        offset - read_offset > read_length - hole_bytes) {
        return -EPROTO;
    }
    if (data) {
        memset(data + (offset - read_offset), 0, hole_bytes);
    }
    reply->hole_count++;
    return 0;
}

static int receive_status(const struct raw_client *client, const struct header *header,
                          struct raw_reply *reply)
{
    bool extended = header->type == RAW_CHUNK_BLOCK_STATUS_EXT;
    size_t front = extended ? 8 : 4, each = extended ? 16 : 8;
    uint8_t bytes[16];
    if (header->length <= front || (header->length - front) % each != 0 ||
        (extended && !client->extended) || reply->extent_count > 0) {
        return -EPROTO;
    }
    uint64_t count = (header->length - front) / each;
    int code = raw_receive(client, bytes, front);
    if (code == 0 && (load_be32(bytes) != client->context_id ||
                      (extended && load_be32(bytes + 4) != 0 && load_be32(bytes + 4) != count))) {
        return -EPROTO;
    }
    reply->extended_status = extended;
    for (uint64_t i = 0; i < count && code == 0; i++) {
        code = raw_receive(client, bytes, each);
        struct raw_extent extent = {.length = extended ? load_be64(bytes) : load_be32(bytes),
                                    .flags = load_be32(bytes + each - 4)};
        if (code == 0 && (extent.length == 0 || (extended && load_be32(bytes + 8) != 0))) {
            return -EPROTO;
        }
        if (i < RAW_EXTENTS_MAX) {
            reply->extents[i] = extent;
        }
        reply->extent_count++;
    }
    return code;
}

static int receive_chunk(const struct raw_client *client, const struct header *header,
                         struct raw_reply *reply, char *data, uint64_t read_offset,
                         uint32_t read_length)
{
    uint8_t place[8];
    reply->chunk_count++;
    if (header->type == RAW_CHUNK_OFFSET_DATA) {
        if (header->length <= 8) {
            return -EPROTO;
        }
        int code = raw_receive(client, place, 8);
        reply->data_bytes += header->length - 8;
        return code < 0 ? code
                        : receive_data(client, data, read_offset, read_length, load_be64(place),
                                       header->length - 8);
    }
    if (header->type == RAW_CHUNK_OFFSET_HOLE) {
        return receive_hole(client, header->length, reply, data, read_offset, read_length);
    }
    if (client->context_id != 0 &&
        (header->type == RAW_CHUNK_BLOCK_STATUS || header->type == RAW_CHUNK_BLOCK_STATUS_EXT)) {
        return receive_status(client, header, reply);
    }
    if (header->type & 0x8000) {
        return receive_error_chunk(client, reply, header->length);
    }
    return raw_drop(client, header->length);
}

int raw_receive_reply(const struct raw_client *client, struct raw_reply *ret_reply, void *data,
                      uint64_t read_offset, uint32_t read_length)
{
    struct header header;
    struct raw_reply reply = {0};
    int code;
    do {
        code = receive_header(client, read_offset, &header);
        if (code < 0) {
            return code;
        }
        if (reply.chunk_count > 0 && (header.simple || header.cookie != reply.cookie)) {
            return -EPROTO;
        }
        reply.cookie = header.cookie;
        if (header.simple) {
            reply.simple = true;
            reply.error = header.error;
            reply.data_bytes = reply.error ? 0 : read_length;
            code =
                receive_data(client, data, read_offset, read_length, read_offset, reply.data_bytes);
            break;
        }
        code = receive_chunk(client, &header, &reply, data, read_offset, read_length);
    } while (code == 0 && !(header.flags & RAW_CHUNK_FLAG_DONE));
    if (code == 0) {
        *ret_reply = reply;
    }
    return code;
}
