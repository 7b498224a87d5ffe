/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What can be done with qcow2 images and has no option of the server yet, for tests:
 *
 *     qcow2_tool create KEY=VALUE,...     as block_co_create() takes them
 *     qcow2_tool check IMAGE              prints "errors N leaks N", and what was found
 *     qcow2_tool info IMAGE               prints some fields
 *     qcow2_tool resize IMAGE SIZE [shrink] [metadata]
 *                                         shrink: it may; metadata: with tables for what is added
 *
 * Exit status 1, with a sentence, where it could not be done.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/driver.h"
#include "block/env.h"
#include "block/host_files.h"
#include "block/loop.h"
#include "block/node_options.h"
#include "block/workers.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/info.h"
#include "formats/qcow2/resize.h"
#include "formats/registry.h"

struct command {
    struct block_env *env;
    const char *verb, *argument;
    char **more; /* NULL-ended: what follows the argument */
    int ret;
    struct error err;
};

static void print_line(void *arg, const char *sentence)
{
    (void)arg;
    puts(sentence);
}

static int co_open(struct command *command, const char *driver, bool is_written,
                   struct block_node **ret_node)
{
    struct node_options *options = node_options_new();
    node_options_set(options, "read-only", is_written ? "off" : "on", NULL);
    if (strcmp(driver, "file") != 0)
        return block_co_open_image(command->env, command->argument, driver, options, ret_node,
                                   &command->err);
    node_options_set(options, "driver", driver, NULL);
    node_options_set(options, "filename", command->argument, NULL);
    return block_co_open(command->env, options, ret_node, &command->err);
}

static int co_create(struct command *command)
{
    struct node_options *options = node_options_new();
    int ret = node_options_parse(options, command->argument, &command->err);
    if (ret < 0) {
        node_options_free(options);
        return ret;
    }
    node_options_set(options, "driver", "qcow2", NULL);
    return block_co_create(command->env, options, &command->err);
}

static int co_check(struct command *command)
{
    struct block_node *node;
    struct qcow2_check check;
    int ret = co_open(command, "qcow2", false, &node);
    if (ret < 0)
        return ret;
    ret = qcow2_co_check(node, print_line, NULL, &check, &command->err);
    if (ret == 0)
        printf("errors %" PRIu64 " leaks %" PRIu64 " unreadable %" PRIu64 " data %" PRIu64
               " compressed %" PRIu64 " end %" PRIu64 "\n",
               check.errors, check.leaks, check.unreadable, check.data_clusters,
               check.compressed_clusters, check.end_offset);
    block_co_node_unref(node);
    return ret;
}

static int co_info(struct command *command)
{
    static struct qcow2_info info;
    struct block_node *file;
    int ret = co_open(command, "file", false, &file);
    if (ret < 0)
        return ret;
    ret = qcow2_co_info(file, &info, &command->err);
    if (ret == 0) {
        printf("version %" PRIu32 " cluster-bits %" PRIu32 " size %" PRIu64 " backing %s format %s"
               " data-file %s\n",
               info.header.version, info.header.cluster_bits, info.header.size,
               info.backing_name ? info.backing_name : "-", info.extensions.backing_format,
               info.extensions.data_file_name);
        qcow2_info_fini(&info);
    }
    block_co_node_unref(file);
    return ret;
}

static bool is_said(const struct command *command, const char *word)
{
    for (char **more = command->more; *more; more++) {
        if (strcmp(*more, word) == 0)
            return true;
    }
    return false;
}

static int co_resize(struct command *command)
{
    struct block_node *node;
    struct qcow2_resize resize = {
        .size_bytes = *command->more ? strtoull(*command->more, NULL, 0) : 0,
        .may_shrink = is_said(command, "shrink"),
        .has_tables = is_said(command, "metadata"),
    };
    int ret = co_open(command, "qcow2", true, &node);
    if (ret < 0)
        return ret;
    ret = qcow2_co_resize_as(node, &resize, &command->err);
    block_co_node_unref(node);
    return ret;
}

static void run(void *arg)
{
    struct command *command = arg;
    if (strcmp(command->verb, "create") == 0)
        command->ret = co_create(command);
    else if (strcmp(command->verb, "check") == 0)
        command->ret = co_check(command);
    else if (strcmp(command->verb, "info") == 0)
        command->ret = co_info(command);
    else if (strcmp(command->verb, "resize") == 0)
        command->ret = co_resize(command);
    else
        command->ret = error_set(&command->err, -1, "there is no command '%s'", command->verb);
}

int main(int argc, char **argv)
{
    struct loop *loop;
    struct workers *workers;
    struct block_env env;
    struct command command = {.env = &env};
    if (argc < 3) {
        fputs("usage: qcow2_tool create|check|info|resize ARGUMENT...\n", stderr);
        return 1;
    }
    command.verb = argv[1];
    command.argument = argv[2];
    command.more = argv + 3;
    if (loop_new(&loop, 0, &poller_ev, &clock_monotonic, &command.err) < 0 ||
        workers_new(&workers, 4, &command.err) < 0 ||
        block_env_init(&env, &loop, 1, workers, &host_files_linux, formats_registry, &command.err) <
            0) {
        fprintf(stderr, "qcow2_tool: %s\n", command.err.message);
        return 1;
    }
    loop_run_co(loop, run, &command);
    if (command.ret < 0)
        fprintf(stderr, "qcow2_tool: %s\n", command.err.message);
    block_env_fini(&env);
    workers_free(workers);
    loop_free(loop);
    return command.ret < 0;
}
