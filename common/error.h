/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef COMMON_ERROR_H
#define COMMON_ERROR_H

/*
 * The control path's errors: a negative errno, and a sentence for a person that says what failed,
 * on what, and what to do. The data path has only the errno.
 *
 * A function that takes a `struct error *` takes it last, returns 0 or a negative errno, and fills
 * the error exactly when it fails. The caller may pass NULL when the sentence is of no use to it.
 */

#define ERROR_MESSAGE_MAX 512

struct error {
    char message[ERROR_MESSAGE_MAX]; /* no newline, no full stop; a longer one is cut */
};

/* Fills err (may be NULL) and returns code, a negative errno, so that a caller can return it on. */
int error_set(struct error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The text of a negative errno, safe on any thread. */
const char *error_text(int code);

#endif
