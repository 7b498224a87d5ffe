/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NBD_OPT_INFO and NBD_OPT_GO: what an export is like, and with GO, into transmission with it.
 *
 * NBD_INFO_BLOCK_SIZE is sent when the client asked, and unasked when the limits are not the ones
 * it must assume otherwise (1, 4096, 32 MiB): the specification lets a server send it unasked, and
 * a client that understands it is spared refused requests. NBD_REP_ERR_BLOCK_SIZE_REQD is never
 * sent: a request outside the limits is refused cleanly, which the specification asks for anyway,
 * and most clients that do not ask keep within the limits.
 */
#include "protocol/names.h"
#include "protocol/option.h"

#include <string.h>

struct info_query {
    const uint8_t *name;
    size_t name_length;
    bool wants_name, wants_description, wants_block_size;
};

/* NULL, or what is wrong with the data. */
static const char *parse(struct reader *data, struct info_query *ret_query)
{
    *ret_query = (struct info_query){.name_length = reader_be32(data)};
    ret_query->name = reader_bytes(data, ret_query->name_length);
    uint16_t count = reader_be16(data);
    for (unsigned i = 0; i < count && !data->failed; i++) {
        uint16_t info = reader_be16(data);
        if (data->failed)
            break;
        /* Unknown ones are ignored, as they must be; repeated ones are answered once. */
        ret_query->wants_name |= info == NBD_INFO_NAME;
        ret_query->wants_description |= info == NBD_INFO_DESCRIPTION;
        ret_query->wants_block_size |= info == NBD_INFO_BLOCK_SIZE;
    }
    if (data->failed)
        return "the data ends before what its lengths announce";
    if (!reader_is_exhausted(data))
        return "the data goes on after its last information request";
    if (!option_string_is_valid(ret_query->name, ret_query->name_length))
        return "the export name is longer than 4096 bytes or has a NUL in it";
    return NULL;
}

static void reply_export(const struct handshake *handshake, const struct nbd_export_info *export,
                         struct writer *output)
{
    option_reply(handshake, output, NBD_REP_INFO, 12);
    writer_be16(output, NBD_INFO_EXPORT);
    writer_be64(output, export->size_bytes);
    writer_be16(output, option_transmission_flags(handshake, export));
}

static void reply_string(const struct handshake *handshake, uint16_t info, const char *string,
                         struct writer *output)
{
    size_t length = strlen(string);
    option_reply(handshake, output, NBD_REP_INFO, (uint32_t)(sizeof(info) + length));
    writer_be16(output, info);
    writer_bytes(output, string, length);
}

static bool has_default_limits(const struct nbd_export_info *export)
{
    return export->block_minimum == 1 && export->block_preferred == NBD_BLOCK_PREFERRED_DEFAULT &&
           export->payload_max == NBD_PAYLOAD_DEFAULT_MAX;
}

static void reply_block_size(const struct handshake *handshake,
                             const struct nbd_export_info *export, struct writer *output)
{
    option_reply(handshake, output, NBD_REP_INFO, 14);
    writer_be16(output, NBD_INFO_BLOCK_SIZE);
    writer_be32(output, export->block_minimum);
    writer_be32(output, export->block_preferred);
    writer_be32(output, export->payload_max);
}

/* Answers the option; the export on success, else NULL. */
static const struct nbd_export_info *answer(struct handshake *handshake, struct reader *data,
                                            struct info_query *ret_query, struct writer *output)
{
    char quoted[NBD_QUOTE_SIZE];
    const char *problem = parse(data, ret_query);
    if (problem) {
        option_error(handshake, output, NBD_REP_ERR_INVALID, "%s: %s",
                     nbd_option_name(handshake->option), problem);
        return NULL;
    }
    const struct handshake_exports *exports = handshake->exports;
    const struct nbd_export_info *export =
        exports->lookup(exports->ctx, (const char *)ret_query->name, ret_query->name_length);
    if (!export) {
        option_error(handshake, output, NBD_REP_ERR_UNKNOWN, "there is no export named %s",
                     nbd_quote(quoted, ret_query->name, ret_query->name_length));
        return NULL;
    }
    reply_export(handshake, export, output);
    if (ret_query->wants_name)
        reply_string(handshake, NBD_INFO_NAME, export->name, output);
    if (ret_query->wants_description && export->description)
        reply_string(handshake, NBD_INFO_DESCRIPTION, export->description, output);
    if (ret_query->wants_block_size || !has_default_limits(export))
        reply_block_size(handshake, export, output);
    option_ack(handshake, output);
    return export;
}

enum option_outcome opt_info(struct handshake *handshake, struct reader *data,
                             struct writer *output)
{
    struct info_query query;
    answer(handshake, data, &query, output);
    return OPTION_NEXT;
}

enum option_outcome opt_go(struct handshake *handshake, struct reader *data, struct writer *output)
{
    struct info_query query;
    const struct nbd_export_info *export = answer(handshake, data, &query, output);
    if (!export)
        return OPTION_NEXT;
    return option_select_export(handshake, export, query.name, query.name_length);
}
