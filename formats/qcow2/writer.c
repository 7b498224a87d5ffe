/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An image that is written to: its begin and its end, and what keeps its metadata from being
 * overwritten.
 *
 * Which clusters hold metadata is collected at the open, from the tables themselves, and kept true
 * afterwards: a write of guest data, and a cluster that the refcounts call free, is looked up there
 * first. Whatever the image's size, that is one probe a cluster.
 */
#include "formats/qcow2/writer.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "block/coroutine.h"
#include "block/env.h"
#include "block/parts.h"
#include "block/workers.h"
#include "common/align.h"
#include "common/endian.h"
#include "common/log.h"
#include "formats/qcow2/bitmaps.h"

#define TABLE_PIECE_BYTES (64 << 10)
#define PIECE_ENTRIES 128u

static const char *const owner_names[] = {
    [QCOW2_OWNER_HEADER] = "the header",
    [QCOW2_OWNER_REFCOUNT_TABLE] = "the refcount table",
    [QCOW2_OWNER_REFCOUNT_BLOCK] = "a refcount block",
    [QCOW2_OWNER_L1] = "an L1 table",
    [QCOW2_OWNER_L2] = "an L2 table",
    [QCOW2_OWNER_SNAPSHOTS] = "the snapshot table",
    [QCOW2_OWNER_BITMAPS] = "a persistent bitmap",
};

/* --- metadata -----------------------------------------------------------------------------------
 */

/* A worker that makes memory ready, while the tables are read. */
struct supply {
    struct worker_job job;
    unsigned count; /* of the chunks that it makes; 0: it has nothing to do */
    struct owned_chunk *chunks;
    struct coroutine *waiter;
};

/* What the metadata is collected with at the open. */
struct collection {
    struct qcow2_image *image;
    struct owned_filler filler;
    struct supply supply;
};

static int refuse(const struct collection *collection, int ret, struct error *err)
{
    const struct qcow2_image *image = collection->image;
    const struct owned_conflict *conflict = &collection->filler.conflict;
    if (ret == -EFBIG)
        return error_set(err, -EINVAL,
                         "cannot open '%.200s' for writing: it has tables far past the end of the "
                         "file; repair it with qemu-img check -r all, or serve it with --read-only",
                         image->node->name);
    if (ret != -EEXIST)
        return error_set(err, ret, "no memory to open '%.200s'", image->node->name);
    return error_set(err, -EINVAL,
                     "cannot open '%.200s' for writing: %s and %s both have the cluster at "
                     "0x%" PRIx64 "; repair it with qemu-img check -r all, or serve it "
                     "with --read-only",
                     image->node->name, owner_names[conflict->owners[0]],
                     owner_names[conflict->owners[1]],
                     conflict->cluster_index << image->geometry.cluster_bits);
}

static int own(struct collection *collection, uint64_t offset, uint64_t length,
               enum qcow2_owner owner, struct error *err)
{
    const struct qcow2_geometry *geometry = &collection->image->geometry;
    uint64_t count = qcow2_clusters_of(geometry, length);
    if (count == 0)
        return 0;
    int ret = owned_filler_add(&collection->filler, offset >> geometry->cluster_bits, count, owner);
    return ret < 0 ? refuse(collection, ret, err) : 0;
}

static void supply_work(struct worker_job *job)
{
    struct supply *supply = container_of(job, struct supply, job);
    supply->chunks = owned_chunks_new(supply->count);
}

static void supply_done(struct worker_job *job)
{
    struct supply *supply = container_of(job, struct supply, job);
    struct collection *collection = container_of(supply, struct collection, supply);
    owned_filler_supply(&collection->filler, supply->chunks);
    supply->count = 0;
    if (supply->waiter)
        coroutine_wake(supply->waiter);
}

/* So many entries are still to come. */
static void go_on_supplying(struct collection *collection, uint64_t entries)
{
    struct supply *supply = &collection->supply;
    unsigned count = supply->count > 0 ? 0 : owned_filler_wants(&collection->filler, entries);
    if (count == 0)
        return;
    supply->count = count;
    supply->job = (struct worker_job){.work = supply_work, .done = supply_done};
    workers_submit(collection->image->node->env->workers, coroutine_loop(coroutine_self()),
                   &supply->job);
}

static void co_end_supply(struct supply *supply)
{
    if (supply->count == 0)
        return;
    supply->waiter = coroutine_self();
    coroutine_yield();
}

typedef bool decode_pointer(const struct qcow2_geometry *geometry, uint64_t entry,
                            uint64_t *ret_offset, const char **ret_why);

/* A table of pointers to clusters: all of them are the owner's. */
struct pointers {
    const char *table;
    uint64_t offset, count;
    decode_pointer *decode;
    uint64_t offset_bits; /* of an entry: what it decodes to, where it does */
    enum qcow2_owner owner;
};

/* One of the entries is bad: which, and why. */
static int refuse_entries(const struct qcow2_image *image, const struct pointers *pointers,
                          uint64_t index, const uint8_t *bytes, uint64_t file_bytes,
                          struct error *err)
{
    uint64_t entry = 0, offset = 0;
    const char *why = NULL;
    for (size_t i = 0; !why; i++) {
        entry = load_be64(bytes + i * 8);
        index += i > 0;
        if (pointers->decode(&image->geometry, entry, &offset, &why) && offset >= file_bytes)
            why = "it lies past the end of the file";
    }
    return error_set(err, -EINVAL,
                     "cannot open '%.200s' for writing: entry %" PRIu64 " of the %s is 0x%" PRIx64
                     ": %s; repair it with qemu-img check -r all, or serve it with --read-only",
                     image->node->name, index, pointers->table, entry, why);
}

/* `count` of its entries, at most PIECE_ENTRIES, the first of which has that index. There may be
 * millions of them, and mostly they are good, so they are decoded here in one go. */
static int own_entries(struct collection *collection, const struct pointers *pointers,
                       uint64_t index, const uint8_t *bytes, size_t count, struct error *err)
{
    const struct qcow2_image *image = collection->image;
    const struct qcow2_geometry *geometry = &image->geometry;
    uint64_t file_bytes = atomic_load(&image->node->file->size_bytes);
    uint64_t end = smaller(file_bytes, QCOW2_HOST_BYTES_MAX + 1);
    uint64_t clusters[PIECE_ENTRIES], all_bits = 0, largest = 0;
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t offset = load_be64(bytes + i * 8) & pointers->offset_bits;
        clusters[found] = offset >> geometry->cluster_bits;
        found += offset != 0;
        all_bits |= offset;
        largest = offset > largest ? offset : largest;
    }
    if (qcow2_in_cluster(geometry, all_bits) != 0 || largest >= end)
        return refuse_entries(image, pointers, index, bytes, file_bytes, err);
    int ret = owned_filler_add_each(&collection->filler, clusters, found, pointers->owner);
    return ret < 0 ? refuse(collection, ret, err) : 0;
}

static int co_own_pointed(struct collection *collection, const struct pointers *pointers,
                          struct error *err)
{
    struct qcow2_image *image = collection->image;
    uint64_t bytes_left = pointers->count * 8, at = pointers->offset;
    size_t piece_bytes = (size_t)smaller(bytes_left, TABLE_PIECE_BYTES);
    uint8_t *bytes = malloc(piece_bytes + 1);
    int ret = bytes ? 0 : error_set(err, -ENOMEM, "no memory to open '%.200s'", image->node->name);
    while (bytes_left > 0 && ret == 0) {
        size_t length = (size_t)smaller(bytes_left, piece_bytes);
        go_on_supplying(collection, bytes_left / 8);
        ret = qcow2_co_read_bytes(image, at, bytes, length);
        if (ret < 0)
            error_set(err, ret, "cannot read the %s of '%.200s': %s", pointers->table,
                      image->node->name, error_text(ret));
        for (size_t i = 0; i < length && ret == 0; i += PIECE_ENTRIES * 8)
            ret = own_entries(collection, pointers, (at - pointers->offset + i) / 8, bytes + i,
                              (size_t)smaller(PIECE_ENTRIES, (length - i) / 8), err);
        at += length;
        bytes_left -= length;
    }
    free(bytes);
    return ret;
}

static int own_snapshots(struct collection *collection, struct error *err)
{
    const struct qcow2_snapshots *snapshots = &collection->image->snapshots;
    int ret = own(collection, collection->image->header.snapshots_offset, snapshots->table_bytes,
                  QCOW2_OWNER_SNAPSHOTS, err);
    for (uint32_t i = 0; i < snapshots->count && ret == 0; i++)
        ret = own(collection, snapshots->all[i].l1_table_offset,
                  (uint64_t)snapshots->all[i].l1_size * 8, QCOW2_OWNER_L1, err);
    return ret;
}

static int co_collect(struct collection *collection, struct error *err)
{
    const struct qcow2_image *image = collection->image;
    const struct qcow2_header *header = &image->header;
    const struct qcow2_geometry *geometry = &image->geometry;
    uint64_t table_bytes = (uint64_t)header->refcount_table_clusters << geometry->cluster_bits;
    struct pointers blocks = {"refcount table",
                              header->refcount_table_offset,
                              table_bytes / 8,
                              qcow2_refcount_table_decode,
                              QCOW2_REFCOUNT_TABLE_OFFSET,
                              QCOW2_OWNER_REFCOUNT_BLOCK};
    struct pointers l2_tables = {"L1 table",      header->l1_table_offset, header->l1_size,
                                 qcow2_l1_decode, QCOW2_ENTRY_OFFSET,      QCOW2_OWNER_L2};
    int ret = own(collection, 0, geometry->cluster_bytes, QCOW2_OWNER_HEADER, err);
    if (ret == 0)
        ret = own(collection, header->refcount_table_offset, table_bytes,
                  QCOW2_OWNER_REFCOUNT_TABLE, err);
    if (ret == 0)
        ret = own(collection, header->l1_table_offset, (uint64_t)header->l1_size * 8,
                  QCOW2_OWNER_L1, err);
    if (ret == 0 && header->nb_snapshots > 0)
        ret = own_snapshots(collection, err);
    if (ret == 0)
        ret = co_own_pointed(collection, &blocks, err);
    return ret == 0 ? co_own_pointed(collection, &l2_tables, err) : ret;
}

/* What a worker brings to its place. */
struct finishing {
    struct owned_filler *filler;
    struct workers *workers;
    unsigned share;
};

static int finish_work(void *arg)
{
    const struct finishing *finishing = arg;
    owned_filler_finish_share(finishing->filler, finishing->share);
    return 0;
}

static int co_finish_share(void *arg)
{
    const struct finishing *finishing = arg;
    return workers_co_run(finishing->workers, finish_work, arg);
}

/* With very many tables it is work for two processors. Nothing can go wrong before all are done. */
static int co_finish(struct collection *collection)
{
    struct finishing finishing = {&collection->filler, collection->image->node->env->workers, 0};
    unsigned shares = owned_filler_divide(&collection->filler);
    struct parts *parts = shares > 1 ? parts_new(sizeof(finishing), co_finish_share) : NULL;
    for (; finishing.share < shares; finishing.share++) {
        if (parts)
            parts_co_start(parts, &finishing);
        else
            finish_work(&finishing);
    }
    if (parts)
        parts_co_end(parts);
    return owned_filler_join(&collection->filler);
}

static int co_own_metadata(struct qcow2_image *image, struct error *err)
{
    struct collection collection = {.image = image};
    uint64_t file_bytes = atomic_load(&image->node->file->size_bytes);
    owned_filler_init(&collection.filler, image->writer->owned,
                      qcow2_clusters_of(&image->geometry, file_bytes));
    int ret = co_collect(&collection, err);
    co_end_supply(&collection.supply);
    if (ret == 0) {
        ret = co_finish(&collection);
        if (ret < 0)
            ret = refuse(&collection, ret, err);
    }
    owned_filler_fini(&collection.filler);
    return ret;
}

int qcow2_co_check_overlap(struct qcow2_image *image, uint64_t host_offset, uint64_t length,
                           uint64_t guest_offset)
{
    uint32_t bits = image->geometry.cluster_bits;
    uint64_t first = host_offset >> bits;
    uint64_t count = ((host_offset + length - 1) >> bits) - first + 1;
    uint64_t where;
    unsigned owner = owned_first(image->writer->owned, first, count, &where);
    if (owner == OWNED_NOBODY)
        return 0;
    return qcow2_co_corrupt(image, "metadata would be overwritten", owner_names[owner],
                            where << bits, guest_offset);
}

/* --- the header ---------------------------------------------------------------------------------
 */

int qcow2_co_flush_file(struct qcow2_image *image)
{
    int ret = node_co_flush(image->node->file);
    if (ret < 0)
        qcow2_redo_give_up(image);
    return ret;
}

int qcow2_co_write_header_bytes(struct qcow2_image *image, uint32_t at, const void *bytes,
                                size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, (void *)(uintptr_t)bytes, length);
    assert(at / 512 == (at + length - 1) / 512);
    int ret = qcow2_co_write_to(image, image->node->file, at, &vec);
    return ret == 0 ? qcow2_co_flush_file(image) : ret;
}

int qcow2_co_replace_header_bytes(struct qcow2_image *image, uint32_t at, const void *bytes,
                                  const void *old_bytes, size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, (void *)(uintptr_t)bytes, length);
    assert(at / 512 == (at + length - 1) / 512);
    if (qcow2_is_corrupt(image))
        return -EIO;
    int ret = qcow2_co_write_to(image, image->node->file, at, &vec);
    if (ret == 0) /* after a flush that failed, none succeeds any more */
        return qcow2_co_flush_file(image);
    if (qcow2_co_write_header_bytes(image, at, old_bytes, length) < 0)
        qcow2_co_corrupt(image, "the header could not be written, nor be put back", "header", at,
                         0);
    return ret;
}

/* Features that only say something as long as everybody who writes keeps them true. */
static int co_clear_autoclear(struct qcow2_image *image, struct error *err)
{
    uint8_t field[8];
    uint64_t kept = image->header.autoclear_features & QCOW2_AUTOCLEAR_KNOWN;
    if (!image->extensions.has_bitmaps)
        kept &= ~QCOW2_AUTOCLEAR_BITMAPS;
    if (!qcow2_redo_has_bit(image))
        kept &= ~QCOW2_AUTOCLEAR_REDO_ALL;
    store_be64(field, kept);
    int ret = 0;
    if (kept != image->header.autoclear_features)
        ret = qcow2_co_write_header_bytes(image, QCOW2_HEADER_AUTOCLEAR, field, sizeof(field));
    if (ret < 0)
        return error_set(err, ret, "cannot write the header of '%.200s': %s", image->node->name,
                         error_text(ret));
    /* Those come and go while requests look at the others: redo.c knows them. */
    image->header.autoclear_features = kept & ~QCOW2_AUTOCLEAR_REDO_ALL;
    return 0;
}

/* --- life ---------------------------------------------------------------------------------------
 */

int qcow2_writer_co_prepare(struct qcow2_image *image, struct error *err)
{
    struct qcow2_writer *writer = calloc(1, sizeof(*writer));
    if (!writer || owned_new(&writer->owned) < 0) {
        free(writer);
        return error_set(err, -ENOMEM, "no memory to open '%.200s'", image->node->name);
    }
    list_init(&writer->cluster_claims);
    list_init(&writer->l1_claims);
    co_queue_init(&writer->growers);
    co_queue_init(&writer->markers);
    image->writer = writer;
    int ret = co_own_metadata(image, err);
    if (ret == 0)
        ret = qcow2_bitmaps_co_prepare(image, err);
    if (ret < 0)
        qcow2_writer_free(image);
    return ret;
}

int qcow2_writer_co_begin(struct qcow2_image *image, struct error *err)
{
    int ret = co_clear_autoclear(image, err);
    if (ret < 0)
        return ret;
    qcow2_redo_attach(image);
    qcow2_bitmaps_co_begin(image);
    return 0;
}

int qcow2_writer_co_open(struct qcow2_image *image, struct error *err)
{
    int ret = qcow2_writer_co_prepare(image, err);
    return ret == 0 ? qcow2_writer_co_begin(image, err) : ret;
}

void qcow2_writer_free(struct qcow2_image *image)
{
    if (!image->writer)
        return;
    assert(list_is_empty(&image->writer->cluster_claims));
    assert(list_is_empty(&image->writer->l1_claims));
    owned_free(image->writer->owned);
    free(image->writer);
    image->writer = NULL;
}

void qcow2_writer_co_close(struct qcow2_image *image)
{
    if (!image->writer)
        return;
    int ret = qcow2_bitmaps_co_store(image);
    if (ret < 0)
        log_error("'%s': its bitmaps could not be stored: %s; they are marked as in use, so nobody "
                  "will rely on them",
                  image->node->name, error_text(ret));
    ret = qcow2_co_settle(image);
    if (ret < 0)
        log_error("'%s': its tables could not be written: %s; what was not flushed before may be "
                  "lost",
                  image->node->name, error_text(ret));
    qcow2_abandon_unlinked(image);
    qcow2_redo_co_close(image);
    qcow2_writer_free(image);
}

/* Refcounts, then copied data, then L2, then L1, each durable before the next (invariant 15). */
int qcow2_co_flush(struct block_node *node)
{
    struct qcow2_image *image = qcow2_of(node);
    if (image->writer)
        return cache_co_flush(image->cache);
    int ret = node_co_flush(node->file);
    return ret == 0 && image->data != node->file ? node_co_flush(image->data) : ret;
}
