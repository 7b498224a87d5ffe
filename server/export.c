/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/export.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "protocol/wire.h"

static uint16_t transmission_flags(const struct export_options *options)
{
    uint16_t flags = NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE;
    if (options->read_only)
        flags |= NBD_FLAG_READ_ONLY;
    else
        flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    if (options->multi_conn)
        flags |= NBD_FLAG_CAN_MULTI_CONN;
    return flags;
}

static void export_free(struct export *export)
{
    export_contexts_fini(&export->contexts);
    account_fini(&export->account);
    free(export->name);
    free(export->description);
    free(export);
}

/* What it has without its backend. */
static int export_new(struct export **ret_export, struct block_env *env,
                      const struct export_options *options, struct error *err)
{
    struct export *export = calloc(1, sizeof(*export));
    if (!export)
        return error_set(err, -ENOMEM, "no memory for the export");
    export->name = strdup(options->name);
    export->description = options->description ? strdup(options->description) : NULL;
    if (!export->name || (options->description && !export->description) ||
        account_init(&export->account, env) < 0) {
        export_free(export);
        return error_set(err, -ENOMEM, "no memory for the export");
    }
    export->unknown_counter = account_new_counter(&export->account, "unknown_commands");
    export->rules = options->rules;
    *ret_export = export;
    return 0;
}

/* With a backend. */
static int co_set_up(struct export *export, const struct export_options *options, struct error *err)
{
    uint64_t size_bytes = block_backend_size_bytes(export->backend);
    if (size_bytes > INT64_MAX)
        return error_set(err, -EINVAL,
                         "the image's size, %" PRIu64 " bytes, is more than NBD can express",
                         size_bytes);
    int code =
        export_contexts_co_init(&export->contexts, export->backend, options->allocation_depth,
                                options->bitmaps, options->bitmap_count, err);
    if (code < 0)
        return code;
    export->info = (struct nbd_export_info){
        .name = export->name,
        .description = export->description,
        .size_bytes = size_bytes,
        .transmission_flags = transmission_flags(options),
        .block_minimum = 1, /* the block layer takes any alignment */
        .block_preferred = block_backend_preferred_bytes(
            export->backend, NBD_BLOCK_PREFERRED_DEFAULT, NBD_PAYLOAD_DEFAULT_MAX),
        .payload_max = NBD_PAYLOAD_DEFAULT_MAX,
        .contexts = export->contexts.names,
    };
    return 0;
}

int export_co_open(struct export **ret_export, struct block_node *node,
                   const struct export_options *options, struct error *err)
{
    struct export *export = NULL;
    int code = export_new(&export, block_node_env(node), options, err);
    if (code < 0)
        return code;
    code = block_backend_new(&export->backend, node, options->read_only, err);
    if (code == 0)
        code = co_set_up(export, options, err);
    if (code < 0) {
        block_co_backend_free(export->backend);
        export_free(export);
        return code;
    }
    error_policy_init(&export->error_policy, options->on_read_error, options->on_write_error,
                      export->name);
    *ret_export = export;
    return 0;
}

int export_co_close(struct export *export)
{
    if (!export)
        return 0;
    int code = block_co_backend_free(export->backend);
    error_policy_fini(&export->error_policy);
    export_free(export);
    return code;
}

/* More than NBD can express is not announced. */
static uint64_t size_now(const struct export *export)
{
    uint64_t size_bytes = block_backend_size_bytes(export->backend);
    return size_bytes <= INT64_MAX ? size_bytes : export->info.size_bytes;
}

void export_view_init(struct export_view *view, const struct export *export)
{
    *view = (struct export_view){.export = export, .info = export->info};
    view->info.size_bytes = size_now(export);
}

static const struct nbd_export_info *lookup(void *ctx, const char *name, size_t length)
{
    const struct export_view *view = ctx;
    const char *own = view->info.name;
    return strlen(own) == length && memcmp(own, name, length) == 0 ? &view->info : NULL;
}

static const struct nbd_export_info *at(void *ctx, size_t index)
{
    const struct export_view *view = ctx;
    return index == 0 ? &view->info : NULL;
}

struct handshake_exports export_view_as_list(struct export_view *view)
{
    return (struct handshake_exports){.lookup = lookup, .at = at, .ctx = view};
}
