/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replays traces of guest requests (trace.h):
 *
 *     replay inside TRACE IMAGE_OPTS [--aio=E] [--cache=M] [--device=D] [--queues=N]
 *                       against a device model on the image, in this process
 *     replay nbd TRACE SOCKET COMMAND...
 *                       against a server, which COMMAND starts, over NBD on that UNIX socket
 *     replay size TRACE             prints how large the disk is
 *     replay options TRACE FORMAT FILE
 *                       prints IMAGE_OPTS for an image, with the trace's error points above it
 *     replay random SEED [crashes | overlap | ide]
 *                       prints a random trace (random_trace.h)
 *
 * A replay ends with the line "requests N crashes N reads HASH end HASH"; where a crash may have
 * lost something, or requests overlap, "loose" takes the place of the hashes. Two ways to serve a
 * disk have shown the same if they say the same. Exit status 1, with a sentence, when an answer was
 * wrong.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/replay/inside.h"
#include "tests/replay/nbd_guest.h"
#include "tests/replay/random_trace.h"
#include "tests/replay/replay.h"

struct run {
    struct trace trace;
    struct content content;
    struct replay_result *result; /* shared, as the content is */
};

static int complain(const char *message)
{
    fprintf(stderr, "replay: %s\n", message);
    return 1;
}

/* --- in this process ---------------------------------------------------------------------------
 */

/* A life is a process of its own, so that a crash can end it as a kill does. */
static int run_inside(struct run *run, const struct inside_options *options)
{
    do {
        unsigned crashes = run->result->crashes;
        int status;
        pid_t pid = fork();
        if (pid < 0)
            return complain(strerror(errno));
        if (pid == 0)
            _exit(inside_live(&run->trace, options, &run->content, run->result) < 0);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        if (run->result->failure[0])
            return complain(run->result->failure);
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && run->result->crashes > crashes)
            continue;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            return complain("the process that replays ended by itself");
    } while (run->result->next_step < run->trace.step_count);
    return 0;
}

static bool take_option(const char *argument, const char *name, const char **ret_value)
{
    size_t length = strlen(name);
    if (strncmp(argument, name, length) != 0 || argument[length] != '=')
        return false;
    *ret_value = argument + length + 1;
    return true;
}

static int inside(struct run *run, int argc, char **argv)
{
    struct inside_options options = {.image = argv[0], .cache = "writeback", .queue_count = 2};
    const char *queues = NULL;
    for (int i = 1; i < argc; i++)
        if (!take_option(argv[i], "--aio", &options.aio) &&
            !take_option(argv[i], "--cache", &options.cache) &&
            !take_option(argv[i], "--device", &options.device) &&
            !take_option(argv[i], "--queues", &queues))
            return complain("there is no such option");
    if (queues)
        options.queue_count = (unsigned)strtoul(queues, NULL, 10);
    return run_inside(run, &options);
}

/* --- over NBD ----------------------------------------------------------------------------------
 */

struct nbd_life {
    struct run *run;
    const char *socket;
    struct loop *loop;
    struct error err;
    int code;
};

static void co_nbd_live(void *arg)
{
    struct nbd_life *life = arg;
    struct nbd_guest guest;
    life->code = nbd_guest_init(&guest, life->loop, life->socket, &life->err);
    if (life->code < 0)
        return;
    if (guest.guest.sector_count < life->run->trace.size_bytes / TRACE_SECTOR)
        life->code = error_set(&life->err, -1, "the export is smaller than the trace's disk");
    else
        replay_co_run(&life->run->trace, &guest.guest, &life->run->content, life->run->result);
    nbd_guest_fini(&guest);
}

static pid_t start_server(char **command)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    execvp(command[0], command);
    perror(command[0]);
    _exit(127);
}

/* signal: SIGKILL for a crash, else SIGTERM, after which it must say that all is well. */
static int end_server(pid_t pid, int with_signal)
{
    int status;
    kill(pid, with_signal);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (with_signal == SIGTERM && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        return complain("the server did not end well");
    return 0;
}

static int nbd(struct run *run, const char *socket, char **command)
{
    struct nbd_life life = {.run = run, .socket = socket};
    if (loop_new(&life.loop, 0, &poller_ev, &clock_monotonic, &life.err) < 0)
        return complain(life.err.message);
    for (;;) {
        bool ends;
        pid_t server;
        unlink(socket);
        server = start_server(command);
        if (server < 0)
            return complain(strerror(errno));
        loop_run_all_co(life.loop, co_nbd_live, &life);
        ends = life.code < 0 || run->result->failure[0] ||
               run->result->next_step == run->trace.step_count;
        if (end_server(server, ends ? SIGTERM : SIGKILL) != 0)
            return 1;
        if (ends)
            break;
    }
    loop_free(life.loop);
    if (life.code < 0)
        return complain(life.err.message);
    return run->result->failure[0] ? complain(run->result->failure) : 0;
}

/* --- the rest ----------------------------------------------------------------------------------
 */

/* Error points are rules of the filter fault (docs/filters.md), above the format: what fails never
 * reaches the image, in whichever way it is served. */
static int print_options(const struct trace *trace, const char *format, const char *file)
{
    if (trace->bad_count == 0) {
        printf("driver=%s,file.filename=%s\n", format, file);
        return 0;
    }
    printf("driver=fault");
    for (unsigned i = 0; i < trace->bad_count; i++) {
        const struct trace_bad *bad = &trace->bad[i];
        printf(",inject-error.%u.iotype=%s,inject-error.%u.offset=%" PRIu64
               ",inject-error.%u.length=%" PRIu64,
               i, bad->of_reads ? "read" : "write", i, bad->sector * TRACE_SECTOR, i,
               bad->count * TRACE_SECTOR);
    }
    printf(",file.driver=%s,file.file.filename=%s\n", format, file);
    return 0;
}

static int print_random(const char *seed, const char *word)
{
    enum random_kind kind = RANDOM_APART;
    if (word && strcmp(word, "crashes") == 0)
        kind = RANDOM_CRASHES;
    else if (word && strcmp(word, "overlap") == 0)
        kind = RANDOM_OVERLAP;
    else if (word && strcmp(word, "ide") == 0)
        kind = RANDOM_IDE;
    else if (word)
        return complain("a random trace is one of crashes, overlap and ide, or none of them");
    return random_trace_print(strtoull(seed, NULL, 0), kind);
}

static void print_result(const struct replay_result *result)
{
    printf("requests %u crashes %u ", result->requests, result->crashes);
    if (result->is_loose)
        puts("loose");
    else
        printf("reads %016" PRIx64 " end %016" PRIx64 "\n", result->read_hash, result->end_hash);
}

static int replay_it(struct run *run, int argc, char **argv)
{
    int code;
    run->result =
        mmap(NULL, sizeof(*run->result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (run->result == MAP_FAILED ||
        content_init(&run->content, run->trace.size_bytes / TRACE_SECTOR, run->trace.step_count) <
            0)
        return complain("no memory for what the disk holds");
    if (strcmp(argv[1], "inside") == 0)
        code = inside(run, argc - 3, argv + 3);
    else
        code = nbd(run, argv[3], argv + 4);
    if (code == 0)
        print_result(run->result);
    content_fini(&run->content);
    return code;
}

int main(int argc, char **argv)
{
    static struct run run;
    struct error err = {.message = ""};
    const char *verb = argc > 2 ? argv[1] : "";
    int code;
    if (strcmp(verb, "random") == 0)
        return print_random(argv[2], argv[3]);
    if (!((strcmp(verb, "inside") == 0 && argc >= 4) || (strcmp(verb, "nbd") == 0 && argc >= 5) ||
          (strcmp(verb, "size") == 0 && argc == 3) || (strcmp(verb, "options") == 0 && argc == 5)))
        return complain("say inside, nbd, size, options or random; see tests/replay/main.c");
    if (trace_load(&run.trace, argv[2], &err) < 0)
        return complain(err.message);
    if (strcmp(verb, "size") == 0)
        code = printf("%" PRIu64 "\n", run.trace.size_bytes) < 0;
    else if (strcmp(verb, "options") == 0)
        code = print_options(&run.trace, argv[3], argv[4]);
    else
        code = replay_it(&run, argc, argv);
    trace_fini(&run.trace);
    return code;
}
