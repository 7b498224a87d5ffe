/* SPDX-License-Identifier: BSD-3-Clause */
/* config.c: what the block layer is told of the image, however the person said it. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "block/node_options.h"
#include "server/config.h"

static struct node_options *options_for(const struct config *config)
{
    struct node_options *options;
    struct error err = {""};
    if (config_node_options(config, &options, &err) < 0)
        fail_msg("'%s' is refused: %s", config->image, err.message);
    return options;
}

/* Path and value by turns; a value NULL: not there. NULL-ended. */
static void expect(const struct config *config, const char *const *paths_and_values)
{
    struct node_options *options = options_for(config);
    for (unsigned i = 0; paths_and_values[i]; i += 2) {
        const char *got = node_options_get(options, paths_and_values[i]);
        const char *want = paths_and_values[i + 1];
        if (!got != !*want || (got && strcmp(got, want) != 0))
            fail_msg("'%s': %s is '%s', not '%s'", config->image, paths_and_values[i],
                     got ? got : "", want);
    }
    node_options_free(options);
}
#define EXPECT(config, ...) expect(config, (const char *const[]){__VA_ARGS__, NULL})

static void the_command_line_speaks_of_the_top_node(void **state)
{
    (void)state;
    const struct config plain = {.image = "disk.img"};
    EXPECT(&plain, "cache.direct", "", "discard", "", "aio", "", "read-only", "", "offset", "",
           "detect-zeroes", "", "driver", "", "file.filename", "");
    const struct config unsafe = {.image = "disk.img", .cache = IMAGE_CACHE_UNSAFE};
    EXPECT(&unsafe, "cache.direct", "", "cache.no-flush", "on");
    const struct config all = {.image = "disk.img",
                               .format = "raw",
                               .read_only = true,
                               .cache = IMAGE_CACHE_DIRECTSYNC,
                               .aio = "threads",
                               .discard = true,
                               .detect_zeroes = "on",
                               .offset = 512};
    EXPECT(&all, "cache.direct", "on", "discard", "unmap", "aio", "threads", "read-only", "on",
           "offset", "512", "detect-zeroes", "on");
}

static void the_images_own_options_win_over_defaults(void **state)
{
    (void)state;
    const struct config config = {
        .image = "driver=raw,file.filename=a,,b,cache.direct=off,discard=off,aio=sync",
        .image_opts = true,
        .cache = IMAGE_CACHE_NONE,
        .aio = "threads",
        .discard = true};
    EXPECT(&config, "driver", "raw", "file.filename", "a,b", "cache.direct", "off", "discard",
           "off", "aio", "sync");
    const struct config json = {.image = "json:{\"driver\":\"raw\",\"file\":{\"filename\":\"x\"}}",
                                .cache = IMAGE_CACHE_NONE};
    EXPECT(&json, "driver", "raw", "file.filename", "x", "cache.direct", "on");
    const struct config object = {.image = "{\"file.filename\":\"x\"}", .image_opts = true};
    EXPECT(&object, "driver", "", "file.filename", "x");
}

static void an_offset_goes_into_the_raw_node_or_into_one_above(void **state)
{
    (void)state;
    const struct config probed = {.image = "file.filename=x", .image_opts = true, .offset = 7};
    EXPECT(&probed, "driver", "", "offset", "7", "file.filename", "x");
    const struct config above = {.image = "driver=raw,offset=5,read-only=on,file.filename=x",
                                 .image_opts = true,
                                 .offset = 7};
    EXPECT(&above, "driver", "raw", "offset", "7", "read-only", "on", "file.driver", "raw",
           "file.offset", "5", "file.file.filename", "x", "file.filename", "");
}

static void expect_refused(const struct config *config, const char *sentence)
{
    struct node_options *options;
    struct error err = {""};
    assert_int_equal(config_node_options(config, &options, &err), -EINVAL);
    assert_string_equal(err.message, sentence);
}

static void options_that_make_no_image_are_refused(void **state)
{
    (void)state;
    const struct config nothing = {.image = "offset=5", .image_opts = true};
    expect_refused(&nothing, "file.filename: missing; the image's options name no file: say "
                             "file.filename=PATH, or name a driver");
    const struct config named = {.image = "json:{\"driver\":\"file\",\"filename\":\"x\"}",
                                 .format = "raw"};
    expect_refused(&named, "file.filename: missing; the image's options name no file: say "
                           "file.filename=PATH");
    const struct config twice = {
        .image = "file.filename=x,offset=5", .image_opts = true, .offset = 7};
    expect_refused(&twice, "the offset is given twice, by -o and by the image's option 'offset'; "
                           "give one of them");
    const struct config qcow2 = {.image = "x", .format = "qcow2", .offset = 7};
    expect_refused(&qcow2, "-o needs -f raw, not 'qcow2'; describe the image with --image-opts");
    const struct config path = {.image = "disk.img", .image_opts = true};
    expect_refused(&path, "'disk.img' among the options has no '='; write key=value");
    const struct config json = {.image = "json:disk.img"};
    struct node_options *options;
    struct error err;
    assert_int_equal(config_node_options(&json, &options, &err), -EINVAL);
    assert_non_null(strstr(err.message, "the JSON is wrong near byte"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_command_line_speaks_of_the_top_node),
        cmocka_unit_test(the_images_own_options_win_over_defaults),
        cmocka_unit_test(an_offset_goes_into_the_raw_node_or_into_one_above),
        cmocka_unit_test(options_that_make_no_image_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
