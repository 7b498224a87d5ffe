/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Blocks are powers of two, each behind a head that says which. Freed ones are kept by size; new
 * ones are cut from a piece of address space. The arrays double, so what one leaves behind
 * the next one takes.
 */
#include "block/poller_memory.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "common/align.h"

#define DESCRIPTORS_MIN 1024
#define DESCRIPTORS_MAX (1024 * 1024)
/* libev's arrays hold 48 bytes a descriptor; twice for the powers of two, and twice for what an
 * array leaves behind when it doubles. */
#define BYTES_PER_DESCRIPTOR 256
#define PIECE_BYTES_MIN ((size_t)1 << 20)
#define BLOCK_BYTES_MIN 64
#define CLASS_COUNT 32

/* In front of each block; when it is free, the link lies in the block itself. */
struct block_head {
    unsigned class; /* BLOCK_BYTES_MIN << class bytes, head included */
} __attribute__((aligned(16)));

struct free_block {
    struct block_head head;
    struct free_block *next;
};

/* At the front of each piece of address space. */
struct piece {
    struct piece *next;
    size_t bytes;
    size_t used;
} __attribute__((aligned(16)));

static struct {
    pthread_mutex_t mutex;
    unsigned poller_count;
    struct piece *pieces;
    struct free_block *free_blocks[CLASS_COUNT];
} memory_of_pollers = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* --- pieces; the mutex is held ------------------------------------------------------------------
 */

static int add_piece(size_t bytes)
{
    struct piece *piece = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (piece == MAP_FAILED)
        return -ENOMEM;
    *piece = (struct piece){
        .next = memory_of_pollers.pieces, .bytes = bytes, .used = sizeof(struct piece)};
    memory_of_pollers.pieces = piece;
    return 0;
}

static void drop_pieces(void)
{
    while (memory_of_pollers.pieces) {
        struct piece *piece = memory_of_pollers.pieces;
        memory_of_pollers.pieces = piece->next;
        munmap(piece, piece->bytes);
    }
    memset(memory_of_pollers.free_blocks, 0, sizeof(memory_of_pollers.free_blocks));
}

static size_t bytes_for_one_poller(void)
{
    struct rlimit limit;
    size_t count = DESCRIPTORS_MAX;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < count)
        count = limit.rlim_cur;
    if (count < DESCRIPTORS_MIN)
        count = DESCRIPTORS_MIN;
    return count * BYTES_PER_DESCRIPTOR;
}

/* --- blocks; the mutex is held ------------------------------------------------------------------
 */

static size_t class_bytes(unsigned class)
{
    return (size_t)BLOCK_BYTES_MIN << class;
}

static struct block_head *head_of(void *memory)
{
    return (struct block_head *)memory - 1;
}

static struct block_head *get_block(unsigned class)
{
    struct free_block *block = memory_of_pollers.free_blocks[class];
    if (block) {
        memory_of_pollers.free_blocks[class] = block->next;
        return &block->head;
    }
    size_t bytes = class_bytes(class);
    struct piece *piece = memory_of_pollers.pieces;
    while (piece && piece->bytes - piece->used < bytes)
        piece = piece->next;
    if (!piece) {
        size_t piece_bytes = align_up(bytes + sizeof(struct piece), PIECE_BYTES_MIN);
        if (add_piece(piece_bytes) < 0)
            return NULL;
        piece = memory_of_pollers.pieces;
    }
    struct block_head *head = (struct block_head *)(void *)((char *)piece + piece->used);
    piece->used += bytes;
    head->class = class;
    return head;
}

static void put_block(struct block_head *head)
{
    struct free_block *block = (struct free_block *)(void *)head;
    block->next = memory_of_pollers.free_blocks[head->class];
    memory_of_pollers.free_blocks[head->class] = block;
}

static void *resize(void *memory, size_t size)
{
    unsigned class = 0;
    while (class < CLASS_COUNT && class_bytes(class) - sizeof(struct block_head) < size)
        class ++;
    if (class == CLASS_COUNT)
        return NULL;
    if (memory && head_of(memory)->class >= class)
        return memory;
    struct block_head *head = get_block(class);
    if (!head)
        return NULL;
    if (memory) {
        memcpy(head + 1, memory, class_bytes(head_of(memory)->class) - sizeof(struct block_head));
        put_block(head_of(memory));
    }
    return head + 1;
}

/* --- for all ------------------------------------------------------------------------------------
 */

int poller_memory_join(struct error *err)
{
    pthread_mutex_lock(&memory_of_pollers.mutex);
    size_t bytes = bytes_for_one_poller();
    int code = add_piece(bytes);
    if (code == 0)
        memory_of_pollers.poller_count++;
    pthread_mutex_unlock(&memory_of_pollers.mutex);
    return code == 0 ? 0
                     : error_set(err, code,
                                 "no address space (%zu bytes) for an event loop's "
                                 "descriptors; lower their limit (ulimit -n)",
                                 bytes);
}

void poller_memory_leave(void)
{
    pthread_mutex_lock(&memory_of_pollers.mutex);
    assert(memory_of_pollers.poller_count > 0);
    if (--memory_of_pollers.poller_count == 0)
        drop_pieces();
    pthread_mutex_unlock(&memory_of_pollers.mutex);
}

void *poller_memory_realloc(void *memory, long size)
{
    assert(size >= 0);
    pthread_mutex_lock(&memory_of_pollers.mutex);
    if (size > 0)
        memory = resize(memory, (size_t)size);
    else if (memory)
        put_block(head_of(memory));
    pthread_mutex_unlock(&memory_of_pollers.mutex);
    return size > 0 ? memory : NULL;
}
