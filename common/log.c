/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

/* Both written once, before there are threads. */
static bool verbose_wanted;
static log_sink *wanted_sink; /* NULL: standard error */

static void write_line(enum log_kind kind, const char *text)
{
    char line[LINE_MAX_BYTES + 32];
    int length = snprintf(line, sizeof(line), "platter: %s%s\n",
                          kind == LOG_KIND_WARNING ? "warning: " : "", text);
    /* A log that cannot be written has nowhere to say so. */
    ssize_t ignored = write(STDERR_FILENO, line, (size_t)length);
    (void)ignored;
}

static void __attribute__((format(printf, 2, 0)))
log_line(enum log_kind kind, const char *format, va_list args)
{
    char text[LINE_MAX_BYTES]; /* a longer line is cut */
    if (vsnprintf(text, sizeof(text), format, args) < 0)
        return;
    if (wanted_sink)
        wanted_sink(kind, text);
    else
        write_line(kind, text);
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

LOG_FUNCTION(log_error, LOG_KIND_ERROR, true)
LOG_FUNCTION(log_warning, LOG_KIND_WARNING, true)
LOG_FUNCTION(log_verbose, LOG_KIND_VERBOSE, verbose_wanted)

void log_set_sink(log_sink *sink)
{
    wanted_sink = sink;
}

void log_set_verbose(bool verbose)
{
    verbose_wanted = verbose;
}

bool log_is_verbose(void)
{
    return verbose_wanted;
}
