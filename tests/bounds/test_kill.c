/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kill -9 under load, over and over, over raw and over qcow2 in some shapes: what was flushed, on
 * another connection, or written with FUA is there after the restart; the socket, the pid file and
 * the locks that the dead server left behind are in nobody's way; a client is served at once; and
 * qemu-img finds no error in the image, and no more leaks than the requests can have left that were
 * under way.
 *
 * KILLS_DEFAULT times each shape, or PLATTER_KILLS times all together. The load's seed is the same.
 */
#include "tests/bounds/measure.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "common/endian.h"
#include "common/random.h"

enum {
    SLOTS = 512,
    BLOCK = 4096,
    WRITERS = 2,
    BATCH = 16, /* requests in flight, of all writers */
    KILLS_DEFAULT = 12,
    KILLS_SANITIZED = 4, /* by default, where everything takes longer */
    TIDY_EVERY = 50,     /* kills; then leaks are taken back, or the file would grow and grow */
    /* 20 ms is usual. Others use the machine too, so not each one must keep to it. */
    RESTART_MOST_MS_MAX = 1000, /* nine of ten */
    RESTART_BEST_MS_MAX = 100,
    SERVE_TIMEOUT_MS = 60000,
    /* Clusters that one kill may leak: those that the batch in flight has taken, and those that it
     * and the one before have freed, whose counts go down behind the next flush; and as many tables
     * as may come with a batch. */
    LEAKS_MAX = 3 * BATCH + 4,
};

struct shape {
    const char *name, *format;
    const char *make;     /* a command of the shell, in the folder; NULL: a file of holes is it */
    uint32_t slot_stride; /* a slot's first bytes are written; all of it is zeroed and trimmed */
    bool has_backing;     /* that shows backing_stamp() */
};

#define CREATE "qemu-img create -q -f qcow2 "
static const struct shape shapes[] = {
    {.name = "raw", .format = "raw", .slot_stride = BLOCK},
    {.name = "qcow2", .format = "qcow2", .make = CREATE "disk.img 32M", .slot_stride = 65536},
    {.name = "lazy refcounts", /* where a start counts anew, if any were put off */
     .format = "qcow2",
     .make = CREATE "-o lazy_refcounts=on disk.img 32M",
     .slot_stride = 65536},
    {.name = "clusters of 4 KiB",
     .format = "qcow2",
     .make = CREATE "-o cluster_size=4k disk.img 2M",
     .slot_stride = BLOCK},
    {.name = "backing file",
     .format = "qcow2",
     .make = CREATE "-b backing -F raw -o cluster_size=16k disk.img 8M",
     .slot_stride = 16384,
     .has_backing = true},
};

/* What a slot may show: a write's number, or zeroes. */
enum { STAMPS_MAX = 4 };
struct slot {
    uint64_t stamps[STAMPS_MAX];
    unsigned count;
};

struct request {
    unsigned slot;
    uint16_t command, flags;
    uint64_t stamp;
};

struct load {
    const struct shape *shape;
    struct server server;
    struct random random;
    uint64_t sequence; /* of the last write that was sent */
    struct slot slots[SLOTS];
    unsigned flushes;
    uint64_t *restarts_ms;
    unsigned restart_count;
    long leaks, leaks_max; /* now; of one kill */
    uint8_t *disk;         /* all that it shows */
};

static uint64_t disk_bytes(const struct load *load)
{
    return (uint64_t)SLOTS * load->shape->slot_stride;
}

/* --- what a slot may show ----------------------------------------------------------------------
 */

static uint64_t backing_stamp(unsigned slot)
{
    return UINT64_C(1) << 63 | slot;
}

static bool may_show(const struct slot *slot, uint64_t stamp)
{
    for (unsigned i = 0; i < slot->count; i++)
        if (slot->stamps[i] == stamp)
            return true;
    return false;
}

static void allow(struct slot *slot, uint64_t stamp)
{
    if (may_show(slot, stamp))
        return;
    assert_true(slot->count < STAMPS_MAX);
    slot->stamps[slot->count++] = stamp;
}

/* It is done, for good. A trim may also leave what was there. */
static void settle(struct load *load, const struct request *request)
{
    struct slot *slot = &load->slots[request->slot];
    if (request->command != RAW_CMD_TRIM)
        slot->count = 0;
    allow(slot, request->stamp);
}

/* --- the load -----------------------------------------------------------------------------------
 */

/* Of a batch that is in flight each one is for another slot. */
static struct request draw_request(struct load *load, unsigned slot)
{
    uint64_t choice = random_below(&load->random, 16);
    struct request request = {.slot = slot,
                              .command = choice < 10   ? RAW_CMD_WRITE
                                         : choice < 13 ? RAW_CMD_WRITE_ZEROES
                                                       : RAW_CMD_TRIM,
                              .flags = random_once_in(&load->random, 8) ? RAW_FLAG_FUA : 0};
    if (request.command == RAW_CMD_WRITE)
        request.stamp = ++load->sequence;
    return request;
}

static int send_request(const struct load *load, const struct raw_client *client,
                        const struct request *request, uint64_t cookie)
{
    uint8_t message[RAW_REQUEST_BYTES + BLOCK];
    bool is_write = request->command == RAW_CMD_WRITE;
    raw_fill_request(message, request->flags, request->command, cookie,
                     (uint64_t)request->slot * load->shape->slot_stride,
                     is_write ? BLOCK : load->shape->slot_stride);
    for (unsigned i = 0; i < BLOCK; i += 8)
        store_be64(message + RAW_REQUEST_BYTES + i, request->stamp);
    return raw_send(client, message, is_write ? sizeof(message) : RAW_REQUEST_BYTES);
}

/* One batch, then a flush; false when the server is gone. */
static bool write_and_flush(struct load *load, const struct raw_client *writers,
                            const struct raw_client *flusher)
{
    struct request batch[BATCH];
    struct raw_reply reply;
    unsigned first = (unsigned)random_below(&load->random, SLOTS);
    for (unsigned i = 0; i < BATCH; i++) {
        batch[i] = draw_request(load, (first + i * 7) % SLOTS);
        allow(&load->slots[batch[i].slot], batch[i].stamp);
        if (send_request(load, &writers[i % WRITERS], &batch[i], i) < 0)
            return false;
    }
    for (unsigned i = 0; i < BATCH; i++) {
        if (raw_receive_reply(&writers[i % WRITERS], &reply, NULL, 0, 0) < 0)
            return false;
        assert_int_equal(reply.error, 0);
        if (batch[reply.cookie].flags & RAW_FLAG_FUA)
            settle(load, &batch[reply.cookie]);
    }
    if (raw_request(flusher, 0, RAW_CMD_FLUSH, 99, 0, 0) < 0 ||
        raw_receive_reply(flusher, &reply, NULL, 0, 0) < 0)
        return false;
    assert_int_equal(reply.error, 0);
    for (unsigned i = 0; i < BATCH; i++)
        settle(load, &batch[i]);
    load->flushes++;
    return true;
}

struct killer {
    pid_t pid;
    unsigned after_ms;
};

static void *kill_after(void *arg)
{
    const struct killer *killer = arg;
    measure_pause_ms(killer->after_ms);
    kill(killer->pid, SIGKILL);
    return NULL;
}

static void load_until_killed(struct load *load)
{
    struct killer killer = {load->server.pid, 5 + (unsigned)random_below(&load->random, 60)};
    struct raw_client writers[WRITERS];
    struct raw_client flusher = measure_open(&load->server);
    pthread_t thread;
    for (unsigned i = 0; i < WRITERS; i++)
        writers[i] = measure_open(&load->server);
    assert_true(write_and_flush(load, writers, &flusher));
    assert_int_equal(pthread_create(&thread, NULL, kill_after, &killer), 0);
    while (write_and_flush(load, writers, &flusher)) {
    }
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < WRITERS; i++)
        raw_close(&writers[i]);
    raw_close(&flusher);
}

/* --- what is there afterwards -------------------------------------------------------------------
 */

static void check_slot(const struct load *load, unsigned number, struct slot *slot)
{
    const uint8_t *bytes = load->disk + (size_t)number * load->shape->slot_stride;
    struct slot found = {.count = 0};
    for (unsigned i = 0; i < BLOCK; i += 8) {
        uint64_t stamp = load_be64(bytes + i);
        if (!may_show(slot, stamp))
            fail_msg("%s: slot %u has write %lu, but %u others may be there, %lu is one",
                     load->shape->name, number, stamp, slot->count, slot->stamps[0]);
        allow(&found, stamp);
    }
    *slot = found; /* a kill does not lose what a server before has left */
}

static void check_slots(struct load *load, const struct raw_client *client)
{
    struct raw_reply reply;
    uint32_t length = (uint32_t)disk_bytes(load);
    assert_int_equal(raw_request(client, 0, RAW_CMD_READ, 1, 0, length), 0);
    memset(load->disk, 0, length); /* what comes as a hole */
    assert_int_equal(raw_receive_reply(client, &reply, load->disk, 0, length), 0);
    assert_int_equal(reply.error, 0);
    for (unsigned i = 0; i < SLOTS; i++)
        check_slot(load, i, &load->slots[i]);
}

static long number_behind(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? strtol(at + strlen(name), NULL, 10) : 0;
}

/* Another program's look at the image, which is idle: leaks, and no error. */
static long count_leaks(const struct load *load)
{
    char command[256], text[4096];
    snprintf(command, sizeof(command), "qemu-img check -U -f qcow2 --output=json '%s' 2>/dev/null",
             load->server.image);
    FILE *output = popen(command, "re");
    assert_non_null(output);
    size_t length = fread(text, 1, sizeof(text) - 1, output);
    text[length] = '\0';
    int status = pclose(output);
    if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 3))
        fail_msg("%s: %s", load->shape->name, text);
    assert_non_null(
        strstr(text, "\"check-errors\": 0")); /* where nothing leaks, it says nothing of it */
    return number_behind(text, "\"leaks\": ");
}

static void check_leaks(struct load *load)
{
    if (strcmp(load->shape->format, "qcow2") != 0)
        return;
    long leaks = count_leaks(load), more = leaks - load->leaks;
    if (more > LEAKS_MAX)
        fail_msg("%s: a kill has leaked %ld clusters", load->shape->name, more);
    load->leaks = leaks;
    load->leaks_max = more > load->leaks_max ? more : load->leaks_max;
}

/* --- lives of a server --------------------------------------------------------------------------
 */

static void launch(struct load *load)
{
    char pid_file[128];
    snprintf(pid_file, sizeof(pid_file), "--pid-file=%s/pid", load->server.dir);
    server_launch(&load->server,
                  (const char *const[]){"-t", "-e", "0", "--discard=unmap", pid_file, NULL});
}

/* Until its GO is answered; asks again and again, since the socket that is there may be dead. */
static struct raw_client wait_for_service(const struct load *load)
{
    struct raw_client client;
    uint64_t deadline_ms = measure_now_ms() + SERVE_TIMEOUT_MS;
    while (raw_open(&client, load->server.socket, "", true) < 0) {
        if (!server_is_alive(&load->server) || measure_now_ms() > deadline_ms)
            fail_msg("%s: the server is not there again", load->shape->name);
        measure_pause_ms(1);
    }
    return client;
}

/* Every other time before anybody has been told that the old one is dead. */
static void kill_and_restart(struct load *load, bool waits)
{
    load_until_killed(load);
    pid_t old = load->server.pid;
    if (waits)
        assert_int_equal(waitpid(old, NULL, 0), old);
    load->server.pid = 0;
    uint64_t from_ms = measure_now_ms();
    launch(load);
    struct raw_client client = wait_for_service(load);
    load->restarts_ms[load->restart_count++] = measure_now_ms() - from_ms;
    if (!waits)
        assert_int_equal(waitpid(old, NULL, 0), old);
    check_slots(load, &client);
    raw_close(&client);
    check_leaks(load);
}

/* The server is stopped. A close leaves no more leaks than the kills before it. */
static void tidy(struct load *load)
{
    char command[256];
    server_stop(&load->server);
    if (strcmp(load->shape->format, "qcow2") == 0) {
        assert_true(count_leaks(load) <= load->leaks);
        snprintf(command, sizeof(command),
                 "qemu-img check -q -f qcow2 -r leaks '%s' >'%s/repair' 2>&1", load->server.image,
                 load->server.dir);
        assert_int_equal(system(command), 0);
        load->leaks = 0;
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void report(struct load *load, unsigned kills, bool sanitized)
{
    qsort(load->restarts_ms, kills, sizeof(*load->restarts_ms), compare);
    unsigned best_ms = (unsigned)load->restarts_ms[0];
    unsigned median_ms = (unsigned)load->restarts_ms[kills / 2];
    unsigned most_ms = (unsigned)load->restarts_ms[kills * 9 / 10];
    unsigned worst_ms = (unsigned)load->restarts_ms[kills - 1];
    print_message("%s: %u kills, %u flushes acknowledged; restarts: best %u ms, median %u ms, nine "
                  "of ten %u ms, worst %u ms; at most %ld leaks of a kill\n",
                  load->shape->name, kills, load->flushes, best_ms, median_ms, most_ms, worst_ms,
                  load->leaks_max);
    assert_true(sanitized || best_ms < RESTART_BEST_MS_MAX);
    assert_true(sanitized || most_ms < RESTART_MOST_MS_MAX);
}

/* All shapes together PLATTER_KILLS times. */
static unsigned count_kills(bool sanitized)
{
    const char *wanted = getenv("PLATTER_KILLS");
    unsigned shape_count = sizeof(shapes) / sizeof(*shapes);
    if (!wanted)
        return sanitized ? KILLS_SANITIZED : KILLS_DEFAULT;
    return (unsigned)(strtoul(wanted, NULL, 10) + shape_count - 1) / shape_count;
}

static void start(struct load *load)
{
    launch(load);
    struct raw_client client = wait_for_service(load);
    check_slots(load, &client);
    raw_close(&client);
}

static void a_killed_server_lost_nothing_that_was_flushed(void **state)
{
    struct load *load = *state;
    start(load);
    bool sanitized = !measure_memory(&load->server);
    unsigned kills = count_kills(sanitized);
    assert_true(kills > 0);
    load->restarts_ms = calloc(kills, sizeof(*load->restarts_ms));
    assert_non_null(load->restarts_ms);
    for (unsigned i = 0; i < kills; i++) {
        kill_and_restart(load, i % 2);
        if (i % TIDY_EVERY == TIDY_EVERY - 1) {
            tidy(load);
            start(load);
        }
    }
    tidy(load);
    report(load, kills, sanitized);
}

/* --- images -------------------------------------------------------------------------------------
 */

static void make_backing(struct load *load)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/backing", load->server.dir);
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        load->slots[slot].stamps[0] = backing_stamp(slot);
        for (unsigned i = 0; i < load->shape->slot_stride; i += 8)
            store_be64(load->disk + (size_t)slot * load->shape->slot_stride + i,
                       backing_stamp(slot));
    }
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(load->disk, disk_bytes(load), 1, file), 1);
    assert_int_equal(fclose(file), 0);
}

static int setup(void **state)
{
    struct load *load = calloc(1, sizeof(*load));
    char command[256];
    assert_non_null(load);
    load->shape = *state;
    load->server.format = load->shape->format;
    load->disk = malloc(disk_bytes(load));
    assert_non_null(load->disk);
    server_make_image(&load->server, disk_bytes(load));
    for (unsigned i = 0; i < SLOTS; i++)
        load->slots[i].count = 1; /* zeroes */
    if (load->shape->has_backing)
        make_backing(load);
    snprintf(command, sizeof(command), "cd '%s' && %s", load->server.dir,
             load->shape->make ? load->shape->make : "true");
    assert_int_equal(system(command), 0);
    random_seed(&load->random, 5);
    *state = load;
    return 0;
}

static int teardown(void **state)
{
    struct load *load = *state;
    server_clean(&load->server);
    free(load->restarts_ms);
    free(load->disk);
    free(load);
    return 0;
}

int main(void)
{
    enum { COUNT = sizeof(shapes) / sizeof(*shapes) };
    struct CMUnitTest tests[COUNT];
    unsigned count = 0;
    bool has_qemu = system("qemu-img --version >/dev/null 2>&1") == 0;
    fixture_require_server();
    if (!has_qemu)
        print_message("no qemu-img: qcow2 is left out\n");
    for (unsigned i = 0; i < COUNT; i++) {
        if (shapes[i].make && !has_qemu)
            continue;
        tests[count++] = (struct CMUnitTest){
            .name = shapes[i].name,
            .test_func = a_killed_server_lost_nothing_that_was_flushed,
            .setup_func = setup,
            .teardown_func = teardown,
            .initial_state = (void *)(uintptr_t)&shapes[i],
        };
    }
    return _cmocka_run_group_tests("kill", tests, count, NULL, NULL);
}
