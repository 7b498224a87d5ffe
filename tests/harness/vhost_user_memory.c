/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/vhost_user_memory.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Pages that the file does not have would be there, and end us when they are touched. */
static int check_file(int fd, const struct vhost_user_region *region, struct error *err)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return error_set(err, -errno, "the memory at 0x%" PRIx64 ": %s", region->guest_address,
                         error_text(-errno));
    if ((uint64_t)status.st_size < region->file_offset + region->length)
        return error_set(err, -EINVAL,
                         "the memory at 0x%" PRIx64 " ends at 0x%" PRIx64
                         " of its file, which has 0x%" PRIx64 " bytes",
                         region->guest_address, region->file_offset + region->length,
                         (uint64_t)status.st_size);
    return 0;
}

static int map_region(struct vhost_user_memory *memory, unsigned index,
                      const struct vhost_user_region *region, int fd, struct error *err)
{
    uint64_t before = region->file_offset % (uint64_t)sysconf(_SC_PAGESIZE);
    size_t bytes = region->length + before;
    void *base;
    int rc = check_file(fd, region, err);
    if (rc < 0)
        return rc;
    base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
                (off_t)(region->file_offset - before));
    if (base == MAP_FAILED)
        return error_set(err, -errno,
                         "the memory at 0x%" PRIx64 ", 0x%" PRIx64 " bytes, cannot be mapped: %s",
                         region->guest_address, region->length, error_text(-errno));
    memory->maps[index].user_address = region->user_address;
    memory->maps[index].base = base;
    memory->maps[index].bytes = bytes;
    memory->guest.regions[index] = (struct guest_region){
        .address = region->guest_address,
        .length = region->length,
        .host = (uint8_t *)base + before,
    };
    return 0;
}

int vhost_user_memory_map(struct vhost_user_memory *memory,
                          const struct vhost_user_message *message, const int *fds,
                          struct error *err)
{
    memory->guest.region_count = 0;
    for (unsigned i = 0; i < message->region_count; i++) {
        int rc = map_region(memory, i, &message->regions[i], fds[i], err);
        if (rc < 0) {
            vhost_user_memory_unmap(memory);
            return rc;
        }
        memory->guest.region_count++;
    }
    return 0;
}

void vhost_user_memory_unmap(struct vhost_user_memory *memory)
{
    for (unsigned i = 0; i < memory->guest.region_count; i++)
        munmap(memory->maps[i].base, memory->maps[i].bytes);
    memory->guest.region_count = 0;
}

bool vhost_user_memory_guest_address(const struct vhost_user_memory *memory, uint64_t user_address,
                                     uint64_t *ret_guest_address)
{
    for (unsigned i = 0; i < memory->guest.region_count; i++) {
        const struct guest_region *region = &memory->guest.regions[i];
        uint64_t from = memory->maps[i].user_address;
        if (user_address < from || user_address - from >= region->length)
            continue;
        *ret_guest_address = region->address + (user_address - from);
        return true;
    }
    return false;
}
