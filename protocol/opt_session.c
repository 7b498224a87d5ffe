/* SPDX-License-Identifier: BSD-3-Clause */
/* The options about the session itself: NBD_OPT_ABORT and NBD_OPT_STRUCTURED_REPLY. */
#include "protocol/option.h"

enum option_outcome opt_abort(struct handshake *handshake, struct reader *data,
                              struct writer *output)
{
    (void)data;
    option_ack(handshake, output);
    return option_close(handshake, true, "the client aborted the handshake");
}

enum option_outcome opt_structured_reply(struct handshake *handshake, struct reader *data,
                                         struct writer *output)
{
    if (data->left > 0)
        return option_error(handshake, output, NBD_REP_ERR_INVALID,
                            "NBD_OPT_STRUCTURED_REPLY takes no data");
    /* "MAY fail the repeated message": a client that asks twice has lost its way. */
    if (handshake->structured_replies)
        return option_error(handshake, output, NBD_REP_ERR_INVALID,
                            "structured replies are negotiated already");
    handshake->structured_replies = true;
    return option_ack(handshake, output);
}
