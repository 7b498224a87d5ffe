/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/filter.h"

#include "block/node.h"
#include "block/node_options.h"

int filter_co_open_key(struct block_node *node, struct node_options *options, const char *key,
                       struct error *err)
{
    int rc = block_co_open_filtered(node, options, key, &node->file, err);
    if (rc < 0)
        return rc;
    node->limits = node->file->limits;
    atomic_store(&node->size_bytes, node_size(node->file));
    return 0;
}

const char *filter_child_key(const struct node_options *options)
{
    static const char *const names[] = {"image", "raw"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (node_options_has_below(options, names[i]))
            return names[i];
    }
    return "file";
}

int filter_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    return filter_co_open_key(node, options, "file", err);
}

void filter_co_close(struct block_node *node)
{
    (void)node;
}

void filter_grew_to(struct block_node *node, uint64_t end)
{
    uint64_t old = atomic_load_explicit(&node->size_bytes, memory_order_relaxed);
    while (old < end && !atomic_compare_exchange_weak(&node->size_bytes, &old, end))
        ;
}

/* What failed may have made the child longer all the same: a full disk takes a part. Nobody above
 * may then believe that what lies behind the old end was never written. */
static void follow_size(struct block_node *node, int rc, uint64_t end)
{
    filter_grew_to(node, rc == 0 ? end : node_size(node->file));
}

int filter_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    return node_co_read(node->file, offset, vec);
}

int filter_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                    unsigned flags)
{
    int rc = node_co_write(node->file, offset, vec, flags);
    follow_size(node, rc, offset + vec->length);
    return rc;
}

int filter_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    int rc = node_co_zero(node->file, offset, length, flags);
    follow_size(node, rc, offset + length);
    return rc;
}

int filter_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    return node_co_discard(node->file, offset, length, 0);
}

int filter_co_cache(struct block_node *node, uint64_t offset, uint64_t length)
{
    return node_co_cache(node->file, offset, length);
}

int filter_co_flush(struct block_node *node)
{
    return node_co_flush(node->file);
}

int filter_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                     struct block_extent *ret_extent)
{
    return node_co_status(node->file, offset, length, ret_extent);
}

void filter_status_remembered(struct block_node *node, uint64_t offset, uint64_t length,
                              struct block_extent *ret_extent)
{
    node_status_remembered(node->file, offset, length, ret_extent);
}

int filter_lend(struct block_node *node, uint64_t offset, uint64_t length, struct block_loan *loan)
{
    return node_lend(node->file, offset, length, loan);
}

int filter_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err)
{
    int rc = node_co_resize(node->file, size_bytes, err);
    if (rc == 0)
        atomic_store(&node->size_bytes, node_size(node->file));
    return rc;
}

bool filter_has_zero_init(struct block_node *node)
{
    const struct block_driver_admin *admin = node->file->driver->admin;
    return admin && admin->has_zero_init && admin->has_zero_init(node->file);
}

int filter_co_reopen_prepare(struct block_node *node, struct block_reopen *reopen,
                             struct error *err)
{
    (void)node;
    (void)reopen;
    (void)err;
    return 0;
}

void filter_co_reopen_commit(struct block_node *node, struct block_reopen *reopen)
{
    (void)reopen;
    node->limits = node->file->limits;
}

int filter_co_stored_size(struct block_node *node, uint64_t *ret_size_bytes)
{
    return node_co_stored_size(node->file, ret_size_bytes);
}

const struct block_driver_admin filter_admin = {
    .co_stored_size = filter_co_stored_size,
    .co_reopen_prepare = filter_co_reopen_prepare,
    .co_reopen_commit = filter_co_reopen_commit,
    .co_resize = filter_co_resize,
    .has_zero_init = filter_has_zero_init,
};
