/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include "tests/unit/protocol/fixture.h"

#include "common/endian.h"
#include "common/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const one_context[] = {"base:allocation", NULL};
static const char *const three_contexts[] = {"base:allocation", "qemu:dirty-bitmap:b0",
                                             "qemu:allocation-depth", NULL};

const struct nbd_export_info fixture_default = {
    .name = "",
    .size_bytes = FIXTURE_SIZE,
    .transmission_flags = FIXTURE_FLAGS,
    .block_minimum = 1,
    .block_preferred = NBD_BLOCK_PREFERRED_DEFAULT,
    .payload_max = NBD_PAYLOAD_DEFAULT_MAX,
    .contexts = one_context,
};
const struct nbd_export_info fixture_disk = {
    .name = "disk",
    .description = "a disk of three contexts",
    .size_bytes = FIXTURE_SIZE,
    .transmission_flags = FIXTURE_FLAGS,
    .block_minimum = 1,
    .block_preferred = NBD_BLOCK_PREFERRED_DEFAULT,
    .payload_max = NBD_PAYLOAD_DEFAULT_MAX,
    .contexts = three_contexts,
};
const struct nbd_export_info fixture_aligned = {
    .name = "aligned",
    .size_bytes = 1 << 20,
    /* DF is not the server's to offer; it has to be taken out. */
    .transmission_flags = FIXTURE_FLAGS | NBD_FLAG_READ_ONLY | NBD_FLAG_SEND_DF,
    .block_minimum = 512,
    .block_preferred = 65536,
    .payload_max = 1 << 20,
};

static const struct nbd_export_info *const all[] = {&fixture_default, &fixture_disk,
                                                    &fixture_aligned};

static const struct nbd_export_info *at(void *ctx, size_t index)
{
    (void)ctx;
    return index < sizeof(all) / sizeof(all[0]) ? all[index] : NULL;
}

static const struct nbd_export_info *lookup(void *ctx, const char *name, size_t length)
{
    const struct nbd_export_info *export;
    for (size_t i = 0; (export = at(ctx, i)); i++)
        if (strlen(export->name) == length && memcmp(export->name, name, length) == 0)
            return export;
    return NULL;
}

const struct handshake_exports fixture_exports = {.lookup = lookup, .at = at};

uint64_t fixture_seed(void)
{
    static uint64_t seed;
    if (seed == 0) {
        const char *given = getenv("PLATTER_SEED");
        seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
        print_message("PLATTER_SEED=%llu\n", (unsigned long long)seed);
    }
    return seed;
}

void talk_begin(struct talk *talk, uint32_t client_flags)
{
    memset(talk, 0, sizeof(*talk));
    talk->exports = &fixture_exports;
    writer_init(&talk->script, (size_t)16 << 20);
    writer_be32(&talk->script, client_flags);
}

void talk_end(struct talk *talk)
{
    writer_fini(&talk->script);
    writer_fini(&talk->answers);
    handshake_fini(&talk->handshake);
}

void talk_option(struct talk *talk, uint32_t option, const void *data, size_t length)
{
    writer_be64(&talk->script, NBD_OPTS_MAGIC);
    writer_be32(&talk->script, option);
    writer_be32(&talk->script, (uint32_t)length);
    writer_bytes(&talk->script, data, length);
    assert_false(talk->script.failed);
}

void talk_empty(struct talk *talk, uint32_t option)
{
    talk_option(talk, option, NULL, 0);
}

void talk_info(struct talk *talk, uint32_t option, const char *name, const uint16_t *infos,
               uint16_t info_count)
{
    struct writer data;
    writer_init(&data, 1 << 20);
    writer_be32(&data, (uint32_t)strlen(name));
    writer_bytes(&data, name, strlen(name));
    writer_be16(&data, info_count);
    for (unsigned i = 0; i < info_count; i++)
        writer_be16(&data, infos[i]);
    talk_option(talk, option, data.data, data.length);
    writer_fini(&data);
}

void talk_meta(struct talk *talk, uint32_t option, const char *name, const char *const *queries)
{
    struct writer data;
    writer_init(&data, 1 << 20);
    uint32_t count = 0;
    while (queries[count])
        count++;
    writer_be32(&data, (uint32_t)strlen(name));
    writer_bytes(&data, name, strlen(name));
    writer_be32(&data, count);
    for (uint32_t i = 0; i < count; i++) {
        writer_be32(&data, (uint32_t)strlen(queries[i]));
        writer_bytes(&data, queries[i], strlen(queries[i]));
    }
    talk_option(talk, option, data.data, data.length);
    writer_fini(&data);
}

/* One run of the script in pieces of at most `piece` bytes, or of random size when it is 0. */
static void play(struct talk *talk, size_t piece, struct random *random)
{
    struct writer output;
    writer_init(&output, HANDSHAKE_OUTPUT_MAX);
    writer_init(&talk->answers, (size_t)64 << 20);
    handshake_init(&talk->handshake, talk->exports);
    if (talk->shutting_down)
        handshake_shut_down(&talk->handshake);
    handshake_start(&talk->handshake, &output);
    assert_int_equal(output.length, NBD_GREETING_SIZE);
    writer_consume(&output, output.length);

    talk->event = HANDSHAKE_MORE;
    talk->used = 0;
    while (talk->event == HANDSHAKE_MORE && talk->used < talk->script.length) {
        size_t left = talk->script.length - talk->used, used = 0;
        size_t length = piece ? piece : 1 + random_below(random, 100);
        if (length > left)
            length = left;
        talk->event = handshake_feed(&talk->handshake, talk->script.data + talk->used, length,
                                     &used, &output);
        assert_true(used <= length);
        assert_true(used > 0 || output.length > HANDSHAKE_OUTPUT_PAUSE);
        assert_false(output.failed);
        talk->used += used;
        writer_bytes(&talk->answers, output.data, output.length);
        writer_consume(&output, output.length);
    }
    assert_false(talk->answers.failed);
    writer_fini(&output);
    reader_init(&talk->unread, talk->answers.data, talk->answers.length);
}

static void assert_same(const struct talk *a, const struct talk *b)
{
    assert_int_equal(a->event, b->event);
    assert_int_equal(a->used, b->used);
    assert_int_equal(a->answers.length, b->answers.length);
    if (a->answers.length > 0)
        assert_memory_equal(a->answers.data, b->answers.data, a->answers.length);
    assert_string_equal(a->handshake.reason, b->handshake.reason);
    assert_int_equal(a->handshake.is_ordinary, b->handshake.is_ordinary);
    assert_ptr_equal(a->handshake.result.export, b->handshake.result.export);
    assert_int_equal(a->handshake.result.context_mask, b->handshake.result.context_mask);
    assert_int_equal(a->handshake.result.headers, b->handshake.result.headers);
    assert_int_equal(a->handshake.result.transmission_flags,
                     b->handshake.result.transmission_flags);
}

void talk_play(struct talk *talk)
{
    struct random random;
    random_seed(&random, fixture_seed());
    play(talk, SIZE_MAX, NULL);
    for (int i = 0; i < 3; i++) {
        struct talk other = {
            .exports = talk->exports, .shutting_down = talk->shutting_down, .script = talk->script};
        play(&other, i == 0 ? 1 : 0, &random);
        assert_same(talk, &other);
        writer_fini(&other.answers);
        handshake_fini(&other.handshake);
    }
}

struct answer talk_answer(struct talk *talk)
{
    struct reader *reader = &talk->unread;
    struct answer answer;
    assert_true(reader_be64(reader) == NBD_REP_MAGIC);
    answer.option = reader_be32(reader);
    answer.type = reader_be32(reader);
    answer.length = reader_be32(reader);
    answer.data = reader_bytes(reader, answer.length);
    assert_false(reader->failed);
    return answer;
}

struct answer talk_expect(struct talk *talk, uint32_t option, uint32_t type)
{
    struct answer answer = talk_answer(talk);
    assert_int_equal(answer.option, option);
    assert_int_equal(answer.type, type);
    if (type & NBD_REP_FLAG_ERROR) {
        assert_in_range(answer.length, 1, NBD_STRING_MAX);
        for (uint32_t i = 0; i < answer.length; i++)
            assert_in_range(answer.data[i], 0x20, 0x7e);
    }
    if (type == NBD_REP_ACK)
        assert_int_equal(answer.length, 0);
    return answer;
}

void talk_expect_no_more(struct talk *talk)
{
    assert_true(reader_is_exhausted(&talk->unread));
}
