/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROTOCOL_WIRE_H
#define PROTOCOL_WIRE_H

/*
 * The numbers of the NBD specification, spelled as it spells them. All fields on the wire are in
 * network byte order. Only what this server speaks, or must know by name to refuse it, is here.
 */

#include <stdint.h>

/* Handshake phase. */
#define NBD_MAGIC UINT64_C(0x4e42444d41474943)      /* "NBDMAGIC" */
#define NBD_OPTS_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT", both ways */
#define NBD_REP_MAGIC UINT64_C(0x0003e889045565a9)

#define NBD_FLAG_FIXED_NEWSTYLE UINT16_C(0x1)
#define NBD_FLAG_NO_ZEROES UINT16_C(0x2)
#define NBD_FLAG_C_FIXED_NEWSTYLE UINT32_C(0x1)
#define NBD_FLAG_C_NO_ZEROES UINT32_C(0x2)

#define NBD_OPT_EXPORT_NAME UINT32_C(1)
#define NBD_OPT_ABORT UINT32_C(2)
#define NBD_OPT_LIST UINT32_C(3)
#define NBD_OPT_PEEK_EXPORT UINT32_C(4)
#define NBD_OPT_STARTTLS UINT32_C(5)
#define NBD_OPT_INFO UINT32_C(6)
#define NBD_OPT_GO UINT32_C(7)
#define NBD_OPT_STRUCTURED_REPLY UINT32_C(8)
#define NBD_OPT_LIST_META_CONTEXT UINT32_C(9)
#define NBD_OPT_SET_META_CONTEXT UINT32_C(10)
#define NBD_OPT_EXTENDED_HEADERS UINT32_C(11)

#define NBD_REP_ACK UINT32_C(1)
#define NBD_REP_SERVER UINT32_C(2)
#define NBD_REP_INFO UINT32_C(3)
#define NBD_REP_META_CONTEXT UINT32_C(4)
#define NBD_REP_FLAG_ERROR (UINT32_C(1) << 31)
#define NBD_REP_ERR_UNSUP (NBD_REP_FLAG_ERROR | 1)
#define NBD_REP_ERR_POLICY (NBD_REP_FLAG_ERROR | 2)
#define NBD_REP_ERR_INVALID (NBD_REP_FLAG_ERROR | 3)
#define NBD_REP_ERR_PLATFORM (NBD_REP_FLAG_ERROR | 4)
#define NBD_REP_ERR_TLS_REQD (NBD_REP_FLAG_ERROR | 5)
#define NBD_REP_ERR_UNKNOWN (NBD_REP_FLAG_ERROR | 6)
#define NBD_REP_ERR_SHUTDOWN (NBD_REP_FLAG_ERROR | 7)
#define NBD_REP_ERR_BLOCK_SIZE_REQD (NBD_REP_FLAG_ERROR | 8)
#define NBD_REP_ERR_TOO_BIG (NBD_REP_FLAG_ERROR | 9)
#define NBD_REP_ERR_EXT_HEADER_REQD (NBD_REP_FLAG_ERROR | 10)

#define NBD_INFO_EXPORT UINT16_C(0)
#define NBD_INFO_NAME UINT16_C(1)
#define NBD_INFO_DESCRIPTION UINT16_C(2)
#define NBD_INFO_BLOCK_SIZE UINT16_C(3)

/* Transmission flags: what an export can do. */
#define NBD_FLAG_HAS_FLAGS UINT16_C(0x1)
#define NBD_FLAG_READ_ONLY UINT16_C(0x2)
#define NBD_FLAG_SEND_FLUSH UINT16_C(0x4)
#define NBD_FLAG_SEND_FUA UINT16_C(0x8)
#define NBD_FLAG_ROTATIONAL UINT16_C(0x10)
#define NBD_FLAG_SEND_TRIM UINT16_C(0x20)
#define NBD_FLAG_SEND_WRITE_ZEROES UINT16_C(0x40)
#define NBD_FLAG_SEND_DF UINT16_C(0x80)
#define NBD_FLAG_CAN_MULTI_CONN UINT16_C(0x100)
#define NBD_FLAG_SEND_RESIZE UINT16_C(0x200)
#define NBD_FLAG_SEND_CACHE UINT16_C(0x400)
#define NBD_FLAG_SEND_FAST_ZERO UINT16_C(0x800)
#define NBD_FLAG_BLOCK_STATUS_PAYLOAD UINT16_C(0x1000)

/* Transmission phase. */
#define NBD_REQUEST_MAGIC UINT32_C(0x25609513)
#define NBD_SIMPLE_REPLY_MAGIC UINT32_C(0x67446698)
#define NBD_STRUCTURED_REPLY_MAGIC UINT32_C(0x668e33ef)
#define NBD_EXTENDED_REQUEST_MAGIC UINT32_C(0x21e41c71)
#define NBD_EXTENDED_REPLY_MAGIC UINT32_C(0x6e8a278c)

#define NBD_CMD_READ UINT16_C(0)
#define NBD_CMD_WRITE UINT16_C(1)
#define NBD_CMD_DISC UINT16_C(2)
#define NBD_CMD_FLUSH UINT16_C(3)
#define NBD_CMD_TRIM UINT16_C(4)
#define NBD_CMD_CACHE UINT16_C(5)
#define NBD_CMD_WRITE_ZEROES UINT16_C(6)
#define NBD_CMD_BLOCK_STATUS UINT16_C(7)
#define NBD_CMD_RESIZE UINT16_C(8)

#define NBD_CMD_FLAG_FUA UINT16_C(0x1)
#define NBD_CMD_FLAG_NO_HOLE UINT16_C(0x2)
#define NBD_CMD_FLAG_DF UINT16_C(0x4)
#define NBD_CMD_FLAG_REQ_ONE UINT16_C(0x8)
#define NBD_CMD_FLAG_FAST_ZERO UINT16_C(0x10)
#define NBD_CMD_FLAG_PAYLOAD_LEN UINT16_C(0x20)

#define NBD_REPLY_FLAG_DONE UINT16_C(0x1)

#define NBD_REPLY_TYPE_NONE UINT16_C(0)
#define NBD_REPLY_TYPE_OFFSET_DATA UINT16_C(1)
#define NBD_REPLY_TYPE_OFFSET_HOLE UINT16_C(2)
#define NBD_REPLY_TYPE_BLOCK_STATUS UINT16_C(5)
#define NBD_REPLY_TYPE_BLOCK_STATUS_EXT UINT16_C(6)
#define NBD_REPLY_TYPE_ERROR UINT16_C(0x8001)
#define NBD_REPLY_TYPE_ERROR_OFFSET UINT16_C(0x8002)

/* Flags of a base:allocation descriptor. */
#define NBD_STATE_HOLE UINT32_C(0x1)
#define NBD_STATE_ZERO UINT32_C(0x2)

/* The whole set of error values; 0 is success. */
#define NBD_SUCCESS UINT32_C(0)
#define NBD_EPERM UINT32_C(1)
#define NBD_EIO UINT32_C(5)
#define NBD_ENOMEM UINT32_C(12)
#define NBD_EINVAL UINT32_C(22)
#define NBD_ENOSPC UINT32_C(28)
#define NBD_EOVERFLOW UINT32_C(75)
#define NBD_ENOTSUP UINT32_C(95)
#define NBD_ESHUTDOWN UINT32_C(108)

/* Sizes in bytes of what goes over the wire. */
#define NBD_GREETING_SIZE 18 /* NBDMAGIC, IHAVEOPT, handshake flags */
#define NBD_CLIENT_FLAGS_SIZE 4
#define NBD_OPTION_HEADER_SIZE 16 /* IHAVEOPT, option, length */
#define NBD_OPTION_REPLY_SIZE 20  /* magic, option, type, length */
#define NBD_EXPORT_NAME_ZEROES 124
#define NBD_REQUEST_SIZE 28
#define NBD_SIMPLE_REPLY_SIZE 16
#define NBD_CHUNK_SIZE 20     /* magic, flags, type, cookie, length */
#define NBD_DESCRIPTOR_SIZE 8 /* one extent of BLOCK_STATUS: length, flags */
/* The same with extended headers; length is 64 bits everywhere. */
#define NBD_EXTENDED_REQUEST_SIZE 32
#define NBD_EXTENDED_CHUNK_SIZE 32      /* magic, flags, type, cookie, offset, length */
#define NBD_EXTENDED_DESCRIPTOR_SIZE 16 /* length, padding, flags */

/* What the two sides agreed on in the handshake; each includes the abilities of the one before. */
enum nbd_headers {
    NBD_HEADERS_SIMPLE,     /* nothing: simple replies alone */
    NBD_HEADERS_STRUCTURED, /* NBD_OPT_STRUCTURED_REPLY: replies may come in chunks */
    NBD_HEADERS_EXTENDED,   /* NBD_OPT_EXTENDED_HEADERS: 32 bytes both ways, chunks alone */
};

/* "Conventions": no string is longer than this. It holds no NUL and is not ended by one. */
#define NBD_STRING_MAX 4096
/* "Size constraints": what every client may count on, and what this server takes at most. */
#define NBD_PAYLOAD_DEFAULT_MAX (UINT32_C(32) << 20)
#define NBD_BLOCK_PREFERRED_DEFAULT UINT32_C(4096)
#define NBD_BLOCK_MINIMUM_MAX UINT32_C(65536)
/* NBD_REPLY_TYPE_BLOCK_STATUS: a chunk should not hold more descriptors. */
#define NBD_DESCRIPTORS_MAX (UINT32_C(1) << 20)

#endif
