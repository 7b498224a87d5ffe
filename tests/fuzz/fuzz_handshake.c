/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The handshake against any client. Input: two bytes that seed the split (and the first of
 * which says whether the server is shutting down), then what the client sends. Properties:
 * - the bytes out, the outcome and the log line are the same whole and in pieces;
 * - no more is taken than was given, and memory stays inside its bounds;
 * - a checker that knows nothing of the code walks the client's options and the answers side by
 *   side: every option but the last has answers of its own number in the layout of their type,
 *   and exactly one final one;
 * - the headers that were agreed on are the ones the client asked for last with success.
 */
#include "tests/fuzz/fuzz.h"

#include "common/random.h"
#include "protocol/handshake.h"

#include <stdbool.h>
#include <string.h>

static const char *const contexts[] = {"base:allocation", "qemu:dirty-bitmap:b", NULL};

static const struct nbd_export_info exports[] = {
    {.name = "",
     .size_bytes = 1000001,
     .block_minimum = 1,
     .block_preferred = 4096,
     .payload_max = NBD_PAYLOAD_DEFAULT_MAX,
     .contexts = contexts},
    {.name = "a",
     .description = "described",
     .size_bytes = 1 << 20,
     .transmission_flags = NBD_FLAG_READ_ONLY,
     .block_minimum = 512,
     .block_preferred = 4096,
     .payload_max = 1 << 20},
};

static const struct nbd_export_info *at(void *ctx, size_t index)
{
    (void)ctx;
    return index < 2 ? &exports[index] : NULL;
}

static const struct nbd_export_info *lookup(void *ctx, const char *name, size_t length)
{
    FUZZ_CHECK(length <= NBD_STRING_MAX);
    FUZZ_CHECK(length == 0 || !memchr(name, 0, length));
    for (size_t i = 0; i < 2; i++)
        if (strlen(exports[i].name) == length && memcmp(exports[i].name, name, length) == 0)
            return at(ctx, i);
    return NULL;
}

static const struct handshake_exports list = {.lookup = lookup, .at = at};

struct outcome {
    struct writer bytes;
    enum handshake_event event;
    size_t used;
    char reason[HANDSHAKE_REASON_MAX];
    struct handshake_result result;
};

static void play(const uint8_t *data, size_t size, struct random *split, bool shutting_down,
                 struct outcome *outcome)
{
    static struct handshake handshake;
    struct writer output;
    writer_init(&outcome->bytes, (size_t)512 << 20);
    writer_init(&output, HANDSHAKE_OUTPUT_MAX);
    handshake_init(&handshake, &list);
    if (shutting_down)
        handshake_shut_down(&handshake);
    handshake_start(&handshake, &output);
    outcome->event = HANDSHAKE_MORE;
    outcome->used = 0;
    bool sent = true;
    while (outcome->event == HANDSHAKE_MORE && outcome->used < size) {
        size_t length = size - outcome->used, used = SIZE_MAX;
        if (split)
            length = 1 + random_below(split, length < 40 ? length : 40);
        outcome->event = handshake_feed(&handshake, data + outcome->used, length, &used, &output);
        FUZZ_CHECK(used <= length);
        FUZZ_CHECK(used > 0 || !sent);
        FUZZ_CHECK(!output.failed);
        FUZZ_CHECK(output.capacity <= HANDSHAKE_OUTPUT_MAX);
        FUZZ_CHECK(handshake.payload.capacity <= HANDSHAKE_PAYLOAD_MAX);
        outcome->used += used;
        sent = !split || random_below(split, 4) > 0 || used == 0;
        if (sent) {
            writer_bytes(&outcome->bytes, output.data, output.length);
            writer_consume(&output, output.length);
        }
    }
    writer_bytes(&outcome->bytes, output.data, output.length);
    FUZZ_CHECK(!outcome->bytes.failed);
    if (outcome->event == HANDSHAKE_MORE)
        FUZZ_CHECK(handshake_eof(&handshake) == HANDSHAKE_CLOSE);
    memcpy(outcome->reason, handshake.reason, sizeof(outcome->reason));
    outcome->result = handshake.result;
    writer_fini(&output);
    handshake_fini(&handshake);
}

/* The checker's own reading of the two streams; it shares no code with what it checks. */
struct view {
    const uint8_t *data;
    size_t left;
};

static uint64_t number(struct view *view, int bytes)
{
    uint64_t value = 0;
    FUZZ_CHECK(view->left >= (size_t)bytes);
    for (int i = 0; i < bytes; i++)
        value = value << 8 | *view->data++;
    view->left -= (size_t)bytes;
    return value;
}

static void skip(struct view *view, size_t length)
{
    FUZZ_CHECK(view->left >= length);
    view->data += length;
    view->left -= length;
}

static void check_printable(const uint8_t *text, size_t length)
{
    FUZZ_CHECK(length <= 4096);
    for (size_t i = 0; i < length; i++)
        FUZZ_CHECK(text[i] >= 0x20 && text[i] < 0x7f);
}

static void check_info(const uint8_t *data, uint64_t length)
{
    FUZZ_CHECK(length >= 2);
    switch (data[0] << 8 | data[1]) {
    case 0:
        FUZZ_CHECK(length == 12);
        break;
    case 1:
    case 2:
        FUZZ_CHECK(length <= 2 + 4096);
        break;
    case 3:
        FUZZ_CHECK(length == 14);
        break;
    default:
        FUZZ_CHECK(!"an information that exists");
    }
}

/* One reply to this option; true when it is the final one. */
static bool check_reply(struct view *answers, uint32_t option)
{
    FUZZ_CHECK(number(answers, 8) == UINT64_C(0x3e889045565a9));
    FUZZ_CHECK(number(answers, 4) == option);
    uint64_t type = number(answers, 4), length = number(answers, 4);
    const uint8_t *data = answers->data;
    skip(answers, length);
    if (type >> 31) {
        FUZZ_CHECK((type & 0x7fffffff) >= 1 && (type & 0x7fffffff) <= 10);
        FUZZ_CHECK(length > 0);
        check_printable(data, length);
        return true;
    }
    switch (type) {
    case 1:
        FUZZ_CHECK(length == 0);
        return true;
    case 2: {
        struct view server = {data, length};
        FUZZ_CHECK(option == 3);
        FUZZ_CHECK(number(&server, 4) <= server.left);
        return false;
    }
    case 3:
        FUZZ_CHECK(option == 6 || option == 7);
        check_info(data, length);
        return false;
    case 4:
        FUZZ_CHECK(option == 9 || option == 10);
        FUZZ_CHECK(length > 4);
        return false;
    }
    FUZZ_CHECK(!"a reply type that exists");
    return false;
}

static void check_dialogue(const uint8_t *data, size_t size, const struct outcome *outcome)
{
    struct view client = {data, outcome->used};
    struct view answers = {outcome->bytes.data, outcome->bytes.length};
    FUZZ_CHECK(outcome->used <= size);
    FUZZ_CHECK(answers.left >= 18 && memcmp(answers.data, "NBDMAGICIHAVEOPT\0\3", 18) == 0);
    skip(&answers, 18);
    if (client.left < 4)
        return;
    uint64_t flags = number(&client, 4);
    while (answers.left > 0) {
        /* Something was answered, so an option lies there whole. */
        FUZZ_CHECK(number(&client, 8) == UINT64_C(0x49484156454F5054));
        uint32_t option = (uint32_t)number(&client, 4);
        skip(&client, number(&client, 4));
        if (option == 1) {
            FUZZ_CHECK(outcome->event == HANDSHAKE_READY && client.left == 0);
            FUZZ_CHECK(answers.left == (flags & 2 ? 10 : 134));
            return;
        }
        FUZZ_CHECK(flags & 1);
        while (!check_reply(&answers, option))
            ;
    }
    /* What was not answered is at most one option, not whole or the reason for the end. */
    if (outcome->event == HANDSHAKE_READY)
        FUZZ_CHECK(client.left == 0);
    if (outcome->event == HANDSHAKE_MORE && client.left >= 16) {
        skip(&client, 12);
        FUZZ_CHECK(number(&client, 4) > client.left);
    }
}

/* What kind of headers the acknowledged options of the dialogue ask for. */
static void check_headers(const uint8_t *data, const struct outcome *outcome)
{
    if (outcome->event != HANDSHAKE_READY)
        return;
    struct view client = {data, outcome->used};
    struct view answers = {outcome->bytes.data, outcome->bytes.length};
    enum nbd_headers headers = NBD_HEADERS_SIMPLE;
    skip(&client, 4);
    skip(&answers, 18);
    while (client.left > 0) {
        skip(&client, 8);
        uint32_t option = (uint32_t)number(&client, 4);
        skip(&client, number(&client, 4));
        if (option == 1) {
            FUZZ_CHECK(headers != NBD_HEADERS_EXTENDED);
            break;
        }
        uint64_t type;
        do {
            skip(&answers, 12);
            type = number(&answers, 4);
            skip(&answers, number(&answers, 4));
        } while (type >> 31 == 0 && type != 1);
        if (type == 1 && (option == 8 || option == 11)) {
            enum nbd_headers asked = option == 8 ? NBD_HEADERS_STRUCTURED : NBD_HEADERS_EXTENDED;
            FUZZ_CHECK(asked > headers);
            headers = asked;
        }
    }
    FUZZ_CHECK(outcome->result.headers == headers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct random split;
    random_seed(&split, (uint64_t)(data[0] << 8 | data[1]));
    bool shutting_down = data[0] >> 4 == 0xf;
    data += 2, size -= 2;

    struct outcome whole, parts;
    play(data, size, NULL, shutting_down, &whole);
    play(data, size, &split, shutting_down, &parts);
    FUZZ_CHECK(whole.event == parts.event);
    FUZZ_CHECK(whole.used == parts.used);
    FUZZ_CHECK(whole.bytes.length == parts.bytes.length);
    FUZZ_CHECK(memcmp(whole.bytes.data, parts.bytes.data, whole.bytes.length) == 0);
    FUZZ_CHECK(strcmp(whole.reason, parts.reason) == 0);
    FUZZ_CHECK(whole.result.export == parts.result.export);
    FUZZ_CHECK(whole.result.context_mask == parts.result.context_mask);
    FUZZ_CHECK(whole.result.headers == parts.result.headers);
    check_headers(data, &whole);
    check_printable((const uint8_t *)whole.reason, strlen(whole.reason));
    check_dialogue(data, size, &whole);
    FUZZ_CHECK(!shutting_down || whole.event != HANDSHAKE_READY);
    writer_fini(&whole.bytes);
    writer_fini(&parts.bytes);
    return 0;
}
