/* SPDX-License-Identifier: BSD-3-Clause */
/* objects.c and object_throttle.c: what --object says, in both spellings, and what makes no sense.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>

#include "block/env.h"
#include "block/loop.h"
#include "block/throttle_group.h"
#include "block/workers.h"
#include "block/objects.h"

static const struct block_driver *const no_drivers[] = {NULL};

struct scene {
    struct loop *loop;
    struct workers *workers;
    struct block_env env;
    struct objects objects;
};

static int set_up(void **state)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    assert_non_null(scene);
    assert_int_equal(loop_new(&scene->loop, 0, &poller_ev, &clock_monotonic, NULL), 0);
    assert_int_equal(workers_new(&scene->workers, 1, NULL), 0);
    assert_int_equal(
        block_env_init(&scene->env, &scene->loop, 1, scene->workers, NULL, no_drivers, NULL), 0);
    objects_init(&scene->objects, &scene->env, "--object");
    *state = scene;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *scene = *state;
    objects_fini(&scene->objects);
    block_env_fini(&scene->env);
    workers_free(scene->workers);
    loop_free(scene->loop);
    free(scene);
    return 0;
}

static struct throttle_group *group_of(struct scene *scene, const char *id)
{
    return throttle_groups_find(&scene->env.throttle_groups, id);
}

static void expect_made(struct scene *scene, const char *text)
{
    struct error err = {.message = ""};
    if (objects_add(&scene->objects, text, &err) != 0)
        fail_msg("%s: %s", text, err.message);
}

static void expect_refused(struct scene *scene, const char *text, const char *sentence)
{
    struct error err = {.message = ""};
    assert_int_equal(objects_add(&scene->objects, text, &err), -EINVAL);
    assert_string_equal(err.message, sentence);
}

static void expect_limits(struct scene *scene, const char *id, bool reads, bool writes)
{
    struct throttle_group *group = group_of(scene, id);
    assert_non_null(group);
    assert_int_equal(throttle_group_limits(group, THROTTLE_READ), reads);
    assert_int_equal(throttle_group_limits(group, THROTTLE_WRITE), writes);
}

static void a_group_is_made_in_every_spelling(void **state)
{
    struct scene *scene = *state;
    expect_made(scene, "throttle-group,id=none");
    expect_made(scene, "throttle-group,id=flat,x-iops-total=100");
    expect_made(scene, "throttle-group,id=dotted,limits.iops-read=100");
    expect_made(scene, "qom-type=throttle-group,id=keyed,x-bps-write=1M");
    expect_made(scene, "id=later,x-bps-write=1M,qom-type=throttle-group");
    expect_made(scene, "{\"qom-type\":\"throttle-group\",\"id\":\"json\","
                       "\"limits\":{\"bps-total\":1048576,\"iops-read\":7}}");
    expect_made(scene, "{\"qom-type\":\"throttle-group\",\"id\":\"json.flat\",\"x-bps-read\":1}");
    expect_limits(scene, "none", false, false);
    expect_limits(scene, "flat", true, true);
    expect_limits(scene, "dotted", true, false);
    expect_limits(scene, "keyed", false, true);
    expect_limits(scene, "later", false, true);
    expect_limits(scene, "json", true, true);
    expect_limits(scene, "json.flat", true, false);
    assert_null(group_of(scene, "nobody"));
}

/* Whether a value arrives is seen by the sentence that a wrong one gets. */
static void every_limit_has_its_key(void **state)
{
    struct scene *scene = *state;
    static const char *const names[] = {"bps-total",  "bps-read",  "bps-write",
                                        "iops-total", "iops-read", "iops-write"};
    static const char *const forms[] = {"x-", "limits."};
    for (unsigned i = 0; i < 6; i++) {
        for (unsigned j = 0; j < 2; j++) {
            const char *name = names[i], *form = forms[j];
            char text[200], sentence[200];
            snprintf(text, sizeof(text), "throttle-group,id=a,%s%s=5,%s%s-max=4", form, name, form,
                     name);
            snprintf(sentence, sizeof(sentence),
                     "--object 'a': %s-max, 4, is below %s, 5; a burst is not slower than the "
                     "average",
                     name, name);
            expect_refused(scene, text, sentence);
            snprintf(text, sizeof(text), "throttle-group,id=a,%s%s=5,%s%s-max=6,%s%s-max-length=0",
                     form, name, form, name, form, name);
            snprintf(sentence, sizeof(sentence),
                     "--object 'a': %s-max-length is 0; a burst lasts at least 1 second", name);
            expect_refused(scene, text, sentence);
        }
    }
    expect_refused(scene, "throttle-group,id=a,x-bps-total=5,x-iops-size=4K",
                   "--object 'a': iops-size is given, but no iops are limited; give iops-total, "
                   "iops-read or iops-write");
    assert_null(group_of(scene, "a"));
}

static void one_limit_in_two_spellings_is_refused(void **state)
{
    expect_refused(*state, "throttle-group,id=g,x-bps-total=1,limits.bps-total=1",
                   "--object 'g': x-bps-total and limits.bps-total are the same limit; give one of "
                   "them");
}

static void values_are_numbers(void **state)
{
    struct scene *scene = *state;
    static const char *const wrong[] = {"10k", "-1", "", "99999999999999999999", "1.5"};
    for (unsigned i = 0; i < 5; i++) {
        char text[100], sentence[200];
        snprintf(text, sizeof(text), "throttle-group,id=g,x-iops-total=%s", wrong[i]);
        snprintf(sentence, sizeof(sentence),
                 "--object 'g': x-iops-total: cannot be '%s'; say a number, in digits alone, below "
                 "2^64",
                 wrong[i]);
        expect_refused(scene, text, sentence);
    }
    expect_refused(scene, "throttle-group,id=g,limits.bps-total=much",
                   "--object 'g': limits.bps-total: cannot be 'much'; say a number of bytes below "
                   "2^64, as 4096, 64K, 10M, 1G or 2T");
}

static void an_unknown_type_is_refused_with_those_there_are(void **state)
{
    struct scene *scene = *state;
    expect_refused(scene, "iothread,id=a",
                   "--object: the type 'iothread' is not known; known types: throttle-group");
    expect_refused(scene, "", "--object: no type is given; begin with one of: throttle-group");
    expect_refused(scene, "id=a", "--object: no type is given; begin with one of: throttle-group");
    expect_refused(scene, "{\"id\":\"a\"}",
                   "--object: no type is given; begin with one of: throttle-group");
    expect_refused(scene, "throttle-group,id=a,qom-type=throttle-group",
                   "--object: the type is given twice, as 'throttle-group' and as qom-type");
}

static void an_id_is_a_name_and_its_own(void **state)
{
    struct scene *scene = *state;
    expect_refused(scene, "throttle-group", "--object: no id is given; say id=NAME");
    static const char *const wrong[] = {"", "9", "-a", "a b", "a/b", "\xc3\xa4"};
    for (unsigned i = 0; i < 6; i++) {
        char text[100], sentence[200];
        snprintf(text, sizeof(text), "throttle-group,id=%s", wrong[i]);
        snprintf(sentence, sizeof(sentence),
                 "--object: the id '%s' is no name; begin with a letter, and go on with letters, "
                 "digits, '-', '.' and '_'",
                 wrong[i]);
        expect_refused(scene, text, sentence);
    }
    expect_made(scene, "throttle-group,id=a-1.b_2,x-bps-read=1");
    expect_refused(scene, "throttle-group,id=a-1.b_2,x-bps-write=1",
                   "--object: the id 'a-1.b_2' is given twice; each object has its own");
    expect_limits(scene, "a-1.b_2", true, false); /* the first one stays */
}

static void what_the_type_does_not_know_is_refused(void **state)
{
    struct scene *scene = *state;
    expect_refused(
        scene, "throttle-group,id=g,x-bps-totl=1",
        "--object 'g': x-bps-totl: the object throttle-group knows no such option (given "
        "as '1')");
    assert_null(group_of(scene, "g")); /* what was made before that was seen is gone */
    struct error err;
    assert_int_equal(
        objects_add(&scene->objects,
                    "{\"qom-type\":\"throttle-group\",\"id\":\"g\",\"limits\":{\"bps\":1}}", &err),
        -EINVAL);
    assert_non_null(strstr(err.message, "limits.bps"));
}

static void text_that_is_none_is_refused(void **state)
{
    struct scene *scene = *state;
    struct error err;
    static const char *const wrong[] = {"throttle-group,",
                                        "throttle-group,id",
                                        "throttle-group,,",
                                        "throttle-group,id=g,=",
                                        "{",
                                        "{}x",
                                        "[]",
                                        "{\"id\":[]}"};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        err.message[0] = '\0';
        assert_int_equal(objects_add(&scene->objects, wrong[i], &err), -EINVAL);
        assert_memory_equal(err.message, "--object", 8);
        assert_null(strstr(err.message, "image"));
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_group_is_made_in_every_spelling),
        TEST(every_limit_has_its_key),
        TEST(one_limit_in_two_spellings_is_refused),
        TEST(values_are_numbers),
        TEST(an_unknown_type_is_refused_with_those_there_are),
        TEST(an_id_is_a_name_and_its_own),
        TEST(what_the_type_does_not_know_is_refused),
        TEST(text_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
