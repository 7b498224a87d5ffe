/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/bounds/measure.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/clock.h"

/* A figure of /proc/PID/status, in KiB. */
static unsigned long status_kib(const struct server *server, const char *name)
{
    char path[64], line[256];
    unsigned long kib = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", server->pid);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file)) {
        if (strncmp(line, name, strlen(name)) == 0) {
            kib = strtoul(line + strlen(name) + 1, NULL, 10);
        }
    }
    fclose(file);
    assert_true(kib > 0);
    return kib;
}

/* A sanitizer is known by its terabytes of addresses. */
bool measure_memory(const struct server *server)
{
    bool sanitized = status_kib(server, "VmSize") > 1ul << 30;
    if (sanitized) {
        print_message("a sanitizer's build: memory figures are left out\n");
    }
    return !sanitized;
}

unsigned long measure_resident_kib(const struct server *server)
{
    return status_kib(server, "VmRSS");
}

unsigned long measure_peak_kib(const struct server *server)
{
    return status_kib(server, "VmHWM");
}

unsigned measure_descriptors(const struct server *server)
{
    char path[64];
    unsigned count = 0;
    snprintf(path, sizeof(path), "/proc/%d/fd", server->pid);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        count += entry->d_name[0] != '.';
    }
    closedir(folder);
    return count;
}

unsigned measure_wait_descriptors(const struct server *server, unsigned count)
{
    for (int tries = 0; tries < 1000 && measure_descriptors(server) > count; tries++) {
        measure_pause_ms(20);
    }
    return measure_descriptors(server);
}

uint64_t measure_cpu_ms(const struct server *server)
{
    char path[64];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", server->pid);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_int_equal(
        fscanf(file, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system),
        2);
    fclose(file);
    return (user + system) * 1000 / (unsigned long)sysconf(_SC_CLK_TCK);
}

uint64_t measure_now_ms(void)
{
    return clock_monotonic.now_ns(&clock_monotonic) / NS_PER_MS;
}

void measure_pause_ms(unsigned ms)
{
    poll(NULL, 0, (int)ms);
}

unsigned measure_raise_descriptors(void)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return limit.rlim_max > 1000000 ? 1000000 : (unsigned)limit.rlim_max;
}

struct raw_client measure_open(const struct server *server)
{
    struct raw_client client;
    assert_int_equal(raw_open(&client, server->socket, "", true), 0);
    return client;
}

/* A flush is the engine's work, if something was written: what is there already. */
static void warm_engine(const struct raw_client *client)
{
    uint8_t same[512];
    struct raw_reply reply;
    assert_int_equal(raw_request(client, 0, RAW_CMD_READ, 0, 0, sizeof(same)), 0);
    assert_int_equal(raw_receive_reply(client, &reply, same, 0, sizeof(same)), 0);
    assert_int_equal(raw_request(client, 0, RAW_CMD_WRITE, 1, 0, sizeof(same)), 0);
    assert_int_equal(raw_send(client, same, sizeof(same)), 0);
    assert_int_equal(raw_receive_reply(client, &reply, NULL, 0, 0), 0);
    assert_int_equal(raw_request(client, 0, RAW_CMD_FLUSH, 2, 0, 0), 0);
    assert_int_equal(raw_receive_reply(client, &reply, NULL, 0, 0), 0);
    assert_int_equal(reply.error, 0);
}

struct raw_client measure_open_warm(const struct server *server)
{
    enum { LOOPS_MAX = 8 };
    struct raw_client clients[LOOPS_MAX];
    for (unsigned i = 0; i < LOOPS_MAX; i++) {
        clients[i] = measure_open(server);
        measure_read_us(&clients[i]);
        warm_engine(&clients[i]);
    }
    for (unsigned i = 1; i < LOOPS_MAX; i++) {
        raw_close(&clients[i]);
    }
    /* Until the others are gone: their number stays the same for a while. */
    for (unsigned before = 0; before != measure_descriptors(server);) {
        before = measure_descriptors(server);
        measure_pause_ms(100);
    }
    return clients[0];
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

uint64_t measure_median(uint64_t *values, unsigned count)
{
    qsort(values, count, sizeof(values[0]), compare);
    return values[count / 2];
}

uint64_t measure_read_us(const struct raw_client *client)
{
    enum { COUNT = 41 };
    uint64_t took_us[COUNT];
    struct raw_reply reply;
    for (unsigned i = 0; i < COUNT; i++) {
        uint64_t from_ns = clock_monotonic.now_ns(&clock_monotonic);
        assert_int_equal(raw_request(client, 0, RAW_CMD_READ, i, 4096 * i, 4096), 0);
        assert_int_equal(raw_receive_reply(client, &reply, NULL, 4096 * i, 4096), 0);
        assert_int_equal(reply.error, 0);
        took_us[i] = (clock_monotonic.now_ns(&clock_monotonic) - from_ns) / 1000;
    }
    return measure_median(took_us, COUNT);
}
