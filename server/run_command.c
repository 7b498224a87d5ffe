/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/run_command.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"

#define SHELL "/bin/sh"

/* The child gets a plain signal mask and the default SIGPIPE, whatever the server has. */
static int spawn_shell(struct run_command *run, const char *command, char *const *environment)
{
    char *const arguments[] = {(char *)"sh", (char *)"-c", (char *)command, NULL};
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    posix_spawnattr_t attributes;
    sigset_t none, changed;
    sigemptyset(&none);
    sigemptyset(&changed);
    sigaddset(&changed, SIGPIPE);
    int code = posix_spawnattr_init(&attributes);
    if (code != 0)
        return -code;
    if (run->leads_group)
        flags |= POSIX_SPAWN_SETPGROUP; /* group 0: its own */
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &changed);
    posix_spawnattr_setflags(&attributes, flags);
    code = posix_spawn(&run->pid, SHELL, NULL, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    return -code;
}

static void child_changed(struct loop_watch *watch, unsigned events)
{
    struct run_command *run = container_of(watch, struct run_command, watch);
    struct signalfd_siginfo info;
    int status;
    (void)events;
    while (read(run->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        ;
    siginfo_t ended = {.si_pid = 0};
    if (run->pid == 0 || waitid(P_PID, (id_t)run->pid, &ended, WEXITED | WNOHANG | WNOWAIT) < 0 ||
        !ended.si_pid)
        return; /* stopped, or continued */
    /* Who was told to end, and whose shell has: while the shell is not reaped, its number can be no
     * other group's. */
    if (run->was_signalled && run->leads_group)
        kill(-run->pid, SIGKILL);
    waitpid(run->pid, &status, 0);
    run->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (WIFSIGNALED(status))
        log_warning("the command of --run was ended by the signal %d", WTERMSIG(status));
    run->pid = 0;
    loop_timer_clear(&run->kill_timer);
    run->ended(run->ctx);
}

static void kill_expired(struct loop_timer *timer)
{
    struct run_command *run = container_of(timer, struct run_command, kill_timer);
    if (run->pid != 0)
        kill(run->leads_group ? -run->pid : run->pid, SIGKILL);
}

int run_command_start(struct run_command *run, struct loop *loop, const char *command,
                      char *const *environment, void (*ended)(void *ctx), void *ctx,
                      struct error *err)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    int fd = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return error_set(err, -errno, "cannot wait for the command of --run: %s",
                         error_text(errno));
    *run = (struct run_command){
        .fd = fd, .leads_group = !isatty(STDIN_FILENO), .ended = ended, .ctx = ctx};
    int code = spawn_shell(run, command, environment);
    if (code < 0) {
        close(fd);
        return error_set(err, code, "cannot start %s for --run: %s", SHELL, error_text(code));
    }
    run->loop = loop;
    link_init(&run->kill_timer.link);
    run->kill_timer.expired = kill_expired;
    loop_watch_init(&run->watch, fd, child_changed);
    loop_watch_set(loop, &run->watch, LOOP_READABLE);
    return 0;
}

bool run_command_is_running(const struct run_command *run)
{
    return run->loop && run->pid != 0;
}

void run_command_signal(struct run_command *run, int number)
{
    assert(run_command_is_running(run));
    /* The terminal's Ctrl-C has reached the command by itself; it may be one that goes on. */
    if (!run->leads_group && number == SIGINT)
        return;
    run->was_signalled = true;
    kill(run->leads_group ? -run->pid : run->pid, number);
    loop_timer_set(run->loop, &run->kill_timer,
                   loop_now_ns(run->loop) + RUN_COMMAND_STOP_TIMEOUT_MS * NS_PER_MS);
}

void run_command_fini(struct run_command *run)
{
    if (!run->loop)
        return;
    assert(run->pid == 0);
    loop_watch_set(run->loop, &run->watch, 0);
    close(run->fd);
    run->loop = NULL;
}
