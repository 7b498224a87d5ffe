/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/ide_driver.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/align.h"
#include "common/endian.h"

#define LBA28_END (UINT64_C(1) << 28)
#define MODE_UDMA5 0x45

/* --- waiting -----------------------------------------------------------------------------------
 */

static void wake(struct ide_driver *driver)
{
    struct coroutine *co = driver->waiter;
    driver->waiter = NULL;
    if (co)
        coroutine_wake(co);
}

static void line_changed(void *arg, bool is_raised)
{
    struct ide_driver *driver = arg;
    driver->is_raised = is_raised;
    driver->interrupts += is_raised;
    if (is_raised)
        wake(driver);
}

static void timer_expired(struct loop_timer *timer)
{
    struct ide_driver *driver = container_of(timer, struct ide_driver, timer);
    driver->is_late = true;
    wake(driver);
}

int ide_driver_co_interrupt(struct ide_driver *driver)
{
    driver->is_late = false;
    loop_timer_set(driver->loop, &driver->timer, loop_now_ns(driver->loop) + driver->timeout_ns);
    while (!driver->is_raised && !driver->is_late) {
        driver->waiter = coroutine_self();
        coroutine_yield();
    }
    loop_timer_clear(&driver->timer);
    if (!driver->is_raised)
        return -ETIMEDOUT;
    driver->status = ide_port_read(driver->channel, IDE_STATUS);
    return 0;
}

int ide_driver_co_not_busy(struct ide_driver *driver)
{
    uint64_t end_ns = loop_now_ns(driver->loop) + driver->timeout_ns;
    while (ide_port_read(driver->channel, IDE_ALTERNATE_STATUS) & IDE_BSY) {
        if (loop_now_ns(driver->loop) > end_ns)
            return -ETIMEDOUT;
        coroutine_co_pause();
    }
    return 0;
}

int ide_driver_verdict(struct ide_driver *driver)
{
    if (!(driver->status & IDE_ERR))
        return 0;
    driver->error = ide_port_read(driver->channel, IDE_ERROR);
    return -EIO;
}

/* Behind the last data. */
static int verdict_of_end(struct ide_driver *driver)
{
    int rc = ide_driver_verdict(driver);
    return rc == 0 && (driver->status & (IDE_DRQ | IDE_BSY)) ? -EPROTO : rc;
}

/* --- commands ----------------------------------------------------------------------------------
 */

static void write_pair(struct ide_driver *driver, enum ide_port port, uint16_t value, bool is_ext)
{
    if (is_ext)
        ide_port_write(driver->channel, port, (uint8_t)(value >> 8));
    ide_port_write(driver->channel, port, (uint8_t)value);
}

void ide_driver_issue(struct ide_driver *driver, const struct ide_taskfile *taskfile)
{
    uint64_t lba = taskfile->lba;
    uint8_t device = taskfile->is_chs ? 0 : IDE_DEVICE_LBA;
    if (!taskfile->is_ext)
        device |= lba >> 24 & 0xf;
    write_pair(driver, IDE_FEATURES, taskfile->features, taskfile->is_ext);
    write_pair(driver, IDE_COUNT, taskfile->count, taskfile->is_ext);
    write_pair(driver, IDE_LBA_LOW, (uint16_t)((lba & 0xff) | (lba >> 24 & 0xff) << 8),
               taskfile->is_ext);
    write_pair(driver, IDE_LBA_MID, (uint16_t)((lba >> 8 & 0xff) | (lba >> 32 & 0xff) << 8),
               taskfile->is_ext);
    write_pair(driver, IDE_LBA_HIGH, (uint16_t)((lba >> 16 & 0xff) | (lba >> 40 & 0xff) << 8),
               taskfile->is_ext);
    ide_port_write(driver->channel, IDE_DEVICE, device);
    ide_port_write(driver->channel, IDE_COMMAND, taskfile->command);
}

int ide_driver_co_no_data(struct ide_driver *driver, const struct ide_taskfile *taskfile)
{
    ide_driver_issue(driver, taskfile);
    int rc = ide_driver_co_interrupt(driver);
    return rc < 0 ? rc : verdict_of_end(driver);
}

void ide_driver_data_in(struct ide_driver *driver, uint8_t *bytes, uint32_t length)
{
    for (uint32_t at = 0; at < length; at += 2) {
        uint8_t word[2];
        store_le16(word, (uint16_t)ide_data_read(driver->channel, 2));
        memcpy(bytes + at, word, smaller(2, length - at));
    }
}

void ide_driver_data_out(struct ide_driver *driver, const uint8_t *bytes, uint32_t length)
{
    assert(length % 4 == 0);
    for (uint32_t at = 0; at < length; at += 4)
        ide_data_write(driver->channel, load_le32(bytes + at), 4);
}

int ide_driver_co_pio_in(struct ide_driver *driver, const struct ide_taskfile *taskfile,
                         uint8_t *bytes, uint32_t length, uint32_t block_bytes)
{
    ide_driver_issue(driver, taskfile);
    for (uint32_t at = 0; at < length; at += block_bytes) {
        int rc = ide_driver_co_interrupt(driver);
        if (rc == 0)
            rc = ide_driver_verdict(driver);
        if (rc == 0 && !(driver->status & IDE_DRQ))
            rc = -EPROTO;
        if (rc < 0)
            return rc;
        ide_driver_data_in(driver, bytes + at, (uint32_t)smaller(block_bytes, length - at));
    }
    driver->status = ide_port_read(driver->channel, IDE_ALTERNATE_STATUS);
    return verdict_of_end(driver);
}

int ide_driver_co_pio_out(struct ide_driver *driver, const struct ide_taskfile *taskfile,
                          const uint8_t *bytes, uint32_t length, uint32_t block_bytes)
{
    ide_driver_issue(driver, taskfile);
    int rc = ide_driver_co_not_busy(driver); /* the first block comes without an interrupt */
    driver->status = ide_port_read(driver->channel, IDE_ALTERNATE_STATUS);
    for (uint32_t at = 0; rc == 0 && at < length; at += block_bytes) {
        rc = ide_driver_verdict(driver);
        if (rc == 0 && !(driver->status & IDE_DRQ))
            rc = -EPROTO;
        if (rc < 0)
            break;
        ide_driver_data_out(driver, bytes + at, (uint32_t)smaller(block_bytes, length - at));
        rc = ide_driver_co_interrupt(driver);
    }
    if (rc == -EIO) /* the interrupt of a command that was refused at once */
        driver->status = ide_port_read(driver->channel, IDE_STATUS);
    return rc < 0 ? rc : verdict_of_end(driver);
}

/* --- DMA ---------------------------------------------------------------------------------------
 */

void ide_driver_make_table(struct ide_driver *driver, uint32_t length, bool to_memory)
{
    uint8_t *descriptor = driver->memory + IDE_DRIVER_TABLE;
    assert(length <= IDE_DRIVER_BYTES_MAX && length % 2 == 0);
    for (uint32_t at = 0, piece; at < length; at += piece, descriptor += IDE_PRD_BYTES) {
        uint32_t address = IDE_DRIVER_DATA + at;
        piece = (uint32_t)smaller(driver->region_bytes, length - at);
        piece = (uint32_t)smaller(piece, 65536 - address % 65536);
        assert(descriptor + IDE_PRD_BYTES <= driver->memory + IDE_DRIVER_DATA);
        store_le32(descriptor, address);
        store_le16(descriptor + 4, (uint16_t)piece);
        store_le16(descriptor + 6, at + piece == length ? IDE_PRD_LAST : 0);
    }
    ide_bus_master_write(driver->channel, IDE_BM_TABLE, IDE_DRIVER_TABLE, 4);
    ide_bus_master_write(driver->channel, IDE_BM_COMMAND, to_memory ? IDE_BM_TO_MEMORY : 0, 1);
    ide_bus_master_write(driver->channel, IDE_BM_STATUS, IDE_BM_ERROR | IDE_BM_INTERRUPT, 1);
}

void ide_driver_start_dma(struct ide_driver *driver, bool to_memory)
{
    ide_bus_master_write(driver->channel, IDE_BM_COMMAND,
                         IDE_BM_START | (to_memory ? IDE_BM_TO_MEMORY : 0), 1);
}

int ide_driver_co_end_dma(struct ide_driver *driver)
{
    int rc = ide_driver_co_interrupt(driver);
    uint32_t status = ide_bus_master_read(driver->channel, IDE_BM_STATUS, 1);
    ide_bus_master_write(driver->channel, IDE_BM_COMMAND, 0, 1);
    ide_bus_master_write(driver->channel, IDE_BM_STATUS, IDE_BM_INTERRUPT, 1);
    if (rc == 0)
        rc = verdict_of_end(driver);
    return rc == 0 && status != IDE_BM_INTERRUPT ? -EPROTO : rc;
}

static int co_dma(struct ide_driver *driver, const struct ide_taskfile *taskfile, uint32_t length,
                  bool to_memory)
{
    ide_driver_make_table(driver, length, to_memory);
    ide_driver_issue(driver, taskfile);
    ide_driver_start_dma(driver, to_memory);
    return ide_driver_co_end_dma(driver);
}

int ide_driver_co_dma_in(struct ide_driver *driver, const struct ide_taskfile *taskfile,
                         uint8_t *bytes, uint32_t length)
{
    int rc = co_dma(driver, taskfile, length, true);
    if (rc == 0)
        memcpy(bytes, driver->memory + IDE_DRIVER_DATA, length);
    return rc;
}

int ide_driver_co_dma_out(struct ide_driver *driver, const struct ide_taskfile *taskfile,
                          const uint8_t *bytes, uint32_t length)
{
    memcpy(driver->memory + IDE_DRIVER_DATA, bytes, length);
    return co_dma(driver, taskfile, length, false);
}

/* --- sectors -----------------------------------------------------------------------------------
 */

/* By way, then: read or write, with 28 or 48 bits. */
static const uint8_t codes[][2][2] = {
    [IDE_WAY_PIO] = {{0x20, 0x24}, {0x30, 0x34}},
    [IDE_WAY_MULTIPLE] = {{0xc4, 0x29}, {0xc5, 0x39}},
    [IDE_WAY_DMA] = {{0xc8, 0x25}, {0xca, 0x35}},
};

static struct ide_taskfile taskfile_of(enum ide_way way, bool is_write, bool is_ext, uint64_t lba,
                                       uint32_t sectors)
{
    assert(sectors >= 1 && sectors <= 65536);
    is_ext = is_ext || sectors > 256 || lba + sectors > LBA28_END;
    return (struct ide_taskfile){
        .command = codes[way][is_write][is_ext],
        .is_ext = is_ext,
        .count = (uint16_t)(is_ext ? sectors : (uint8_t)sectors),
        .lba = lba,
    };
}

static uint32_t block_bytes(const struct ide_driver *driver, enum ide_way way)
{
    return way == IDE_WAY_MULTIPLE ? driver->multiple * IDE_SECTOR : IDE_SECTOR;
}

int ide_driver_co_read(struct ide_driver *driver, enum ide_way way, bool is_ext, uint64_t lba,
                       uint8_t *bytes, uint32_t sectors)
{
    struct ide_taskfile taskfile = taskfile_of(way, false, is_ext, lba, sectors);
    uint32_t length = sectors * IDE_SECTOR;
    if (way == IDE_WAY_DMA)
        return ide_driver_co_dma_in(driver, &taskfile, bytes, length);
    return ide_driver_co_pio_in(driver, &taskfile, bytes, length, block_bytes(driver, way));
}

int ide_driver_co_write(struct ide_driver *driver, enum ide_way way, bool is_ext, uint64_t lba,
                        const uint8_t *bytes, uint32_t sectors)
{
    struct ide_taskfile taskfile = taskfile_of(way, true, is_ext, lba, sectors);
    uint32_t length = sectors * IDE_SECTOR;
    if (way == IDE_WAY_DMA)
        return ide_driver_co_dma_out(driver, &taskfile, bytes, length);
    return ide_driver_co_pio_out(driver, &taskfile, bytes, length, block_bytes(driver, way));
}

int ide_driver_co_flush(struct ide_driver *driver)
{
    struct ide_taskfile taskfile = {.command = driver->has_lba48 ? 0xea : 0xe7};
    return ide_driver_co_no_data(driver, &taskfile);
}

int ide_driver_co_set_feature(struct ide_driver *driver, uint8_t feature, uint8_t count)
{
    struct ide_taskfile taskfile = {.command = 0xef, .features = feature, .count = count};
    return ide_driver_co_no_data(driver, &taskfile);
}

int ide_driver_co_trim(struct ide_driver *driver, uint64_t lba, uint32_t sectors)
{
    uint8_t list[IDE_SECTOR] = {0};
    struct ide_taskfile taskfile = {.command = 0x06, .is_ext = true, .features = 1, .count = 1};
    assert(sectors <= 64 * UINT32_C(65535));
    for (unsigned i = 0; sectors > 0; i++) {
        uint32_t piece = (uint32_t)smaller(sectors, 65535);
        store_le64(list + 8 * i, lba | (uint64_t)piece << 48);
        lba += piece;
        sectors -= piece;
    }
    return ide_driver_co_dma_out(driver, &taskfile, list, sizeof(list));
}

int ide_driver_co_poll_read(struct ide_driver *driver, uint64_t lba, uint8_t *bytes,
                            uint32_t sectors)
{
    struct ide_taskfile taskfile = taskfile_of(IDE_WAY_PIO, false, false, lba, sectors);
    int rc = 0;
    ide_port_write(driver->channel, IDE_CONTROL, IDE_NIEN);
    ide_driver_issue(driver, &taskfile);
    for (uint32_t i = 0; rc == 0 && i < sectors; i++) {
        rc = ide_driver_co_not_busy(driver);
        driver->status = ide_port_read(driver->channel, IDE_STATUS);
        if (rc == 0)
            rc = ide_driver_verdict(driver);
        if (rc == 0)
            ide_driver_data_in(driver, bytes + i * IDE_SECTOR, IDE_SECTOR);
    }
    ide_port_write(driver->channel, IDE_CONTROL, 0);
    return rc;
}

/* --- the beginning -----------------------------------------------------------------------------
 */

struct ide_config ide_driver_init(struct ide_driver *driver, struct ide_channel *channel,
                                  struct loop *loop, struct guest_memory *memory,
                                  uint8_t bytes[IDE_DRIVER_MEMORY_BYTES],
                                  struct block_backend *backend)
{
    *driver = (struct ide_driver){
        .channel = channel,
        .loop = loop,
        .memory = bytes,
        .timeout_ns = IDE_DRIVER_TIMEOUT_NS,
        .region_bytes = 65536,
    };
    driver->timer.expired = timer_expired;
    link_init(&driver->timer.link);
    *memory = (struct guest_memory){
        .region_count = 1,
        .regions = {{.length = IDE_DRIVER_MEMORY_BYTES, .host = bytes}},
    };
    return (struct ide_config){
        .backend = backend,
        .memory = memory,
        .interrupt = line_changed,
        .interrupt_arg = driver,
    };
}

int ide_driver_co_soft_reset(struct ide_driver *driver)
{
    ide_bus_master_write(driver->channel, IDE_BM_COMMAND, 0, 1);
    ide_port_write(driver->channel, IDE_CONTROL, IDE_SRST);
    ide_port_write(driver->channel, IDE_CONTROL, 0);
    driver->multiple = 0;
    return ide_driver_co_not_busy(driver);
}

unsigned ide_driver_word(const struct ide_driver *driver, unsigned word)
{
    return load_le16(driver->identity + 2 * word);
}

int ide_driver_co_start(struct ide_driver *driver)
{
    struct ide_taskfile identify = {.command = 0xec};
    struct ide_taskfile multiple = {.command = 0xc6, .count = IDE_MULTIPLE_MAX};
    int rc = ide_driver_co_soft_reset(driver);
    if (rc == 0)
        rc = ide_driver_co_pio_in(driver, &identify, driver->identity, IDE_SECTOR, IDE_SECTOR);
    if (rc < 0)
        return rc;
    driver->has_lba48 = ide_driver_word(driver, 83) & 1 << 10;
    driver->has_trim = ide_driver_word(driver, 169) & 1;
    driver->sector_count =
        driver->has_lba48 ? load_le64(driver->identity + 200) : load_le32(driver->identity + 120);
    rc = ide_driver_co_set_feature(driver, 0x03, MODE_UDMA5);
    if (rc == 0)
        rc = ide_driver_co_no_data(driver, &multiple);
    if (rc == 0)
        driver->multiple = IDE_MULTIPLE_MAX;
    return rc;
}
