/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_CLIENT_H
#define TESTS_HARNESS_SIM_CLIENT_H

/*
 * A client that speaks real bytes over a simulated stream. An honest one negotiates, sends requests
 * drawn from the seed, has every answer checked by the oracle, and leaves in one of several ways. A
 * rogue one breaks the rules, and must cost its own connection and nothing else.
 *
 *   sim_client     its life: connecting, the phases, leaving
 *   sim_handshake  negotiation
 *   sim_request    drawing and sending requests
 *   sim_reply      understanding and checking replies
 *   sim_rogue      what rogues send
 */

#include <stdbool.h>
#include <stdint.h>

#include "tests/harness/oracle.h"
#include "tests/harness/sim.h"
#include "tests/harness/sim_bytes.h"
#include "tests/harness/sim_disk.h"
#include "tests/harness/sim_faults.h"
#include "tests/harness/sim_handshake.h"
#include "tests/harness/sim_stream.h"

#define SIM_DEPTH_MAX 400 /* more than the server takes at once */
#define SIM_WHO_MAX 96

enum sim_client_kind {
    SIM_CLIENT_HONEST,
    SIM_CLIENT_VERIFIER, /* reads all, flushes, leaves */
    SIM_CLIENT_ROGUE,
};

enum sim_leave {
    LEAVE_AFTER_ALL,   /* DISC when everything was answered */
    LEAVE_OUTSTANDING, /* DISC behind requests that wait for their answers */
    LEAVE_HALF_CLOSE,  /* sends no more, reads on until the end */
    LEAVE_VANISH,      /* is gone in the middle of something */
    LEAVE_RESET,       /* the same, and the server is told by an error */
};

enum sim_phase {
    PHASE_OUTSIDE, /* waits for room in the server */
    PHASE_HANDSHAKE,
    PHASE_TRANSMISSION,
    PHASE_LEAVING, /* sends no more, reads on */
    PHASE_GONE,
};

/* Part of a reply that came: no other part may say anything about it. */
struct sim_range {
    uint64_t offset, length;
};

struct sim_request {
    bool is_used;
    uint64_t cookie, number;
    uint16_t command, flags;
    uint64_t offset;
    uint32_t length;
    uint32_t expected_error; /* NBD_E...; 0: it must succeed */
    uint32_t op;             /* the oracle's number, 0: none */
    uint32_t flush_sent;
    uint64_t sent_ns;
    struct oracle_view view; /* READ and BLOCK_STATUS */
    uint8_t *data;           /* READ: what came */
    uint32_t error;          /* that chunks told */
    struct sim_range *parts;
    unsigned part_count;
    bool status_came;
};

/* What all clients of a run know. */
struct sim_clients {
    struct sim *sim;
    struct oracle *oracle;
    struct sim_file
        *file; /* the image, to look at its stable storage; NULL: it has another format */
    const char *export_name;
    struct sim_faults *faults;
    bool read_only, write_through;
    bool is_unsafe;   /* no answer promises stable storage */
    bool is_stopping; /* the server was told to stop: an early end is no fault */
    uint64_t hot_spots[4];
    uint64_t requests_checked;
    uint64_t stop_at; /* so many: then stop() is called, once; 0: never */
    void (*stop)(struct sim_clients *clients);
    uint64_t cut_at; /* so many: then cut_soon() is called, once; 0: never */
    void (*cut_soon)(struct sim_clients *clients);
};

struct sim_client {
    struct sim_clients *all;
    unsigned number;
    enum sim_client_kind kind;
    struct random random;
    struct sim_event event;
    enum sim_phase phase;
    struct sim_stream *stream; /* NULL outside and when gone */
    struct sim_bytes input, output;
    struct sim_handshake handshake;
    char who[SIM_WHO_MAX];

    /* The plan. */
    unsigned depth;
    uint64_t requests_left;
    uint32_t length_max;
    uint32_t alignment; /* that it mostly keeps */
    enum sim_leave leave;
    unsigned rogue_kind;
    bool is_slow_reader;
    uint64_t idles_at; /* requests_left: then it says nothing for longer than every time limit */
    uint64_t idle_until_ns;
    bool is_eager;     /* its first requests do not wait for the end of the handshake */
    bool changes_much; /* writes, zeroes and trims for the most part */
    bool lingers;      /* a rogue that leaves only when the server makes it */

    uint64_t next_number, verify_offset, last_end;
    unsigned outstanding;
    struct sim_request requests[SIM_DEPTH_MAX];
};

/* Draws the plan. */
void sim_client_init(struct sim_client *client, struct sim_clients *all, unsigned number,
                     enum sim_client_kind kind);
void sim_client_fini(struct sim_client *client);
/* From now on it is in the world; returns the server's end of its stream. */
struct stream *sim_client_connect(struct sim_client *client);
/* One line on what it waits for. */
void sim_client_describe(const struct sim_client *client, char *text, size_t room);
/* Something was not as it must be: fails the run. */
void sim_client_fail(struct sim_client *client, const struct sim_request *request,
                     const char *format, ...) __attribute__((format(printf, 3, 4)));

/* --- sim_request.c --------------------------------------------------------------------------- */

/* Puts requests into the output as long as the plan and the depth allow. */
void sim_client_send_requests(struct sim_client *client);
/* The first few, behind an option whose answer has not come. */
void sim_client_send_eagerly(struct sim_client *client);
void sim_client_send_disconnect(struct sim_client *client);
/* The name of a request for messages. */
void sim_request_name(const struct sim_client *client, const struct sim_request *request,
                      char *text, size_t room);
void sim_request_end(struct sim_client *client, struct sim_request *request);
/* What the book of faults wants to know of it. */
struct sim_faults_request sim_request_for_faults(const struct sim_client *client,
                                                 const struct sim_request *request);

/* --- sim_reply.c ----------------------------------------------------------------------------- */

/* Takes all replies that are there as a whole. */
void sim_client_take_replies(struct sim_client *client);

/* --- sim_rogue.c ----------------------------------------------------------------------------- */

void sim_rogue_draw(struct sim_client *client);
/* Whether it behaves until transmission begins. */
bool sim_rogue_negotiates(const struct sim_client *client);
/* Whether it ever looks at what the server sends after that. */
bool sim_rogue_reads(const struct sim_client *client);
/* Puts what it sends into the output; true when it then hangs up by itself. */
bool sim_rogue_send(struct sim_client *client);

#endif
