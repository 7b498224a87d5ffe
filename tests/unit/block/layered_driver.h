/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_BLOCK_LAYERED_DRIVER_H
#define TESTS_UNIT_BLOCK_LAYERED_DRIVER_H

/*
 * A format with a backing file, for tests: what of its clusters was never written is read from the
 * child "backing". Which it has is kept in memory, so an image begins with none. A write of a part
 * of a cluster copies the rest of it up, as qcow2 does; a discard does nothing.
 */

#include "block/driver.h"

#define LAYERED_CLUSTER_BYTES 1024

extern const struct block_driver layered_driver;

/* Of an open node. */
bool layered_has(const struct block_node *node, uint64_t cluster);

#endif
