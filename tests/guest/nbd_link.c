/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connects nbd.ko over TCP, by netlink. It is what nbd-client does, with two things more that its
 * Debian version has not: a dead-connection timeout, so that requests wait for a server that went
 * away, and new connections for a device that waits so. It runs inside a guest.
 *
 *   nbd_link connect INDEX ADDRESS PORT CONNECTIONS DEAD_TIMEOUT_S
 *   nbd_link reconnect INDEX ADDRESS PORT CONNECTIONS
 *
 * The protocol is the NBD specification's fixed newstyle negotiation, option NBD_OPT_EXPORT_NAME.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 16
#define TRIES 100 /* of 100 ms each: for the kernel to see that a connection is dead */
#define BLOCK_BYTES 512

struct export
{
    uint64_t size_bytes;
    uint16_t flags;
};

/* A netlink message that grows. */
struct message {
    struct nlmsghdr head;
    struct genlmsghdr generic;
    char attributes[1024];
};

static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("nbd_link: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void send_all(int fd, const void *bytes, size_t length)
{
    if (send(fd, bytes, length, MSG_NOSIGNAL) != (ssize_t)length)
        die("the server does not take %zu bytes: %s", length, strerror(errno));
}

static void receive_all(int fd, void *bytes, size_t length)
{
    if (recv(fd, bytes, length, MSG_WAITALL) != (ssize_t)length)
        die("the server does not send %zu bytes: %s", length, strerror(errno));
}

static void negotiate(int fd, struct export *ret_export)
{
    struct {
        uint64_t magic, option_magic;
        uint16_t flags;
    } __attribute__((packed)) greeting;
    receive_all(fd, &greeting, sizeof(greeting));
    if (be64toh(greeting.magic) != 0x4e42444d41474943 ||
        be64toh(greeting.option_magic) != 0x49484156454F5054 || (be16toh(greeting.flags) & 3) != 3)
        die("the server does not speak fixed newstyle without zeroes");
    struct {
        uint32_t flags;
        uint64_t option_magic;
        uint32_t option, length;
    } __attribute__((packed)) option = {htobe32(3), greeting.option_magic, htobe32(1), 0};
    send_all(fd, &option, sizeof(option));
    struct {
        uint64_t size;
        uint16_t flags;
    } __attribute__((packed)) answer;
    receive_all(fd, &answer, sizeof(answer));
    *ret_export = (struct export){be64toh(answer.size), be16toh(answer.flags)};
}

static int connect_to(const char *address, const char *port, struct export *ret_export)
{
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    if (inet_pton(AF_INET, address, &peer.sin_addr) != 1)
        die("%s is not an IPv4 address", address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&peer, sizeof(peer)) < 0)
        die("%s, port %s: %s", address, port, strerror(errno));
    negotiate(fd, ret_export);
    return fd;
}

static struct nlattr *append(struct message *message, uint16_t type, const void *value,
                             size_t length)
{
    size_t at = NLMSG_ALIGN(message->head.nlmsg_len);
    if (at + NLA_HDRLEN + NLA_ALIGN(length) > sizeof(*message))
        die("too many connections");
    struct nlattr *attribute = (struct nlattr *)((char *)message + at);
    attribute->nla_type = type;
    attribute->nla_len = (uint16_t)(NLA_HDRLEN + length);
    if (length > 0)
        memcpy((char *)attribute + NLA_HDRLEN, value, length);
    message->head.nlmsg_len = (uint32_t)(at + NLA_HDRLEN + NLA_ALIGN(length));
    return attribute;
}

static struct nlattr *begin_nested(struct message *message, uint16_t type)
{
    return append(message, type | NLA_F_NESTED, NULL, 0);
}

static void end_nested(struct message *message, struct nlattr *nested)
{
    nested->nla_len = (uint16_t)((char *)message + message->head.nlmsg_len - (char *)nested);
}

static void message_init(struct message *message, uint16_t family, uint8_t command)
{
    *message = (struct message){
        .head = {.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN),
                 .nlmsg_type = family,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
        .generic = {.cmd = command, .version = 1},
    };
}

/* Sends the message and reads what comes back. Returns 0 or a negative errno; the first message
 * that is no acknowledgement is stored in `answer`. */
static int ask_kernel(int netlink, const struct message *message, struct message *answer)
{
    send_all(netlink, message, message->head.nlmsg_len);
    for (;;) {
        struct message received;
        ssize_t length = recv(netlink, &received, sizeof(received), 0);
        if (length < (ssize_t)NLMSG_HDRLEN)
            die("netlink: %s", strerror(errno));
        if (received.head.nlmsg_type != NLMSG_ERROR) {
            *answer = received;
            continue;
        }
        struct nlmsgerr *error = NLMSG_DATA(&received.head);
        return error->error;
    }
}

static uint16_t family_of_nbd(int netlink)
{
    struct message message, answer = {.head = {.nlmsg_len = 0}};
    message_init(&message, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
    append(&message, CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME, sizeof(NBD_GENL_FAMILY_NAME));
    int rc = ask_kernel(netlink, &message, &answer);
    if (rc < 0)
        die("nbd.ko is not loaded: %s", strerror(-rc));
    size_t at = NLMSG_LENGTH(GENL_HDRLEN);
    while (at + NLA_HDRLEN <= answer.head.nlmsg_len && at + NLA_HDRLEN <= sizeof(answer)) {
        struct nlattr *attribute = (struct nlattr *)((char *)&answer + at);
        if (attribute->nla_type == CTRL_ATTR_FAMILY_ID)
            return *(uint16_t *)((char *)attribute + NLA_HDRLEN);
        at += NLA_ALIGN(attribute->nla_len);
    }
    die("the kernel does not tell the number of nbd's netlink family");
    return 0;
}

static void append_sockets(struct message *message, const int *fds, unsigned count)
{
    struct nlattr *sockets = begin_nested(message, NBD_ATTR_SOCKETS);
    for (unsigned i = 0; i < count; i++) {
        struct nlattr *item = begin_nested(message, NBD_SOCK_ITEM);
        append(message, NBD_SOCK_FD, &fds[i], sizeof(fds[i]));
        end_nested(message, item);
    }
    end_nested(message, sockets);
}

/* A socket takes the place of one that is dead; while none is, the kernel says so by ENOSPC. */
static void reconnect(int netlink, uint16_t family, uint32_t index, int fd)
{
    struct message message, answer;
    message_init(&message, family, NBD_CMD_RECONFIGURE);
    append(&message, NBD_ATTR_INDEX, &index, sizeof(index));
    append_sockets(&message, &fd, 1);
    for (unsigned tries = 0; tries < TRIES; tries++) {
        int rc = ask_kernel(netlink, &message, &answer);
        if (rc == 0)
            return;
        if (rc != -ENOSPC)
            die("the kernel does not take a new connection: %s", strerror(-rc));
        usleep(100000);
    }
    die("no connection of the device is dead");
}

static void connect_device(int netlink, uint16_t family, uint32_t index, const int *fds,
                           unsigned count, const struct export *export, uint64_t dead_timeout_s)
{
    struct message message, answer;
    uint64_t flags = export->flags, block_bytes = BLOCK_BYTES, size_bytes = export->size_bytes;
    message_init(&message, family, NBD_CMD_CONNECT);
    append(&message, NBD_ATTR_INDEX, &index, sizeof(index));
    append(&message, NBD_ATTR_SIZE_BYTES, &size_bytes, sizeof(size_bytes));
    append(&message, NBD_ATTR_BLOCK_SIZE_BYTES, &block_bytes, sizeof(block_bytes));
    append(&message, NBD_ATTR_SERVER_FLAGS, &flags, sizeof(flags));
    append(&message, NBD_ATTR_DEAD_CONN_TIMEOUT, &dead_timeout_s, sizeof(dead_timeout_s));
    append_sockets(&message, fds, count);
    int rc = ask_kernel(netlink, &message, &answer);
    if (rc < 0)
        die("the kernel does not connect: %s", strerror(-rc));
}

int main(int argc, char **argv)
{
    bool is_first = argc == 7 && strcmp(argv[1], "connect") == 0;
    if (!is_first && (argc != 6 || strcmp(argv[1], "reconnect") != 0))
        die("usage: connect INDEX ADDRESS PORT CONNECTIONS DEAD_TIMEOUT_S, or\n"
            "       reconnect INDEX ADDRESS PORT CONNECTIONS");
    uint32_t index = (uint32_t)atoi(argv[2]);
    int count = atoi(argv[5]), fds[CONNECTIONS_MAX];
    if (count < 1 || count > CONNECTIONS_MAX)
        die("%s connections; 1 to %d do", argv[5], CONNECTIONS_MAX);

    int netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
    if (netlink < 0)
        die("netlink: %s", strerror(errno));
    uint16_t family = family_of_nbd(netlink);
    struct export export = {0};
    for (int i = 0; i < count; i++) {
        fds[i] = connect_to(argv[3], argv[4], &export);
        if (!is_first)
            reconnect(netlink, family, index, fds[i]);
    }
    if (is_first)
        connect_device(netlink, family, index, fds, (unsigned)count, &export,
                       (uint64_t)atoi(argv[6]));
    return 0;
}
