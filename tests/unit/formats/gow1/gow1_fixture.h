/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_FORMATS_GOW1_GOW1_FIXTURE_H
#define TESTS_UNIT_FORMATS_GOW1_GOW1_FIXTURE_H

/* What unit tests of an open gow1 image stand on. */

#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/gow1/memory_gow1.h"

/* "growing", whose rights can be changed, and gow1; NULL-ended. */
const struct block_driver *const *gow_drivers(void);

/* Opens it as fixture->node; extra: "key", "value", ..., NULL. Fails the test where it fails. */
void gow_co_open(struct fixture *fixture, const char *const *extra);
/* It must not open, and say so. */
void gow_co_refuse(struct fixture *fixture, const char *const *extra, const char *why);
#define GOW_EXTRA(...) ((const char *const[]){__VA_ARGS__, NULL})
#define GOW_PLAIN ((const char *const[]){NULL})

/* A test of an image of `size` blocks, in a file that may have `blocks`: co_name(fixture, NULL). */
#define GOW_TEST(name, size, blocks)                                                          \
    static void name(void **state)                                                            \
    {                                                                                         \
        struct fixture fixture;                                                               \
        (void)state;                                                                          \
        fixture_init(&fixture, gow_drivers(), 0, GOW_DATA + (uint64_t)(blocks)*GOW_BLOCK, 1); \
        gow_make(&fixture.disk, size);                                                        \
        fixture_run(&fixture, co_##name, NULL);                                               \
        fixture_fini(&fixture);                                                               \
    }

#endif
