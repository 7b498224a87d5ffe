/* SPDX-License-Identifier: BSD-3-Clause */
#include "protocol/option.h"

#include "common/align.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Well under NBD_STRING_MAX, and enough for two quoted names. */
#define TEXT_MAX 640

void option_reply(const struct handshake *handshake, struct writer *output, uint32_t type,
                  uint32_t length)
{
    writer_be64(output, NBD_REP_MAGIC);
    writer_be32(output, handshake->option);
    writer_be32(output, type);
    writer_be32(output, length);
}

enum option_outcome option_ack(const struct handshake *handshake, struct writer *output)
{
    option_reply(handshake, output, NBD_REP_ACK, 0);
    return OPTION_NEXT;
}

enum option_outcome option_error(const struct handshake *handshake, struct writer *output,
                                 uint32_t type, const char *format, ...)
{
    assert(type & NBD_REP_FLAG_ERROR);
    char text[TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    size_t length = strlen(text);
    option_reply(handshake, output, type, (uint32_t)length);
    writer_bytes(output, text, length);
    return OPTION_NEXT;
}

enum option_outcome option_close(struct handshake *handshake, bool is_ordinary, const char *format,
                                 ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(handshake->reason, sizeof(handshake->reason), format, arguments);
    va_end(arguments);
    handshake->is_ordinary = is_ordinary;
    return OPTION_CLOSE;
}

bool option_string_is_valid(const uint8_t *bytes, size_t length)
{
    return length <= NBD_STRING_MAX && (length == 0 || !memchr(bytes, 0, length));
}

/* The server's own promises (struct nbd_export_info): one assert each, at the seam. */
static void assert_export(const struct nbd_export_info *export)
{
    assert(strlen(export->name) <= NBD_STRING_MAX);
    assert(!export->description || strlen(export->description) <= NBD_STRING_MAX);
    assert(export->size_bytes <= INT64_MAX);
    assert(is_power_of_two(export->block_minimum));
    assert(export->block_minimum <= NBD_BLOCK_MINIMUM_MAX);
    assert(is_power_of_two(export->block_preferred));
    assert(export->block_preferred >= export->block_minimum);
    assert(export->block_preferred >= 512);
    assert(export->payload_max >= export->block_preferred);
}

uint16_t option_transmission_flags(const struct handshake *handshake,
                                   const struct nbd_export_info *export)
{
    assert_export(export);
    uint16_t flags = (export->transmission_flags & ~NBD_FLAG_SEND_DF) | NBD_FLAG_HAS_FLAGS;
    return handshake->headers != NBD_HEADERS_SIMPLE ? flags | NBD_FLAG_SEND_DF : flags;
}

enum option_outcome option_select_export(struct handshake *handshake,
                                         const struct nbd_export_info *export, const uint8_t *name,
                                         size_t name_length)
{
    /* Contexts chosen for one name are void when another is chosen in the end. */
    bool same_name = name_length == handshake->context_name_length &&
                     (name_length == 0 || memcmp(name, handshake->context_name, name_length) == 0);
    handshake->result = (struct handshake_result){
        .export = export,
        .transmission_flags = option_transmission_flags(handshake, export),
        .headers = handshake->headers,
        .context_mask = same_name ? handshake->context_mask : 0,
    };
    return OPTION_READY;
}
