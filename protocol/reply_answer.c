/* SPDX-License-Identifier: BSD-3-Clause */
#include "protocol/reply_answer.h"

#include "protocol/reply_simple.h"

#include <assert.h>

size_t reply_answer(uint8_t *to, const struct request *request, uint32_t error, const char *text)
{
    if (request->headers == NBD_HEADERS_SIMPLE)
        return reply_simple(to, request->cookie, error);
    if (error != NBD_SUCCESS)
        return reply_chunk_error(to, request, true, error, text);
    assert(request->command != NBD_CMD_BLOCK_STATUS);
    if (request->command == NBD_CMD_READ || request->headers == NBD_HEADERS_EXTENDED)
        return reply_chunk_none(to, request);
    return reply_simple(to, request->cookie, NBD_SUCCESS);
}
