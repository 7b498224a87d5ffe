/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The image's tables in the cache: which kinds there are, in which order they reach the disk
 * (DESIGN's, invariants 2 to 6: refcount blocks, refcount table, L2, L1), and how much memory they
 * have. The sizes have qemu's names; without them the L2 tables of the whole disk are kept, up to
 * L2_BYTES_DEFAULT.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "block/env.h"
#include "block/node_options.h"
#include "common/align.h"
#include "formats/qcow2/image.h"

#define SLICE_BYTES 4096u
#define L2_BYTES_DEFAULT (UINT64_C(32) << 20)
#define L1_BYTES (UINT64_C(4) << 20)
#define REFCOUNT_BYTES_DEFAULT (UINT64_C(1) << 20)
#define REFCOUNT_TABLE_BYTES (UINT64_C(1) << 20)
#define CLUSTERS_BYTES (UINT64_C(16) << 20) /* decompressed */
#define CLEAN_INTERVAL_S_DEFAULT 600

/* All L2 entries of the disk. */
static uint64_t l2_bytes_of_disk(const struct qcow2_image *image)
{
    uint64_t clusters = qcow2_clusters_of(&image->geometry, image->header.size);
    return clusters * image->geometry.l2_entry_bytes;
}

/* cache-size is what the two others are together; one that is given decides the other. */
static int share(uint64_t total, bool has_l2, bool has_refcount, struct qcow2_cache_sizes *sizes,
                 struct error *err)
{
    if (has_l2 && has_refcount)
        return error_set(err, -EINVAL,
                         "cache-size, l2-cache-size and refcount-cache-size are all given; two of "
                         "them say the third");
    if ((has_l2 && sizes->l2_bytes > total) || (has_refcount && sizes->refcount_bytes > total))
        return error_set(err, -EINVAL,
                         "cache-size is %" PRIu64 ", less than the %s of %" PRIu64
                         " that is a part of it",
                         total, has_l2 ? "l2-cache-size" : "refcount-cache-size",
                         has_l2 ? sizes->l2_bytes : sizes->refcount_bytes);
    if (has_l2)
        sizes->refcount_bytes = total - sizes->l2_bytes;
    else if (has_refcount)
        sizes->l2_bytes = total - sizes->refcount_bytes;
    else {
        sizes->refcount_bytes = smaller(REFCOUNT_BYTES_DEFAULT, total / 4);
        sizes->l2_bytes = total - sizes->refcount_bytes;
    }
    return 0;
}

static int check_entry_bytes(const struct qcow2_image *image, uint64_t bytes, struct error *err)
{
    if (is_power_of_two(bytes) && bytes >= CACHE_TABLE_BYTES_MIN &&
        bytes <= image->geometry.cluster_bytes)
        return 0;
    return error_set(err, -EINVAL,
                     "l2-cache-entry-size is %" PRIu64
                     "; it must be a power of two from %d to the cluster size, %" PRIu64,
                     bytes, CACHE_TABLE_BYTES_MIN, image->geometry.cluster_bytes);
}

struct qcow2_cache_sizes qcow2_default_cache_sizes(const struct qcow2_image *image)
{
    return (struct qcow2_cache_sizes){
        .l2_bytes = smaller(L2_BYTES_DEFAULT, l2_bytes_of_disk(image)),
        .refcount_bytes = REFCOUNT_BYTES_DEFAULT,
        .l2_entry_bytes = smaller(SLICE_BYTES, image->geometry.cluster_bytes),
        .clean_interval_s = CLEAN_INTERVAL_S_DEFAULT,
    };
}

int qcow2_take_cache_sizes(const struct qcow2_image *image, struct node_options *options,
                           struct qcow2_cache_sizes *ret_sizes, struct error *err)
{
    struct qcow2_cache_sizes sizes = *ret_sizes;
    uint64_t total = 0;
    bool has_total = node_options_has(options, "cache-size");
    bool has_l2 = node_options_has(options, "l2-cache-size");
    bool has_refcount = node_options_has(options, "refcount-cache-size");
    int ret = node_options_take_size(options, "cache-size", &total, err);
    if (ret == 0)
        ret = node_options_take_size(options, "l2-cache-size", &sizes.l2_bytes, err);
    if (ret == 0)
        ret = node_options_take_size(options, "refcount-cache-size", &sizes.refcount_bytes, err);
    if (ret == 0)
        ret = node_options_take_size(options, "l2-cache-entry-size", &sizes.l2_entry_bytes, err);
    if (ret == 0)
        ret = node_options_take_size(options, "cache-clean-interval", &sizes.clean_interval_s, err);
    if (ret == 0)
        ret = check_entry_bytes(image, sizes.l2_entry_bytes, err);
    if (ret == 0 && has_total)
        ret = share(total, has_l2, has_refcount, &sizes, err);
    if (ret == 0)
        *ret_sizes = sizes;
    return ret;
}

static void add_kind(struct cache_config *config, enum qcow2_table_kind kind, uint64_t table_bytes,
                     uint64_t budget_bytes)
{
    static const struct {
        const char *name, *load_event, *write_event;
    } words[] = {
        [QCOW2_TABLE_REFCOUNT_BLOCK] = {"refcount blocks", "refblock_load", "refblock_update"},
        [QCOW2_TABLE_REFCOUNT_TABLE] = {"refcount table", "reftable_load", "reftable_update"},
        [QCOW2_TABLE_L2] = {"L2 tables", "l2_load", "l2_update"},
        [QCOW2_TABLE_L1] = {"L1 table", NULL, "l1_update"},
    };
    assert(config->kind_count == (unsigned)kind);
    config->kinds[config->kind_count++] = (struct cache_kind_config){
        .name = words[kind].name,
        .node_index = 0,
        .class_index = (unsigned)kind,
        .table_bytes = (uint32_t)table_bytes,
        .budget_bytes = budget_bytes,
        .load_event = words[kind].load_event,
        .write_event = words[kind].write_event,
    };
}

int qcow2_tables_init(struct qcow2_image *image, const struct qcow2_cache_sizes *sizes,
                      struct qcow2_tables *ret_tables, struct error *err)
{
    struct qcow2_tables tables = {.sizes = *sizes};
    uint64_t slice = smaller(SLICE_BYTES, image->geometry.cluster_bytes);
    struct cache_config config = {
        .env = image->node->env,
        .monitor = &image->monitor,
        .nodes = {image->node->file, image->data},
        .node_count = image->data != image->node->file ? 2 : 1,
    };
    add_kind(&config, QCOW2_TABLE_REFCOUNT_BLOCK, slice, sizes->refcount_bytes);
    add_kind(&config, QCOW2_TABLE_REFCOUNT_TABLE, slice, REFCOUNT_TABLE_BYTES);
    add_kind(&config, QCOW2_TABLE_L2, sizes->l2_entry_bytes, sizes->l2_bytes);
    add_kind(&config, QCOW2_TABLE_L1, slice, L1_BYTES);
    int ret = clusters_new(&tables.clusters, image->geometry.cluster_bytes, CLUSTERS_BYTES);
    if (ret < 0)
        return error_set(err, ret, "no memory for the tables of '%s'", image->node->name);
    ret = cache_new(&tables.cache, &config, err);
    if (ret < 0) {
        clusters_free(tables.clusters);
        return ret;
    }
    *ret_tables = tables;
    return 0;
}

void qcow2_tables_co_fini(struct qcow2_tables *tables)
{
    if (tables->cache)
        cache_co_stop_cleaning(tables->cache);
    cache_free(tables->cache);
    clusters_free(tables->clusters);
    tables->cache = NULL;
    tables->clusters = NULL;
}

void qcow2_tables_co_exchange(struct qcow2_image *image, struct qcow2_tables *tables)
{
    struct qcow2_tables old = {image->cache, image->clusters, image->cache_sizes};
    if (old.cache)
        cache_co_stop_cleaning(old.cache);
    pthread_mutex_lock(&image->tables_mutex);
    image->cache = tables->cache;
    image->clusters = tables->clusters;
    image->cache_sizes = tables->sizes;
    image->l2_slice_bytes = (uint32_t)tables->sizes.l2_entry_bytes;
    pthread_mutex_unlock(&image->tables_mutex);
    if (image->cache && tables->sizes.clean_interval_s > 0)
        cache_start_cleaning(image->cache, tables->sizes.clean_interval_s);
    *tables = old;
}

void qcow2_tell_numbers(const struct block_node *node, block_tell_number *tell, void *arg)
{
    struct qcow2_image *image = node->state;
    struct cache_counters l2, refcounts;
    struct clusters_counters clusters;
    pthread_mutex_lock(&image->tables_mutex);
    cache_kind_counters(image->cache, QCOW2_TABLE_L2, &l2);
    cache_kind_counters(image->cache, QCOW2_TABLE_REFCOUNT_BLOCK, &refcounts);
    clusters_counters(image->clusters, &clusters);
    pthread_mutex_unlock(&image->tables_mutex);
    tell(arg, "l2_cache_hits", l2.hits);
    tell(arg, "l2_cache_misses", l2.misses);
    tell(arg, "l2_cache_evictions", l2.evictions);
    tell(arg, "refcount_cache_hits", refcounts.hits);
    tell(arg, "refcount_cache_misses", refcounts.misses);
    tell(arg, "refcount_cache_evictions", refcounts.evictions);
    tell(arg, "cluster_cache_hits", clusters.hits);
    tell(arg, "cluster_cache_misses", clusters.misses);
    tell(arg, "cluster_cache_evictions", clusters.evictions);
}

void qcow2_tables_co_close(struct qcow2_image *image)
{
    struct qcow2_tables tables = {.cache = NULL};
    qcow2_tables_co_exchange(image, &tables);
    qcow2_tables_co_fini(&tables);
}

int qcow2_co_read_bytes(struct qcow2_image *image, uint64_t host_offset, void *to, size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, to, length);
    return node_co_read(image->node->file, host_offset, &vec);
}
