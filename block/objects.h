/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_OBJECTS_H
#define BLOCK_OBJECTS_H

/*
 * What a program's option --object makes: things with an id that the image's options, or other
 * options of the command line, refer to. A text is "TYPE,id=ID,KEY=VALUE,..." with dotted keys, or
 * a JSON object
 * {"qom-type": TYPE, "id": ID, ...}, as qemu's programs take it.
 *
 * A type is a struct object_type in the table of objects.c; it is in a file of its own.
 */

#include "common/error.h"
#include "common/list.h"

struct block_env;
struct node_options;

struct objects {
    struct block_env *env;
    const char *option; /* what messages call the option: "--object" */
    struct list list;   /* in the order they were made */
};

struct object_type {
    const char *name;
    /* Takes its keys from options; what it leaves is an error for the person, as with nodes. The
     * id is well formed and no other object has it. */
    int (*create)(struct block_env *env, const char *id, struct node_options *options,
                  void **ret_state, struct error *err);
    void (*free)(void *state);
};

extern const struct object_type object_throttle_group;

/* env is borrowed, and is there until objects_fini(). option is a constant. */
void objects_init(struct objects *objects, struct block_env *env, const char *option);
/* Nobody uses any of them any more. Also for what was never initialised but is all zero. */
void objects_fini(struct objects *objects);

/* Makes the one that text describes. -EINVAL, -ENOMEM. */
int objects_add(struct objects *objects, const char *text, struct error *err);

#endif
