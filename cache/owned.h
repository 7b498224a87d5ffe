/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CACHE_OWNED_H
#define CACHE_OWNED_H

/*
 * Which clusters of a node hold metadata, so that a write of anything else to one of them is found
 * before it is made. One probe a cluster, whatever the image's size.
 *
 * Each cluster has one owner at most: a small number that the format gives a meaning (header, L1,
 * L2, snapshot table). Changes come with the image's monitor held. Questions take no lock; about a
 * cluster that is given or taken in this moment they answer either.
 */

#include <stdbool.h>
#include <stdint.h>

struct owned;

#define OWNED_NOBODY 0
#define OWNED_OWNERS_MAX 255
#define OWNED_CLUSTERS_MAX (UINT64_C(1) << 55) /* cluster indices are below it */

int owned_new(struct owned **ret_owned); /* 0 or -ENOMEM */
void owned_free(struct owned *owned);    /* takes NULL */

/* Monitor. Room for so many more, so that their owned_add() cannot fail. 0 or -ENOMEM. */
int owned_reserve(struct owned *owned, uint64_t count);
/* Monitor. 0; -ENOMEM; -EEXIST: it has another owner, which stays. Giving it to whom it has is
 * fine. */
int owned_add(struct owned *owned, uint64_t cluster_index, unsigned owner);
/* Monitor. Takes it from whoever has it. */
void owned_remove(struct owned *owned, uint64_t cluster_index);

/* OWNED_NOBODY, or who has it. */
unsigned owned_by(const struct owned *owned, uint64_t cluster_index);
/* The first owner of a cluster in [first, first + count), and which; OWNED_NOBODY when there is
 * none. */
unsigned owned_first(const struct owned *owned, uint64_t first, uint64_t count,
                     uint64_t *ret_cluster_index);
uint64_t owned_count(const struct owned *owned);

#endif
