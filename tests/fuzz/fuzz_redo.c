/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A redo log, as it is found. Input: head and tail, 8 bytes each, and the ring. Properties: a log
 * that is refused says why, and nothing was written; of one that is not, the disks have what the
 * records say one after the other, what was forgotten is as it was, and no disk is longer than it.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

#include "block/node_options.h"
#include "cache/redo_log.h"
#include "cache/table.h"
#include "tests/fuzz/fuzz_image.h"
#include "tests/unit/block/memory_driver.h"

#define LOG_BYTES REDO_MEMORY_BYTES_MIN
#define RING_BYTES (LOG_BYTES - REDO_HEADER_BYTES)
#define DISK_BYTES (16u << 10)
#define CAPACITY_BYTES (48u << 10)
#define ENDS_BYTES 16
#define NODES 2

static struct machine {
    struct memory_disk disks[NODES]; /* the second one does not grow */
    struct block_node *nodes[NODES];
    struct cache *cache;
    uint8_t before[NODES][CAPACITY_BYTES], expected[NODES][CAPACITY_BYTES];
    uint64_t end[NODES]; /* of what is expected */
} machine;

static _Alignas(REDO_HEADER_BYTES) uint8_t memory[LOG_BYTES];

/* No two kinds share a byte. */
static const struct cache_kind_config kinds[] = {
    {.name = "a", .class_index = 1, .table_bytes = 512, .end = 8192},
    {.name = "b", .class_index = 0, .table_bytes = 4096, .base = 8192, .end = 32768},
    {.name = "c", .class_index = 2, .table_bytes = 1024, .base = 32768 + 12, .end = 40000},
    {.name = "d", .node_index = 1, .class_index = 1, .table_bytes = 512},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* --- what the records say -----------------------------------------------------------------------
 */

static void forget(unsigned node, uint64_t from, uint64_t length)
{
    for (uint64_t i = 0; i < length && from + i < CAPACITY_BYTES; i++)
        machine.expected[node][from + i] = machine.before[node][from + i];
}

static void expect(const struct redo_record *record, const uint8_t *bytes)
{
    unsigned node = kinds[record->index].node_index;
    uint64_t end = record->node_offset + record->length;
    FUZZ_CHECK(end <= CAPACITY_BYTES);
    if (record->type == REDO_STORE)
        memcpy(machine.expected[node] + record->node_offset, bytes, record->length);
    else
        memset(machine.expected[node] + record->node_offset, 0, record->length);
    machine.end[node] = end > machine.end[node] ? end : machine.end[node];
}

/* They have been found to be good. */
static void expect_all(uint64_t head, uint64_t tail)
{
    while (head != tail) {
        struct redo_record record;
        const uint8_t *at = memory + REDO_HEADER_BYTES + head % RING_BYTES;
        uint64_t length;
        memcpy(&record, at, sizeof(record));
        at += sizeof(record);
        head += sizeof(record);
        if (record.type != REDO_ZERO)
            head += (record.length + 15ull) / 16 * 16;
        if (record.type == REDO_FORGET) {
            memcpy(&length, at, sizeof(length));
            forget(record.index, record.node_offset, length);
        } else if (record.type != REDO_PAD) {
            expect(&record, at);
        }
    }
}

static void check_disks(void)
{
    for (unsigned i = 0; i < NODES; i++) {
        const struct memory_disk *disk = &machine.disks[i];
        FUZZ_CHECK(memcmp(disk->data, machine.expected[i], CAPACITY_BYTES) == 0);
        FUZZ_CHECK(disk->size_bytes == DISK_BYTES || disk->size_bytes <= machine.end[i]);
    }
}

/* --- one input ----------------------------------------------------------------------------------
 */

static void co_open(struct block_env *env, unsigned i, const char *driver)
{
    struct memory_disk *disk = &machine.disks[i];
    struct node_options *options = node_options_new();
    memory_disk_init(disk, DISK_BYTES, CAPACITY_BYTES, 1);
    memset(disk->data, (int)(0xa0 + i), DISK_BYTES);
    memory_disk_options(disk, options, "", driver);
    FUZZ_CHECK(block_co_open(env, options, &machine.nodes[i], NULL) == 0);
    memcpy(machine.before[i], disk->data, CAPACITY_BYTES);
    memcpy(machine.expected[i], disk->data, CAPACITY_BYTES);
    machine.end[i] = DISK_BYTES;
}

static void co_replay(void)
{
    static const struct redo_identity identity = {.bytes = "fuzz"};
    const struct redo_header *header = (const void *)memory;
    struct redo *redo;
    struct error err = {.message = ""};
    uint64_t count = 0, head = header->head, tail = header->tail;
    FUZZ_CHECK(redo_new(&redo, memory, LOG_BYTES) == 0);
    int rc = redo_co_replay(redo, machine.cache, CAPACITY_BYTES, &count, &err);
    FUZZ_CHECK(rc == 0 || rc == -EBADMSG);
    FUZZ_CHECK((rc < 0) == (err.message[0] != '\0'));
    if (rc == 0)
        expect_all(head, tail);
    else
        FUZZ_CHECK(machine.disks[0].counts[MEMORY_WRITE] == 0 && header->head == head);
    check_disks();
    if (rc == 0)
        FUZZ_CHECK(count <= RING_BYTES / 16 && redo_look(redo, &identity) == REDO_EMPTY);
    redo_free(redo);
}

static void co_run(void *env)
{
    pthread_mutex_t monitor;
    pthread_mutex_init(&monitor, NULL);
    co_open(env, 0, "growing");
    co_open(env, 1, "file");
    struct cache_config config = {
        .env = env, .monitor = &monitor, .node_count = NODES, .kind_count = KINDS};
    memcpy(config.nodes, machine.nodes, sizeof(machine.nodes));
    memcpy(config.kinds, kinds, sizeof(kinds));
    FUZZ_CHECK(cache_new(&machine.cache, &config, NULL) == 0);
    co_replay();
    cache_free(machine.cache);
    for (unsigned i = 0; i < NODES; i++) {
        block_co_node_unref(machine.nodes[i]);
        memory_disk_fini(&machine.disks[i]);
    }
    pthread_mutex_destroy(&monitor);
}

static void keep_input(const uint8_t *data, size_t size)
{
    static const struct redo_identity identity = {.bytes = "fuzz"};
    struct redo_header *header = (void *)memory;
    struct redo *redo;
    uint64_t ends[2] = {0};
    memset(memory, 0, LOG_BYTES);
    FUZZ_CHECK(redo_new(&redo, memory, LOG_BYTES) == 0);
    redo_format(redo, &identity);
    redo_free(redo);
    memcpy(ends, data, size < ENDS_BYTES ? size : ENDS_BYTES);
    header->head = ends[0];
    header->tail = ends[1];
    if (size > ENDS_BYTES)
        memcpy(memory + REDO_HEADER_BYTES, data + ENDS_BYTES,
               size - ENDS_BYTES < RING_BYTES ? size - ENDS_BYTES : RING_BYTES);
    file_length = 0; /* the disks are the machine's own */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct fuzz_image image = {
        .drivers = memory_drivers, .bytes_max = 1, .fill = keep_input, .co_run = co_run};
    fuzz_image_run(&image, data, size);
    return 0;
}
