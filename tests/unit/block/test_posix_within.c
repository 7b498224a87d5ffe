/* SPDX-License-Identifier: BSD-3-Clause */
/* Where a file really lies decides, not how its name is spelled. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/posix.h"

static char folder[64];

static void make_file(const char *name)
{
    int fd = open(name, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static int make_tree(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/platter-within-XXXXXX");
    assert_non_null(mkdtemp(folder));
    assert_int_equal(chdir(folder), 0);
    mkdir("in", 0700);
    mkdir("in/sub", 0700);
    mkdir("inside-by-name-alone", 0700);
    mkdir("out", 0700);
    make_file("in/file");
    make_file("in/sub/file");
    make_file("out/file");
    make_file("inside-by-name-alone/file");
    assert_int_equal(symlink("sub/file", "in/stays"), 0);
    assert_int_equal(symlink("../out/file", "in/leaves"), 0);
    assert_int_equal(symlink("../out", "in/away"), 0);
    assert_int_equal(symlink("in", "link-to-in"), 0);
    assert_int_equal(symlink("loop", "in/loop"), 0);
    return 0;
}

static int remove_tree(void **state)
{
    char command[128];
    (void)state;
    assert_int_equal(chdir("/"), 0);
    snprintf(command, sizeof(command), "rm -r %s", folder);
    return system(command);
}

static int open_in(const char *path, const char *within, const char *allowed)
{
    int fd = posix_open_within(&host_files_linux, path, within, allowed, O_RDONLY);
    if (fd < 0)
        return fd;
    close(fd);
    return 0;
}

static void skip_without_openat2(void)
{
    if (open_in("in/file", "in", NULL) == -ENOSYS)
        skip_because("this kernel, or valgrind before it, does not know openat2");
}

static void any_spelling_of_a_file_inside_is_opened(void **state)
{
    (void)state;
    char absolute[128];
    skip_without_openat2();
    snprintf(absolute, sizeof(absolute), "%s/in/file", folder);
    assert_int_equal(open_in("in/file", "in", NULL), 0);
    assert_int_equal(open_in("in/file", "in/", NULL), 0);
    assert_int_equal(open_in("in/sub/../file", "in", NULL), 0);
    assert_int_equal(open_in("out/../in/sub/file", "in", NULL), 0);
    assert_int_equal(open_in("in/stays", "in", NULL), 0);
    assert_int_equal(open_in(absolute, "in", NULL), 0);
    assert_int_equal(open_in("in/file", "link-to-in", NULL), 0);
    assert_int_equal(open_in("link-to-in/file", "in", NULL), 0);
    assert_int_equal(open_in("in/file", "/", NULL), 0);
    assert_int_equal(open_in("out/file", NULL, NULL), 0); /* not bound to anything */
}

static void a_file_outside_is_refused_whatever_leads_there(void **state)
{
    (void)state;
    assert_int_equal(open_in("out/file", "in", NULL), -EXDEV);
    assert_int_equal(open_in("in/../out/file", "in", NULL), -EXDEV);
    assert_int_equal(open_in("in/leaves", "in", NULL), -EXDEV);
    assert_int_equal(open_in("in/away/file", "in", NULL), -EXDEV);
    assert_int_equal(open_in("/etc/passwd", "in", NULL), -EXDEV);
    assert_int_equal(open_in("inside-by-name-alone/file", "in", NULL), -EXDEV);
    assert_int_equal(open_in("in/gone", "in", NULL), -ENOENT);
    assert_int_equal(open_in("in/loop", "in", NULL), -ELOOP);
}

static void directories_that_were_allowed_count_as_well(void **state)
{
    (void)state;
    skip_without_openat2();
    assert_int_equal(open_in("in/leaves", "in", "out"), 0);
    assert_int_equal(open_in("in/leaves", "in", "nowhere:out"), 0);
    assert_int_equal(open_in("in/leaves", "in", "out:nowhere"), 0);
    assert_int_equal(open_in("in/leaves", "in", ":in/sub::"), -EXDEV);
    assert_int_equal(open_in("in/leaves", "in", ""), -EXDEV);
}

static void a_refusal_says_what_would_allow_it(void **state)
{
    struct error err;
    char sentence[512];
    (void)state;
    assert_int_equal(posix_refuse_outside(&host_files_linux, "in/leaves", "in", &err), -EPERM);
    snprintf(sentence, sizeof(sentence),
             "cannot open 'in/leaves', which an image names: it lies outside of 'in', that image's "
             "directory; say --allow-path=%s/out to allow it",
             folder);
    assert_string_equal(err.message, sentence);
}

static void a_host_that_cannot_tell_opens_nothing(void **state)
{
    struct host_files files = host_files_linux;
    (void)state;
    files.open_beneath = NULL;
    assert_int_equal(posix_open_within(&files, "in/file", "in", NULL, O_RDONLY), -ENOSYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_spelling_of_a_file_inside_is_opened),
        cmocka_unit_test(a_file_outside_is_refused_whatever_leads_there),
        cmocka_unit_test(directories_that_were_allowed_count_as_well),
        cmocka_unit_test(a_refusal_says_what_would_allow_it),
        cmocka_unit_test(a_host_that_cannot_tell_opens_nothing),
    };
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
