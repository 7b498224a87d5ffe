/* SPDX-License-Identifier: BSD-3-Clause */
/* cache=none: the alignment is found out, the odd tail goes another way, and neighbours of the tail
 * that are written at the same time keep their bytes. */
#include "tests/unit/block/posix_fixture.h"

static struct block_limits limits_with(struct posix_fixture *fixture, uint32_t direct,
                                       uint32_t memory)
{
    fixture->odd.hide_alignment = true;
    fixture->odd.direct = direct;
    fixture->odd.direct_memory = memory;
    struct block_node *node = open_image(fixture, EXTRA("cache.direct=on"));
    struct block_limits limits = node->limits;
    block_co_node_unref(node);
    return limits;
}

static void probing_body(struct posix_fixture *fixture)
{
    static const uint32_t alignments[] = {512, 1024, 2048, 4096};
    make_image(fixture, 100000);
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 4; k++) {
            struct block_limits limits = limits_with(fixture, alignments[i], alignments[k]);
            assert_int_equal(limits.request_alignment, alignments[i]);
            assert_int_equal(limits.memory_alignment,
                             alignments[k] > alignments[i] ? alignments[k] : alignments[i]);
        }
    }
    make_image(fixture, 0); /* refuses nothing: the safe value */
    struct block_limits limits = limits_with(fixture, 512, 512);
    assert_int_equal(limits.request_alignment, 4096);
    assert_int_equal(limits.memory_alignment, 4096);

    struct block_node *node = NULL;
    make_image(fixture, 100000);
    fixture->odd.direct = 8192;
    assert_int_equal(try_open(fixture, EXTRA("cache.direct=on"), &node), -EINVAL);
    assert_non_null(strstr(fixture->err.message, "--cache=writeback"));
    assert_non_null(strstr(fixture->err.message, fixture->path));
}

static void the_alignment_is_found_by_trial_where_nobody_says_it(void **state)
{
    with_posix(state, probing_body);
}

static void tail_body(struct posix_fixture *fixture)
{
    uint8_t data[2000];
    memset(data, 9, sizeof(data));
    make_image(fixture, 1300);
    fixture->odd.hide_alignment = true;
    fixture->odd.direct = fixture->odd.direct_memory = 512;
    struct block_node *node = open_image(fixture, EXTRA("cache.direct=on"));
    unsigned writes = fixture->odd.writes, direct_writes = fixture->odd.direct_writes;
    assert_int_equal(write_at(node, 0, data, 1024), 0);
    assert_int_equal(fixture->odd.writes - writes, 1);
    assert_int_equal(fixture->odd.direct_writes - direct_writes, 1);
    assert_int_equal(write_at(node, 1024, data, 276), 0); /* the tail alone */
    assert_int_equal(fixture->odd.writes - writes, 2);
    assert_int_equal(fixture->odd.direct_writes - direct_writes, 1);
    assert_int_equal(write_at(node, 512, data, 788), 0); /* both */
    assert_int_equal(fixture->odd.writes - writes, 4);
    assert_int_equal(fixture->odd.direct_writes - direct_writes, 2);
    assert_int_equal(image_size(fixture), 1300);
    block_co_node_unref(node);
}

static void the_odd_tail_alone_is_written_through_the_page_cache(void **state)
{
    with_posix(state, tail_body);
}

/* --- neighbours at once -------------------------------------------------------------------------
 */

#define BLOCKS 24
#define TAIL 77

struct writer {
    struct block_node *node;
    uint64_t offset;
    size_t length;
    uint8_t data[512] __attribute__((aligned(512)));
    struct coroutine *waiter;
    unsigned *left;
    int ret;
};

static void write_and_count(void *arg)
{
    struct writer *writer = arg;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, writer->data, writer->length);
    /* The driver itself: the pipeline above would keep some of them apart. */
    writer->ret = block_driver_file.co_write(writer->node, writer->offset, &vec, 0);
    if (--*writer->left == 0)
        coroutine_wake(writer->waiter);
}

static void neighbours_body(struct posix_fixture *fixture)
{
    const size_t size = BLOCKS * 512 + TAIL;
    static struct writer writers[BLOCKS + 1];
    uint8_t data[BLOCKS * 512 + TAIL];
    make_image(fixture, size);
    struct block_node *node = open_image(fixture, EXTRA("cache.direct=on"));
    if (node->limits.request_alignment != 512) {
        print_message("O_DIRECT wants %u here, not 512\n", node->limits.request_alignment);
        block_co_node_unref(node);
        return;
    }
    for (int round = 1; round <= 30; round++) {
        unsigned left = BLOCKS + 1;
        for (int i = 0; i <= BLOCKS; i++) {
            struct writer *writer = &writers[(i * 7) % (BLOCKS + 1)];
            unsigned at = (unsigned)(writer - writers);
            *writer = (struct writer){.node = node,
                                      .offset = at * 512,
                                      .length = at == BLOCKS ? TAIL : 512,
                                      .waiter = coroutine_self(),
                                      .left = &left,
                                      .ret = 1};
            memset(writer->data, (int)(round * 3 + (int)at), sizeof(writer->data));
        }
        for (int i = 0; i <= BLOCKS; i++)
            assert_int_equal(coroutine_start(fixture->loop, write_and_count,
                                             &writers[(i * 3 + round) % (BLOCKS + 1)]),
                             0);
        coroutine_yield();
        assert_int_equal(read_at(node, 0, data, size), 0);
        for (size_t at = 0; at < size; at++)
            assert_int_equal(data[at], (uint8_t)(round * 3 + (int)(at / 512)));
        for (int i = 0; i <= BLOCKS; i++)
            assert_int_equal(writers[i].ret, 0);
    }
    assert_int_equal(node_co_flush(node), 0);
    block_co_node_unref(node);
}

static void neighbours_of_the_tail_written_at_once_keep_their_bytes(void **state)
{
    with_posix(state, neighbours_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_alignment_is_found_by_trial_where_nobody_says_it),
        cmocka_unit_test(the_odd_tail_alone_is_written_through_the_page_cache),
        ON_EACH_ENGINE(neighbours_of_the_tail_written_at_once_keep_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
