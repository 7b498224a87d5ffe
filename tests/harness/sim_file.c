/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_file.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/align.h"
#include "common/checked.h"
#include "common/random.h"

enum change_kind {
    CHANGE_WRITE,
    CHANGE_ZERO, /* a hole or unwritten blocks: reads as zeroes */
    CHANGE_SIZE,
};

struct sim_change {
    enum change_kind kind;
    uint64_t offset; /* CHANGE_SIZE: the new size */
    uint64_t length;
    struct sim_change *next;
    uint8_t data[]; /* CHANGE_WRITE */
};

/* --- bytes ----------------------------------------------------------------------------------- */

static void make_room(struct sim_file *file, uint64_t size_bytes)
{
    if (size_bytes <= file->room_bytes)
        return;
    uint64_t room = align_up(size_bytes + size_bytes / 4, SIM_FILE_BLOCK);
    uint8_t **arrays[] = {&file->cached, &file->durable};
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *larger = calloc(1, room);
        assert(larger);
        if (file->room_bytes)
            memcpy(larger, *arrays[i], file->room_bytes);
        free(*arrays[i]);
        *arrays[i] = larger;
    }
    file->blocks = realloc(file->blocks, room / SIM_FILE_BLOCK);
    assert(file->blocks);
    memset(file->blocks + file->room_bytes / SIM_FILE_BLOCK, SIM_BLOCK_HOLE,
           (room - file->room_bytes) / SIM_FILE_BLOCK);
    file->room_bytes = room;
}

/* What lies past the size reads as zeroes when the file grows again. */
static void cut_or_grow(uint8_t *bytes, uint64_t *size, uint64_t new_size)
{
    if (new_size < *size)
        memset(bytes + new_size, 0, *size - new_size);
    *size = new_size;
}

/* A partly covered block never loses what it has. */
static void mark(struct sim_file *file, uint64_t offset, uint64_t length, enum sim_block state)
{
    for (uint64_t at = offset / SIM_FILE_BLOCK; at * SIM_FILE_BLOCK < offset + length; at++)
        if (state == SIM_BLOCK_DATA || file->blocks[at] == SIM_BLOCK_HOLE)
            file->blocks[at] = state;
}

uint64_t sim_file_allocated_bytes(const struct sim_file *file)
{
    uint64_t allocated = 0;
    for (uint64_t at = 0; at * SIM_FILE_BLOCK < file->size_bytes; at++)
        if (file->blocks[at] != SIM_BLOCK_HOLE)
            allocated += SIM_FILE_BLOCK;
    return allocated;
}

/* --- the journal ----------------------------------------------------------------------------- */

static void journal_add(struct sim_file *file, enum change_kind kind, uint64_t offset,
                        uint64_t length, const void *data)
{
    size_t data_length = kind == CHANGE_WRITE ? length : 0;
    struct sim_change *change = malloc(sizeof(*change) + data_length);
    assert(change);
    *change = (struct sim_change){.kind = kind, .offset = offset, .length = length};
    if (data_length)
        memcpy(change->data, data, data_length);
    *file->journal_end = change;
    file->journal_end = &change->next;
}

static void change_play(struct sim_file *file, const struct sim_change *change)
{
    uint64_t end = change->offset + change->length;
    switch (change->kind) {
    case CHANGE_SIZE:
        cut_or_grow(file->durable, &file->durable_size_bytes, change->offset);
        break;
    case CHANGE_ZERO:
        memset(file->durable + change->offset, 0, change->length);
        break;
    case CHANGE_WRITE:
        memcpy(file->durable + change->offset, change->data, change->length);
        if (end > file->durable_size_bytes)
            file->durable_size_bytes = end;
        break;
    }
}

static void journal_drop(struct sim_file *file)
{
    while (file->journal_first) {
        struct sim_change *change = file->journal_first;
        file->journal_first = change->next;
        free(change);
    }
    file->journal_end = &file->journal_first;
}

static void journal_play(struct sim_file *file)
{
    for (const struct sim_change *change = file->journal_first; change; change = change->next)
        change_play(file, change);
    journal_drop(file);
}

/* --- the page cache -------------------------------------------------------------------------- */

static void folios_fetch(void *owner, uint64_t offset, void *to, uint64_t length)
{
    const struct sim_file *file = owner;
    uint64_t stored = offset < file->room_bytes ? file->room_bytes - offset : 0;
    if (stored > length)
        stored = length;
    if (stored > 0)
        memcpy(to, file->cached + offset, stored);
    memset((uint8_t *)to + stored, 0, length - stored);
}

static void folios_write_back(void *owner, uint64_t offset, const void *from, uint64_t length)
{
    struct sim_file *file = owner;
    if (offset >= file->size_bytes)
        return;
    if (length > file->size_bytes - offset)
        length = file->size_bytes - offset;
    memcpy(file->cached + offset, from, length);
    journal_add(file, CHANGE_WRITE, offset, length, from);
}

void sim_file_write_back(struct sim_file *file, uint64_t offset, uint64_t length, uint64_t until_ns)
{
    folios_flush(&file->folios, offset, length, until_ns);
}

static void write_back_all(struct sim_file *file)
{
    sim_file_write_back(file, 0, file->size_bytes, UINT64_MAX);
}

/* --- life ------------------------------------------------------------------------------------ */

struct sim_file *sim_file_new(const char *path, unsigned number, uint64_t size_bytes,
                              uint32_t folio_bytes)
{
    struct sim_file *file = calloc(1, sizeof(*file));
    assert(file);
    file->path = strdup(path);
    file->number = number;
    file->journal_end = &file->journal_first;
    file->folios = (struct sim_folios){.folio_bytes = folio_bytes,
                                       .fetch = folios_fetch,
                                       .write_back = folios_write_back,
                                       .owner = file};
    make_room(file, size_bytes > 0 ? size_bytes : 1);
    file->size_bytes = file->durable_size_bytes = size_bytes;
    return file;
}

void sim_file_free(struct sim_file *file)
{
    journal_play(file);
    folios_fini(&file->folios);
    free(file->path);
    free(file->cached);
    free(file->durable);
    free(file->blocks);
    free(file);
}

void sim_file_fill(struct sim_file *file, uint64_t offset, const void *bytes, uint64_t length)
{
    assert(range_is_inside(offset, length, file->size_bytes));
    memcpy(file->cached + offset, bytes, length);
    memcpy(file->durable + offset, bytes, length);
    mark(file, offset, length, SIM_BLOCK_DATA);
}

/* --- use ------------------------------------------------------------------------------------- */

void sim_file_load(struct sim_file *file, uint64_t offset, void *to, uint64_t length,
                   bool is_direct)
{
    if (is_direct)
        memcpy(to, file->cached + offset, length);
    else
        folios_read(&file->folios, offset, to, length);
}

void sim_file_store(struct sim_file *file, uint64_t offset, const void *from, uint64_t length,
                    bool is_direct, uint64_t now_ns)
{
    make_room(file, offset + length);
    if (file->direct_count > 0 && !is_direct) {
        folios_write(&file->folios, offset, from, length, now_ns);
    } else {
        memcpy(file->cached + offset, from, length);
        journal_add(file, CHANGE_WRITE, offset, length, from);
    }
    if (offset + length > file->size_bytes)
        file->size_bytes = offset + length;
    mark(file, offset, length, SIM_BLOCK_DATA);
}

void sim_file_zero(struct sim_file *file, uint64_t offset, uint64_t length, enum sim_block state)
{
    uint64_t end = offset + length;
    make_room(file, end);
    sim_file_write_back(file, offset, length, UINT64_MAX);
    memset(file->cached + offset, 0, length);
    journal_add(file, CHANGE_ZERO, offset, length, NULL);
    for (uint64_t at = offset / SIM_FILE_BLOCK; at * SIM_FILE_BLOCK < end; at++) {
        bool is_whole = at * SIM_FILE_BLOCK >= offset && (at + 1) * SIM_FILE_BLOCK <= end;
        if (is_whole)
            file->blocks[at] = state;
        else if (file->blocks[at] == SIM_BLOCK_HOLE)
            file->blocks[at] = state;
    }
}

void sim_file_allocate(struct sim_file *file, uint64_t offset, uint64_t length)
{
    make_room(file, offset + length);
    mark(file, offset, length, SIM_BLOCK_UNWRITTEN);
}

void sim_file_set_size(struct sim_file *file, uint64_t size_bytes)
{
    make_room(file, size_bytes);
    write_back_all(file);
    cut_or_grow(file->cached, &file->size_bytes, size_bytes);
    for (uint64_t at = align_up(size_bytes, SIM_FILE_BLOCK) / SIM_FILE_BLOCK;
         at < file->room_bytes / SIM_FILE_BLOCK; at++)
        file->blocks[at] = SIM_BLOCK_HOLE;
    journal_add(file, CHANGE_SIZE, size_bytes, 0, NULL);
}

void sim_file_sync(struct sim_file *file)
{
    write_back_all(file);
    journal_play(file);
}

/* --- what goes wrong ------------------------------------------------------------------------- */

/* An image in the making: what is left of a file. */
struct remains {
    uint8_t *bytes;
    uint64_t size_bytes;
};

static void play_sectors(const struct sim_change *change, struct random *random, unsigned of_8,
                         struct remains *remains)
{
    uint64_t end = change->offset + change->length;
    for (uint64_t at = change->offset, part; at < end; at += part) {
        part = SIM_FILE_SECTOR - at % SIM_FILE_SECTOR;
        if (part > end - at)
            part = end - at;
        if (random_below(random, 8) >= of_8)
            continue;
        if (change->kind == CHANGE_WRITE)
            memcpy(remains->bytes + at, change->data + (at - change->offset), part);
        else if (at < remains->size_bytes)
            memset(remains->bytes + at, 0,
                   part < remains->size_bytes - at ? part : remains->size_bytes - at);
        if (change->kind == CHANGE_WRITE && at + part > remains->size_bytes)
            remains->size_bytes = at + part;
    }
}

/* How many of the truncations survive: the first ones. A file that has none draws nothing. */
static uint64_t draw_sizes(const struct sim_file *file, struct random *random)
{
    uint64_t count = 0;
    for (const struct sim_change *change = file->journal_first; change; change = change->next)
        count += change->kind == CHANGE_SIZE;
    return count > 0 ? random_below(random, count + 1) : 0;
}

/* Some of the journal onto the image: each change with a chance of so many in 8, now and then in
 * pieces, now and then behind one that is younger, but not behind one of the size. */
static void play_some(const struct sim_file *file, struct random *random, unsigned of_8,
                      struct remains *remains)
{
    const struct sim_change *late = NULL;
    uint64_t sizes_left = draw_sizes(file, random);
    for (const struct sim_change *change = file->journal_first; change; change = change->next) {
        if (change->kind == CHANGE_SIZE) {
            late = NULL;
            if (sizes_left > 0)
                cut_or_grow(remains->bytes, &remains->size_bytes, change->offset);
            sizes_left -= sizes_left > 0;
            continue;
        }
        bool is_torn = random_once_in(random, 4);
        if (!is_torn && random_below(random, 8) >= of_8)
            continue;
        if (!late && random_once_in(random, 8)) {
            late = change;
            continue;
        }
        play_sectors(change, random, is_torn ? of_8 : 8, remains);
        if (late && random_once_in(random, 4)) {
            play_sectors(late, random, 8, remains);
            late = NULL;
        }
    }
    if (late)
        play_sectors(late, random, 8, remains);
}

void sim_file_fail_sync(struct sim_file *file, struct random *random)
{
    write_back_all(file);
    struct remains remains = {file->durable, file->durable_size_bytes};
    play_some(file, random, (unsigned)random_below(random, 8), &remains);
    file->durable_size_bytes = remains.size_bytes;
    journal_drop(file);
}

void sim_file_cut(struct sim_file *file)
{
    write_back_all(file);
    file->direct_count = 0;
}

uint64_t sim_file_survivor(const struct sim_file *file, struct random *random, uint8_t *image)
{
    static const unsigned of_8[] = {0, 1, 4, 7, 8};
    struct remains remains = {image, file->durable_size_bytes};
    memset(image, 0, file->room_bytes);
    memcpy(image, file->durable, file->durable_size_bytes);
    play_some(file, random, of_8[random_below(random, 5)], &remains);
    return remains.size_bytes;
}

void sim_file_go_on_with(struct sim_file *file, const uint8_t *image, uint64_t size_bytes)
{
    journal_drop(file);
    memset(file->cached, 0, file->room_bytes);
    memset(file->durable, 0, file->room_bytes);
    memcpy(file->cached, image, size_bytes);
    memcpy(file->durable, image, size_bytes);
    file->size_bytes = file->durable_size_bytes = size_bytes;
    for (uint64_t at = 0; at < size_bytes; at++)
        if (image[at] != 0)
            file->blocks[at / SIM_FILE_BLOCK] = SIM_BLOCK_DATA;
}
