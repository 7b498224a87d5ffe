/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_CHECK_H
#define FORMATS_QCOW2_CHECK_H

/*
 * The consistency of an image: every table is walked, every reference counted, and compared with
 * the refcounts. Reads alone; nothing is in flight meanwhile.
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/driver.h"

struct qcow2_image;
struct refmap;

struct qcow2_check {
    uint64_t errors;     /* what may lose data: too low refcounts, tables that break a rule */
    uint64_t leaks;      /* clusters counted higher than they are used: space that is lost */
    uint64_t unreadable; /* tables that could not be read */
    uint64_t data_clusters, compressed_clusters; /* of the active disk */
    uint64_t end_offset;                         /* behind the last cluster that is used */
};

/* What is wrong, one sentence at a time, the first of many; NULL: nobody wants to know. */
typedef void qcow2_check_report(void *arg, const char *sentence);

/* node: an open qcow2 image; what of it is in memory alone is written first. 0: the check was made,
 * whatever it found. -ENOMEM, -EINVAL. */
int qcow2_co_check(struct block_node *node, qcow2_check_report *report, void *arg,
                   struct qcow2_check *ret_check, struct error *err);

/* --- inside the driver: also of an image that is being opened -----------------------------------
 */

int qcow2_image_co_check(struct qcow2_image *image, qcow2_check_report *report, void *arg,
                         struct qcow2_check *ret_check, struct error *err);
/* The references alone, without or with_refcounts' own tables; the caller's to refmap_fini(). */
int qcow2_image_co_count(struct qcow2_image *image, bool with_refcounts,
                         struct refmap *ret_references, struct error *err);

#endif
