/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The disk of a real virtual machine, by the harness's virtio-blk model: a test tool, which lets
 * Linux judge the model. It listens on a UNIX socket for qemu's vhost-user-blk-pci:
 *
 *     vhost_user_blk --socket-path=PATH --image-opts=OPTS [--num-queues=N]
 *
 *     qemu-system-x86_64 -object memory-backend-memfd,id=memory,size=512M,share=on
 *         -machine pc,memory-backend=memory -chardev socket,id=disk,path=PATH
 *         -device vhost-user-blk-pci,chardev=disk,num-queues=N ...
 *
 * OPTS name the image as platter's own --image-opts do. One machine at a time; when it has left,
 * the next may come. A message that makes no sense ends the connection, with a sentence. SIGTERM
 * ends it all: the image is closed, and the status is 0 when that went well.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "block/block.h"
#include "block/coroutine.h"
#include "block/env.h"
#include "block/host_files.h"
#include "block/image_options.h"
#include "block/node_options.h"
#include "block/workers.h"
#include "common/log.h"
#include "formats/registry.h"
#include "server/signals.h"
#include "tests/harness/vhost_user_device.h"

#define QUEUE_SIZE 128

struct tool {
    const char *socket_path, *image;
    unsigned queue_count;

    struct loop *loop;
    struct workers *workers;
    struct block_env env;
    struct signals signals;
    struct loop_watch listener;
    struct coroutine *waiter; /* for a connection; NULL while there is one */
    int connection;           /* -1: none */
    bool is_ending;
    struct vhost_user_device device;
    struct error err;
    int code;
};

/* --- connections -------------------------------------------------------------------------------
 */

static void wake(struct tool *tool)
{
    loop_watch_set(tool->loop, &tool->listener, 0);
    coroutine_wake(tool->waiter);
    tool->waiter = NULL;
}

static void listener_ready(struct loop_watch *watch, unsigned events)
{
    (void)events;
    wake(container_of(watch, struct tool, listener));
}

static void told_to_end(void *ctx, int number)
{
    struct tool *tool = ctx;
    if (number != SIGTERM && number != SIGINT)
        return;
    tool->is_ending = true;
    if (tool->waiter)
        wake(tool);
    if (tool->connection >= 0)
        shutdown(tool->connection, SHUT_RDWR);
}

static int co_accept(struct tool *tool)
{
    while (!tool->is_ending) {
        int fd = accept4(tool->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            return fd;
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            return error_set(&tool->err, -errno, "%s: %s", tool->socket_path, error_text(-errno));
        tool->waiter = coroutine_self();
        loop_watch_set(tool->loop, &tool->listener, LOOP_READABLE);
        coroutine_yield();
    }
    return -ECANCELED;
}

static void print_counts(const struct tool *tool)
{
    const struct virtio_blk_counters *counters = &tool->device.model->counters;
    static const char *const names[] = {"reads", "writes"};
    static const enum account_kind kinds[] = {ACCOUNT_READ, ACCOUNT_WRITE};
    for (unsigned i = 0; i < 2; i++) {
        struct account_counts counts;
        account_read_counts(&tool->device.model->account, kinds[i], &counts);
        printf("%s %llu merged %llu failed %llu ", names[i], (unsigned long long)counts.operations,
               (unsigned long long)counts.merged, (unsigned long long)counts.failed);
    }
    printf("kicks %llu calls %llu messages %llu\n", (unsigned long long)counters->kicks,
           (unsigned long long)counters->calls, (unsigned long long)tool->device.message_count);
    fflush(stdout);
}

static void co_serve_all(struct tool *tool)
{
    int fd;
    while ((fd = co_accept(tool)) >= 0) {
        struct error err;
        tool->connection = fd;
        if (vhost_user_device_co_serve(&tool->device, fd, &err) < 0)
            log_warning("the connection is ended: %s", err.message);
        tool->connection = -1;
        close(fd);
        print_counts(tool);
    }
    tool->code = fd == -ECANCELED ? 0 : fd;
}

static int start_to_listen(struct tool *tool)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;
    if (strlen(tool->socket_path) >= sizeof(address.sun_path))
        return error_set(&tool->err, -ENAMETOOLONG, "the path of the socket is too long: %s",
                         tool->socket_path);
    strcpy(address.sun_path, tool->socket_path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0) {
        int code = error_set(&tool->err, -errno, "%s: %s", tool->socket_path, error_text(-errno));
        if (fd >= 0)
            close(fd);
        return code;
    }
    loop_watch_init(&tool->listener, fd, listener_ready);
    return 0;
}

static void stop_to_listen(struct tool *tool)
{
    close(tool->listener.fd);
    unlink(tool->socket_path);
}

/* --- the image ---------------------------------------------------------------------------------
 */

static int co_open(struct tool *tool, struct block_node **ret_node)
{
    struct node_options *options = node_options_new();
    int code = image_options_name(options, tool->image, true, NULL, &tool->err);
    if (code == 0)
        code = image_options_cache(options, IMAGE_CACHE_WRITEBACK, &tool->err);
    if (code == 0)
        code = node_options_set(options, "discard", "unmap", &tool->err);
    if (code == 0)
        return block_co_open(&tool->env, options, ret_node, &tool->err);
    node_options_free(options);
    return code;
}

static int co_with_backend(struct tool *tool, struct block_backend *backend)
{
    struct virtio_blk_options options = {
        .queue_count = tool->queue_count,
        .queue_size = QUEUE_SIZE,
        .serial = "platter-vhost-user",
    };
    int code = vhost_user_device_init(&tool->device, backend, tool->loop, &options, &tool->err);
    if (code < 0)
        return code;
    code = start_to_listen(tool);
    if (code == 0) {
        code = signals_watch(&tool->signals, tool->loop, told_to_end, tool, &tool->err);
        if (code == 0) {
            co_serve_all(tool);
            code = tool->code;
        }
        signals_unwatch(&tool->signals);
        stop_to_listen(tool);
    }
    vhost_user_device_fini(&tool->device);
    return code;
}

static void co_live(void *arg)
{
    struct tool *tool = arg;
    struct block_node *node;
    struct block_backend *backend;
    int code = co_open(tool, &node);
    if (code == 0) {
        code = block_backend_new(&backend, node, false, &tool->err);
        if (code == 0) {
            code = co_with_backend(tool, backend);
            if (block_co_backend_free(backend) < 0 && code == 0)
                code = error_set(&tool->err, -EIO, "the image cannot be closed");
        }
        block_co_node_unref(node);
    }
    tool->code = code;
}

/* --- the command line --------------------------------------------------------------------------
 */

static bool take_option(const char *argument, const char *name, const char **ret_value)
{
    size_t length = strlen(name);
    if (strncmp(argument, name, length) != 0 || argument[length] != '=')
        return false;
    *ret_value = argument + length + 1;
    return true;
}

static int read_arguments(struct tool *tool, int argc, char **argv)
{
    const char *queues = "1";
    char *end;
    for (int i = 1; i < argc; i++)
        if (!take_option(argv[i], "--socket-path", &tool->socket_path) &&
            !take_option(argv[i], "--image-opts", &tool->image) &&
            !take_option(argv[i], "--num-queues", &queues))
            return error_set(&tool->err, -EINVAL, "there is no option '%s'", argv[i]);
    if (!tool->socket_path || !tool->image)
        return error_set(&tool->err, -EINVAL, "say --socket-path=PATH and --image-opts=OPTS");
    tool->queue_count = (unsigned)strtoul(queues, &end, 10);
    if (*end || end == queues)
        return error_set(&tool->err, -EINVAL, "--num-queues=%s is no number", queues);
    return 0;
}

static void live(struct tool *tool)
{
    tool->code = loop_new(&tool->loop, 0, &poller_ev, &clock_monotonic, &tool->err);
    if (tool->code == 0)
        tool->code = workers_new(&tool->workers, 4, &tool->err);
    if (tool->code == 0)
        tool->code = block_env_init(&tool->env, &tool->loop, 1, tool->workers, &host_files_linux,
                                    formats_registry, &tool->err);
    if (tool->code < 0)
        return;
    if (loop_run_all_co(tool->loop, co_live, tool) < 0)
        tool->code = error_set(&tool->err, -ENOMEM, "no memory for a coroutine");
    block_env_fini(&tool->env);
    workers_free(tool->workers);
    loop_free(tool->loop);
}

int main(int argc, char **argv)
{
    static struct tool tool = {.connection = -1};
    tool.code = read_arguments(&tool, argc, argv);
    if (tool.code == 0) {
        signals_block();
        live(&tool);
    }
    if (tool.code < 0)
        log_error("%s", tool.err.message);
    return tool.code < 0;
}
