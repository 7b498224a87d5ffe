/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_folios.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void folios_fini(struct sim_folios *folios)
{
    for (uint64_t i = 0; i < folios->count; i++)
        free(folios->folios[i].data);
    free(folios->folios);
    *folios = (struct sim_folios){0};
}

static struct sim_folio *folio_at(struct sim_folios *folios, uint64_t index)
{
    if (index >= folios->count) {
        uint64_t count = index + 16;
        folios->folios = realloc(folios->folios, count * sizeof(*folios->folios));
        assert(folios->folios);
        memset(folios->folios + folios->count, 0,
               (count - folios->count) * sizeof(*folios->folios));
        folios->count = count;
    }
    return &folios->folios[index];
}

static uint64_t piece_length(const struct sim_folios *folios, uint64_t offset, uint64_t length)
{
    uint64_t left = folios->folio_bytes - offset % folios->folio_bytes;
    return length < left ? length : left;
}

void folios_write(struct sim_folios *folios, uint64_t offset, const void *from, uint64_t length,
                  uint64_t now_ns)
{
    for (uint64_t done = 0, part; done < length; done += part) {
        uint64_t at = offset + done, within = at % folios->folio_bytes;
        struct sim_folio *folio = folio_at(folios, at / folios->folio_bytes);
        part = piece_length(folios, at, length - done);
        if (!folio->data) {
            folio->data = malloc(folios->folio_bytes);
            assert(folio->data);
            folios->fetch(folios->owner, at - within, folio->data, folios->folio_bytes);
            folio->dirtied_ns = now_ns;
            folios->dirty_count++;
        }
        memcpy(folio->data + within, (const uint8_t *)from + done, part);
        folio->written_ns = now_ns;
    }
}

void folios_read(const struct sim_folios *folios, uint64_t offset, void *to, uint64_t length)
{
    for (uint64_t done = 0, part; done < length; done += part) {
        uint64_t at = offset + done, index = at / folios->folio_bytes;
        uint8_t *into = (uint8_t *)to + done;
        part = piece_length(folios, at, length - done);
        if (index < folios->count && folios->folios[index].data)
            memcpy(into, folios->folios[index].data + at % folios->folio_bytes, part);
        else
            folios->fetch(folios->owner, at, into, part);
    }
}

void folios_flush(struct sim_folios *folios, uint64_t offset, uint64_t length, uint64_t until_ns)
{
    if (folios->dirty_count == 0 || length == 0)
        return;
    uint64_t last = (offset + length - 1) / folios->folio_bytes;
    for (uint64_t i = offset / folios->folio_bytes; i <= last && i < folios->count; i++) {
        struct sim_folio *folio = &folios->folios[i];
        if (!folio->data || folio->dirtied_ns > until_ns)
            continue;
        /* What came later goes with it, as if the kernel had written that back by itself. */
        folios->write_back(folios->owner, i * folios->folio_bytes, folio->data,
                           folios->folio_bytes);
        if (folio->written_ns > until_ns) {
            folio->dirtied_ns = folio->written_ns;
            continue;
        }
        free(folio->data);
        folio->data = NULL;
        folios->dirty_count--;
    }
}
