/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_EXPORT_H
#define SERVER_EXPORT_H

/*
 * An export: a name that clients ask for, and the block backend behind it. All loops share it; it
 * does not change while it is open, but for what its error policy and its account keep, and for the
 * size of an image whose file another program made longer: a client that comes is told of it, and
 * those who are there keep the size they know.
 */

#include <stdbool.h>

#include "block/account.h"
#include "common/error.h"
#include "protocol/handshake.h"
#include "server/error_policy.h"
#include "server/export_contexts.h"

struct block_backend;
struct block_node;

/* What a client's request may do besides what it says. */
struct export_rules {
    bool write_through; /* every write, of zeroes too, is on stable storage before its reply */
};

struct export_options {
    const char *name;        /* "" for the default export; up to NBD_STRING_MAX bytes */
    const char *description; /* NULL for none */
    bool read_only;
    bool multi_conn; /* announce NBD_FLAG_CAN_MULTI_CONN; the block layer keeps its promise */
    struct export_rules rules;
    enum error_action on_read_error, on_write_error;
    bool allocation_depth; /* offer the context qemu:allocation-depth */
    /* Offer the contexts qemu:dirty-bitmap:NAME of these; EXPORT_BITMAPS_MAX at most. */
    const char *const *bitmaps;
    unsigned bitmap_count;
};

struct export
{
    struct nbd_export_info info; /* as clients see it */
    struct export_rules rules;
    struct export_contexts contexts;
    struct block_backend *backend;
    struct error_policy error_policy;
    struct account account;   /* clients' requests, each counted once */
    unsigned unknown_counter; /* of the account: commands that nobody knows */
    char *name, *description; /* what info points at */
};

/* Takes a reference to the node and copies the options. May wait. -ENOMEM, -EINVAL, -EPERM; -ENOENT
 * and others for a bitmap that is not there or cannot be used. */
int export_co_open(struct export **ret_export, struct block_node *node,
                   const struct export_options *options, struct error *err);
/* No connection uses it any more. Drains, flushes, and lets the node go; returns the flush's
 * result; the export is gone in any case. May wait. Takes NULL. */
int export_co_close(struct export *export);

/* An export as one client is told of it: with the size that it had when the client came. */
struct export_view {
    const struct export *export;
    struct nbd_export_info info;
};

void export_view_init(struct export_view *view, const struct export *export);

/* The server's list of exports, for the handshake: this one alone, under its exact name. The view
 * outlives the handshake. */
struct handshake_exports export_view_as_list(struct export_view *view);

#endif
