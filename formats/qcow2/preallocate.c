/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Room for guest clusters before they are written (preallocation=metadata): host clusters that read
 * as zeroes, linked as data, so that the first write of each is in place. Part of a resize: nothing
 * else changes the image meanwhile.
 */
#include <errno.h>

#include "formats/qcow2/writer.h"

/* Some clusters that lie side by side. */
struct room {
    uint64_t host_offset, count;
    bool must_zero; /* others were there before */
};

static int co_take_room(struct qcow2_image *image, const struct qcow2_look *look, struct room *room)
{
    const struct block_node *file = image->node->file;
    room->count = look->count;
    room->must_zero = false;
    if (image->geometry.has_data_file) {
        room->host_offset = look->guest_offset; /* the resize has made it zero */
        return 0;
    }
    int ret = qcow2_co_alloc(image, look->count, &room->host_offset, &room->count);
    if (ret < 0)
        return ret;
    room->must_zero = !(file->driver->flags & BLOCK_DRIVER_GROWS) ||
                      room->host_offset < atomic_load(&file->size_bytes);
    return 0;
}

static int co_link_room(struct qcow2_image *image, const struct qcow2_look *look,
                        const struct room *room)
{
    struct qcow2_cluster clusters[QCOW2_LOOK_MAX];
    struct qcow2_unlinked *nothing[QCOW2_LOOK_MAX] = {NULL};
    for (uint64_t i = 0; i < room->count; i++)
        clusters[i] = (struct qcow2_cluster){
            .is_copied = true,
            .has_host = true,
            .host_offset = room->host_offset + (i << image->geometry.cluster_bits),
            .allocated_bits = image->geometry.is_extended ? UINT32_MAX : 1,
        };
    return qcow2_co_link(image, look, 0, (uint32_t)room->count, clusters, nothing, room->must_zero);
}

/* The clusters at the beginning of the look that are mapped, or not mapped, like the first. */
static uint32_t count_alike(const struct qcow2_look *look)
{
    uint32_t count = 1;
    while (count < look->count && look->clusters[count].has_host == look->clusters[0].has_host)
        count++;
    return count;
}

/* *end: where the last of the clusters ends that were taken. */
static int co_fill_look(struct qcow2_image *image, struct qcow2_look *look, uint64_t *ret_count,
                        uint64_t *end)
{
    struct room room;
    look->count = count_alike(look);
    *ret_count = look->count;
    if (look->clusters[0].has_host)
        return 0;
    int ret = qcow2_co_own_l2(image, look->guest_offset, &look->l2_offset);
    if (ret == 0)
        ret = co_take_room(image, look, &room);
    if (ret < 0)
        return ret;
    if (qcow2_is_corrupt(image))
        ret = -EIO;
    else if (room.must_zero)
        ret = node_co_zero(image->node->file, room.host_offset,
                           room.count << image->geometry.cluster_bits, BLOCK_NO_UNMAP);
    if (ret == 0)
        ret = co_link_room(image, look, &room);
    if (ret < 0 && !image->geometry.has_data_file)
        qcow2_co_unalloc(image, room.host_offset, room.count);
    *ret_count = room.count;
    uint64_t room_end = room.host_offset + (room.count << image->geometry.cluster_bits);
    if (room_end > *end)
        *end = room_end;
    return ret;
}

/* What was linked and never written lies in the file too, as a hole. */
static int co_cover(struct qcow2_image *image, uint64_t end)
{
    struct block_node *file = image->node->file;
    bool is_behind = !image->geometry.has_data_file && end > atomic_load(&file->size_bytes);
    return is_behind ? node_co_resize(file, end, NULL) : 0;
}

int qcow2_co_preallocate(struct qcow2_image *image, uint64_t guest_from, uint64_t guest_to)
{
    uint64_t end = 0;
    int ret = 0;
    while (guest_from < guest_to && ret == 0) {
        struct qcow2_look look;
        uint64_t count = 0;
        ret = qcow2_co_look(image, guest_from, guest_to - guest_from, &look);
        if (ret == 0)
            ret = co_fill_look(image, &look, &count, &end);
        guest_from += count << image->geometry.cluster_bits;
    }
    return ret == 0 ? co_cover(image, end) : ret;
}
