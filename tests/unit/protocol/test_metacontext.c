/* SPDX-License-Identifier: BSD-3-Clause */
/* metacontext.c: what a query selects, and what it lists. */
#include "tests/unit/unit.h"

#include "protocol/metacontext.h"

#include <string.h>

static const char *const contexts[] = {"base:allocation",
                                       "qemu:dirty-bitmap:a",
                                       "qemu:dirty-bitmap:b",
                                       "qemu:allocation-depth",
                                       "qemu:dirty-bitmap:b:",
                                       "qemu:dirty-bitmap:b:c",
                                       NULL};

static void set_selects_a_whole_name_and_list_also_a_whole_namespace(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        uint64_t selected, listed;
    } table[] = {
        {"base:allocation", 1, 1},
        {"base:", 0, 1},
        {"base:alloc", 0, 0},
        {"base:allocation2", 0, 0},
        {"qemu:", 0, 2 | 4 | 8 | 16 | 32},
        {"qemu:dirty-bitmap:", 0, 2 | 4 | 16 | 32},
        {"qemu:dirty-bitmap:b:", 16, 16}, /* a bitmap of that name, and no namespace */
        {"qemu:dirty-bitmap", 0, 0},
        {"qemu:dirty-bitmap:b", 4, 4},
        {"qemu:dirty-bitmap:c", 0, 0},
        {"x-else:", 0, 0},
        {"x-else:base:allocation", 0, 0},
        {"", 0, 0},
        {":", 0, 0},
        {"base", 0, 0},
        {"Base:allocation", 0, 0},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const char *query = table[i].query;
        assert_int_equal(metacontext_select(contexts, query, strlen(query)), table[i].selected);
        assert_int_equal(metacontext_list(contexts, query, strlen(query)), table[i].listed);
    }
}

static void an_export_without_contexts_has_none(void **state)
{
    (void)state;
    assert_int_equal(metacontext_count(NULL), 0);
    assert_int_equal(metacontext_select(NULL, "base:allocation", 15), 0);
    assert_int_equal(metacontext_list(NULL, "base:", 5), 0);
}

static void ids_are_unique_and_never_zero(void **state)
{
    (void)state;
    for (unsigned i = 0; i < METACONTEXTS_MAX; i++) {
        assert_int_not_equal(metacontext_id(i), 0);
        for (unsigned j = 0; j < i; j++)
            assert_int_not_equal(metacontext_id(i), metacontext_id(j));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_selects_a_whole_name_and_list_also_a_whole_namespace),
        cmocka_unit_test(an_export_without_contexts_has_none),
        cmocka_unit_test(ids_are_unique_and_never_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
