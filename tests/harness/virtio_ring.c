/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/virtio_ring.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stddef.h>

#include "common/align.h"

/*
 * Order. The guest writes an entry and then the index; we read the index and then the entry, and
 * the other way round for used elements. Where one side writes a word and then looks at one that
 * the other side writes (kicks_on, publish), a full barrier stands between the two, on both sides:
 * at least one of them sees the other's word.
 */

static uint16_t load16(const uint16_t *from)
{
    return le16toh(__atomic_load_n(from, __ATOMIC_RELAXED));
}

static void store16(uint16_t *to, uint16_t value)
{
    __atomic_store_n(to, htole16(value), __ATOMIC_RELAXED);
}

/* What the guest wrote before it is seen by whoever has seen the index. */
static uint16_t load_avail_index(const struct virtio_ring *ring)
{
    return le16toh(__atomic_load_n(&ring->avail->idx, __ATOMIC_ACQUIRE));
}

/* The two event words lie behind the entries of the ring of the other direction: 2.7.10. */
static uint16_t *used_event(const struct virtio_ring *ring)
{
    return (uint16_t *)&ring->avail->ring[ring->size];
}

static uint16_t *avail_event(const struct virtio_ring *ring)
{
    return (uint16_t *)&ring->used->ring[ring->size];
}

static bool is_feature(uint64_t features, unsigned bit)
{
    return features & (UINT64_C(1) << bit);
}

/* A part of the ring, where its alignment and its memory are as they must be; else NULL. */
static void *part_at(const struct guest_memory *memory, uint64_t address, uint64_t length,
                     unsigned alignment)
{
    void *part = guest_memory_range(memory, address, length);
    bool is_good = part && is_aligned(address, alignment) && is_aligned((uintptr_t)part, alignment);
    return is_good ? part : NULL;
}

int virtio_ring_start(struct virtio_ring *ring, const struct guest_memory *memory, uint16_t size,
                      const struct virtio_ring_place *place, uint64_t features)
{
    struct virtio_ring fresh = {
        .memory = memory,
        .size = size,
        .has_event_index = is_feature(features, VIRTIO_RING_F_EVENT_IDX),
        .has_indirect = is_feature(features, VIRTIO_RING_F_INDIRECT_DESC),
    };
    if (!is_power_of_two(size) || size > VIRTIO_RING_SIZE_MAX)
        return -EINVAL;
    fresh.desc = part_at(memory, place->desc, sizeof(struct vring_desc) * size, 16);
    fresh.avail = part_at(memory, place->avail, 6 + 2 * (uint64_t)size, 2);
    fresh.used = part_at(memory, place->used, 6 + sizeof(struct vring_used_elem) * size, 4);
    if (!fresh.desc || !fresh.avail || !fresh.used)
        return -EINVAL;
    *ring = fresh;
    return 0;
}

void virtio_ring_continue(struct virtio_ring *ring, uint16_t next)
{
    ring->next_avail = ring->next_used = ring->published_used = next;
}

void virtio_ring_stop(struct virtio_ring *ring)
{
    *ring = (struct virtio_ring){.size = 0};
}

void virtio_ring_break(struct virtio_ring *ring, const char *why)
{
    if (!ring->broken)
        ring->broken = why;
}

/* --- chains ------------------------------------------------------------------------------------
 */

static int broken(struct virtio_ring *ring, const char *why)
{
    virtio_ring_break(ring, why);
    return -EINVAL;
}

/* One descriptor, read once. */
struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

static struct descriptor load_descriptor(const struct vring_desc *from)
{
    return (struct descriptor){
        .address = le64toh(__atomic_load_n(&from->addr, __ATOMIC_RELAXED)),
        .length = le32toh(__atomic_load_n(&from->len, __ATOMIC_RELAXED)),
        .flags = load16(&from->flags),
        .next = load16(&from->next),
    };
}

/* Adds the buffer, in as many pieces as it lies in. */
static int add_buffer(struct virtio_ring *ring, struct virtio_chain *chain,
                      const struct descriptor *desc)
{
    bool is_writable = desc->flags & VRING_DESC_F_WRITE;
    uint64_t address = desc->address, left = desc->length;
    if (left == 0)
        return broken(ring, "a descriptor has no length");
    if (!is_writable && chain->writable_count > 0)
        return broken(ring, "a buffer to read comes behind one to write");
    if (address + left < address)
        return broken(ring, "a buffer wraps around the address space");
    while (left > 0) {
        uint64_t piece;
        uint8_t *host = guest_memory_at(ring->memory, address, &piece);
        unsigned count = chain->readable_count + chain->writable_count;
        if (!host)
            return broken(ring, "a buffer lies outside of the guest's memory");
        if (count == chain->iov_max)
            return broken(ring, "a chain has more buffers than the queue has entries");
        piece = smaller(piece, left);
        chain->iov[count] = (struct iovec){.iov_base = host, .iov_len = piece};
        if (is_writable)
            chain->writable_count++, chain->writable_bytes += piece;
        else
            chain->readable_count++, chain->readable_bytes += piece;
        address += piece;
        left -= piece;
    }
    return 0;
}

/* Follows a chain in one table of descriptors. A chain may take each descriptor of the table once:
 * one that takes more goes in a circle. */
static int walk_table(struct virtio_ring *ring, struct virtio_chain *chain,
                      const struct vring_desc *table, unsigned count, struct descriptor *desc)
{
    for (unsigned seen = 1;; seen++) {
        int rc = add_buffer(ring, chain, desc);
        if (rc < 0)
            return rc;
        if (!(desc->flags & VRING_DESC_F_NEXT))
            return 0;
        if (seen == count)
            return broken(ring, "a chain goes in a circle");
        if (desc->next >= count)
            return broken(ring, "a chain goes on outside of its table");
        *desc = load_descriptor(&table[desc->next]);
        if (desc->flags & VRING_DESC_F_INDIRECT)
            return broken(ring, "an indirect table lies in the middle of a chain");
    }
}

/* 2.7.5.3: a table elsewhere in memory that holds the chain. */
static int walk_indirect(struct virtio_ring *ring, struct virtio_chain *chain,
                         struct descriptor *desc)
{
    unsigned count = desc->length / sizeof(struct vring_desc);
    const struct vring_desc *table;
    if (!ring->has_indirect)
        return broken(ring, "an indirect table, which was not negotiated");
    if (desc->flags & VRING_DESC_F_NEXT)
        return broken(ring, "a chain goes on behind an indirect table");
    if (count == 0 || desc->length % sizeof(struct vring_desc) != 0)
        return broken(ring, "the length of an indirect table is not one of descriptors");
    table = part_at(ring->memory, desc->address, desc->length, _Alignof(struct vring_desc));
    if (!table)
        return broken(ring, "an indirect table lies outside of the guest's memory");
    *desc = load_descriptor(&table[0]);
    if (desc->flags & VRING_DESC_F_INDIRECT)
        return broken(ring, "an indirect table refers to another one");
    return walk_table(ring, chain, table, count, desc);
}

int virtio_ring_pop(struct virtio_ring *ring, struct virtio_chain *chain)
{
    uint16_t available, head;
    struct descriptor desc;
    if (ring->broken)
        return -EINVAL;
    if (ring->size == 0)
        return 0;
    available = (uint16_t)(load_avail_index(ring) - ring->next_avail);
    if (available == 0)
        return 0;
    /* Each chain has a descriptor at least, and the device still has some. */
    if (available > ring->size - ring->taken_count)
        return broken(ring, "more chains are available than the queue has entries");
    head = load16(&ring->avail->ring[ring->next_avail % ring->size]);
    if (head >= ring->size)
        return broken(ring, "an available entry names no descriptor");

    chain->head = head;
    chain->readable_count = chain->writable_count = 0;
    chain->readable_bytes = chain->writable_bytes = 0;
    desc = load_descriptor(&ring->desc[head]);
    int rc = desc.flags & VRING_DESC_F_INDIRECT
                 ? walk_indirect(ring, chain, &desc)
                 : walk_table(ring, chain, ring->desc, ring->size, &desc);
    if (rc < 0)
        return rc;
    ring->next_avail++;
    ring->taken_count++;
    return 1;
}

void virtio_ring_push(struct virtio_ring *ring, uint16_t head, uint32_t written)
{
    struct vring_used_elem *elem = &ring->used->ring[ring->next_used % ring->size];
    assert(ring->taken_count > 0);
    __atomic_store_n(&elem->id, htole32(head), __ATOMIC_RELAXED);
    __atomic_store_n(&elem->len, htole32(written), __ATOMIC_RELAXED);
    ring->next_used++;
    ring->taken_count--;
}

/* --- notifications -----------------------------------------------------------------------------
 */

bool virtio_ring_publish(struct virtio_ring *ring)
{
    uint16_t from = ring->published_used, to = ring->next_used;
    if (to == from || ring->broken)
        return false;
    __atomic_store_n(&ring->used->idx, htole16(to), __ATOMIC_RELEASE);
    ring->published_used = to;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (ring->has_event_index)
        return vring_need_event(load16(used_event(ring)), to, from);
    return !(load16(&ring->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
}

void virtio_ring_kicks_off(struct virtio_ring *ring)
{
    /* With the event index there is nothing to do: the event that stands there has passed. */
    if (ring->size > 0 && !ring->has_event_index)
        store16(&ring->used->flags, VRING_USED_F_NO_NOTIFY);
}

bool virtio_ring_kicks_on(struct virtio_ring *ring)
{
    if (ring->size == 0 || ring->broken)
        return false;
    if (ring->has_event_index)
        store16(avail_event(ring), ring->next_avail);
    else
        store16(&ring->used->flags, 0);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return load_avail_index(ring) != ring->next_avail;
}
