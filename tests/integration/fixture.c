/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/integration/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/random.h"
#include "tests/integration/readiness.h"

#define START_TIMEOUT_MS 60000
#define OPTIONS_MAX 16

static const char *server_command(void)
{
    const char *command = getenv("PLATTER");
    return command && *command ? command : getenv("PLATTER_BUILT");
}

void fixture_require_server(void)
{
    if (!server_command()) {
        printf("SKIP: no server: set PLATTER\n");
        exit(77);
    }
    signal(SIGPIPE, SIG_IGN);
}

void server_make_image(struct server *server, uint64_t size_bytes)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(server->dir, sizeof(server->dir), "%.40s/platter-test.XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(server->dir));
    snprintf(server->image, sizeof(server->image), "%s/disk.img", server->dir);
    snprintf(server->socket, sizeof(server->socket), "%s/sock", server->dir);
    snprintf(server->log, sizeof(server->log), "%s/log", server->dir);
    int fd = open(server->image, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, size_bytes), 0);
    close(fd);
}

/* The memory AddressSanitizer keeps from reuse would look like the server's own growth. */
static void bound_quarantine(void)
{
    const char *given = getenv("ASAN_OPTIONS");
    char options[512];
    snprintf(options, sizeof(options), "quarantine_size_mb=16:%s", given ? given : "");
    setenv("ASAN_OPTIONS", options, 1);
}

static void run_server(const struct server *server, const char *const options[])
{
    const char *arguments[OPTIONS_MAX + 8];
    size_t n = 0;
    arguments[n++] = server_command();
    arguments[n++] = "-k";
    arguments[n++] = server->socket;
    arguments[n++] = "-f";
    arguments[n++] = server->format ? server->format : "raw";
    for (size_t i = 0; options && options[i] && i < OPTIONS_MAX; i++) {
        arguments[n++] = options[i];
    }
    arguments[n++] = server->image;
    arguments[n] = NULL;
    int log = open(server->log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    bound_quarantine();
    execvp(arguments[0], (char *const *)arguments);
    _exit(127);
}

void server_launch(struct server *server, const char *const options[])
{
    assert_int_equal(server->pid, 0);
    server->pid = fork();
    if (server->pid == 0) {
        run_server(server, options);
    }
    assert_true(server->pid > 0);
}

void server_start(struct server *server, const char *const options[])
{
    server_launch(server, options);
    int code = wait_until_ready(server->socket, server->pid, START_TIMEOUT_MS);
    if (code < 0) {
        fail_msg("the server %s does not serve: %s", server_command(), strerror(-code));
    }
}

static void show_log(const struct server *server)
{
    char line[512];
    FILE *log = fopen(server->log, "re");
    while (log && fgets(line, sizeof(line), log)) {
        fprintf(stderr, "server: %s", line);
    }
    if (log) {
        fclose(log);
    }
}

static bool log_has_sanitizer_report(const struct server *server)
{
    static const char *const marks[] = {"ERROR: AddressSanitizer", "ERROR: LeakSanitizer",
                                        "runtime error:", "WARNING: ThreadSanitizer", NULL};
    char line[512];
    bool found = false;
    FILE *log = fopen(server->log, "re");
    while (log && fgets(line, sizeof(line), log)) {
        for (size_t i = 0; marks[i]; i++) {
            found = found || strstr(line, marks[i]);
        }
    }
    if (log) {
        fclose(log);
    }
    return found;
}

void server_expect_end(struct server *server)
{
    int status = -1;
    int code = wait_until_gone(server->pid, START_TIMEOUT_MS);
    if (code < 0) {
        show_log(server);
        fail_msg("the server does not end");
    }
    waitpid(server->pid, &status, 0);
    server->pid = 0;
    bool report = log_has_sanitizer_report(server);
    if (status != 0 || report) {
        show_log(server);
    }
    assert_false(report);
    assert_int_equal(status, 0);
    assert_int_equal(access(server->socket, F_OK), -1);
}

void server_stop(struct server *server)
{
    assert_true(server_is_alive(server));
    kill(server->pid, SIGTERM);
    server_expect_end(server);
}

bool server_is_alive(const struct server *server)
{
    return server->pid > 0 && waitpid(server->pid, NULL, WNOHANG) == 0;
}

unsigned int server_log_lines(const struct server *server)
{
    unsigned int lines = 0;
    int c;
    FILE *log = fopen(server->log, "re");
    assert_non_null(log);
    while ((c = fgetc(log)) != EOF) {
        lines += c == '\n';
    }
    fclose(log);
    return lines;
}

unsigned int server_wait_log_lines(const struct server *server, unsigned int lines)
{
    for (int tries = 0; tries < 200 && server_log_lines(server) < lines; tries++) {
        poll(NULL, 0, 20);
    }
    poll(NULL, 0, 50);
    return server_log_lines(server);
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info, (void)kind, (void)walk;
    return remove(path);
}

void server_clean(struct server *server)
{
    if (server->pid > 0) {
        kill(server->pid, SIGKILL);
        waitpid(server->pid, NULL, 0);
        show_log(server);
        server->pid = 0;
    }
    if (server->dir[0]) {
        nftw(server->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    }
}

int fixture_setup(void **state)
{
    struct server *server = calloc(1, sizeof(*server));
    assert_non_null(server);
    server_make_image(server, FIXTURE_IMAGE_BYTES);
    *state = server;
    return 0;
}

int fixture_teardown(void **state)
{
    server_clean(*state);
    free(*state);
    return 0;
}

void fill_random(void *to, size_t length, uint64_t seed)
{
    struct random random;
    uint8_t *at = to;
    random_seed(&random, seed);
    for (size_t i = 0; i < length; i++) {
        at[i] = random_u64(&random) >> 56;
    }
}

void image_read(const struct server *server, void *to, size_t length, uint64_t offset)
{
    int fd = open(server->image, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, to, length, offset), length);
    close(fd);
}

void image_write(const struct server *server, const void *from, size_t length, uint64_t offset)
{
    int fd = open(server->image, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, from, length, offset), length);
    close(fd);
}

uint64_t image_allocated_bytes(const struct server *server)
{
    struct stat info;
    assert_int_equal(stat(server->image, &info), 0);
    return (uint64_t)info.st_blocks * 512;
}
