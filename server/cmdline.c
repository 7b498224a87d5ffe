/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/cmdline.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "protocol/wire.h"

/* What one option does with its argument (NULL when it takes none). */
typedef int option_setter(struct config *config, const char *name, const char *value,
                          struct error *err);

struct cmdline_option {
    const char *name;
    char letter; /* 0: none */
    bool has_argument;
    const char *once;   /* qemu-nbd refuses it, and what says the same, when it is given again */
    option_setter *set; /* NULL: qemu-nbd has it, this server not yet */
};

static int set_socket(struct config *config, const char *name, const char *value, struct error *err)
{
    (void)name;
    if (value[0] != '/')
        return error_set(err, -EINVAL, "socket path '%s' is relative; give -k an absolute path",
                         value);
    if (strlen(value) >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return error_set(err, -EINVAL,
                         "socket path '%s' is longer than %zu bytes; choose a shorter one", value,
                         sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
    config->socket_path = value;
    return 0;
}

static int set_port(struct config *config, const char *name, const char *value, struct error *err)
{
    (void)name;
    char *end;
    errno = 0;
    long port = strtol(value, &end, 10);
    if (errno || end == value || *end || port < 0 || port > 65535)
        return error_set(err, -EINVAL, "port '%s' is no number from 0 to 65535", value);
    config->port = value;
    return 0;
}

static int set_bind(struct config *config, const char *name, const char *value, struct error *err)
{
    (void)name;
    if (!*value)
        return error_set(err, -EINVAL,
                         "the address of -b is empty; give an IPv4 or IPv6 address or a host name");
    config->bind = value;
    return 0;
}

static int check_string(const char *what, const char *value, struct error *err)
{
    if (strlen(value) > NBD_STRING_MAX)
        return error_set(err, -EINVAL, "%s is %zu bytes long; the protocol allows %d", what,
                         strlen(value), NBD_STRING_MAX);
    return 0;
}

static int set_export_name(struct config *config, const char *name, const char *value,
                           struct error *err)
{
    (void)name;
    config->export_name = value;
    return check_string("the export name", value, err);
}

static int set_description(struct config *config, const char *name, const char *value,
                           struct error *err)
{
    (void)name;
    config->description = value;
    return check_string("the description", value, err);
}

static int set_format(struct config *config, const char *name, const char *value, struct error *err)
{
    (void)name;
    if (!*value)
        return error_set(err, -EINVAL, "the format of -f is empty; name one, such as raw");
    config->format = value;
    return 0;
}

/* A whole number from minimum to maximum. */
static int parse_count(const char *what, const char *value, unsigned minimum, unsigned maximum,
                       unsigned *ret_count, struct error *err)
{
    char *end;
    errno = 0;
    long count = strtol(value, &end, 10);
    if (errno || end == value || *end || count < (long)minimum || count > (long)maximum)
        return error_set(err, -EINVAL, "%s '%s' is no number from %u to %u", what, value, minimum,
                         maximum);
    *ret_count = (unsigned)count;
    return 0;
}

static int set_shared(struct config *config, const char *name, const char *value, struct error *err)
{
    (void)name;
    return parse_count("the number of clients", value, 0, INT_MAX, &config->clients_max, err);
}

static int set_handshake_limit(struct config *config, const char *name, const char *value,
                               struct error *err)
{
    (void)name;
    return parse_count("the handshake limit", value, 0, CONFIG_LIMIT_S_MAX,
                       &config->handshake_limit_s, err);
}

static int set_stall_limit(struct config *config, const char *name, const char *value,
                           struct error *err)
{
    (void)name;
    return parse_count("the stall limit", value, 0, CONFIG_LIMIT_S_MAX, &config->stall_limit_s,
                       err);
}

static int set_threads(struct config *config, const char *name, const char *value,
                       struct error *err)
{
    (void)name;
    return parse_count("the number of threads", value, 1, CONFIG_THREADS_MAX, &config->thread_count,
                       err);
}

static int set_busy_poll(struct config *config, const char *name, const char *value,
                         struct error *err)
{
    (void)name;
    return parse_count("the microseconds of busy polling", value, 0, CONFIG_BUSY_POLL_US_MAX,
                       &config->busy_poll_us, err);
}

/* Which of the NULL-ended names the value is; the error lists them all. */
static int parse_choice(const char *name, const char *value, const char *const *names,
                        unsigned *ret_index, struct error *err)
{
    char listed[128] = "";
    for (unsigned i = 0; names[i]; i++) {
        if (strcmp(value, names[i]) == 0) {
            *ret_index = i;
            return 0;
        }
        if (i > 0)
            strncat(listed, ", ", sizeof(listed) - strlen(listed) - 1);
        strncat(listed, names[i], sizeof(listed) - strlen(listed) - 1);
    }
    return error_set(err, -EINVAL, "--%s has no mode '%s'; choose one of %s", name, value, listed);
}

static int set_cache(struct config *config, const char *name, const char *value, struct error *err)
{
    unsigned index;
    int code = parse_choice(name, value, image_cache_names, &index, err);
    if (code == 0)
        config->cache = (enum image_cache)index;
    return code;
}

/* qemu-nbd's other way to say --cache=none. */
static int set_nocache(struct config *config, const char *name, const char *value,
                       struct error *err)
{
    (void)name, (void)value, (void)err;
    config->cache = IMAGE_CACHE_NONE;
    return 0;
}

/* As qemu-nbd reads it: decimal, or 0x and hexadecimal, or 0 and octal. */
static int set_offset(struct config *config, const char *name, const char *value, struct error *err)
{
    (void)name;
    char *end;
    errno = 0;
    unsigned long long offset = strtoull(value, &end, 0);
    /* strtoull() would take a sign and spaces. */
    if (errno || end == value || *end || value[0] < '0' || value[0] > '9')
        return error_set(err, -EINVAL, "the offset '%s' is no number of bytes below 2^64", value);
    config->offset = offset;
    return 0;
}

static int set_aio(struct config *config, const char *name, const char *value, struct error *err)
{
    static const char *const names[] = {"io_uring", "threads", "native", "sync", NULL};
    unsigned index;
    int code = parse_choice(name, value, names, &index, err);
    if (code == 0)
        config->aio = names[index];
    return code;
}

static int set_discard(struct config *config, const char *name, const char *value,
                       struct error *err)
{
    static const char *const names[] = {"ignore", "off", "unmap", "on", NULL};
    unsigned index;
    int code = parse_choice(name, value, names, &index, err);
    if (code == 0)
        config->discard = index >= 2;
    return code;
}

static int set_detect_zeroes(struct config *config, const char *name, const char *value,
                             struct error *err)
{
    static const char *const names[] = {"off", "on", "unmap", NULL};
    unsigned index;
    int code = parse_choice(name, value, names, &index, err);
    if (code == 0)
        config->detect_zeroes = names[index];
    return code;
}

static int set_object(struct config *config, const char *name, const char *value, struct error *err)
{
    (void)name;
    if (config->object_count == CONFIG_OBJECTS_MAX)
        return error_set(err, -EINVAL, "--object is given more than %d times", CONFIG_OBJECTS_MAX);
    config->objects[config->object_count++] = value;
    return 0;
}

/* As in qemu-nbd: a snapshot is only read. */
static int set_load_snapshot(struct config *config, const char *name, const char *value,
                             struct error *err)
{
    (void)name;
    if (!*value)
        return error_set(err, -EINVAL, "the snapshot of -l is empty; give its id or its name");
    config->load_snapshot = value;
    config->read_only = true;
    return 0;
}

static int set_allow_path(struct config *config, const char *name, const char *value,
                          struct error *err)
{
    (void)name;
    if (!*value || strchr(value, ':'))
        return error_set(err, -EINVAL,
                         "the directory '%s' of --allow-path is %s; give one directory each time",
                         value, *value ? "a name with a colon" : "empty");
    if (config->allow_path_count == CONFIG_ALLOW_PATHS_MAX)
        return error_set(err, -EINVAL, "--allow-path is given more than %d times",
                         CONFIG_ALLOW_PATHS_MAX);
    config->allow_paths[config->allow_path_count++] = value;
    return 0;
}

static int set_bitmap(struct config *config, const char *name, const char *value, struct error *err)
{
    (void)name;
    if (!*value)
        return error_set(err, -EINVAL, "the bitmap of -B is empty; give its name");
    if (config->bitmap_count == EXPORT_BITMAPS_MAX)
        return error_set(err, -EINVAL, "-B is given more than %d times", EXPORT_BITMAPS_MAX);
    config->bitmaps[config->bitmap_count++] = value;
    return 0;
}

static int set_pid_file(struct config *config, const char *name, const char *value,
                        struct error *err)
{
    (void)name;
    if (!*value)
        return error_set(err, -EINVAL, "the path of --pid-file is empty");
    config->pid_file = value;
    return 0;
}

static int set_stats(struct config *config, const char *name, const char *value, struct error *err)
{
    (void)name;
    if (!*value)
        return error_set(err, -EINVAL, "the path of --stats is empty; - is standard output");
    config->stats = value;
    return 0;
}

/* In the order of enum error_action; a read finds no disk full. */
static const char *const error_actions[] = {"report", "ignore", "stop", "enospc", NULL};
static const char *const read_error_actions[] = {"report", "ignore", "stop", NULL};

static int set_rerror(struct config *config, const char *name, const char *value, struct error *err)
{
    unsigned index;
    int code = parse_choice(name, value, read_error_actions, &index, err);
    if (code == 0)
        config->on_read_error = (enum error_action)index;
    return code;
}

static int set_werror(struct config *config, const char *name, const char *value, struct error *err)
{
    unsigned index;
    int code = parse_choice(name, value, error_actions, &index, err);
    if (code == 0)
        config->on_write_error = (enum error_action)index;
    return code;
}

static int set_run(struct config *config, const char *name, const char *value, struct error *err)
{
    (void)name;
    if (!*value)
        return error_set(err, -EINVAL, "the command of --run is empty");
    config->run = value;
    return 0;
}

#define FLAG_SETTER(field)                                                             \
    static int set_##field(struct config *config, const char *name, const char *value, \
                           struct error *err)                                          \
    {                                                                                  \
        (void)name, (void)value, (void)err;                                            \
        config->field = true;                                                          \
        return 0;                                                                      \
    }
FLAG_SETTER(allocation_depth)
FLAG_SETTER(read_only)
FLAG_SETTER(snapshot)
FLAG_SETTER(persistent)
FLAG_SETTER(verbose)
FLAG_SETTER(fork)
FLAG_SETTER(image_opts)
#undef FLAG_SETTER

static const struct cmdline_option options[] = {
    {"socket", 'k', true, NULL, set_socket},
    {"port", 'p', true, NULL, set_port},
    {"bind", 'b', true, NULL, set_bind},
    {"export-name", 'x', true, NULL, set_export_name},
    {"description", 'D', true, NULL, set_description},
    {"read-only", 'r', false, NULL, set_read_only},
    {"persistent", 't', false, NULL, set_persistent},
    {"shared", 'e', true, NULL, set_shared},
    {"format", 'f', true, NULL, set_format},
    {"image-opts", 0, false, NULL, set_image_opts},
    {"offset", 'o', true, NULL, set_offset},
    {"verbose", 'v', false, NULL, set_verbose},
    {"cache", 0, true, "cache", set_cache},
    {"nocache", 'n', false, "cache", set_nocache},
    {"aio", 0, true, "aio", set_aio},
    {"discard", 0, true, "discard", set_discard},
    {"detect-zeroes", 0, true, NULL, set_detect_zeroes},
    {"object", 0, true, NULL, set_object},
    {"threads", 0, true, NULL, set_threads},
    {"busy-poll", 0, true, NULL, set_busy_poll},
    {"rerror", 0, true, NULL, set_rerror},
    {"werror", 0, true, NULL, set_werror},
    {"stats", 0, true, NULL, set_stats},
    {"fork", 0, false, NULL, set_fork},
    {"run", 0, true, NULL, set_run},
    {"pid-file", 0, true, NULL, set_pid_file},
    {"snapshot", 's', false, NULL, set_snapshot},
    {"load-snapshot", 'l', true, NULL, set_load_snapshot},
    {"bitmap", 'B', true, NULL, set_bitmap},
    {"allocation-depth", 'A', false, NULL, set_allocation_depth},
    {"allow-path", 0, true, NULL, set_allow_path},
    {"handshake-limit", 0, true, NULL, set_handshake_limit},
    {"stall-limit", 0, true, NULL, set_stall_limit},
    /* qemu-nbd's, not served yet. */
    {"list", 'L', false, NULL, NULL},
    {"connect", 'c', true, NULL, NULL},
    {"disconnect", 'd', false, NULL, NULL},
    {"tls-creds", 0, true, NULL, NULL},
    {"tls-authz", 0, true, NULL, NULL},
    {"tls-hostname", 0, true, NULL, NULL},
    {"selinux-label", 0, true, NULL, NULL},
    {"trace", 'T', true, NULL, NULL},
};

#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))
/* getopt's values of what is not in the table; the table's are OPTION_FIRST + index. */
#define OPTION_FIRST 0x100

/* getopt's two forms of the table: letters, and long names. */
struct getopt_tables {
    char letters[3 + 2 * OPTION_COUNT + 3];
    struct option names[OPTION_COUNT + 3];
};

static void getopt_tables_init(struct getopt_tables *tables)
{
    char *letter = tables->letters;
    *letter++ = ':'; /* a missing argument is told apart from an unknown option */
    *letter++ = 'h';
    *letter++ = 'V';
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        tables->names[i] = (struct option){
            .name = options[i].name,
            .has_arg = options[i].has_argument ? required_argument : no_argument,
            .val = OPTION_FIRST + (int)i,
        };
        if (options[i].letter) {
            *letter++ = options[i].letter;
            if (options[i].has_argument)
                *letter++ = ':';
        }
    }
    *letter = '\0';
    tables->names[OPTION_COUNT] = (struct option){.name = "help", .val = 'h'};
    tables->names[OPTION_COUNT + 1] = (struct option){.name = "version", .val = 'V'};
    tables->names[OPTION_COUNT + 2] = (struct option){0};
}

/* The option that getopt's value (or letter) stands for. */
static const struct cmdline_option *option_find(int value)
{
    if (value >= OPTION_FIRST && value < OPTION_FIRST + (int)OPTION_COUNT)
        return &options[value - OPTION_FIRST];
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (options[i].letter && options[i].letter == value)
            return &options[i];
    }
    return NULL;
}

/* getopt met something that is not in the tables; word is where. */
static int refuse_unknown(int value, const char *word, struct error *err)
{
    const struct cmdline_option *option = option_find(optopt);
    if (value == ':')
        return error_set(err, -EINVAL, "option --%s needs an argument; see platter --help",
                         option ? option->name : "?");
    if (option && !option->has_argument)
        return error_set(err, -EINVAL, "option --%s takes no argument; see platter --help",
                         option->name);
    if (optopt == 0)
        return error_set(err, -EINVAL, "unknown or ambiguous option '%s'; see platter --help",
                         word);
    return error_set(err, -EINVAL, "unknown option '-%c'; see platter --help", optopt);
}

/* The option that was given and counts as the same; NULL: none was. */
static const struct cmdline_option *given_before(const bool *given,
                                                 const struct cmdline_option *option)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (given[i] && option->once && options[i].once &&
            strcmp(options[i].once, option->once) == 0)
            return &options[i];
    }
    return NULL;
}

static int take_option(struct config *config, bool *given, const struct cmdline_option *option,
                       struct error *err)
{
    if (!option->set && option->letter)
        return error_set(err, -EINVAL, "option -%c (--%s) is not supported yet", option->letter,
                         option->name);
    if (!option->set)
        return error_set(err, -EINVAL, "option --%s is not supported yet", option->name);
    const struct cmdline_option *before = given_before(given, option);
    if (before == option)
        return error_set(err, -EINVAL, "option --%s can be given only once", option->name);
    if (before)
        return error_set(err, -EINVAL, "options --%s and --%s exclude each other; give one of them",
                         before->name, option->name);
    given[option - options] = true;
    return option->set(config, option->name, optarg, err);
}

unsigned cmdline_default_threads(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (online < 1)
        return 1;
    return online < CONFIG_THREADS_DEFAULT_MAX ? (unsigned)online : CONFIG_THREADS_DEFAULT_MAX;
}

/* The one word that is no option. */
static int take_image(struct config *config, int argc, char **argv, struct error *err)
{
    if (optind == argc)
        return error_set(err, -EINVAL, "no image is named; see platter --help");
    if (optind + 1 < argc)
        return error_set(err, -EINVAL,
                         "one image can be served, but '%s' and '%s' are named; see platter --help",
                         argv[optind], argv[optind + 1]);
    if (!*argv[optind])
        return error_set(err, -EINVAL, "the image's name is empty");
    config->image = argv[optind];
    return 0;
}

static bool is_given(const bool *given, option_setter *set)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (given[i] && options[i].set == set)
            return true;
    }
    return false;
}

/* A server for a command lives as long as that, for as many clients as it brings, and where only it
 * looks for them unless a place was named. */
static void suit_command(struct config *config, const bool *given)
{
    config->persistent = true;
    if (!is_given(given, set_shared))
        config->clients_max = 0;
    config->private_socket =
        !is_given(given, set_socket) && !is_given(given, set_port) && !is_given(given, set_bind);
}

/* What is right alone and wrong together. */
static int check_together(const struct config *config, struct error *err)
{
    if (config->run && config->fork)
        return error_set(err, -EINVAL,
                         "--run and --fork exclude each other; put the whole command into the "
                         "background");
    if (config->fork && config->stats && strcmp(config->stats, "-") == 0)
        return error_set(err, -EINVAL,
                         "--fork leaves no standard output for --stats=-; give --stats a file");
    if (config->snapshot && config->load_snapshot)
        return error_set(err, -EINVAL,
                         "-s and -l exclude each other: an internal snapshot is only read");
    if (config->image_opts && config->format)
        return error_set(err, -EINVAL,
                         "--image-opts and -f exclude each other; say driver=%s among the image's "
                         "options",
                         config->format);
    return 0;
}

int cmdline_parse(int argc, char **argv, enum cmdline_action *ret_action, struct config *ret_config,
                  struct error *err)
{
    struct config config = {
        .bind = CONFIG_BIND_DEFAULT,
        .port = CONFIG_PORT_DEFAULT,
        .export_name = "",
        .clients_max = 1,
        .handshake_limit_s = CONFIG_HANDSHAKE_LIMIT_S_DEFAULT,
        .stall_limit_s = CONFIG_STALL_LIMIT_S_DEFAULT,
        .thread_count = cmdline_default_threads(),
        .busy_poll_us = cmdline_default_threads() > 1 ? CONFIG_BUSY_POLL_US_DEFAULT : 0,
    };
    bool given[OPTION_COUNT] = {false};
    struct getopt_tables tables;
    getopt_tables_init(&tables);

    opterr = 0; /* the sentences are ours */
    optind = 0; /* GNU: start anew */
    while (true) {
        optopt = 0;
        int before = optind > 0 ? optind : 1;
        int value = getopt_long(argc, argv, tables.letters, tables.names, NULL);
        if (value == -1)
            break;
        if (value == 'h' || value == 'V') {
            *ret_action = value == 'h' ? CMDLINE_HELP : CMDLINE_VERSION;
            return 0;
        }
        const struct cmdline_option *option = option_find(value);
        int code = option ? take_option(&config, given, option, err)
                          : refuse_unknown(value, argv[optind > before ? optind - 1 : before], err);
        if (code < 0)
            return code;
    }
    int code = take_image(&config, argc, argv, err);
    if (code == 0)
        code = check_together(&config, err);
    if (code < 0)
        return code;
    config.names_place =
        is_given(given, set_socket) || is_given(given, set_port) || is_given(given, set_bind);
    if (config.run)
        suit_command(&config, given);
    *ret_action = CMDLINE_SERVE;
    *ret_config = config;
    return 0;
}
