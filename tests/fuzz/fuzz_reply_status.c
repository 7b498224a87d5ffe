/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The collector of BLOCK_STATUS descriptors against any list of extents. Input: 22 bytes of
 * setting, then 6 bytes an extent. Properties: every rule of NBD_REPLY_TYPE_BLOCK_STATUS and of its
 * extended form, and that the descriptors tell the truth: at each place they show the flags of the
 * extent that lies there.
 */
#include "tests/fuzz/fuzz.h"

#include "common/endian.h"
#include "protocol/reply_status.h"

#include <stdbool.h>

#define EXTENTS_MAX 256
#define DESCRIPTORS 64

struct extent {
    uint64_t length;
    uint32_t flags;
};

/* The flags that the extents show at a place, and to where; false past their end. */
static bool extent_at(const struct extent *extents, size_t count, uint64_t place, uint32_t *flags,
                      uint64_t *end)
{
    unsigned __int128 start = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned __int128 stop = start + extents[i].length;
        if (place < stop) {
            *flags = extents[i].flags;
            *end = stop > UINT64_MAX ? UINT64_MAX : (uint64_t)stop;
            return true;
        }
        start = stop;
    }
    return false;
}

static void check_truth(const struct extent *extents, size_t count, uint64_t from, uint64_t to,
                        uint32_t flags)
{
    while (from < to) {
        uint32_t real_flags;
        uint64_t end;
        FUZZ_CHECK(extent_at(extents, count, from, &real_flags, &end));
        FUZZ_CHECK(real_flags == flags);
        from = end;
    }
}

/* Reads one descriptor of either kind: returns its length. */
static uint64_t descriptor_at(const uint8_t *descriptors, uint32_t index,
                              const struct request *request, uint32_t *ret_flags)
{
    if (request->headers == NBD_HEADERS_EXTENDED) {
        const uint8_t *at = descriptors + (size_t)index * 16;
        FUZZ_CHECK(load_be32(at + 8) == 0);
        *ret_flags = load_be32(at + 12);
        return load_be64(at);
    }
    *ret_flags = load_be32(descriptors + (size_t)index * 8 + 4);
    return load_be32(descriptors + (size_t)index * 8);
}

static void check_rules(const struct reply_status *status, const uint8_t *descriptors,
                        const struct request *request, uint64_t size, uint32_t count_max,
                        const struct extent *extents, size_t count)
{
    uint64_t place = 0;
    bool one = request->flags & NBD_CMD_FLAG_REQ_ONE;
    uint32_t last_flags = UINT32_MAX;
    FUZZ_CHECK(reply_status_bytes(status) == status->count * reply_status_descriptor_size(request));
    FUZZ_CHECK(status->count >= 1 && status->count <= count_max);
    FUZZ_CHECK(!one || status->count == 1);
    for (uint32_t i = 0; i < status->count; i++) {
        uint32_t flags;
        uint64_t length = descriptor_at(descriptors, i, request, &flags);
        FUZZ_CHECK(length > 0);
        FUZZ_CHECK(place < request->length); /* the sum of all before this one */
        FUZZ_CHECK(last_flags != flags);
        last_flags = flags;
        check_truth(extents, count, place, place + length, flags);
        place += length;
    }
    FUZZ_CHECK(place == status->covered);
    FUZZ_CHECK(place <= size - request->offset);
    FUZZ_CHECK(!one || place <= request->length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 22 + 6)
        return 0;
    uint64_t export_size = load_be64(data) >> 1, offset = load_be64(data + 8) >> 1;
    bool extended = data[21] & 0x10;
    uint64_t length = (uint64_t)load_be32(data + 16) << (extended ? data[21] >> 5 : 0) * 4;
    uint32_t count_max = 1 + data[20] % DESCRIPTORS;
    struct request request = {.command = NBD_CMD_BLOCK_STATUS,
                              .offset = offset,
                              .length = length,
                              .flags = data[21] & NBD_CMD_FLAG_REQ_ONE,
                              .headers = extended ? NBD_HEADERS_EXTENDED : NBD_HEADERS_STRUCTURED};
    if (length == 0 || offset >= export_size || length > export_size - offset)
        return 0;
    data += 22, size -= 22;

    /* Exactly as much memory as was promised, so that AddressSanitizer sees one byte more. */
    uint8_t *descriptors = malloc(count_max * reply_status_descriptor_size(&request));
    struct extent extents[EXTENTS_MAX];
    size_t count = 0;
    struct reply_status status;
    reply_status_init(&status, &request, export_size, descriptors, count_max);
    bool more = true;
    for (; size >= 6 && count < EXTENTS_MAX && more; data += 6, size -= 6, count++) {
        extents[count].length = (uint64_t)(load_be32(data) | 1) << data[4] % 33;
        extents[count].flags = data[5] & 3;
        uint64_t before = status.covered;
        more = reply_status_add(&status, extents[count].length, extents[count].flags);
        FUZZ_CHECK(status.covered >= before);
        FUZZ_CHECK(!more || status.covered < request.length);
        FUZZ_CHECK(!more || status.covered == before + extents[count].length);
    }
    FUZZ_CHECK(!reply_status_add(&status, 1, 0) || more);
    /* The probe just made may have been merged: it is an extent too. */
    if (count < EXTENTS_MAX) {
        extents[count++] = (struct extent){.length = 1, .flags = 0};
        check_rules(&status, descriptors, &request, export_size, count_max, extents, count);
    }
    free(descriptors);
    return 0;
}
