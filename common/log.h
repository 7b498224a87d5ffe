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

enum log_kind { LOG_KIND_ERROR, LOG_KIND_WARNING, LOG_KIND_VERBOSE };

/* For a program that has a log of its own: lines go there, without a word before them or a newline
 * behind. From any thread. Both are called once, before threads start. */
typedef void log_sink(enum log_kind kind, const char *line);
void log_set_sink(log_sink *sink);
void log_set_verbose(bool verbose);
bool log_is_verbose(void);

#endif
