/* SPDX-License-Identifier: BSD-3-Clause */
/* filter.c, and what graph.c and probe.c do with filters: everything passes, flags and all, and a
 * filter stands above a format, below it, or above another filter. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "block/filter.h"
#include "block/graph.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 65536
#define CAPACITY (2 * SIZE)

static const struct block_driver through = {
    .name = "through",
    .alias = "qemu-through",
    .flags = FILTER_FLAGS,
    .co_open = filter_co_open,
    .co_close = filter_co_close,
    .co_read = filter_co_read,
    .co_write = filter_co_write,
    .co_zero = filter_co_zero,
    .co_discard = filter_co_discard,
    .co_cache = filter_co_cache,
    .co_flush = filter_co_flush,
    .co_status = filter_co_status,
    .status_remembered = filter_status_remembered,
    .lend = filter_lend,
    .admin = &filter_admin,
};

static int resize_pass(struct block_node *node, uint64_t size_bytes, struct error *err)
{
    (void)err;
    struct memory_disk *disk = node->state;
    disk->size_bytes = (size_bytes + 511) / 512 * 512; /* rounds up, as a format may */
    atomic_store(&node->size_bytes, disk->size_bytes);
    return 0;
}

static bool is_zero_at_first(struct block_node *node)
{
    (void)node;
    return true;
}

static const struct block_driver_admin sized_admin = {.co_resize = resize_pass,
                                                      .has_zero_init = is_zero_at_first};
/* A full disk: the first half of a write is taken. */
static int half_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                         unsigned flags)
{
    struct block_vec half = vec_slice(vec, 0, vec->length / 2);
    int rc = memory_drivers[1]->co_write(node, offset, &half, flags);
    return rc < 0 ? rc : -ENOSPC;
}

static struct block_driver raw, sized, ear, half;
static const struct block_driver *drivers[] = {&through, NULL,   NULL, NULL,  NULL,
                                               &raw,     &sized, &ear, &half, NULL};

static struct node_options *options_of(const char *const *paths_and_values)
{
    struct node_options *options = node_options_new();
    assert_non_null(options);
    for (unsigned i = 0; paths_and_values[i]; i += 2)
        assert_int_equal(
            node_options_set(options, paths_and_values[i], paths_and_values[i + 1], NULL), 0);
    return options;
}

#define OPTIONS(...) options_of((const char *const[]){__VA_ARGS__, NULL})

static void co_open(struct fixture *fixture, struct node_options *options)
{
    struct error err = {.message = ""};
    if (block_co_open_image(&fixture->env, "disk.img", NULL, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
}

/* prefix: where among the options the disk is. */
static void co_open_on(struct fixture *fixture, const char *driver, const char *prefix,
                       struct node_options *options)
{
    memory_disk_options(&fixture->disk, options, prefix, driver);
    co_open(fixture, options);
}

static void co_expect_refused(struct fixture *fixture, struct node_options *options, int code,
                              const char *part)
{
    struct block_node *node = NULL;
    struct error err = {.message = ""};
    assert_int_equal(block_co_open_image(&fixture->env, "disk.img", NULL, options, &node, &err),
                     code);
    assert_null(node);
    if (!strstr(err.message, part))
        fail_msg("'%s' is not in: %s", part, err.message);
}

static const struct memory_call *last_call(const struct fixture *fixture)
{
    return &fixture->disk.log[fixture->disk.log_count - 1];
}

static void co_every_request_passes_with_its_flags(struct fixture *fixture, void *arg)
{
    uint8_t data[1000], again[1000];
    struct block_extent extent;
    (void)arg;
    co_open_on(fixture, "growing", "file.", OPTIONS("driver", "through"));
    struct block_node *node = fixture->node;
    assert_int_equal(node->size_bytes, SIZE);
    memset(data, 7, sizeof(data));
    assert_int_equal(fixture_co_write(node, 33, data, 1000, BLOCK_FUA), 0);
    assert_int_equal(last_call(fixture)->op, MEMORY_WRITE);
    assert_int_equal(last_call(fixture)->flags, BLOCK_FUA);
    assert_int_equal(last_call(fixture)->offset, 33);
    assert_int_equal(fixture_co_write(node, 33, data, 1000, 0), 0);
    assert_int_equal(last_call(fixture)->flags, 0);
    assert_int_equal(fixture_co_read(node, 33, again, 1000), 0);
    assert_memory_equal(data, again, 1000);
    assert_int_equal(node_co_zero(node, 40, 20, BLOCK_FUA | BLOCK_NO_UNMAP | BLOCK_FAST), 0);
    assert_int_equal(last_call(fixture)->op, MEMORY_ZERO);
    assert_int_equal(last_call(fixture)->flags, BLOCK_FUA | BLOCK_NO_UNMAP | BLOCK_FAST);
    assert_int_equal(node_co_discard(node, 100, 50, 0), 0);
    assert_int_equal(last_call(fixture)->op, MEMORY_DISCARD);
    assert_int_equal(node_co_cache(node, 5, 6), 0);
    assert_int_equal(last_call(fixture)->op, MEMORY_CACHE);
    assert_int_equal(node_co_status(node, 0, 100, &extent), 0);
    assert_int_equal(extent.length, 16);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ZERO);
    node_status_remembered(node, 0, 100, &extent);
    assert_int_equal(extent.length, 100);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ALLOCATED);
    assert_int_equal(node_co_flush(node), 0);
    assert_int_equal(last_call(fixture)->op, MEMORY_FLUSH);
}

static size_t count_use(struct block_loan *loan, int fd, uint64_t host_offset, size_t length)
{
    (void)loan;
    assert_int_equal(fd, 77);
    assert_int_equal(host_offset, 1000);
    return length;
}

static void co_a_loan_passes(struct fixture *fixture, void *arg)
{
    struct block_loan loan = {.use = count_use};
    (void)arg;
    fixture->disk.lend_fd = 77;
    co_open_on(fixture, "file", "file.", OPTIONS("driver", "through"));
    assert_int_equal(node_lend(fixture->node, 1000, 100, &loan), 0);
    assert_int_equal(fixture->disk.lend_count, 1);
}

static void co_a_write_that_fails_may_have_made_it_longer(struct fixture *fixture, void *arg)
{
    uint8_t data[512] = {0};
    (void)arg;
    co_open_on(fixture, "half", "file.", OPTIONS("driver", "through"));
    struct block_node *node = fixture->node;
    assert_int_equal(fixture_co_write(node, SIZE, data, 512, 0), -ENOSPC);
    assert_int_equal(node->file->size_bytes, SIZE + 256);
    assert_int_equal(node->size_bytes, SIZE + 256);
}

static void co_errors_come_back_as_they_are(struct fixture *fixture, void *arg)
{
    uint8_t data[512] = {0};
    struct block_extent extent;
    (void)arg;
    co_open_on(fixture, "growing", "file.", OPTIONS("driver", "through"));
    struct block_node *node = fixture->node;
    fixture->disk.fail_code = -EREMOTEIO;
    fixture->disk.fail_ops = UINT_MAX;
    assert_int_equal(fixture_co_read(node, 0, data, 512), -EREMOTEIO);
    assert_int_equal(fixture_co_write(node, SIZE, data, 512, 0), -EREMOTEIO);
    assert_int_equal(node->size_bytes, SIZE);
    assert_int_equal(node_co_zero(node, SIZE, 512, 0), -EREMOTEIO);
    assert_int_equal(node->size_bytes, SIZE);
    assert_int_equal(node_co_discard(node, 0, 512, 0), -EREMOTEIO);
    assert_int_equal(node_co_cache(node, 0, 512), -EREMOTEIO);
    assert_int_equal(node_co_status(node, 0, 512, &extent), -EREMOTEIO);
    assert_int_equal(node_co_flush(node), -EREMOTEIO);
    fixture->disk.fail_code = 0;
    assert_int_equal(node_co_flush(node), -EREMOTEIO); /* remembered */
}

static void co_a_fast_zero_is_refused_where_the_child_refuses(struct fixture *fixture, void *arg)
{
    (void)arg;
    fixture->disk.refuses_zero = true;
    co_open_on(fixture, "file", "file.", OPTIONS("driver", "through"));
    assert_int_equal(node_co_zero(fixture->node, 0, 512, BLOCK_FAST), -ENOTSUP);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 0);
    assert_int_equal(node_co_zero(fixture->node, 0, 512, 0), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 1);
}

static void co_it_grows_with_its_child(struct fixture *fixture, void *arg)
{
    uint8_t data[512] = {5}, again[512];
    (void)arg;
    co_open_on(fixture, "growing", "file.file.",
               OPTIONS("driver", "through", "file.driver", "through"));
    struct block_node *node = fixture->node;
    assert_int_equal(fixture_co_write(node, SIZE + 100, data, 512, 0), 0);
    assert_int_equal(node->size_bytes, SIZE + 612);
    assert_int_equal(node->file->size_bytes, SIZE + 612);
    assert_int_equal(fixture->disk.size_bytes, SIZE + 612);
    assert_int_equal(fixture_co_read(node, SIZE + 100, again, 512), 0);
    assert_memory_equal(data, again, 512);
    assert_int_equal(node_co_zero(node, SIZE + 612, 88, 0), 0);
    assert_int_equal(node->size_bytes, SIZE + 700);
    assert_int_equal(fixture_co_write(node, CAPACITY, data, 1, 0), -ENOSPC);
    assert_int_equal(node->size_bytes, SIZE + 700);
}

static void co_it_does_not_grow_above_what_does_not(struct fixture *fixture, void *arg)
{
    uint8_t data[512] = {0};
    (void)arg;
    co_open_on(fixture, "growing", "file.file.",
               OPTIONS("driver", "through", "file.driver", "pass"));
    assert_int_equal(fixture_co_write(fixture->node, SIZE, data, 512, 0), -ENOSPC);
    assert_int_equal(fixture_co_write(fixture->node, SIZE - 1, data, 2, 0), -ENOSPC);
    assert_int_equal(fixture->node->size_bytes, SIZE);
}

static void co_limits_are_the_childs(struct fixture *fixture, void *arg)
{
    uint8_t data[5000];
    (void)arg;
    fixture->disk.size_bytes = 5001;
    fixture->disk.limits = (struct block_limits){.request_alignment = 512,
                                                 .memory_alignment = 64,
                                                 .transfer_bytes_max = 2048,
                                                 .zero_bytes_max = 1024,
                                                 .preferred_bytes = 4096};
    memset(fixture->disk.data, 9, 5001);
    co_open_on(fixture, "file", "file.", OPTIONS("driver", "through"));
    assert_memory_equal(&fixture->node->limits, &fixture->disk.limits, sizeof(struct block_limits));
    assert_int_equal(fixture->node->size_bytes, 5001);
    assert_int_equal(fixture_co_read(fixture->node, 1, data, 5000), 0);
    assert_int_equal(data[4999], 9);
    data[0] = 1;
    assert_int_equal(fixture_co_write(fixture->node, 4999, data, 2, 0), 0);
    assert_int_equal(fixture->disk.data[4998], 9);
    assert_int_equal(fixture->disk.data[4999], 1);
}

static void co_it_may_be_resized_as_its_child_may(struct fixture *fixture, void *arg)
{
    struct error err;
    (void)arg;
    co_open_on(fixture, "sized", "file.", OPTIONS("driver", "through"));
    assert_true(through.admin->has_zero_init(fixture->node));
    assert_int_equal(node_co_resize(fixture->node, 1000, &err), 0);
    assert_int_equal(fixture->node->size_bytes, 1024);
    fixture_co_close(fixture);

    co_open_on(fixture, "file", "file.", OPTIONS("driver", "through"));
    assert_false(through.admin->has_zero_init(fixture->node));
    assert_int_equal(node_co_resize(fixture->node, 1000, &err), -ENOTSUP);
    assert_non_null(strstr(err.message, "the driver file has a fixed size"));
}

static void co_it_is_read_only_as_it_was_opened(struct fixture *fixture, void *arg)
{
    uint8_t data[1] = {0};
    (void)arg;
    co_open_on(fixture, "file", "file.", OPTIONS("driver", "through", "read-only", "on"));
    assert_true(fixture->node->file->read_only);
    assert_int_equal(fixture_co_write(fixture->node, 0, data, 1, 0), -EPERM);
    fixture_co_close(fixture);
    struct node_options *options = OPTIONS("driver", "through", "file.read-only", "on");
    memory_disk_options(&fixture->disk, options, "file.", "file");
    co_expect_refused(fixture, options, -EROFS, "the node above it is to be written");
}

static void co_a_missing_child_is_named_by_its_whole_path(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_expect_refused(fixture, OPTIONS("driver", "through"), -EINVAL,
                      "the driver through needs a node below it; say file.filename=PATH");
    co_expect_refused(fixture, OPTIONS("driver", "pass", "file.driver", "through"), -EINVAL,
                      "say file.file.filename=PATH");
    co_expect_refused(fixture, OPTIONS("driver", "through", "file.driver", "through"), -EINVAL,
                      "say file.file.filename=PATH");
    co_expect_refused(fixture,
                      OPTIONS("driver", "pass", "file.driver", "through", "file.file", "node7"),
                      -EINVAL, "file.file: cannot be 'node7'");
}

static void co_an_alias_is_the_same_driver(struct fixture *fixture, void *arg)
{
    struct error err;
    (void)arg;
    co_open_on(fixture, "file", "file.", OPTIONS("driver", "qemu-through"));
    assert_string_equal(block_node_driver_name(fixture->node), "through");
    fixture_co_close(fixture);
    assert_int_equal(graph_check_format(&fixture->env, "through", &err), -EINVAL);
    assert_string_equal(err.message, "the image format 'through' is not supported; supported "
                                     "formats: pass, raw");
    assert_int_equal(graph_check_format(&fixture->env, "qemu-through", &err), -EINVAL);
}

/* --- what is below a filter that nobody named a format for ------------------------------------ */

static void disk_as_file(struct fixture *fixture, struct node_options *options, const char *prefix)
{
    char path[64], value[32];
    snprintf(path, sizeof(path), "%sdisk", prefix);
    snprintf(value, sizeof(value), "%jx", (uintmax_t)(uintptr_t)&fixture->disk);
    assert_int_equal(node_options_set(options, path, value, NULL), 0);
}

static void co_an_image_below_it_is_probed(struct fixture *fixture, void *arg)
{
    struct node_options *options =
        OPTIONS("driver", "through", "file.driver", "through", "file.file.filename", "a.img");
    (void)arg;
    disk_as_file(fixture, options, "file.file.");
    co_open(fixture, options);
    struct block_node *image = fixture->node->file->file;
    assert_string_equal(block_node_driver_name(image), "raw");
    assert_true(image->is_guess);
    assert_string_equal(block_node_driver_name(image->file), "file");
    assert_string_equal(fixture->node->name, "a.img");
    assert_int_equal(fixture->disk.counts[MEMORY_OPEN], 2); /* once to look at its head */
    fixture_co_close(fixture);

    memcpy(fixture->disk.data, "QFI\xfb\0\0\0\3", 8);
    options = OPTIONS("driver", "through", "file.filename", "a.img");
    disk_as_file(fixture, options, "file.");
    co_expect_refused(fixture, options, -EINVAL, "'a.img' begins like a qcow2 image");
    options = OPTIONS("driver", "through", "file.file.filename", "a.img");
    disk_as_file(fixture, options, "file.file.");
    co_expect_refused(fixture, options, -EINVAL, "'a.img' begins like a qcow2 image");

    options = OPTIONS("driver", "through", "file.driver", "file", "file.filename", "a.img");
    disk_as_file(fixture, options, "file.");
    co_open(fixture, options); /* said to be a file: its bytes as they are */
    assert_string_equal(block_node_driver_name(fixture->node->file), "file");
}

static void co_a_probed_image_is_read_only_as_was_said_of_it(struct fixture *fixture, void *arg)
{
    struct node_options *options = OPTIONS("driver", "through", "read-only", "on", "file.filename",
                                           "a.img", "file.read-only", "on");
    (void)arg;
    disk_as_file(fixture, options, "file.");
    co_open(fixture, options);
    assert_true(fixture->node->file->read_only);
    assert_true(fixture->node->file->file->read_only);
}

static void co_a_path_below_a_format_is_a_file(struct fixture *fixture, void *arg)
{
    struct node_options *options =
        OPTIONS("driver", "pass", "file.driver", "through", "file.file.filename", "a.img");
    (void)arg;
    disk_as_file(fixture, options, "file.file.");
    co_open(fixture, options);
    assert_string_equal(block_node_driver_name(fixture->node->file->file), "file");
}

static void co_probing_looks_through_filters(struct fixture *fixture, void *arg)
{
    struct node_options *options = OPTIONS("file.driver", "through", "file.file.driver", "through");
    (void)arg;
    memory_disk_options(&fixture->disk, options, "file.file.file.", "file");
    co_open(fixture, options);
    assert_true(fixture->node->is_guess);
    assert_string_equal(block_node_driver_name(fixture->node), "raw");
    assert_string_equal(block_node_driver_name(fixture->node->file), "through");
    fixture_co_close(fixture);

    memcpy(fixture->disk.data, "QFI\xfb\0\0\0\3", 8);
    options = OPTIONS("file.driver", "through");
    memory_disk_options(&fixture->disk, options, "file.file.", "file");
    co_expect_refused(fixture, options, -EINVAL, "begins like a qcow2 image");
}

/* --- events ---------------------------------------------------------------------------------- */

static char heard[1000];

static void hear(struct block_node *node, const char *event)
{
    assert_string_equal(node->driver->name, "ear");
    strcat(heard, event);
    strcat(heard, " ");
}

static const struct block_driver_admin ear_admin = {.co_event = hear};

static void co_a_filter_below_hears_what_is_announced(struct fixture *fixture, void *arg)
{
    uint8_t data[1000] = {0};
    (void)arg;
    fixture->disk.limits.request_alignment = 512;
    co_open_on(fixture, "file", "file.file.file.file.",
               OPTIONS("driver", "through", "file.driver", "pass", "file.file.driver", "through",
                       "file.file.file.driver", "ear"));
    struct block_node *pass = fixture->node->file;
    node_co_event(pass, "l2_load");
    assert_string_equal(heard, "l2_load ");
    heard[0] = '\0';
    assert_int_equal(fixture_co_write(pass->file->file, 512, data, 512, 0), 0);
    assert_int_equal(node_co_zero(pass->file->file, 512, 512, 0), 0);
    assert_int_equal(fixture_co_write(pass->file->file, 512, data, 500, 0), 0);
    assert_string_equal(heard, "pwritev pwritev_done pwritev_zero pwritev_done "
                               "pwritev pwritev_rmw_tail pwritev_rmw_after_tail pwritev_done ");
    heard[0] = '\0';
    assert_int_equal(node_co_flush(pass->file), 0);
    assert_string_equal(heard, "flush_to_os flush_to_disk ");
    heard[0] = '\0';
    node_co_event(pass->file->file->file, "unheard"); /* it is below */
    assert_string_equal(heard, "");
    fixture_co_close(fixture);
    heard[0] = '\0';
}

#define TESTS(X)                                      \
    X(every_request_passes_with_its_flags)            \
    X(a_loan_passes)                                  \
    X(a_write_that_fails_may_have_made_it_longer)     \
    X(errors_come_back_as_they_are)                   \
    X(a_fast_zero_is_refused_where_the_child_refuses) \
    X(it_grows_with_its_child)                        \
    X(it_does_not_grow_above_what_does_not)           \
    X(limits_are_the_childs)                          \
    X(it_may_be_resized_as_its_child_may)             \
    X(it_is_read_only_as_it_was_opened)               \
    X(a_missing_child_is_named_by_its_whole_path)     \
    X(an_alias_is_the_same_driver)                    \
    X(an_image_below_it_is_probed)                    \
    X(a_probed_image_is_read_only_as_was_said_of_it)  \
    X(a_path_below_a_format_is_a_file)                \
    X(probing_looks_through_filters)                  \
    X(a_filter_below_hears_what_is_announced)

#define DEFINE_TEST(name) FIXTURE_TEST_WITH(name, drivers, SIZE, CAPACITY)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    memcpy(&drivers[1], memory_drivers, 4 * sizeof(*drivers));
    raw = *memory_drivers[3];
    raw.name = "raw";
    sized = *memory_drivers[1];
    sized.name = "sized";
    sized.admin = &sized_admin;
    half = *memory_drivers[1];
    half.name = "half";
    half.co_write = half_co_write;
    ear = through;
    ear.name = "ear";
    ear.alias = NULL;
    ear.admin = &ear_admin;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
