/* SPDX-License-Identifier: BSD-3-Clause */
/* platter: a disk image over NBD. From the command line to the end, in order. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/block.h"
#include "block/env.h"
#include "block/host_files.h"
#include "block/loop.h"
#include "block/node_options.h"
#include "block/objects.h"
#include "block/workers.h"
#include "common/log.h"
#include "common/progress.h"
#include "formats/registry.h"
#include "server/activation.h"
#include "server/cmdline.h"
#include "server/daemon.h"
#include "server/export.h"
#include "server/listener.h"
#include "server/loop_threads.h"
#include "server/overlay.h"
#include "server/private_socket.h"
#include "server/run_command.h"
#include "server/run_variables.h"
#include "server/server.h"
#include "server/signals.h"
#include "server/stats_file.h"

/* Everything there is, from the bottom up; what is not there yet is NULL. */
struct application {
    struct config config;
    struct daemon daemon;
    struct loop_threads threads;
    struct workers *workers;
    struct block_env env;
    bool has_env;
    struct objects objects;
    struct overlay overlay; /* above the image, with -s */
    struct export *export;
    struct stats_file stats;
    int activation_fds[LISTEN_SOCKETS_MAX]; /* sockets that listened before we came */
    int activation_count;
    struct listener *listener;
    struct server *server;
    struct signals signals;
    struct private_socket private_socket;
    struct run_command command;
};

/* --- the image ----------------------------------------------------------------------------------
 */

/* What a coroutine on loop 0 is asked to do, and how it went. */
struct image_call {
    struct application *app;
    struct node_options *options; /* to open it with; taken */
    struct error *err;
    int code;
};

/* What the image's options refer to. */
static int make_objects(struct application *app, struct error *err)
{
    int code = 0;
    objects_init(&app->objects, &app->env, "--object");
    for (unsigned i = 0; i < app->config.object_count && code == 0; i++)
        code = objects_add(&app->objects, app->config.objects[i], err);
    return code;
}

static void open_image_entry(void *arg)
{
    struct image_call *call = arg;
    struct application *app = call->app;
    struct block_node *node;
    call->code = block_co_open_image(&app->env, app->config.image, app->config.format,
                                     call->options, &node, call->err);
    if (call->code < 0)
        return;
    struct export_options export_options = config_export_options(&app->config);
    if (app->config.snapshot && !app->config.read_only)
        call->code = overlay_co_put_above(&app->overlay, &app->config, &node, call->err);
    if (call->code == 0)
        call->code = export_co_open(&app->export, node, &export_options, call->err);
    block_co_node_unref(node); /* the export has its own */
}

static void close_image_entry(void *arg)
{
    struct image_call *call = arg;
    call->code = export_co_close(call->app->export);
    if (call->app->overlay.fd >= 0) /* what was written is lost in any case */
        call->code = 0;
    if (call->code < 0)
        error_set(call->err, call->code, "cannot flush '%s': %s; what was written last may be lost",
                  call->app->config.image, error_text(call->code));
}

static int open_image(struct application *app, struct error *err)
{
    struct image_call call = {.app = app, .err = err};
    int code = config_node_options(&app->config, &call.options, err);
    if (code < 0)
        return code;
    code = loop_run_co(app->threads.loops[0], open_image_entry, &call);
    if (code < 0) {
        node_options_free(call.options);
        return error_set(err, code, "no memory to open '%s'", app->config.image);
    }
    return call.code;
}

static int close_image(struct application *app, struct error *err)
{
    struct image_call call = {.app = app, .err = err};
    int code = loop_run_co(app->threads.loops[0], close_image_entry, &call);
    if (code < 0)
        return error_set(err, code, "no memory to close '%s'", app->config.image);
    return call.code;
}

/* --- what happens while serving, on loop 0 ------------------------------------------------------
 */

static void stop_serving(struct application *app)
{
    listener_stop(app->listener);
    server_stop(app->server);
}

static void resume_export(struct application *app)
{
    if (error_policy_resume(&app->export->error_policy))
        log_warning("export \"%s\" is resumed", app->config.export_name);
    else
        log_verbose("export \"%s\" is not stopped", app->config.export_name);
}

/* While there is a command, it is the command that is stopped. */
static void signal_came(void *ctx, int number)
{
    struct application *app = ctx;
    if (number == SIGUSR1) {
        stats_file_write_soon(&app->stats);
        return;
    }
    if (number == SIGUSR2) {
        resume_export(app);
        return;
    }
    log_verbose("%s: stopping", strsignal(number));
    if (run_command_is_running(&app->command))
        run_command_signal(&app->command, number);
    else
        stop_serving(app);
}

static void command_ended(void *ctx)
{
    log_verbose("the command has ended: stopping");
    stop_serving(ctx);
}

static void client_left(void *ctx)
{
    struct application *app = ctx;
    listener_room(app->listener);
}

static void last_client_left(void *ctx)
{
    log_verbose("the last client has left: stopping");
    stop_serving(ctx);
}

static void server_stopped(void *ctx)
{
    struct application *app = ctx;
    loop_stop(app->threads.loops[0]);
}

/* --- start and end ------------------------------------------------------------------------------
 */

/* The loops and what the block layer stands on. */
static int set_up(struct application *app, struct error *err)
{
    int code = loop_threads_init(&app->threads, app->config.thread_count, err);
    if (code == 0)
        code = workers_new(&app->workers, WORKERS_THREADS_MAX, err);
    if (code == 0)
        code = block_env_init(&app->env, app->threads.loops, app->threads.loop_count, app->workers,
                              &host_files_linux, formats_registry, err);
    app->has_env = code == 0;
    for (unsigned i = 0; i < app->threads.loop_count; i++)
        loop_set_busy_poll(app->threads.loops[i], UINT64_C(1000) * app->config.busy_poll_us);
    if (code == 0)
        code = stats_file_init(&app->stats, app->config.stats, app->threads.loops[0], app->workers,
                               err);
    return code;
}

/* The image is open and clients can connect, though nobody accepts them yet. */
static int open_all(struct application *app, struct error *err)
{
    const struct server_options options = {
        .clients_max = app->config.clients_max,
        .persistent = app->config.persistent,
        .handshake_timeout_ms = app->config.handshake_limit_s * 1000,
        .stall_timeout_ms = app->config.stall_limit_s * 1000,
        .stop_timeout_ms = SERVER_STOP_TIMEOUT_MS,
        .placement = &placement_fewest,
    };
    const struct server_events events = {
        .room = client_left,
        .last_left = last_client_left,
        .stopped = server_stopped,
        .ctx = app,
    };
    int code = make_objects(app, err);
    if (code == 0)
        code = open_image(app, err);
    if (code == 0 && app->config.private_socket) {
        code = private_socket_init(&app->private_socket, err);
        app->config.socket_path = app->private_socket.path;
    }
    if (code == 0 && app->activation_count > 0)
        code = listener_new_on(&app->listener, app->activation_fds, app->activation_count, err);
    else if (code == 0)
        code = listener_new(&app->listener, &app->config, err);
    if (code == 0)
        code = server_new(&app->server, &app->env, app->export, &options, &events, err);
    return code;
}

/* Its clients can connect already. */
static int start_command(struct application *app, struct error *err)
{
    const struct config *config = &app->config;
    char **variables = run_variables_new(environ, config->socket_path, config->bind,
                                         listener_port(app->listener), config->export_name);
    if (!variables)
        return error_set(err, -ENOMEM, "no memory for the command of --run");
    int code = run_command_start(&app->command, app->threads.loops[0], config->run, variables,
                                 command_ended, app, err);
    run_variables_free(variables);
    return code;
}

static int serve(struct application *app, struct error *err)
{
    struct loop *home = app->threads.loops[0];
    int code = loop_threads_start(&app->threads, err);
    if (code == 0)
        code = signals_watch(&app->signals, home, signal_came, app, err);
    if (code == 0 && app->config.pid_file)
        code = daemon_write_pid_file(&app->daemon, app->config.pid_file, err);
    if (code == 0 && app->config.run) /* in the folder that the person is in */
        code = start_command(app, err);
    else if (code == 0)
        code = daemon_ready(&app->daemon, app->config.verbose, err);
    if (code < 0)
        return code;
    log_verbose("serving '%s'", app->config.image);
    stats_file_set_export(&app->stats, app->export);
    listener_start(app->listener, home, app->server);
    loop_run(home);
    return 0;
}

/* Undoes whatever was done. Returns whether the image's last flush succeeded. */
static int tear_down(struct application *app, struct error *err)
{
    int code = 0;
    signals_unwatch(&app->signals);
    run_command_fini(&app->command);
    stats_file_write_last(&app->stats, app->config.verbose);
    /* The other loops still turn: what a format does behind its requests, as giving clusters back,
     * is at home on the loop of the request, and the close waits for it. */
    if (app->export)
        code = close_image(app, err);
    loop_threads_stop(&app->threads);
    server_free(app->server);
    listener_free(app->listener);
    private_socket_fini(&app->private_socket);
    objects_fini(&app->objects);
    overlay_fini(&app->overlay);
    if (app->has_env)
        block_env_fini(&app->env);
    stats_file_fini(&app->stats);
    workers_free(app->workers);
    loop_threads_fini(&app->threads);
    return code;
}

/* Where to listen was said by who started us, or is said by the options; not by both. */
static int take_activation(struct application *app, struct error *err)
{
    int count = activation_take(app->activation_fds, err);
    if (count > 0 && (app->config.names_place || app->config.run))
        return error_set(err, -EINVAL,
                         "sockets were handed over by LISTEN_FDS, so -k, -b, -p and --run cannot "
                         "be used; leave them out");
    app->activation_count = count;
    return count < 0 ? count : 0;
}

static int run(struct application *app, struct error *err)
{
    signals_block();
    log_set_verbose(app->config.verbose);
    if (isatty(STDERR_FILENO))
        progress_set_terminal(STDERR_FILENO);
    int code = take_activation(app, err);
    if (code == 0 && app->config.fork)
        code = daemon_fork(&app->daemon, err);
    if (code == 0)
        code = set_up(app, err);
    if (code == 0)
        code = open_all(app, err);
    if (code == 0)
        code = serve(app, err);
    struct error late;
    int late_code = tear_down(app, &late);
    if (code == 0 && late_code < 0)
        code = error_set(err, late_code, "%s", late.message);
    return code;
}

int main(int argc, char **argv)
{
    struct application app = {.export = NULL};
    struct error err;
    enum cmdline_action action;
    daemon_init(&app.daemon);
    overlay_init(&app.overlay);
    int code = cmdline_parse(argc, argv, &action, &app.config, &err);
    if (code == 0 && action == CMDLINE_HELP) {
        cmdline_help(stdout, argv[0]);
    } else if (code == 0 && action == CMDLINE_VERSION) {
        printf("platter %s\n", PLATTER_VERSION);
    } else if (code == 0) {
        code = run(&app, &err);
    }
    if (code < 0) {
        log_error("%s", err.message);
        return EXIT_FAILURE;
    }
    return app.command.status;
}
