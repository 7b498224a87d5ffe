/* SPDX-License-Identifier: BSD-3-Clause */
/* NBD_OPT_LIST: one NBD_REP_SERVER an export, with its description, then NBD_REP_ACK. */
#include "protocol/option.h"

#include <assert.h>
#include <string.h>

static void reply_server(const struct handshake *handshake, const struct nbd_export_info *export,
                         struct writer *output)
{
    size_t name_length = strlen(export->name);
    size_t description_length = export->description ? strlen(export->description) : 0;
    assert(name_length <= NBD_STRING_MAX);
    assert(description_length <= NBD_STRING_MAX);
    option_reply(handshake, output, NBD_REP_SERVER,
                 (uint32_t)(sizeof(uint32_t) + name_length + description_length));
    writer_be32(output, (uint32_t)name_length);
    writer_bytes(output, export->name, name_length);
    writer_bytes(output, export->description, description_length);
}

enum option_outcome opt_list(struct handshake *handshake, struct reader *data,
                             struct writer *output)
{
    if (data->left > 0)
        return option_error(handshake, output, NBD_REP_ERR_INVALID, "NBD_OPT_LIST takes no data");
    const struct handshake_exports *exports = handshake->exports;
    const struct nbd_export_info *export;
    for (size_t i = 0; (export = exports->at(exports->ctx, i)) && !output->failed; i++)
        reply_server(handshake, export, output);
    return option_ack(handshake, output);
}
