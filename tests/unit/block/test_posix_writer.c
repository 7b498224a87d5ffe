/* SPDX-License-Identifier: BSD-3-Clause */
/* posix_writer.c: writes that wait for each other, with workers that work when they are told to. */
#include "tests/unit/block/posix_fixture.h"

#include <sched.h>

#include "block/loop_private.h"
#include "block/posix.h"

#define WRITES 20
#define WRITE_BYTES 512

/* Keeps the job that it was given until the test runs it: there is one at a time, or the test
 * fails. */
struct slow_workers {
    struct workers workers;
    struct worker_job *job;
    unsigned jobs;
};

static void keep_job(struct workers *workers, struct worker_job *job)
{
    struct slow_workers *slow = container_of(workers, struct slow_workers, workers);
    assert_null(slow->job);
    slow->job = job;
    slow->jobs++;
}

static const struct workers_ops slow_workers_ops = {.submit = keep_job};

static void run_job(struct slow_workers *slow)
{
    struct worker_job *job = slow->job;
    slow->job = NULL;
    job->work(job);
    job->done(job);
}

struct scene {
    struct posix_fixture *fixture;
    struct posix_file file;
    struct slow_workers slow;
    unsigned ended;
    unsigned order[WRITES]; /* of the ends */
};

struct one_write {
    struct scene *scene;
    unsigned number;
    int64_t result;
    uint8_t data[WRITE_BYTES];
};

static void write_main(void *arg)
{
    struct one_write *write = arg;
    struct scene *scene = write->scene;
    struct iovec iov = {.iov_base = write->data, .iov_len = WRITE_BYTES};
    struct engine_op op = {
        .kind = ENGINE_WRITE,
        .fd = scene->file.fd,
        .offset = (uint64_t)write->number * WRITE_BYTES,
        .iov = &iov,
        .iov_count = 1,
    };
    memset(write->data, (int)write->number + 1, WRITE_BYTES);
    write->result = posix_writer_co_write(&scene->file, &scene->slow.workers, &op).result;
    scene->order[scene->ended++] = write->number;
}

static void scene_init(struct scene *scene, struct posix_fixture *fixture)
{
    *scene = (struct scene){.fixture = fixture, .slow.workers.ops = &slow_workers_ops};
    scene->file.files = &fixture->odd.files;
    scene->file.fd = open(fixture->path, O_RDWR | O_CREAT, 0600);
    assert_true(scene->file.fd >= 0);
    posix_writer_init(&scene->file.writer);
}

static void scene_fini(struct scene *scene)
{
    posix_writer_fini(&scene->file.writer);
    close(scene->file.fd);
}

static void start_writes(struct scene *scene, struct one_write *writes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        writes[i] = (struct one_write){.scene = scene, .number = i};
        assert_int_equal(coroutine_start(scene->fixture->loop, write_main, &writes[i]), 0);
    }
}

static void in_line_body(struct posix_fixture *fixture)
{
    struct scene scene;
    struct one_write writes[WRITES];
    scene_init(&scene, fixture);
    start_writes(&scene, writes, WRITES);
    assert_int_equal(scene.slow.jobs, 1); /* the first one's; the others are behind it */
    assert_int_equal(fixture->odd.writes, 0);
    for (unsigned made = 8; scene.ended < WRITES; made += 8) {
        run_job(&scene.slow); /* eight in one go, and the next in line has a job of its own */
        assert_int_equal(fixture->odd.writes, made < WRITES ? made : WRITES);
        while (scene.ended < fixture->odd.writes)
            coroutine_co_pause();
        while (scene.ended < WRITES && !scene.slow.job)
            coroutine_co_pause();
    }
    assert_int_equal(scene.slow.jobs, 3);
    bool has_ended[WRITES] = {false};
    for (unsigned i = 0; i < WRITES; i++) {
        uint8_t data[WRITE_BYTES];
        assert_int_equal(writes[i].result, WRITE_BYTES);
        assert_int_equal(pread(scene.file.fd, data, WRITE_BYTES, i * WRITE_BYTES), WRITE_BYTES);
        assert_memory_equal(data, writes[i].data, WRITE_BYTES);
        assert_int_equal(scene.order[i] / 8, i / 8);
        assert_false(has_ended[scene.order[i]]);
        has_ended[scene.order[i]] = true;
    }
    scene_fini(&scene);
}

static void eight_writes_take_one_worker_and_one_at_a_time(void **state)
{
    with_posix(state, in_line_body);
}

static void late_body(struct posix_fixture *fixture)
{
    struct scene scene;
    struct one_write writes[2], late;
    scene_init(&scene, fixture);
    start_writes(&scene, writes, 2);
    run_job(&scene.slow);
    while (scene.ended < 2)
        coroutine_co_pause();
    assert_null(scene.slow.job); /* nobody is in line: nobody leads */
    late = (struct one_write){.scene = &scene, .number = 2};
    assert_int_equal(coroutine_start(fixture->loop, write_main, &late), 0);
    assert_int_equal(scene.slow.jobs, 2);
    run_job(&scene.slow);
    while (scene.ended < 3)
        coroutine_co_pause();
    assert_int_equal(late.result, WRITE_BYTES);
    scene_fini(&scene);
}

static void who_comes_when_all_is_written_begins_anew(void **state)
{
    with_posix(state, late_body);
}

static void errors_body(struct posix_fixture *fixture)
{
    struct scene scene;
    struct one_write writes[3];
    scene_init(&scene, fixture);
    start_writes(&scene, writes, 3);
    fixture->odd.interrupt = 1; /* the first and the third: every other call */
    run_job(&scene.slow);
    fixture->odd.interrupt = 0;
    while (scene.ended < 3)
        coroutine_co_pause();
    assert_int_equal(writes[0].result, -EINTR);
    assert_int_equal(writes[1].result, WRITE_BYTES);
    assert_int_equal(writes[2].result, -EINTR);
    scene_fini(&scene);
}

static void each_write_has_its_own_result(void **state)
{
    with_posix(state, errors_body);
}

/* --- processors ---------------------------------------------------------------------------------
 */

/* What the worker is told to keep off: a processor and 1, or 0. */
static unsigned kept_off_by_a_write(struct scene *scene)
{
    struct one_write write = {.scene = scene};
    scene->ended = 0;
    assert_int_equal(coroutine_start(scene->fixture->loop, write_main, &write), 0);
    unsigned keep_off = scene->slow.job->keep_off;
    run_job(&scene->slow);
    while (scene->ended < 1)
        coroutine_co_pause();
    assert_int_equal(write.result, WRITE_BYTES);
    return keep_off;
}

static void crowd_body(struct posix_fixture *fixture)
{
    struct scene scene;
    cpu_set_t all, here;
    scene_init(&scene, fixture);
    fixture->loop->crowd.waited_ns = UINT64_MAX; /* or this machine may have a crowd */
    assert_int_equal(kept_off_by_a_write(&scene), 0);
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
    assert_int_equal(sched_setaffinity(0, sizeof(here), &here), 0);
    fixture->loop->crowd.until_ns = UINT64_MAX;
    assert_int_equal(kept_off_by_a_write(&scene), sched_getcpu() + 1);
    fixture->loop->crowd.until_ns = 0;
    assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
    scene_fini(&scene);
}

static void the_writer_of_a_crowded_loop_keeps_off_its_processor(void **state)
{
    with_posix(state, crowd_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_writes_take_one_worker_and_one_at_a_time),
        cmocka_unit_test(who_comes_when_all_is_written_begins_anew),
        cmocka_unit_test(each_write_has_its_own_result),
        cmocka_unit_test(the_writer_of_a_crowded_loop_keeps_off_its_processor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
