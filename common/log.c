/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

static bool verbose_wanted; /* written once, before there are threads */

static void __attribute__((format(printf, 2, 0)))
log_line(const char *kind, const char *format, va_list args)
{
    char line[LINE_MAX_BYTES];
    int used = snprintf(line, sizeof(line), "platter: %s", kind);
    int more = vsnprintf(line + used, sizeof(line) - (size_t)used, format, args);
    if (more < 0)
        return;
    size_t length = (size_t)used + (size_t)more;
    if (length > sizeof(line) - 2)
        length = sizeof(line) - 2;
    line[length++] = '\n';
    /* A log that cannot be written has nowhere to say so. */
    ssize_t ignored = write(STDERR_FILENO, line, length);
    (void)ignored;
}

#define LOG_FUNCTION(name, kind, condition) \
    void name(const char *format, ...)      \
    {                                       \
        if (!(condition))                   \
            return;                         \
        va_list args;                       \
        va_start(args, format);             \
        log_line(kind, format, args);       \
        va_end(args);                       \
    }

LOG_FUNCTION(log_error, "", true)
LOG_FUNCTION(log_warning, "warning: ", true)
LOG_FUNCTION(log_verbose, "", verbose_wanted)

void log_set_verbose(bool verbose)
{
    verbose_wanted = verbose;
}

bool log_is_verbose(void)
{
    return verbose_wanted;
}
