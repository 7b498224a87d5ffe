/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_SERVER_PLANT_H
#define TESTS_UNIT_SERVER_PLANT_H

/*
 * A server on one loop, an image in memory, and a client at the other end of a socket pair, all on
 * this thread. The client speaks bytes that it makes itself.
 */

#include "tests/unit/unit.h"

#include "server/server.h"
#include "tests/unit/block/block_fixture.h"

#define IMAGE_BYTES ((uint64_t)8 << 20)
#define HANDSHAKE_BYTES (4 + 16)                /* flags, EXPORT_NAME of "" */
#define GREETING_BYTES (NBD_GREETING_SIZE + 10) /* the server's, and its answer, without zeroes */
#define LIMIT_MS 20000

struct plant {
    struct fixture fixture;
    struct export *export;
    struct server *server;
    struct server_options options;
    int fd; /* the client's end; -1: closed */
    bool has_stopped;
    unsigned ended_count;
};

extern const struct server_options plant_usual;

void plant_connect(struct plant *plant);
void plant_open(struct plant *plant, const struct server_options *options);
void plant_close(struct plant *plant);
uint64_t plant_now_ms(void);
void plant_turn(struct plant *plant);
void plant_hang_up(struct plant *plant);
void plant_wait_ended(struct plant *plant, unsigned count);
void send_all(struct plant *plant, const void *bytes, size_t length);
/* Exactly length bytes; to may be NULL. */
void receive_all(struct plant *plant, void *to, size_t length);
void expect_end(struct plant *plant);
size_t put_handshake(uint8_t *to);
size_t put_request(uint8_t *to, uint16_t command, uint64_t cookie, uint64_t offset,
                   uint32_t length);
void shake_hands(struct plant *plant);
void send_request(struct plant *plant, uint16_t command, uint64_t cookie, uint64_t offset,
                  uint32_t length);
void expect_reply(struct plant *plant, uint64_t cookie, uint32_t error);

#endif
