/* SPDX-License-Identifier: BSD-3-Clause */
/* shared_image.c: what one connection asks of an image that another one has opened, and the end. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/contrib/nbdkit-plugin/plugin_fixture.h"

static int write_byte(struct plugin_fixture *fixture)
{
    char byte = 'x';
    return request_run(&fixture->image,
                       &(struct request){.kind = REQUEST_WRITE, .length = 1, .data = &byte});
}

static void open_it(struct plugin_fixture *fixture, bool read_only)
{
    struct error err;
    if (shared_image_open(&fixture->image, read_only, &err) < 0)
        fail_msg("%s", err.message);
}

static void the_first_that_may_write_makes_it_writable(void **state)
{
    struct plugin_fixture fixture;
    (void)state;
    plugin_fixture_init(&fixture, (const char *const[]){"format", "raw", NULL});
    open_it(&fixture, true);
    assert_true(block_backend_is_read_only(fixture.image.backend));
    assert_int_equal(write_byte(&fixture), -EPERM);
    open_it(&fixture, false);
    assert_false(block_backend_is_read_only(fixture.image.backend));
    assert_int_equal(write_byte(&fixture), 0);
    open_it(&fixture, true); /* what others may stays */
    assert_int_equal(write_byte(&fixture), 0);
    assert_int_equal(plugin_fixture_fini(&fixture), 0);
}

static void what_shall_be_read_only_stays_so(void **state)
{
    struct plugin_fixture fixture;
    (void)state;
    plugin_fixture_init(&fixture, (const char *const[]){"format", "raw", "read-only", "on", NULL});
    open_it(&fixture, false);
    open_it(&fixture, false);
    assert_true(block_backend_is_read_only(fixture.image.backend));
    assert_int_equal(plugin_fixture_fini(&fixture), 0);
}

static void a_failure_is_told_and_the_next_connection_tries_again(void **state)
{
    struct plugin_fixture fixture;
    struct error err;
    char path[128];
    (void)state;
    plugin_fixture_init(&fixture, (const char *const[]){"format", "raw", NULL});
    strcpy(path, plugin_fixture_path(&fixture, "disk.img"));
    assert_int_equal(rename(path, plugin_fixture_path(&fixture, "away")), 0);
    assert_int_equal(shared_image_open(&fixture.image, false, &err), -ENOENT);
    assert_non_null(strstr(err.message, "there is no such file"));
    assert_null(fixture.image.backend);
    assert_int_equal(rename(plugin_fixture_path(&fixture, "away"), path), 0);
    open_it(&fixture, false);
    assert_int_equal(plugin_fixture_fini(&fixture), 0);
}

static void a_file_that_has_grown_is_seen_by_the_next_connection(void **state)
{
    struct plugin_fixture fixture;
    (void)state;
    plugin_fixture_init(&fixture, (const char *const[]){"format", "raw", NULL});
    open_it(&fixture, false);
    assert_int_equal(truncate(plugin_fixture_path(&fixture, "disk.img"), 2 * IMAGE_BYTES), 0);
    assert_int_equal(block_backend_size_bytes(fixture.image.backend), IMAGE_BYTES);
    open_it(&fixture, false);
    assert_int_equal(block_backend_size_bytes(fixture.image.backend), 2 * IMAGE_BYTES);
    assert_int_equal(plugin_fixture_fini(&fixture), 0);
}

/* --- the check beforehand ----------------------------------------------------------------------
 */

static int check_with(const char *const *words, struct error *err)
{
    struct plugin_fixture fixture;
    struct stand stand;
    plugin_fixture_init(&fixture, words);
    assert_int_equal(stand_init(&stand, 2, NULL), 0);
    int code = shared_image_check(&stand, &fixture.parameters, err);
    stand_fini(&stand);
    assert_int_equal(plugin_fixture_fini(&fixture), 0);
    return code;
}

static void the_check_tells_beforehand_what_cannot_be_opened(void **state)
{
    struct error err;
    (void)state;
    assert_int_equal(check_with((const char *const[]){"format", "raw", NULL}, &err), 0);
    assert_int_equal(check_with((const char *const[]){"format", "qcow2", NULL}, &err), -EINVAL);
    assert_non_null(strstr(err.message, "qcow2"));
    assert_int_equal(
        check_with((const char *const[]){"format", "raw", "speed", "warp", NULL}, &err), -EINVAL);
    assert_string_equal(err.message,
                        "speed: the driver raw knows no such option (given as 'warp')");
    assert_int_equal(check_with((const char *const[]){"format", "gif", NULL}, &err), -EINVAL);
    assert_int_equal(check_with((const char *const[]){"object", "throttle-group", NULL}, &err),
                     -EINVAL);
    assert_string_equal(err.message, "object: no id is given; say id=NAME");
}

/* --- the end -----------------------------------------------------------------------------------
 */

#define THREADS 8

struct load {
    struct plugin_fixture *fixture;
    atomic_uint written;
};

static void *write_until_refused(void *arg)
{
    struct load *load = arg;
    int code;
    while ((code = write_byte(load->fixture)) == 0)
        atomic_fetch_add(&load->written, 1);
    return (void *)(intptr_t)code;
}

/* Quick requests, ones that take a while, and ones that a limit would hold up for hours: none is
 * cut off. */
static void the_end_comes_under_load_and_waits_for_work_but_not_for_a_limit(void **state)
{
    static const char *const cases[][7] = {{"format", "raw", NULL},
                                           {"driver", "delay", "wdelay", "100ms", NULL},
                                           {"object", "throttle-group,id=g,x-iops-total=1",
                                            "driver", "throttle", "throttle-group", "g", NULL}};
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct plugin_fixture fixture;
        struct error err;
        pthread_t threads[THREADS];
        plugin_fixture_init(&fixture, cases[i]);
        open_it(&fixture, false);
        struct load load = {.fixture = &fixture};
        for (unsigned t = 0; t < THREADS; t++)
            assert_int_equal(pthread_create(&threads[t], NULL, write_until_refused, &load), 0);
        while (atomic_load(&load.written) < (i == 0 ? 100 : 1))
            usleep(1000);
        assert_int_equal(shared_image_close(&fixture.image, &err), 0);
        assert_null(fixture.image.backend);
        for (unsigned t = 0; t < THREADS; t++) {
            void *code;
            pthread_join(threads[t], &code);
            assert_int_equal((intptr_t)code, -ESHUTDOWN);
        }
        plugin_fixture_closed(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_that_may_write_makes_it_writable),
        cmocka_unit_test(what_shall_be_read_only_stays_so),
        cmocka_unit_test(a_failure_is_told_and_the_next_connection_tries_again),
        cmocka_unit_test(a_file_that_has_grown_is_seen_by_the_next_connection),
        cmocka_unit_test(the_check_tells_beforehand_what_cannot_be_opened),
        cmocka_unit_test(the_end_comes_under_load_and_waits_for_work_but_not_for_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
