/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whether an image is opened or refused, many times a second. Input: the image's file, a small one;
 * its last byte says whether as a snapshot. It is opened from memory as qcow2 to be read, described
 * and checked, and closed; fuzz_qcow2_image does the rest. Properties: a refusal says something; a
 * check finds what it finds again.
 */
#include "tests/fuzz/fuzz.h"

#include "block/node_options.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/driver.h"
#include "tests/fuzz/fuzz_image.h"

#define FILE_BYTES_MAX ((size_t)16 << 10)

static const struct block_driver *const drivers[] = {&format_qcow2, &fuzz_file, NULL};
static bool is_snapshot;

static void co_run(void *env)
{
    struct block_node *node;
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    node_options_set(options, "read-only", "on", NULL);
    if (is_snapshot)
        node_options_set(options, "load-snapshot", "1", NULL);
    if (block_co_open_image(env, "fuzz.qcow2", "qcow2", options, &node, &err) < 0) {
        FUZZ_CHECK(err.message[0] != '\0');
        return;
    }
    struct qcow2_check check;
    int ret = qcow2_co_check(node, NULL, NULL, &check, &err);
    FUZZ_CHECK(ret == 0 || err.message[0] != '\0');
    block_co_node_unref(node);
}

static void fill(const uint8_t *data, size_t size)
{
    fuzz_file_put(0, data, size);
    file_length = size;
    is_snapshot = size > 0 && data[size - 1] % 2;
}

static const struct fuzz_image image = {
    .drivers = drivers, .bytes_max = FILE_BYTES_MAX, .fill = fill, .co_run = co_run};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size <= FILE_BYTES_MAX)
        fuzz_image_run(&image, data, size);
    return 0;
}
