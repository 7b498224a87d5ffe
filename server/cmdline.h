/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_CMDLINE_H
#define SERVER_CMDLINE_H

/*
 * The command line: qemu-nbd's options, letter for letter, so that a script that calls it works
 * with the name changed. What qemu-nbd has and this server does not serve yet is known by name, and
 * refused.
 */

#include <stdio.h>

#include "common/error.h"
#include "server/config.h"

enum cmdline_action {
    CMDLINE_SERVE,
    CMDLINE_HELP,
    CMDLINE_VERSION,
};

/* Fills *ret_config for CMDLINE_SERVE; the other two need none and win over everything after them.
 * May reorder argv. -EINVAL, with one sentence. */
int cmdline_parse(int argc, char **argv, enum cmdline_action *ret_action, struct config *ret_config,
                  struct error *err);

/* How many event loops when --threads does not say: one a processor that is there, at most
 * CONFIG_THREADS_DEFAULT_MAX. */
unsigned cmdline_default_threads(void);

/* The text of --help; argument_0 is how the server was called. */
void cmdline_help(FILE *to, const char *argument_0);

#endif
