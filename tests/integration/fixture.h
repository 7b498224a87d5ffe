/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_INTEGRATION_FIXTURE_H
#define TESTS_INTEGRATION_FIXTURE_H

#include "tests/unit/unit.h"

#include <stdbool.h>
#include <sys/types.h>

/*
 * A server of the test's own, from the command in PLATTER (else PLATTER_BUILT), on a UNIX socket in
 * a folder of its own. Whatever fails here fails the running test. One server lives at a time.
 */

struct server {
    pid_t pid;          /* 0 when none runs */
    const char *format; /* of the image; NULL: raw */
    char dir[64];
    char image[96];
    char socket[96];
    char log[96];
};

/* For main(): exits with 77 (skipped) when there is no server command. */
void fixture_require_server(void);

/* Makes the folder and an image of `size_bytes`, all hole. */
void server_make_image(struct server *server, uint64_t size_bytes);
/* Begins to start the server on the image with `-f FORMAT` and up to 16 more options, NULL ends
 * them. `options` may be NULL. */
void server_launch(struct server *server, const char *const options[]);
/* The same, and waits until it serves. */
void server_start(struct server *server, const char *const options[]);
/* SIGTERM; it must end with status 0, its socket gone, no sanitizer report in its log. */
void server_stop(struct server *server);
/* Waits for the server to end by itself: the same conditions. */
void server_expect_end(struct server *server);
bool server_is_alive(const struct server *server);
/* Lines in the server's log so far. */
unsigned int server_log_lines(const struct server *server);
/* Waits until the log has at least `lines` lines, then gives what would come too much a moment. */
unsigned int server_wait_log_lines(const struct server *server, unsigned int lines);
/* Removes the folder; kills a server that a failed test left. For teardown. */
void server_clean(struct server *server);

/* Setup and teardown for cmocka: *state is a struct server with an image of 64 MiB, not started. */
int fixture_setup(void **state);
int fixture_teardown(void **state);

/* `length` bytes that depend on the seed alone. */
void fill_random(void *to, size_t length, uint64_t seed);
/* Reads the image file itself. */
void image_read(const struct server *server, void *to, size_t length, uint64_t offset);
void image_write(const struct server *server, const void *from, size_t length, uint64_t offset);
/* Bytes the file system holds for the image. */
uint64_t image_allocated_bytes(const struct server *server);

#define FIXTURE_IMAGE_BYTES (UINT64_C(64) << 20)

#endif
