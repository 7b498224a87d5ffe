/* SPDX-License-Identifier: BSD-3-Clause */
/* dirty_bitmap.c: against a model with a byte a granule. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <time.h>

#include "block/dirty_bitmap.h"
#include "common/random.h"

#define GRANULARITY_BITS 9
#define GRANULE (UINT64_C(1) << GRANULARITY_BITS)

static struct dirty_bitmap *new_bitmap(uint64_t size_bytes)
{
    struct dirty_bitmap *bitmap = NULL;
    assert_int_equal(dirty_bitmap_new(&bitmap, size_bytes, GRANULARITY_BITS), 0);
    return bitmap;
}

/* Whether it is dirty from offset on, for exactly so many bytes of the range. */
static void looks(const struct dirty_bitmap *bitmap, uint64_t offset, uint64_t length, bool dirty,
                  uint64_t dirty_length)
{
    uint64_t found = 0;
    assert_int_equal(dirty_bitmap_look(bitmap, offset, length, &found), dirty);
    assert_int_equal(found, dirty_length);
}

static void a_new_one_is_clean(void **state)
{
    struct dirty_bitmap *bitmap = new_bitmap(10 * GRANULE + 1);
    uint64_t offset, length;
    (void)state;
    assert_int_equal(dirty_bitmap_size_bytes(bitmap), 10 * GRANULE + 1);
    assert_int_equal(dirty_bitmap_granularity_bits(bitmap), GRANULARITY_BITS);
    assert_int_equal(dirty_bitmap_count(bitmap), 0);
    assert_false(dirty_bitmap_next(bitmap, 0, UINT64_MAX, &offset, &length));
    looks(bitmap, 0, UINT64_MAX, false, UINT64_MAX);
    dirty_bitmap_free(bitmap);
    dirty_bitmap_free(NULL);
}

static void a_granule_is_dirty_when_one_byte_of_it_is(void **state)
{
    struct dirty_bitmap *bitmap = new_bitmap(10 * GRANULE);
    (void)state;
    dirty_bitmap_set(bitmap, 3 * GRANULE - 1, 2);
    assert_int_equal(dirty_bitmap_count(bitmap), 2);
    looks(bitmap, 0, 10 * GRANULE, false, 2 * GRANULE);
    looks(bitmap, 2 * GRANULE + 5, 10 * GRANULE, true, 2 * GRANULE - 5);
    looks(bitmap, 2 * GRANULE + 5, 7, true, 7);
    looks(bitmap, 4 * GRANULE, 1, false, 1);
    dirty_bitmap_set(bitmap, 9 * GRANULE, 0);
    assert_int_equal(dirty_bitmap_count(bitmap), 2);
    dirty_bitmap_free(bitmap);
}

static void the_end_of_the_disk_is_inside_of_the_last_granule(void **state)
{
    struct dirty_bitmap *bitmap = new_bitmap(2 * GRANULE + 7);
    uint64_t offset, length;
    (void)state;
    dirty_bitmap_set(bitmap, 2 * GRANULE, UINT64_MAX - 2 * GRANULE);
    dirty_bitmap_set(bitmap, 3 * GRANULE, GRANULE);
    assert_int_equal(dirty_bitmap_count(bitmap), 1);
    assert_true(dirty_bitmap_next(bitmap, 0, UINT64_MAX, &offset, &length));
    assert_int_equal(offset, 2 * GRANULE);
    assert_int_equal(length, 7);
    looks(bitmap, 2 * GRANULE, 100, true, 7);
    looks(bitmap, 2 * GRANULE + 7, 100, false, 100);
    dirty_bitmap_free(bitmap);
}

static void clearing_leaves_nothing(void **state)
{
    struct dirty_bitmap *bitmap = new_bitmap(100000 * GRANULE);
    (void)state;
    dirty_bitmap_set(bitmap, 0, 1);
    dirty_bitmap_set(bitmap, 5000 * GRANULE, 90000 * GRANULE);
    assert_int_equal(dirty_bitmap_count(bitmap), 90001);
    dirty_bitmap_clear(bitmap);
    assert_int_equal(dirty_bitmap_count(bitmap), 0);
    looks(bitmap, 0, 100000 * GRANULE, false, 100000 * GRANULE);
    dirty_bitmap_set(bitmap, 99999 * GRANULE, 1);
    assert_int_equal(dirty_bitmap_count(bitmap), 1);
    dirty_bitmap_free(bitmap);
}

static void resize(struct dirty_bitmap *bitmap, uint64_t size_bytes)
{
    struct dirty_bitmap *copy = NULL;
    assert_int_equal(dirty_bitmap_copy(bitmap, size_bytes, &copy), 0);
    dirty_bitmap_take_over(bitmap, copy);
    assert_int_equal(dirty_bitmap_size_bytes(bitmap), size_bytes);
}

static void a_new_size_keeps_what_is_inside_of_it(void **state)
{
    struct dirty_bitmap *bitmap = new_bitmap(100 * GRANULE);
    (void)state;
    dirty_bitmap_set(bitmap, 10 * GRANULE, GRANULE);
    dirty_bitmap_set(bitmap, 90 * GRANULE, 10 * GRANULE);
    resize(bitmap, 200 * GRANULE);
    assert_int_equal(dirty_bitmap_count(bitmap), 11);
    looks(bitmap, 90 * GRANULE, 110 * GRANULE, true, 10 * GRANULE);
    resize(bitmap, 95 * GRANULE + 1);
    assert_int_equal(dirty_bitmap_count(bitmap), 7);
    resize(bitmap, 0);
    assert_int_equal(dirty_bitmap_count(bitmap), 0);
    dirty_bitmap_free(bitmap);
}

static void bytes_are_in_the_order_of_the_qcow2_specification(void **state)
{
    static const uint8_t expected[4] = {0x02, 0x80, 0x00, 0x01};
    struct dirty_bitmap *bitmap = new_bitmap(25 * GRANULE), *other = new_bitmap(25 * GRANULE);
    uint8_t bytes[16];
    (void)state;
    dirty_bitmap_set(bitmap, 1 * GRANULE, 1);
    dirty_bitmap_set(bitmap, 15 * GRANULE, 1);
    dirty_bitmap_set(bitmap, 24 * GRANULE, 1);
    memset(bytes, 0xff, sizeof(bytes));
    dirty_bitmap_give_bytes(bitmap, 0, bytes, sizeof(bytes));
    assert_memory_equal(bytes, expected, 4);
    for (unsigned i = 4; i < sizeof(bytes); i++)
        assert_int_equal(bytes[i], 0);
    /* Bits past the last granule are none. */
    bytes[3] = 0xff;
    memset(bytes + 4, 0xff, 12);
    dirty_bitmap_take_bytes(other, 0, bytes, sizeof(bytes));
    assert_int_equal(dirty_bitmap_count(other), 3);
    dirty_bitmap_give_bytes(other, 0, bytes, 4);
    assert_memory_equal(bytes, expected, 4);
    dirty_bitmap_free(bitmap);
    dirty_bitmap_free(other);
}

static void a_run_of_any_length_is_looked_at_in_pieces(void **state)
{
    uint64_t granules = UINT64_C(3) << 20, at = 0, length;
    struct dirty_bitmap *bitmap = new_bitmap(granules * GRANULE);
    unsigned pieces = 0;
    (void)state;
    dirty_bitmap_set(bitmap, 0, granules * GRANULE);
    for (; at < granules * GRANULE; at += length, pieces++)
        assert_true(dirty_bitmap_look(bitmap, at, granules * GRANULE - at, &length));
    assert_int_equal(at, granules * GRANULE);
    assert_in_range(pieces, 2, 4);
    dirty_bitmap_free(bitmap);
}

/* --- any requests against the model -------------------------------------------------------------
 */

#define MODEL_MAX 20000

struct model {
    uint8_t dirty[MODEL_MAX];
    uint64_t granules, size_bytes;
};

static void model_set(struct model *model, uint64_t offset, uint64_t length)
{
    for (uint64_t i = offset / GRANULE; i * GRANULE < offset + length && i < model->granules; i++)
        model->dirty[i] = 1;
}

static void model_resize(struct model *model, uint64_t size_bytes)
{
    model->size_bytes = size_bytes;
    model->granules = (size_bytes + GRANULE - 1) / GRANULE;
    for (uint64_t i = model->granules; i < MODEL_MAX; i++)
        model->dirty[i] = 0;
}

static void compare(const struct dirty_bitmap *bitmap, const struct model *model)
{
    uint64_t offset = 0, count = 0, length;
    for (uint64_t i = 0; i < model->granules; i++)
        count += model->dirty[i];
    assert_int_equal(dirty_bitmap_count(bitmap), count);
    while (offset < model->size_bytes) {
        bool dirty = dirty_bitmap_look(bitmap, offset, model->size_bytes - offset, &length);
        for (uint64_t i = offset / GRANULE; i * GRANULE < offset + length; i++)
            assert_int_equal(model->dirty[i], dirty);
        offset += length;
    }
    for (offset = 0; dirty_bitmap_next(bitmap, offset, UINT64_MAX - offset, &offset, &length);
         offset += length) {
        assert_true(offset == 0 || !model->dirty[(offset - 1) / GRANULE]);
        for (uint64_t i = offset / GRANULE; i * GRANULE < offset + length; i++, count--)
            assert_int_equal(model->dirty[i], 1);
    }
    assert_int_equal(count, 0);
}

/* Out by bytes and in again. */
static struct dirty_bitmap *carried_over(struct dirty_bitmap *bitmap, uint64_t size_bytes,
                                         size_t piece)
{
    struct dirty_bitmap *other = new_bitmap(size_bytes);
    uint8_t bytes[512];
    for (uint64_t at = 0; at < dirty_bitmap_bytes(size_bytes, GRANULARITY_BITS); at += piece) {
        dirty_bitmap_give_bytes(bitmap, at, bytes, piece);
        dirty_bitmap_take_bytes(other, at, bytes, piece);
    }
    dirty_bitmap_free(bitmap);
    return other;
}

static void any_changes_are_those_of_a_model(void **state)
{
    const char *text = getenv("PLATTER_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);
    static struct model model;
    struct random random;
    (void)state;
    print_message("PLATTER_SEED=%llu\n", (unsigned long long)seed);
    random_seed(&random, seed);
    model_resize(&model, 1 + random_below(&random, MODEL_MAX * GRANULE));
    struct dirty_bitmap *bitmap = new_bitmap(model.size_bytes);
    for (unsigned step = 0; step < 300; step++) {
        uint64_t offset = random_below(&random, model.size_bytes);
        uint64_t length =
            1 + random_below(&random,
                             random_once_in(&random, 4) ? MODEL_MAX * GRANULE / 4 : 20 * GRANULE);
        uint64_t what = random_below(&random, 40);
        if (what == 0) {
            model_resize(&model, 1 + random_below(&random, MODEL_MAX * GRANULE));
            resize(bitmap, model.size_bytes);
        } else if (what == 1) {
            memset(model.dirty, 0, sizeof(model.dirty));
            dirty_bitmap_clear(bitmap);
        } else if (what == 2) {
            bitmap = carried_over(bitmap, model.size_bytes, 8 + 8 * random_below(&random, 60));
        } else {
            model_set(&model, offset, length);
            dirty_bitmap_set(bitmap, offset, length);
        }
        compare(bitmap, &model);
    }
    dirty_bitmap_free(bitmap);
}

/* --- threads ------------------------------------------------------------------------------------
 */

#define THREADS 4
#define THREAD_GRANULES 20000

struct setter {
    struct dirty_bitmap *bitmap;
    unsigned number;
};

/* Its own granules lie between those of the others, in the same words. */
static void *set_own(void *arg)
{
    const struct setter *setter = arg;
    uint64_t length;
    for (uint64_t i = 0; i < THREAD_GRANULES; i++) {
        uint64_t offset = (i * THREADS + setter->number) * GRANULE;
        dirty_bitmap_set(setter->bitmap, offset, GRANULE);
        if (!dirty_bitmap_look(setter->bitmap, offset, GRANULE, &length))
            return arg;
    }
    return NULL;
}

static void threads_set_bits_of_the_same_words(void **state)
{
    struct dirty_bitmap *bitmap = new_bitmap(THREADS * THREAD_GRANULES * GRANULE);
    struct setter setters[THREADS];
    pthread_t threads[THREADS];
    (void)state;
    for (unsigned i = 0; i < THREADS; i++) {
        setters[i] = (struct setter){.bitmap = bitmap, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, set_own, &setters[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(dirty_bitmap_count(bitmap), THREADS * THREAD_GRANULES);
    dirty_bitmap_free(bitmap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_one_is_clean),
        cmocka_unit_test(a_granule_is_dirty_when_one_byte_of_it_is),
        cmocka_unit_test(the_end_of_the_disk_is_inside_of_the_last_granule),
        cmocka_unit_test(clearing_leaves_nothing),
        cmocka_unit_test(a_new_size_keeps_what_is_inside_of_it),
        cmocka_unit_test(bytes_are_in_the_order_of_the_qcow2_specification),
        cmocka_unit_test(a_run_of_any_length_is_looked_at_in_pieces),
        cmocka_unit_test(any_changes_are_those_of_a_model),
        cmocka_unit_test(threads_set_bits_of_the_same_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
