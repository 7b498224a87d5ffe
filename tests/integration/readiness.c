/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/integration/readiness.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/integration/raw_client.h"

static int pidfd_of(pid_t pid)
{
    int fd = syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : fd;
}

static int greets(const char *address)
{
    struct raw_client client;
    uint32_t type;
    int code = raw_connect(&client, address);
    if (code < 0) {
        return code;
    }
    code = raw_greet(&client, RAW_C_FIXED_NEWSTYLE | RAW_C_NO_ZEROES);
    if (code == 0) {
        code = raw_negotiate(&client, RAW_OPT_ABORT, NULL, 0, &type);
    }
    raw_close(&client);
    return code;
}

int wait_until_ready(const char *address, pid_t pid, int timeout_ms)
{
    uint64_t deadline_ns = clock_monotonic.now_ns(&clock_monotonic) + timeout_ms * NS_PER_MS;
    int pause_ms = 1;
    int pidfd = pidfd_of(pid);
    if (pidfd < 0) {
        return -ECHILD;
    }
    int code = greets(address);
    while (code < 0) {
        struct pollfd death = {.fd = pidfd, .events = POLLIN};
        if (clock_monotonic.now_ns(&clock_monotonic) >= deadline_ns) {
            code = -ETIMEDOUT;
            break;
        }
        /* Ends at once when the process does; else asks again after a pause that grows. */
        if (poll(&death, 1, pause_ms) > 0) {
            code = -ECHILD;
            break;
        }
        pause_ms = pause_ms < 50 ? pause_ms * 2 : 50;
        code = greets(address);
    }
    close(pidfd);
    return code;
}

int wait_until_gone(pid_t pid, int timeout_ms)
{
    int pidfd = pidfd_of(pid);
    if (pidfd < 0) {
        return 0;
    }
    struct pollfd death = {.fd = pidfd, .events = POLLIN};
    int ready;
    do {
        ready = poll(&death, 1, timeout_ms);
    } while (ready < 0 && errno == EINTR);
    close(pidfd);
    return ready > 0 ? 0 : -ETIMEDOUT;
}
