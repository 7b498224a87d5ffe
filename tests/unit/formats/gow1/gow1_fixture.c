/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include "tests/unit/formats/gow1/gow1_fixture.h"

#include <string.h>

#include "formats/gow1/driver.h"

/* The rights of a disk in memory are nobody's affair. */
static int reopen_prepare(struct block_node *node, struct block_reopen *reopen, struct error *err)
{
    (void)node;
    (void)reopen;
    (void)err;
    return 0;
}

/* Another server may have changed it. */
static int stored_size(struct block_node *node, uint64_t *ret_size_bytes)
{
    const struct memory_disk *disk = node->state;
    *ret_size_bytes = disk->size_bytes;
    return 0;
}

const struct block_driver *const *gow_drivers(void)
{
    static struct block_driver growing;
    static struct block_driver_admin admin;
    static const struct block_driver *const drivers[] = {&growing, &format_gow1, NULL};
    growing = *memory_drivers[1];
    admin = *growing.admin;
    admin.co_reopen_prepare = reopen_prepare;
    admin.co_stored_size = stored_size;
    growing.admin = &admin;
    assert_string_equal(growing.name, "growing");
    return drivers;
}

static int co_open(struct fixture *fixture, const char *const *extra, struct error *err)
{
    struct node_options *options = node_options_new();
    assert_non_null(options);
    err->message[0] = '\0';
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    node_options_set(options, "driver", "gow1", NULL);
    for (; *extra; extra += 2)
        node_options_set(options, extra[0], extra[1], NULL);
    return block_co_open(&fixture->env, options, &fixture->node, err);
}

void gow_co_open(struct fixture *fixture, const char *const *extra)
{
    struct error err;
    if (co_open(fixture, extra, &err) < 0)
        fail_msg("%s", err.message);
}

void gow_co_refuse(struct fixture *fixture, const char *const *extra, const char *why)
{
    struct error err;
    if (co_open(fixture, extra, &err) == 0)
        fail_msg("it opens, though %s", why);
    if (!strstr(err.message, why))
        fail_msg("'%s' does not say '%s'", err.message, why);
    fixture->node = NULL;
}
