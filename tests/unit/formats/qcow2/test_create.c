/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * New images, on a "file" that is a disk in memory: what is refused, and each call and each
 * allocation failing in turn, after which nothing is there that might be taken for an image. What
 * qemu-img says of them is in tests/integration/qcow2-create.sh.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>

#include "block/block.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/header.h"
#include "tests/crash/no_memory.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CAPACITY_BYTES (2u << 20)

/* "file": every path is the fixture's disk, but for "data", which is another one. */
static struct block_driver file_driver;
static const struct block_driver *drivers[3];
static struct memory_disk *image_disk, data_disk;

static struct memory_disk *disk_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strcmp(slash ? slash + 1 : path, "data") == 0 ? &data_disk : image_disk;
}

static int file_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    struct memory_disk *disk = disk_of(node_options_get(options, "filename"));
    bool was_armed = crash_no_memory_disarm();
    memory_disk_options(disk, options, "", "file");
    node_options_take(options, "driver");
    crash_no_memory_rearm(was_armed);
    return memory_drivers[1]->co_open(node, options, err);
}

static int file_co_create(struct block_env *env, struct node_options *options, struct error *err)
{
    struct memory_disk *disk = disk_of(node_options_take(options, "filename"));
    uint64_t size = 0;
    (void)env;
    int rc = node_options_take_size(options, "size", &size, err);
    if (rc < 0)
        return rc;
    if (size > disk->capacity_bytes)
        return error_set(err, -ENOSPC, "there is no room for %llu bytes", (unsigned long long)size);
    memset(disk->data, 0, disk->capacity_bytes);
    disk->size_bytes = size;
    return 0;
}

static int co_create(struct fixture *fixture, const char *text, struct error *err)
{
    bool was_armed = crash_no_memory_disarm();
    struct node_options *options = node_options_new();
    if (node_options_parse(options, text, err) < 0)
        fail_msg("%s: %s", text, err->message);
    node_options_set(options, "driver", "qcow2", NULL);
    crash_no_memory_rearm(was_armed);
    return block_co_create(&fixture->env, options, err);
}

static void co_refused(struct fixture *fixture, const char *text, const char *why)
{
    struct error err = {.message = ""};
    int rc = co_create(fixture, text, &err);
    if ((rc != -EINVAL && rc != -EFBIG) || !strstr(err.message, why))
        fail_msg("%s: %d, '%s' does not say '%s'", text, rc, err.message, why);
    assert_int_equal(image_disk->call_count, 0); /* before anything was touched */
}

#define GOOD "filename=dir/image,size=300K,"

static void co_what_makes_no_sense_is_refused(struct fixture *fixture, void *arg)
{
    (void)arg;
    image_disk = &fixture->disk;
    co_refused(fixture, "size=1M", "needs the option 'filename'");
    co_refused(fixture, "filename=,size=1M", "needs the option 'filename'");
    co_refused(fixture, "filename=x", "needs the option 'size'");
    co_refused(fixture, "filename=x,size=8E", "size");
    co_refused(fixture, "filename=x,size=much", "size");
    co_refused(fixture, "filename=x,size=9223372036854775807", "is too large");
    co_refused(fixture, GOOD "cluster_size=256", "cluster_size is 256;");
    co_refused(fixture, GOOD "cluster_size=4M", "cluster_size is 4194304;");
    co_refused(fixture, GOOD "cluster_size=600", "cluster_size is 600;");
    co_refused(fixture, GOOD "extended_l2=on,cluster_size=8K", "must be 16K or more");
    co_refused(fixture, GOOD "refcount_bits=3", "refcount_bits is 3;");
    co_refused(fixture, GOOD "refcount_bits=128", "refcount_bits is 128;");
    co_refused(fixture, GOOD "compat=0.10,refcount_bits=8", "need compat=1.1");
    co_refused(fixture, GOOD "compat=0.10,lazy_refcounts=on", "need compat=1.1");
    co_refused(fixture, GOOD "compat=v2,extended_l2=on", "need compat=1.1");
    co_refused(fixture, GOOD "compat=v2,data_file=data", "need compat=1.1");
    co_refused(fixture, GOOD "compat=v2,compression_type=zstd", "need compat=1.1");
    co_refused(fixture, GOOD "data_file_raw=on", "needs a data_file");
    co_refused(fixture, GOOD "backing_file=x", "without backing_fmt");
    co_refused(fixture, GOOD "backing_fmt=raw", "without backing_file");
    co_refused(fixture, GOOD "backing_file=x,backing_fmt=raw,preallocation=metadata", "excludes");
    co_refused(fixture, GOOD "backing_file=x,backing_fmt=sixteen-letters!", "the backing_fmt has");
    co_refused(fixture, "filename=x,size=1T,cluster_size=512", "choose a larger one");
    co_refused(fixture,
               "filename=x,size=100G,cluster_size=512,preallocation=metadata,refcount_bits=64",
               "cannot be counted");
    static const char *const words[] = {"compat",           "cluster_size",  "refcount_bits",
                                        "lazy_refcounts",   "extended_l2",   "data_file_raw",
                                        "compression_type", "preallocation", "other"};
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        char text[128];
        snprintf(text, sizeof(text), GOOD "%s=nonsense", words[i]);
        co_refused(fixture, text, words[i]);
    }
}

static void co_names_that_are_too_long_are_refused(struct fixture *fixture, void *arg)
{
    char name[1025], text[1200];
    (void)arg;
    image_disk = &fixture->disk;
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    snprintf(text, sizeof(text), GOOD "backing_fmt=raw,backing_file=%s", name);
    co_refused(fixture, text, "the name of the backing_file has 1024 bytes");
    snprintf(text, sizeof(text), GOOD "data_file=%s", name);
    co_refused(fixture, text, "the name of the data_file has 1024 bytes");
    /* This one is not, but its cluster is too small for it. */
    struct error err = {.message = ""};
    name[600] = '\0';
    snprintf(text, sizeof(text), GOOD "cluster_size=512,backing_fmt=raw,backing_file=%s", name);
    assert_int_equal(co_create(fixture, text, &err), -EINVAL);
    assert_non_null(strstr(err.message, "do not fit into the header"));
    assert_int_equal(image_disk->size_bytes, 0);
}

static const char *const good_ones[] = {
    GOOD "cluster_size=512,refcount_bits=64,preallocation=metadata",
    GOOD "cluster_size=4K,refcount_bits=1",
    GOOD "cluster_size=16K,extended_l2=on,preallocation=metadata,compression_type=zstd",
    GOOD "cluster_size=4K,backing_file=base,backing_fmt=raw,lazy_refcounts=on",
    GOOD "cluster_size=4K,data_file=data,data_file_raw=on",
    GOOD "cluster_size=4K,data_file=/elsewhere/data",
    GOOD "cluster_size=16K,data_file=data,data_file_raw=on,extended_l2=on",
    "filename=image,size=0,data_file=data,cluster_size=8K",
    GOOD "compat=0.10,cluster_size=1K",
};

static void co_create_well(struct fixture *fixture, const char *text)
{
    struct error err = {.message = ""};
    struct qcow2_header header;
    if (co_create(fixture, text, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    struct memory_image_faults faults = memory_image_check(image_disk);
    assert_int_equal(faults.errors + faults.leaks, 0);
    assert_int_equal(qcow2_header_decode(image_disk->data, 4096, &header, &err), 0);
    if (strstr(text, "size=0"))
        assert_int_equal(header.size, 0);
    else
        assert_int_equal(header.size, 300 << 10);
    bool has_data = header.incompatible_features & QCOW2_INCOMPATIBLE_DATA_FILE;
    assert_true(has_data == (strstr(text, "data_file=") != NULL));
    if (has_data)
        assert_int_equal(data_disk.size_bytes, header.size);
}

/* Of the calls of the file the at-th fails, or of the allocations. */
static bool co_create_badly(struct fixture *fixture, const char *text, bool memory, unsigned at)
{
    struct error err = {.message = ""};
    memory_disk_forget_calls(image_disk);
    image_disk->size_bytes = data_disk.size_bytes = 0;
    image_disk->fail_at_call = memory ? UINT64_MAX : at;
    image_disk->fail_code = -EIO;
    crash_no_memory_arm(memory ? at + 1 : 0, false);
    int rc = co_create(fixture, text, &err);
    bool happened = memory ? crash_no_memory_failed() > 0 : image_disk->call_count > at;
    crash_no_memory_disarm();
    image_disk->fail_code = 0;
    bool is_close =
        !memory && happened && at < MEMORY_LOG_MAX && image_disk->log[at].op == MEMORY_CLOSE;
    if (!happened || is_close) {
        assert_int_equal(rc, 0);
        return happened;
    }
    if (rc == 0) /* it found another way */
        return happened;
    assert_int_equal(rc, memory ? -ENOMEM : -EIO);
    assert_true(err.message[0] != '\0');
    assert_int_equal(image_disk->size_bytes, 0);
    return happened;
}

static void co_a_failure_leaves_nothing_to_take_for_an_image(struct fixture *fixture, void *arg)
{
    (void)arg;
    image_disk = &fixture->disk;
    for (size_t i = 0; i < sizeof(good_ones) / sizeof(*good_ones); i++) {
        co_create_well(fixture, good_ones[i]);
        for (unsigned memory = 0; memory < 2; memory++) {
            unsigned at = 0;
            while (co_create_badly(fixture, good_ones[i], memory, at))
                at++;
            assert_true(at > 5);
        }
        co_create_well(fixture, good_ones[i]);
    }
}

/* Its L1 table has two clusters. */
static void co_a_table_that_is_half_made_is_no_image(struct fixture *fixture, void *arg)
{
    unsigned at = 0;
    (void)arg;
    image_disk = &fixture->disk;
    while (co_create_badly(fixture, "filename=image,size=4M,cluster_size=512", false, at))
        at++;
    assert_true(at > 8);
}

/* Nothing more can be done then. */
static void co_a_data_file_that_cannot_be_opened_again_is_left(struct fixture *fixture, void *arg)
{
    struct error err = {.message = ""};
    (void)arg;
    image_disk = &fixture->disk;
    image_disk->fail_ops = 1u << MEMORY_WRITE;
    data_disk.fail_ops = 1u << MEMORY_OPEN;
    image_disk->fail_code = data_disk.fail_code = -EIO;
    assert_int_equal(co_create(fixture, GOOD "data_file=data", &err), -EIO);
    assert_non_null(strstr(err.message, "cannot make 'dir/image'"));
    image_disk->fail_code = data_disk.fail_code = 0;
    data_disk.fail_ops = 0;
    assert_int_equal(image_disk->size_bytes, 0);
}

/* A name without a directory; the size of a new disk is rounded up to sectors. */
static void co_what_does_not_fit_the_host_is_said(struct fixture *fixture, void *arg)
{
    struct error err = {.message = ""};
    (void)arg;
    image_disk = &fixture->disk;
    assert_int_equal(co_create(fixture, "filename=image,size=1T,data_file=data", &err), -ENOSPC);
    assert_non_null(strstr(err.message, "no room"));
    assert_int_equal(co_create(fixture, GOOD "preallocation=metadata,cluster_size=2M", &err),
                     -ENOSPC);
    assert_non_null(strstr(err.message, "cannot make 'dir/image'"));
    assert_int_equal(image_disk->size_bytes, 0);
}

#define TESTS(X)                                       \
    X(what_makes_no_sense_is_refused)                  \
    X(names_that_are_too_long_are_refused)             \
    X(a_failure_leaves_nothing_to_take_for_an_image)   \
    X(a_table_that_is_half_made_is_no_image)           \
    X(a_data_file_that_cannot_be_opened_again_is_left) \
    X(what_does_not_fit_the_host_is_said)

#define DEFINE(name) FIXTURE_TEST_WITH(name, drivers, 0, CAPACITY_BYTES)
TESTS(DEFINE)

int main(void)
{
#define LIST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST)};
    static struct block_driver_admin admin;
    file_driver = *memory_drivers[1]; /* growing */
    admin = *file_driver.admin;
    admin.co_create = file_co_create;
    file_driver.name = "file";
    file_driver.admin = &admin;
    file_driver.co_open = file_co_open;
    drivers[0] = &file_driver;
    drivers[1] = &format_qcow2;
    memory_disk_init(&data_disk, 0, CAPACITY_BYTES, 1);
    int ret = cmocka_run_group_tests(tests, NULL, NULL);
    memory_disk_fini(&data_disk);
    return ret;
}
