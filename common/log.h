/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

/*
 * One line a call, to standard error, written whole so that threads do not mix theirs. The server
 * logs; the rooms below return errors, and log only what nobody waits for an answer to.
 */

#include <stdbool.h>

/* Something failed and somebody must act. */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Something was refused or done another way than asked. */
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Only with --verbose: what a person who watches wants to follow. */
void log_verbose(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Called once, before threads start. */
void log_set_verbose(bool verbose);
bool log_is_verbose(void);

#endif
