/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What can be done with images of any format and has no option of the server, for tests:
 *
 *     image_tool create FORMAT KEY=VALUE,...          as block_co_create() takes them
 *     image_tool check FORMAT IMAGE [KEY=VALUE,...]   prints "errors N leaks N", and what was found
 *     image_tool resize FORMAT IMAGE SIZE [KEY=VALUE,...]
 *     image_tool resize qcow2 IMAGE SIZE [shrink] [metadata]
 *                             shrink: it may; metadata: with tables for what is added
 *     image_tool info FORMAT IMAGE                    prints some fields of the header
 *     image_tool bitmaps qcow2 IMAGE                  prints "NAME GRANULARITY [in-use] [auto]" for
 * each
 *
 * The options are those of the opening: check opens for reading unless they say otherwise. Exit
 * status 1, with a sentence, where it could not be done.
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
#include "formats/gow1/info.h"
#include "formats/qcow2/info.h"
#include "formats/qcow2/resize.h"
#include "formats/registry.h"

struct command {
    struct block_env *env;
    const char *verb, *format;
    char **arguments; /* NULL-ended: what follows the format */
    int ret;
    struct error err;
};

static void print_line(void *arg, const char *sentence)
{
    (void)arg;
    puts(sentence);
}

/* text NULL: no options but that one, which those in the text win over. NULL: a mistake. */
static struct node_options *parse(struct command *command, const char *text, const char *read_only)
{
    struct node_options *options = node_options_new();
    node_options_set(options, "read-only", read_only, NULL);
    if (!text || node_options_parse(options, text, &command->err) == 0)
        return options;
    node_options_free(options);
    return NULL;
}

static int co_open(struct command *command, const char *text, const char *read_only,
                   struct block_node **ret_node)
{
    struct node_options *options = parse(command, text, read_only);
    if (!options)
        return -1;
    return block_co_open_image(command->env, command->arguments[0], command->format, options,
                               ret_node, &command->err);
}

static int co_create(struct command *command)
{
    struct node_options *options = node_options_new();
    int ret = node_options_parse(options, command->arguments[0], &command->err);
    if (ret < 0) {
        node_options_free(options);
        return ret;
    }
    node_options_set(options, "driver", command->format, NULL);
    return block_co_create(command->env, options, &command->err);
}

static int co_check(struct command *command)
{
    struct block_node *node;
    struct block_check check;
    int ret = co_open(command, command->arguments[1], "on", &node);
    if (ret < 0)
        return ret;
    ret = block_co_check(node, print_line, NULL, &check, &command->err);
    if (ret == 0)
        printf("errors %" PRIu64 " leaks %" PRIu64 " unreadable %" PRIu64 " data %" PRIu64
               " compressed %" PRIu64 " end %" PRIu64 "\n",
               check.errors, check.leaks, check.unreadable, check.data_blocks,
               check.compressed_blocks, check.end_offset);
    block_co_node_unref(node);
    return ret;
}

static bool is_said(const struct command *command, const char *word)
{
    for (char **argument = command->arguments + 2; *argument; argument++) {
        if (strcmp(*argument, word) == 0)
            return true;
    }
    return false;
}

static int co_resize(struct command *command)
{
    struct block_node *node;
    char *end;
    const char *size = command->arguments[1];
    bool is_qcow2 = strcmp(command->format, "qcow2") == 0;
    uint64_t size_bytes = size ? strtoull(size, &end, 0) : 0;
    if (!size || !*size || *end)
        return error_set(&command->err, -1, "say the new size in bytes");
    int ret = co_open(command, is_qcow2 ? NULL : command->arguments[2], "off", &node);
    if (ret < 0)
        return ret;
    struct qcow2_resize resize = {.size_bytes = size_bytes,
                                  .may_shrink = is_said(command, "shrink"),
                                  .has_tables = is_said(command, "metadata")};
    ret = is_qcow2 ? qcow2_co_resize_as(node, &resize, &command->err)
                   : node_co_resize(node, size_bytes, &command->err);
    block_co_node_unref(node);
    return ret;
}

/* --- info ---------------------------------------------------------------------------------------
 */

static int co_qcow2_info(struct block_node *file, struct error *err)
{
    static struct qcow2_info info;
    int ret = qcow2_co_info(file, &info, err);
    if (ret < 0)
        return ret;
    printf("version %" PRIu32 " cluster-bits %" PRIu32 " size %" PRIu64 " backing %s format %s"
           " data-file %s\n",
           info.header.version, info.header.cluster_bits, info.header.size,
           info.backing_name ? info.backing_name : "-", info.extensions.backing_format,
           info.extensions.data_file_name);
    qcow2_info_fini(&info);
    return 0;
}

static int co_gow1_info(struct block_node *file, struct error *err)
{
    struct gow1_header header;
    int ret = gow1_co_info(file, GOW1_MAGIC, &header, err);
    if (ret == 0)
        printf("size %" PRIu32 " allocated %" PRIu32 "\n", header.size, header.allocated);
    return ret;
}

static int co_list_bitmaps(struct block_node *file, struct error *err)
{
    struct qcow2_bitmaps_info info;
    int ret = qcow2_co_info_bitmaps(file, &info, err);
    if (ret < 0)
        return ret;
    for (uint32_t i = 0; i < info.count; i++)
        printf("%s %" PRIu64 "%s%s\n", info.all[i].name, info.all[i].granularity_bytes,
               info.all[i].is_in_use ? " in-use" : "", info.all[i].is_enabled ? " auto" : "");
    qcow2_bitmaps_info_fini(&info);
    return 0;
}

/* Also "bitmaps". */
static int co_info(struct command *command)
{
    struct block_node *file;
    struct node_options *options = node_options_new();
    node_options_set(options, "driver", "file", NULL);
    node_options_set(options, "read-only", "on", NULL);
    node_options_set(options, "filename", command->arguments[0], NULL);
    int ret = block_co_open(command->env, options, &file, &command->err);
    if (ret < 0)
        return ret;
    if (strcmp(command->verb, "bitmaps") == 0)
        ret = co_list_bitmaps(file, &command->err);
    else if (strcmp(command->format, "qcow2") == 0)
        ret = co_qcow2_info(file, &command->err);
    else if (strcmp(command->format, "gow1") == 0)
        ret = co_gow1_info(file, &command->err);
    else
        ret = error_set(&command->err, -1, "there is no info of %s", command->format);
    block_co_node_unref(file);
    return ret;
}

static void run(void *arg)
{
    struct command *command = arg;
    if (strcmp(command->verb, "create") == 0)
        command->ret = co_create(command);
    else if (strcmp(command->verb, "check") == 0)
        command->ret = co_check(command);
    else if (strcmp(command->verb, "resize") == 0)
        command->ret = co_resize(command);
    else if (strcmp(command->verb, "info") == 0 || strcmp(command->verb, "bitmaps") == 0)
        command->ret = co_info(command);
    else
        command->ret = error_set(&command->err, -1, "there is no command '%s'", command->verb);
}

int main(int argc, char **argv)
{
    struct loop *loop;
    struct workers *workers;
    struct block_env env;
    struct command command = {.env = &env};
    if (argc < 4) {
        fputs("usage: image_tool create|check|resize|info|bitmaps FORMAT ARGUMENT...\n", stderr);
        return 1;
    }
    command.verb = argv[1];
    command.format = argv[2];
    command.arguments = argv + 3;
    if (loop_new(&loop, 0, &poller_ev, &clock_monotonic, &command.err) < 0 ||
        workers_new(&workers, 4, &command.err) < 0 ||
        block_env_init(&env, &loop, 1, workers, &host_files_linux, formats_registry, &command.err) <
            0) {
        fprintf(stderr, "image_tool: %s\n", command.err.message);
        return 1;
    }
    loop_run_co(loop, run, &command);
    if (command.ret < 0)
        fprintf(stderr, "image_tool: %s\n", command.err.message);
    block_env_fini(&env);
    workers_free(workers);
    loop_free(loop);
    return command.ret < 0;
}
