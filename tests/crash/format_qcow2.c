/* SPDX-License-Identifier: BSD-3-Clause */
/* qcow2, in the shapes that change what is written in which order. The images are made by qemu-img
 * and qemu-io, so what is there at the beginning is not of our making. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/filters.h"
#include "common/endian.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/entry.h"
#include "formats/qcow2/header.h"
#include "tests/crash/crash.h"

#define KIB 1024

/* How an image of a shape is made. */
struct making {
    const char *create; /* options of qemu-img create */
    const char *io;     /* commands of qemu-io then; or NULL */
    bool has_backing, has_data_file;
    const char *more;                           /* a command of the shell then; or NULL */
    void (*spoil)(struct crash_content *image); /* what a crash of another program has left */
};

static void spoil_refcounts(struct crash_content *image);

/* Some data, a hole, zeroes that have space, and some that have none. */
#define FILL_SMALL \
    " -c 'write -P 1 0 9k' -c 'write -P 2 20k 7k' -c 'write -z 4k 4k' \
                     -c 'write -z -u 24k 2k' -c 'discard 21k 1k' -c 'write -P 3 40k 8k' "
#define FILL_LARGE \
    " -c 'write -P 1 0 150k' -c 'write -P 2 256k 100k' -c 'write -z 64k 64k' \
                     -c 'write -P 3 390k 5k' "
#define BITMAPS                                                                                  \
    "qemu-img bitmap --add -g 512 image changes && qemu-img bitmap --add -g 4k image coarse && " \
    "qemu-img bitmap --add --disable image off"
#define SNAPSHOT "qemu-img snapshot -c one image"

static const struct making
    plain_512 = {.create = "cluster_size=512"},
    plain_4k = {.create = "cluster_size=4k,refcount_bits=1"},
    plain_64k = {.create = "cluster_size=64k"},
    plain_2m = {.create = "cluster_size=2M,refcount_bits=64"},
    filled_512 = {.create = "cluster_size=512,refcount_bits=8", .io = FILL_SMALL},
    filled_4k = {.create = "cluster_size=4k", .io = FILL_SMALL},
    filled_96k = {.create = "cluster_size=512", .io = FILL_SMALL " -c 'write -P 9 80k 16k' "},
    filled_64k = {.create = "cluster_size=64k", .io = FILL_LARGE},
    prepared_4k = {.create = "cluster_size=4k,preallocation=metadata"},
    backed_512 = {.create = "cluster_size=512", .has_backing = true},
    backed_4k = {.create = "cluster_size=4k", .has_backing = true, .io = FILL_SMALL},
    v2_4k = {.create = "compat=0.10,cluster_size=4k", .io = " -c 'write -P 1 0 30k' "},
    v2_backed_4k = {.create = "compat=0.10,cluster_size=4k", .has_backing = true},
    snapshot_512 = {.create = "cluster_size=512", .io = FILL_SMALL, .more = SNAPSHOT},
    snapshot_64k = {.create = "cluster_size=64k", .io = FILL_LARGE, .more = SNAPSHOT},
    compressed_4k = {.create = "cluster_size=4k",
                     .io = " -c 'write -c -P 1 0 4k' -c 'write -c -P 2 4k 4k' "
                           " -c 'write -c -P 3 8k 16k' -c 'write -P 4 24k 4k' "
                           " -c 'write -c -P 5 40k 12k' "},
    zstd_64k =
        {.create = "cluster_size=64k,compression_type=zstd",
         .io = " -c 'write -c -P 1 0 64k' -c 'write -c -P 2 64k 128k' -c 'write -P 3 256k 64k' "},
    extended_16k = {.create = "cluster_size=16k,extended_l2=on", .io = FILL_SMALL},
    extended_backed = {.create = "cluster_size=16k,extended_l2=on", .has_backing = true},
    lazy_512 = {.create = "cluster_size=512,lazy_refcounts=on", .io = FILL_SMALL},
    lazy_backed = {.create = "cluster_size=4k,lazy_refcounts=on", .has_backing = true},
    lazy_4k = {.create = "cluster_size=4k,lazy_refcounts=on"},
    data_file_4k = {.create = "cluster_size=4k,data_file=data",
                    .io = FILL_SMALL,
                    .has_data_file = true},
    data_file_raw = {.create = "cluster_size=4k,data_file=data,data_file_raw=on",
                     .has_data_file = true},
    extended_data_file = {.create = "cluster_size=16k,extended_l2=on,data_file=data",
                          .has_data_file = true},
    growth = {.create = "cluster_size=512,refcount_bits=64,preallocation=metadata",
              .more = SNAPSHOT},
    bitmaps_512 = {.create = "cluster_size=512", .io = FILL_SMALL, .more = BITMAPS},
    bitmaps_lazy = {.create = "cluster_size=4k,lazy_refcounts=on", .more = BITMAPS},
    dirty = {.create = "cluster_size=512", .io = FILL_SMALL, .spoil = spoil_refcounts};

#define GROWTH_BYTES \
    (1976 * KIB) /* with its tables, all but 13 clusters that its refcount table counts */

static const struct crash_shape shapes[] = {
    {.name = "plain-512", .disk_bytes = 96 * KIB, .unit_bytes = 512, .own = &plain_512},
    {.name = "plain-4k", .disk_bytes = 96 * KIB, .unit_bytes = 4096, .own = &plain_4k},
    {.name = "plain-64k", .disk_bytes = 639 * KIB + 512, .unit_bytes = 65536, .own = &plain_64k},
    {.name = "plain-2m", /* tables of 2 MiB to be looked through in each state */
     .disk_bytes = 4096 * KIB,
     .unit_bytes = 2048 * KIB,
     .share = 1,
     .own = &plain_2m},
    {.name = "filled-512", .disk_bytes = 64 * KIB, .unit_bytes = 512, .own = &filled_512},
    {.name = "filled-64k", .disk_bytes = 448 * KIB, .unit_bytes = 65536, .own = &filled_64k},
    {.name = "prepared-4k", .disk_bytes = 64 * KIB, .unit_bytes = 4096, .own = &prepared_4k},
    {.name = "backed-512", .disk_bytes = 64 * KIB, .unit_bytes = 512, .own = &backed_512},
    {.name = "backed-4k", .disk_bytes = 96 * KIB, .unit_bytes = 4096, .own = &backed_4k},
    {.name = "v2-4k", .disk_bytes = 96 * KIB, .unit_bytes = 4096, .own = &v2_4k},
    {.name = "v2-backed-4k", .disk_bytes = 64 * KIB, .unit_bytes = 4096, .own = &v2_backed_4k},
    {.name = "snapshot-512",
     .disk_bytes = 64 * KIB,
     .unit_bytes = 512,
     .still = "load-snapshot=one",
     .own = &snapshot_512},
    {.name = "snapshot-64k",
     .disk_bytes = 448 * KIB,
     .unit_bytes = 65536,
     .still = "load-snapshot=one",
     .own = &snapshot_64k},
    {.name = "compressed-4k", .disk_bytes = 64 * KIB, .unit_bytes = 4096, .own = &compressed_4k},
    {.name = "zstd-64k", .disk_bytes = 448 * KIB, .unit_bytes = 65536, .own = &zstd_64k},
    {.name = "extended-16k", .disk_bytes = 192 * KIB, .unit_bytes = 16384, .own = &extended_16k},
    {.name = "extended-backed",
     .disk_bytes = 192 * KIB,
     .unit_bytes = 16384,
     .own = &extended_backed},
    {.name = "lazy-512", .disk_bytes = 64 * KIB, .unit_bytes = 512, .own = &lazy_512},
    {.name = "lazy-4k", .disk_bytes = 96 * KIB, .unit_bytes = 4096, .own = &lazy_4k},
    {.name = "lazy-backed", .disk_bytes = 64 * KIB, .unit_bytes = 4096, .own = &lazy_backed},
    {.name = "data-file-4k", .disk_bytes = 64 * KIB, .unit_bytes = 4096, .own = &data_file_4k},
    {.name = "data-file-raw", .disk_bytes = 64 * KIB, .unit_bytes = 4096, .own = &data_file_raw},
    {.name = "extended-data-file",
     .disk_bytes = 96 * KIB,
     .unit_bytes = 16384,
     .own = &extended_data_file},
    {.name = "growth", /* thousands of clusters to be counted */
     .disk_bytes = GROWTH_BYTES,
     .share = 5,
     .unit_bytes = 512,
     .still = "load-snapshot=one",
     .own = &growth},
    {.name = "resized-512",
     .disk_bytes = 96 * KIB, /* of L2 tables that reach over 32 KiB each */
     .unit_bytes = 512,
     .resizes = true,
     .own = &filled_96k},
    {.name = "resized-l1", /* an L1 table of one cluster is full at 2 MiB */
     .disk_bytes = 2200 * KIB,
     .unit_bytes = 512,
     .resizes = true,
     .share = 10,
     .own = &plain_512},
    {.name = "resized-backed",
     .disk_bytes = 96 * KIB,
     .unit_bytes = 4096,
     .resizes = true,
     .own = &backed_4k},
    {.name = "resized-data-file",
     .disk_bytes = 64 * KIB,
     .unit_bytes = 4096,
     .resizes = true,
     .own = &data_file_4k},
    {.name = "bitmaps-512",
     .disk_bytes = 64 * KIB,
     .unit_bytes = 512,
     .bitmap = "changes",
     .own = &bitmaps_512},
    {.name = "bitmaps-lazy",
     .disk_bytes = 96 * KIB,
     .unit_bytes = 4096,
     .bitmap = "changes",
     .own = &bitmaps_lazy},
    {.name = "bitmaps-resized",
     .disk_bytes = 64 * KIB,
     .unit_bytes = 512,
     .resizes = true,
     .bitmap = "changes",
     .own = &bitmaps_512},
    {.name = "compress-4k",
     .disk_bytes = 96 * KIB,
     .unit_bytes = 4096,
     .filter = &block_filter_compress,
     .own = &filled_4k},
    {.name = "dirty", .disk_bytes = 64 * KIB, .unit_bytes = 512, .own = &dirty},
    {.name = NULL},
};

/* Shorter than the disk, and of no round size. */
static void make_backing(const struct crash_shape *shape, const char *folder)
{
    crash_shell(folder,
                "head -c %zu /dev/zero >backing && qemu-io -f raw -c 'write -P 0xb1 0 30k' "
                "-c 'write -P 0xb2 40k 9k' -c 'write -P 0xb3 -q 52k 512' backing",
                (size_t)shape->disk_bytes - 4096 - 512);
}

static void make(const struct crash_shape *shape, const char *folder,
                 struct crash_content contents[CRASH_ROLES])
{
    const struct making *making = shape->own;
    if (making->has_backing)
        make_backing(shape, folder);
    crash_shell(folder, "qemu-img create -q -f qcow2 %s -o '%s' image %zu",
                making->has_backing ? "-b backing -F raw" : "", making->create,
                (size_t)shape->disk_bytes);
    if (making->io)
        crash_shell(folder, "qemu-io -f qcow2 %s image", making->io);
    if (making->more)
        crash_shell(folder, "%s", making->more);
    contents[CRASH_FILE] = crash_load(folder, "image");
    if (making->has_data_file)
        contents[CRASH_DATA_FILE] = crash_load(folder, "data");
    if (making->has_backing)
        contents[CRASH_BACKING] = crash_load(folder, "backing");
    if (making->spoil)
        making->spoil(&contents[CRASH_FILE]);
}

/* What lazy refcounts leave behind: the dirty bit, and clusters in use that are not counted. The
 * first table's block counts all of this small image; the header, the tables and the L1 stay. */
static void spoil_refcounts(struct crash_content *image)
{
    struct qcow2_header header;
    struct error err;
    if (qcow2_header_decode(image->bytes, (size_t)image->length, &header, &err) < 0)
        crash_die("%s", err.message);
    uint64_t block = load_be64(image->bytes + header.refcount_table_offset);
    uint64_t clusters = image->length >> header.cluster_bits;
    for (uint64_t i = 8; i < clusters; i += 3)
        qcow2_refcount_set(image->bytes + block, header.refcount_order, (uint32_t)i, i % 2);
    header.incompatible_features |= QCOW2_INCOMPATIBLE_DIRTY;
    qcow2_header_encode(&header, image->bytes);
}

static bool needs_repair(const uint8_t *head, uint64_t length)
{
    struct qcow2_header header;
    struct error err;
    return qcow2_header_decode(head, (size_t)length, &header, &err) == 0 &&
           qcow2_header_has(&header, QCOW2_INCOMPATIBLE_DIRTY);
}

/* By its redo log; version 2 has none. */
static bool outlives_kill(const struct crash_shape *shape)
{
    const struct making *making = shape->own;
    return !strstr(making->create, "compat=0.10");
}

const struct crash_format crash_qcow2 = {
    .name = "qcow2",
    .driver = &format_qcow2,
    .shapes = shapes,
    .make = make,
    .prefixes = {[CRASH_FILE] = "file.",
                 [CRASH_DATA_FILE] = "data-file.",
                 [CRASH_BACKING] = "backing.file."},
    .needs_repair = needs_repair,
    .outlives_kill = outlives_kill,
    .foreign = "qemu-img check -f qcow2",
};
