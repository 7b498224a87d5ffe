/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whether a gow1 image is opened or refused, many times a second. Input: how it is used (a byte),
 * how many blocks the file has (a byte), its header of 12 bytes, and entries of its map, 6 bytes
 * each: where, what. It is opened from memory, also for writing, and then its map is surveyed as a
 * check does it, up to the disk's end; asked for some extents, and closed. fuzz_gow1_image does the
 * rest, and the check of an open image: that reads 4 MiB of map, twenty times what all this takes.
 * Properties: a refusal says something; extents are inside the disk.
 */
#include "tests/fuzz/fuzz.h"

#include "block/node_options.h"
#include "common/endian.h"
#include "formats/gow1/driver.h"
#include "formats/gow1/layout.h"
#include "tests/fuzz/fuzz_image.h"

#define FILE_BLOCKS_MAX 16u
#define FILE_BYTES_MAX (GOW1_BLOCKS_OFFSET + (FILE_BLOCKS_MAX + 1) * GOW1_BLOCK_BYTES)
#define ENTRY_BYTES 6
#define SMALL_BLOCKS 1024u /* a disk with more is taken for a smaller one: its map takes long */
#define EXTENTS_MAX 4

enum how {
    HOW_WRITTEN = 1,
    HOW_CUT_OFF = 2, /* the file ends inside its last block, or inside its header */
};

static unsigned how;

static void draw_blank(void)
{
    fuzz_file_put_byte(GOW1_MAP_OFFSET, 0xff, GOW1_MAP_BYTES);
}

static void fill_header(const uint8_t *data)
{
    uint8_t header[GOW1_HEADER_BYTES], size[4];
    memcpy(header, data, sizeof(header));
    uint32_t blocks = load_le32(header + 4);
    if (blocks > SMALL_BLOCKS && blocks <= GOW1_MAP_ENTRIES) {
        store_le32(size, blocks % SMALL_BLOCKS + 1);
        memcpy(header + 4, size, sizeof(size));
    }
    fuzz_file_put(0, header, sizeof(header));
}

static void fill(const uint8_t *data, size_t size)
{
    how = data[0];
    fill_header(data + 2);
    const uint8_t *end = data + size;
    for (const uint8_t *at = data + 2 + GOW1_HEADER_BYTES; end - at >= ENTRY_BYTES;
         at += ENTRY_BYTES)
        fuzz_file_put(gow1_entry_offset(load_le16(at)), at + 2, 4);
    file_length = gow1_block_offset(data[1] % (FILE_BLOCKS_MAX + 1));
    if (how & HOW_CUT_OFF)
        file_length -= 1 + data[1] * 257u;
}

static const struct block_driver *const drivers[] = {&format_gow1, &fuzz_file, NULL};

static void co_ask(struct block_node *node)
{
    uint64_t size = atomic_load(&node->size_bytes);
    struct block_extent extent;
    for (uint64_t at = 0, i = 0; i < EXTENTS_MAX && at < size; i++, at += extent.length) {
        if (node_co_status(node, at, size - at, &extent) < 0)
            return;
        FUZZ_CHECK(extent.length >= 1 && extent.length <= size - at);
    }
}

static void co_run(void *env)
{
    struct block_node *node;
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    FUZZ_CHECK(options);
    node_options_set(options, "read-only", how & HOW_WRITTEN ? "off" : "on", NULL);
    node_options_set(options, "cache-size", "1", NULL);
    if (block_co_open_image(env, "fuzz.gow1", "gow1", options, &node, &err) < 0) {
        FUZZ_CHECK(err.message[0] != '\0');
        return;
    }
    co_ask(node);
    block_co_node_unref(node);
}

static const struct fuzz_image image = {.drivers = drivers,
                                        .bytes_max = FILE_BYTES_MAX,
                                        .draw_blank = draw_blank,
                                        .fill = fill,
                                        .co_run = co_run};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 2 + GOW1_HEADER_BYTES)
        fuzz_image_run(&image, data, size);
    return 0;
}
