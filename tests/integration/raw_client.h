/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_INTEGRATION_RAW_CLIENT_H
#define TESTS_INTEGRATION_RAW_CLIENT_H

/*
 * A client that speaks NBD by hand, for what a well-behaved library refuses to send, and for the
 * load generator. It shares nothing with the server's protocol room: the numbers below were read
 * from the specification a second time, so a wrong one there is found here.
 *
 * Every function returns 0 (or what it says) or a negative errno; the other side closing is
 * -ENOTCONN, a wait past RAW_TIMEOUT_S is -EAGAIN, an answer that breaks the protocol is -EPROTO.
 * All calls block.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAW_TIMEOUT_S 60

/* "Protocol phases" and "Values" of the specification; only what the tests use. */
#define RAW_NBDMAGIC UINT64_C(0x4e42444d41474943)
#define RAW_IHAVEOPT UINT64_C(0x49484156454f5054)
#define RAW_OPT_REPLY_MAGIC UINT64_C(0x0003e889045565a9)
#define RAW_REQUEST_MAGIC UINT32_C(0x25609513)
#define RAW_SIMPLE_MAGIC UINT32_C(0x67446698)
#define RAW_CHUNK_MAGIC UINT32_C(0x668e33ef)
#define RAW_EXTENDED_REQUEST_MAGIC UINT32_C(0x21e41c71)
#define RAW_EXTENDED_REPLY_MAGIC UINT32_C(0x6e8a278c)

enum { RAW_C_FIXED_NEWSTYLE = 1, RAW_C_NO_ZEROES = 2 };

enum {
    RAW_OPT_EXPORT_NAME = 1,
    RAW_OPT_ABORT = 2,
    RAW_OPT_LIST = 3,
    RAW_OPT_INFO = 6,
    RAW_OPT_GO = 7,
    RAW_OPT_STRUCTURED_REPLY = 8,
    RAW_OPT_LIST_META_CONTEXT = 9,
    RAW_OPT_SET_META_CONTEXT = 10,
    RAW_OPT_EXTENDED_HEADERS = 11,
};

enum { RAW_REP_ACK = 1, RAW_REP_SERVER = 2, RAW_REP_INFO = 3, RAW_REP_META_CONTEXT = 4 };
#define RAW_REP_ERROR UINT32_C(0x80000000) /* set in every error reply */
#define RAW_REP_ERR_UNSUP (RAW_REP_ERROR | 1)
#define RAW_REP_ERR_INVALID (RAW_REP_ERROR | 3)
#define RAW_REP_ERR_UNKNOWN (RAW_REP_ERROR | 6)
#define RAW_REP_ERR_SHUTDOWN (RAW_REP_ERROR | 7)
#define RAW_REP_ERR_TOO_BIG (RAW_REP_ERROR | 9)

enum {
    RAW_CMD_READ = 0,
    RAW_CMD_WRITE = 1,
    RAW_CMD_DISC = 2,
    RAW_CMD_FLUSH = 3,
    RAW_CMD_TRIM = 4,
    RAW_CMD_CACHE = 5,
    RAW_CMD_WRITE_ZEROES = 6,
    RAW_CMD_BLOCK_STATUS = 7,
};

enum {
    RAW_FLAG_FUA = 1,
    RAW_FLAG_NO_HOLE = 2,
    RAW_FLAG_DF = 4,
    RAW_FLAG_REQ_ONE = 8,
    RAW_FLAG_FAST_ZERO = 16,
    RAW_FLAG_PAYLOAD_LEN = 32,
};

enum {
    RAW_CHUNK_NONE = 0,
    RAW_CHUNK_OFFSET_DATA = 1,
    RAW_CHUNK_OFFSET_HOLE = 2,
    RAW_CHUNK_BLOCK_STATUS = 5,
    RAW_CHUNK_BLOCK_STATUS_EXT = 6,
    RAW_CHUNK_ERROR = 0x8001,
    RAW_CHUNK_ERROR_OFFSET = 0x8002,
};
#define RAW_CHUNK_FLAG_DONE 1

/* The wire's error numbers. */
enum {
    RAW_EPERM = 1,
    RAW_EINVAL = 22,
    RAW_ENOSPC = 28,
    RAW_EOVERFLOW = 75,
    RAW_ENOTSUP = 95,
    RAW_ESHUTDOWN = 108
};

#define RAW_REQUEST_BYTES 28
#define RAW_SIMPLE_BYTES 16
#define RAW_CHUNK_BYTES 20
#define RAW_EXTENDED_BYTES 32 /* both ways */

struct raw_client {
    int fd; /* -1 when closed */
    uint64_t export_size_bytes;
    uint16_t export_flags;
    bool structured;     /* negotiated */
    bool extended;       /* the same; from then on headers have 32 bytes */
    uint32_t context_id; /* of base:allocation, when it was selected */
};

/* One descriptor of a status chunk, of either kind. */
struct raw_extent {
    uint64_t length;
    uint32_t flags;
};
#define RAW_EXTENTS_MAX 64

/* One reply, all of its chunks read. The first error wins. */
struct raw_reply {
    uint64_t cookie;
    uint32_t error; /* the wire's number, 0 for success */
    bool simple;
    unsigned int chunk_count;
    unsigned int hole_count;
    unsigned int extent_count; /* of a status reply, those past RAW_EXTENTS_MAX not kept */
    bool extended_status;      /* it came as RAW_CHUNK_BLOCK_STATUS_EXT */
    struct raw_extent extents[RAW_EXTENTS_MAX];
    uint64_t data_bytes; /* payload bytes that arrived as data */
    char text[256];      /* the server's words, if it sent any */
};

/* "/path/of/socket", or "host:port" with the host as a number, "[::1]:10809" for IPv6. */
int raw_connect(struct raw_client *client, const char *address);
void raw_close(struct raw_client *client);

/* Exactly `length` bytes. */
int raw_send(const struct raw_client *client, const void *from, size_t length);
int raw_receive(const struct raw_client *client, void *to, size_t length);
/* Reads and throws away until the other side closes: 0; -EAGAIN if it does not. */
int raw_wait_closed(const struct raw_client *client);

/* The server's greeting, then the client's flags. */
int raw_greet(struct raw_client *client, uint32_t client_flags);
int raw_send_option(const struct raw_client *client, uint32_t option, const void *data,
                    size_t length);
/* One option reply. Up to `size` bytes of its data go to `data`, the rest is dropped. */
int raw_receive_option_reply(const struct raw_client *client, uint32_t option, uint32_t *ret_type,
                             void *data, size_t size, size_t *ret_length);
/* Sends an option and reads to its last reply, whose type is returned through ret_type. */
int raw_negotiate(const struct raw_client *client, uint32_t option, const void *data, size_t length,
                  uint32_t *ret_type);
/* OPT_GO for an export: fills the client's size and flags. */
int raw_go(struct raw_client *client, const char *export_name);
/* All of the above: connected, greeted, structured replies if asked, GO done. */
int raw_open(struct raw_client *client, const char *address, const char *export_name,
             bool structured);

/* Selects base:allocation: fills context_id; -ENOENT when the server has none. */
int raw_set_allocation(struct raw_client *client, const char *export_name);
/* As raw_open(), with extended headers and base:allocation. */
int raw_open_extended(struct raw_client *client, const char *address, const char *export_name);

void raw_fill_request(uint8_t to[RAW_REQUEST_BYTES], uint16_t flags, uint16_t type, uint64_t cookie,
                      uint64_t offset, uint32_t length);
int raw_request(const struct raw_client *client, uint16_t flags, uint16_t type, uint64_t cookie,
                uint64_t offset, uint32_t length);
/* The same in the kind of header that was negotiated; without extended headers the length must fit
 * 32 bits. */
int raw_request_long(const struct raw_client *client, uint16_t flags, uint16_t type,
                     uint64_t cookie, uint64_t offset, uint64_t length);
/*
 * Reads one whole reply, where replies are not interleaved. `read_length` is the length of the read
 * that is answered (simple replies do not say), 0 for other commands. Data goes to `data` at its
 * place from `read_offset` on; NULL drops it. With extended headers `read_offset` is the request's
 * offset whatever the command, and each chunk must name it.
 */
int raw_receive_reply(const struct raw_client *client, struct raw_reply *ret_reply, void *data,
                      uint64_t read_offset, uint32_t read_length);

#endif
