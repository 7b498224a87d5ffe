/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/objects.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/node_options.h"

static const struct object_type *const types[] = {
    &object_throttle_group,
    NULL,
};

struct object {
    struct list_link link;
    const struct object_type *type;
    char *id;
    void *state;
};

void objects_init(struct objects *objects, struct block_env *env, const char *option)
{
    objects->env = env;
    objects->option = option;
    list_init(&objects->list);
}

static void object_free(struct object *object)
{
    if (object->state)
        object->type->free(object->state);
    list_remove(&object->link);
    free(object->id);
    free(object);
}

/* Last made first gone: a later one may have been told of an earlier. */
void objects_fini(struct objects *objects)
{
    if (!objects->env)
        return;
    while (!list_is_empty(&objects->list))
        object_free(container_of(objects->list.head.prev, struct object, link));
}

/* --- from a text to options --------------------------------------------------------------------
 */

/* "TYPE,key=value": the type is a word without a key, as in qemu. */
static int parse_text(const char *text, struct node_options *options, struct error *err)
{
    size_t length = strcspn(text, "=,");
    if (text[length] == '=')
        return node_options_parse(options, text, err);
    char *type = strndup(text, length);
    if (!type)
        return error_set(err, -ENOMEM, "no memory for the object");
    int rc = node_options_parse(options, text[length] ? text + length + 1 : "", err);
    if (rc == 0 && node_options_has(options, "qom-type"))
        rc = error_set(err, -EINVAL, "the type is given twice, as '%.100s' and as qom-type", type);
    if (rc == 0)
        rc = node_options_set(options, "qom-type", type, err);
    free(type);
    return rc;
}

static int parse(const char *text, struct node_options *options, struct error *err)
{
    if (*text == '{')
        return node_options_parse_json(options, text, err);
    return parse_text(text, options, err);
}

/* --- type and id -------------------------------------------------------------------------------
 */

static void list_types(char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (unsigned i = 0; types[i] && used < size; i++) {
        int added = snprintf(text + used, size - used, "%s%s", i > 0 ? ", " : "", types[i]->name);
        used += added > 0 ? (size_t)added : 0;
    }
}

static int take_type(struct node_options *options, const struct object_type **ret_type,
                     struct error *err)
{
    char known[256];
    const char *name = NULL;
    int rc = node_options_take_string(options, "qom-type", &name, err);
    if (rc < 0)
        return rc;
    list_types(known, sizeof(known));
    if (!name || !*name)
        return error_set(err, -EINVAL, "no type is given; begin with one of: %s", known);
    for (unsigned i = 0; types[i]; i++) {
        if (strcmp(types[i]->name, name) == 0) {
            *ret_type = types[i];
            return 0;
        }
    }
    return error_set(err, -EINVAL, "the type '%.100s' is not known; known types: %s", name, known);
}

/* qemu's rule for ids, so that what is written for one works with the other. */
static bool is_well_formed(const char *id)
{
    if (!isalpha((unsigned char)*id))
        return false;
    for (; *id; id++) {
        if (!isalnum((unsigned char)*id) && !strchr("-._", *id))
            return false;
    }
    return true;
}

static int take_id(const struct objects *objects, struct node_options *options, const char **ret_id,
                   struct error *err)
{
    const char *id = NULL;
    int rc = node_options_take_string(options, "id", &id, err);
    if (rc < 0)
        return rc;
    if (!id)
        return error_set(err, -EINVAL, "no id is given; say id=NAME");
    if (!is_well_formed(id))
        return error_set(err, -EINVAL,
                         "the id '%.100s' is no name; begin with a letter, and go on with letters, "
                         "digits, '-', '.' and '_'",
                         id);
    list_for_each (link, &objects->list) {
        const struct object *object = container_of(link, struct object, link);
        if (strcmp(object->id, id) == 0)
            return error_set(err, -EINVAL,
                             "the id '%.100s' is given twice; each object has its own", id);
    }
    *ret_id = id;
    return 0;
}

/* --- making one --------------------------------------------------------------------------------
 */

static int create(struct objects *objects, struct object *object, struct node_options *options,
                  struct error *err)
{
    const char *id = NULL;
    int rc = take_type(options, &object->type, err);
    if (rc == 0)
        rc = take_id(objects, options, &id, err);
    if (rc < 0)
        return rc;
    object->id = strdup(id);
    if (!object->id)
        return error_set(err, -ENOMEM, "no memory for the object");
    rc = object->type->create(objects->env, id, options, &object->state, err);
    if (rc < 0)
        return rc;
    char owner[64];
    snprintf(owner, sizeof(owner), "the object %s", object->type->name);
    return node_options_check_all_taken(options, owner, err);
}

/* What is wrong, with the words that tell which of the objects it is. */
static int refuse(const char *option, const struct object *object, int rc, const struct error *why,
                  struct error *err)
{
    if (object && object->id)
        return error_set(err, rc, "%s '%.100s': %s", option, object->id, why->message);
    return error_set(err, rc, "%s: %s", option, why->message);
}

int objects_add(struct objects *objects, const char *text, struct error *err)
{
    struct error why = {.message = ""};
    struct node_options *options = node_options_new();
    struct object *object = calloc(1, sizeof(*object));
    int rc = -ENOMEM;
    if (!options || !object) {
        error_set(&why, rc, "no memory for the object");
        goto out;
    }
    link_init(&object->link);
    rc = parse(text, options, &why);
    if (rc == 0)
        rc = create(objects, object, options, &why);
out:
    if (rc < 0)
        refuse(objects->option, object, rc, &why, err);
    else
        list_append(&objects->list, &object->link);
    if (rc < 0 && object)
        object_free(object);
    node_options_free(options);
    return rc;
}
