/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/crash/bench.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/loop.h"
#include "block/node.h"
#include "block/node_options.h"
#include "formats/raw.h"

/* --- workers ------------------------------------------------------------------------------------
 *
 * A job is worked off at once, and its end is told in the loop's next round: so a seed makes the
 * same run again.
 */

struct told {
    struct loop_job job; /* first: it is what the loop gives back */
    struct worker_job *of;
};
static_assert(sizeof(struct told) <= sizeof(((struct worker_job *)NULL)->pool_space), "fits");

static void tell_done(struct loop_job *job)
{
    struct worker_job *of = ((struct told *)(void *)job)->of;
    of->done(of);
}

static void submit(struct workers *workers, struct worker_job *job)
{
    struct told *told = (void *)job->pool_space;
    (void)workers;
    *told = (struct told){.job.run = tell_done, .of = job};
    job->work(job);
    loop_post(job->loop, &told->job);
}

static const struct workers_ops workers_at_once = {.submit = submit};

/* --- life ---------------------------------------------------------------------------------------
 */

static void take_content(struct crash_disk *disk, struct crash_content *content)
{
    crash_disk_init(disk, CRASH_ROOM_BYTES);
    if (content->length > CRASH_ROOM_BYTES)
        crash_die("an image of %zu bytes is too large for these tests", (size_t)content->length);
    if (content->bytes)
        crash_disk_store(disk, 0, content->bytes, content->length);
    free(content->bytes);
}

static void make_start(struct crash_bench *bench)
{
    struct crash_content contents[CRASH_ROLES] = {{.bytes = NULL}};
    char folder[] = "/tmp/platter-crash-XXXXXX";
    if (!mkdtemp(folder))
        crash_die("cannot make the folder %s: %s", folder, error_text(-errno));
    bench->format->make(bench->shape, folder, contents);
    crash_shell("/", "rm -r '%s'", folder);
    bench->disk_count = contents[CRASH_DATA_FILE].bytes ? 2 : 1;
    bench->has_backing = contents[CRASH_BACKING].bytes;
    for (unsigned i = 0; i < bench->disk_count; i++)
        take_content(&bench->start[i], &contents[i]);
    take_content(&bench->backing, &contents[CRASH_BACKING]);
}

static void co_load_still(void *arg)
{
    struct crash_bench *bench = arg;
    struct block_node *node;
    struct error err = {.message = ""};
    struct crash_open how = {
        .disks = bench->start, .alignment = 1, .read_only = true, .more = bench->shape->still};
    if (crash_bench_co_open(bench, &how, &node, &err) < 0)
        crash_die("%s: %s", bench->shape->name, err.message);
    if (crash_co_read_all(node, &bench->still, &bench->still_bytes) < 0)
        crash_die("%s: cannot be read with %s", bench->shape->name, bench->shape->still);
    block_co_node_unref(node);
}

void crash_bench_init(struct crash_bench *bench, const struct crash_format *format,
                      const struct crash_shape *shape)
{
    struct error err;
    *bench =
        (struct crash_bench){.format = format, .shape = shape, .workers.ops = &workers_at_once};
    bench->drivers[0] = &crash_disk_driver;
    bench->drivers[1] = format->driver;
    if (format->driver != &format_raw)
        bench->drivers[2] = &format_raw; /* of backing files */
    if (loop_new(&bench->loop, 0, &poller_ev, &clock_monotonic, &err) < 0 ||
        block_env_init(&bench->env, &bench->loop, 1, &bench->workers, NULL, bench->drivers, &err) <
            0)
        crash_die("%s", err.message);
    make_start(bench);
    if (shape->still)
        crash_bench_run(bench, co_load_still, bench);
}

void crash_bench_fini(struct crash_bench *bench)
{
    for (unsigned i = 0; i < bench->disk_count; i++)
        crash_disk_fini(&bench->start[i]);
    crash_disk_fini(&bench->backing);
    free(bench->still);
    block_env_fini(&bench->env);
    loop_free(bench->loop);
}

void crash_bench_run(struct crash_bench *bench, void (*entry)(void *arg), void *arg)
{
    if (loop_run_co(bench->loop, entry, arg) < 0)
        crash_die("no memory for a coroutine");
}

/* --- opening ------------------------------------------------------------------------------------
 */

static int set(struct node_options *options, const char *path, const char *value)
{
    return node_options_set(options, path, value, NULL);
}

static void set_disk(struct node_options *options, struct crash_disk *disk, const char *prefix,
                     uint32_t alignment)
{
    char path[64], value[16];
    crash_disk_set_options(disk, options, prefix);
    snprintf(path, sizeof(path), "%salign", prefix);
    snprintf(value, sizeof(value), "%u", alignment);
    if (set(options, path, value) < 0)
        crash_die("no memory for options");
}

int crash_bench_co_open(struct crash_bench *bench, const struct crash_open *how,
                        struct block_node **ret_node, struct error *err)
{
    const struct crash_format *format = bench->format;
    struct node_options *options = node_options_new();
    if (!options)
        return error_set(err, -ENOMEM, "no memory for options");
    for (unsigned i = 0; i < bench->disk_count; i++)
        set_disk(options, &how->disks[i], format->prefixes[i], how->alignment);
    if (bench->has_backing)
        set_disk(options, &bench->backing, format->prefixes[CRASH_BACKING], 1);
    int rc = set(options, "driver", format->name);
    if (rc == 0 && how->read_only)
        rc = set(options, "read-only", "on");
    if (rc == 0 && bench->shape->options)
        rc = node_options_parse(options, bench->shape->options, err);
    if (rc == 0 && how->more)
        rc = node_options_parse(options, how->more, err);
    if (rc < 0) {
        node_options_free(options);
        return rc;
    }
    return block_co_open(&bench->env, options, ret_node, err);
}

int crash_co_read_all(struct block_node *node, uint8_t **ret_bytes, uint64_t *ret_length)
{
    struct iovec iov;
    uint64_t length = node_size(node);
    uint8_t *bytes = crash_alloc(length + 1);
    struct block_vec vec = vec_of_buffer(&iov, bytes, length);
    int rc = length > 0 ? node_co_read(node, 0, &vec) : 0;
    if (rc < 0) {
        free(bytes);
        return rc;
    }
    *ret_bytes = bytes;
    *ret_length = length;
    return 0;
}
