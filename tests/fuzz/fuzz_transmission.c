/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The transmission's parser against any client. Input: one byte that chooses the export, two that
 * seed the split (and the first of which says whether the server is shutting down, the second
 * whether the headers are extended), then what the client sends. Properties:
 * - the events are the same whole and in pieces, and no more is taken than was given;
 * - what is passed on as good is good by a second, plain reading of the specification, and what is
 *   refused is not;
 * - the answer to what is refused is well-formed, and a chunk where it must be one;
 * - each header is looked for where the one before it and its payload end, refused or not.
 */
#include "tests/fuzz/fuzz.h"

#include "common/endian.h"
#include "common/random.h"
#include "protocol/reply_answer.h"
#include "protocol/transmission.h"

#include <stdbool.h>
#include <string.h>

struct setting {
    uint64_t size;
    uint32_t block_minimum, payload_max;
    bool read_only, structured, contexts, commands, fua;
    bool extended;
    bool shutting_down;
};

static struct transmission begin(const struct setting *setting)
{
    struct nbd_export_info export = {.size_bytes = setting->size,
                                     .block_minimum = setting->block_minimum,
                                     .payload_max = setting->payload_max};
    struct handshake_result result = {
        .export = &export,
        .transmission_flags = NBD_FLAG_HAS_FLAGS | (setting->read_only ? NBD_FLAG_READ_ONLY : 0) |
                              (setting->fua ? NBD_FLAG_SEND_FUA : 0) |
                              (setting->structured ? NBD_FLAG_SEND_DF : 0) |
                              (setting->commands ? NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_TRIM |
                                                       NBD_FLAG_SEND_WRITE_ZEROES |
                                                       NBD_FLAG_SEND_CACHE | NBD_FLAG_SEND_FAST_ZERO
                                                 : 0),
        .headers = setting->extended     ? NBD_HEADERS_EXTENDED
                   : setting->structured ? NBD_HEADERS_STRUCTURED
                                         : NBD_HEADERS_SIMPLE,
        .context_mask = setting->contexts && setting->structured};
    FUZZ_CHECK(setting->structured || !setting->extended);
    struct transmission transmission;
    transmission_init(&transmission, &result);
    if (setting->shutting_down)
        transmission_shut_down(&transmission);
    return transmission;
}

/* A plain second opinion: may this be carried out? */
static bool is_good(const struct request *request, const struct setting *setting)
{
    unsigned flags = request->flags;
    if (setting->shutting_down)
        return false;
    if (setting->fua)
        flags &= ~1u;
    if (setting->extended) {
        if ((request->command == 1) != ((flags & 32) != 0))
            return false;
        flags &= ~32u;
    }
    bool writes = request->command == 1 || request->command == 4 || request->command == 6;
    switch (request->command) {
    case 0:
        if (setting->structured)
            flags &= ~4u;
        break;
    case 1:
        break;
    case 3:
        return setting->commands && flags == 0 && request->offset == 0 && request->length == 0;
    case 4:
        if (!setting->commands)
            return false;
        break;
    case 6:
        if (!setting->commands)
            return false;
        flags &= ~(2u | 16u);
        break;
    case 5:
        if (!setting->commands)
            return false;
        break;
    case 7:
        if (!setting->contexts || !setting->structured)
            return false;
        flags &= ~8u;
        break;
    default:
        return false;
    }
    if (flags != 0 || (writes && setting->read_only) || request->length == 0)
        return false;
    if (request->command <= 1 && request->length > setting->payload_max)
        return false;
    return (unsigned __int128)request->offset + request->length <= setting->size &&
           request->offset % setting->block_minimum == 0 &&
           request->length % setting->block_minimum == 0;
}

static void check_answer(const struct transmission_item *item, const struct setting *setting)
{
    uint8_t bytes[REPLY_ANSWER_MAX];
    size_t length = reply_answer(bytes, &item->request, item->verdict.error, item->verdict.text);
    FUZZ_CHECK(length <= sizeof(bytes));
    if (setting->extended) {
        FUZZ_CHECK(memcmp(bytes, "\x6e\x8a\x27\x8c\0\1", 6) == 0);
        FUZZ_CHECK(load_be64(bytes + 8) == item->request.cookie);
        FUZZ_CHECK(load_be64(bytes + 16) == item->request.offset);
        FUZZ_CHECK(length == 32 + load_be64(bytes + 24));
        return;
    }
    bool chunk = memcmp(bytes, "\x66\x8e\x33\xef", 4) == 0;
    FUZZ_CHECK(chunk || memcmp(bytes, "\x67\x44\x66\x98", 4) == 0);
    FUZZ_CHECK(!chunk || setting->structured);
    FUZZ_CHECK(chunk || !setting->structured || item->request.command != NBD_CMD_READ);
    uint32_t payload = (uint32_t)bytes[16] << 24 | bytes[17] << 16 | bytes[18] << 8 | bytes[19];
    FUZZ_CHECK(length == (chunk ? 20 + payload : 16));
    FUZZ_CHECK(!chunk || bytes[5] == 1);
}

struct log {
    const char *eof; /* what is said of a client that leaves at the end of the input */
    uint64_t hash;   /* of all events in order */
    uint64_t count;
    enum transmission_event last;
};

static void note(struct log *log, uint64_t value)
{
    log->hash = (log->hash ^ value) * UINT64_C(0x100000001b3);
    log->count++;
}

static void note_event(struct log *log, enum transmission_event event,
                       const struct transmission_item *item, const struct setting *setting)
{
    log->last = event;
    if (event == TRANSMISSION_NEED_MORE)
        return;
    note(log, event);
    if (event == TRANSMISSION_BROKEN)
        FUZZ_CHECK(item->reason && strlen(item->reason) > 0);
    if (event != TRANSMISSION_REQUEST && event != TRANSMISSION_ANSWER)
        return;
    note(log, item->request.cookie);
    FUZZ_CHECK(is_good(&item->request, setting) == (event == TRANSMISSION_REQUEST));
    if (event == TRANSMISSION_ANSWER) {
        note(log, item->verdict.error);
        check_answer(item, setting);
    }
}

/* Plays the stream as a connection would: what is not taken is shown again with what comes next. */
static struct log play(const uint8_t *data, size_t size, struct random *split,
                       const struct setting *setting)
{
    struct transmission transmission = begin(setting);
    struct log log = {.hash = 1};
    const size_t header = setting->extended ? 32 : 28;
    size_t at = 0, shown = 0;
    uint64_t next = 0; /* where the next header must begin */
    while (shown < size || at < size) {
        size_t more = size - shown;
        if (split && more > 0)
            more = 1 + random_below(split, more < 50 ? more : 50);
        shown += more;
        while (true) {
            uint32_t payload = transmission_payload_left(&transmission);
            if (payload > 0) {
                uint32_t taken = payload < shown - at ? payload : (uint32_t)(shown - at);
                transmission_payload_taken(&transmission, taken);
                at += taken;
                if (taken < payload)
                    break;
            }
            struct transmission_item item = {.reason = NULL};
            size_t used = SIZE_MAX;
            enum transmission_event event =
                transmission_next(&transmission, data + at, shown - at, &used, &item);
            FUZZ_CHECK(used <= shown - at);
            at += used;
            note_event(&log, event, &item, setting);
            if (event == TRANSMISSION_REQUEST || event == TRANSMISSION_ANSWER) {
                bool has_payload =
                    setting->extended ? item.request.flags & 32 : item.request.command == 1;
                FUZZ_CHECK(at - header == next);
                next = at + (has_payload ? item.request.length : 0);
            }
            if (event == TRANSMISSION_DISCONNECT || event == TRANSMISSION_BROKEN)
                return log;
            if (event == TRANSMISSION_NEED_MORE)
                break;
        }
        FUZZ_CHECK(shown - at < header);
        if (shown == size)
            break;
    }
    log.eof = transmission_eof(&transmission, size - at);
    FUZZ_CHECK(log.eof || at == size);
    return log;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t sizes[] = {0, 1000001, UINT64_C(5) << 30, INT64_MAX};
    if (size < 3)
        return 0;
    struct setting setting = {
        .read_only = data[0] & 1,
        .structured = data[0] & 2 || data[2] & 0x80,
        .extended = data[2] & 0x80,
        .contexts = data[0] & 4,
        .commands = data[0] & 8,
        .fua = data[0] & 16,
        .block_minimum = data[0] & 32 ? 512 : 1,
        .payload_max = data[0] & 32 ? 4096 : NBD_PAYLOAD_DEFAULT_MAX,
        .size = sizes[data[0] >> 6],
        .shutting_down = data[1] >> 4 == 0xf,
    };
    struct random split;
    random_seed(&split, (uint64_t)(data[1] << 8 | data[2]));
    data += 3, size -= 3;
    struct log whole = play(data, size, NULL, &setting);
    struct log parts = play(data, size, &split, &setting);
    FUZZ_CHECK(whole.hash == parts.hash);
    FUZZ_CHECK(whole.count == parts.count);
    FUZZ_CHECK(whole.last == parts.last);
    FUZZ_CHECK(whole.eof == parts.eof);
    return 0;
}
