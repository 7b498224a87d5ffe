/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROTOCOL_ERRNO_H
#define PROTOCOL_ERRNO_H

#include <stdint.h>

/*
 * The NBD error for what the block layer said ("Error values"): code is 0 or a negative errno, and
 * command and flags are the request's, since NBD_EOVERFLOW is only for READ with
 * NBD_CMD_FLAG_DF and NBD_ENOTSUP only for WRITE_ZEROES with NBD_CMD_FLAG_FAST_ZERO. A code that
 * the protocol has no word for is NBD_EINVAL.
 */
uint32_t nbd_error_from_errno(int code, uint16_t command, uint16_t command_flags);

#endif
