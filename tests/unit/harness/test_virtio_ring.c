/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio_ring.c and virtio_driver_ring.c: chains go down and come back, notifications are asked for
 * and left out as both sides say, and a ring that makes no sense is broken and nothing else. */
#include "tests/unit/unit.h"

#include <endian.h>
#include <errno.h>

#include "common/random.h"
#include "tests/harness/virtio_driver_ring.h"
#include "tests/harness/virtio_ring.h"

#define MEMORY_BYTES (4 << 20)
#define MEMORY_ADDRESS 0x100000
#define DATA_ADDRESS (MEMORY_ADDRESS + (2 << 20))
#define SIZE 8
#define EVENT_INDEX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)

/* Both halves of one queue over one guest memory. */
struct pair {
    struct guest_memory memory;
    struct virtio_driver_ring driver;
    struct virtio_ring ring;
    struct iovec iov[SIZE];
    struct virtio_chain chain;
};

static void pair_init(struct pair *pair, uint64_t features)
{
    *pair = (struct pair){.chain = {.iov = pair->iov, .iov_max = SIZE}};
    pair->memory.region_count = 1;
    pair->memory.regions[0] = (struct guest_region){
        .address = MEMORY_ADDRESS, .length = MEMORY_BYTES, .host = calloc(1, MEMORY_BYTES)};
    assert_non_null(pair->memory.regions[0].host);
    virtio_driver_ring_init(&pair->driver, &pair->memory, MEMORY_ADDRESS, SIZE, features);
    assert_int_equal(
        virtio_ring_start(&pair->ring, &pair->memory, SIZE, &pair->driver.place, features), 0);
}

static void pair_fini(struct pair *pair)
{
    free(pair->memory.regions[0].host);
}

static void *host_at(struct pair *pair, uint64_t address)
{
    return guest_memory_range(&pair->memory, address, 1);
}

/* A chain of that many buffers of 512 bytes, one after the other in the data area. */
static bool add(struct pair *pair, unsigned readable, unsigned writable, void *token)
{
    struct virtio_buffer buffers[SIZE + 1];
    for (unsigned i = 0; i < readable + writable; i++)
        buffers[i] =
            (struct virtio_buffer){.address = DATA_ADDRESS + 512 * (uint64_t)i, .length = 512};
    return virtio_driver_ring_add(&pair->driver, buffers, readable, writable, token);
}

static int pop(struct pair *pair)
{
    return virtio_ring_pop(&pair->ring, &pair->chain);
}

/* --- chains ------------------------------------------------------------------------------------
 */

static void check_one_chain(uint64_t features)
{
    struct pair pair;
    uint32_t written;
    int token;
    pair_init(&pair, features);
    assert_true(add(&pair, 2, 3, &token));
    assert_int_equal(pair.driver.free_count, features & INDIRECT ? SIZE - 1 : SIZE - 5);
    assert_int_equal(pop(&pair), 0); /* not shown yet */
    assert_true(virtio_driver_ring_kick_due(&pair.driver));
    assert_int_equal(pop(&pair), 1);
    assert_int_equal(pair.chain.readable_count, 2);
    assert_int_equal(pair.chain.writable_count, 3);
    assert_int_equal(pair.chain.readable_bytes, 1024);
    assert_int_equal(pair.chain.writable_bytes, 1536);
    for (unsigned i = 0; i < 5; i++) {
        assert_ptr_equal(pair.iov[i].iov_base, host_at(&pair, DATA_ADDRESS + 512 * i));
        assert_int_equal(pair.iov[i].iov_len, 512);
    }
    assert_int_equal(pop(&pair), 0);
    assert_null(virtio_driver_ring_used(&pair.driver, &written));
    virtio_ring_push(&pair.ring, pair.chain.head, 1536);
    assert_null(virtio_driver_ring_used(&pair.driver, &written)); /* not shown yet */
    assert_true(virtio_ring_publish(&pair.ring));
    assert_ptr_equal(virtio_driver_ring_used(&pair.driver, &written), &token);
    assert_int_equal(written, 1536);
    assert_int_equal(pair.driver.free_count, SIZE);
    assert_null(pair.ring.broken);
    pair_fini(&pair);
}

static void a_chain_goes_down_and_comes_back(void **state)
{
    (void)state;
    check_one_chain(0);
    check_one_chain(EVENT_INDEX);
}

static void a_chain_may_lie_in_an_indirect_table(void **state)
{
    (void)state;
    check_one_chain(INDIRECT);
    check_one_chain(INDIRECT | EVENT_INDEX);
}

static void a_buffer_that_spans_two_regions_is_two_pieces(void **state)
{
    struct pair pair;
    struct virtio_buffer buffer = {.address = DATA_ADDRESS - 100, .length = 300};
    int token;
    (void)state;
    pair_init(&pair, 0);
    /* The same memory as before, told as two regions. */
    pair.memory.regions[1] = pair.memory.regions[0];
    pair.memory.regions[0].length = DATA_ADDRESS - MEMORY_ADDRESS;
    pair.memory.regions[1].address = DATA_ADDRESS;
    pair.memory.regions[1].host += DATA_ADDRESS - MEMORY_ADDRESS;
    pair.memory.region_count = 2;
    assert_true(virtio_driver_ring_add(&pair.driver, &buffer, 1, 0, &token));
    virtio_driver_ring_kick_due(&pair.driver);
    assert_int_equal(pop(&pair), 1);
    assert_int_equal(pair.chain.readable_count, 2);
    assert_int_equal(pair.iov[0].iov_len, 100);
    assert_int_equal(pair.iov[1].iov_len, 200);
    pair_fini(&pair);
}

static void chains_come_back_in_any_order_and_indexes_wrap(void **state)
{
    struct pair pair;
    struct random random;
    int tokens[4], *held[4];
    uint16_t heads[4];
    (void)state;
    pair_init(&pair, EVENT_INDEX);
    random_seed(&random, 1);
    for (unsigned round = 0; round < 40000; round++) {
        uint32_t written;
        unsigned first = (unsigned)random_below(&random, 4);
        for (unsigned i = 0; i < 4; i++)
            assert_true(add(&pair, 1, 1, &tokens[i]));
        virtio_driver_ring_kick_due(&pair.driver);
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(pop(&pair), 1);
            heads[i] = pair.chain.head;
        }
        for (unsigned i = 0; i < 4; i++)
            virtio_ring_push(&pair.ring, heads[(first + i) % 4], i);
        virtio_ring_publish(&pair.ring);
        for (unsigned i = 0; i < 4; i++) {
            held[i] = virtio_driver_ring_used(&pair.driver, &written);
            assert_ptr_equal(held[i], &tokens[(first + i) % 4]);
            assert_int_equal(written, i);
        }
    }
    assert_null(pair.ring.broken);
    assert_int_equal(pair.driver.free_count, SIZE);
    pair_fini(&pair);
}

static void a_ring_goes_on_where_another_device_left_it(void **state)
{
    struct pair pair;
    int token;
    (void)state;
    pair_init(&pair, 0);
    pair.driver.next_avail = pair.driver.kicked_avail = pair.driver.last_used = 65530;
    pair.ring.avail->idx = pair.ring.used->idx = htole16(65530);
    assert_int_equal(pop(&pair), -EINVAL); /* one that begins at 0 finds nonsense */
    virtio_ring_stop(&pair.ring);
    virtio_ring_start(&pair.ring, &pair.memory, SIZE, &pair.driver.place, 0);
    virtio_ring_continue(&pair.ring, 65530);
    assert_int_equal(pop(&pair), 0);
    for (unsigned i = 0; i < 10; i++) {
        uint32_t written;
        assert_true(add(&pair, 1, 0, &token));
        virtio_driver_ring_kick_due(&pair.driver);
        assert_int_equal(pop(&pair), 1);
        virtio_ring_push(&pair.ring, pair.chain.head, 0);
        assert_true(virtio_ring_publish(&pair.ring));
        assert_ptr_equal(virtio_driver_ring_used(&pair.driver, &written), &token);
    }
    pair_fini(&pair);
}

/* --- notifications -----------------------------------------------------------------------------
 */

static void kicks_are_off_while_the_device_takes_chains(void **state)
{
    struct pair pair;
    int token;
    (void)state;
    pair_init(&pair, 0);
    virtio_ring_kicks_off(&pair.ring);
    assert_true(add(&pair, 1, 0, &token));
    assert_false(virtio_driver_ring_kick_due(&pair.driver));
    assert_int_equal(pop(&pair), 1);
    assert_false(virtio_ring_kicks_on(&pair.ring)); /* nothing was added meanwhile */
    assert_true(add(&pair, 1, 0, &token));
    assert_true(virtio_driver_ring_kick_due(&pair.driver));
    pair_fini(&pair);
}

static void the_second_look_finds_what_came_before_kicks_were_on(void **state)
{
    static const uint64_t features[] = {0, EVENT_INDEX};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct pair pair;
        int token;
        pair_init(&pair, features[i]);
        assert_true(add(&pair, 1, 0, &token));
        assert_true(virtio_driver_ring_kick_due(&pair.driver));
        virtio_ring_kicks_off(&pair.ring);
        assert_int_equal(pop(&pair), 1);
        assert_int_equal(pop(&pair), 0);
        assert_true(add(&pair, 1, 0, &token));
        assert_false(virtio_driver_ring_kick_due(&pair.driver)); /* nobody will kick for it */
        assert_true(virtio_ring_kicks_on(&pair.ring));
        assert_int_equal(pop(&pair), 1);
        assert_false(virtio_ring_kicks_on(&pair.ring));
        pair_fini(&pair);
    }
}

static void with_the_event_index_one_kick_is_enough_for_many(void **state)
{
    struct pair pair;
    int tokens[3];
    (void)state;
    pair_init(&pair, EVENT_INDEX);
    assert_false(virtio_ring_kicks_on(&pair.ring));
    assert_true(add(&pair, 1, 0, &tokens[0]));
    assert_true(virtio_driver_ring_kick_due(&pair.driver));
    assert_true(add(&pair, 1, 0, &tokens[1]));
    assert_false(virtio_driver_ring_kick_due(&pair.driver)); /* the device is awake already */
    assert_int_equal(pop(&pair), 1);
    assert_int_equal(pop(&pair), 1);
    assert_false(virtio_ring_kicks_on(&pair.ring));
    assert_true(add(&pair, 1, 0, &tokens[2]));
    assert_true(virtio_driver_ring_kick_due(&pair.driver));
    pair_fini(&pair);
}

static void the_guest_is_notified_only_if_it_asks_for_it(void **state)
{
    struct pair pair;
    int tokens[2];
    uint32_t written;
    (void)state;
    pair_init(&pair, 0);
    virtio_driver_ring_calls_off(&pair.driver);
    for (unsigned i = 0; i < 2; i++)
        assert_true(add(&pair, 0, 1, &tokens[i]));
    virtio_driver_ring_kick_due(&pair.driver);
    assert_int_equal(pop(&pair), 1);
    virtio_ring_push(&pair.ring, pair.chain.head, 1);
    assert_false(virtio_ring_publish(&pair.ring));
    assert_true(virtio_driver_ring_calls_on(&pair.driver)); /* its second look */
    assert_non_null(virtio_driver_ring_used(&pair.driver, &written));
    assert_false(virtio_driver_ring_calls_on(&pair.driver));
    assert_int_equal(pop(&pair), 1);
    virtio_ring_push(&pair.ring, pair.chain.head, 1);
    assert_true(virtio_ring_publish(&pair.ring));
    assert_false(virtio_ring_publish(&pair.ring)); /* nothing is new */
    pair_fini(&pair);
}

static void with_the_event_index_the_guest_is_notified_once_a_batch(void **state)
{
    struct pair pair;
    int tokens[6];
    uint32_t written;
    (void)state;
    pair_init(&pair, EVENT_INDEX);
    assert_false(virtio_driver_ring_calls_on(&pair.driver));
    for (unsigned i = 0; i < 6; i++)
        assert_true(add(&pair, 0, 1, &tokens[i]));
    virtio_driver_ring_kick_due(&pair.driver);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pop(&pair), 1);
        virtio_ring_push(&pair.ring, pair.chain.head, 1);
    }
    assert_true(virtio_ring_publish(&pair.ring));
    assert_int_equal(pop(&pair), 1);
    virtio_ring_push(&pair.ring, pair.chain.head, 1);
    assert_false(virtio_ring_publish(&pair.ring)); /* it has not looked at the first three */
    for (unsigned i = 0; i < 4; i++)
        assert_non_null(virtio_driver_ring_used(&pair.driver, &written));
    assert_false(virtio_driver_ring_calls_on(&pair.driver));
    assert_int_equal(pop(&pair), 1);
    virtio_ring_push(&pair.ring, pair.chain.head, 1);
    assert_true(virtio_ring_publish(&pair.ring));
    pair_fini(&pair);
}

/* --- rings that make no sense ------------------------------------------------------------------
 */

static void a_ring_is_not_started_where_it_cannot_lie(void **state)
{
    struct pair pair;
    struct virtio_ring ring = {.size = 0};
    struct virtio_ring_place good, place;
    (void)state;
    pair_init(&pair, 0);
    good = pair.driver.place;
#define REFUSED(size) \
    assert_int_equal(virtio_ring_start(&ring, &pair.memory, size, &place, 0), -EINVAL)
    place = good;
    REFUSED(0);
    REFUSED(7);
    REFUSED(2 * VIRTIO_RING_SIZE_MAX);
    place.desc += 8;
    REFUSED(SIZE);
    place = good, place.avail += 1;
    REFUSED(SIZE);
    place = good, place.used += 2;
    REFUSED(SIZE);
    place = good, place.used = MEMORY_ADDRESS + MEMORY_BYTES - 8;
    REFUSED(SIZE);
    place = good, place.desc = 0;
    REFUSED(SIZE);
    place = good, place.avail = UINT64_MAX - 1;
    REFUSED(SIZE);
#undef REFUSED
    assert_int_equal(ring.size, 0);
    assert_int_equal(virtio_ring_pop(&ring, &pair.chain), 0); /* one that was never started */
    assert_false(virtio_ring_kicks_on(&ring));
    pair_fini(&pair);
}

/* Adds a chain of three, has it spoiled, and expects the sentence. */
static void check_broken(uint64_t features, void (*spoil)(struct pair *pair), const char *why)
{
    struct pair pair;
    int token;
    pair_init(&pair, features);
    assert_true(add(&pair, 2, 1, &token));
    virtio_driver_ring_kick_due(&pair.driver);
    spoil(&pair);
    assert_int_equal(pop(&pair), -EINVAL);
    assert_non_null(pair.ring.broken);
    assert_string_equal(pair.ring.broken, why);
    assert_int_equal(pop(&pair), -EINVAL); /* and stays so */
    assert_false(virtio_ring_kicks_on(&pair.ring));
    assert_false(virtio_ring_publish(&pair.ring));
    assert_int_equal(
        virtio_ring_start(&pair.ring, &pair.memory, SIZE, &pair.driver.place, features), 0);
    assert_null(pair.ring.broken);
    pair_fini(&pair);
}

static struct vring_desc *table(struct pair *pair)
{
    return pair->driver.tables_host;
}

static void loop_to_head(struct pair *pair)
{
    pair->ring.desc[2].flags |= htole16(VRING_DESC_F_NEXT);
    pair->ring.desc[2].next = htole16(2);
}
static void loop_in_table(struct pair *pair)
{
    table(pair)[1].next = htole16(0);
}
static void no_length(struct pair *pair)
{
    pair->ring.desc[1].len = 0;
}
static void read_behind_write(struct pair *pair)
{
    pair->ring.desc[0].flags |= htole16(VRING_DESC_F_WRITE);
}
static void outside_of_memory(struct pair *pair)
{
    pair->ring.desc[1].addr = htole64(MEMORY_ADDRESS - 1);
}
static void behind_memory(struct pair *pair)
{
    pair->ring.desc[1].addr = htole64(MEMORY_ADDRESS + MEMORY_BYTES - 511);
}
static void wraps(struct pair *pair)
{
    pair->ring.desc[1].addr = htole64(UINT64_MAX - 10);
}
static void next_outside(struct pair *pair)
{
    pair->ring.desc[0].next = htole16(SIZE);
}
static void next_outside_of_table(struct pair *pair)
{
    table(pair)[0].next = htole16(3);
}
static void head_outside(struct pair *pair)
{
    pair->ring.avail->ring[0] = htole16(SIZE);
}
static void too_many(struct pair *pair)
{
    pair->ring.avail->idx = htole16(SIZE + 1);
}
static void indirect_now(struct pair *pair)
{
    pair->ring.desc[0].flags = htole16(VRING_DESC_F_INDIRECT);
}
static void indirect_and_next(struct pair *pair)
{
    pair->ring.desc[0].flags |= htole16(VRING_DESC_F_NEXT);
}
static void indirect_in_the_middle(struct pair *pair)
{
    pair->ring.desc[1].flags |= htole16(VRING_DESC_F_INDIRECT);
}
static void indirect_in_indirect(struct pair *pair)
{
    table(pair)[0].flags |= htole16(VRING_DESC_F_INDIRECT);
}
static void half_a_descriptor(struct pair *pair)
{
    pair->ring.desc[0].len = htole32(40);
}
static void empty_table(struct pair *pair)
{
    pair->ring.desc[0].len = 0;
}
static void table_outside(struct pair *pair)
{
    pair->ring.desc[0].addr = htole64(MEMORY_ADDRESS + MEMORY_BYTES - 32);
}

static void a_ring_that_makes_no_sense_is_broken(void **state)
{
    (void)state;
    check_broken(0, no_length, "a descriptor has no length");
    check_broken(0, read_behind_write, "a buffer to read comes behind one to write");
    check_broken(0, outside_of_memory, "a buffer lies outside of the guest's memory");
    check_broken(0, behind_memory, "a buffer lies outside of the guest's memory");
    check_broken(0, wraps, "a buffer wraps around the address space");
    check_broken(0, next_outside, "a chain goes on outside of its table");
    check_broken(0, head_outside, "an available entry names no descriptor");
    check_broken(0, too_many, "more chains are available than the queue has entries");
    check_broken(0, indirect_now, "an indirect table, which was not negotiated");
    check_broken(INDIRECT, next_outside_of_table, "a chain goes on outside of its table");
    check_broken(INDIRECT, indirect_and_next, "a chain goes on behind an indirect table");
    check_broken(INDIRECT, half_a_descriptor,
                 "the length of an indirect table is not one of descriptors");
    check_broken(INDIRECT, empty_table,
                 "the length of an indirect table is not one of descriptors");
    check_broken(INDIRECT, table_outside, "an indirect table lies outside of the guest's memory");
    check_broken(INDIRECT, indirect_in_indirect, "an indirect table refers to another one");
    check_broken(0, indirect_in_the_middle, "an indirect table lies in the middle of a chain");
}

static void a_chain_that_goes_in_a_circle_breaks_the_ring(void **state)
{
    (void)state;
    check_broken(0, loop_to_head, "a chain goes in a circle");
    check_broken(INDIRECT, loop_in_table, "a chain goes in a circle");
}

static void a_chain_longer_than_the_queue_breaks_the_ring(void **state)
{
    struct pair pair;
    int token;
    (void)state;
    pair_init(&pair, INDIRECT);
    assert_true(add(&pair, SIZE, 1, &token));
    virtio_driver_ring_kick_due(&pair.driver);
    assert_int_equal(pop(&pair), -EINVAL);
    assert_string_equal(pair.ring.broken, "a chain has more buffers than the queue has entries");
    pair_fini(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_goes_down_and_comes_back),
        cmocka_unit_test(a_chain_may_lie_in_an_indirect_table),
        cmocka_unit_test(a_buffer_that_spans_two_regions_is_two_pieces),
        cmocka_unit_test(chains_come_back_in_any_order_and_indexes_wrap),
        cmocka_unit_test(a_ring_goes_on_where_another_device_left_it),
        cmocka_unit_test(kicks_are_off_while_the_device_takes_chains),
        cmocka_unit_test(the_second_look_finds_what_came_before_kicks_were_on),
        cmocka_unit_test(with_the_event_index_one_kick_is_enough_for_many),
        cmocka_unit_test(the_guest_is_notified_only_if_it_asks_for_it),
        cmocka_unit_test(with_the_event_index_the_guest_is_notified_once_a_batch),
        cmocka_unit_test(a_ring_is_not_started_where_it_cannot_lie),
        cmocka_unit_test(a_ring_that_makes_no_sense_is_broken),
        cmocka_unit_test(a_chain_that_goes_in_a_circle_breaks_the_ring),
        cmocka_unit_test(a_chain_longer_than_the_queue_breaks_the_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
