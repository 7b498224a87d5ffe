/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A whole gow1 image. Input: how it is used (a byte), how many blocks the file has (a byte; the
 * last may be there in part), its header of 12 bytes, and entries of its map, 6 bytes each: where,
 * what. It is opened from memory, read here and there, written, resized, checked, and closed.
 * Properties: those of fuzz_image.h; a refusal says something; after a repair, and after any
 * writing, a check finds no error.
 */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "block/node_options.h"
#include "common/endian.h"
#include "formats/gow1/driver.h"
#include "formats/gow1/layout.h"
#include "tests/fuzz/fuzz_image.h"

#define FILE_BLOCKS_MAX 16u
#define FILE_BYTES_MAX (GOW1_BLOCKS_OFFSET + 80 * GOW1_BLOCK_BYTES)
#define ENTRY_BYTES 6

enum how {
    HOW_WRITTEN = 1,
    HOW_REPAIRED = 2,
    HOW_SMALL_CACHE = 4,
    HOW_RESIZED = 8,
    HOW_CUT_OFF = 16, /* the file ends inside its last block, or inside its header */
};

static unsigned how;

static void draw_blank(void)
{
    fuzz_file_put_byte(GOW1_MAP_OFFSET, 0xff, GOW1_MAP_BYTES);
}

static void fill_map(const uint8_t *data, size_t size)
{
    for (; size >= ENTRY_BYTES; data += ENTRY_BYTES, size -= ENTRY_BYTES) {
        uint32_t where = load_le16(data);
        if (where >= 0xff00) /* the last ones as well */
            where = GOW1_MAP_ENTRIES - (where & 0xff) - 1;
        fuzz_file_put(gow1_entry_offset(where), data + 2, 4);
    }
}

static void fill(const uint8_t *data, size_t size)
{
    how = data[0];
    fuzz_file_put(0, data + 2, GOW1_HEADER_BYTES);
    fill_map(data + 2 + GOW1_HEADER_BYTES, size - 2 - GOW1_HEADER_BYTES);
    uint32_t blocks = data[1] % (FILE_BLOCKS_MAX + 1);
    for (uint32_t i = 0; i < blocks; i++)
        fuzz_file_put_byte(gow1_block_offset(i), (uint8_t)(0x10 + i), GOW1_BLOCK_BYTES);
    file_length = gow1_block_offset(blocks);
    if (how & HOW_CUT_OFF) {
        size_t cut = 1 + data[1] * 257;
        file_length -= cut;
        fuzz_file_put_byte(file_length, 0, cut);
    }
}

static const struct block_driver *const drivers[] = {&format_gow1, &fuzz_file, NULL};

static void co_change(struct block_node *node)
{
    uint64_t size = atomic_load(&node->size_bytes);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t at = i * (GOW1_BLOCK_BYTES / 3);
        if (at + FUZZ_BYTES <= size)
            fuzz_co_write_and_read(node, at, i % 2 ? 700 : FUZZ_BYTES);
    }
    fuzz_co_write_and_read(node, size - FUZZ_BYTES, FUZZ_BYTES);
    node_co_zero(node, size / 2, size / 2 < 3 * GOW1_BLOCK_BYTES ? size / 2 : 3 * GOW1_BLOCK_BYTES,
                 0);
    node_co_discard(node, 0, GOW1_BLOCK_BYTES, 0);
    node_co_flush(node);
    fuzz_co_walk(node);
}

static void co_check_errors(struct block_node *node)
{
    struct block_check check;
    struct error err;
    if (block_co_check(node, NULL, NULL, &check, &err) == 0 && !node->read_only &&
        (how & HOW_REPAIRED))
        FUZZ_CHECK(check.errors == 0);
}

static struct node_options *new_options(void)
{
    struct node_options *options = node_options_new();
    bool is_written = how & (HOW_WRITTEN | HOW_REPAIRED);
    FUZZ_CHECK(options);
    node_options_set(options, "read-only", is_written ? "off" : "on", NULL);
    node_options_set(options, "shrink", "on", NULL);
    if (how & HOW_REPAIRED)
        node_options_set(options, "repair", "all", NULL);
    if (how & HOW_SMALL_CACHE)
        node_options_set(options, "cache-size", "1", NULL);
    return options;
}

static void co_run(void *env)
{
    struct block_node *node;
    struct error err = {.message = ""};
    if (block_co_open_image(env, "fuzz.gow1", "gow1", new_options(), &node, &err) < 0) {
        FUZZ_CHECK(err.message[0] != '\0');
        return;
    }
    uint64_t size = atomic_load(&node->size_bytes);
    FUZZ_CHECK(size >= GOW1_BLOCK_BYTES && size <= UINT64_C(64) << 30);
    fuzz_co_walk(node);
    if (!node->read_only)
        co_change(node);
    if (!node->read_only && (how & HOW_RESIZED) &&
        node_co_resize(node, how & HOW_SMALL_CACHE ? size / 2 + 1 : size + GOW1_BLOCK_BYTES,
                       &err) == 0)
        co_change(node);
    co_check_errors(node);
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
