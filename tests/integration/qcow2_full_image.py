#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Makes a qcow2 image as if its disk had been written: every L1 entry has an L2 table, and all that the
file has by then is counted by refcount blocks. Opening looks at no more than that; the L2 tables and the
refcount blocks themselves are holes, so the file takes the space of its L1 and refcount table.

    qcow2_full_image.py NAME CLUSTER_BITS SIZE packed|spread|backward|scattered

Where the L2 tables lie: packed, one behind the other, as preallocation leaves them; spread, each before
what it maps, as in a disk that was written from its begin to its end; backward, the same from its end to its
begin; scattered, the same places in no order, as in one that was written here and there."""
import array
import struct
import sys

COPIED = 1 << 63
STEP = 2654435761  # a prime: i * STEP % count is every number below the count, in no order


def count_of(size, part):
    return -(-size // part)


class Layout:
    def __init__(self, bits, size, how):
        self.cluster = cluster = 1 << bits
        self.entries = count_of(size, cluster // 8 * cluster)
        self.l1_clusters = count_of(self.entries * 8, cluster)
        # Behind each L2 table what it maps, but for a 32nd: with all of it, the refcount table of a disk
        # of 8 TiB with clusters of 4 KiB is beyond its limit, and a file of 16 TiB beyond that of ext4.
        self.stride = 1 if how == "packed" else cluster // 8 * 31 // 32
        self.blocks, self.table_clusters, self.total = 1, 1, 0
        while True:
            self.first_block = 1 + self.table_clusters + self.l1_clusters
            self.first_l2 = self.first_block + self.blocks
            total = self.first_l2 + self.entries * self.stride
            if total == self.total:
                break
            self.total = total
            self.blocks = count_of(total, cluster // 2)
            self.table_clusters = count_of(self.blocks * 8, cluster)


def step_of(how, count):
    return {"backward": count - 1, "scattered": STEP}.get(how, 1)


def pointers(first, stride, count, cluster, flags, step):
    numbers = array.array("Q", [flags | (first + i * step % count * stride) * cluster for i in range(count)])
    numbers.byteswap()
    return numbers


def make(name, bits, size, how):
    layout = Layout(bits, size, how)
    cluster = layout.cluster
    l1_offset = (1 + layout.table_clusters) * cluster
    with open(name, "wb") as file:
        file.write(struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, bits, size, 0, layout.entries,
                               l1_offset, cluster, layout.table_clusters, 0, 0, 0, 0, 0, 4, 104))
        file.seek(cluster)
        pointers(layout.first_block, 1, layout.blocks, cluster, 0, 1).tofile(file)
        file.seek(l1_offset)
        pointers(layout.first_l2, layout.stride, layout.entries, cluster, COPIED,
                 step_of(how, layout.entries)).tofile(file)
        file.truncate(layout.total * cluster)
    print(f"{name}: {layout.entries} L2 tables, {layout.blocks} refcount blocks, read up to {l1_offset + layout.entries * 8}")


make(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
