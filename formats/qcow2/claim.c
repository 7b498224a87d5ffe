/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who may change the mapping of what (invariant 21): claims on guest clusters and on L1 entries, a
 * list of each; as many as there are requests that change mappings right now.
 */
#include "formats/qcow2/writer.h"

static struct qcow2_claim *find_overlap(struct list *claims, uint64_t first, uint64_t end)
{
    list_for_each (link, claims) {
        struct qcow2_claim *claim = container_of(link, struct qcow2_claim, link);
        if (claim->first < end && first < claim->end)
            return claim;
    }
    return NULL;
}

bool qcow2_co_claim(struct qcow2_image *image, struct list *claims, struct qcow2_claim *claim,
                    uint64_t first, uint64_t end)
{
    struct qcow2_claim *other;
    bool has_waited = false;
    while ((other = find_overlap(claims, first, end))) {
        co_queue_wait(&other->waiters, &image->monitor);
        has_waited = true;
    }
    claim->first = first;
    claim->end = end;
    co_queue_init(&claim->waiters);
    list_append(claims, &claim->link);
    return has_waited;
}

/* Those who wait are woken before it is gone: it may lie on a stack. */
void qcow2_unclaim(struct qcow2_claim *claim)
{
    list_remove(&claim->link);
    co_queue_wake_all(&claim->waiters);
}
