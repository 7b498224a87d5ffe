/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/chain.h"

#include <errno.h>

#include "block/node.h"

struct block_node *chain_image(struct block_node *node)
{
    while (node->driver->flags & BLOCK_DRIVER_FILTER)
        node = node->file;
    return node;
}

struct block_node *chain_behind(const struct block_node *image)
{
    return image->backing ? chain_image(image->backing) : NULL;
}

/* A chain is no longer than BLOCK_GRAPH_DEPTH_MAX. */
int chain_co_depth(struct block_node *node, uint64_t offset, uint64_t length, uint32_t *ret_depth,
                   uint64_t *ret_length)
{
    struct block_node *image = chain_image(node);
    uint32_t depth = 1;
    bool is_own = false;
    int rc;
    while ((rc = node_co_is_own(image, offset, length, &is_own, &length)) == 0 && !is_own) {
        image = chain_behind(image);
        if (!image) {
            depth = 0;
            break;
        }
        depth++;
    }
    if (rc < 0)
        return rc;
    *ret_depth = depth;
    *ret_length = length;
    return 0;
}

int chain_co_find_bitmap(struct block_node *node, const char *name,
                         const struct dirty_bitmap **ret_bitmap, struct error *err)
{
    for (struct block_node *image = chain_image(node); image; image = chain_behind(image)) {
        const struct block_driver_admin *admin = image->driver->admin;
        int rc = -ENOENT;
        if (admin && admin->co_find_bitmap)
            rc = admin->co_find_bitmap(image, name, ret_bitmap, err);
        if (rc != -ENOENT)
            return rc;
    }
    return error_set(err, -ENOENT,
                     "bitmap '%.200s' is not found in '%.200s'%s; qemu-img info lists those there "
                     "are",
                     name, node_label(node),
                     chain_image(node)->backing ? " or the images behind it" : "");
}
