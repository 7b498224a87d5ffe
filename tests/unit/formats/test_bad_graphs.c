/* SPDX-License-Identifier: BSD-3-Clause */
/* Graphs that make no sense: each is refused with the whole path of the key, as the person wrote
 * it, and nothing stays open. The real drivers, on a real file. */
#include "tests/unit/block/posix_fixture.h"

#include "common/clock.h"
#include "formats/raw.h"

static const struct block_driver *const drivers[] = {&format_raw, &block_driver_file, NULL};

/* In texts, @ is the path of a file that is there. */
static char *with_path(const struct posix_fixture *fixture, const char *text)
{
    static char filled[NODE_OPTIONS_TEXT_MAX + 1000];
    size_t used = 0;
    for (const char *at = text; *at; at++) {
        if (*at == '@')
            used += (size_t)sprintf(filled + used, "%s", fixture->path);
        else
            filled[used++] = *at;
    }
    filled[used] = '\0';
    return filled;
}

/* What the server does with a description: read it, open it. */
static int co_open_text(struct posix_fixture *fixture, const char *text)
{
    struct block_node *node = NULL;
    struct node_options *options = node_options_new();
    int rc = *text == '{' ? node_options_parse_json(options, text, &fixture->err)
                          : node_options_parse(options, text, &fixture->err);
    if (rc < 0) {
        node_options_free(options);
        return rc;
    }
    rc = block_co_open(&fixture->env, options, &node, &fixture->err);
    if (rc == 0)
        block_co_node_unref(node);
    return rc;
}

static void co_expect_refused(struct posix_fixture *fixture, const char *text, const char *sentence)
{
    char expected[ERROR_MESSAGE_MAX];
    snprintf(expected, sizeof(expected), "%.500s", with_path(fixture, sentence));
    if (co_open_text(fixture, with_path(fixture, text)) == 0)
        fail_msg("'%s' is opened", text);
    if (strncmp(fixture->err.message, expected, strlen(expected)) != 0)
        fail_msg("'%s' gives: %s; not: %s", text, fixture->err.message, expected);
    assert_null(strchr(fixture->err.message, '\n'));
}

#define NEEDS_BELOW "missing; the driver raw needs a node below it; say "
#define NO_NAME "missing; say the path of a file, or "
#define TYPE "must be a string, not "
#define KNOWN "is not known; known drivers: raw, file"

static void co_refuse_each(struct posix_fixture *fixture)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        /* a missing child, a driver without a file */
        {"driver=raw", "file: " NEEDS_BELOW "file.filename=PATH"},
        {"driver=raw,file.driver=raw", "file.file: " NEEDS_BELOW "file.file.filename=PATH"},
        {"driver=raw,file.locking=off", "file.filename: " NO_NAME "file.driver"},
        {"{\"driver\":\"raw\",\"file\":{\"driver\":\"raw\"}}", "file.file: " NEEDS_BELOW},
        {"driver=raw,file.driver=raw,file.file.driver=file", "file.file.filename: missing; "},
        {"driver=raw,file.filename=", "file.filename: empty; "},
        {"filename=@", "driver: missing; say one of: raw, file"},
        {"driver=raw,file.driver=raw,file.file.size=1", "file.file.filename: " NO_NAME},
        /* names that nothing has */
        {"driver=floppy,filename=@", "driver: the driver 'floppy' " KNOWN},
        {"driver=raw,file.driver=rwa", "file.driver: the driver 'rwa' " KNOWN},
        {"driver=raw,file=top", "file: cannot be 'top': a node has one place in a graph"},
        {"driver=raw,file=,file.filename=@", "file: cannot be '': a node has one place in a graph"},
        {"driver=raw,file.driver=raw,file.file=file", "file.file: cannot be 'file': "},
        /* unknown keys */
        {"driver=raw,file.filename=@,sise=1", "sise: the driver raw knows no such option (given "
                                              "as '1')"},
        {"driver=raw,file.filename=@,file.sise=1", "file.sise: the driver file knows no such"},
        {"driver=raw,file.driver=raw,file.file.filename=@,file.file.a.b=1",
         "file.file.a.b: the driver file knows no such option"},
        {"driver=raw,file.filename=@,offset.deep=1", "offset.deep: the driver raw knows no such"},
        {"driver=file,filename=@,file.filename=@", "file.filename: the driver file knows no such"},
        {"driver=raw,file.filename=@,a\nb=1\n2", "a?b: the driver raw knows no such option (given "
                                                 "as '1?2')"},
        /* wrong types */
        {"{\"driver\":5,\"file.filename\":\"@\"}", "driver: " TYPE "the number 5"},
        {"{\"driver\":[\"raw\"],\"file.filename\":\"@\"}", "driver: " TYPE "an object or a list"},
        {"{\"driver\":\"raw\",\"file\":{\"driver\":{\"a\":1}}}", "file.driver: " TYPE "an object"},
        {"{\"driver\":\"raw\",\"file\":{\"filename\":true}}",
         "file.filename: " TYPE "true or false"},
        {"{\"driver\":\"raw\",\"file\":{\"filename\":7}}", "file.filename: " TYPE "the number 7"},
        {"{\"driver\":\"file\",\"filename\":{\"a\":\"b\"}}", "filename: " TYPE "an object or a"},
        {"{\"driver\":\"raw\",\"file\":{\"filename\":null}}", "file.filename: empty, null or"},
        {"{\"driver\":\"raw\",\"file\":5}", "file: cannot be '5': "},
        {"{\"driver\":\"raw\",\"file\":[\"@\"]}", "file.filename: " NO_NAME},
        {"{\"driver\":\"raw\",\"offset\":true,\"file.filename\":\"@\"}",
         "offset: cannot be 'on'; say a number of bytes"},
        {"driver=raw,file.filename=@,file.locking=perhaps",
         "file.locking: cannot be 'perhaps'; say auto, on or off"},
        {"driver=raw,file.filename=@,file.cache.direct=7",
         "file.cache.direct: cannot be '7'; say on or off"},
        {"driver=raw,file.driver=raw,file.read-only=ja,file.file.filename=@",
         "file.read-only: cannot be 'ja'; say on or off"},
        {"driver=raw,file.driver=raw,file.offset=999999,file.file.filename=@",
         "file.offset: 999999 is past the end of '@'"},
        /* what was said above is named where it was said */
        {"driver=raw,file.driver=raw,aio=warp,file.file.filename=@", "aio: cannot be 'warp'; "},
        {"driver=raw,file.driver=raw,file.discard=so,file.file.filename=@",
         "file.discard: cannot be 'so'; "},
        {"driver=raw,aio=native,file.filename=@", "aio: cannot open '@': aio=native was specified"},
        /* rights that contradict each other */
        {"driver=raw,file.filename=@,file.read-only=on", "file.read-only: '@' is read-only, but "},
        /* what is no path of a key */
        {"driver=raw,file..filename=@", "the option name 'file..filename' has an empty part"},
        {"{\"driver\":\"raw\",\"file\":{\"\":1}}", "the option name 'file.' has an empty part"},
        {"{\"a.b\":1,\"a\":{\"b\":1}}", "a.b: given twice"},
    };
    make_image(fixture, 4096);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        co_expect_refused(fixture, cases[i].text, cases[i].sentence);
}

/* An image that is its own child can only be written as a chain of options: a node is described
 * where it is used, and has no name that another could use again. A second node on the same file is
 * another opening of it, and the locks say so. */
static void co_refuse_a_second_writer(struct posix_fixture *fixture)
{
    struct block_node *node = NULL;
    make_image(fixture, 4096);
    node = open_image(fixture, NULL);
    co_expect_refused(fixture, "driver=raw,file.filename=@", "cannot open '@'");
    assert_non_null(strstr(fixture->err.message, "in use"));
    block_co_node_unref(node);
}

/* "file.file.[...]": so many times, and then the end. */
static const char *chain(unsigned levels, const char *end)
{
    static char text[NODE_OPTIONS_TEXT_MAX + 10];
    char *at = text;
    for (unsigned i = 0; i < levels && at - text + 5 < NODE_OPTIONS_TEXT_MAX - 100; i++)
        at += sprintf(at, "file.");
    sprintf(at, "%s", end);
    return text;
}

static const char *json_chain(unsigned levels)
{
    static char text[NODE_OPTIONS_TEXT_MAX * 32];
    char *at = text;
    for (unsigned i = 0; i < levels; i++)
        at += sprintf(at, "{\"driver\":\"raw\",\"file\":");
    at += sprintf(at, "{\"filename\":\"@\"}");
    memset(at, '}', levels);
    at[levels] = '\0';
    return text;
}

static void co_refuse_depth(struct posix_fixture *fixture)
{
    uint64_t begin_ns = clock_monotonic.now_ns(&clock_monotonic);
    make_image(fixture, 4096);
    co_expect_refused(fixture, chain(200, "filename=@"), "file.file.file.file.");
    assert_non_null(strstr(fixture->err.message, "...: more than 64 parts; "));
    co_expect_refused(fixture, chain(100000, "filename=@"), "file.file.file.file.");
    co_expect_refused(fixture, json_chain(200), "file.file.file.file.");
    assert_non_null(strstr(fixture->err.message, "file.file: the JSON is nested deeper"));
    assert_int_equal(co_open_text(fixture, json_chain(50000)), -EINVAL);
    struct node_options *options = node_options_new();
    static char path[600000];
    for (size_t i = 0; i < 100000; i++)
        memcpy(path + 5 * i, "file.", 6);
    strcat(path, "x");
    assert_int_equal(node_options_set(options, path, "1", &fixture->err), -EINVAL);
    node_options_free(options);
    /* Ten seconds where it takes milliseconds: only what grows with the square would take them. */
    assert_true(clock_monotonic.now_ns(&clock_monotonic) - begin_ns < UINT64_C(10000000000));
}

/* As deep as is allowed: everything a client can ask for fits the stack of its coroutine. */
static void co_use_the_deepest(struct posix_fixture *fixture)
{
    struct block_node *node = NULL;
    struct block_extent extent;
    uint8_t data[5000];
    make_image(fixture, 100000);
    struct node_options *options = node_options_new();
    assert_int_equal(
        node_options_parse_json(options, with_path(fixture, json_chain(63)), &fixture->err), 0);
    assert_int_equal(node_options_set(options, "cache.direct", "on", NULL), 0);
    if (block_co_open(&fixture->env, options, &node, &fixture->err) < 0) {
        print_message("not as O_DIRECT: %s\n", fixture->err.message);
        assert_int_equal(co_open_text(fixture, with_path(fixture, json_chain(63))), 0);
        return;
    }
    memset(data, 7, sizeof(data));
    assert_int_equal(write_at(node, 999, data, sizeof(data)), 0);
    assert_int_equal(node_co_zero(node, 50001, 333, BLOCK_FUA), 0);
    assert_int_equal(node_co_discard(node, 60001, 9000, 0), 0);
    assert_int_equal(node_co_cache(node, 1, 5000), 0);
    assert_int_equal(node_co_status(node, 1, 5000, &extent), 0);
    assert_int_equal(node_co_resize(node, 200000, &fixture->err), 0);
    assert_int_equal(node_co_flush(node), 0);
    memset(data, 0, sizeof(data));
    assert_int_equal(read_at(node, 999, data, sizeof(data)), 0);
    assert_int_equal(data[0], 7);
    assert_int_equal(data[sizeof(data) - 1], 7);
    block_co_node_unref(node);
}

/* The same with one more, which no text can say. */
static void co_refuse_the_sixty_fifth(struct posix_fixture *fixture)
{
    make_image(fixture, 4096);
    co_expect_refused(fixture, json_chain(64), "file.file.file.");
    struct block_node parent = {.env = &fixture->env, .name = (char[]){"deep"}, .depth = 64};
    struct block_node *child;
    struct node_options *options = node_options_new();
    node_options_set(options, "backing.filename", fixture->path, NULL);
    assert_int_equal(block_co_open_child(&parent, options, "backing", &child, &fixture->err),
                     -ELOOP);
    assert_string_equal(fixture->err.message,
                        "backing: more than 64 nodes below each other; does an image name itself?");
    node_options_free(options);
}

#define POSIX_TEST(name, body)                    \
    static void name(void **state)                \
    {                                             \
        with_posix_drivers(state, drivers, body); \
    }

POSIX_TEST(each_is_refused_with_the_path_of_the_key, co_refuse_each)
POSIX_TEST(a_file_is_not_written_by_two_nodes, co_refuse_a_second_writer)
POSIX_TEST(no_depth_of_the_text_does_harm, co_refuse_depth)
POSIX_TEST(the_deepest_graph_that_is_allowed_works, co_use_the_deepest)
POSIX_TEST(one_node_more_is_refused, co_refuse_the_sixty_fifth)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_refused_with_the_path_of_the_key),
        cmocka_unit_test(a_file_is_not_written_by_two_nodes),
        cmocka_unit_test(no_depth_of_the_text_does_harm),
        cmocka_unit_test(the_deepest_graph_that_is_allowed_works),
        cmocka_unit_test(one_node_more_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
