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
};

/* Behind the file's end there are zeroes, once that is further on; others were where it is not. */
static int co_make_zero(struct qcow2_image *image, const struct room *room)
{
    struct block_node *file = image->node->file;
    uint64_t length = room->count << image->geometry.cluster_bits;
    if (qcow2_is_corrupt(image))
        return -EIO;
    qcow2_redo_beat(image);
    if (qcow2_is_fresh(image, room->host_offset))
        return node_co_resize(file, room->host_offset + length, NULL);
    return node_co_zero(file, room->host_offset, length, BLOCK_NO_UNMAP);
}

static int co_take_room(struct qcow2_image *image, const struct qcow2_look *look, struct room *room)
{
    room->count = look->count;
    if (image->geometry.has_data_file) {
        room->host_offset = look->guest_offset; /* the resize has made it zero */
        return 0;
    }
    int ret = qcow2_co_alloc(image, look->count, &room->host_offset, &room->count);
    if (ret < 0)
        return ret;
    ret = co_make_zero(image, room);
    if (ret < 0)
        qcow2_co_unalloc(image, room->host_offset, room->count);
    return ret;
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
    return qcow2_co_link(image, look, 0, (uint32_t)room->count, clusters, nothing, true);
}

/* The clusters at the beginning of the look that are mapped, or not mapped, like the first. */
static uint32_t count_alike(const struct qcow2_look *look)
{
    uint32_t count = 1;
    while (count < look->count && look->clusters[count].has_host == look->clusters[0].has_host)
        count++;
    return count;
}

static int co_fill_look(struct qcow2_image *image, struct qcow2_look *look, uint64_t *ret_count)
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
    ret = co_link_room(image, look, &room);
    if (ret < 0 && !image->geometry.has_data_file)
        qcow2_co_unalloc(image, room.host_offset, room.count);
    *ret_count = room.count;
    return ret;
}

int qcow2_co_preallocate(struct qcow2_image *image, uint64_t guest_from, uint64_t guest_to)
{
    int ret = 0;
    while (guest_from < guest_to && ret == 0) {
        struct qcow2_look look;
        uint64_t count = 0;
        ret = qcow2_co_look(image, guest_from, guest_to - guest_from, &look);
        if (ret == 0)
            ret = co_fill_look(image, &look, &count);
        guest_from += count << image->geometry.cluster_bits;
    }
    return ret;
}
