/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * New images. Options:
 *
 *   filename, size   the image, and its disk's size in bytes (rounded up to 64 KiB; at most 64 GiB)
 *   magic            the header's first four bytes, as a number; 0x31574f47, "GOW1", without it
 *
 * The header comes last, so what was not made whole is no image.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "block/node_options.h"
#include "formats/gow1/image.h"

#define PIECE_BYTES ((size_t)64 << 10)

static int take_options(struct node_options *options, const char **ret_path,
                        struct gow1_header *ret_header, struct error *err)
{
    uint64_t size_bytes = 0;
    bool has_size = node_options_has(options, "size");
    const char *path = node_options_take(options, "filename");
    struct gow1_header header = {.magic = GOW1_MAGIC};
    int ret = node_options_take_size(options, "size", &size_bytes, err);
    if (ret == 0)
        ret = gow1_take_magic(options, &header.magic, err);
    if (ret == 0)
        ret = node_options_check_all_taken(options, "the driver gow1", err);
    if (ret < 0)
        return ret;
    if (!path || !*path)
        return error_set(err, -EINVAL, "a new image needs the option 'filename': its path");
    if (!has_size)
        return error_set(err, -EINVAL, "the new image '%.200s' needs the option 'size'", path);
    if (size_bytes == 0 || size_bytes > (uint64_t)GOW1_BLOCKS_MAX << GOW1_BLOCK_BITS)
        return error_set(err, size_bytes == 0 ? -EINVAL : -EFBIG,
                         "the size of '%.200s' is %" PRIu64
                         " bytes; a gow1 disk has 1 byte to 64 GiB",
                         path, size_bytes);
    header.size = gow1_disk_block(size_bytes + GOW1_BLOCK_BYTES - 1);
    *ret_path = path;
    *ret_header = header;
    return 0;
}

/* Every entry is free. */
static int co_write_map(struct block_node *file)
{
    uint8_t *bytes = malloc(PIECE_BYTES);
    int ret = bytes ? 0 : -ENOMEM;
    if (bytes)
        memset(bytes, 0xff, PIECE_BYTES);
    for (uint64_t at = 0; at < GOW1_MAP_BYTES && ret == 0; at += PIECE_BYTES) {
        struct iovec iov;
        struct block_vec vec = vec_of_buffer(&iov, bytes, PIECE_BYTES);
        ret = node_co_write(file, GOW1_MAP_OFFSET + at, &vec, 0);
    }
    free(bytes);
    return ret == 0 ? node_co_flush(file) : ret;
}

int gow1_co_create(struct block_env *env, struct node_options *options, struct error *err)
{
    const char *path = NULL;
    struct gow1_header header;
    struct block_node *file;
    int ret = take_options(options, &path, &header, err);
    if (ret == 0)
        ret = block_co_create_file(env, path, 0, err);
    if (ret == 0)
        ret = block_co_open_file(env, path, &file, err);
    if (ret < 0)
        return ret;
    ret = co_write_map(file);
    if (ret == 0)
        ret = gow1_co_store_header(file, &header);
    if (ret < 0)
        node_co_resize(file, 0, NULL); /* so that nobody takes it for an image */
    block_co_node_unref(file);
    return ret < 0 ? error_set(err, ret, "cannot make '%.200s': %s", path, error_text(ret)) : 0;
}
