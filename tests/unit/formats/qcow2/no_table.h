/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_FORMATS_QCOW2_NO_TABLE_H
#define TESTS_UNIT_FORMATS_QCOW2_NO_TABLE_H

/*
 * Tables that cannot be had: as if the cache had thrown each out just before it is asked for, and
 * could not read it again (or, for a new one, could not make room). cache_co_get, cache_co_get_new
 * and cache_co_read are counted while armed (the linker puts no_table.c between); cache_try_read
 * finds nothing then. So is what notes whose a cluster is: it fails as without memory.
 */

#include <stdbool.h>

/* From now on the fail_at-th call fails with -EIO, counted from 1, and with is_sticky all behind
 * it. */
void no_table_arm(unsigned fail_at, bool is_sticky);
/* From now on the hook is called at the begin of the call of that number, which does not fail. */
void no_table_arm_hook(unsigned number, void (*hook)(void *arg), void *arg);
/* Returns how many have failed, or called the hook. */
unsigned no_table_disarm(void);

#endif
