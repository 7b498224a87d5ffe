/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/kept.h"

#include <assert.h>
#include <errno.h>

#include "block/driver.h"
#include "block/node.h"

int node_co_keep(struct block_node *node, size_t length, bool only_look,
                 struct kept_memory **ret_kept, struct error *err)
{
    while (node->driver->flags & BLOCK_DRIVER_FILTER)
        node = node->file;
    const struct block_driver_admin *admin = node->driver->admin;
    if (!admin || !admin->co_keep)
        return error_set(err, -ENOTSUP, "the driver %s has no memory that stays",
                         node->driver->name);
    assert(only_look || !node->read_only);
    return admin->co_keep(node, length, only_look, ret_kept, err);
}

void kept_co_close(struct kept_memory *kept, bool is_done)
{
    if (kept)
        kept->co_close(kept, is_done);
}
