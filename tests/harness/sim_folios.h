/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_FOLIOS_H
#define TESTS_HARNESS_SIM_FOLIOS_H

/*
 * The page cache of a file that is open with and without O_DIRECT at once, as Linux keeps it. A
 * buffered write makes a whole folio dirty, with bytes of its neighbours in it, and they are
 * written back with it later. A direct transfer has the dirty folios of its range written back when
 * it begins. One that becomes dirty while it is under way stays so, or is so again, and over a
 * direct write its neighbours' old bytes come back at its writeback. Clean folios are as the disk
 * below, so only dirty ones are kept.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_folio {
    uint8_t *data;                   /* NULL: clean */
    uint64_t dirtied_ns, written_ns; /* when it ceased to be clean; the last time */
};

struct sim_folios {
    uint64_t folio_bytes;
    struct sim_folio *folios;
    uint64_t count;
    uint64_t dirty_count;
    /* Where clean bytes come from. */
    void (*fetch)(void *owner, uint64_t offset, void *to, uint64_t length);
    /* Where dirty ones go; cuts off what lies past the end of the file. */
    void (*write_back)(void *owner, uint64_t offset, const void *from, uint64_t length);
    void *owner;
};

void folios_fini(struct sim_folios *folios);
/* A buffered write or read. */
void folios_write(struct sim_folios *folios, uint64_t offset, const void *from, uint64_t length,
                  uint64_t now_ns);
void folios_read(const struct sim_folios *folios, uint64_t offset, void *to, uint64_t length);
/* Writes back the folios that share a byte with the range and were dirty at `until_ns`. Those that
 * were not written after it are clean then. */
void folios_flush(struct sim_folios *folios, uint64_t offset, uint64_t length, uint64_t until_ns);

#endif
