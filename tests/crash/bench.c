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
#include "tests/crash/no_memory.h"

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

/* What the image shows at the beginning under some options. */
struct look {
    struct crash_bench *bench;
    const char *options;
    uint8_t **bytes;
    uint64_t *length;
};

static void co_look(void *arg)
{
    const struct look *look = arg;
    struct block_node *node;
    struct error err = {.message = ""};
    struct crash_open how = {
        .disks = look->bench->start, .alignment = 1, .read_only = true, .more = look->options};
    if (crash_bench_co_open(look->bench, &how, &node, &err) < 0)
        crash_die("%s: %s", look->bench->shape->name, err.message);
    if (crash_co_read_all(node, look->bytes, look->length) < 0)
        crash_die("%s: cannot be read", look->bench->shape->name);
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
    bench->drivers[2] = &block_driver_file;
    unsigned count = 3;
    if (format->driver != &format_raw)
        bench->drivers[count++] = &format_raw; /* of backing files */
    if (shape->filter)
        bench->drivers[count++] = shape->filter;
    crash_host_init(&bench->host);
    if (loop_new(&bench->loop, 0, &poller_ev, &clock_monotonic, &err) < 0 ||
        block_env_init(&bench->env, &bench->loop, 1, &bench->workers, &bench->host.files,
                       bench->drivers, &err) < 0)
        crash_die("%s", err.message);
    make_start(bench);
    struct look first = {bench, NULL, &bench->first, &bench->first_bytes};
    if (shape->bitmap)
        crash_bench_run(bench, co_look, &first);
    struct look still = {bench, shape->still, &bench->still, &bench->still_bytes};
    if (shape->still)
        crash_bench_run(bench, co_look, &still);
}

void crash_bench_fini(struct crash_bench *bench)
{
    for (unsigned i = 0; i < bench->disk_count; i++)
        crash_disk_fini(&bench->start[i]);
    crash_disk_fini(&bench->backing);
    free(bench->first);
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

/* Below a filter the image is its child "file". */
static void set_disk(struct crash_bench *bench, struct node_options *options,
                     struct crash_disk *disk, enum crash_role role, const struct crash_open *how)
{
    char prefix[32], path[64], value[16];
    uint32_t alignment = role == CRASH_BACKING ? 1 : how->alignment;
    snprintf(prefix, sizeof(prefix), "%s%s", bench->shape->filter ? "file." : "",
             bench->format->prefixes[role]);
    if (how->by_host) {
        crash_host_set_options(&bench->host, role, disk, alignment > 1, options, prefix);
        return;
    }
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
    bool was_armed = crash_no_memory_disarm();
    struct node_options *options = node_options_new();
    if (!options)
        return error_set(err, -ENOMEM, "no memory for options");
    for (unsigned i = 0; i < bench->disk_count; i++)
        set_disk(bench, options, &how->disks[i], i, how);
    if (bench->has_backing)
        set_disk(bench, options, &bench->backing, CRASH_BACKING, how);
    const struct block_driver *filter = bench->shape->filter;
    int rc = set(options, filter ? "file.driver" : "driver", format->name);
    if (rc == 0 && filter)
        rc = set(options, "driver", filter->name);
    if (rc == 0 && how->read_only)
        rc = set(options, "read-only", "on");
    if (rc == 0 && bench->shape->options)
        rc = node_options_parse(options, bench->shape->options, err);
    if (rc == 0 && how->more)
        rc = node_options_parse(options, how->more, err);
    if (rc < 0)
        crash_die("%s: bad options", bench->shape->name);
    crash_no_memory_rearm(was_armed);
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
