/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_FAULT_CONFIG_H
#define BLOCK_FAULT_CONFIG_H

/*
 * Rules in a file, as qemu's blkdebug reads them:
 *
 *     [inject-error]
 *     event = "write_aio"
 *     errno = "28"
 *
 *     [set-state]
 *     event = "flush_to_disk"
 *     new_state = "2"
 *
 * Each section becomes options of the same keys: inject-error.0.event and so on, by its place among
 * those of its kind. Lines that are empty or begin with # say nothing.
 */

#include <stddef.h>

#include "common/error.h"

struct block_env;
struct node_options;

#define FAULT_CONFIG_BYTES_MAX (64 << 10)

/* -EINVAL with the line's number. text is changed. */
int fault_config_parse(char *text, struct node_options *rules, struct error *err);
/* The same for a file of the host; -EFBIG when it is longer than the bound. May wait. */
int fault_config_co_read(struct block_env *env, const char *path, struct node_options *rules,
                         struct error *err);

#endif
