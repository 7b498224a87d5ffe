/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CACHE_OWNED_H
#define CACHE_OWNED_H

/*
 * Which clusters of a node hold metadata, so that a write of anything else to one of them is found
 * before it is made: one search a write, whatever the image's size.
 *
 * Each cluster has one owner at most: a small number that the format gives a meaning (header, L1,
 * L2, snapshot table). Changes come with the image's monitor held. Questions take no lock; about a
 * cluster that is given or taken in this moment they answer either.
 *
 * Memory, in bytes, where S clusters are given one by one and R in a row at a time:
 *
 *     5 * (S + 2 * R) + 528 * (parts of 2^27 clusters in which there are any)
 *
 * after a fill, and 2 MiB where that is more than 4; and 9 for each of those that came later, one
 * by one in the worst order. While it is filled, up to 512 more for each of 16384 parts of the file
 * at most, and for those that a part with many is parted into, which is less than 5 MiB; mostly
 * less than a MiB in all. And 2 MiB at most that others made ready (owned_filler_supply()).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct owned;

#define OWNED_NOBODY 0
#define OWNED_OWNERS_MAX 7
#define OWNED_CLUSTERS_MAX (UINT64_C(1) << 55) /* cluster indices are below it */

int owned_new(struct owned **ret_owned); /* 0 or -ENOMEM */
void owned_free(struct owned *owned);    /* takes NULL */

/* Monitor. `count` clusters in a row, at least 1. 0; -ENOMEM; -EEXIST: one of them has an owner;
 * nothing changes then. */
int owned_add(struct owned *owned, uint64_t first, uint64_t count, unsigned owner);
/* Monitor. What one owned_add() or owned_filler_add() gave; anything else stays as it is. */
void owned_remove(struct owned *owned, uint64_t first, uint64_t count);

/* OWNED_NOBODY, or who has it. */
unsigned owned_by(const struct owned *owned, uint64_t cluster_index);
/* The first owner of a cluster in [first, first + count), and which; OWNED_NOBODY when there is
 * none. */
unsigned owned_first(const struct owned *owned, uint64_t first, uint64_t count,
                     uint64_t *ret_cluster_index);
/* Memory that it takes. */
uint64_t owned_bytes(const struct owned *owned);

/* --- owned_fill.c, owned_finish.c: many at once, in any order, before anybody asks ---------------
 */

#define OWNED_SHARES_MAX 2

/* A cluster that two want. */
struct owned_conflict {
    uint64_t cluster_index;
    unsigned owners[2]; /* they may be the same */
};

struct owned_part;
struct owned_leaf;
struct owned_chunk;
struct owned_entry;

/* Leaves, and which of them are free. */
struct owned_pool {
    struct owned_chunk *chunks;
    struct owned_chunk *spare; /* nothing of these is in use yet */
    struct owned_leaf *free_leaves;
    struct owned_leaf *next_leaf; /* of the newest chunk: the fresh ones begin here */
    uint64_t free_count, fresh_count, leaf_count; /* fresh ones never were in use; all there are */
};

/* Some of the parts, and what is made of them. */
struct owned_share {
    size_t first, end;
    struct owned_pool pool;
    struct owned_entry *entries; /* of the top */
    size_t entry_count, entry_room;
    uint64_t first_element, last_element; /* 0: none */
    int ret;
    struct owned_conflict conflict; /* after -EEXIST */
};

struct owned_filler {
    struct owned *owned;
    unsigned part_bits; /* of the clusters of a part */
    struct owned_part *parts;
    struct owned_leaf **oldest; /* leaf of each part that has any */
    size_t part_count;
    unsigned share_count;
    struct owned_share shares[OWNED_SHARES_MAX];
    struct owned_conflict conflict; /* after -EEXIST */
};

/* The set is empty. clusters_end: most of what will be added lies below it, in the usual case. */
void owned_filler_init(struct owned_filler *filler, struct owned *owned, uint64_t clusters_end);
/* `count` clusters in a row, at least 1. 0; -ENOMEM; -EFBIG: there are 2^34 clusters before it, and
 * four times clusters_end or 2^41; no file has its tables there. */
int owned_filler_add(struct owned_filler *filler, uint64_t first, uint64_t count, unsigned owner);
/* The same of so many single clusters. */
int owned_filler_add_each(struct owned_filler *filler, const uint64_t *clusters, size_t count,
                          unsigned owner);
/* Memory for what will be added, in chunks: it takes the host a fifth of the time of a fill to find
 * it, and another thread may have that done meanwhile. How many should be made now, where so many
 * clusters are still to come; mostly 0. */
unsigned owned_filler_wants(const struct owned_filler *filler, uint64_t clusters);
/* Any thread. So many, or fewer where there is no memory; NULL: none. */
struct owned_chunk *owned_chunks_new(unsigned count);
void owned_chunks_free(struct owned_chunk *chunks); /* takes NULL */
/* They are the filler's now. */
void owned_filler_supply(struct owned_filler *filler, struct owned_chunk *chunks);
/* The set has all that was added. 0; -ENOMEM or -EEXIST: the set is good for owned_free() alone. */
int owned_filler_finish(struct owned_filler *filler);
/* The same in three steps, where several threads shall do it. First: into how many shares, 1 where
 * a thread would not be worth it. */
unsigned owned_filler_divide(struct owned_filler *filler);
/* Each of these once, side by side. What goes wrong is told by the last step. */
void owned_filler_finish_share(struct owned_filler *filler, unsigned nth);
/* All of them are done. */
int owned_filler_join(struct owned_filler *filler);
/* At the end, also after a failure. */
void owned_filler_fini(struct owned_filler *filler);

#endif
