/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests stand on that has nothing to do with disks: commands, files, memory, the log. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "tests/crash/bench.h"
#include "tests/crash/crash.h"
#include "tests/crash/no_memory.h"

void crash_die(const char *format, ...)
{
    va_list args;
    fflush(stdout);
    fprintf(stderr, "crash: ");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
    exit(1);
}

uint64_t crash_number(const char *text)
{
    char *end;
    uint64_t number = strtoull(text, &end, 0);
    if (end == text || *end)
        crash_die("'%s' is no number", text);
    return number;
}

uint64_t crash_number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? crash_number(text) : otherwise;
}

void *crash_alloc(size_t bytes)
{
    void *memory = crash_realloc(NULL, bytes);
    memset(memory, 0, bytes);
    return memory;
}

void *crash_realloc(void *memory, size_t bytes)
{
    bool was_armed = crash_no_memory_disarm();
    memory = realloc(memory, bytes > 0 ? bytes : 1);
    crash_no_memory_rearm(was_armed);
    if (!memory)
        crash_die("no memory: %zu bytes", bytes);
    return memory;
}

/* --- files and commands -------------------------------------------------------------------------
 */

void crash_shell(const char *folder, const char *format, ...)
{
    va_list args;
    char *command, *whole;
    va_start(args, format);
    if (vasprintf(&command, format, args) < 0)
        crash_die("no memory for a command");
    va_end(args);
    if (asprintf(&whole, "cd '%s' && { %s; } >crash.log 2>&1 || { cat crash.log >&2; exit 1; }",
                 folder, command) < 0)
        crash_die("no memory for a command");
    if (strcmp(folder, "/") == 0) { /* no place for a log */
        free(whole);
        whole = strdup(command);
    }
    if (!whole || system(whole) != 0)
        crash_die("failed in %s: %s", folder, command);
    free(whole);
    free(command);
}

struct crash_content crash_load(const char *folder, const char *name)
{
    char path[256];
    struct stat stat;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    if (!file || fstat(fileno(file), &stat) < 0)
        crash_die("cannot open %s: %s", path, error_text(-errno));
    struct crash_content content = {.bytes = crash_alloc((size_t)stat.st_size + 1),
                                    .length = (uint64_t)stat.st_size};
    if (fread(content.bytes, 1, content.length, file) != content.length)
        crash_die("cannot read %s", path);
    fclose(file);
    return content;
}

/* --- the log: linked in the place of common/log.c's ---------------------------------------------
 */

static char last_error[512];

void crash_wrapped_log_error(const char *format, ...) __asm__("__wrap_log_error")
    __attribute__((format(printf, 1, 2)));
void crash_wrapped_log_warning(const char *format, ...) __asm__("__wrap_log_warning")
    __attribute__((format(printf, 1, 2)));

void crash_wrapped_log_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(last_error, sizeof(last_error), format, args);
    va_end(args);
}

void crash_wrapped_log_warning(const char *format, ...)
{
    (void)format;
}

const char *crash_logged_error(void)
{
    return last_error;
}

void crash_forget_logged(void)
{
    last_error[0] = '\0';
}
