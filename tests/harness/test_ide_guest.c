/* SPDX-License-Identifier: BSD-3-Clause */
/* ide_guest.c: the requests of a guest's block layer, as a trace has them. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "tests/harness/ide_guest.h"
#include "tests/unit/block/block_fixture.h"

#define DISK_BYTES (1u << 20)
#define PENDING 1

struct asked {
    struct guest_request request;
    int result;
    unsigned number, *counter;
};

static void done(struct guest_request *request, int result)
{
    struct asked *asked = container_of(request, struct asked, request);
    assert_int_equal(asked->result, PENDING);
    asked->result = result;
    asked->number = (*asked->counter)++;
}

static void ask(struct ide_guest *guest, struct asked *asked, struct guest_request request,
                unsigned *counter)
{
    *asked = (struct asked){.request = request, .result = PENDING, .counter = counter};
    asked->request.done = done;
    guest->guest.ops->submit(&guest->guest, &asked->request);
    assert_int_equal(asked->result, PENDING);
}

static int co_ask(struct ide_guest *guest, struct guest_request request)
{
    struct asked asked;
    unsigned counter = 0;
    ask(guest, &asked, request, &counter);
    while (asked.result == PENDING)
        coroutine_co_pause();
    return asked.result;
}

struct scene {
    struct ide_guest *guest;
    struct block_backend *backend;
};

static struct scene co_open(struct fixture *fixture)
{
    struct scene scene;
    fixture_co_open(fixture, "file", true);
    assert_int_equal(block_backend_new(&scene.backend, fixture->node, false, NULL), 0);
    assert_int_equal(ide_guest_co_new(&scene.guest, fixture->loop, scene.backend), 0);
    return scene;
}

static void co_close(struct scene *scene)
{
    ide_guest_co_free(scene->guest);
    assert_int_equal(block_co_backend_free(scene->backend), 0);
}

static void co_a_guest_reads_writes_flushes_and_discards(struct fixture *fixture, void *arg)
{
    static uint8_t out[IDE_DRIVER_BYTES_MAX], in[IDE_DRIVER_BYTES_MAX];
    struct scene scene = co_open(fixture);
    (void)arg;
    assert_int_equal(scene.guest->guest.sector_count, DISK_BYTES / GUEST_SECTOR);
    assert_int_equal(scene.guest->guest.bytes_max, sizeof(out));
    for (unsigned by_pio = 0; by_pio < 2; by_pio++) {
        uint32_t bytes = by_pio ? 3 * GUEST_SECTOR : sizeof(out);
        struct guest_request request = {
            .op = GUEST_WRITE, .by_pio = by_pio, .sector = 3, .bytes = bytes, .buffer = out};
        memset(out, (int)by_pio + 7, sizeof(out));
        assert_int_equal(co_ask(scene.guest, request), 0);
        assert_memory_equal(fixture->disk.data + 3 * GUEST_SECTOR, out, bytes);
        request.op = GUEST_READ;
        request.buffer = in;
        assert_int_equal(co_ask(scene.guest, request), 0);
        assert_memory_equal(in, out, bytes);
    }
    assert_int_equal(co_ask(scene.guest, (struct guest_request){.op = GUEST_FLUSH}), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 1);
    struct guest_request discard = {.op = GUEST_DISCARD, .sector = 4, .bytes = GUEST_SECTOR};
    assert_int_equal(co_ask(scene.guest, discard), 0);
    assert_int_equal(fixture->disk.data[4 * GUEST_SECTOR], 0);
    assert_int_equal(fixture->disk.data[5 * GUEST_SECTOR], 8);
    co_close(&scene);
}
FIXTURE_TEST(a_guest_reads_writes_flushes_and_discards, DISK_BYTES, DISK_BYTES)

static void co_what_the_device_refuses_is_told(struct fixture *fixture, void *arg)
{
    static uint8_t data[GUEST_SECTOR];
    static const uint64_t beyond[] = {DISK_BYTES / GUEST_SECTOR, UINT64_C(1) << 48, UINT64_MAX};
    struct scene scene = co_open(fixture);
    (void)arg;
    assert_int_equal(
        co_ask(scene.guest, (struct guest_request){.op = GUEST_ZERO, .bytes = GUEST_SECTOR}),
        -ENOTSUP);
    for (unsigned i = 0; i < 3; i++) {
        struct guest_request request = {
            .op = GUEST_READ, .sector = beyond[i], .bytes = sizeof(data), .buffer = data};
        assert_int_equal(co_ask(scene.guest, request), -EIO);
        request.op = GUEST_WRITE;
        assert_int_equal(co_ask(scene.guest, request), -EIO);
        request.op = GUEST_DISCARD;
        assert_int_equal(co_ask(scene.guest, request), -EIO);
    }
    co_close(&scene);
}
FIXTURE_TEST(what_the_device_refuses_is_told, DISK_BYTES, DISK_BYTES)

static void co_requests_are_answered_in_the_order_they_came(struct fixture *fixture, void *arg)
{
    static uint8_t data[8][GUEST_SECTOR];
    struct scene scene = co_open(fixture);
    struct asked asked[8];
    unsigned counter = 0;
    (void)arg;
    fixture->disk.pauses_max = 3;
    for (unsigned i = 0; i < 8; i++)
        ask(scene.guest, &asked[i],
            (struct guest_request){.op = i % 2 ? GUEST_READ : GUEST_WRITE,
                                   .by_pio = i % 3 == 0,
                                   .sector = i,
                                   .bytes = GUEST_SECTOR,
                                   .buffer = data[i]},
            &counter);
    while (counter < 8)
        coroutine_co_pause();
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(asked[i].result, 0);
        assert_int_equal(asked[i].number, i);
    }
    co_close(&scene);
}
FIXTURE_TEST(requests_are_answered_in_the_order_they_came, DISK_BYTES, DISK_BYTES)

static void co_the_cache_is_switched_and_a_reset_switches_it_on(struct fixture *fixture, void *arg)
{
    static uint8_t data[GUEST_SECTOR];
    struct scene scene = co_open(fixture);
    struct guest_device *guest = &scene.guest->guest;
    struct guest_request write = {.op = GUEST_WRITE, .bytes = sizeof(data), .buffer = data};
    (void)arg;
    assert_int_equal(guest->ops->co_set_write_cache(guest, false), 0);
    assert_int_equal(co_ask(scene.guest, write), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 2); /* the cache, then the write */
    guest->ops->co_reset(guest);
    assert_int_equal(co_ask(scene.guest, write), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 2);
    assert_int_equal(guest->ops->co_set_write_cache(guest, true), 0);
    co_close(&scene);
}
FIXTURE_TEST(the_cache_is_switched_and_a_reset_switches_it_on, DISK_BYTES, DISK_BYTES)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guest_reads_writes_flushes_and_discards),
        cmocka_unit_test(what_the_device_refuses_is_told),
        cmocka_unit_test(requests_are_answered_in_the_order_they_came),
        cmocka_unit_test(the_cache_is_switched_and_a_reset_switches_it_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
