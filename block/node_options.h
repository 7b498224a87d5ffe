/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_NODE_OPTIONS_H
#define BLOCK_NODE_OPTIONS_H

/*
 * Options of a graph of nodes, as one tree: "driver=raw,file.driver=file,file.filename=disk.img" is
 * a node with a child under "file". Keys are dotted paths. Values are strings; who takes one says
 * what it must be. An option that nobody took is a mistake of the person who gave it.
 *
 * Every error about an option begins with its whole path, as the person wrote it: "file.offset:
 * cannot be 'many'; say ...". A subtree knows where it was in the person's tree, so who took it
 * apart for a child need not tell.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct node_options;

/* NULL when there is no memory. */
struct node_options *node_options_new(void);
/* Takes NULL. */
void node_options_free(struct node_options *options);

/* What a value was where it was written: JSON has kinds, a text has only one. */
enum node_option_kind {
    NODE_OPTION_TEXT,
    NODE_OPTION_NUMBER,
    NODE_OPTION_TRUTH, /* "on" or "off" here */
};

#define NODE_OPTIONS_PATH_MAX 1024

/* Sets the value at a dotted path; the last one given wins. -EINVAL: an empty key or part, more
 * than 64 parts, or more than NODE_OPTIONS_PATH_MAX bytes. */
int node_options_set(struct node_options *options, const char *path, const char *value,
                     struct error *err);
int node_options_set_kind(struct node_options *options, const char *path, const char *value,
                          enum node_option_kind kind, struct error *err);
/* Sets what `from` says at this path, if it says it and options does not. An error will name it as
 * it was written in `from`. */
int node_options_inherit(struct node_options *options, const struct node_options *from,
                         const char *path, struct error *err);
/* Sets what a text says: "key=value,key=value". A comma in a value is written twice. -EINVAL, also
 * for a text that is longer than the two bounds. */
#define NODE_OPTIONS_TEXT_MAX (64 << 10)
#define NODE_OPTIONS_COUNT_MAX 1024
int node_options_parse(struct node_options *options, const char *text, struct error *err);
/* The same as a JSON object; see node_options_json.c. */
int node_options_parse_json(struct node_options *options, const char *text, struct error *err);
bool node_options_has(const struct node_options *options, const char *path);
/* The value, without taking it; NULL when it is not there. It lives as long as options. */
const char *node_options_get(const struct node_options *options, const char *path);
enum node_option_kind node_options_kind(const struct node_options *options, const char *path);
/* Whether anything lies under "key.". */
bool node_options_has_below(const struct node_options *options, const char *key);
bool node_options_is_empty(const struct node_options *options);

/* Takes the value at a dotted path; NULL when it is not there. The string lives as long as options.
 */
const char *node_options_take(struct node_options *options, const char *path);
/* The same for what is text and nothing else: a JSON number, true, false, object or list is
 * refused. *ret_value keeps its old value when the option is not there. */
int node_options_take_string(struct node_options *options, const char *path, const char **ret_value,
                             struct error *err);
/* The same as a kind of value; *ret_ keeps its old value when the option is not there. The error
 * names the option, its value and what it may be. */
int node_options_take_bool(struct node_options *options, const char *path, bool *ret_value,
                           struct error *err); /* on, off, true, false, yes, no */
int node_options_take_size(struct node_options *options, const char *path, uint64_t *ret_bytes,
                           struct error *err); /* 4096, 64K, 10M, 1G, 2T */
int node_options_take_number(struct node_options *options, const char *path, uint64_t *ret_number,
                             struct error *err); /* decimal digits; below 2^64 */
int node_options_take_duration(struct node_options *options, const char *path, uint64_t *ret_ns,
                               struct error *err); /* 2, 2s, 300ms, 40us: a number is seconds */
/* names is NULL-ended; *ret_index is which of them. */
int node_options_take_choice(struct node_options *options, const char *path,
                             const char *const *names, unsigned *ret_index, struct error *err);

/* What stands before this tree's paths in the one the person gave: "" or "file.file."; for messages
 * that name an option. Lives as long as options. */
const char *node_options_prefix(const struct node_options *options);

/* Moves everything under "key." into a tree of its own; never NULL but without memory. */
struct node_options *node_options_take_subtree(struct node_options *options, const char *key);
/* The same as a copy; nothing is moved or taken. */
struct node_options *node_options_copy_subtree(const struct node_options *options, const char *key);

/* Moves the whole tree below "key.". -EINVAL: a path has too many parts. After a failure the tree
 * is only to be freed. */
int node_options_move_below(struct node_options *options, const char *key, struct error *err);

/* Moves one option, if it is there and its new place is free; errors name it as the person wrote
 * it. */
int node_options_move(struct node_options *options, const char *from, const char *to,
                      struct error *err);

/* For each option whose path is `name` or ends with ".name": make(arg, value), which malloc() made,
 * takes the value's place. -ENOMEM when it made none. */
int node_options_replace(struct node_options *options, const char *name,
                         char *(*make)(void *arg, const char *value), void *arg);

/* Fills err with an error about one option: its whole path as the person wrote it, or would write
 * it, ": ", and the sentence, on one line. The path "" is the subtree's node itself ("file.file").
 * Returns code. */
int node_options_refuse(const struct node_options *options, const char *path, int code,
                        struct error *err, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* That path; cut when it does not fit. */
#define NODE_OPTIONS_WHOLE_PATH_MAX (2 * NODE_OPTIONS_PATH_MAX)
void node_options_whole_path(const struct node_options *options, const char *path, char *text,
                             size_t size);

/* -EINVAL and a sentence that names the first option that nobody took and who was asked (owner). */
int node_options_check_all_taken(const struct node_options *options, const char *owner,
                                 struct error *err);

#endif
