/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/probe.h"

#include <errno.h>
#include <string.h>

#include "block/env.h"
#include "block/filter.h"
#include "block/graph.h"
#include "block/node.h"
#include "block/node_options.h"
#include "common/log.h"

/* The first bytes by which other programs know their images. A file that begins so is not taken for
 * raw unless the person says so, whether this build can open it or not. Formats that sign only at
 * their end (dmg, fixed vhd) cannot be told by the head. */
static const struct signature {
    const char *format;
    size_t offset;
    size_t length;
    const char *bytes;
} signatures[] = {
    {"qcow", 0, 8, "QFI\xfb\0\0\0\1"},
    {"qcow2", 0, 4, "QFI\xfb"}, /* of any version */
    {"qed", 0, 4, "QED\0"},
    {"vmdk", 0, 4, "KDMV"},
    {"vmdk", 0, 4, "COWD"},
    {"vmdk", 0, 21, "# Disk DescriptorFile"},
    {"vdi", 64, 4, "\x7f\x10\xda\xbe"},
    {"vhdx", 0, 8, "vhdxfile"},
    {"vpc", 0, 8, "conectix"},
    {"luks", 0, 6, "LUKS\xba\xbe"},
    {"parallels", 0, 16, "WithoutFreeSpace"},
    {"parallels", 0, 16, "WithouFreSpacExt"},
    {"bochs", 0, 22, "Bochs Virtual HD Image"},
    {"cloop", 0, 22, "#!/bin/sh\n#V2.0 Format"},
    {"gow1", 0, 4, "GOW1"},
};

/* A vmdk descriptor is a text: comments and empty lines, and then its version. */
static bool is_vmdk_text(const uint8_t *head, size_t length)
{
    static const char version[] = "version=";
    size_t at = 0;
    while (at < length && strchr(" \t\r\n#", head[at]) && head[at] != '\0') {
        if (head[at] == '#') {
            const uint8_t *end = memchr(head + at, '\n', length - at);
            at = end ? (size_t)(end - head) : length - 1;
        }
        at++;
    }
    return length - at >= strlen(version) && memcmp(head + at, version, strlen(version)) == 0;
}

static bool has_signature(const struct signature *signature, const uint8_t *head, size_t length)
{
    return length >= signature->offset + signature->length &&
           memcmp(head + signature->offset, signature->bytes, signature->length) == 0;
}

static bool is_supported(const struct block_driver *const *drivers, const char *name)
{
    for (unsigned i = 0; drivers[i]; i++) {
        if (strcmp(drivers[i]->name, name) == 0)
            return true;
    }
    return false;
}

static const char *find_signature(const uint8_t *head, size_t length)
{
    for (size_t i = 0; i < sizeof(signatures) / sizeof(*signatures); i++) {
        if (has_signature(&signatures[i], head, length))
            return signatures[i].format;
    }
    return is_vmdk_text(head, length) ? "vmdk" : NULL;
}

bool probe_head(const struct block_driver *const *drivers, const uint8_t *head, size_t length,
                struct probe_found *ret_found)
{
    const struct block_driver *best = NULL;
    int best_score = 0;
    for (unsigned i = 0; drivers[i]; i++) {
        const struct block_driver *driver = drivers[i];
        int score =
            driver->probe && strcmp(driver->name, "raw") != 0 ? driver->probe(head, length) : 0;
        if (score > best_score) {
            best = driver;
            best_score = score;
        }
    }
    if (best) {
        *ret_found = (struct probe_found){.name = best->name, .is_supported = true};
        return true;
    }
    const char *format = find_signature(head, length);
    if (!format)
        return false;
    *ret_found =
        (struct probe_found){.name = format, .is_supported = is_supported(drivers, format)};
    return true;
}

/* The options of the file whose head is to be read: filters above it are not opened, so that what
 * they do, count or write down happens to requests alone. */
static int copy_file_options(const struct block_env *env, const struct node_options *options,
                             struct node_options **ret_copy, struct error *err)
{
    struct node_options *copy = NULL;
    const struct node_options *above = options;
    const char *key = "file";
    for (;;) {
        struct node_options *below = node_options_copy_subtree(above, key);
        int rc = below ? graph_pass_down(above, below, err)
                       : error_set(err, -ENOMEM, "no memory to learn an image's format");
        node_options_free(copy);
        if (rc < 0) {
            node_options_free(below);
            return rc;
        }
        above = copy = below;
        const char *name = node_options_get(copy, "driver");
        const struct block_driver *driver = name ? graph_find_driver(env, name) : NULL;
        if (!driver || !(driver->flags & BLOCK_DRIVER_FILTER))
            break;
        key = filter_child_key(above);
    }
    *ret_copy = copy;
    return 0;
}

static int co_read_head(struct block_env *env, const char *filename,
                        const struct node_options *options, uint8_t *head, size_t *ret_length,
                        struct error *err)
{
    struct block_node *file;
    struct node_options *copy;
    int rc = copy_file_options(env, options, &copy, err);
    if (rc < 0)
        return rc;
    rc = node_options_set(copy, "read-only", "on", err);
    const char *path = node_options_get(copy, "filename");
    if (rc == 0 && !node_options_has(copy, "driver"))
        rc = node_options_set(copy, "driver", path ? graph_co_protocol_of(env, path) : "file", err);
    if (rc < 0) {
        node_options_free(copy);
        return rc;
    }
    rc = block_co_open(env, copy, &file, err);
    if (rc < 0)
        return rc;
    struct iovec iov;
    uint64_t size = node_size(file);
    size_t length = size < BLOCK_PROBE_BYTES ? (size_t)size : BLOCK_PROBE_BYTES;
    struct block_vec vec = vec_of_buffer(&iov, head, length);
    rc = node_co_read(file, 0, &vec);
    block_co_node_unref(file);
    if (rc < 0)
        return error_set(err, rc, "cannot read the head of '%.200s' to learn its format: %s",
                         filename, error_text(rc));
    *ret_length = length;
    return 0;
}

int probe_co_image(struct block_env *env, const char *filename, const struct node_options *options,
                   const char **ret_driver, struct error *err)
{
    uint8_t head[BLOCK_PROBE_BYTES];
    size_t length = 0;
    struct probe_found found;
    int rc = co_read_head(env, filename, options, head, &length, err);
    if (rc < 0)
        return rc;
    bool is_known = probe_head(env->drivers, head, length, &found);
    if (is_known && !found.is_supported)
        return error_set(
            err, -EINVAL,
            "'%.200s' begins like a %s image, which this version does not support; say "
            "-f raw to serve its bytes as they are",
            filename, found.name);
    if (is_known) {
        *ret_driver = found.name;
        return 0;
    }
    *ret_driver = "raw";
    log_warning("'%s': no format was given and none is recognised, so it is served as raw, and "
                "writes that would make it look like another format are refused; say -f raw to "
                "allow them",
                filename);
    return 0;
}
