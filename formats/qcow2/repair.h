/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_REPAIR_H
#define FORMATS_QCOW2_REPAIR_H

#include "formats/qcow2/check.h"

enum qcow2_repair_what {
    QCOW2_REPAIR_NOTHING,
    QCOW2_REPAIR_LEAKS, /* counts that are too high */
    QCOW2_REPAIR_ALL,   /* those that are too low as well, COPIED flags, the dirty bit; where
                         * nothing is wrong afterwards, the corrupt bit too */
};

/* An image whose file can be written, while it is being opened: nothing is in flight, its cache is
 * clean, nobody writes yet. *ret_before is what was wrong, *ret_after what still is: a table that
 * breaks another rule is left as it is. -EPERM; -EIO where it is not known what is in use. */
int qcow2_image_co_repair(struct qcow2_image *image, enum qcow2_repair_what what,
                          qcow2_check_report *report, void *arg, struct qcow2_check *ret_before,
                          struct qcow2_check *ret_after, struct error *err);

/* What the header says of the image's state: warnings, and a refusal where it must not be written.
 * In open.c. */
int qcow2_check_state(const struct qcow2_image *image, enum qcow2_repair_what repair,
                      struct error *err);

/* A dirty image that is going to be written (invariant 12), with lines in the log; and one for
 * which the option "repair" asks for it (leaks, all). */
int qcow2_image_co_repair_at_open(struct qcow2_image *image, enum qcow2_repair_what what,
                                  struct error *err);

#endif
