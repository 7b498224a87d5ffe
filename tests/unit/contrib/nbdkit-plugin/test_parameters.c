/* SPDX-License-Identifier: BSD-3-Clause */
/* parameters.c: key=value becomes options of a node, or one exact sentence. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/node_options.h"
#include "contrib/nbdkit-plugin/parameters.h"

struct scene {
    struct parameters parameters;
    struct error err;
    int code; /* of the last set */
};

/* Keys and values by turns, NULL-ended; up to the first that is refused. */
static void scene_init(struct scene *scene, const char *const *words)
{
    *scene = (struct scene){.code = 0};
    assert_int_equal(parameters_init(&scene->parameters, "/home/me", NULL), 0);
    for (unsigned i = 0; words[i] && scene->code == 0; i += 2)
        scene->code = parameters_set(&scene->parameters, words[i], words[i + 1], &scene->err);
    if (scene->code == 0)
        scene->code = parameters_check(&scene->parameters, &scene->err);
}
#define SCENE(scene, ...) scene_init(scene, (const char *const[]){__VA_ARGS__, NULL})

static struct node_options *options_of(struct scene *scene, bool read_only)
{
    struct node_options *options = NULL;
    if (scene->code < 0 ||
        parameters_node_options(&scene->parameters, read_only, &options, &scene->err) < 0)
        fail_msg("%s", scene->err.message);
    return options;
}

static void expect(const struct node_options *options, const char *path, const char *want)
{
    const char *got = node_options_get(options, path);
    if (!got != !want || (got && want && strcmp(got, want) != 0))
        fail_msg("%s is '%s', not '%s'", path, got ? got : "(not there)",
                 want ? want : "(not there)");
}

static void a_path_alone_says_nothing_of_the_nodes(void **state)
{
    struct scene scene;
    (void)state;
    SCENE(&scene, "file", "a/disk.img");
    struct node_options *options = options_of(&scene, false);
    assert_string_equal(scene.parameters.image, "/home/me/a/disk.img");
    assert_string_equal(parameters_image_name(&scene.parameters), "/home/me/a/disk.img");
    assert_null(scene.parameters.format);
    assert_false(scene.parameters.read_only);
    assert_true(node_options_is_empty(options));
    node_options_free(options);
    parameters_fini(&scene.parameters);
}

static void what_is_not_the_plugins_own_goes_to_the_nodes(void **state)
{
    struct scene scene;
    (void)state;
    SCENE(&scene, "file", "/d", "format", "qcow2", "cache", "directsync", "discard", "unmap",
          "backing.file.filename", "b", "aio", "sync", "aio", "threads");
    struct node_options *options = options_of(&scene, true);
    assert_string_equal(scene.parameters.image, "/d");
    assert_string_equal(scene.parameters.format, "qcow2");
    assert_int_equal(scene.parameters.cache, IMAGE_CACHE_DIRECTSYNC);
    expect(options, "cache.direct", "on");
    expect(options, "discard", "unmap");
    expect(options, "aio", "threads");
    expect(options, "backing.file.filename", "/home/me/b");
    expect(options, "read-only", "on");
    expect(options, "cache", NULL);
    expect(options, "format", NULL);
    node_options_free(options);
    parameters_fini(&scene.parameters);
}

static void an_option_wins_over_what_the_cache_mode_says(void **state)
{
    struct scene scene;
    (void)state;
    SCENE(&scene, "file", "/d", "cache", "none", "cache.direct", "off");
    struct node_options *options = options_of(&scene, false);
    expect(options, "cache.direct", "off");
    node_options_free(options);
    parameters_fini(&scene.parameters);
}

static void json_describes_and_other_options_win_over_it(void **state)
{
    struct scene scene;
    (void)state;
    SCENE(&scene, "discard", "ignore", "file",
          "json:{\"driver\":\"raw\",\"discard\":\"unmap\",\"file\":{\"filename\":\"x\"}}");
    struct node_options *options = options_of(&scene, false);
    expect(options, "driver", "raw");
    expect(options, "discard", "ignore");
    expect(options, "file.filename", "/home/me/x");
    node_options_free(options);
    parameters_fini(&scene.parameters);
}

static void options_alone_can_describe_it(void **state)
{
    struct scene scene;
    (void)state;
    SCENE(&scene, "driver", "raw", "file.driver", "null", "file.size", "1M");
    struct node_options *options = options_of(&scene, false);
    assert_null(scene.parameters.image);
    assert_string_equal(parameters_image_name(&scene.parameters), "the image");
    expect(options, "file.size", "1M");
    node_options_free(options);
    parameters_fini(&scene.parameters);
}

static void below_a_driver_that_is_named_lies_the_path(void **state)
{
    struct scene scene;
    (void)state;
    SCENE(&scene, "file", "x", "driver", "delay", "wdelay", "1");
    struct node_options *options = options_of(&scene, false);
    expect(options, "driver", "delay");
    expect(options, "file.filename", "/home/me/x");
    node_options_free(options);
    parameters_fini(&scene.parameters);
}

static void the_format_is_that_of_the_path(void **state)
{
    struct scene scene;
    (void)state;
    SCENE(&scene, "file", "x", "format", "qcow2");
    assert_string_equal(parameters_top_format(&scene.parameters), "qcow2");
    parameters_fini(&scene.parameters);
    SCENE(&scene, "file", "x", "format", "qcow2", "driver", "delay");
    struct node_options *options = options_of(&scene, false);
    assert_null(parameters_top_format(&scene.parameters));
    expect(options, "driver", "delay");
    expect(options, "file.driver", "qcow2");
    expect(options, "file.file.filename", "/home/me/x");
    expect(options, "file.filename", NULL);
    node_options_free(options);
    parameters_fini(&scene.parameters);
}

static void what_is_only_read_is_said_by_more_than_one_word(void **state)
{
    static const struct {
        const char *key, *value;
        bool read_only;
    } cases[] = {{"read-only", "on", true},
                 {"read-only", "off", false},
                 {"load-snapshot", "1", true},
                 {"discard", "unmap", false}};
    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct scene scene;
        SCENE(&scene, "file", "/d", cases[i].key, cases[i].value);
        assert_int_equal(scene.parameters.read_only, cases[i].read_only);
        struct node_options *options = options_of(&scene, false);
        expect(options, "read-only", cases[i].read_only ? "on" : NULL);
        node_options_free(options);
        parameters_fini(&scene.parameters);
    }
}

static void objects_are_kept_as_they_were_given(void **state)
{
    struct scene scene;
    (void)state;
    SCENE(&scene, "object", "throttle-group,id=a", "file", "/d", "object", "throttle-group,id=b");
    struct node_options *options = options_of(&scene, false);
    assert_true(node_options_is_empty(options));
    assert_int_equal(scene.parameters.object_count, 2);
    assert_string_equal(scene.parameters.objects[0], "throttle-group,id=a");
    assert_string_equal(scene.parameters.objects[1], "throttle-group,id=b");
    node_options_free(options);
    parameters_fini(&scene.parameters);
}

static void mistakes_are_one_sentence_each(void **state)
{
    static const struct {
        const char *words[7], *sentence;
    } cases[] = {
        {{NULL}, "no image is named; say file=PATH, or nbdkit platter PATH"},
        {{"format", "raw"}, "no image is named; say file=PATH, or nbdkit platter PATH"},
        {{"file", ""}, "file: the image's name is empty"},
        {{"file", "a", "file", "b"}, "one image can be served, but '/home/me/a' and 'b' are named"},
        {{"format", ""}, "format: empty; name one, such as raw"},
        {{"format", "raw", "format", "raw"}, "format is given twice; give it once"},
        {{"cache", "none", "cache", "none"}, "cache is given twice; give it once"},
        {{"read-only", "on", "read-only", "on"}, "read-only is given twice; give it once"},
        {{"format", "raw", "driver", "raw"},
         "format and driver say the same of the image; give one of them"},
        {{"file", "a", "driver", "delay", "file.driver", "null"},
         "file names the image, but driver and file.driver describe it node by node; leave file "
         "out, and say filename=PATH of the node it belongs to"},
        {{"file", "a", "file.filename", "b"},
         "file and file.filename both name the image; give one of them"},
        {{"cache", "fast"},
         "cache: cannot be 'fast'; say writeback, none, writethrough, directsync or unsafe"},
        {{"read-only", "maybe"}, "read-only: cannot be 'maybe'; say on or off"},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct scene scene;
        scene_init(&scene, cases[i].words);
        assert_int_equal(scene.code, -EINVAL);
        assert_string_equal(scene.err.message, cases[i].sentence);
        parameters_fini(&scene.parameters);
    }
}

static void what_no_node_can_have_is_refused_when_the_image_is_opened(void **state)
{
    static const struct {
        const char *words[5], *sentence;
    } cases[] = {
        {{"file", "json:{\"driver\":\"file\",\"filename\":\"x\"}", "format", "raw"},
         "file.filename: missing; the image's options name no file: say file.filename=PATH"},
        {{"file", "/d", "cache..direct", "on"},
         "the option name 'cache..direct' has an empty part; parts are names with one dot between "
         "them"},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct scene scene;
        struct node_options *options;
        scene_init(&scene, cases[i].words);
        assert_int_equal(scene.code, 0);
        assert_int_equal(parameters_node_options(&scene.parameters, false, &options, &scene.err),
                         -EINVAL);
        assert_string_equal(scene.err.message, cases[i].sentence);
        parameters_fini(&scene.parameters);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_alone_says_nothing_of_the_nodes),
        cmocka_unit_test(what_is_not_the_plugins_own_goes_to_the_nodes),
        cmocka_unit_test(an_option_wins_over_what_the_cache_mode_says),
        cmocka_unit_test(json_describes_and_other_options_win_over_it),
        cmocka_unit_test(options_alone_can_describe_it),
        cmocka_unit_test(below_a_driver_that_is_named_lies_the_path),
        cmocka_unit_test(the_format_is_that_of_the_path),
        cmocka_unit_test(what_is_only_read_is_said_by_more_than_one_word),
        cmocka_unit_test(objects_are_kept_as_they_were_given),
        cmocka_unit_test(mistakes_are_one_sentence_each),
        cmocka_unit_test(what_no_node_can_have_is_refused_when_the_image_is_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
