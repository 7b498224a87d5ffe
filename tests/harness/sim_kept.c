/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_kept.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/redo_log.h"
#include "common/list.h"
#include "tests/harness/sim_disk.h"

#define PAGE_BYTES 4096

static struct sim_kept *kept_of(struct host_files *files)
{
    return &container_of(files, struct sim_disk, files)->kept;
}

static void make(struct sim_kept *kept, const char *name, size_t length)
{
    snprintf(kept->name, sizeof(kept->name), "%s", name);
    kept->bytes = aligned_alloc(PAGE_BYTES, length);
    assert(kept->bytes && length % PAGE_BYTES == 0);
    kept->length = length;
}

int sim_kept_open(struct host_files *files, const char *name, size_t length, bool only_look,
                  struct host_kept *ret_kept, struct error *err)
{
    struct sim_kept *kept = kept_of(files);
    bool is_found = kept->name[0];
    assert(!is_found || (strcmp(kept->name, name) == 0 && kept->length == length));
    if (kept->is_open)
        return error_set(err, -EBUSY, "'%s' is in use", name);
    if (!is_found && only_look)
        return error_set(err, -ENOENT, "'%s' is not there", name);
    if (!is_found) {
        make(kept, name, length);
        memset(kept->bytes, 0, length);
    }
    kept->is_open = true;
    *ret_kept =
        (struct host_kept){.base = kept->bytes, .length = length, .is_found = is_found, .fd = -1};
    return 0;
}

void sim_kept_close(struct host_files *files, struct host_kept *kept, bool is_done)
{
    struct sim_kept *mine = kept_of(files);
    assert(mine->is_open && mine->bytes == kept->base);
    mine->is_open = false;
    if (is_done)
        sim_kept_fini(mine);
}

void sim_kept_forget_user(struct sim_kept *kept, bool is_cut)
{
    kept->is_open = false;
    if (is_cut)
        sim_kept_fini(kept);
}

void sim_kept_fini(struct sim_kept *kept)
{
    assert(!kept->is_open);
    free(kept->bytes);
    *kept = (struct sim_kept){.length = 0};
}

bool sim_kept_has_all(const struct sim_kept *kept)
{
    const struct redo_header *header = kept->bytes;
    return kept->name[0] && header->magic == REDO_MAGIC && !header->is_broken;
}

struct sim_kept sim_kept_copy(const struct sim_kept *kept)
{
    struct sim_kept copy = {.length = 0};
    assert(!kept->is_open);
    if (kept->name[0]) {
        make(&copy, kept->name, kept->length);
        memcpy(copy.bytes, kept->bytes, kept->length);
    }
    return copy;
}

void sim_kept_put_back(struct sim_kept *kept, struct sim_kept *copy)
{
    sim_kept_fini(kept);
    *kept = *copy;
}
