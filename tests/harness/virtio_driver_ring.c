/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/virtio_driver_ring.h"

#include <assert.h>
#include <endian.h>
#include <stddef.h>

#include "common/align.h"

#define PAGE 4096

/* The parts of a ring, each on pages of its own as Linux lays them out. */
struct layout {
    uint64_t avail, used, tables, end; /* from the descriptors on */
};

static struct layout layout_of(uint16_t size)
{
    struct layout layout;
    layout.avail = sizeof(struct vring_desc) * size;
    layout.used = align_up(layout.avail + 6 + 2 * (uint64_t)size, PAGE);
    layout.tables = align_up(layout.used + 6 + sizeof(struct vring_used_elem) * size, PAGE);
    layout.end = layout.tables + sizeof(struct vring_desc) * VIRTIO_DRIVER_TABLE_LENGTH * size;
    layout.end = align_up(layout.end, PAGE);
    return layout;
}

uint64_t virtio_driver_ring_bytes(uint16_t size)
{
    return layout_of(size).end;
}

void virtio_driver_ring_init(struct virtio_driver_ring *ring, const struct guest_memory *memory,
                             uint64_t address, uint16_t size, uint64_t features)
{
    struct layout layout = layout_of(size);
    uint8_t *host = guest_memory_range(memory, address, layout.end);
    assert(host && is_aligned(address, PAGE) && size <= VIRTIO_DRIVER_RING_MAX);
    *ring = (struct virtio_driver_ring){
        .size = size,
        .has_event_index = features & (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX),
        .has_indirect = features & (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC),
        .place = {.desc = address, .avail = address + layout.avail, .used = address + layout.used},
        .desc = (struct vring_desc *)host,
        .avail = (struct vring_avail *)(host + layout.avail),
        .used = (struct vring_used *)(host + layout.used),
        .tables = address + layout.tables,
        .tables_host = (struct vring_desc *)(host + layout.tables),
        .free_count = size,
    };
    for (unsigned i = 0; i < size; i++)
        ring->desc[i].next = htole16((uint16_t)(i + 1));
}

/* --- adding ------------------------------------------------------------------------------------
 */

static void fill(struct vring_desc *desc, const struct virtio_buffer *buffer, unsigned flags)
{
    desc->addr = htole64(buffer->address);
    desc->len = htole32(buffer->length);
    desc->flags = htole16((uint16_t)flags);
}

static unsigned flags_of(unsigned index, unsigned readable, unsigned count)
{
    return (index >= readable ? VRING_DESC_F_WRITE : 0) |
           (index + 1 < count ? VRING_DESC_F_NEXT : 0);
}

/* In the queue's own table; the free descriptors are linked already. */
static void fill_own(struct virtio_driver_ring *ring, const struct virtio_buffer *buffers,
                     unsigned readable, unsigned count)
{
    uint16_t index = ring->free_head;
    for (unsigned i = 0; i < count; i++) {
        fill(&ring->desc[index], &buffers[i], flags_of(i, readable, count));
        index = le16toh(ring->desc[index].next);
    }
    ring->free_head = index;
}

static void fill_indirect(struct virtio_driver_ring *ring, const struct virtio_buffer *buffers,
                          unsigned readable, unsigned count)
{
    uint16_t head = ring->free_head;
    size_t first = (size_t)head * VIRTIO_DRIVER_TABLE_LENGTH;
    struct virtio_buffer table = {
        .address = ring->tables + first * sizeof(struct vring_desc),
        .length = count * (uint32_t)sizeof(struct vring_desc),
    };
    for (unsigned i = 0; i < count; i++) {
        fill(&ring->tables_host[first + i], &buffers[i], flags_of(i, readable, count));
        ring->tables_host[first + i].next = htole16((uint16_t)(i + 1));
    }
    ring->free_head = le16toh(ring->desc[head].next);
    fill(&ring->desc[head], &table, VRING_DESC_F_INDIRECT);
}

bool virtio_driver_ring_add(struct virtio_driver_ring *ring, const struct virtio_buffer *buffers,
                            unsigned readable, unsigned writable, void *token)
{
    unsigned count = readable + writable;
    bool is_indirect = ring->has_indirect && count > 1 && count <= VIRTIO_DRIVER_TABLE_LENGTH;
    uint16_t head = ring->free_head, taken = (uint16_t)(is_indirect ? 1 : count);
    assert(token && count > 0);
    if (taken > ring->free_count)
        return false;
    if (is_indirect)
        fill_indirect(ring, buffers, readable, count);
    else
        fill_own(ring, buffers, readable, count);
    ring->free_count -= taken;
    ring->tokens[head] = token;
    ring->chain_lengths[head] = taken;
    __atomic_store_n(&ring->avail->ring[ring->next_avail % ring->size], htole16(head),
                     __ATOMIC_RELAXED);
    ring->next_avail++;
    return true;
}

bool virtio_driver_ring_kick_due(struct virtio_driver_ring *ring)
{
    uint16_t from = ring->kicked_avail, to = ring->next_avail;
    const uint16_t *avail_event = (const uint16_t *)&ring->used->ring[ring->size];
    if (from == to)
        return false;
    __atomic_store_n(&ring->avail->idx, htole16(to), __ATOMIC_RELEASE);
    ring->kicked_avail = to;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (ring->has_event_index)
        return vring_need_event(le16toh(__atomic_load_n(avail_event, __ATOMIC_RELAXED)), to, from);
    return !(le16toh(__atomic_load_n(&ring->used->flags, __ATOMIC_RELAXED)) &
             VRING_USED_F_NO_NOTIFY);
}

/* --- what comes back --------------------------------------------------------------------------
 */

static uint16_t load_used_index(const struct virtio_driver_ring *ring)
{
    return le16toh(__atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE));
}

static void free_chain(struct virtio_driver_ring *ring, uint16_t head)
{
    uint16_t last = head;
    for (unsigned i = 1; i < ring->chain_lengths[head]; i++)
        last = le16toh(ring->desc[last].next);
    ring->desc[last].next = htole16(ring->free_head);
    ring->free_head = head;
    ring->free_count += ring->chain_lengths[head];
}

void *virtio_driver_ring_used(struct virtio_driver_ring *ring, uint32_t *ret_written)
{
    struct vring_used_elem *elem = &ring->used->ring[ring->last_used % ring->size];
    uint32_t head;
    void *token;
    if (load_used_index(ring) == ring->last_used)
        return NULL;
    head = le32toh(__atomic_load_n(&elem->id, __ATOMIC_RELAXED));
    assert(head < ring->size && ring->tokens[head]);
    *ret_written = le32toh(__atomic_load_n(&elem->len, __ATOMIC_RELAXED));
    token = ring->tokens[head];
    ring->tokens[head] = NULL;
    free_chain(ring, (uint16_t)head);
    ring->last_used++;
    return token;
}

void virtio_driver_ring_calls_off(struct virtio_driver_ring *ring)
{
    /* With the event index the event that stands there has passed. */
    if (!ring->has_event_index)
        __atomic_store_n(&ring->avail->flags, htole16(VRING_AVAIL_F_NO_INTERRUPT),
                         __ATOMIC_RELAXED);
}

bool virtio_driver_ring_calls_on(struct virtio_driver_ring *ring)
{
    uint16_t *used_event = (uint16_t *)&ring->avail->ring[ring->size];
    if (ring->has_event_index)
        __atomic_store_n(used_event, htole16(ring->last_used), __ATOMIC_RELAXED);
    else
        __atomic_store_n(&ring->avail->flags, 0, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return load_used_index(ring) != ring->last_used;
}
