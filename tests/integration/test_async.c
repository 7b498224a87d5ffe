/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * 64 commands in flight on each of two connections, chosen by a seed, checked against a copy of the
 * image in memory. Slots never overlap while in flight, so every answer is known. The seed is
 * printed; PLATTER_SEED gives it back.
 */
#include "tests/integration/fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <libnbd.h>

#include "common/random.h"

#define DEPTH 64
#define CONNECTIONS 2
#define SLOT_BYTES (256 * 1024) /* of the image; each slot in flight works inside its own */
#define COMMANDS 6000

struct slot {
    int64_t cookie; /* 0 when free */
    bool is_read;
    uint64_t offset;
    uint32_t length;
    uint8_t *buffer;
};

struct load {
    struct random random;
    uint8_t *oracle; /* what the image must hold */
    struct nbd_handle *nbd[CONNECTIONS];
    struct slot slots[CONNECTIONS][DEPTH];
    unsigned int issued, finished;
};

/* The part of the image that a slot owns. */
static uint64_t slot_base(size_t connection, size_t index)
{
    return (connection * DEPTH + index) * (uint64_t)SLOT_BYTES;
}

static void issue(struct load *load, size_t connection, size_t index)
{
    struct slot *slot = &load->slots[connection][index];
    struct nbd_handle *nbd = load->nbd[connection];
    uint32_t limit = random_once_in(&load->random, 4) ? 128 * 1024 : 8192;
    slot->length = 1 + random_below(&load->random, limit);
    slot->offset =
        slot_base(connection, index) + random_below(&load->random, SLOT_BYTES - slot->length + 1);
    uint32_t flags = random_once_in(&load->random, 16) ? LIBNBD_CMD_FLAG_FUA : 0;
    uint64_t choice = random_below(&load->random, 20);
    slot->is_read = choice < 9;
    if (slot->is_read) {
        memset(slot->buffer, 0xee, slot->length);
        slot->cookie =
            nbd_aio_pread(nbd, slot->buffer, slot->length, slot->offset, NBD_NULL_COMPLETION, 0);
    } else if (choice < 17) {
        fill_random(slot->buffer, slot->length, random_u64(&load->random));
        memcpy(load->oracle + slot->offset, slot->buffer, slot->length);
        slot->cookie = nbd_aio_pwrite(nbd, slot->buffer, slot->length, slot->offset,
                                      NBD_NULL_COMPLETION, flags);
    } else if (choice < 19) {
        memset(load->oracle + slot->offset, 0, slot->length);
        if (random_once_in(&load->random, 2)) {
            flags |= LIBNBD_CMD_FLAG_NO_HOLE;
        }
        slot->cookie = nbd_aio_zero(nbd, slot->length, slot->offset, NBD_NULL_COMPLETION, flags);
    } else {
        slot->cookie = nbd_aio_flush(nbd, NBD_NULL_COMPLETION, 0);
    }
    if (slot->cookie <= 0) {
        fail_msg("cannot issue: %s", nbd_get_error());
    }
    load->issued++;
}

static void reap(struct load *load, size_t connection)
{
    for (size_t i = 0; i < DEPTH; i++) {
        struct slot *slot = &load->slots[connection][i];
        int done =
            slot->cookie ? nbd_aio_command_completed(load->nbd[connection], slot->cookie) : 0;
        if (done < 0) {
            fail_msg("at %llu, %u bytes: %s", (unsigned long long)slot->offset, slot->length,
                     nbd_get_error());
        }
        if (done == 0) {
            continue;
        }
        if (slot->is_read && memcmp(slot->buffer, load->oracle + slot->offset, slot->length) != 0) {
            fail_msg("a read at %llu, %u bytes, gave other bytes", (unsigned long long)slot->offset,
                     slot->length);
        }
        slot->cookie = 0;
        load->finished++;
    }
}

static void run_load(struct load *load)
{
    while (load->finished < COMMANDS) {
        for (size_t c = 0; c < CONNECTIONS; c++) {
            for (size_t i = 0; i < DEPTH && load->issued < COMMANDS; i++) {
                if (load->slots[c][i].cookie == 0) {
                    issue(load, c, i);
                }
            }
            int polled = nbd_aio_in_flight(load->nbd[c]) > 0 ? nbd_poll(load->nbd[c], 60000) : 1;
            if (polled <= 0) {
                fail_msg("no progress with %d in flight: %s", nbd_aio_in_flight(load->nbd[c]),
                         polled < 0 ? nbd_get_error() : "timeout");
            }
            reap(load, c);
        }
    }
}

static void random_commands_64_deep_match_the_oracle(void **state)
{
    struct server *server = *state;
    const char *given = getenv("PLATTER_SEED");
    uint64_t seed =
        given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32;
    struct load *load = calloc(1, sizeof(*load));
    uint8_t *image = malloc(FIXTURE_IMAGE_BYTES);
    print_message("PLATTER_SEED=0x%llx\n", (unsigned long long)seed);
    random_seed(&load->random, seed);
    load->oracle = calloc(1, FIXTURE_IMAGE_BYTES);
    server_start(server, (const char *const[]){"-t", "-e", "0", "--discard=unmap", NULL});
    for (size_t c = 0; c < CONNECTIONS; c++) {
        load->nbd[c] = nbd_create();
        assert_int_equal(nbd_connect_unix(load->nbd[c], server->socket), 0);
        for (size_t i = 0; i < DEPTH; i++) {
            load->slots[c][i].buffer = malloc(128 * 1024);
        }
    }
    run_load(load);
    for (size_t c = 0; c < CONNECTIONS; c++) {
        assert_int_equal(nbd_shutdown(load->nbd[c], 0), 0);
        nbd_close(load->nbd[c]);
        for (size_t i = 0; i < DEPTH; i++) {
            free(load->slots[c][i].buffer);
        }
    }
    server_stop(server);
    image_read(server, image, FIXTURE_IMAGE_BYTES, 0);
    assert_int_equal(memcmp(image, load->oracle, FIXTURE_IMAGE_BYTES), 0);
    free(image);
    free(load->oracle);
    free(load);
}

int main(void)
{
    fixture_require_server();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(random_commands_64_deep_match_the_oracle, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
