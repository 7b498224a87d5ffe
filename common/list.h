/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef COMMON_LIST_H
#define COMMON_LIST_H

/*
 * A doubly linked list whose links live inside the objects. The head is a link too, so that no
 * operation has a special case. A link that is on no list points at itself; link_init() makes it
 * so, and list_remove() leaves it so, so removing twice is harmless.
 */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

struct list_link {
    struct list_link *next, *prev;
};

struct list {
    struct list_link head;
};

#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

static inline void link_init(struct list_link *link)
{
    link->next = link->prev = link;
}

static inline bool link_is_listed(const struct list_link *link)
{
    return link->next != link;
}

static inline void list_init(struct list *list)
{
    link_init(&list->head);
}

static inline bool list_is_empty(const struct list *list)
{
    return list->head.next == &list->head;
}

/* Puts link, which is on no list, before the given one. */
static inline void list_insert_before(struct list_link *at, struct list_link *link)
{
    link->next = at;
    link->prev = at->prev;
    at->prev->next = link;
    at->prev = link;
}

static inline void list_append(struct list *list, struct list_link *link)
{
    list_insert_before(&list->head, link);
}

static inline void list_prepend(struct list *list, struct list_link *link)
{
    list_insert_before(list->head.next, link);
}

static inline void list_remove(struct list_link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link_init(link);
}

/* The first link, still listed, or NULL. */
static inline struct list_link *list_first(const struct list *list)
{
    return list_is_empty(list) ? NULL : list->head.next;
}

/* Takes the first link off the list; NULL when there is none. */
static inline struct list_link *list_pop(struct list *list)
{
    struct list_link *link = list_first(list);
    if (link)
        list_remove(link);
    return link;
}

/* Appends all of from to list; from is empty afterwards. */
static inline void list_move_all(struct list *list, struct list *from)
{
    if (list_is_empty(from))
        return;
    from->head.next->prev = list->head.prev;
    list->head.prev->next = from->head.next;
    from->head.prev->next = &list->head;
    list->head.prev = from->head.prev;
    list_init(from);
}

/* The loop body may remove the link it is at, and no other. */
#define list_for_each(link, list)                                               \
    for (struct list_link *link = (list)->head.next, *link##_next = link->next; \
         link != &(list)->head; link = link##_next, link##_next = link->next)

#endif
