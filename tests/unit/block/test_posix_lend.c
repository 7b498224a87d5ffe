/* SPDX-License-Identifier: BSD-3-Clause */
/* posix_lend.c and the page questions of host_files_linux.c: what is in the page cache is lent, and
 * nothing else. Needs a file system that drops clean pages when it is asked to (not tmpfs). */
#include "tests/unit/block/posix_fixture.h"

#define IMAGE_BYTES (3u << 20)

struct borrower {
    struct block_loan loan;
    unsigned calls;
    int fd;
    uint64_t host_offset;
    size_t length;
};

static size_t borrow(struct block_loan *loan, int fd, uint64_t host_offset, size_t length)
{
    struct borrower *borrower = container_of(loan, struct borrower, loan);
    borrower->calls++;
    borrower->fd = fd;
    borrower->host_offset = host_offset;
    borrower->length = length;
    return length;
}

static int lend(struct block_node *node, uint64_t offset, uint64_t length,
                struct borrower *borrower)
{
    *borrower = (struct borrower){.loan.use = borrow};
    int ret = node_lend(node, offset, length, &borrower->loan);
    assert_int_equal(borrower->calls, ret == 0);
    return ret;
}

static void drop_pages(const struct posix_fixture *fixture, off_t offset, off_t length)
{
    int fd = open(fixture->path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(posix_fadvise(fd, offset, length, POSIX_FADV_DONTNEED), 0);
    close(fd);
}

static void lends_body(struct posix_fixture *fixture)
{
    struct borrower borrower;
    uint8_t lent[4096];
    make_image(fixture, IMAGE_BYTES);
    struct block_node *node = open_image(fixture, NULL);
    assert_int_equal(lend(node, 12345, 4096, &borrower), 0);
    assert_int_equal(borrower.host_offset, 12345);
    assert_int_equal(borrower.length, 4096);
    assert_int_equal(pread(borrower.fd, lent, sizeof(lent), (off_t)borrower.host_offset), 4096);
    for (unsigned i = 0; i < sizeof(lent); i++)
        assert_int_equal(lent[i], pattern_at(12345 + i));
    /* A long range in parts. */
    assert_int_equal(lend(node, 1, IMAGE_BYTES - 1, &borrower), 0);
    assert_int_equal(borrower.length, HOST_PAGES_ASK_MAX);
    assert_int_equal(lend(node, IMAGE_BYTES - 1, 1, &borrower), 0);
    block_co_node_unref(node);
}

static void what_is_in_memory_is_lent(void **state)
{
    with_posix(state, lends_body);
}

static void dropped_body(struct posix_fixture *fixture)
{
    struct borrower borrower;
    uint8_t byte;
    make_image(fixture, IMAGE_BYTES);
    /* Opened and never read: the folder's file system may keep what it has in larger pieces. */
    drop_pages(fixture, 0, 0);
    struct block_node *node = open_image(fixture, NULL);
    assert_int_equal(lend(node, 0, IMAGE_BYTES, &borrower), -EAGAIN);
    assert_int_equal(lend(node, 1 << 20, 1, &borrower), -EAGAIN);
    borrower = (struct borrower){.loan = {.use = borrow, .known_in_memory = true}};
    assert_int_equal(node_lend(node, 0, 100, &borrower.loan), 0); /* it was told so */
    /* One read brings its page; what is a MiB on is not there by that alone. */
    assert_int_equal(posix_fadvise(borrower.fd, 0, 0, POSIX_FADV_RANDOM), 0);
    assert_int_equal(read_at(node, 1 << 20, &byte, 1), 0);
    assert_int_equal(lend(node, 1 << 20, 1, &borrower), 0);
    assert_int_equal(lend(node, (1 << 20) - 1, 2, &borrower), -EAGAIN);
    assert_int_equal(lend(node, 2 << 20, 1, &borrower), -EAGAIN);
    block_co_node_unref(node);
}

static void what_was_dropped_is_not_lent_until_it_is_read(void **state)
{
    with_posix(state, dropped_body);
}

static void sizes_body(struct posix_fixture *fixture)
{
    struct borrower borrower;
    uint8_t data[100] = {1};
    make_image(fixture, 5000);
    struct block_node *node = open_image(fixture, NULL);
    assert_int_equal(lend(node, 4000, 1000, &borrower), 0);
    assert_int_equal(lend(node, 4000, 1001, &borrower), -EAGAIN);
    assert_int_equal(write_at(node, 5000, data, sizeof(data)), 0);
    assert_int_equal(lend(node, 5000, 1, &borrower), -EAGAIN); /* it has grown */
    assert_int_equal(lend(node, 0, 5000, &borrower), 0);
    /* Another process cuts it: those pages are not there any more. */
    assert_int_equal(truncate(fixture->path, 4096), 0);
    assert_int_equal(lend(node, 4000, 1000, &borrower), -EAGAIN);
    assert_int_equal(lend(node, 4000, 96, &borrower), 0);
    block_co_node_unref(node);
}

static void past_the_end_nothing_is_lent_nor_what_was_cut_off(void **state)
{
    with_posix(state, sizes_body);
}

static void direct_body(struct posix_fixture *fixture)
{
    struct borrower borrower;
    struct block_node *node;
    make_image(fixture, 8192);
    if (try_open(fixture, EXTRA("cache.direct=on"), &node) < 0)
        skip();
    assert_int_equal(lend(node, 0, 4096, &borrower), -ENOTSUP);
    block_co_node_unref(node);
}

static void with_o_direct_nothing_is_lent(void **state)
{
    with_posix(state, direct_body);
}

static int no_pages_open(struct host_files *files, int fd, uint64_t length,
                         struct host_pages *ret_pages)
{
    (void)files, (void)fd, (void)length, (void)ret_pages;
    return -ENOTSUP;
}

static void unknowing_body(struct posix_fixture *fixture)
{
    struct borrower borrower;
    make_image(fixture, 8192);
    fixture->odd.files.pages_open = no_pages_open;
    struct block_node *node = open_image(fixture, NULL);
    assert_int_equal(lend(node, 0, 4096, &borrower), -ENOTSUP);
    block_co_node_unref(node);
    fixture->odd.files.pages_open = NULL;
    node = open_image(fixture, NULL);
    assert_int_equal(lend(node, 0, 4096, &borrower), -ENOTSUP);
    block_co_node_unref(node);
}

static void where_the_host_does_not_tell_nothing_is_lent(void **state)
{
    with_posix(state, unknowing_body);
}

/* --- the quick question -------------------------------------------------------------------------
 */

/* posix_lend.c's */
#define EXACT_QUESTIONS_AFTER_MISS 256
#define EXACT_QUESTIONS_MAX 8192
#define COUNTED_USES 256

static unsigned quick_questions, exact_questions;
static int quick_answer;
static uint64_t sleeps;
static unsigned sleep_questions;

static int odd_pages_cached(struct host_files *files, int fd, uint64_t offset, size_t length)
{
    (void)files, (void)fd, (void)offset, (void)length;
    quick_questions++;
    return quick_answer;
}

static bool odd_pages_in_memory(struct host_files *files, const struct host_pages *pages,
                                uint64_t offset, size_t length)
{
    exact_questions++;
    return host_files_linux.pages_in_memory(files, pages, offset, length);
}

static uint64_t odd_sleeps(struct host_files *files)
{
    (void)files;
    sleep_questions++;
    return sleeps;
}

static struct block_node *co_open_asked(struct posix_fixture *fixture)
{
    make_image(fixture, IMAGE_BYTES);
    fixture->odd.files.pages_cached = odd_pages_cached;
    fixture->odd.files.pages_in_memory = odd_pages_in_memory;
    fixture->odd.files.sleeps = odd_sleeps;
    quick_questions = exact_questions = sleep_questions = 0;
    quick_answer = 1;
    return open_image(fixture, NULL);
}

static void assert_questions(unsigned quick, unsigned exact)
{
    assert_int_equal(quick_questions, quick);
    assert_int_equal(exact_questions, exact);
    quick_questions = exact_questions = 0;
}

static void expect_quick(struct block_node *node)
{
    struct borrower borrower;
    assert_int_equal(lend(node, 0, 4096, &borrower), 0);
    assert_questions(1, 0);
}

static void expect_exact(struct block_node *node, unsigned count)
{
    struct borrower borrower;
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(lend(node, 0, 4096, &borrower), 0);
    assert_questions(0, count);
    expect_quick(node);
}

static void questions_body(struct posix_fixture *fixture)
{
    struct borrower borrower;
    struct block_node *node = co_open_asked(fixture);
    expect_quick(node);
    quick_answer = 0;
    assert_int_equal(lend(node, 0, 4096, &borrower), -EAGAIN);
    assert_questions(1, 0);
    quick_answer = 1;
    expect_exact(node, EXACT_QUESTIONS_AFTER_MISS);
    quick_answer = -ENOSYS;
    assert_int_equal(lend(node, 0, 4096, &borrower), 0);
    assert_questions(1, 1);
    block_co_node_unref(node);
}

static void the_quick_question_is_asked_while_nothing_is_missing(void **state)
{
    with_posix(state, questions_body);
}

/* --- where the answer was wrong -----------------------------------------------------------------
 */

static uint64_t use_ns; /* how long a use takes */
static unsigned use_sleeps;

static uint64_t now_of_uses_ns;

static uint64_t clock_of_uses_now_ns(struct clock *clock)
{
    (void)clock;
    return now_of_uses_ns;
}

static struct clock clock_of_uses = {clock_of_uses_now_ns};

static size_t use_for_a_while(struct block_loan *loan, int fd, uint64_t host_offset, size_t length)
{
    now_of_uses_ns += use_ns;
    sleeps += use_sleeps;
    return borrow(loan, fd, host_offset, length);
}

/* Without a question: it was asked before. */
static void use_lent(struct block_node *node, uint64_t took_ns, unsigned slept)
{
    struct borrower borrower = {.loan = {.use = use_for_a_while, .known_in_memory = true}};
    use_ns = took_ns;
    use_sleeps = slept;
    assert_int_equal(node_lend(node, 0, 65536, &borrower.loan), 0);
    assert_questions(0, 0);
}

static void wrong_body(struct posix_fixture *fixture)
{
    struct borrower borrower;
    struct block_node *node = co_open_asked(fixture);
    use_lent(node, 40000, 1); /* quick enough */
    use_lent(node, 41000, 1);
    assert_int_equal(sleep_questions, 0); /* the first one that takes long: who knows why */
    use_lent(node, 41000, 0);
    assert_int_equal(sleep_questions, 2); /* another one had the processor */
    expect_quick(node);
    use_lent(node, 41000, 1);
    expect_exact(node, EXACT_QUESTIONS_AFTER_MISS);
    sleep_questions = 0; /* who only asks does not sleep */
    borrower = (struct borrower){.loan = {.use = borrow, .only_asks = true}};
    assert_int_equal(node_lend(node, 0, 65536, &borrower.loan), 0);
    assert_questions(1, 0);
    assert_int_equal(sleep_questions, 0);
    block_co_node_unref(node);
}

static void after_a_sleep_in_what_was_there_the_exact_question_is_asked(void **state)
{
    posix_fixture_clock = &clock_of_uses;
    with_posix(state, wrong_body);
    posix_fixture_clock = &clock_monotonic;
}

static unsigned exact_questions_until_a_quick_one(struct block_node *node)
{
    struct borrower borrower;
    while (quick_questions == 0)
        assert_int_equal(lend(node, 0, 4096, &borrower), 0);
    unsigned count = exact_questions;
    assert_questions(1, count);
    return count;
}

static void again_body(struct posix_fixture *fixture)
{
    struct block_node *node = co_open_asked(fixture);
    use_lent(node, 41000, 1);
    unsigned expected = EXACT_QUESTIONS_AFTER_MISS;
    for (unsigned i = 0; i < 10; i++) {
        use_lent(node, 41000, 1);
        assert_int_equal(exact_questions_until_a_quick_one(node), expected);
        expected = 2 * expected - 1; /* the quick one took one back */
        expected = expected < EXACT_QUESTIONS_MAX ? expected : EXACT_QUESTIONS_MAX - 1;
    }
    for (unsigned i = 0; i < EXACT_QUESTIONS_MAX + COUNTED_USES; i++)
        expect_quick(node);
    use_lent(node, 41000, 1); /* long enough without any: this is the first one again */
    expect_quick(node);
    use_lent(node, 41000, 1);
    assert_int_equal(exact_questions_until_a_quick_one(node), EXACT_QUESTIONS_AFTER_MISS);
    block_co_node_unref(node);
}

static void each_such_sleep_doubles_how_many_questions_are_exact(void **state)
{
    posix_fixture_clock = &clock_of_uses;
    with_posix(state, again_body);
    posix_fixture_clock = &clock_monotonic;
}

static void quick_body(struct posix_fixture *fixture)
{
    struct host_files *files = &host_files_linux;
    make_image(fixture, IMAGE_BYTES);
    int fd = open(fixture->path, O_RDWR);
    assert_true(fd >= 0);
    int answer = files->pages_cached(files, fd, 1000, IMAGE_BYTES - 1000);
    if (answer >= 0) { /* Linux 6.5 */
        assert_int_equal(answer, 1);
        drop_pages(fixture, 1 << 20, 1 << 20);
        assert_int_equal(files->pages_cached(files, fd, 0, IMAGE_BYTES), 0);
        assert_int_equal(files->pages_cached(files, fd, (1 << 20) + 5000, 1), 0);
        assert_int_equal(files->pages_cached(files, fd, 1, 4095), 1);
    }
    close(fd);
}

static void the_quick_question_is_true_where_nobody_reads(void **state)
{
    with_posix(state, quick_body);
}

/* As a user who may read the file and not write to it, the kernel says that all of it is there. */
static void a_host_that_does_not_tell_the_truth_is_not_believed(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    char path[] = "/tmp/platter-test-XXXXXX";
    int fd = mkstemp(path);
    struct host_pages pages;
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    assert_int_equal(fchmod(fd, 0644), 0);
    assert_int_equal(host_files_linux.pages_open(&host_files_linux, fd, 1 << 20, &pages), 0);
    host_files_linux.pages_close(&host_files_linux, &pages);
    close(fd);
    assert_int_equal(seteuid(65534), 0);
    fd = open(path, O_RDONLY);
    int ret = host_files_linux.pages_open(&host_files_linux, fd, 1 << 20, &pages);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(ret, -ENOTSUP);
    close(fd);
    unlink(path);
}

int main(void)
{
    if (posix_fixture_is_on_tmpfs()) {
        puts("SKIP: the files would be on tmpfs, which lends nothing");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_in_memory_is_lent),
        cmocka_unit_test(what_was_dropped_is_not_lent_until_it_is_read),
        cmocka_unit_test(past_the_end_nothing_is_lent_nor_what_was_cut_off),
        cmocka_unit_test(with_o_direct_nothing_is_lent),
        cmocka_unit_test(where_the_host_does_not_tell_nothing_is_lent),
        cmocka_unit_test(the_quick_question_is_asked_while_nothing_is_missing),
        cmocka_unit_test(after_a_sleep_in_what_was_there_the_exact_question_is_asked),
        cmocka_unit_test(each_such_sleep_doubles_how_many_questions_are_exact),
        cmocka_unit_test(the_quick_question_is_true_where_nobody_reads),
        cmocka_unit_test(a_host_that_does_not_tell_the_truth_is_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
