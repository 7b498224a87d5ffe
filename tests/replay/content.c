/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/replay/content.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define SECTOR 512
#define SECTOR_WORDS (SECTOR / 8)

static uint64_t mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

/* --- bytes -------------------------------------------------------------------------------------
 */

static void fill_sector(uint64_t sector, uint64_t seed, uint64_t *words)
{
    uint64_t base = mix(seed + 1) ^ mix(~sector);
    for (unsigned i = 0; i < SECTOR_WORDS; i++)
        words[i] = base + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

void content_fill(uint64_t sector, uint64_t count, uint64_t seed, void *bytes)
{
    uint64_t words[SECTOR_WORDS];
    assert(seed < UINT64_C(1) << 63);
    for (uint64_t i = 0; i < count; i++) {
        fill_sector(sector + i, seed, words);
        memcpy((uint8_t *)bytes + i * SECTOR, words, SECTOR);
    }
}

static uint64_t fold(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

uint64_t content_hash(const struct content *content, uint64_t sector, uint64_t count,
                      const void *bytes, uint64_t hash)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t words[SECTOR_WORDS];
        bool is_open = content->sectors[sector + i].may_be_zero;
        memcpy(words, (const uint8_t *)bytes + i * SECTOR, SECTOR);
        for (size_t at = 0; at < SECTOR_WORDS; at++)
            hash = fold(hash, is_open ? 0 : words[at]);
    }
    return hash;
}

/* --- life --------------------------------------------------------------------------------------
 */

static void *share(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

int content_init(struct content *content, uint64_t sector_count, unsigned changes_max)
{
    *content = (struct content){.sector_count = sector_count, .change_room = changes_max + 1};
    content->sectors = share(sector_count * sizeof(*content->sectors));
    content->changes = share(content->change_room * sizeof(*content->changes));
    if (content->sectors && content->changes)
        return 0;
    content_fini(content);
    return -ENOMEM;
}

void content_fini(struct content *content)
{
    if (content->sectors)
        munmap(content->sectors, content->sector_count * sizeof(*content->sectors));
    if (content->changes)
        munmap(content->changes, content->change_room * sizeof(*content->changes));
    content->sectors = NULL;
    content->changes = NULL;
}

/* --- changes -----------------------------------------------------------------------------------
 */

static uint32_t new_change(struct content *content, uint64_t sector, uint64_t count)
{
    uint32_t tick = ++content->tick;
    assert(content->change_count < content->change_room);
    content->changes[content->change_count++] =
        (struct content_change){.sector = sector, .count = count, .tick = tick};
    return tick;
}

static void remember(struct content_sector *at, uint64_t value)
{
    for (unsigned i = 0; i < at->old_count; i++)
        if (at->old[i] == value)
            return;
    if (at->old_count == CONTENT_OLD_MAX)
        at->is_unknown = true; /* a crash may bring back any of them */
    else
        at->old[at->old_count++] = value;
}

static void make_durable(struct content_sector *at)
{
    at->changed_at = 0;
    if (at->is_unsure)
        return; /* which of them it is has to be read first */
    at->old_count = 0;
    at->is_unknown = at->old_may_be_zero = false;
}

static void change(struct content_sector *at, uint64_t value, uint32_t tick)
{
    remember(at, at->now);
    at->old_may_be_zero |= at->may_be_zero;
    at->now = value;
    at->may_be_zero = at->is_unsure = false;
    at->changed_at = tick;
    if (tick == 0) {
        at->old_count = 0;
        at->is_unknown = at->old_may_be_zero = false;
    }
}

void content_write(struct content *content, uint64_t sector, uint64_t count, uint64_t seed,
                   bool is_durable)
{
    uint32_t tick = is_durable ? 0 : new_change(content, sector, count);
    for (uint64_t i = sector; i < sector + count; i++)
        change(&content->sectors[i], seed + 1, tick);
}

void content_zero(struct content *content, uint64_t sector, uint64_t count, bool is_durable)
{
    uint32_t tick = is_durable ? 0 : new_change(content, sector, count);
    for (uint64_t i = sector; i < sector + count; i++)
        change(&content->sectors[i], 0, tick);
}

void content_discard(struct content *content, uint64_t sector, uint64_t count)
{
    for (uint64_t i = sector; i < sector + count; i++)
        content->sectors[i].may_be_zero = true;
}

void content_write_failed(struct content *content, uint64_t sector, uint64_t count, uint64_t seed)
{
    uint32_t tick = new_change(content, sector, count);
    for (uint64_t i = sector; i < sector + count; i++) {
        struct content_sector *at = &content->sectors[i];
        remember(at, seed + 1);
        at->is_unsure = true;
        at->changed_at = tick;
    }
}

void content_flush(struct content *content, uint32_t since)
{
    unsigned kept = 0;
    for (unsigned c = 0; c < content->change_count; c++) {
        const struct content_change *each = &content->changes[c];
        if (each->tick > since) {
            content->changes[kept++] = *each;
            continue;
        }
        for (uint64_t i = each->sector; i < each->sector + each->count; i++)
            if (content->sectors[i].changed_at <= since)
                make_durable(&content->sectors[i]);
    }
    content->change_count = kept;
}

bool content_crash(struct content *content)
{
    bool is_loose = false;
    for (unsigned c = 0; c < content->change_count; c++) {
        const struct content_change *each = &content->changes[c];
        for (uint64_t i = each->sector; i < each->sector + each->count; i++) {
            if (content->sectors[i].changed_at == 0)
                continue;
            content->sectors[i].is_unsure = true;
            is_loose = true;
        }
    }
    return is_loose;
}

/* --- what is read ------------------------------------------------------------------------------
 */

/* may_be_zero: each byte may be zero as well. A discard need not end at a sector's end: what a
 * format keeps of it may lie at any place of its file, and only whole blocks there are given back.
 */
static bool holds(uint64_t sector, uint64_t value, bool may_be_zero, const uint8_t *bytes)
{
    uint64_t words[SECTOR_WORDS] = {0};
    const uint8_t *wanted = (const uint8_t *)words;
    if (value != 0)
        fill_sector(sector, value - 1, words);
    if (memcmp(bytes, wanted, SECTOR) == 0)
        return true;
    for (unsigned i = 0; may_be_zero && i < SECTOR; i++)
        may_be_zero = bytes[i] == wanted[i] || bytes[i] == 0;
    return may_be_zero;
}

static bool check_sector(struct content_sector *at, uint64_t sector, const uint8_t *bytes)
{
    if (holds(sector, at->now, at->may_be_zero, bytes)) {
        at->is_unsure = false;
        return true;
    }
    if (!at->is_unsure)
        return false;
    for (unsigned i = 0; i < at->old_count; i++)
        if (holds(sector, at->old[i], at->old_may_be_zero || at->may_be_zero, bytes)) {
            uint64_t lost = at->now;
            at->now = at->old[i];
            at->old[i] = lost; /* it is not durable yet, and may come back */
            at->may_be_zero |= at->old_may_be_zero;
            at->is_unsure = false;
            return true;
        }
    return at->is_unknown;
}

bool content_check(struct content *content, uint64_t sector, uint64_t count, const void *bytes,
                   uint64_t *ret_sector)
{
    for (uint64_t i = 0; i < count; i++)
        if (!check_sector(&content->sectors[sector + i], sector + i,
                          (const uint8_t *)bytes + i * SECTOR)) {
            *ret_sector = sector + i;
            return false;
        }
    return true;
}
