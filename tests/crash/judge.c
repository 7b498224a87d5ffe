/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/crash/judge.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/chain.h"
#include "block/dirty_bitmap.h"
#include "block/driver.h"

#define SENTENCE_BYTES 256

/* --- by a program that shares nothing with us ---------------------------------------------------
 *
 * The disks are written to files in one folder, under the names that make() gave them: the image
 * says "data" and "backing" where it names others.
 */

static const char *const file_names[CRASH_ROLES] = {"image", "data", "backing"};

static char folder[] = "/tmp/platter-crash-XXXXXX";
static bool has_folder;

static void remove_folder(void)
{
    crash_shell("/", "rm -rf '%s'", folder);
}

static void write_file(unsigned role, const struct crash_disk *disk)
{
    char path[64];
    snprintf(path, sizeof(path), "%s/%s", folder, file_names[role]);
    FILE *file = fopen(path, "we");
    if (!file || fwrite(disk->bytes, 1, disk->size_bytes, file) != disk->size_bytes ||
        fclose(file) != 0)
        crash_die("cannot write %s", path);
}

const char *crash_foreign_findings(const struct crash_bench *bench, const struct crash_disk *disks)
{
    static char text[1024];
    char command[256];
    if (!bench->format->foreign)
        return NULL;
    if (!has_folder) {
        if (!mkdtemp(folder))
            crash_die("cannot make the folder %s", folder);
        has_folder = true;
        atexit(remove_folder);
    }
    for (unsigned i = 0; i < bench->disk_count; i++)
        write_file(i, &disks[i]);
    if (bench->has_backing)
        write_file(CRASH_BACKING, &bench->backing);
    snprintf(command, sizeof(command), "cd '%s' && %s image 2>&1", folder, bench->format->foreign);
    FILE *output = popen(command, "re");
    if (!output)
        crash_die("cannot run %s", command);
    size_t length = fread(text, 1, sizeof(text) - 1, output);
    text[length] = '\0';
    int status = pclose(output);
    bool is_good = WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3);
    return is_good ? NULL : text;
}

/* --- by us --------------------------------------------------------------------------------------
 */

static void bad(struct crash_judging *judging, const char *what, const char *why)
{
    sim_fail(judging->oracle->sim, "%s: %s", what, why);
}

static bool may_have_size(const struct crash_sizes *sizes, uint64_t size_bytes)
{
    for (unsigned i = 0; i < sizes->count; i++)
        if (sizes->all[i] == size_bytes)
            return true;
    return false;
}

/* What differs from the beginning is in the bitmap, or the bitmap says that it is not to be used.
 */
static void co_check_bitmap(struct crash_judging *judging, struct block_node *node,
                            const uint8_t *bytes, uint64_t length)
{
    const struct crash_bench *bench = judging->bench;
    const struct dirty_bitmap *bitmap;
    struct error err = {.message = ""};
    uint64_t piece;
    int rc = chain_co_find_bitmap(node, bench->shape->bitmap, &bitmap, &err);
    if (rc < 0 && (rc != -EINVAL || !strstr(err.message, "inconsistent")))
        bad(judging, "its bitmap", err.message);
    for (uint64_t at = 0; at < length && rc == 0; at += piece) {
        if (!dirty_bitmap_look(bitmap, at, length - at, &piece) &&
            memcmp(bytes + at, bench->first + at, piece) != 0) {
            bad(judging, "what was changed", "is clean in its bitmap");
            return;
        }
    }
}

/* As a read of all of it when the server was killed. */
static void check_as_read(struct oracle *oracle, const uint8_t *bytes)
{
    struct oracle_view view;
    oracle_view_open(oracle, &view, 0, oracle->size_bytes);
    oracle_view_check(oracle, &view, bytes, "after the kill");
    oracle_view_close(&view);
}

/* What the disk shows. */
static void co_check_bytes(struct crash_judging *judging, struct block_node *node)
{
    uint8_t *bytes;
    uint64_t length, whole = judging->oracle->size_bytes;
    int rc = crash_co_read_all(node, &bytes, &length);
    if (rc < 0) {
        bad(judging, "it cannot be read", error_text(rc));
        return;
    }
    if (!may_have_size(judging->sizes, length)) {
        bad(judging, "it has another size", "");
    } else {
        bytes = crash_realloc(bytes, whole + 1);
        memset(bytes + length, 0, whole - length);
        if (judging->was_killed)
            check_as_read(judging->oracle, bytes);
        else
            oracle_check_survivor(judging->oracle, bytes); /* its rule 8 */
        if (judging->bench->shape->bitmap && !judging->bench->shape->resizes)
            co_check_bitmap(judging, node, bytes, length);
    }
    judging->size_bytes = length;
    if (judging->keeps_bytes)
        judging->bytes = bytes;
    else
        free(bytes);
}

/* The first sentence that is about more than a leak. */
static void keep_first(void *arg, const char *sentence)
{
    char *first = arg;
    if (!*first && strncmp(sentence, "leaked", 6) != 0)
        snprintf(first, SENTENCE_BYTES, "%s", sentence);
}

static void co_check_format(struct crash_judging *judging, struct block_node *node)
{
    char first[SENTENCE_BYTES] = "";
    struct block_check check = {.errors = 0};
    struct error err = {.message = ""};
    if (judging->bench->shape->filter)
        node = node->file;
    int rc = block_co_check(node, keep_first, first, &check, &err);
    if (rc == -ENOTSUP) /* a format without a structure */
        return;
    if (rc < 0)
        bad(judging, "it cannot be checked", err.message);
    else if (check.errors > 0 || check.unreadable > 0)
        bad(judging, "the check says", first);
    judging->verdicts->leaks_last = check.leaks;
    judging->verdicts->leaky += check.leaks > 0;
    if (check.leaks > judging->verdicts->leaks_max)
        judging->verdicts->leaks_max = check.leaks;
}

static void co_check_still(struct crash_judging *judging)
{
    const struct crash_bench *bench = judging->bench;
    struct block_node *node;
    struct error err = {.message = ""};
    uint8_t *bytes;
    uint64_t length;
    struct crash_open how = {.disks = judging->disks,
                             .alignment = judging->alignment,
                             .read_only = true,
                             .more = bench->shape->still};
    if (crash_bench_co_open(judging->bench, &how, &node, &err) < 0) {
        bad(judging, bench->shape->still, err.message);
        return;
    }
    if (crash_co_read_all(node, &bytes, &length) < 0) {
        bad(judging, bench->shape->still, "cannot be read");
    } else {
        if (length != bench->still_bytes || memcmp(bytes, bench->still, length) != 0)
            bad(judging, bench->shape->still, "what must not change has changed");
        free(bytes);
    }
    block_co_node_unref(node);
}

static void co_judge(void *arg)
{
    struct crash_judging *judging = arg;
    struct block_node *node;
    struct error err = {.message = ""};
    struct crash_open how = {.disks = judging->disks, .alignment = judging->alignment};
    crash_forget_logged();
    if (crash_bench_co_open(judging->bench, &how, &node, &err) < 0) {
        bad(judging, "it cannot be opened", err.message);
        return;
    }
    co_check_bytes(judging, node);
    co_check_format(judging, node);
    block_co_node_unref(node);
    if (judging->bench->shape->still)
        co_check_still(judging);
    if (*crash_logged_error())
        bad(judging, "an error was logged", crash_logged_error());
}

static bool may_be_seen(const struct crash_judging *judging)
{
    const struct crash_format *format = judging->bench->format;
    const struct crash_disk *file = &judging->disks[CRASH_FILE];
    return !format->needs_repair || !format->needs_repair(file->bytes, file->size_bytes);
}

static void judge_foreign(struct crash_judging *judging, const char *when)
{
    const char *text = crash_foreign_findings(judging->bench, judging->disks);
    judging->verdicts->foreign++;
    if (text)
        sim_fail(judging->oracle->sim, "%s, %s: %s", judging->bench->format->foreign, when, text);
}

bool crash_judge_image(struct crash_judging *judging)
{
    bool is_foreign = judging->foreign_once_in > 0 && judging->bench->format->foreign &&
                      judging->verdicts->states % judging->foreign_once_in == 0;
    judging->verdicts->states++;
    if (is_foreign && may_be_seen(judging))
        judge_foreign(judging, "before we opened it");
    crash_bench_run(judging->bench, co_judge, judging);
    if (is_foreign)
        judge_foreign(judging, "after we closed it");
    return !sim_failed(judging->oracle->sim);
}
