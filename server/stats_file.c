/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/stats_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block.h"
#include "block/account.h"
#include "block/coroutine.h"
#include "block/loop.h"
#include "block/workers.h"
#include "common/log.h"
#include "server/export.h"
#include "server/stats.h"

/* --- the file -------------------------------------------------------------------------------- */

static bool is_stdout(const struct stats_file *file)
{
    return file->path && strcmp(file->path, "-") == 0;
}

static int write_all(int fd, const char *text, size_t length)
{
    while (length > 0) {
        ssize_t put = write(fd, text, length);
        if (put < 0 && errno != EINTR)
            return -errno;
        text += put > 0 ? put : 0;
        length -= put > 0 ? (size_t)put : 0;
    }
    return 0;
}

/* A new file beside the one that it is to replace. Fills name[PATH_MAX]. */
static int make_temporary(const char *path, char *name)
{
    if (snprintf(name, PATH_MAX, "%s.XXXXXX", path) >= PATH_MAX)
        return -ENAMETOOLONG;
    int fd = mkostemp(name, O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Whoever reads the file finds the old one or the new one, never a part. */
static int replace_file(const char *path, const char *text, size_t length)
{
    char name[PATH_MAX];
    int fd = make_temporary(path, name);
    if (fd < 0)
        return fd;
    int code = write_all(fd, text, length);
    if (code == 0 && fchmod(fd, 0644) < 0)
        code = -errno;
    if (close(fd) < 0 && code == 0)
        code = -errno;
    if (code == 0 && rename(name, path) < 0)
        code = -errno;
    if (code < 0)
        unlink(name);
    return code;
}

/* The server goes to the root directory when it serves. */
static char *absolute_path(const char *path)
{
    char folder[PATH_MAX], *absolute;
    if (path[0] == '/' || strcmp(path, "-") == 0)
        return strdup(path);
    if (!getcwd(folder, sizeof(folder)) || asprintf(&absolute, "%s/%s", folder, path) < 0)
        return NULL;
    return absolute;
}

/* Better now than when the server ends. */
static int check_path(const char *path)
{
    char name[PATH_MAX];
    struct stat status;
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        return -EISDIR;
    int fd = make_temporary(path, name);
    if (fd < 0)
        return fd;
    close(fd);
    unlink(name);
    return 0;
}

int stats_file_init(struct stats_file *file, const char *path, struct loop *loop,
                    struct workers *workers, struct error *err)
{
    *file = (struct stats_file){.loop = loop, .workers = workers};
    struct clock *clock = loop_clock(loop);
    file->started_ns = clock->now_ns(clock);
    if (!path)
        return 0;
    file->path = absolute_path(path);
    if (!file->path)
        return error_set(err, -ENOMEM, "no memory for the path of --stats");
    int code = is_stdout(file) ? 0 : check_path(file->path);
    if (code < 0)
        return error_set(err, code, "cannot write the statistics to '%s': %s; choose another path",
                         path, error_text(code));
    return 0;
}

void stats_file_set_export(struct stats_file *file, struct export *export)
{
    file->export = export;
}

void stats_file_fini(struct stats_file *file)
{
    free(file->path);
    file->path = NULL;
}

/* --- writing --------------------------------------------------------------------------------- */

struct output {
    const struct stats_file *file;
    char *text;
    size_t length;
};

/* On a worker. */
static int write_output(void *arg)
{
    const struct output *output = arg;
    if (is_stdout(output->file))
        return write_all(STDOUT_FILENO, output->text, output->length);
    if (!output->file->path)
        return write_all(STDERR_FILENO, output->text, output->length);
    return replace_file(output->file->path, output->text, output->length);
}

static int fill_output(struct output *output, bool as_text, const char *why)
{
    const struct stats_file *file = output->file;
    struct clock *clock = loop_clock(file->loop);
    uint64_t now_ns = clock->now_ns(clock);
    FILE *to = open_memstream(&output->text, &output->length);
    if (!to)
        return -ENOMEM;
    if (as_text)
        stats_write_text(to, file->export, now_ns, file->started_ns);
    else
        stats_write_json(to, file->export, now_ns, file->started_ns, why);
    bool failed = ferror(to);
    return fclose(to) != 0 || failed ? -ENOMEM : 0;
}

static void complain(const struct stats_file *file, int code)
{
    log_warning("cannot write the statistics to '%s': %s", file->path ? file->path : "stderr",
                error_text(code));
}

static void co_write(struct stats_file *file, const char *why)
{
    struct output output = {.file = file};
    int code = fill_output(&output, !file->path, why);
    if (code == 0)
        code = workers_co_run(file->workers, write_output, &output);
    free(output.text);
    if (code < 0)
        complain(file, code);
}

static void write_soon_entry(void *arg)
{
    struct stats_file *file = arg;
    do {
        file->again = false;
        co_write(file, "signal");
    } while (file->again);
    file->is_writing = false;
}

void stats_file_write_soon(struct stats_file *file)
{
    file->again = file->is_writing;
    if (file->is_writing)
        return;
    file->is_writing = true;
    int code = coroutine_start(file->loop, write_soon_entry, file);
    if (code < 0) {
        file->is_writing = false;
        complain(file, code);
    }
}

static void print_verbose(struct stats_file *file)
{
    struct output output = {.file = file};
    if (fill_output(&output, true, "exit") == 0)
        write_all(STDERR_FILENO, output.text, output.length);
    free(output.text);
}

/* The last replies are out, but the rounds that they were made in may not have ended yet. */
static void write_last_entry(void *arg)
{
    struct stats_file *file = arg;
    account_co_settle(block_node_env(block_backend_node(file->export->backend)));
    if (file->path)
        co_write(file, "exit");
}

void stats_file_write_last(struct stats_file *file, bool is_verbose)
{
    if (!file->export)
        return;
    while (file->is_writing)
        loop_turn(file->loop, true);
    int code = loop_run_co(file->loop, write_last_entry, file);
    if (code < 0)
        complain(file, code);
    if (is_verbose)
        print_verbose(file);
}
