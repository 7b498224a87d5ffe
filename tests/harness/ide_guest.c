/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/ide_guest.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "common/align.h"
#include "common/checked.h"

#define LBA48_END (UINT64_C(1) << 48)
#define TRIM_SECTORS_MAX (64 * UINT32_C(65535)) /* in one block of ranges */

static struct ide_guest *of_guest(struct guest_device *device)
{
    return container_of(device, struct ide_guest, guest);
}

/* --- requests ----------------------------------------------------------------------------------
 */

static int co_discard(struct ide_driver *driver, uint64_t sector, uint32_t sectors)
{
    if (!driver->has_trim)
        return -ENOTSUP;
    int rc = 0;
    while (rc == 0 && sectors > 0) {
        uint32_t piece = (uint32_t)smaller(sectors, TRIM_SECTORS_MAX);
        rc = ide_driver_co_trim(driver, sector, piece);
        sector += piece;
        sectors -= piece;
    }
    return rc;
}

static int co_perform(struct ide_driver *driver, const struct guest_request *request)
{
    enum ide_way way = request->by_pio ? IDE_WAY_PIO : IDE_WAY_DMA;
    uint32_t sectors = request->bytes / GUEST_SECTOR;
    if (request->op != GUEST_FLUSH && !range_is_inside(request->sector, sectors, LBA48_END))
        return -EIO; /* no register could say it */
    switch (request->op) {
    case GUEST_READ:
        return ide_driver_co_read(driver, way, false, request->sector, request->buffer, sectors);
    case GUEST_WRITE:
        return ide_driver_co_write(driver, way, false, request->sector, request->buffer, sectors);
    case GUEST_FLUSH:
        return ide_driver_co_flush(driver);
    case GUEST_DISCARD:
        return co_discard(driver, request->sector, sectors);
    case GUEST_ZERO: /* ATA has no such command */
        break;
    }
    return -ENOTSUP;
}

/* One after the other, until none waits. */
static void work(void *arg)
{
    struct ide_guest *guest = arg;
    struct list_link *link;
    coroutine_co_pause(); /* no answer comes inside of submit() */
    while ((link = list_pop(&guest->waiting))) {
        struct guest_request *request = container_of(link, struct guest_request, link);
        int rc = co_perform(&guest->driver, request);
        request->done(request, rc == 0 || rc == -ENOTSUP ? rc : -EIO);
    }
    guest->is_working = false;
}

static void submit(struct guest_device *device, struct guest_request *request)
{
    struct ide_guest *guest = of_guest(device);
    link_init(&request->link);
    list_append(&guest->waiting, &request->link);
    if (guest->is_working)
        return;
    guest->is_working = true;
    int rc = coroutine_start(guest->driver.loop, work, guest);
    assert(rc == 0);
    (void)rc;
}

static int co_set_write_cache(struct guest_device *device, bool on)
{
    return ide_driver_co_set_feature(&of_guest(device)->driver, on ? 0x02 : 0x82, 0);
}

static void co_reset(struct guest_device *device)
{
    int rc = ide_driver_co_start(&of_guest(device)->driver);
    assert(rc == 0);
    (void)rc;
}

static const struct guest_device_ops ops = {
    .name = "ide",
    .submit = submit,
    .co_set_write_cache = co_set_write_cache,
    .co_reset = co_reset,
};

/* --- life --------------------------------------------------------------------------------------
 */

int ide_guest_co_new(struct ide_guest **ret_guest, struct loop *loop, struct block_backend *backend)
{
    struct ide_guest *guest = calloc(1, sizeof(*guest));
    if (!guest)
        return -ENOMEM;
    struct ide_config config = ide_driver_init(&guest->driver, &guest->channel, loop,
                                               &guest->memory, guest->bytes, backend);
    list_init(&guest->waiting);
    ide_channel_init(&guest->channel, &config);
    int rc = ide_driver_co_start(&guest->driver);
    if (rc < 0) {
        ide_guest_co_free(guest);
        return rc;
    }
    guest->guest = (struct guest_device){
        .ops = &ops,
        .sector_count = guest->driver.sector_count,
        .depth = 1,
        .bytes_max = IDE_DRIVER_BYTES_MAX,
    };
    *ret_guest = guest;
    return 0;
}

void ide_guest_co_free(struct ide_guest *guest)
{
    if (!guest)
        return;
    assert(list_is_empty(&guest->waiting));
    while (guest->is_working) /* the last answer came out of it */
        coroutine_co_pause();
    ide_channel_co_fini(&guest->channel);
    free(guest);
}
