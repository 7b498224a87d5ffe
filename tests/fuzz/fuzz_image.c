/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/fuzz/fuzz_image.h"

#include <errno.h>
#include <string.h>

#include "block/loop.h"
#include "block/node_options.h"
#include "block/workers.h"
#include "common/zero_scan.h"
#include "tests/fuzz/fuzz.h"

#define EXTENTS_MAX 40

/* Of AddressSanitizer, unless ASAN_OPTIONS says otherwise: no input has more memory than a MiB, so
 * what it has freed need not be kept for longer; and few frames of who asked for it. To run an
 * input that failed again, ask for more: ASAN_OPTIONS=malloc_context_size=30. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=1:thread_local_quarantine_size_kb=64:malloc_context_size=4";
}

/* --- the file in memory -------------------------------------------------------------------------
 *
 * It may be large and an input changes little of it, so what was changed, by pages, is put back
 * from a blank file, and no more.
 */

#define PAGE_BYTES 4096u

size_t file_length;
static uint8_t *file_bytes, *blank_bytes;
static bool *page_changed;
static size_t *changed_pages, changed_count; /* those pages, as they came */
static size_t file_bytes_max;

static void change(size_t offset, size_t length)
{
    FUZZ_CHECK(offset <= file_bytes_max && length <= file_bytes_max - offset);
    if (length == 0)
        return;
    for (size_t page = offset / PAGE_BYTES; page <= (offset + length - 1) / PAGE_BYTES; page++) {
        if (page_changed[page])
            continue;
        page_changed[page] = true;
        changed_pages[changed_count++] = page;
    }
}

void fuzz_file_put(size_t offset, const void *data, size_t length)
{
    change(offset, length);
    memcpy(file_bytes + offset, data, length);
}

void fuzz_file_put_byte(size_t offset, uint8_t byte, size_t length)
{
    change(offset, length);
    memset(file_bytes + offset, byte, length);
}

static void make_blank_again(void)
{
    while (changed_count > 0) {
        size_t page = changed_pages[--changed_count];
        memcpy(file_bytes + page * PAGE_BYTES, blank_bytes + page * PAGE_BYTES, PAGE_BYTES);
        page_changed[page] = false;
    }
}

static void make_file(const struct fuzz_image *image)
{
    file_bytes_max = (image->bytes_max + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    file_bytes = calloc(1, file_bytes_max);
    blank_bytes = calloc(1, file_bytes_max);
    page_changed = calloc(file_bytes_max / PAGE_BYTES, sizeof(*page_changed));
    changed_pages = calloc(file_bytes_max / PAGE_BYTES, sizeof(*changed_pages));
    FUZZ_CHECK(file_bytes && blank_bytes && page_changed && changed_pages);
    if (image->draw_blank)
        image->draw_blank();
    memcpy(blank_bytes, file_bytes, file_bytes_max);
}

static int memory_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    (void)err;
    node_options_take(options, "filename");
    node_options_take(options, "within");
    node_options_take(options, "allow-path");
    atomic_store(&node->size_bytes, file_length);
    return 0;
}

static void memory_co_close(struct block_node *node)
{
    (void)node;
}

static int memory_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    (void)node;
    FUZZ_CHECK(offset <= file_length && vec->length <= file_length - offset);
    vec_copy_from(vec, file_bytes + offset);
    return 0;
}

static int memory_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                           unsigned flags)
{
    (void)flags;
    if (offset > file_bytes_max || vec->length > file_bytes_max - offset)
        return -ENOSPC;
    change(offset, vec->length);
    vec_copy_to(vec, file_bytes + offset);
    if (offset + vec->length > file_length) {
        file_length = offset + vec->length;
        atomic_store(&node->size_bytes, file_length);
    }
    return 0;
}

const struct block_driver fuzz_file = {
    .name = "file",
    .flags = BLOCK_DRIVER_PROTOCOL | BLOCK_DRIVER_GROWS,
    .co_write = memory_co_write,
    .co_open = memory_co_open,
    .co_close = memory_co_close,
    .co_read = memory_co_read,
};

/* Work is done on the spot: no threads, so that every run is the same. */
static void submit_now(struct workers *workers, struct worker_job *job)
{
    (void)workers;
    job->work(job);
    job->done(job);
}

static void free_nothing(struct workers *workers)
{
    (void)workers;
}

static const struct workers_ops workers_on_the_spot = {.submit = submit_now, .free = free_nothing};

/* --- what is done -------------------------------------------------------------------------------
 */

static int co_read(struct block_node *node, uint64_t offset, uint8_t *data, size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    return node_co_read(node, offset, &vec);
}

static void co_check_range(struct block_node *node, uint64_t offset, size_t length, bool is_zero)
{
    static uint8_t first[FUZZ_BYTES], second[FUZZ_BYTES];
    memset(first, 0xaa, length);
    memset(second, 0x55, length);
    int ret = co_read(node, offset, first, length);
    FUZZ_CHECK(ret == co_read(node, offset, second, length));
    if (ret < 0)
        return;
    FUZZ_CHECK(memcmp(first, second, length) == 0);
    FUZZ_CHECK(!is_zero || zero_scan(first, length));
}

void fuzz_co_walk(struct block_node *node)
{
    uint64_t size = atomic_load(&node->size_bytes);
    uint64_t at = 0;
    for (unsigned i = 0; i < EXTENTS_MAX && at < size; i++) {
        struct block_extent extent;
        if (node_co_status(node, at, size - at, &extent) < 0) {
            at += 65536;
            continue;
        }
        FUZZ_CHECK(extent.length >= 1 && extent.length <= size - at);
        struct block_extent remembered;
        node_status_remembered(node, at, extent.length, &remembered);
        FUZZ_CHECK(remembered.length >= 1 && remembered.length <= extent.length);
        FUZZ_CHECK((extent.flags & BLOCK_EXTENT_ZERO) || !(remembered.flags & BLOCK_EXTENT_ZERO));
        size_t length = extent.length < FUZZ_BYTES ? (size_t)extent.length : FUZZ_BYTES;
        co_check_range(node, at, length, extent.flags & BLOCK_EXTENT_ZERO);
        co_check_range(node, at + extent.length - length, length, extent.flags & BLOCK_EXTENT_ZERO);
        at += extent.length;
    }
    if (size > FUZZ_BYTES)
        co_check_range(node, size - FUZZ_BYTES, FUZZ_BYTES, false);
}

static int co_write(struct block_node *node, uint64_t offset, uint8_t *data, size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    return node_co_write(node, offset, &vec, 0);
}

void fuzz_co_write_and_read(struct block_node *node, uint64_t offset, size_t length)
{
    static uint8_t written[FUZZ_BYTES], read[FUZZ_BYTES];
    memset(written, (int)(offset / 512) | 1, length);
    if (co_write(node, offset, written, length) < 0)
        return;
    if (co_read(node, offset, read, length) == 0)
        FUZZ_CHECK(memcmp(written, read, length) == 0);
}

/* --- one input ----------------------------------------------------------------------------------
 */

void fuzz_image_run(const struct fuzz_image *image, const uint8_t *data, size_t size)
{
    static struct loop *loop;
    static struct workers workers = {.ops = &workers_on_the_spot};
    static struct block_env env;
    if (!loop) {
        struct error err;
        FUZZ_CHECK(loop_new(&loop, 0, &poller_ev, &clock_monotonic, &err) == 0);
        FUZZ_CHECK(block_env_init(&env, &loop, 1, &workers, NULL, image->drivers, &err) == 0);
        make_file(image);
    }
    make_blank_again();
    image->fill(data, size);
    FUZZ_CHECK(file_length <= image->bytes_max);
    FUZZ_CHECK(loop_run_co(loop, image->co_run, &env) == 0);
}
