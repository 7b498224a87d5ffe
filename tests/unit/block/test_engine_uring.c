/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine_uring.c: which reads go down together, and which first. What all engines have in common is
 * in test_engine.c.
 */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/coroutine.h"
#include "block/engine.h"
#include "block/host_files.h"
#include "block/loop.h"
#include "block/loop_backlog.h"
#include "block/loop_room.h"

struct fixture {
    struct loop *loop;
    struct engine *engine;
    int fd; /* a file of one byte */
    unsigned ended;
};

/* What an operation's done() counts for; cmocka runs one test at a time. */
static struct fixture *running;

static void open_engine(void *arg)
{
    struct fixture *fixture = arg;
    struct engine_context context = {.loop = fixture->loop, .files = &host_files_linux};
    struct error err;
    if (engine_uring.open(&context, &fixture->engine, &err) < 0) {
        print_message("%s\n", err.message);
        fixture->engine = NULL;
    }
}

static void with_engine(void (*body)(struct fixture *fixture))
{
    char path[] = "/tmp/platter-test-XXXXXX";
    struct fixture fixture = {.fd = mkstemp(path)};
    running = &fixture;
    assert_true(fixture.fd >= 0);
    unlink(path);
    assert_int_equal(pwrite(fixture.fd, "x", 1, 0), 1);
    assert_int_equal(loop_new(&fixture.loop, 0, &poller_ev, &clock_monotonic, NULL), 0);
    assert_int_equal(loop_run_co(fixture.loop, open_engine, &fixture), 0);
    bool opened = fixture.engine != NULL;
    if (opened) {
        body(&fixture);
        engine_uring.close(fixture.engine);
    }
    loop_free(fixture.loop);
    close(fixture.fd);
    if (!opened)
        skip();
}

static void end_read(struct engine_op *op)
{
    assert_int_equal(op->result, 1);
    running->ended++;
}

/* --- a turn's share ----------------------------------------------------------------------------
 */

#define LATE_READS (LOOP_BACKLOG_MAX + 4)

struct late_reads {
    struct loop_source source;
    unsigned rounds;
    struct engine_op ops[LATE_READS];
    struct iovec iov[LATE_READS];
    char bytes[LATE_READS];
};

static bool count_round(struct loop_source *source)
{
    container_of(source, struct late_reads, source)->rounds++;
    return false;
}

/* An empty pipe's bytes are as late as a slow disk's. */
static void queue_late_reads(struct late_reads *late, struct engine *engine, int fd)
{
    for (unsigned i = 0; i < LATE_READS; i++) {
        late->iov[i] = (struct iovec){&late->bytes[i], 1};
        late->ops[i] = (struct engine_op){
            .kind = ENGINE_READ, .fd = fd, .iov = &late->iov[i], .iov_count = 1, .done = end_read};
        engine_queue(engine, &late->ops[i]);
    }
}

static void late_body(struct fixture *fixture)
{
    struct late_reads late = {.source.turn = count_round};
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    link_init(&late.source.link);
    loop_source_add(fixture->loop, &late.source);
    queue_late_reads(&late, fixture->engine, ends[0]);
    assert_true(loop_is_backlogged(fixture->loop));
    loop_turn(fixture->loop, false);
    assert_int_equal(late.rounds, 1);                /* then the poller had its share */
    assert_false(loop_is_backlogged(fixture->loop)); /* what the disk has is not counted */
    assert_int_equal(write(ends[1], late.bytes, LATE_READS), LATE_READS);
    while (fixture->ended < LATE_READS)
        loop_turn(fixture->loop, true);
    loop_source_remove(&late.source);
    close(ends[0]);
    close(ends[1]);
}

static void a_turn_hands_the_disk_a_piece_of_late_reads_and_looks_at_the_sockets(void **state)
{
    (void)state;
    with_engine(late_body);
}

#define WARM_READS 1024
#define READS_MAX 64 /* are queued together */

struct warm_reads {
    struct loop_source source;
    unsigned rounds; /* of the loop: a piece goes down in each, while there is one */
    char byte;
    struct iovec iov;
    struct engine_op ops[READS_MAX];
};

static bool count_warm_round(struct loop_source *source)
{
    container_of(source, struct warm_reads, source)->rounds++;
    return false;
}

/* Returns in how many rounds they were done. */
static unsigned read_together(struct warm_reads *warm, struct fixture *fixture, unsigned count)
{
    unsigned rounds = warm->rounds, ended = fixture->ended;
    for (unsigned i = 0; i < count; i++) {
        warm->ops[i] = (struct engine_op){.kind = ENGINE_READ,
                                          .fd = fixture->fd,
                                          .iov = &warm->iov,
                                          .iov_count = 1,
                                          .done = end_read};
        engine_queue(fixture->engine, &warm->ops[i]);
    }
    while (fixture->ended < ended + count)
        loop_turn(fixture->loop, true);
    return warm->rounds - rounds;
}

static void warm_body(struct fixture *fixture)
{
    struct warm_reads warm = {.source.turn = count_warm_round};
    warm.iov = (struct iovec){&warm.byte, 1};
    link_init(&warm.source.link);
    loop_source_add(fixture->loop, &warm.source);
    assert_true(read_together(&warm, fixture, READS_MAX) >= READS_MAX / 8);
    while (fixture->ended < WARM_READS)
        read_together(&warm, fixture, READS_MAX);
    assert_int_equal(read_together(&warm, fixture, READS_MAX), 2 + 1); /* the last finds none */
    assert_int_equal(read_together(&warm, fixture, 24), 2 + 1);
    assert_int_equal(read_together(&warm, fixture, 8), 1 + 1);
    loop_source_remove(&warm.source);
}

static void reads_that_are_in_memory_go_down_in_larger_pieces_after_a_while(void **state)
{
    (void)state;
    with_engine(warm_body);
}

/* --- what is in memory, and what is not ---------------------------------------------------------
 */

struct lettered_read {
    struct engine_op op;
    char letter;
};

static char read_order[32];

static void end_lettered_read(struct engine_op *op)
{
    char letter = container_of(op, struct lettered_read, op)->letter;
    assert_int_equal(op->result, 1);
    strncat(read_order, &letter, 1);
}

static void read_lettered(struct fixture *fixture, const char *letters)
{
    struct lettered_read reads[32];
    char byte;
    struct iovec iov = {&byte, 1};
    read_order[0] = '\0';
    for (size_t i = 0; i < strlen(letters); i++) {
        reads[i] = (struct lettered_read){
            .op = {.kind = ENGINE_READ, .fd = fixture->fd, .iov = &iov, .iov_count = 1},
            .letter = letters[i],
        };
        reads[i].op.done = end_lettered_read;
        reads[i].op.memory = letters[i] < 'a' ? ENGINE_MEMORY_HAS_IT : ENGINE_MEMORY_UNKNOWN;
        engine_queue(fixture->engine, &reads[i].op);
    }
    while (strlen(read_order) < strlen(letters))
        loop_turn(fixture->loop, true);
}

static void mixed_body(struct fixture *fixture)
{
    int first = 0, second = 0;
    loop_client_came(fixture->loop, &first);
    assert_false(engine_uring.asks_memory(fixture->engine)); /* it would wait for itself */
    loop_client_came(fixture->loop, &second);
    assert_true(engine_uring.asks_memory(fixture->engine));
    read_lettered(fixture, "abcdefghijklAB"); /* capitals are in memory */
    assert_string_equal(read_order, "ABabcdefghijkl");
    for (int i = 0; i < 256 / 16; i++) /* nothing is late for as long: nothing need be asked */
        read_lettered(fixture, "abcdefghABCDEFGH");
    assert_false(engine_uring.asks_memory(fixture->engine));
}

static void misses_do_not_hold_up_what_is_in_memory(void **state)
{
    (void)state;
    with_engine(mixed_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_hands_the_disk_a_piece_of_late_reads_and_looks_at_the_sockets),
        cmocka_unit_test(reads_that_are_in_memory_go_down_in_larger_pieces_after_a_while),
        cmocka_unit_test(misses_do_not_hold_up_what_is_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
