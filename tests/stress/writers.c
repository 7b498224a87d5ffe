/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One file, written from four loops through its one writer (block/posix_writer.c).
 *
 * Checked: no two writes are made at the same time, every write comes to its end (one that is
 * forgotten in the line is a hang), and has made what it was told to, once.
 */
#include "tests/stress/stress.h"

#include <string.h>

#include "block/host_files.h"
#include "block/posix.h"

#define ACTORS 6 /* on each loop */
#define WRITES 400
#define BYTES 64

struct shared {
    struct stress stress;
    struct host_files files;
    struct posix_file file;
    atomic_uint numbers; /* hands every actor one */
    atomic_uint writing, made;
    uint8_t image[STRESS_LOOPS * ACTORS * BYTES]; /* the file, one place an actor */
};

static ssize_t write_alone(struct host_files *files, int fd, const struct iovec *iov, int iov_count,
                           uint64_t offset)
{
    struct shared *shared = container_of(files, struct shared, files);
    (void)fd;
    check(atomic_fetch_add(&shared->writing, 1) == 0);
    check(iov_count == 1 && offset + iov->iov_len <= sizeof(shared->image));
    memcpy(shared->image + offset, iov->iov_base, iov->iov_len);
    atomic_fetch_add(&shared->made, 1);
    check(atomic_fetch_sub(&shared->writing, 1) == 1);
    return (ssize_t)iov->iov_len;
}

static void actor(void *arg)
{
    struct shared *shared = arg;
    unsigned number = atomic_fetch_add(&shared->numbers, 1);
    struct random random;
    uint8_t data[BYTES];
    stress_random(&shared->stress, &random, number);
    for (unsigned i = 0; i < WRITES; i++) {
        struct iovec iov = {.iov_base = data, .iov_len = 1 + random_below(&random, BYTES)};
        struct engine_op op = {
            .kind = ENGINE_WRITE, .offset = (uint64_t)number * BYTES, .iov = &iov, .iov_count = 1};
        memset(data, (int)i, sizeof(data));
        check(posix_writer_co_write(&shared->file, shared->stress.workers, &op).result ==
              (int64_t)iov.iov_len);
        check(memcmp(shared->image + op.offset, data, iov.iov_len) == 0);
        if (random_once_in(&random, 10))
            stress_co_dawdle(&shared->stress, &random);
    }
}

int main(void)
{
    struct shared *shared = calloc(1, sizeof(*shared));
    check(shared);
    stress_init(&shared->stress, "writers");
    shared->files.pwritev = write_alone;
    shared->file.files = &shared->files;
    posix_writer_init(&shared->file.writer);
    for (unsigned i = 0; i < STRESS_LOOPS * ACTORS; i++)
        stress_spawn(&shared->stress, i % STRESS_LOOPS, actor, shared);
    stress_run(&shared->stress);
    check(atomic_load(&shared->made) == STRESS_LOOPS * ACTORS * WRITES);
    posix_writer_fini(&shared->file.writer);
    stress_fini(&shared->stress);
    free(shared);
    return 0;
}
