/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What can be done with images of any format and has no option of the server, for tests:
 *
 *     image_tool create FORMAT KEY=VALUE,...          as block_co_create() takes them
 *     image_tool check FORMAT IMAGE [KEY=VALUE,...]   prints "errors N leaks N", and what was found
 *     image_tool resize FORMAT IMAGE SIZE [KEY=VALUE,...]
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

static int co_resize(struct command *command)
{
    struct block_node *node;
    char *end;
    const char *size = command->arguments[1];
    uint64_t size_bytes = size ? strtoull(size, &end, 0) : 0;
    if (!size || !*size || *end)
        return error_set(&command->err, -1, "say the new size in bytes");
    int ret = co_open(command, command->arguments[2], "off", &node);
    if (ret < 0)
        return ret;
    ret = node_co_resize(node, size_bytes, &command->err);
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
    if (argc < 4) {
        fputs("usage: image_tool create|check|resize FORMAT ARGUMENT...\n", stderr);
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
