/* SPDX-License-Identifier: BSD-3-Clause */
#include "protocol/names.h"

#include "protocol/wire.h"

#include <stdio.h>
#include <string.h>

struct name {
    uint32_t number;
    const char *text; /* NULL ends a table */
};

#define NAME(number)    \
    {                   \
        number, #number \
    }

static const struct name options[] = {
    NAME(NBD_OPT_EXPORT_NAME),
    NAME(NBD_OPT_ABORT),
    NAME(NBD_OPT_LIST),
    NAME(NBD_OPT_PEEK_EXPORT),
    NAME(NBD_OPT_STARTTLS),
    NAME(NBD_OPT_INFO),
    NAME(NBD_OPT_GO),
    NAME(NBD_OPT_STRUCTURED_REPLY),
    NAME(NBD_OPT_LIST_META_CONTEXT),
    NAME(NBD_OPT_SET_META_CONTEXT),
    NAME(NBD_OPT_EXTENDED_HEADERS),
    {0, NULL},
};

static const struct name commands[] = {
    NAME(NBD_CMD_READ),         NAME(NBD_CMD_WRITE),
    NAME(NBD_CMD_DISC),         NAME(NBD_CMD_FLUSH),
    NAME(NBD_CMD_TRIM),         NAME(NBD_CMD_CACHE),
    NAME(NBD_CMD_WRITE_ZEROES), NAME(NBD_CMD_BLOCK_STATUS),
    NAME(NBD_CMD_RESIZE),       {0, NULL},
};

static const struct name errors[] = {
    NAME(NBD_SUCCESS),   NAME(NBD_EPERM),  NAME(NBD_EIO),       NAME(NBD_ENOMEM),
    NAME(NBD_EINVAL),    NAME(NBD_ENOSPC), NAME(NBD_EOVERFLOW), NAME(NBD_ENOTSUP),
    NAME(NBD_ESHUTDOWN), {0, NULL},
};

static const char *find(const struct name *table, uint32_t number)
{
    for (const struct name *name = table; name->text; name++)
        if (name->number == number)
            return name->text;
    return "unknown";
}

const char *nbd_option_name(uint32_t option)
{
    return find(options, option);
}

const char *nbd_command_name(uint16_t command)
{
    return find(commands, command);
}

const char *nbd_error_name(uint32_t error)
{
    return find(errors, error);
}

const char *nbd_quote(char *to, const void *bytes, size_t length)
{
    const unsigned char *from = bytes;
    size_t shown = length < NBD_QUOTE_BYTES ? length : NBD_QUOTE_BYTES;
    char *at = to;
    *at++ = '"';
    for (size_t i = 0; i < shown; i++) {
        if (from[i] >= 0x20 && from[i] < 0x7f && from[i] != '"' && from[i] != '\\')
            *at++ = (char)from[i];
        else
            at += sprintf(at, "\\x%02x", from[i]);
    }
    *at++ = '"';
    strcpy(at, shown < length ? "..." : "");
    return to;
}
