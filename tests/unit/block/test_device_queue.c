/* SPDX-License-Identifier: BSD-3-Clause */
/* What a device says of itself, from disks as they are sold to what makes no sense. */
#include "tests/unit/block/device_fixture.h"

#include "block/device_queue.h"
#include "common/align.h"
#include "common/random.h"

static const struct block_driver *const no_drivers[] = {NULL};

static struct device_queue read_queue(struct posix_fixture *fixture)
{
    struct host_files *files = &fixture->odd.files;
    struct host_file_info info;
    struct device_queue queue;
    int fd = files->open(files, fixture->path, O_RDONLY, 0);
    assert_int_equal(files->info(files, fd, &info), 0);
    int ret = device_queue_read(files, fd, &info, fixture->path, &queue, &fixture->err);
    files->close(files, fd);
    if (ret < 0)
        fail_msg("%s", fixture->err.message);
    return queue;
}

static void disk_body(struct posix_fixture *fixture)
{
    static const struct fake_attribute ssd[] = {
        {"queue/write_cache", "write back\n"},
        {"queue/discard_granularity", "1048576\n"},
        {"discard_alignment", "512\n"},
        {"queue/discard_max_bytes", "2147450880\n"},
        {"queue/write_zeroes_max_bytes", "131072\n"},
        {NULL, NULL},
    };
    fake_device_init(fixture, 100 * 512 + 100);
    fake.physical_bytes = 4096;
    fake.optimal_bytes = 65536;
    fake.attributes = ssd;
    fake.interrupt_ioctls = 2;
    struct device_queue queue = read_queue(fixture);
    assert_int_equal(queue.size_bytes, 100 * 512);
    assert_int_equal(queue.logical_bytes, 512);
    assert_int_equal(queue.physical_bytes, 4096);
    assert_int_equal(queue.cache, DEVICE_CACHE_VOLATILE);
    assert_int_equal(queue.discard_granularity_bytes, 1048576);
    assert_int_equal(queue.discard_alignment_bytes, 512);
    assert_true(queue.has_discard && queue.has_zeroes && !queue.read_only);

    struct block_limits limits = device_queue_limits(&queue);
    assert_int_equal(limits.request_alignment, 512);
    assert_int_equal(limits.memory_alignment, 512);
    assert_int_equal(limits.preferred_bytes, 65536);
}

static void a_disk_says_its_blocks_its_cache_and_its_discards(void **state)
{
    with_device_drivers(state, no_drivers, disk_body);
}

/* The queue of a partition is its disk's. */
static void partition_body(struct posix_fixture *fixture)
{
    static const struct fake_attribute partition[] = {
        {"../queue/write_cache", "write through\n"},
        {"../queue/discard_granularity", "4096\n"},
        {"discard_alignment", "5120\n"},
        {"../discard_alignment", "512\n"},
        {"../queue/discard_max_bytes", "0\n"},
        {"../queue/write_zeroes_max_bytes", "0\n"},
        {NULL, NULL},
    };
    fake_device_init(fixture, 512);
    fake.attributes = partition;
    fake.read_only = 1;
    struct device_queue queue = read_queue(fixture);
    assert_int_equal(queue.cache, DEVICE_CACHE_NONE);
    assert_int_equal(queue.discard_granularity_bytes, 4096);
    assert_int_equal(queue.discard_alignment_bytes, 1024);
    assert_true(!queue.has_discard && !queue.has_zeroes && queue.read_only);
}

static void a_partition_has_the_queue_of_its_disk(void **state)
{
    with_device_drivers(state, no_drivers, partition_body);
}

static void nothing_body(struct posix_fixture *fixture)
{
    static const struct fake_attribute nonsense[] = {
        {"queue/write_cache", "perhaps\n"},
        {"queue/discard_granularity", "1000\n"},
        {"discard_alignment", "-1\n"},
        {"queue/discard_max_bytes", "many\n"},
        {"queue/write_zeroes_max_bytes", "99999999999999999999999999\n"},
        {NULL, NULL},
    };
    fake_device_init(fixture, 8192);
    fake.no_block_sizes = true;
    for (int i = 0; i < 2; i++) {
        fake.attributes = i ? nonsense : NULL;
        struct device_queue queue = read_queue(fixture);
        assert_int_equal(queue.cache, DEVICE_CACHE_UNKNOWN);
        assert_int_equal(queue.physical_bytes, 512);
        assert_int_equal(queue.optimal_bytes, 0);
        assert_int_equal(queue.discard_granularity_bytes, 0);
        assert_true(queue.has_discard && !queue.has_zeroes);
    }
    fake.no_block_sizes = false;
    fake.physical_bytes = 3000; /* no power of two: not to be told */
    fake.optimal_bytes = 3 * 65536;
    struct device_queue queue = read_queue(fixture);
    assert_int_equal(queue.physical_bytes, 512);
    assert_int_equal(device_queue_limits(&queue).preferred_bytes, 512);
}

static void what_is_not_said_or_makes_no_sense_is_not_known(void **state)
{
    with_device_drivers(state, no_drivers, nothing_body);
}

static void refuse(struct posix_fixture *fixture, int code, const char *text)
{
    struct host_files *files = &fixture->odd.files;
    struct host_file_info info = {.kind = HOST_FILE_BLOCK_DEVICE};
    struct device_queue queue;
    int fd = files->open(files, fixture->path, O_RDONLY, 0);
    assert_int_equal(device_queue_read(files, fd, &info, fixture->path, &queue, &fixture->err),
                     code);
    files->close(files, fd);
    if (!strstr(fixture->err.message, text) || !strstr(fixture->err.message, fixture->path))
        fail_msg("%s", fixture->err.message);
}

static void refused_body(struct posix_fixture *fixture)
{
    fake_device_init(fixture, 8192);
    fake.size_error = -EIO;
    refuse(fixture, -EIO, "how large");
    fake.size_error = 0;
    static const int senseless[] = {0, -512, 1000};
    for (int i = 0; i < 3; i++) {
        fake.logical_bytes = senseless[i];
        refuse(fixture, -ERANGE, "how large");
    }
    fake.logical_bytes = 16384;
    refuse(fixture, -ENOTSUP, "logical blocks have 16384 bytes");
    fixture->odd.files.ioctl = NULL;
    refuse(fixture, -ENOTSUP, "no devices");
}

static void a_device_that_does_not_say_what_must_be_known_is_refused(void **state)
{
    with_device_drivers(state, no_drivers, refused_body);
}

/* Every granule that lies in the range is in the answer, and nothing else, seen block by block. */
static void discards_are_cut_to_whole_granules(void **state)
{
    struct random random;
    (void)state;
    const char *given = getenv("TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    random_seed(&random, seed);
    printf("TEST_SEED=%llu\n", (unsigned long long)seed);
    for (int round = 0; round < 5000; round++) {
        uint64_t granularity = 512 * random_below(&random, 12);
        struct device_queue queue = {
            .size_bytes = 512 * (1 + random_below(&random, 100)),
            .discard_granularity_bytes = granularity,
            .discard_alignment_bytes =
                granularity ? 512 * random_below(&random, granularity / 512) : 0,
        };
        uint64_t offset = 512 * random_below(&random, queue.size_bytes / 512);
        uint64_t length = 512 * (1 + random_below(&random, (queue.size_bytes - offset) / 512));
        uint64_t cut_offset = offset, cut_length = length;
        bool any = device_queue_discardable(&queue, &cut_offset, &cut_length);
        for (uint64_t block = 0; block < queue.size_bytes; block += 512) {
            uint64_t from = block, end = block + 512;
            if (granularity) { /* the granule that this block belongs to */
                uint64_t first = queue.discard_alignment_bytes;
                bool before = block < first;
                from = before ? 0 : first + (block - first) / granularity * granularity;
                end = before ? first : from + granularity;
                if (before) /* it begins before the device does */
                    from = UINT64_MAX;
            }
            if (end > queue.size_bytes)
                end = queue.size_bytes;
            bool wanted = from != UINT64_MAX && offset <= from && end <= offset + length;
            bool given_up = any && cut_offset <= block && block < cut_offset + cut_length;
            assert_int_equal(wanted, given_up);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disk_says_its_blocks_its_cache_and_its_discards),
        cmocka_unit_test(a_partition_has_the_queue_of_its_disk),
        cmocka_unit_test(what_is_not_said_or_makes_no_sense_is_not_known),
        cmocka_unit_test(a_device_that_does_not_say_what_must_be_known_is_refused),
        cmocka_unit_test(discards_are_cut_to_whole_granules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
