/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/oracle.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"

#define INITIAL 1 /* the number of what the base shows */
#define HOLD_BYTES_MAX \
    16384 /* larger reads are left out of rule 6: they would cost half of the run */

/* --- patterns -------------------------------------------------------------------------------- */

/* One to one, so that a word can be read back: an odd factor has an inverse modulo 2^64. */
#define MIX_FACTOR UINT64_C(0x9e3779b97f4a7c15)
#define MIX_INVERSE UINT64_C(0xf1de83e19937733d)
static_assert(MIX_FACTOR * MIX_INVERSE == 1, "the inverse of the factor");

static uint64_t word_make(uint32_t number, uint64_t word_index)
{
    uint64_t word = (uint64_t)number << 32 | (uint32_t)word_index;
    word = (word ^ word >> 32) * MIX_FACTOR;
    return word ^ word >> 32;
}

static void word_read(uint64_t word, uint32_t *ret_number, uint32_t *ret_word_index)
{
    word = (word ^ word >> 32) * MIX_INVERSE;
    word ^= word >> 32;
    *ret_number = (uint32_t)(word >> 32);
    *ret_word_index = (uint32_t)word;
}

static uint8_t pattern_byte(uint32_t number, uint64_t offset)
{
    uint64_t word = word_make(number, offset / 8);
    return ((const uint8_t *)&word)[offset % 8];
}

static void pattern_fill(uint32_t number, uint64_t offset, uint8_t *bytes, uint64_t length)
{
    uint64_t at = 0;
    while (at < length && (offset + at) % 8 != 0) {
        bytes[at] = pattern_byte(number, offset + at);
        at++;
    }
    for (; at + 8 <= length; at += 8) {
        uint64_t word = word_make(number, (offset + at) / 8);
        memcpy(bytes + at, &word, 8);
    }
    for (; at < length; at++)
        bytes[at] = pattern_byte(number, offset + at);
}

/* --- life ------------------------------------------------------------------------------------ */

static uint32_t op_add(struct oracle *oracle, struct oracle_op op)
{
    if (oracle->op_count == oracle->op_room) {
        oracle->op_room = oracle->op_room ? oracle->op_room * 2 : 256;
        oracle->ops = realloc(oracle->ops, oracle->op_room * sizeof(*oracle->ops));
        assert(oracle->ops);
    }
    oracle->ops[oracle->op_count] = op;
    return oracle->op_count++;
}

static uint32_t *bytewise(const struct oracle *oracle)
{
    uint32_t *array = calloc(oracle->size_bytes + 1, sizeof(*array));
    assert(array);
    return array;
}

void oracle_init(struct oracle *oracle, struct sim *sim, uint64_t size_bytes)
{
    *oracle = (struct oracle){.sim = sim, .size_bytes = size_bytes, .tick = 1};
    op_add(oracle, (struct oracle_op){0});
    op_add(oracle, (struct oracle_op){.kind = ORACLE_INITIAL, .length = size_bytes});
    oracle->not_durable_from = oracle->first_live = oracle->life_from = INITIAL + 1;
    oracle->since = bytewise(oracle);
    oracle->holder = bytewise(oracle);
    oracle->zeroed = bytewise(oracle);
    oracle->durable_since = bytewise(oracle);
    oracle->base = calloc(1, size_bytes + 1);
    assert(oracle->base);

    struct random random = sim_random(sim, "initial image", 0);
    bool is_data = random_once_in(&random, 2);
    for (uint64_t at = 0; at < size_bytes; is_data = !is_data) {
        uint64_t run = draw_scaled(&random, 1, 64) * ORACLE_INITIAL_UNIT;
        if (run > size_bytes - at)
            run = size_bytes - at;
        if (is_data)
            pattern_fill(INITIAL, at, oracle->base + at, run);
        at += run;
    }
}

void oracle_fini(struct oracle *oracle)
{
    free(oracle->ops);
    free(oracle->base);
    free(oracle->since);
    free(oracle->holder);
    free(oracle->zeroed);
    free(oracle->durable_since);
    free(oracle->zeroing);
}

const uint8_t *oracle_initial(const struct oracle *oracle, uint64_t offset)
{
    uint64_t end = offset + ORACLE_INITIAL_UNIT;
    for (uint64_t at = offset; at < end && at < oracle->size_bytes; at++)
        if (oracle->base[at] != 0)
            return oracle->base + offset;
    return NULL;
}

/* --- requests that change -------------------------------------------------------------------- */

uint32_t oracle_send(struct oracle *oracle, unsigned client, enum oracle_kind kind, uint64_t offset,
                     uint64_t length)
{
    assert(range_is_inside(offset, length, oracle->size_bytes));
    uint32_t number = op_add(oracle, (struct oracle_op){.kind = kind,
                                                        .client = client,
                                                        .offset = offset,
                                                        .length = length,
                                                        .sent = ++oracle->tick,
                                                        .answered = ORACLE_NEVER});
    if (kind == ORACLE_WRITE)
        return number;
    if (oracle->zeroing_count == oracle->zeroing_room) {
        oracle->zeroing_room = oracle->zeroing_room ? oracle->zeroing_room * 2 : 64;
        oracle->zeroing = realloc(oracle->zeroing, oracle->zeroing_room * sizeof(*oracle->zeroing));
        assert(oracle->zeroing);
    }
    oracle->zeroing[oracle->zeroing_count++] = number;
    return number;
}

void oracle_pattern(const struct oracle *oracle, uint32_t number, void *bytes)
{
    const struct oracle_op *op = &oracle->ops[number];
    assert(op->kind == ORACLE_WRITE);
    pattern_fill(number, op->offset, bytes, op->length);
}

static void raise_since(uint32_t *since, const struct oracle_op *op)
{
    for (uint64_t at = op->offset; at < op->offset + op->length; at++)
        if (since[at] < op->sent)
            since[at] = op->sent;
}

/* Of a zero or a trim that has an answer: it takes no effect any more. */
static void zeroing_end(struct oracle *oracle, uint32_t number)
{
    const struct oracle_op *op = &oracle->ops[number];
    uint32_t index = 0;
    while (oracle->zeroing[index] != number)
        index++;
    oracle->zeroing[index] = oracle->zeroing[--oracle->zeroing_count];
    for (uint64_t at = op->offset; at < op->offset + op->length; at++)
        oracle->zeroed[at] = op->answered;
}

void oracle_answer(struct oracle *oracle, uint32_t number)
{
    struct oracle_op *op = &oracle->ops[number];
    assert(op->answered == ORACLE_NEVER);
    op->answered = ++oracle->tick;
    if (op->kind != ORACLE_TRIM) {
        for (uint64_t at = op->offset; at < op->offset + op->length; at++)
            if (oracle->since[at] < op->sent)
                oracle->holder[at] = 0;
        raise_since(oracle->since, op);
    }
    if (op->kind == ORACLE_WRITE)
        return;
    zeroing_end(oracle, number);
}

void oracle_fail(struct oracle *oracle, uint32_t number)
{
    struct oracle_op *op = &oracle->ops[number];
    assert(op->answered == ORACLE_NEVER);
    op->answered = ++oracle->tick;
    op->is_durable = true; /* nobody may ask that of it */
    if (op->kind != ORACLE_WRITE)
        zeroing_end(oracle, number);
}

/* --- what may be seen ------------------------------------------------------------------------ */

static bool op_covers(const struct oracle_op *op, uint64_t offset, uint64_t length)
{
    return op->offset <= offset && offset + length <= op->offset + op->length;
}

static bool may_be_zero(const struct oracle *oracle, uint64_t offset, uint32_t since)
{
    if (since == 0 && oracle->base[offset] == 0)
        return true;
    if (oracle->zeroed[offset] != 0 && oracle->zeroed[offset] >= since)
        return true;
    for (uint32_t i = 0; i < oracle->zeroing_count; i++)
        if (op_covers(&oracle->ops[oracle->zeroing[i]], offset, 1))
            return true;
    return false;
}

/* INITIAL: that the bytes are the base's is for the caller to see. */
static bool may_be_of(const struct oracle *oracle, uint32_t number, uint64_t offset,
                      uint64_t length, uint32_t since)
{
    if (number == INITIAL)
        return since == 0;
    if (number < oracle->first_live || number >= oracle->op_count)
        return false;
    const struct oracle_op *op = &oracle->ops[number];
    return op->kind == ORACLE_WRITE && op_covers(op, offset, length) && op->answered >= since;
}

/* The byte that the request would have left at that place. */
static uint8_t byte_of(const struct oracle *oracle, uint32_t number, uint64_t offset)
{
    return number == INITIAL ? oracle->base[offset] : pattern_byte(number, offset);
}

static bool byte_is_good(const struct oracle *oracle, uint64_t offset, uint8_t byte, uint32_t since,
                         uint32_t holder)
{
    if (byte == 0 && may_be_zero(oracle, offset, since))
        return true;
    if (since == 0 && byte == oracle->base[offset])
        return true;
    for (uint32_t number = oracle->op_count - 1; number >= oracle->first_live; number--)
        if (may_be_of(oracle, number, offset, 1, since) && byte == pattern_byte(number, offset))
            return true;
    return holder != 0 && byte == byte_of(oracle, holder, offset);
}

/* Whose word this is, at an aligned place; 0: it is of no one request. */
static uint32_t word_owner(const struct oracle *oracle, uint64_t offset, const uint8_t *bytes)
{
    uint64_t word;
    uint32_t number, word_index;
    memcpy(&word, bytes, 8);
    if (memcmp(oracle->base + offset, bytes, 8) == 0)
        return INITIAL;
    word_read(word, &number, &word_index);
    bool is_live = number >= oracle->first_live && number < oracle->op_count;
    return is_live && word_index == offset / 8 ? number : 0;
}

/* A whole aligned word of what was there at the beginning, where nothing that changed it is over
 * yet: most of what a survivor shows. */
static bool is_as_ever(const struct oracle *oracle, uint64_t offset, const uint8_t *bytes,
                       const uint32_t *since)
{
    uint32_t any = 0;
    for (unsigned i = 0; i < 8; i++)
        any |= since[i];
    return any == 0 && memcmp(oracle->base + offset, bytes, 8) == 0;
}

/* A whole aligned word, by what it says of itself: nearly all of what is read. */
static bool word_is_good(const struct oracle *oracle, uint64_t offset, const uint8_t *bytes,
                         const uint32_t *since, const uint32_t *holder)
{
    uint64_t word;
    if (is_as_ever(oracle, offset, bytes, since))
        return true;
    memcpy(&word, bytes, 8);
    if (word == 0) {
        for (unsigned i = 0; i < 8; i++)
            if (!may_be_zero(oracle, offset + i, since[i]))
                return false;
        return true;
    }
    uint32_t number = word_owner(oracle, offset, bytes), latest = 0;
    for (unsigned i = 0; i < 8; i++)
        if (since[i] > latest && !(holder && holder[i] == number))
            latest = since[i];
    return number != 0 && may_be_of(oracle, number, offset, 8, latest);
}

/* A sentence on where a byte that should not be there comes from. */
static void describe(const struct oracle *oracle, uint64_t offset, const uint8_t *byte,
                     const uint8_t *begin, const uint8_t *end, char *text, size_t room)
{
    const uint8_t *word_begin = byte - offset % 8;
    uint32_t number = 0, word_index = 0;
    if (word_begin >= begin && word_begin + 8 <= end) {
        uint64_t word;
        memcpy(&word, word_begin, 8);
        word_read(word, &number, &word_index);
    }
    if (number == INITIAL) {
        snprintf(text, room, "the initial image's byte of %#" PRIx64, (uint64_t)word_index * 8);
    } else if (number > INITIAL && number < oracle->op_count) {
        const struct oracle_op *op = &oracle->ops[number];
        snprintf(text, room,
                 "of write %" PRIu32 " by client %u (%#" PRIx64 "+%#" PRIx64
                 ", sent at tick %" PRIu32 ", answered at %" PRId64 "), meant for %#" PRIx64,
                 number, op->client, op->offset, op->length, op->sent,
                 op->answered == ORACLE_NEVER ? -1 : (int64_t)op->answered,
                 (uint64_t)word_index * 8);
    } else {
        snprintf(text, room, "%s", *byte == 0 ? "a zero" : "of no request in whole");
    }
}

/* Checks the bytes of [offset, offset + length) under since[0 .. length) and holder, or NULL. */
static void check(struct oracle *oracle, uint64_t offset, uint64_t length, const uint8_t *bytes,
                  const uint32_t *since, const uint32_t *holder, const char *who)
{
    oracle->bytes_checked += length;
    uint64_t at = 0;
    while (at < length) {
        if ((offset + at) % 8 == 0 && at + 8 <= length &&
            word_is_good(oracle, offset + at, bytes + at, since + at,
                         holder ? holder + at : NULL)) {
            at += 8;
            continue;
        }
        if (!byte_is_good(oracle, offset + at, bytes[at], since[at], holder ? holder[at] : 0)) {
            char source[256];
            describe(oracle, offset + at, bytes + at, bytes, bytes + length, source,
                     sizeof(source));
            sim_fail(oracle->sim,
                     "%s: the byte at %#" PRIx64 " is 0x%02x, %s; only what was answered at tick "
                     "%" PRIu32 " or later may be there, and it is tick %" PRIu32,
                     who, offset + at, bytes[at], source, since[at], oracle->tick);
            return;
        }
        at++;
    }
}

void oracle_view_open(struct oracle *oracle, struct oracle_view *view, uint64_t offset,
                      uint64_t length)
{
    assert(range_is_inside(offset, length, oracle->size_bytes));
    *view = (struct oracle_view){.offset = offset, .length = length, .sent = ++oracle->tick};
    view->since = malloc((2 * length + 1) * sizeof(*view->since));
    assert(view->since);
    view->holder = view->since + length;
    memcpy(view->since, oracle->since + offset, length * sizeof(*view->since));
    memcpy(view->holder, oracle->holder + offset, length * sizeof(*view->holder));
}

void oracle_view_close(struct oracle_view *view)
{
    free(view->since);
    view->since = view->holder = NULL;
}

/* Rule 6, for the byte that a read has shown to be of that write. */
static void hold(struct oracle *oracle, const struct oracle_view *view, uint64_t at,
                 uint32_t number)
{
    uint64_t offset = view->offset + at;
    if (oracle->since[offset] >= view->sent || may_be_zero(oracle, offset, view->since[at]))
        return;
    oracle->since[offset] = view->sent;
    oracle->holder[offset] = number;
}

static void hold_all(struct oracle *oracle, const struct oracle_view *view, const uint8_t *bytes)
{
    uint64_t at = (8 - view->offset % 8) % 8;
    for (; at + 8 <= view->length; at += 8) {
        uint64_t word;
        memcpy(&word, bytes + at, 8);
        uint32_t number = word ? word_owner(oracle, view->offset + at, bytes + at) : 0;
        if (number == 0 || oracle->ops[number].answered >= view->sent)
            continue;
        for (unsigned i = 0; i < 8; i++)
            hold(oracle, view, at + i, number);
    }
}

void oracle_view_check(struct oracle *oracle, const struct oracle_view *view, const void *bytes,
                       const char *who)
{
    oracle->tick++;
    oracle->reads_checked++;
    check(oracle, view->offset, view->length, bytes, view->since, view->holder, who);
    if (!sim_failed(oracle->sim) && view->length <= HOLD_BYTES_MAX)
        hold_all(oracle, view, bytes);
}

void oracle_view_check_zero(struct oracle *oracle, const struct oracle_view *view, uint64_t offset,
                            uint64_t length, const char *who)
{
    assert(offset >= view->offset && offset + length <= view->offset + view->length);
    oracle->statuses_checked++;
    const uint32_t *since = view->since + (offset - view->offset);
    for (uint64_t at = 0; at < length; at++) {
        if (!may_be_zero(oracle, offset + at, since[at])) {
            sim_fail(oracle->sim,
                     "%s: the byte at %#" PRIx64 " is called zero, but was written and answered "
                     "at tick %" PRIu32 " or later",
                     who, offset + at, since[at]);
            return;
        }
    }
}

bool oracle_keeps_space(const struct oracle *oracle, uint32_t number)
{
    const struct oracle_op *op = &oracle->ops[number];
    for (uint32_t i = oracle->first_live; i < oracle->op_count; i++) {
        const struct oracle_op *other = &oracle->ops[i];
        if (i != number && other->kind != ORACLE_WRITE && other->answered > op->sent &&
            ranges_overlap(op->offset, op->length, other->offset, other->length))
            return false;
    }
    return true;
}

/* --- what must be durable -------------------------------------------------------------------- */

static void check_durable(struct oracle *oracle, const struct oracle_op *op, const uint8_t *durable,
                          const char *who)
{
    char text[128];
    if (!durable)
        return;
    snprintf(text, sizeof(text), "%s: on stable storage", who);
    oracle->durables_checked++;
    check(oracle, op->offset, op->length, durable + op->offset, oracle->durable_since + op->offset,
          NULL, text);
}

uint32_t oracle_flush_send(struct oracle *oracle)
{
    return ++oracle->tick;
}

static bool awaits_flush(const struct oracle_op *op)
{
    return !op->is_durable && op->kind != ORACLE_TRIM;
}

/* Of the requests from `first` on, those that were answered before the flush was sent. */
static void flushed_from(struct oracle *oracle, uint32_t first, uint32_t sent,
                         const uint8_t *durable, const char *who)
{
    if (first < oracle->not_durable_from)
        first = oracle->not_durable_from;
    for (uint32_t i = first; i < oracle->op_count; i++)
        if (awaits_flush(&oracle->ops[i]) && oracle->ops[i].answered < sent)
            raise_since(oracle->durable_since, &oracle->ops[i]);
    for (uint32_t i = first; i < oracle->op_count && !sim_failed(oracle->sim); i++) {
        struct oracle_op *op = &oracle->ops[i];
        if (!awaits_flush(op) || op->answered >= sent)
            continue;
        op->is_durable = true;
        check_durable(oracle, op, durable, who);
    }
    while (oracle->not_durable_from < oracle->op_count &&
           !(awaits_flush(&oracle->ops[oracle->not_durable_from])))
        oracle->not_durable_from++;
    oracle->tick++;
}

void oracle_flushed(struct oracle *oracle, uint32_t sent, const uint8_t *durable, const char *who)
{
    flushed_from(oracle, oracle->first_live, sent, durable, who);
}

void oracle_forced(struct oracle *oracle, uint32_t number, const uint8_t *durable, const char *who)
{
    struct oracle_op *op = &oracle->ops[number];
    if (!awaits_flush(op))
        return;
    op->is_durable = true;
    raise_since(oracle->durable_since, op);
    check_durable(oracle, op, durable, who);
}

/* --- the server ends, or the power ----------------------------------------------------------- */

void oracle_server_gone(struct oracle *oracle, bool is_lost)
{
    oracle->tick++;
    for (uint32_t i = oracle->first_live; i < oracle->op_count; i++) {
        struct oracle_op *op = &oracle->ops[i];
        if (op->answered == ORACLE_NEVER)
            oracle_fail(oracle, i);
        op->is_durable |= is_lost;
    }
    oracle->life_from = oracle->op_count;
}

void oracle_closed(struct oracle *oracle, const uint8_t *durable)
{
    flushed_from(oracle, oracle->life_from, ++oracle->tick, durable, "after the image was closed");
}

void oracle_check_survivor(struct oracle *oracle, const uint8_t *image)
{
    oracle->survivors_checked++;
    check(oracle, 0, oracle->size_bytes, image, oracle->durable_since, NULL,
          "what a power cut left");
}

static void forget_ops(struct oracle *oracle)
{
    size_t table_bytes = oracle->size_bytes * sizeof(*oracle->since);
    memset(oracle->since, 0, table_bytes);
    memset(oracle->holder, 0, table_bytes);
    memset(oracle->zeroed, 0, table_bytes);
    memset(oracle->durable_since, 0, table_bytes);
}

void oracle_go_on_with(struct oracle *oracle, const uint8_t *image)
{
    oracle_server_gone(oracle, true);
    assert(oracle->zeroing_count == 0);
    memcpy(oracle->base, image, oracle->size_bytes);
    if (oracle->op_count > INITIAL + 1)
        forget_ops(oracle);
    oracle->first_live = oracle->not_durable_from = oracle->op_count;
}

void oracle_check_end(struct oracle *oracle, const uint8_t *cached, const uint8_t *durable)
{
    check(oracle, 0, oracle->size_bytes, cached, oracle->since, oracle->holder,
          "the file at the end");
    check(oracle, 0, oracle->size_bytes, durable, oracle->durable_since, NULL,
          "the file's stable storage at the end");
}
