/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/run_variables.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"uri=", "nbd=", "unixsocket=", "port=", "exportname="};
#define NAME_COUNT (sizeof(names) / sizeof(*names))

/* RFC 3986: what is neither unreserved nor a slash becomes %XX. */
static char *percent_encode(const char *text)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                "0123456789-._~/";
    char *encoded = malloc(3 * strlen(text) + 1), *to = encoded;
    if (!encoded)
        return NULL;
    for (; *text; text++) {
        if (strchr(plain, *text))
            *to++ = *text;
        else
            to += sprintf(to, "%%%02X", (unsigned char)*text);
    }
    *to = '\0';
    return encoded;
}

/* NULL when there is no memory. */
static char *print(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *print(const char *format, ...)
{
    char *text;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    return length < 0 ? NULL : text;
}

/* A client reaches the address that means "every address" by the name of this machine. */
static char *authority(const char *host, unsigned port)
{
    if (strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0)
        host = "localhost";
    return print(strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
}

static bool is_ours(const char *variable)
{
    for (size_t i = 0; i < NAME_COUNT; i++) {
        if (strncmp(variable, names[i], strlen(names[i])) == 0)
            return true;
    }
    return false;
}

/* The five of them, in the order of names; some are NULL when there is no memory. */
static void describe(char **to, const char *unix_path, const char *host, unsigned port,
                     const char *export_name)
{
    char *name = percent_encode(export_name);
    char *place = unix_path ? percent_encode(unix_path) : authority(host, port);
    const char *colon = *export_name ? ":exportname=" : "";
    if (name && place && unix_path) {
        to[0] = print("uri=nbd+unix:///%s?socket=%s", name, place);
        to[1] = print("nbd=nbd:unix:%s%s%s", unix_path, colon, export_name);
    } else if (name && place) {
        to[0] = print("uri=nbd://%s/%s", place, name);
        to[1] = print("nbd=nbd:%s%s%s", place, colon, export_name);
    }
    to[2] = print("unixsocket=%s", unix_path ? unix_path : "");
    to[3] = unix_path ? print("port=") : print("port=%u", port);
    to[4] = print("exportname=%s", export_name);
    free(name);
    free(place);
}

char **run_variables_new(char *const *from, const char *unix_path, const char *host, unsigned port,
                         const char *export_name)
{
    size_t from_count = 0, count = NAME_COUNT;
    bool complete = true;
    while (from[from_count])
        from_count++;
    char **variables = calloc(from_count + NAME_COUNT + 1, sizeof(*variables));
    if (!variables)
        return NULL;
    describe(variables, unix_path, host, port, export_name);
    for (size_t i = 0; i < NAME_COUNT; i++)
        complete &= variables[i] != NULL;
    for (size_t i = 0; i < from_count && complete; i++) {
        if (is_ours(from[i]))
            continue;
        variables[count] = strdup(from[i]);
        complete = variables[count++] != NULL;
    }
    if (complete)
        return variables;
    for (size_t i = 0; i < count; i++)
        free(variables[i]);
    free(variables);
    return NULL;
}

void run_variables_free(char **variables)
{
    for (size_t i = 0; variables && variables[i]; i++)
        free(variables[i]);
    free(variables);
}
