/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROTOCOL_METACONTEXT_H
#define PROTOCOL_METACONTEXT_H

/*
 * Metadata contexts ("Metadata querying"): which of an export's contexts a client's queries choose.
 * The export lists its contexts by name (struct nbd_export_info); a selection is a mask over that
 * list, so a duplicate query cannot make a second id. On the wire a context is named by an id made
 * from its index.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define METACONTEXTS_MAX 64
#define METACONTEXT_BASE_ALLOCATION "base:allocation"

/* The id that goes over the wire; never 0, which LIST_META_CONTEXT uses for "no id". */
static inline uint32_t metacontext_id(unsigned index)
{
    return index + 1;
}

/* How many contexts a NULL-ended list (may be NULL) has; at most METACONTEXTS_MAX, asserted. */
unsigned metacontext_count(const char *const *contexts);

/* The context that a SET query selects: exactly one name. "base:" selects none, and a query of an
 * unknown namespace none either. */
uint64_t metacontext_select(const char *const *contexts, const char *query, size_t length);

/* The contexts that a LIST query shows: an exact name, or all names that begin with it where it is
 * a whole namespace: "base:", "qemu:", "qemu:dirty-bitmap:". A name may end with a colon itself. */
uint64_t metacontext_list(const char *const *contexts, const char *query, size_t length);

#endif
