/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The options about the session itself: NBD_OPT_ABORT, and what kind of headers the transmission
 * has. Structured replies may come first and extended headers after them, never the other way
 * round: "takes precedence over structured replies".
 */
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
    if (handshake->headers == NBD_HEADERS_EXTENDED)
        return option_error(handshake, output, NBD_REP_ERR_EXT_HEADER_REQD,
                            "extended headers are negotiated already and include structured "
                            "replies");
    /* "MAY fail the repeated message": a client that asks twice has lost its way. */
    if (handshake->headers == NBD_HEADERS_STRUCTURED)
        return option_error(handshake, output, NBD_REP_ERR_INVALID,
                            "structured replies are negotiated already");
    handshake->headers = NBD_HEADERS_STRUCTURED;
    return option_ack(handshake, output);
}

enum option_outcome opt_extended_headers(struct handshake *handshake, struct reader *data,
                                         struct writer *output)
{
    if (data->left > 0)
        return option_error(handshake, output, NBD_REP_ERR_INVALID,
                            "NBD_OPT_EXTENDED_HEADERS takes no data");
    if (handshake->headers == NBD_HEADERS_EXTENDED)
        return option_error(handshake, output, NBD_REP_ERR_INVALID,
                            "extended headers are negotiated already");
    handshake->headers = NBD_HEADERS_EXTENDED;
    return option_ack(handshake, output);
}
