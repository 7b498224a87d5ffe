/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A split virtqueue of a hostile guest. Input: a byte for the negotiated features, one for the
 * queue's size, then guest memory from its beginning, where the queue's parts lie one after the
 * other as Linux has them for a legacy device. Properties: no more chains are taken than the queue
 * has entries; each piece of a chain lies in guest memory, and together they have the lengths that
 * the chain says; a broken ring says why and gives nothing more.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

#include "tests/harness/virtio_ring.h"

#define BASE 0x10000 /* the guest address where memory begins */
#define MEMORY_BYTES 16384
#define SIZE_MAX_HERE 64

static uint8_t bytes[MEMORY_BYTES] __attribute__((aligned(16)));

static void check_chain(const struct virtio_chain *chain)
{
    uint64_t readable = 0, writable = 0;
    FUZZ_CHECK(chain->readable_count + chain->writable_count >= 1);
    FUZZ_CHECK(chain->readable_count + chain->writable_count <= chain->iov_max);
    for (unsigned i = 0; i < chain->readable_count + chain->writable_count; i++) {
        const uint8_t *from = chain->iov[i].iov_base;
        size_t length = chain->iov[i].iov_len;
        FUZZ_CHECK(length > 0 && from >= bytes && from < bytes + MEMORY_BYTES);
        FUZZ_CHECK(length <= (size_t)(bytes + MEMORY_BYTES - from));
        *(i < chain->readable_count ? &readable : &writable) += length;
    }
    FUZZ_CHECK(readable == chain->readable_bytes && writable == chain->writable_bytes);
}

/* Takes all there is, gives it back, and looks again: what was written changes nothing of it. */
static void use(struct virtio_ring *ring)
{
    struct iovec iov[SIZE_MAX_HERE];
    struct virtio_chain chain = {.iov = iov, .iov_max = ring->size};
    uint16_t heads[SIZE_MAX_HERE];
    unsigned count = 0;
    int rc;
    virtio_ring_kicks_off(ring);
    while ((rc = virtio_ring_pop(ring, &chain)) > 0) {
        FUZZ_CHECK(count < ring->size && chain.head < ring->size);
        check_chain(&chain);
        heads[count++] = chain.head;
    }
    FUZZ_CHECK((rc < 0) == (ring->broken != NULL));
    FUZZ_CHECK(rc == 0 || virtio_ring_pop(ring, &chain) == -EINVAL);
    for (unsigned i = 0; i < count; i++)
        virtio_ring_push(ring, heads[i], i);
    if (virtio_ring_publish(ring))
        FUZZ_CHECK(!ring->broken && count > 0);
    if (virtio_ring_kicks_on(ring))
        FUZZ_CHECK(!ring->broken);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct guest_memory memory = {
        .region_count = 2, /* the second follows the first, so that a buffer may span both */
        .regions = {{.address = BASE, .length = 12288, .host = bytes},
                    {.address = BASE + 12288, .length = 4096, .host = bytes + 12288}}};
    struct virtio_ring ring;
    struct virtio_ring_place place = {.desc = BASE};
    uint64_t features;
    uint16_t entries;
    if (size < 2)
        return 0;
    features = (uint64_t)(data[0] & 3) << VIRTIO_RING_F_INDIRECT_DESC;
    entries = (uint16_t)(1 << (data[1] % 7));
    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, data + 2, size - 2 < sizeof(bytes) ? size - 2 : sizeof(bytes));
    place.avail = place.desc + 16 * (uint64_t)entries;
    place.used = (place.avail + 6 + 2 * (uint64_t)entries + 3) & ~UINT64_C(3);
    FUZZ_CHECK(virtio_ring_start(&ring, &memory, entries, &place, features) == 0);
    use(&ring);
    return 0;
}
