/* SPDX-License-Identifier: BSD-3-Clause */
/* payload_pipe.c: what goes into a pipe comes out of it, and there are never too many. */
#include "tests/unit/unit.h"

#include "server/payload_pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define BYTES 100000

static uint8_t sent[BYTES], got[BYTES];

static struct payload_pipe *get_filled(struct payload_pipes *pool)
{
    struct payload_pipe *pipe = payload_pipe_get(pool);
    assert_non_null(pipe);
    assert_int_equal(pipe->held, 0);
    for (size_t i = 0; i < BYTES; i++)
        sent[i] = (uint8_t)(i * 7 + i / 251);
    assert_int_equal(write(pipe->write_fd, sent, BYTES), BYTES);
    pipe->held = BYTES;
    return pipe;
}

static void what_is_in_a_pipe_goes_to_its_place_in_a_file(void **state)
{
    (void)state;
    struct payload_pipes pool;
    int fd = memfd_create("to", MFD_CLOEXEC);
    payload_pipes_init(&pool);
    struct payload_pipe *pipe = get_filled(&pool);
    assert_int_equal(fcntl(pipe->write_fd, F_GETPIPE_SZ), PAYLOAD_PIPE_BYTES);
    assert_int_equal(payload_pipe_to_file(pipe, fd, 5000, 10), 10);
    assert_int_equal(pipe->held, BYTES - 10);
    while (pipe->held > 1000)
        assert_true(payload_pipe_to_file(pipe, fd, 5000 + BYTES - pipe->held, pipe->held - 1000) >
                    0);
    assert_int_equal(payload_pipe_read(pipe, got), 0);
    assert_int_equal(pipe->held, 0);
    assert_memory_equal(got, sent + BYTES - 1000, 1000);
    assert_int_equal(pread(fd, got, BYTES, 5000), BYTES - 1000);
    assert_memory_equal(got, sent, BYTES - 1000);
    payload_pipe_put(&pool, pipe);
    payload_pipes_fini(&pool);
    close(fd);
}

static void what_a_file_refuses_stays_in_the_pipe(void **state)
{
    (void)state;
    struct payload_pipes pool;
    int fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int read_only = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && read_only >= 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
    payload_pipes_init(&pool);
    struct payload_pipe *pipe = get_filled(&pool);
    assert_int_equal(payload_pipe_to_file(pipe, fd, 0, BYTES), -EPERM);
    assert_int_equal(payload_pipe_to_file(pipe, read_only, 0, BYTES), -EBADF);
    assert_int_equal(pipe->held, BYTES);
    assert_int_equal(payload_pipe_read(pipe, got), 0);
    assert_memory_equal(got, sent, BYTES);
    payload_pipe_put(&pool, pipe);
    payload_pipes_fini(&pool);
    close(fd);
    close(read_only);
}

static void the_last_empty_one_is_used_next_and_one_that_holds_something_never(void **state)
{
    (void)state;
    struct payload_pipes pool;
    payload_pipes_init(&pool);
    struct payload_pipe *a = payload_pipe_get(&pool), *b = payload_pipe_get(&pool);
    int fd = b->read_fd;
    payload_pipe_put(&pool, a);
    payload_pipe_put(&pool, b);
    b = payload_pipe_get(&pool);
    assert_int_equal(b->read_fd, fd);
    payload_pipe_put(&pool, b);
    struct payload_pipe *full = get_filled(&pool);
    unsigned open_count = pool.open_count;
    payload_pipe_put(&pool, full);
    assert_int_equal(pool.open_count, open_count - 1);
    payload_pipes_fini(&pool);
}

static void there_are_no_more_than_the_bound(void **state)
{
    (void)state;
    struct payload_pipes pool;
    struct payload_pipe *all[PAYLOAD_PIPES_MAX];
    payload_pipes_init(&pool);
    for (unsigned i = 0; i < PAYLOAD_PIPES_MAX; i++)
        assert_non_null(all[i] = payload_pipe_get(&pool));
    assert_null(payload_pipe_get(&pool));
    for (unsigned i = 0; i < PAYLOAD_PIPES_MAX; i++)
        payload_pipe_put(&pool, all[i]);
    assert_int_equal(pool.open_count, PAYLOAD_PIPES_SPARE_MAX);
    payload_pipes_fini(&pool);
}

static void without_descriptors_there_is_none(void **state)
{
    (void)state;
    struct payload_pipes pool;
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    payload_pipes_init(&pool);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_null(payload_pipe_get(&pool));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    struct payload_pipe *pipe = payload_pipe_get(&pool);
    assert_non_null(pipe);
    payload_pipe_put(&pool, pipe);
    payload_pipes_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_in_a_pipe_goes_to_its_place_in_a_file),
        cmocka_unit_test(what_a_file_refuses_stays_in_the_pipe),
        cmocka_unit_test(the_last_empty_one_is_used_next_and_one_that_holds_something_never),
        cmocka_unit_test(there_are_no_more_than_the_bound),
        cmocka_unit_test(without_descriptors_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
