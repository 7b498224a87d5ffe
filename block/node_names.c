/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/node_names.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "block/env.h"
#include "block/graph.h"
#include "block/node.h"
#include "block/node_options.h"

void node_names_init(struct node_names *names)
{
    pthread_mutex_init(&names->mutex, NULL);
    list_init(&names->list);
}

void node_names_fini(struct node_names *names)
{
    assert(list_is_empty(&names->list));
    pthread_mutex_destroy(&names->mutex);
}

/* By ASCII alone, whatever the locale. */
static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_well_formed(const char *name)
{
    if (!is_letter(*name) || strlen(name) > NODE_NAME_MAX)
        return false;
    for (; *name; name++) {
        if (!is_letter(*name) && !(*name >= '0' && *name <= '9') && !strchr("-._", *name))
            return false;
    }
    return true;
}

/* With the mutex. */
static struct block_node *find(const struct node_names *names, const char *name)
{
    list_for_each (link, &names->list) {
        struct block_node *node = container_of(link, struct block_node, names_link);
        if (strcmp(node->node_name, name) == 0)
            return node;
    }
    return NULL;
}

/* Whether it was free. */
static bool give(struct block_node *node, const char *name)
{
    struct node_names *names = &node->env->node_names;
    pthread_mutex_lock(&names->mutex);
    bool is_free = !find(names, name);
    if (is_free) {
        memcpy(node->node_name, name, strlen(name) + 1);
        list_append(&names->list, &node->names_link);
    }
    pthread_mutex_unlock(&names->mutex);
    return is_free;
}

int node_names_take(struct block_node *node, struct node_options *options, struct error *err)
{
    const char *name = NULL;
    assert(!*node->node_name);
    int rc = node_options_take_string(options, "node-name", &name, err);
    if (rc < 0 || !name)
        return rc;
    if (!is_well_formed(name))
        return node_options_refuse(options, "node-name", -EINVAL, err,
                                   "'%.100s' is no name; begin with a letter, and go on with "
                                   "letters, digits, '-', '.' and '_', at most %d in all",
                                   name, NODE_NAME_MAX);
    if (!give(node, name))
        return node_options_refuse(options, "node-name", -EINVAL, err,
                                   "another node is called '%s'; each node has its own name", name);
    return 0;
}

void node_names_publish(struct block_node *node)
{
    struct node_names *names = &node->env->node_names;
    if (!*node->node_name)
        return;
    pthread_mutex_lock(&names->mutex);
    node->is_published = true;
    pthread_mutex_unlock(&names->mutex);
}

void node_names_remove(struct block_node *node)
{
    struct node_names *names = &node->env->node_names;
    if (!*node->node_name)
        return;
    pthread_mutex_lock(&names->mutex);
    list_remove(&node->names_link);
    pthread_mutex_unlock(&names->mutex);
}

/* False: the last reference is gone, and the node is being closed. */
static bool try_ref(struct block_node *node)
{
    unsigned references = atomic_load(&node->references);
    while (references > 0) {
        if (atomic_compare_exchange_weak(&node->references, &references, references + 1))
            return true;
    }
    return false;
}

struct block_node *graph_find_node(struct block_env *env, const char *name)
{
    struct node_names *names = &env->node_names;
    pthread_mutex_lock(&names->mutex);
    struct block_node *node = find(names, name);
    if (node && (!node->is_published || !try_ref(node)))
        node = NULL;
    pthread_mutex_unlock(&names->mutex);
    return node;
}
