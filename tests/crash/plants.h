/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_CRASH_PLANTS_H
#define TESTS_CRASH_PLANTS_H

/*
 * Planted bugs, to see that the tests find them. The product has no switch for that: the linker
 * sends calls between its files to the functions in plants.c (--wrap in meson.build), which do what
 * a broken format or cache would do while a plant is active, and else what was asked for.
 */

enum crash_plant {
    PLANT_NONE,
    PLANT_REFCOUNT_AFTER_L2,    /* a pointer is written before the count of what it points to */
    PLANT_L2_BEFORE_DATA,       /* and before copied data is durable */
    PLANT_L1_BEFORE_L2,         /* an L1 entry before the table that it points to */
    PLANT_EARLY_REUSE,          /* a freed cluster has a new owner at once */
    PLANT_LATE_PUNCH,           /* a hole is punched when its cluster has a new owner */
    PLANT_DETACHED_PUNCH,       /* the same: nobody waits for the hole */
    PLANT_TORN_HEADER,          /* a header's field is written in two pieces */
    PLANT_LYING_FLUSH,          /* a flush is answered and not made */
    PLANT_EARLY_DECREMENT,      /* a count goes down before the removal of the pointer is durable */
    PLANT_CHANGING_SLOT,        /* a table is written while it changes */
    PLANT_NO_GRACE,             /* a freed cluster has a new owner while somebody still reads it */
    PLANT_MAP_BEFORE_ALLOCATED, /* of gow1: an entry is written before the count of its block */
    PLANT_STALE_BLOCK,          /* of gow1: a block that was used once is taken for a fresh one */
    PLANT_STORE_NOT_LOGGED,     /* now and then a change of a table is not in the redo log */
    PLANT_EARLY_TRIM,           /* a round that begins takes its changes out of it */
    PLANT_FORGET_NOT_LOGGED,    /* what was a table is written once more over what is there now */
    PLANT_REPLAY_BACKWARD,      /* pointers are replayed before what they point to */
    PLANT_COUNT,
};

/* Active from now on; one at a time. */
void crash_plant(enum crash_plant plant);

#endif
