/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who else uses this image? Told by locks on single bytes of the file itself, at the places that
 * qemu uses (seen by strace of qemu 7.2), so that its programs and ours keep out of each other's
 * images:
 *
 *   100 + right   a user of the file has this right to it
 *   200 + right   a user of the file allows nobody else this right
 *
 * All locks are shared ones: any number of users may say the same. Each first says what it is, and
 * then looks for a contradiction, in this order, so that of two that come together at least one
 * sees the other. The bytes need not exist, and what is in them does not matter.
 *
 * A writer here has all rights but "write unchanged", and allows no other writer, nor a change of
 * size. So does a reader: what it serves shall not change under its client's hands. (qemu's own raw
 * images are more generous, and let several writers in; so two qemu-nbd on one raw image get on
 * with each other, but not with us.) Reading is forbidden to nobody: qemu's --force-share still
 * reads.
 *
 * The locks belong to the open file description, not to the process: they go with the main
 * descriptor, by whatever end, and no other open and close of the file touches them.
 *
 * They may outlive the process for a moment: the kernel takes an io_uring apart after its process
 * has ended, and what it was about to write holds the file open until then. A server that is
 * started right after its predecessor was killed would be refused for the sake of the dead. So a
 * lock that no living process is seen to hold is waited for, for two seconds; one whose holder is
 * seen is refused at once. (The processes of another user are not seen into: what those hold is
 * waited for too, and then refused.)
 */
#include "block/posix.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "common/log.h"

enum right {
    RIGHT_READ = 0, /* what is read makes sense */
    RIGHT_WRITE = 1,
    /* 2 is to write what is there already; a format's repair may want it */
    RIGHT_RESIZE = 3,
};

#define RIGHTS_END 4
#define RIGHT_USED_BYTE 100
#define RIGHT_FORBIDDEN_BYTE 200

#define DEAD_HOLDER_TRIES 2000
#define DEAD_HOLDER_PAUSE_NS 1000000

#define MASK(right) (1u << (right))
#define READER_USES MASK(RIGHT_READ)
/* A write past the end makes the file longer. */
#define WRITER_USES (MASK(RIGHT_READ) | MASK(RIGHT_WRITE) | MASK(RIGHT_RESIZE))
#define FORBIDDEN (MASK(RIGHT_WRITE) | MASK(RIGHT_RESIZE))

static int lock_bytes(struct host_files *files, int fd, unsigned first, unsigned rights)
{
    int ret = 0;
    for (unsigned right = 0; right < RIGHTS_END && ret == 0; right++) {
        if (!(rights & MASK(right)))
            continue;
        do {
            ret = files->lock(files, fd, first + right);
        } while (ret == -EINTR);
    }
    return ret;
}

/* 1: held, and *ret_byte says which; 0: none of them. */
static int find_held(struct host_files *files, int fd, unsigned first, unsigned rights,
                     unsigned *ret_byte)
{
    int ret = 0;
    for (unsigned right = 0; right < RIGHTS_END && ret == 0; right++) {
        if (!(rights & MASK(right)))
            continue;
        do {
            ret = files->lock_is_held(files, fd, first + right);
        } while (ret == -EINTR);
        *ret_byte = first + right;
    }
    return ret;
}

static int find_contradiction(struct host_files *files, int fd, unsigned uses, unsigned *ret_byte)
{
    /* Another writer first: read-only would not help against it. */
    int ret = find_held(files, fd, RIGHT_USED_BYTE, FORBIDDEN, ret_byte);
    return ret == 0 ? find_held(files, fd, RIGHT_FORBIDDEN_BYTE, uses, ret_byte) : ret;
}

/* The same, once a holder that is dead had the time to go. */
static int find_lasting_contradiction(struct host_files *files, int fd, unsigned uses,
                                      const char *path, unsigned *ret_byte)
{
    const struct timespec pause = {.tv_nsec = DEAD_HOLDER_PAUSE_NS};
    char holder[80];
    int ret = find_contradiction(files, fd, uses, ret_byte);
    if (ret != 1 || files->lock_holder(files, fd, *ret_byte, holder, sizeof(holder)))
        return ret;
    unsigned tries = 0;
    for (; tries < DEAD_HOLDER_TRIES && ret == 1; tries++) {
        nanosleep(&pause, NULL);
        ret = find_contradiction(files, fd, uses, ret_byte);
    }
    log_verbose("'%s': waited for the locks of a process that is gone, %u ms or more", path, tries);
    return ret;
}

static int refuse(struct host_files *files, int fd, unsigned byte, const char *path,
                  struct error *err)
{
    char holder[80];
    files->lock_holder(files, fd, byte, holder, sizeof(holder));
    if (byte < RIGHT_FORBIDDEN_BYTE)
        return error_set(err, -EBUSY,
                         "cannot open '%s': it is in use, %s writes it; stop that first", path,
                         holder);
    if (byte == RIGHT_FORBIDDEN_BYTE + RIGHT_READ)
        return error_set(err, -EBUSY,
                         "cannot open '%s': it is in use, %s lets nobody else read it; stop that "
                         "first",
                         path, holder);
    return error_set(err, -EBUSY,
                     "cannot open '%s' for writing: it is in use, %s lets nobody else write it; "
                     "stop that first, or serve it with --read-only",
                     path, holder);
}

static int no_locks(enum posix_locking locking, const char *path, const char *why,
                    struct error *err)
{
    if (locking == POSIX_LOCKING_ON)
        return error_set(err, -ENOTSUP,
                         "cannot lock '%s': %s; with locking=auto it is served without a lock",
                         path, why);
    log_verbose("'%s' is served without a lock: %s", path, why);
    return 0;
}

static int say(struct host_files *files, int fd, unsigned uses)
{
    int ret = lock_bytes(files, fd, RIGHT_USED_BYTE, uses);
    return ret == 0 ? lock_bytes(files, fd, RIGHT_FORBIDDEN_BYTE, FORBIDDEN) : ret;
}

/* ret: of say() and what came after it. */
static int judge(struct host_files *files, int fd, int ret, unsigned byte,
                 enum posix_locking locking, const char *path, struct error *err)
{
    if (ret == -ENOTSUP)
        return no_locks(locking, path, "its file system has no locks", err);
    if (ret == 1 || ret == -EAGAIN) /* -EAGAIN: a program that is not of this house has all of it */
        return refuse(files, fd, byte, path, err);
    if (ret < 0)
        return error_set(err, ret, "cannot lock '%s': %s; with locking=off it is served without",
                         path, error_text(ret));
    return 0;
}

int posix_lock_file(struct host_files *files, int fd, enum posix_locking locking, bool for_writing,
                    const char *path, struct error *err)
{
    unsigned uses = for_writing ? WRITER_USES : READER_USES;
    unsigned byte = RIGHT_USED_BYTE;
    if (locking == POSIX_LOCKING_OFF)
        return 0;
    if (!files->lock)
        return no_locks(locking, path, "its host has no locks", err);
    int ret = say(files, fd, uses);
    if (ret == 0)
        ret = find_lasting_contradiction(files, fd, uses, path, &byte);
    return judge(files, fd, ret, byte, locking, path, err);
}

static void unlock_bytes(struct host_files *files, int fd, unsigned first, unsigned rights)
{
    for (unsigned right = 0; right < RIGHTS_END; right++) {
        if (rights & MASK(right))
            files->unlock(files, fd, first + right); /* a lock that is not there stays so */
    }
}

void posix_unlock_file(struct host_files *files, int fd, enum posix_locking locking,
                       bool for_writing)
{
    if (locking == POSIX_LOCKING_OFF || !files->lock)
        return;
    unlock_bytes(files, fd, RIGHT_FORBIDDEN_BYTE, FORBIDDEN);
    unlock_bytes(files, fd, RIGHT_USED_BYTE, for_writing ? WRITER_USES : READER_USES);
}

/* Looks for others who contradict, without the one who is ourselves: what replaced_fd forbids is
 * let go for that moment, which nobody can use, since fd forbids the same. */
static int find_other_contradiction(struct host_files *files, int fd, int replaced_fd,
                                    unsigned uses, const char *path, unsigned *ret_byte)
{
    int ret = 0;
    for (unsigned right = 0; right < RIGHTS_END && ret == 0; right++) {
        if (FORBIDDEN & MASK(right))
            ret = files->unlock(files, replaced_fd, RIGHT_FORBIDDEN_BYTE + right);
    }
    if (ret == 0)
        ret = find_lasting_contradiction(files, fd, uses, path, ret_byte);
    if (lock_bytes(files, replaced_fd, RIGHT_FORBIDDEN_BYTE, FORBIDDEN) < 0)
        log_warning("'%s': its lock could not be taken again", path);
    return ret;
}

int posix_lock_again(struct host_files *files, int fd, int replaced_fd, bool replaces_writer,
                     enum posix_locking locking, bool for_writing, const char *path,
                     struct error *err)
{
    unsigned uses = for_writing ? WRITER_USES : READER_USES;
    unsigned byte = RIGHT_USED_BYTE;
    if (locking == POSIX_LOCKING_OFF)
        return 0;
    if (!files->lock)
        return no_locks(locking, path, "its host has no locks", err);
    int ret = say(files, fd, uses);
    /* Who has the rights already has looked, and has kept the others out since. */
    if (ret == 0 && for_writing && !replaces_writer)
        ret = find_other_contradiction(files, fd, replaced_fd, uses, path, &byte);
    return judge(files, fd, ret, byte, locking, path, err);
}
