/* SPDX-License-Identifier: BSD-3-Clause */
/* dispatch_status.c: a chunk for each context, whole and in order, with both kinds of headers. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/block.h"
#include "block/dirty_bitmap.h"
#include "common/endian.h"
#include "protocol/wire.h"
#include "server/dispatch.h"
#include "server/dispatch_status.h"
#include "server/export.h"
#include "tests/unit/block/block_fixture.h"

#define GRANULE 512u
#define GRANULES 4096u
#define SIZE ((uint64_t)GRANULE * GRANULES)

/* All of the image is its own up to the middle, and nobody's from there on; the depth fails where
 * a test says so. */
static int depth_code;

static int co_is_own(struct block_node *node, uint64_t offset, uint64_t length, bool *ret_is_own,
                     uint64_t *ret_length)
{
    uint64_t left = offset < SIZE / 2 ? SIZE / 2 - offset : length;
    (void)node;
    *ret_is_own = offset < SIZE / 2;
    *ret_length = left < length ? left : length;
    return depth_code;
}

static struct block_driver driver;
static const struct block_driver *drivers[] = {&driver, NULL};

struct scene {
    struct export export;
    struct server_request request;
    uint8_t *buffer;
    size_t used;
};

/* Contexts 0 to 3: allocation, depth, a bitmap in which each second granule is dirty, a clean one.
 */
static void scene_co_init(struct scene *scene, struct fixture *fixture)
{
    struct dirty_bitmap *striped, *clean;
    memset(scene, 0, sizeof(*scene));
    fixture_co_open(fixture, "file", false);
    assert_int_equal(block_backend_new(&scene->export.backend, fixture->node, true, NULL), 0);
    assert_int_equal(dirty_bitmap_new(&striped, SIZE, 9), 0);
    assert_int_equal(dirty_bitmap_new(&clean, SIZE, 16), 0);
    for (unsigned i = 1; i < GRANULES; i += 2)
        dirty_bitmap_set(striped, i * GRANULE, 1);
    scene->export.contexts.count = 4;
    scene->export.contexts.all[1].kind = EXPORT_CONTEXT_DEPTH;
    scene->export.contexts.all[2] =
        (struct export_context){.kind = EXPORT_CONTEXT_BITMAP, .bitmap = striped};
    scene->export.contexts.all[3] =
        (struct export_context){.kind = EXPORT_CONTEXT_BITMAP, .bitmap = clean};
    depth_code = 0;
}

static void scene_co_fini(struct scene *scene, struct fixture *fixture)
{
    for (unsigned i = 2; i < 4; i++)
        dirty_bitmap_free((struct dirty_bitmap *)(uintptr_t)scene->export.contexts.all[i].bitmap);
    assert_int_equal(block_co_backend_free(scene->export.backend), 0);
    fixture_co_close(fixture);
    free(scene->buffer);
}

static int co_ask(struct scene *scene, enum nbd_headers headers, uint64_t mask, uint64_t offset,
                  uint64_t length, uint16_t flags)
{
    struct server_request *request = &scene->request;
    request->export = &scene->export;
    request->size_bytes = SIZE;
    request->context_mask = mask;
    request->wire = (struct request){.cookie = 77,
                                     .offset = offset,
                                     .length = length,
                                     .command = NBD_CMD_BLOCK_STATUS,
                                     .flags = flags,
                                     .headers = headers};
    /* Exactly as much as is promised to be enough: the sanitizer sees what is too little. */
    free(scene->buffer);
    scene->buffer = malloc(dispatch_cost_bytes(&request->wire, mask));
    assert_non_null(scene->buffer);
    request->buffer = scene->buffer;
    scene->used = 0;
    return dispatch_co_status(request);
}

struct extent {
    uint64_t length;
    uint32_t flags;
};

/* The next chunk; returns how many extents it has, the first ones in extents. */
static uint32_t next_chunk(struct scene *scene, bool is_last, uint32_t id, struct extent *extents,
                           uint32_t extents_max)
{
    const struct iovec *iov = &scene->request.reply.iov[0];
    const uint8_t *at = (const uint8_t *)iov->iov_base + scene->used;
    bool is_extended = scene->request.wire.headers == NBD_HEADERS_EXTENDED;
    size_t head = is_extended ? NBD_EXTENDED_CHUNK_SIZE : NBD_CHUNK_SIZE;
    size_t size = is_extended ? NBD_EXTENDED_DESCRIPTOR_SIZE : NBD_DESCRIPTOR_SIZE;
    assert_int_equal(scene->request.reply.iov_count, 1);
    assert_int_equal(load_be32(at),
                     is_extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
    assert_int_equal(load_be16(at + 4), is_last ? NBD_REPLY_FLAG_DONE : 0);
    assert_int_equal(load_be64(at + 8), 77);
    uint64_t length = is_extended ? load_be64(at + 24) : load_be32(at + 16);
    const uint8_t *from = at + head + (is_extended ? 8 : 4);
    uint32_t count = (uint32_t)((length - (is_extended ? 8 : 4)) / size);
    assert_int_equal(load_be32(at + head), id);
    if (is_extended)
        assert_int_equal(load_be32(at + head + 4), count);
    for (uint32_t i = 0; i < count && i < extents_max; i++, from += size) {
        extents[i].length = is_extended ? load_be64(from) : load_be32(from);
        extents[i].flags = load_be32(from + (is_extended ? 12 : 4));
    }
    scene->used += head + length;
    if (is_last)
        assert_int_equal(scene->used, iov->iov_len);
    return count;
}

static void expect_extent(const struct extent *extent, uint64_t length, uint32_t flags)
{
    assert_int_equal(extent->length, length);
    assert_int_equal(extent->flags, flags);
}

static void co_each_context_has_a_chunk(struct fixture *fixture, void *arg)
{
    static const enum nbd_headers kinds[] = {NBD_HEADERS_STRUCTURED, NBD_HEADERS_EXTENDED};
    struct scene *scene = calloc(1, sizeof(*scene));
    struct extent extents[600];
    (void)arg;
    scene_co_init(scene, fixture);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(co_ask(scene, kinds[i], 0xf, SIZE / 2 - GRANULE, 3 * GRANULE, 0), 0);
        assert_in_range(next_chunk(scene, false, 1, extents, 600), 1, 3);
        assert_int_equal(next_chunk(scene, false, 2, extents, 600), 2);
        expect_extent(&extents[0], GRANULE, 1);
        expect_extent(&extents[1], 2 * GRANULE, 0);
        assert_int_equal(next_chunk(scene, false, 3, extents, 600), 3);
        for (unsigned n = 0; n < 3; n++)
            expect_extent(&extents[n], GRANULE, n != 1);
        assert_int_equal(next_chunk(scene, true, 4, extents, 600), 1);
        expect_extent(&extents[0], 3 * GRANULE, 0);
    }
    scene_co_fini(scene, fixture);
    free(scene);
}

static void co_what_was_not_selected_is_not_told(struct fixture *fixture, void *arg)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    struct extent extents[2];
    (void)arg;
    scene_co_init(scene, fixture);
    assert_int_equal(co_ask(scene, NBD_HEADERS_STRUCTURED, 1 << 3, 1, SIZE - 1, 0), 0);
    assert_int_equal(next_chunk(scene, true, 4, extents, 2), 1);
    expect_extent(&extents[0], SIZE - 1, 0);
    assert_int_equal(co_ask(scene, NBD_HEADERS_EXTENDED, 1 << 1 | 1 << 2, SIZE / 2, 1, 0), 0);
    assert_int_equal(next_chunk(scene, false, 2, extents, 2), 1);
    expect_extent(&extents[0], 1, 0);
    assert_int_equal(next_chunk(scene, true, 3, extents, 2), 1);
    expect_extent(&extents[0], 1, 0);
    scene_co_fini(scene, fixture);
    free(scene);
}

static void co_with_req_one_each_has_one_extent(struct fixture *fixture, void *arg)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    struct extent extents[2];
    (void)arg;
    scene_co_init(scene, fixture);
    assert_int_equal(
        co_ask(scene, NBD_HEADERS_STRUCTURED, 1 << 1 | 1 << 2, 0, SIZE, NBD_CMD_FLAG_REQ_ONE), 0);
    assert_int_equal(next_chunk(scene, false, 2, extents, 2), 1);
    expect_extent(&extents[0], SIZE / 2, 1);
    assert_int_equal(next_chunk(scene, true, 3, extents, 2), 1);
    expect_extent(&extents[0], GRANULE, 0);
    scene_co_fini(scene, fixture);
    free(scene);
}

/* Memory for one context is never that of another. */
static void co_as_many_extents_as_fit(struct fixture *fixture, void *arg)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    struct extent extents[600];
    (void)arg;
    scene_co_init(scene, fixture);
    const struct dirty_bitmap *clean = scene->export.contexts.all[3].bitmap;
    scene->export.contexts.all[3].bitmap = scene->export.contexts.all[2].bitmap;
    for (unsigned i = 0; i < 2; i++) {
        enum nbd_headers headers = i ? NBD_HEADERS_EXTENDED : NBD_HEADERS_STRUCTURED;
        assert_int_equal(co_ask(scene, headers, 1 << 2 | 1 << 3, 0, SIZE, 0), 0);
        assert_int_equal(next_chunk(scene, false, 3, extents, 600), 512);
        assert_int_equal(next_chunk(scene, true, 4, extents, 600), 512);
        for (unsigned n = 0; n < 512; n++)
            expect_extent(&extents[n], GRANULE, n % 2);
    }
    scene->export.contexts.all[3].bitmap = clean;
    scene_co_fini(scene, fixture);
    free(scene);
}

static void co_one_that_fails_fails_the_request(struct fixture *fixture, void *arg)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    (void)arg;
    scene_co_init(scene, fixture);
    depth_code = -EIO;
    assert_int_equal(co_ask(scene, NBD_HEADERS_STRUCTURED, 0xf, 0, SIZE, 0), -EIO);
    assert_int_equal(scene->request.reply.iov_count, 0);
    scene_co_fini(scene, fixture);
    free(scene);
}

#define STATUS_TEST(name) FIXTURE_TEST_WITH(name, drivers, SIZE, SIZE)
STATUS_TEST(each_context_has_a_chunk)
STATUS_TEST(what_was_not_selected_is_not_told)
STATUS_TEST(with_req_one_each_has_one_extent)
STATUS_TEST(as_many_extents_as_fit)
STATUS_TEST(one_that_fails_fails_the_request)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_context_has_a_chunk),
        cmocka_unit_test(what_was_not_selected_is_not_told),
        cmocka_unit_test(with_req_one_each_has_one_extent),
        cmocka_unit_test(as_many_extents_as_fit),
        cmocka_unit_test(one_that_fails_fails_the_request),
    };
    driver = *memory_drivers[0];
    driver.co_is_own = co_is_own;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
