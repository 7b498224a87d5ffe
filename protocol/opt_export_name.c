/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NBD_OPT_EXPORT_NAME, the old way into transmission. It has no error reply: what cannot be served
 * ends the connection, and so does a client that agreed on extended headers, which must use GO.
 */
#include "protocol/names.h"
#include "protocol/option.h"

enum option_outcome opt_export_name(struct handshake *handshake, struct reader *data,
                                    struct writer *output)
{
    char quoted[NBD_QUOTE_SIZE];
    size_t length = data->left;
    const uint8_t *name = reader_bytes(data, length);
    if (!option_string_is_valid(name, length))
        return option_close(handshake, false, "the client sent an export name with a NUL in it");

    if (handshake->headers == NBD_HEADERS_EXTENDED)
        return option_close(handshake, false,
                            "the client sent NBD_OPT_EXPORT_NAME, which extended headers exclude");

    const struct handshake_exports *exports = handshake->exports;
    const struct nbd_export_info *export =
        exports->lookup(exports->ctx, (const char *)name, length);
    if (!export)
        return option_close(handshake, false, "the client asked for export %s, which is not here",
                            nbd_quote(quoted, name, length));

    writer_be64(output, export->size_bytes);
    writer_be16(output, option_transmission_flags(handshake, export));
    if (!handshake->no_zeroes)
        writer_zeroes(output, NBD_EXPORT_NAME_ZEROES);
    return option_select_export(handshake, export, name, length);
}
