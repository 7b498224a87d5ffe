/* SPDX-License-Identifier: BSD-3-Clause */
/* posix_kept.c, host_kept_linux.c: who is killed leaves it, who ends does not, and whatever else
 * lies at its place is not touched. */
#include "tests/unit/block/posix_fixture.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include <linux/magic.h>

#include "block/kept.h"
#include "common/clock.h"

#define LENGTH 65536
#define SIZE 20000

/* --- what is at its place -----------------------------------------------------------------------
 */

static void kept_name(const struct posix_fixture *fixture, char *name, size_t size)
{
    struct stat stat_of_image;
    assert_int_equal(stat(fixture->path, &stat_of_image), 0);
    snprintf(name, size, "/dev/shm/platter-%u-%llx-%llx", (unsigned)geteuid(),
             (unsigned long long)stat_of_image.st_dev, (unsigned long long)stat_of_image.st_ino);
}

static bool is_there(const struct posix_fixture *fixture)
{
    char name[96];
    struct stat stat_of_kept;
    kept_name(fixture, name, sizeof(name));
    return lstat(name, &stat_of_kept) == 0;
}

static struct kept_memory *co_keep(struct posix_fixture *fixture, struct block_node *node)
{
    struct kept_memory *kept = NULL;
    if (node_co_keep(node, LENGTH, false, &kept, &fixture->err) < 0)
        fail_msg("%s", fixture->err.message);
    return kept;
}

static int co_try(struct posix_fixture *fixture, struct block_node *node, bool only_look)
{
    struct kept_memory *kept = NULL;
    struct error *err = &fixture->err;
    int ret = node_co_keep(node, LENGTH, only_look, &kept, err);
    assert_int_equal(kept != NULL, ret == 0);
    kept_co_close(kept, false);
    return ret;
}

static void expect_refused(struct posix_fixture *fixture, int code, const char *words)
{
    struct block_node *node = open_image(fixture, NULL);
    assert_int_equal(co_try(fixture, node, false), code);
    if (!strstr(fixture->err.message, words))
        fail_msg("%s", fixture->err.message);
    assert_int_equal(co_try(fixture, node, true), code);
    block_co_node_unref(node);
    assert_true(is_there(fixture)); /* and is left */
}

/* Another process opens it, and is killed as it writes there; or it tells by `told` that it has it,
 * and lives. */
static pid_t start_holder(const struct posix_fixture *fixture, const char *text, int told)
{
    char name[96];
    kept_name(fixture, name, sizeof(name));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* where a test fails, it does not wait for ever */
    struct host_kept kept;
    struct error err;
    const char *last = strstr(name, "platter-");
    last = strchr(last + strlen("platter-"), '-') + 1;
    if (linux_kept_open(NULL, last, LENGTH, false, &kept, &err) < 0)
        _exit(1);
    memcpy((char *)kept.base + LENGTH - 100, text, strlen(text));
    if (told < 0)
        raise(SIGKILL);
    if (write(told, "", 1) != 1)
        _exit(1);
    for (;;)
        pause();
}

static void wait_for_its_end(pid_t holder)
{
    int status;
    assert_int_equal(waitpid(holder, &status, 0), holder);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* --- tests --------------------------------------------------------------------------------------
 */

static void ends_body(struct posix_fixture *fixture)
{
    make_image(fixture, SIZE);
    struct block_node *node = open_image(fixture, NULL);
    uint64_t before_ns = clock_of_files.now_ns(&clock_of_files);
    for (unsigned turn = 0; turn < 3; turn++) {
        uint8_t byte = (uint8_t)turn;
        assert_int_equal(co_try(fixture, node, true), -ENOENT);
        assert_false(is_there(fixture));
        assert_int_equal(write_at(node, 7, &byte, 1), 0);
        struct kept_memory *kept = co_keep(fixture, node);
        assert_true(is_there(fixture));
        assert_false(kept->is_found);
        assert_int_equal(kept->length, LENGTH);
        assert_true(kept->file_changed_ns >= before_ns);
        assert_true(kept->file_changed_ns <= kept->clock->now_ns(kept->clock) + NS_PER_S);
        for (size_t i = 0; i < LENGTH; i++)
            assert_int_equal(((uint8_t *)kept->base)[i], 0);
        memset(kept->base, 0x5a, LENGTH);
        kept_co_close(kept, true);
    }
    assert_false(is_there(fixture));
    block_co_node_unref(node);
}

static void who_ends_leaves_nothing(void **state)
{
    with_posix(state, ends_body);
}

static void killed_body(struct posix_fixture *fixture)
{
    make_image(fixture, SIZE);
    wait_for_its_end(start_holder(fixture, "what it knew", -1));
    assert_true(is_there(fixture));
    struct block_node *node = open_image(fixture, EXTRA("locking=off"));
    for (unsigned turn = 0; turn < 3; turn++) {
        struct kept_memory *kept = NULL;
        assert_int_equal(node_co_keep(node, LENGTH, turn == 1, &kept, &fixture->err), 0);
        assert_true(kept->is_found);
        assert_string_equal((char *)kept->base + LENGTH - 100, "what it knew");
        kept_co_close(kept, turn == 2);
    }
    assert_false(is_there(fixture));
    block_co_node_unref(node);
}

static void who_is_killed_leaves_all(void **state)
{
    with_posix(state, killed_body);
}

static void in_use_body(struct posix_fixture *fixture)
{
    int told[2];
    char byte;
    make_image(fixture, SIZE);
    assert_int_equal(pipe(told), 0);
    pid_t holder = start_holder(fixture, "mine", told[1]);
    assert_int_equal(read(told[0], &byte, 1), 1);
    char words[64], name[16];
    assert_int_equal(prctl(PR_GET_NAME, name), 0); /* valgrind has another one */
    snprintf(words, sizeof(words), "is in use, %s (process ", name);
    expect_refused(fixture, -EBUSY, words);
    kill(holder, SIGKILL);
    wait_for_its_end(holder);
    close(told[0]);
    close(told[1]);
    struct block_node *node = open_image(fixture, NULL);
    struct kept_memory *kept = co_keep(fixture, node);
    assert_string_equal((char *)kept->base + LENGTH - 100, "mine");
    assert_int_equal(co_try(fixture, node, false), -EBUSY); /* another export of ours */
    kept_co_close(kept, true);
    block_co_node_unref(node);
}

static void who_lives_has_it_alone(void **state)
{
    with_posix(state, in_use_body);
}

/* A process was killed as it made it, or was of another version. */
static void length_body(struct posix_fixture *fixture)
{
    char name[96];
    const off_t lengths[] = {0, 4096, LENGTH - 1, LENGTH * 3};
    make_image(fixture, SIZE);
    kept_name(fixture, name, sizeof(name));
    struct block_node *node = open_image(fixture, NULL);
    for (unsigned i = 0; i < 4; i++) {
        int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, LENGTH * 3), 0);
        assert_int_equal(pwrite(fd, "old", 3, 0), 3);
        assert_int_equal(ftruncate(fd, lengths[i]), 0);
        close(fd);
        assert_int_equal(co_try(fixture, node, true), -ENOENT);
        struct kept_memory *kept = co_keep(fixture, node);
        assert_false(kept->is_found);
        assert_int_equal(*(uint8_t *)kept->base, 0);
        kept_co_close(kept, true);
    }
    block_co_node_unref(node);
}

static void what_has_another_length_is_made_anew(void **state)
{
    with_posix(state, length_body);
}

static void strange_body(struct posix_fixture *fixture)
{
    char name[96], other[112];
    make_image(fixture, SIZE);
    kept_name(fixture, name, sizeof(name));
    snprintf(other, sizeof(other), "%s-other", name);

    assert_int_equal(symlink(fixture->path, name), 0);
    expect_refused(fixture, -ELOOP, name);
    assert_int_equal(unlink(name), 0);

    assert_int_equal(mkfifo(name, 0600), 0);
    expect_refused(fixture, -EINVAL, "not a regular file");
    assert_int_equal(unlink(name), 0);

    int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, LENGTH), 0);
    assert_int_equal(link(name, other), 0);
    expect_refused(fixture, -EPERM, "another name");
    assert_int_equal(unlink(other), 0);
    assert_int_equal(fchmod(fd, 0620), 0);
    expect_refused(fixture, -EPERM, "others may open it");
    assert_int_equal(fchmod(fd, 0600), 0);
    if (geteuid() == 0) {
        assert_int_equal(fchown(fd, 65534, 65534), 0);
        expect_refused(fixture, geteuid() == 0 ? -EPERM : -EACCES, "another user");
    }
    close(fd);
    assert_int_equal(unlink(name), 0);
    assert_int_equal(image_size(fixture), SIZE); /* the link led there */
}

static void what_is_not_ours_is_left_alone(void **state)
{
    with_posix(state, strange_body);
}

static void directory_body(struct posix_fixture *fixture)
{
    char name[96];
    make_image(fixture, SIZE);
    kept_name(fixture, name, sizeof(name));
    assert_int_equal(mkdir(name, 0700), 0);
    struct block_node *node = open_image(fixture, NULL);
    assert_int_equal(co_try(fixture, node, false), -EISDIR);
    assert_int_equal(co_try(fixture, node, true), -EINVAL);
    block_co_node_unref(node);
    assert_int_equal(rmdir(name), 0);
}

static void a_directory_is_refused(void **state)
{
    with_posix(state, directory_body);
}

static void host_body(struct posix_fixture *fixture)
{
    fixture->odd.files.kept_open = NULL;
    make_image(fixture, SIZE);
    struct block_node *node = open_image(fixture, NULL);
    assert_int_equal(co_try(fixture, node, false), -ENOTSUP);
    assert_int_equal(co_try(fixture, node, true), -ENOTSUP);
    block_co_node_unref(node);
    assert_false(is_there(fixture));
}

static void a_host_may_have_none(void **state)
{
    with_posix(state, host_body);
}

/* Two files of one name, one after the other, share nothing. */
static void replaced_body(struct posix_fixture *fixture)
{
    make_image(fixture, SIZE);
    struct block_node *node = open_image(fixture, NULL);
    struct kept_memory *kept = co_keep(fixture, node);
    char other[112];
    snprintf(other, sizeof(other), "%s.new", fixture->path);
    FILE *file = fopen(other, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(rename(other, fixture->path), 0);
    struct block_node *other_node = open_image(fixture, NULL);
    struct kept_memory *other_kept = co_keep(fixture, other_node);
    assert_false(other_kept->is_found);
    kept_co_close(other_kept, true);
    kept_co_close(kept, true);
    block_co_node_unref(other_node);
    block_co_node_unref(node);
}

static void another_file_has_its_own(void **state)
{
    with_posix(state, replaced_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_ends_leaves_nothing),
        cmocka_unit_test(who_is_killed_leaves_all),
        cmocka_unit_test(who_lives_has_it_alone),
        cmocka_unit_test(what_has_another_length_is_made_anew),
        cmocka_unit_test(what_is_not_ours_is_left_alone),
        cmocka_unit_test(a_directory_is_refused),
        cmocka_unit_test(a_host_may_have_none),
        cmocka_unit_test(another_file_has_its_own),
    };
    struct statfs system;
    if (statfs("/dev/shm", &system) < 0 || system.f_type != TMPFS_MAGIC ||
        access("/dev/shm", W_OK) < 0) {
        print_message("there is no tmpfs at /dev/shm\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
