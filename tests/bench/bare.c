/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bare IMAGE SOCKET: as little of an NBD server as can be, to know what this machine lets any of
 * them reach: a thread a connection, one large receive, pread straight into the reply, pwrite
 * straight from what was received, one send for all that one receive brought. No block layer, no
 * errors but the end of the connection, and no safety: it is a ruler and not a server.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/endian.h"
#include "tests/integration/raw_client.h"

#define INPUT_BYTES (1u << 20)
#define OUTPUT_BYTES (8u << 20)
#define REQUEST_BYTES 28
#define REPLY_BYTES 16
#define EXPORT_FLAGS 0x105 /* has flags, flush, several connections */

static int image_fd;
static uint64_t image_bytes;

struct connection {
    int fd;
    size_t received, answered; /* bytes in the buffers */
    uint8_t input[INPUT_BYTES], output[OUTPUT_BYTES];
};

static bool send_all(int fd, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        bytes += sent;
        length -= (size_t)sent;
    }
    return true;
}

static bool receive_all(int fd, uint8_t *bytes, size_t length)
{
    return length == 0 || recv(fd, bytes, length, MSG_WAITALL) == (ssize_t)length;
}

/* --- handshake ----------------------------------------------------------------------------------
 */

static bool answer_option(int fd, uint32_t option, uint32_t type, const uint8_t *data,
                          uint32_t length)
{
    uint8_t head[20];
    store_be64(head, RAW_OPT_REPLY_MAGIC);
    store_be32(head + 8, option);
    store_be32(head + 12, type);
    store_be32(head + 16, length);
    return send_all(fd, head, sizeof(head)) && send_all(fd, data, length);
}

/* INFO and GO of any name; all other options are unknown. True when transmission begins. */
static bool shake_hands(struct connection *connection)
{
    uint8_t greeting[18], head[16], info[12] = {0};
    int fd = connection->fd;
    store_be64(greeting, RAW_NBDMAGIC);
    store_be64(greeting + 8, RAW_IHAVEOPT);
    store_be16(greeting + 16, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES);
    store_be64(info + 2, image_bytes);
    store_be16(info + 10, EXPORT_FLAGS);
    if (!send_all(fd, greeting, sizeof(greeting)) || !receive_all(fd, connection->input, 4))
        return false;
    while (receive_all(fd, head, sizeof(head))) {
        uint32_t option = load_be32(head + 8), length = load_be32(head + 12);
        if (length > INPUT_BYTES || !receive_all(fd, connection->input, length))
            return false;
        bool is_known = option == RAW_OPT_GO || option == RAW_OPT_INFO;
        if (is_known && !answer_option(fd, option, RAW_REP_INFO, info, sizeof(info)))
            return false;
        if (!answer_option(fd, option, is_known ? RAW_REP_ACK : RAW_REP_ERR_UNSUP, NULL, 0))
            return false;
        if (option == RAW_OPT_GO)
            return true;
    }
    return false;
}

/* --- transmission -------------------------------------------------------------------------------
 */

static bool flush_output(struct connection *connection)
{
    size_t length = connection->answered;
    connection->answered = 0;
    return send_all(connection->fd, connection->output, length);
}

/* False: the client goes, or what it asks for is more than a ruler has room for. */
static bool serve(struct connection *connection, const uint8_t *request)
{
    uint16_t command = load_be16(request + 6);
    uint64_t offset = load_be64(request + 16);
    uint32_t length = load_be32(request + 24);
    size_t room = REPLY_BYTES + (command == RAW_CMD_READ ? length : 0);
    if (room > OUTPUT_BYTES)
        return false;
    if (connection->answered + room > OUTPUT_BYTES && !flush_output(connection))
        return false;
    uint8_t *reply = connection->output + connection->answered;
    store_be32(reply, RAW_SIMPLE_MAGIC);
    store_be32(reply + 4, 0);
    memcpy(reply + 8, request + 8, 8);
    connection->answered += room;
    switch (command) {
    case RAW_CMD_READ:
        return pread(image_fd, reply + REPLY_BYTES, length, (off_t)offset) == (ssize_t)length;
    case RAW_CMD_WRITE:
        return pwrite(image_fd, request + REQUEST_BYTES, length, (off_t)offset) == (ssize_t)length;
    case RAW_CMD_FLUSH:
        return fdatasync(image_fd) == 0;
    default:
        return false;
    }
}

/* How many bytes the request at the beginning has, as far as that is known. */
static size_t request_length(const uint8_t *bytes, size_t received)
{
    if (received < REQUEST_BYTES)
        return REQUEST_BYTES;
    bool is_write = load_be16(bytes + 6) == RAW_CMD_WRITE;
    return REQUEST_BYTES + (is_write ? (size_t)load_be32(bytes + 24) : 0);
}

static bool serve_received(struct connection *connection)
{
    size_t done = 0, length;
    for (; (length = request_length(connection->input + done, connection->received - done)) <=
           connection->received - done;
         done += length) {
        if (!serve(connection, connection->input + done))
            return false;
    }
    connection->received -= done;
    memmove(connection->input, connection->input + done, connection->received);
    return length <= INPUT_BYTES && flush_output(connection);
}

static void *connection_main(void *arg)
{
    struct connection *connection = arg;
    bool goes_on = shake_hands(connection);
    while (goes_on) {
        ssize_t length = recv(connection->fd, connection->input + connection->received,
                              INPUT_BYTES - connection->received, 0);
        if (length <= 0)
            break;
        connection->received += (size_t)length;
        goes_on = serve_received(connection);
    }
    close(connection->fd);
    free(connection);
    return NULL;
}

/* --- life ---------------------------------------------------------------------------------------
 */

static int fail(const char *what)
{
    fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
    return 1;
}

static int listen_on(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 16) < 0)
        return -1;
    return fd;
}

static int accept_one(int listener)
{
    pthread_t thread;
    struct connection *connection = malloc(sizeof(*connection));
    if (!connection)
        return fail("no memory for a connection");
    connection->received = connection->answered = 0;
    connection->fd = accept(listener, NULL, NULL);
    if (connection->fd < 0)
        return fail("cannot accept");
    if (pthread_create(&thread, NULL, connection_main, connection) != 0)
        return fail("cannot start a thread");
    pthread_detach(thread);
    return 0;
}

int main(int argc, char **argv)
{
    struct stat stat;
    if (argc != 3) {
        fprintf(stderr, "usage: bare IMAGE SOCKET; serves until it is killed\n");
        return 1;
    }
    image_fd = open(argv[1], O_RDWR | O_CLOEXEC);
    if (image_fd < 0 || fstat(image_fd, &stat) < 0)
        return fail(argv[1]);
    image_bytes = (uint64_t)stat.st_size;
    int listener = listen_on(argv[2]);
    if (listener < 0)
        return fail(argv[2]);
    while (accept_one(listener) == 0) {
    }
    return 1;
}
