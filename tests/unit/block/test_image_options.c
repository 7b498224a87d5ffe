/* SPDX-License-Identifier: BSD-3-Clause */
/* image_options.c: an image's name, its cache mode and its folder, as options of a node. How the
 * server's command line uses them is in tests/unit/server/test_config.c. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/image_options.h"
#include "block/node_options.h"

static void expect(const struct node_options *options, const char *path, const char *want)
{
    const char *got = node_options_get(options, path);
    if (!got != !want || (got && strcmp(got, want) != 0))
        fail_msg("%s is '%s', not '%s'", path, got ? got : "(not there)",
                 want ? want : "(not there)");
}

static void every_mode_has_its_name(void **state)
{
    (void)state;
    assert_string_equal(image_cache_names[IMAGE_CACHE_WRITEBACK], "writeback");
    assert_string_equal(image_cache_names[IMAGE_CACHE_NONE], "none");
    assert_string_equal(image_cache_names[IMAGE_CACHE_WRITETHROUGH], "writethrough");
    assert_string_equal(image_cache_names[IMAGE_CACHE_DIRECTSYNC], "directsync");
    assert_string_equal(image_cache_names[IMAGE_CACHE_UNSAFE], "unsafe");
    assert_null(image_cache_names[IMAGE_CACHE_UNSAFE + 1]);
}

static void a_mode_says_what_of_the_nodes_and_what_of_the_writes(void **state)
{
    static const struct {
        enum image_cache cache;
        const char *direct, *no_flush;
        bool writes_through;
    } cases[] = {
        {IMAGE_CACHE_WRITEBACK, NULL, NULL, false},   {IMAGE_CACHE_NONE, "on", NULL, false},
        {IMAGE_CACHE_WRITETHROUGH, NULL, NULL, true}, {IMAGE_CACHE_DIRECTSYNC, "on", NULL, true},
        {IMAGE_CACHE_UNSAFE, NULL, "on", false},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct node_options *options = node_options_new();
        assert_int_equal(image_options_cache(options, cases[i].cache, NULL), 0);
        expect(options, "cache.direct", cases[i].direct);
        expect(options, "cache.no-flush", cases[i].no_flush);
        assert_int_equal(image_cache_writes_through(cases[i].cache), cases[i].writes_through);
        node_options_free(options);
    }
}

static void a_path_says_nothing_of_the_nodes(void **state)
{
    (void)state;
    struct node_options *options = node_options_new();
    assert_int_equal(image_options_name(options, "driver=raw", false, NULL, NULL), 0);
    assert_true(node_options_is_empty(options));
    node_options_free(options);
}

static void relative_paths_get_the_folder_and_others_stay(void **state)
{
    static const char *const cases[][2] = {
        {"a", "/home/me/a"}, {"./a:b", "/home/me/./a:b"}, {"/a", "/a"}, {"", ""}};
    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char *path = image_path_in("/home/me", cases[i][0]);
        assert_string_equal(path, cases[i][1]);
        free(path);
    }
}

static void paths_among_the_options_get_the_folder_too(void **state)
{
    static const char text[] =
        "driver=fault,config=rules,file.file.filename=a,backing.file.filename=/b,"
        "file.filenames=c,my-filename=d,allow-path=x:/y::z/,locking=off";
    (void)state;
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_parse(options, text, NULL), 0);
    assert_int_equal(image_options_set_folder(options, "/home/me", NULL), 0);
    expect(options, "config", "/home/me/rules");
    expect(options, "file.file.filename", "/home/me/a");
    expect(options, "backing.file.filename", "/b");
    expect(options, "file.filenames", "c");
    expect(options, "my-filename", "d");
    expect(options, "allow-path", "/home/me/x:/y::/home/me/z/");
    expect(options, "locking", "off");
    expect(options, "driver", "fault");
    node_options_free(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mode_has_its_name),
        cmocka_unit_test(a_mode_says_what_of_the_nodes_and_what_of_the_writes),
        cmocka_unit_test(a_path_says_nothing_of_the_nodes),
        cmocka_unit_test(relative_paths_get_the_folder_and_others_stay),
        cmocka_unit_test(paths_among_the_options_get_the_folder_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
