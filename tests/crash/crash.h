/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_CRASH_CRASH_H
#define TESTS_CRASH_CRASH_H

/*
 * The power cut, for any format: what a format brings, and the words of this room.
 *
 * A *run* is made by one seed and one shape. An image is opened on disks in memory (disk.h), some
 * clients work on it, it is closed; everything that goes to the disks, and everything that clients
 * sent and were answered, is on one *tape* (tape.h), in one order. Then the tape is played: after
 * every change that begins, and after every answer to a flush or to a request with FUA, the power
 * is *cut*. What a disk may show then is a *survivor* (survivors.h): all that was flushed, and of
 * the rest any part, torn at 512 bytes. Each survivor is a *state*: it is opened, with whatever
 * repair that open makes, read to the last byte, held against the oracle of what was acknowledged
 * (tests/harness/oracle.h), and checked by the format's checker (judge.h); some by a foreign
 * program too. In some runs one of the survivors is what the next *life* begins with.
 *
 * To add a format, write its struct crash_format in a file format_NAME.c and list it in formats.c:
 * shapes, how an image of a shape is made, how it is opened. Everything else (requests, cuts, the
 * check by block_co_check(), faults, failing allocations) is here already. tests/crash/format_raw.c
 * is the smallest. A format with operations of its own (resize, snapshots) adds them as `steps`.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/random.h"

struct block_backend;
struct block_driver;
struct block_node;

/* What an image may lie on. The backing file is read alone, and holds the same in all states. */
enum crash_role { CRASH_FILE, CRASH_DATA_FILE, CRASH_BACKING, CRASH_ROLES };
#define CRASH_WRITTEN CRASH_BACKING /* roles before it are written, and cut */

/* What a disk holds at the beginning. */
struct crash_content {
    uint8_t *bytes; /* NULL: there is no such disk */
    uint64_t length;
};

#define CRASH_SHARE_USUAL 20

/* One way in which an image of the format may look. */
struct crash_shape {
    const char *name;    /* NULL ends the list */
    uint64_t disk_bytes; /* what a client sees; at most, where it resizes */
    uint32_t unit_bytes; /* requests like to begin and end at multiples of it: the cluster */
    const char *options; /* more of them for the open, "key=value,key=value"; or NULL */
    const struct block_driver *filter; /* above the image; or NULL */
    bool resizes;                      /* its client changes the size now and then */
    const char *bitmap; /* a dirty bitmap of it that says, unless it cannot be used, what was
                         * changed since the beginning (not asked where it resizes); or NULL */
    const char *still;  /* options with which it shows something that never changes, opened
                         * read-only ("load-snapshot=1"); or NULL */
    unsigned share;     /* of the states, against the others'; 0 is CRASH_SHARE_USUAL */
    const void *own;    /* the format's */
};

/* Of a slow one it is less. */
static inline unsigned crash_share_of(const struct crash_shape *shape)
{
    return shape->share ? shape->share : CRASH_SHARE_USUAL;
}

/* Something that a format can do besides reads and writes, in the middle of a workload. It may
 * change what a client sees only in ways that the oracle was told of: not at all, then. */
struct crash_step {
    const char *name;
    int (*co_run)(struct block_backend *backend, struct random *random, struct error *err);
};

struct crash_format {
    const char *name; /* of its driver */
    const struct block_driver *driver;
    const struct crash_shape *shapes; /* ended by a NULL name */

    /* Fills contents[] (memory by malloc(), the caller's from then on) with an image of that shape.
     * May make files in `folder`, which is empty, and run programs; not in a coroutine. Exits with
     * a sentence where it cannot. */
    void (*make)(const struct crash_shape *shape, const char *folder,
                 struct crash_content contents[CRASH_ROLES]);

    /* The options under which the disks are opened: "file." for most. NULL: no such disk. */
    const char *prefixes[CRASH_ROLES];

    /* Whether only an open for writing puts that image right, so that nobody else should look at it
     * before. NULL: never. */
    bool (*needs_repair)(const uint8_t *head, uint64_t length);

    /* Whether what was answered is there after a kill, flushed or not. NULL: never. */
    bool (*outlives_kill)(const struct crash_shape *shape);

    /* A command that says by its status, 0 or 3, that an image is good, and shares nothing with us:
     * "qemu-img check -f FORMAT"; NULL: there is none. The image's name comes behind it; the files
     * beside it are "data" and "backing", so make() calls them that too. */
    const char *foreign;

    const struct crash_step *steps; /* ended by a NULL name; NULL: none */
};

extern const struct crash_format crash_raw, crash_qcow2, crash_gow1;
extern const struct crash_format *const crash_formats[]; /* NULL-ended */

/* Which of them somebody asks for; NULL: all. */
struct crash_selection {
    const char *format, *shape;
};
struct crash_choice {
    const struct crash_format *format;
    const struct crash_shape *shape;
};
/* The next of them, behind that choice, or the first where it is all NULL; false: there is none. */
bool crash_next_shape(const struct crash_selection *selection, struct crash_choice *choice);

/* Of the command line, of the environment; or exits with a sentence. */
uint64_t crash_number(const char *text);
uint64_t crash_number_from(const char *name, uint64_t otherwise);

/* For make(): runs a command of the shell in the folder, or exits with what it printed. */
void crash_shell(const char *folder, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* For make(): the bytes of that file in the folder. */
struct crash_content crash_load(const char *folder, const char *name);

/* Memory for the tests' own use, never NULL, and never made to fail by a test. */
void *crash_alloc(size_t bytes); /* zeroed */
void *crash_realloc(void *memory, size_t bytes);

/* Prints the sentence and exits: the test itself cannot go on. */
void crash_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
