/* SPDX-License-Identifier: BSD-3-Clause */
/* Locks that tell qemu's programs and ours who uses an image; which bytes, who is refused by whom,
 * and who holds them. tests/integration/locks.sh does the same with qemu's programs. */
#include "tests/unit/block/posix_fixture.h"

#include <limits.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

/* Whether anyone has a lock on this byte, as a stranger to all locks sees it. */
static bool byte_is_locked(const struct posix_fixture *fixture, unsigned byte)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int fd = open(fixture->path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_OFD_GETLK, &lock), 0);
    close(fd);
    return lock.l_type != F_UNLCK;
}

static void expect_locked(const struct posix_fixture *fixture, const unsigned *bytes)
{
    for (unsigned byte = 0; byte < 300; byte++) {
        bool expected = *bytes == byte;
        bytes += expected;
        if (byte_is_locked(fixture, byte) != expected)
            fail_msg("byte %u is %s", byte, expected ? "not locked" : "locked");
    }
}

static void bytes_body(struct posix_fixture *fixture)
{
    make_image(fixture, 10);
    struct block_node *node = open_image(fixture, NULL);
    expect_locked(fixture, (const unsigned[]){100, 101, 103, 201, 203, 0});
    block_co_node_unref(node);
    expect_locked(fixture, (const unsigned[]){999});
    node = open_image(fixture, EXTRA("read-only=on"));
    expect_locked(fixture, (const unsigned[]){100, 201, 203, 0});
    block_co_node_unref(node);
    node = open_image(fixture, EXTRA("cache.direct=on")); /* two descriptors, one lock */
    expect_locked(fixture, (const unsigned[]){100, 101, 103, 201, 203, 0});
    block_co_node_unref(node);
    node = open_image(fixture, EXTRA("locking=off"));
    expect_locked(fixture, (const unsigned[]){999});
    block_co_node_unref(node);
}

static void the_bytes_are_those_of_qemu(void **state)
{
    with_posix(state, bytes_body);
}

static void expect_busy(struct posix_fixture *fixture, const char *const *extra, const char *why)
{
    struct block_node *node = NULL;
    assert_int_equal(try_open(fixture, extra, &node), -EBUSY);
    assert_non_null(strstr(fixture->err.message, fixture->path));
    if (!strstr(fixture->err.message, why))
        fail_msg("'%s' lacks '%s'", fixture->err.message, why);
}

static void users_body(struct posix_fixture *fixture)
{
    make_image(fixture, 10);
    struct block_node *writer = open_image(fixture, NULL);
    expect_busy(fixture, NULL, "another export of this server");
    expect_busy(fixture, EXTRA("read-only=on"), "writes it");
    block_co_node_unref(open_image(fixture, EXTRA("locking=off"))); /* who knows what he does */
    close(open(fixture->path, O_RDWR)); /* a lock of the process would be gone by this */
    expect_busy(fixture, EXTRA("locking=on"), "writes it");
    block_co_node_unref(writer);

    struct block_node *reader = open_image(fixture, EXTRA("read-only=on"));
    struct block_node *second = open_image(fixture, EXTRA("read-only=on", "locking=on"));
    expect_busy(fixture, NULL, "--read-only");
    block_co_node_unref(reader);
    expect_busy(fixture, NULL, "--read-only"); /* the second is still there */
    block_co_node_unref(second);
    block_co_node_unref(open_image(fixture, NULL)); /* the refused ones left nothing behind */
}

static void a_writer_is_alone_and_readers_are_not(void **state)
{
    with_posix(state, users_body);
}

static void missing_body(struct posix_fixture *fixture)
{
    struct block_node *node = NULL;
    make_image(fixture, 10);
    fixture->odd.lock_error = -ENOTSUP;
    for (int i = 0; i < 2; i++) {
        block_co_node_unref(open_image(fixture, NULL));
        assert_int_equal(try_open(fixture, EXTRA("locking=on"), &node), -ENOTSUP);
        assert_non_null(strstr(fixture->err.message, "locking=auto"));
        assert_non_null(strstr(fixture->err.message, fixture->path));
        fixture->odd.files.lock = NULL; /* the second time */
    }
    fixture->odd.files.lock = odd_lock;
    fixture->odd.lock_error = -EAGAIN; /* someone has it for himself alone */
    expect_busy(fixture, NULL, "in use");
    fixture->odd.lock_error = -EIO;
    assert_int_equal(try_open(fixture, NULL, &node), -EIO);
    fixture->odd.lock_error = 0;
    fixture->odd.interrupt = 2;
    block_co_node_unref(open_image(fixture, EXTRA("locking=on")));
    assert_int_equal(try_open(fixture, EXTRA("locking=maybe"), &node), -EINVAL);
}

static void without_locks_an_image_is_served_unless_they_were_asked_for(void **state)
{
    with_posix(state, missing_body);
}

/* A process that holds one lock until it is killed. */
static pid_t start_holder(const struct posix_fixture *fixture, unsigned byte)
{
    int told[2];
    char done;
    assert_int_equal(pipe(told), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int fd = open(fixture->path, O_RDONLY);
        if (fd < 0 || host_files_linux.lock(&host_files_linux, fd, byte) < 0)
            _exit(1);
        if (write(told[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(read(told[0], &done, 1), 1);
    close(told[0]);
    close(told[1]);
    return pid;
}

/* Not this file's: under valgrind it is valgrind's. */
static void read_own_name(char name[32])
{
    FILE *comm = fopen("/proc/self/comm", "r");
    assert_non_null(comm);
    assert_int_equal(fscanf(comm, "%31s", name), 1);
    fclose(comm);
}

static void holder_body(struct posix_fixture *fixture)
{
    static const struct {
        unsigned byte;
        const char *writer, *reader; /* what they are told; NULL: let in */
    } cases[] = {
        {100, NULL, NULL},
        {101, "writes it", "writes it"},
        {102, NULL, NULL},
        {103, "writes it", "writes it"},
        {200, "nobody else read", "nobody else read"},
        {201, "nobody else write", NULL},
        {203, "nobody else write", NULL},
    };
    char name[32], who[64];
    read_own_name(name);
    make_image(fixture, 10);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pid_t pid = start_holder(fixture, cases[i].byte);
        snprintf(who, sizeof(who), "%s (process %d)", name, (int)pid);
        for (int writes = 0; writes < 2; writes++) {
            const char *expected = writes ? cases[i].writer : cases[i].reader;
            const char *const *extra = EXTRA(writes ? "read-only=off" : "read-only=on");
            if (expected) {
                expect_busy(fixture, extra, expected);
                expect_busy(fixture, extra, who);
            } else {
                block_co_node_unref(open_image(fixture, extra));
            }
        }
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        block_co_node_unref(open_image(fixture, NULL)); /* its lock went with it */
    }
}

static void each_byte_means_its_right_and_its_holder_is_named(void **state)
{
    with_posix(state, holder_body);
}

static void create_body(struct posix_fixture *fixture)
{
    make_image(fixture, 1000);
    struct block_node *reader = open_image(fixture, EXTRA("read-only=on"));
    struct node_options *options = node_options_new();
    node_options_set(options, "filename", fixture->path, NULL);
    node_options_set(options, "size", "5000", NULL);
    assert_int_equal(block_driver_file.admin->co_create(&fixture->env, options, &fixture->err),
                     -EBUSY);
    node_options_free(options);
    uint8_t data[1000];
    assert_int_equal(image_size(fixture), 1000);
    assert_int_equal(read_at(reader, 0, data, 1000), 0);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(data[i], pattern_at(i));
    block_co_node_unref(reader);
}

static void a_new_image_does_not_take_the_place_of_one_in_use(void **state)
{
    with_posix(state, create_body);
}

/* --- what outlives its process ------------------------------------------------------------------
 */

/* Locks that nobody is seen to have, for so many looks. */
static struct {
    unsigned looks, looks_held;
    bool is_seen; /* its holder */
} ghost;

static int ghost_is_held(struct host_files *files, int fd, uint64_t offset)
{
    (void)files, (void)fd, (void)offset;
    return ghost.looks++ < ghost.looks_held;
}

static bool ghost_holder(struct host_files *files, int fd, uint64_t offset, char *text,
                         size_t text_size)
{
    (void)files, (void)fd, (void)offset;
    snprintf(text, text_size, "somebody");
    return ghost.is_seen;
}

static void ghost_body(struct posix_fixture *fixture)
{
    make_image(fixture, 10);
    fixture->odd.files.lock_is_held = ghost_is_held;
    fixture->odd.files.lock_holder = ghost_holder;
    ghost.looks_held = 5;
    block_co_node_unref(open_image(fixture, NULL)); /* waited for */

    ghost.looks = 0;
    ghost.looks_held = UINT_MAX;
    expect_busy(fixture, NULL, "somebody writes it"); /* not for ever */
    assert_true(ghost.looks > 1000);

    ghost.looks = 0;
    ghost.is_seen = true;
    expect_busy(fixture, NULL, "somebody writes it"); /* at once */
    assert_int_equal(ghost.looks, 1);
}

static void a_lock_is_waited_for_when_nobody_is_seen_to_have_it(void **state)
{
    with_posix(state, ghost_body);
}

/* One who was killed and does not come to its end, since we hold it there: its files are open, as
 * those of one that gives its memory back, or waits for a disk. */
static void killed_body(struct posix_fixture *fixture)
{
    char text[80];
    int status;
    make_image(fixture, 10);
    int fd = open(fixture->path, O_RDONLY);
    assert_true(fd >= 0);
    pid_t pid = start_holder(fixture, 101);
    assert_true(host_files_linux.lock_holder(&host_files_linux, fd, 101, text, sizeof(text)));
    if (ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACEEXIT) < 0)
        print_message("ptrace is forbidden here: a holder that is ending is not tried\n");
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSTOPPED(status)) {
        assert_true(byte_is_locked(fixture, 101));
        assert_false(host_files_linux.lock_holder(&host_files_linux, fd, 101, text, sizeof(text)));
        assert_non_null(strstr(text, "(process "));
        assert_int_equal(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
    }
    assert_true(WIFSIGNALED(status));
    close(fd);
}

static void who_was_killed_is_no_holder(void **state)
{
    with_posix(state, killed_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_are_those_of_qemu),
        cmocka_unit_test(a_writer_is_alone_and_readers_are_not),
        cmocka_unit_test(without_locks_an_image_is_served_unless_they_were_asked_for),
        cmocka_unit_test(each_byte_means_its_right_and_its_holder_is_named),
        cmocka_unit_test(a_new_image_does_not_take_the_place_of_one_in_use),
        cmocka_unit_test(a_lock_is_waited_for_when_nobody_is_seen_to_have_it),
        cmocka_unit_test(who_was_killed_is_no_holder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
