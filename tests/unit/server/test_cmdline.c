/* SPDX-License-Identifier: BSD-3-Clause */
/* cmdline.c: command lines become a config, or one exact sentence. */
#include "tests/unit/unit.h"

#include "server/cmdline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 256

/* Splits line at single spaces; '' is an empty word. */
static int parse_line(const char *line, enum cmdline_action *ret_action, struct config *ret_config,
                      struct error *err)
{
    static char storage[16384];
    char *words[WORDS_MAX + 2] = {(char *)"platter"};
    int count = 1;
    assert_true(strlen(line) < sizeof(storage));
    strcpy(storage, line);
    for (char *word = strtok(storage, " "); word; word = strtok(NULL, " ")) {
        assert_true(count <= WORDS_MAX);
        words[count++] = strcmp(word, "''") == 0 ? word + 2 : word;
    }
    return cmdline_parse(count, words, ret_action, ret_config, err);
}

static struct config parse_good(const char *line)
{
    enum cmdline_action action = CMDLINE_HELP;
    struct config config = {0};
    struct error err = {""};
    if (parse_line(line, &action, &config, &err) < 0)
        fail_msg("'%s' was refused: %s", line, err.message);
    assert_int_equal(action, CMDLINE_SERVE);
    return config;
}

static void an_image_alone_is_served_by_defaults(void **state)
{
    (void)state;
    struct config config = parse_good("disk.img");
    assert_string_equal(config.image, "disk.img");
    assert_null(config.format);
    assert_null(config.socket_path);
    assert_string_equal(config.bind, "0.0.0.0");
    assert_string_equal(config.port, "10809");
    assert_string_equal(config.export_name, "");
    assert_null(config.description);
    assert_int_equal(config.clients_max, 1);
    assert_false(config.persistent);
    assert_int_equal(config.handshake_limit_s, 10);
    assert_int_equal(config.stall_limit_s, 60);
    assert_false(config.read_only);
    assert_int_equal(config.cache, IMAGE_CACHE_WRITEBACK);
    assert_null(config.aio);
    assert_false(config.discard);
    assert_int_equal(config.thread_count, cmdline_default_threads());
    assert_in_range(config.thread_count, 1, CONFIG_THREADS_DEFAULT_MAX);
    assert_false(config.fork);
    assert_null(config.pid_file);
    assert_false(config.verbose);
}

static void letters_and_long_names_say_the_same(void **state)
{
    (void)state;
    static const char *const both[] = {
        "-k /s -p 7 -b ::1 -x name -D text -rtv -e5 -f raw disk.img",
        "disk.img --socket=/s --port=7 --bind=::1 --export-name=name --description=text "
        "--read-only --persistent --shared=5 --format=raw --verbose --cache=none --discard=on",
    };
    for (int i = 0; i < 2; i++) {
        struct config config = parse_good(both[i]);
        assert_string_equal(config.image, "disk.img");
        assert_string_equal(config.socket_path, "/s");
        assert_string_equal(config.port, "7");
        assert_string_equal(config.bind, "::1");
        assert_string_equal(config.export_name, "name");
        assert_string_equal(config.description, "text");
        assert_true(config.read_only);
        assert_true(config.persistent);
        assert_int_equal(config.clients_max, 5);
        assert_string_equal(config.format, "raw");
        assert_true(config.verbose);
        assert_int_equal(config.cache, i == 0 ? IMAGE_CACHE_WRITEBACK : IMAGE_CACHE_NONE);
        assert_true(config.discard == (i == 1));
    }
}

static void offsets_and_flags_are_read_as_qemu_nbd_reads_them(void **state)
{
    (void)state;
    assert_int_equal(parse_good("disk.img").offset, 0);
    assert_int_equal(parse_good("-o 512 disk.img").offset, 512);
    assert_int_equal(parse_good("--offset=0x1F disk.img").offset, 31);
    assert_int_equal(parse_good("-o 010 disk.img").offset, 8);
    assert_true(parse_good("-o 18446744073709551615 disk.img").offset == UINT64_MAX);
    assert_true(parse_good("--image-opts driver=raw").image_opts);
    assert_int_equal(parse_good("-n disk.img").cache, IMAGE_CACHE_NONE);
    assert_int_equal(parse_good("--nocache disk.img").cache, IMAGE_CACHE_NONE);
}

static void objects_are_kept_in_their_order(void **state)
{
    (void)state;
    struct config config = parse_good("--object throttle-group,id=a disk.img --object=b");
    assert_int_equal(config.object_count, 2);
    assert_string_equal(config.objects[0], "throttle-group,id=a");
    assert_string_equal(config.objects[1], "b");

    static char name[] = "platter", option[] = "--object=x", image[] = "disk.img";
    char *words[CONFIG_OBJECTS_MAX + 4] = {name};
    int count = 1;
    while (count <= CONFIG_OBJECTS_MAX + 1)
        words[count++] = option;
    words[count++] = image;
    enum cmdline_action action;
    struct error err;
    assert_int_equal(cmdline_parse(count, words, &action, &config, &err), -EINVAL);
    assert_string_equal(err.message, "--object is given more than 64 times");
}

static void a_command_brings_its_own_defaults(void **state)
{
    (void)state;
    struct config config = parse_good("disk.img --run=true");
    assert_string_equal(config.run, "true");
    assert_true(config.persistent && config.private_socket);
    assert_int_equal(config.clients_max, 0);
    assert_int_equal(parse_good("-e 1 disk.img --run true").clients_max, 1);
    assert_false(parse_good("disk.img --run true -p 0").private_socket);
    assert_false(parse_good("disk.img --run true -b ::1").private_socket);
    assert_false(parse_good("disk.img --run true -k /s").private_socket);
    assert_false(parse_good("disk.img").private_socket);
}

static void every_mode_has_its_value(void **state)
{
    (void)state;
    assert_int_equal(parse_good("--cache=writeback x").cache, IMAGE_CACHE_WRITEBACK);
    assert_int_equal(parse_good("--cache=none x").cache, IMAGE_CACHE_NONE);
    assert_int_equal(parse_good("--cache=writethrough x").cache, IMAGE_CACHE_WRITETHROUGH);
    assert_int_equal(parse_good("--cache=directsync x").cache, IMAGE_CACHE_DIRECTSYNC);
    assert_int_equal(parse_good("--cache=unsafe x").cache, IMAGE_CACHE_UNSAFE);
    assert_false(parse_good("--discard=ignore x").discard);
    assert_false(parse_good("--discard=off x").discard);
    assert_null(parse_good("x").detect_zeroes);
    assert_string_equal(parse_good("--detect-zeroes=off x").detect_zeroes, "off");
    assert_string_equal(parse_good("--detect-zeroes=unmap --discard=on x").detect_zeroes, "unmap");
    assert_true(parse_good("--discard=unmap x").discard);
    assert_true(parse_good("--discard=on x").discard);
    assert_string_equal(parse_good("--aio=io_uring x").aio, "io_uring");
    assert_string_equal(parse_good("--aio=threads x").aio, "threads");
    assert_string_equal(parse_good("--aio=native x").aio, "native");
    assert_string_equal(parse_good("--aio=sync x").aio, "sync");
    assert_int_equal(parse_good("--threads=64 x").thread_count, 64);
    assert_int_equal(parse_good("--handshake-limit=0 x").handshake_limit_s, 0);
    assert_int_equal(parse_good("--stall-limit=3600 x").stall_limit_s, 3600);
    assert_int_equal(parse_good("-e 0 x").clients_max, 0);
    assert_true(parse_good("--fork x").fork);
    assert_string_equal(parse_good("--pid-file p x").pid_file, "p");
    assert_string_equal(parse_good("-- -x").image, "-x");
}

static void the_last_one_wins_where_qemu_nbd_lets_it(void **state)
{
    (void)state;
    assert_string_equal(parse_good("-x a -x b disk.img").export_name, "b");
    assert_string_equal(parse_good("-k /a -k /b disk.img").socket_path, "/b");
}

static void help_and_version_win_over_what_follows(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        enum cmdline_action action;
    } cases[] = {
        {"-h", CMDLINE_HELP},
        {"--help --nonsense", CMDLINE_HELP},
        {"-V", CMDLINE_VERSION},
        {"-t --version a b", CMDLINE_VERSION},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum cmdline_action action = CMDLINE_SERVE;
        struct config config;
        assert_int_equal(parse_line(cases[i].line, &action, &config, NULL), 0);
        assert_int_equal(action, cases[i].action);
    }
}

static void a_mistake_is_one_exact_sentence(void **state)
{
    (void)state;
    static const struct {
        const char *line, *sentence;
    } cases[] = {
        {"", "no image is named; see platter --help"},
        {"a b", "one image can be served, but 'a' and 'b' are named; see platter --help"},
        {"''", "the image's name is empty"},
        {"-k rel x", "socket path 'rel' is relative; give -k an absolute path"},
        {"-s -l one x", "-s and -l exclude each other: an internal snapshot is only read"},
        {"-l '' x", "the snapshot of -l is empty; give its id or its name"},
        {"--allow-path a:b x", "the directory 'a:b' of --allow-path is a name with a colon; give "
                               "one directory each time"},
        {"-p 65536 x", "port '65536' is no number from 0 to 65535"},
        {"-p -1 x", "port '-1' is no number from 0 to 65535"},
        {"-p 7up x", "port '7up' is no number from 0 to 65535"},
        {"-p '' x", "port '' is no number from 0 to 65535"},
        {"-b '' x", "the address of -b is empty; give an IPv4 or IPv6 address or a host name"},
        {"-e -1 x", "the number of clients '-1' is no number from 0 to 2147483647"},
        {"-e many x", "the number of clients 'many' is no number from 0 to 2147483647"},
        {"--threads 0 x", "the number of threads '0' is no number from 1 to 64"},
        {"--handshake-limit=-1 x", "the handshake limit '-1' is no number from 0 to 3600"},
        {"--stall-limit 1h x", "the stall limit '1h' is no number from 0 to 3600"},
        {"--threads 65 x", "the number of threads '65' is no number from 1 to 64"},
        {"-f '' x", "the format of -f is empty; name one, such as raw"},
        {"--pid-file '' x", "the path of --pid-file is empty"},
        {"--cache=fast x", "--cache has no mode 'fast'; choose one of writeback, none, "
                           "writethrough, directsync, unsafe"},
        {"--aio=magic x",
         "--aio has no mode 'magic'; choose one of io_uring, threads, native, sync"},
        {"--discard=maybe x",
         "--discard has no mode 'maybe'; choose one of ignore, off, unmap, on"},
        {"--detect-zeroes=maybe x",
         "--detect-zeroes has no mode 'maybe'; choose one of off, on, unmap"},
        {"--cache=none --cache=none x", "option --cache can be given only once"},
        {"-n --cache=none x", "options --nocache and --cache exclude each other; give one of them"},
        {"--cache=unsafe -n x",
         "options --cache and --nocache exclude each other; give one of them"},
        {"-n -n x", "option --nocache can be given only once"},
        {"--run= x", "the command of --run is empty"},
        {"--fork --run=true x", "--run and --fork exclude each other; put the whole command into "
                                "the background"},
        {"--image-opts -f raw x",
         "--image-opts and -f exclude each other; say driver=raw among the image's options"},
        {"-o 10K x", "the offset '10K' is no number of bytes below 2^64"},
        {"-o -1 x", "the offset '-1' is no number of bytes below 2^64"},
        {"--offset= x", "the offset '' is no number of bytes below 2^64"},
        {"-o 18446744073709551616 x",
         "the offset '18446744073709551616' is no number of bytes below 2^64"},
        {"--aio=sync --aio=sync x", "option --aio can be given only once"},
        {"--discard=on --discard=on x", "option --discard can be given only once"},
        {"--nonsense x", "unknown or ambiguous option '--nonsense'; see platter --help"},
        {"x --nonsense", "unknown or ambiguous option '--nonsense'; see platter --help"},
        {"--d x", "unknown or ambiguous option '--d'; see platter --help"},
        {"-z x", "unknown option '-z'; see platter --help"},
        {"-tz x", "unknown option '-z'; see platter --help"},
        {"x -k", "option --socket needs an argument; see platter --help"},
        {"x --socket", "option --socket needs an argument; see platter --help"},
        {"--fork=yes x", "option --fork takes no argument; see platter --help"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum cmdline_action action = CMDLINE_HELP;
        struct config config;
        struct error err = {""};
        assert_int_equal(parse_line(cases[i].line, &action, &config, &err), -EINVAL);
        assert_string_equal(err.message, cases[i].sentence);
    }
}

static void bitmaps_are_taken_in_their_order(void **state)
{
    (void)state;
    char line[1024] = "-A --bitmap=one";
    struct config config = parse_good("-A --bitmap=one -B two x");
    assert_true(config.allocation_depth);
    assert_int_equal(config.bitmap_count, 2);
    assert_string_equal(config.bitmaps[0], "one");
    assert_string_equal(config.bitmaps[1], "two");
    config = parse_good("x");
    assert_false(config.allocation_depth);
    assert_int_equal(config.bitmap_count, 0);
    enum cmdline_action action;
    struct error err = {""};
    for (unsigned i = 0; i < EXPORT_BITMAPS_MAX; i++)
        strcat(line, " -Bm");
    strcat(line, " x");
    assert_int_equal(parse_line(line, &action, &config, &err), -EINVAL);
    assert_string_equal(err.message, "-B is given more than 62 times");
}

static void what_qemu_nbd_has_and_we_not_yet_is_said_so(void **state)
{
    (void)state;
    static const struct {
        const char *line, *option;
    } cases[] = {
        {"-L", "-L (--list)"},
        {"-c /dev/nbd0 x", "-c (--connect)"},
        {"-d /dev/nbd0", "-d (--disconnect)"},
        {"-T events x", "-T (--trace)"},
        {"--tls-creds t x", "--tls-creds"},
        {"--tls-authz t x", "--tls-authz"},
        {"--tls-hostname h x", "--tls-hostname"},
        {"--selinux-label l x", "--selinux-label"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum cmdline_action action;
        struct config config;
        struct error err = {""};
        char sentence[128];
        snprintf(sentence, sizeof(sentence), "option %s is not supported yet", cases[i].option);
        assert_int_equal(parse_line(cases[i].line, &action, &config, &err), -EINVAL);
        assert_string_equal(err.message, sentence);
    }
}

static void too_long_names_are_refused(void **state)
{
    (void)state;
    static char line[8192];
    enum cmdline_action action;
    struct config config;
    struct error err;
    snprintf(line, sizeof(line), "-x %s%0*d x", "", 4096, 0);
    assert_int_equal(strlen(parse_good(line).export_name), 4096);
    snprintf(line, sizeof(line), "-x %0*d x", 4097, 0);
    assert_int_equal(parse_line(line, &action, &config, &err), -EINVAL);
    assert_string_equal(err.message,
                        "the export name is 4097 bytes long; the protocol allows 4096");
    snprintf(line, sizeof(line), "-D %0*d x", 4097, 0);
    assert_int_equal(parse_line(line, &action, &config, &err), -EINVAL);
    assert_string_equal(err.message,
                        "the description is 4097 bytes long; the protocol allows 4096");
    snprintf(line, sizeof(line), "-k /%0*d x", 107, 0);
    assert_int_equal(parse_line(line, &action, &config, &err), -EINVAL);
    assert_non_null(strstr(err.message, "is longer than 107 bytes; choose a shorter one"));
    snprintf(line, sizeof(line), "-k /%0*d x", 106, 0);
    parse_good(line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_alone_is_served_by_defaults),
        cmocka_unit_test(letters_and_long_names_say_the_same),
        cmocka_unit_test(offsets_and_flags_are_read_as_qemu_nbd_reads_them),
        cmocka_unit_test(objects_are_kept_in_their_order),
        cmocka_unit_test(a_command_brings_its_own_defaults),
        cmocka_unit_test(every_mode_has_its_value),
        cmocka_unit_test(the_last_one_wins_where_qemu_nbd_lets_it),
        cmocka_unit_test(help_and_version_win_over_what_follows),
        cmocka_unit_test(a_mistake_is_one_exact_sentence),
        cmocka_unit_test(bitmaps_are_taken_in_their_order),
        cmocka_unit_test(what_qemu_nbd_has_and_we_not_yet_is_said_so),
        cmocka_unit_test(too_long_names_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
