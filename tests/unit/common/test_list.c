/* SPDX-License-Identifier: BSD-3-Clause */
/* list.h: order, removal while walking, and moving whole lists. */
#include "tests/unit/unit.h"

#include "common/list.h"

struct item {
    int number;
    struct list_link link;
};

static int pop_number(struct list *list)
{
    struct list_link *link = list_pop(list);
    return link ? container_of(link, struct item, link)->number : -1;
}

static void items_leave_in_the_order_they_came(void **state)
{
    (void)state;
    struct list list;
    struct item items[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
    list_init(&list);
    list_append(&list, &items[1].link);
    list_append(&list, &items[2].link);
    list_prepend(&list, &items[0].link);
    assert_int_equal(pop_number(&list), 0);
    assert_int_equal(pop_number(&list), 1);
    assert_int_equal(pop_number(&list), 2);
    assert_int_equal(pop_number(&list), -1);
    assert_false(link_is_listed(&items[1].link));
}

static void the_current_item_may_be_removed_while_walking(void **state)
{
    (void)state;
    struct list list;
    struct item items[4];
    int sum = 0;
    list_init(&list);
    for (int i = 0; i < 4; i++) {
        items[i].number = i;
        list_append(&list, &items[i].link);
    }
    list_for_each (link, &list) {
        struct item *item = container_of(link, struct item, link);
        sum += item->number;
        if (item->number % 2)
            list_remove(link);
    }
    assert_int_equal(sum, 6);
    list_remove(&items[1].link); /* a second time: harmless */
    assert_int_equal(pop_number(&list), 0);
    assert_int_equal(pop_number(&list), 2);
    assert_true(list_is_empty(&list));
}

static void moving_a_list_keeps_order_and_empties_the_source(void **state)
{
    (void)state;
    struct list to, from;
    struct item items[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
    list_init(&to);
    list_init(&from);
    list_move_all(&to, &from);
    assert_true(list_is_empty(&to));
    list_append(&to, &items[0].link);
    list_append(&from, &items[1].link);
    list_append(&from, &items[2].link);
    list_move_all(&to, &from);
    assert_true(list_is_empty(&from));
    for (int i = 0; i < 3; i++)
        assert_int_equal(pop_number(&to), i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_leave_in_the_order_they_came),
        cmocka_unit_test(the_current_item_may_be_removed_while_walking),
        cmocka_unit_test(moving_a_list_keeps_order_and_empties_the_source),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
