/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/inflate.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define DEFLATE_WINDOW_BITS 12
#define DEFLATE_MEMORY_LEVEL 9

/* --- deflate ------------------------------------------------------------------------------------
 */

static int inflate_raw(const void *from, size_t from_length, void *to, size_t to_length)
{
    z_stream stream = {
        .next_in = (Bytef *)(uintptr_t)from,
        .avail_in = (uInt)from_length,
        .next_out = to,
        .avail_out = (uInt)to_length,
    };
    /* A larger window is allowed: not all programs keep to what the specification says. */
    int rc = inflateInit2(&stream, -MAX_WBITS);
    if (rc != Z_OK)
        return -ENOMEM;
    rc = inflate(&stream, Z_FINISH);
    inflateEnd(&stream);
    return (rc == Z_STREAM_END || rc == Z_BUF_ERROR) && stream.avail_out == 0 ? 0 : -EIO;
}

static int deflate_raw(const void *from, size_t from_length, void *to, size_t to_length,
                       size_t *ret_length)
{
    z_stream stream = {
        .next_in = (Bytef *)(uintptr_t)from,
        .avail_in = (uInt)from_length,
        .next_out = to,
        .avail_out = (uInt)to_length,
    };
    int rc = deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -DEFLATE_WINDOW_BITS,
                          DEFLATE_MEMORY_LEVEL, Z_DEFAULT_STRATEGY);
    if (rc != Z_OK)
        return -ENOMEM;
    rc = deflate(&stream, Z_FINISH);
    deflateEnd(&stream);
    if (rc != Z_STREAM_END)
        return -ENOSPC;
    *ret_length = to_length - stream.avail_out;
    return 0;
}

/* --- zstd ---------------------------------------------------------------------------------------
 */

/* Frame by frame in one piece each: the output itself is the window, so that a frame cannot ask for
 * memory. */
static int inflate_zstd(const uint8_t *from, size_t from_length, uint8_t *to, size_t to_length)
{
    ZSTD_DCtx *context = ZSTD_createDCtx();
    size_t in = 0, out = 0;
    if (!context)
        return -ENOMEM;
    while (out < to_length) {
        size_t frame = ZSTD_findFrameCompressedSize(from + in, from_length - in);
        if (ZSTD_isError(frame) || frame == 0)
            break;
        size_t made = ZSTD_decompressDCtx(context, to + out, to_length - out, from + in, frame);
        if (ZSTD_isError(made))
            break;
        in += frame;
        out += made;
    }
    ZSTD_freeDCtx(context);
    return out == to_length ? 0 : -EIO;
}

static int deflate_zstd(const void *from, size_t from_length, void *to, size_t to_length,
                        size_t *ret_length)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    if (!context)
        return -ENOMEM;
    size_t made = ZSTD_compressCCtx(context, to, to_length, from, from_length, ZSTD_CLEVEL_DEFAULT);
    ZSTD_freeCCtx(context);
    if (ZSTD_isError(made))
        return -ENOSPC;
    *ret_length = made;
    return 0;
}

/* --- both ---------------------------------------------------------------------------------------
 */

int inflate_bytes(enum compression_method method, const void *from, size_t from_length, void *to,
                  size_t to_length)
{
    if (from_length > UINT_MAX || to_length > UINT_MAX)
        return -EIO;
    if (method == COMPRESSION_ZSTD)
        return inflate_zstd(from, from_length, to, to_length);
    return inflate_raw(from, from_length, to, to_length);
}

int deflate_bytes(enum compression_method method, const void *from, size_t from_length, void *to,
                  size_t to_length, size_t *ret_length)
{
    if (from_length > UINT_MAX || to_length > UINT_MAX)
        return -ENOSPC;
    if (method == COMPRESSION_ZSTD)
        return deflate_zstd(from, from_length, to, to_length, ret_length);
    return deflate_raw(from, from_length, to, to_length, ret_length);
}
