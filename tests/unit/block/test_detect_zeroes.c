/* SPDX-License-Identifier: BSD-3-Clause */
/* The option detect-zeroes of a node: which writes become zeroes, with which flags. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "block/coroutine.h"
#include "block/node_options.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 65536
#define LENGTH 4096

/* A "growing" disk, which takes FUA itself, with the option; mode NULL: without it. */
static void co_open(struct fixture *fixture, const char *driver, const char *mode)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    assert_non_null(options);
    assert_int_equal(node_options_set(options, "driver", "pass", NULL), 0);
    memory_disk_options(&fixture->disk, options, "file.", driver);
    if (mode)
        assert_int_equal(node_options_set(options, "detect-zeroes", mode, NULL), 0);
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
    memset(fixture->disk.data, 9, SIZE);
    memory_disk_forget_calls(&fixture->disk);
}

static void expect_call(struct fixture *fixture, enum memory_op op, uint64_t offset,
                        uint64_t length, unsigned flags)
{
    assert_true(fixture->disk.log_count > 0);
    const struct memory_call *call = &fixture->disk.log[fixture->disk.log_count - 1];
    assert_int_equal(call->op, op);
    assert_int_equal(call->offset, offset);
    assert_int_equal(call->length, length);
    assert_int_equal(call->flags, flags);
}

static void co_off_writes_zeroes(struct fixture *fixture, void *arg)
{
    static const uint8_t zeroes[LENGTH];
    (void)arg;
    const char *const modes[] = {NULL, "off"};
    for (unsigned i = 0; i < 2; i++) {
        co_open(fixture, "growing", modes[i]);
        assert_int_equal(fixture_co_write(fixture->node, 512, zeroes, LENGTH, 0), 0);
        expect_call(fixture, MEMORY_WRITE, 512, LENGTH, 0);
        fixture_co_close(fixture);
    }
}

static void co_on_makes_zeroes_and_keeps_the_space(struct fixture *fixture, void *arg)
{
    static uint8_t data[LENGTH];
    (void)arg;
    co_open(fixture, "growing", "on");
    assert_int_equal(fixture_co_write(fixture->node, 512, data, LENGTH, 0), 0);
    expect_call(fixture, MEMORY_ZERO, 512, LENGTH, BLOCK_NO_UNMAP);
    assert_int_equal(fixture_co_write(fixture->node, 7, data, 3, BLOCK_FUA), 0);
    expect_call(fixture, MEMORY_ZERO, 7, 3, BLOCK_NO_UNMAP | BLOCK_FUA);
    data[LENGTH - 1] = 1;
    assert_int_equal(fixture_co_write(fixture->node, 512, data, LENGTH, BLOCK_FUA), 0);
    expect_call(fixture, MEMORY_WRITE, 512, LENGTH, BLOCK_FUA);
    data[LENGTH - 1] = 0;
    assert_int_equal(fixture->disk.data[511], 9);
    assert_int_equal(fixture->disk.data[512 + LENGTH], 9);
    assert_int_equal(fixture_co_write(fixture->node, 0, data, 0, 0), 0);
    assert_int_equal(fixture_co_write(fixture->node, SIZE - 1, data, 2, 0), -ENOSPC);
    fixture_co_close(fixture);
}

static void co_all_parts_of_a_scattered_write_count(struct fixture *fixture, void *arg)
{
    uint8_t bytes[64] = {0};
    struct iovec iov[] = {{bytes, 20}, {NULL, 0}, {bytes + 20, 5}, {bytes + 30, 34}};
    struct block_vec vec = {.iov = iov, .skip = 1, .length = 50};
    (void)arg;
    co_open(fixture, "growing", "on");
    bytes[0] = bytes[25] = bytes[30 + 50 - 24] = 1; /* before, between and behind what is written */
    assert_int_equal(node_co_write(fixture->node, 0, &vec, 0), 0);
    expect_call(fixture, MEMORY_ZERO, 0, 50, BLOCK_NO_UNMAP);
    bytes[30 + 50 - 25] = 1;
    assert_int_equal(node_co_write(fixture->node, 0, &vec, 0), 0);
    expect_call(fixture, MEMORY_WRITE, 0, 50, 0);
    assert_int_equal(fixture->disk.data[49], 1);
    fixture_co_close(fixture);
}

static void co_a_driver_that_cannot_is_written_to(struct fixture *fixture, void *arg)
{
    static const uint8_t zeroes[LENGTH];
    struct node_options *options = node_options_new();
    (void)arg;
    assert_non_null(options);
    memory_disk_options(&fixture->disk, options, "", "bare");
    assert_int_equal(node_options_set(options, "detect-zeroes", "on", NULL), 0);
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, NULL), 0);
    assert_int_equal(fixture_co_write(fixture->node, 0, zeroes, LENGTH, 0), 0);
    expect_call(fixture, MEMORY_WRITE, 0, LENGTH, 0);
    fixture_co_close(fixture);
}

static struct node_options *unmap_options(struct fixture *fixture, const char *discard)
{
    struct node_options *options = node_options_new();
    assert_non_null(options);
    assert_int_equal(node_options_set(options, "driver", "pass", NULL), 0);
    assert_int_equal(node_options_set(options, "detect-zeroes", "unmap", NULL), 0);
    if (discard)
        assert_int_equal(node_options_set(options, "discard", discard, NULL), 0);
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    return options;
}

static void co_unmap_gives_the_space_back(struct fixture *fixture, void *arg)
{
    static const uint8_t zeroes[LENGTH];
    const char *const spellings[] = {"unmap", "on"};
    (void)arg;
    for (unsigned i = 0; i < 2; i++) {
        struct error err = {.message = ""};
        struct node_options *options = unmap_options(fixture, spellings[i]);
        if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
            fail_msg("%s", err.message);
        assert_int_equal(fixture_co_write(fixture->node, 0, zeroes, LENGTH, 0), 0);
        expect_call(fixture, MEMORY_ZERO, 0, LENGTH, 0);
        fixture_co_close(fixture);
    }
}

static void co_unmap_needs_discard(struct fixture *fixture, void *arg)
{
    const char *const spellings[] = {NULL, "ignore", "off"};
    (void)arg;
    for (unsigned i = 0; i < 3; i++) {
        struct error err = {.message = ""};
        assert_int_equal(block_co_open(&fixture->env, unmap_options(fixture, spellings[i]),
                                       &fixture->node, &err),
                         -EINVAL);
        assert_non_null(strstr(err.message, "detect-zeroes: cannot be unmap"));
        assert_non_null(strstr(err.message, "--discard=unmap"));
    }
}

static void co_another_mode_is_refused(struct fixture *fixture, void *arg)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    (void)arg;
    assert_non_null(options);
    memory_disk_options(&fixture->disk, options, "", "file");
    assert_int_equal(node_options_set(options, "detect-zeroes", "maybe", NULL), 0);
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, &err), -EINVAL);
    assert_non_null(strstr(err.message, "'maybe'"));
}

#define TESTS(X)                            \
    X(off_writes_zeroes)                    \
    X(on_makes_zeroes_and_keeps_the_space)  \
    X(all_parts_of_a_scattered_write_count) \
    X(a_driver_that_cannot_is_written_to)   \
    X(unmap_gives_the_space_back)           \
    X(unmap_needs_discard)                  \
    X(another_mode_is_refused)

#define DEFINE_TEST(name) FIXTURE_TEST(name, SIZE, SIZE)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
