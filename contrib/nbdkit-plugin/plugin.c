/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbdkit-platter-plugin: every image that platter can open, served by nbdkit, with its filters and
 * its TLS around it. What nbdkit calls, in the order in which it calls it.
 *
 * nbdkit may fork between get_ready and after_fork, and a thread, an io_uring or an epoll does not
 * live through that. So get_ready, whose errors a person still sees, opens the image on a stand of
 * its own, to see whether that can be done, and takes all of it down again; after_fork makes the
 * stand that lasts.
 *
 * nbdkit tells when a client connects whether it may write. So the image is opened by the first
 * client, and what only reads, as the filter cow does, never needs the right to write.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#include "block/driver.h"
#include "block/engine.h"
#include "common/log.h"
#include "contrib/nbdkit-plugin/parameters.h"
#include "contrib/nbdkit-plugin/requests.h"
#include "contrib/nbdkit-plugin/shared_image.h"
#include "contrib/nbdkit-plugin/stand.h"
#include "formats/registry.h"
#include "protocol/errno.h"
#include "protocol/wire.h"

/* nbdkit's callbacks have no argument of ours, so this is where it begins. */
static struct {
    struct parameters parameters;
    struct stand stand;
    struct shared_image image;
    bool is_open; /* from after_fork to cleanup */
} the;

/* What one client was told. */
struct connection {
    bool may_write;
    uint64_t size_bytes;
};

/* 0 as it is; an error is told, and is -1. */
static int tell(int code, const struct error *err)
{
    if (code >= 0)
        return 0;
    nbdkit_error("%s", err->message);
    return -1;
}

/* --- the log ------------------------------------------------------------------------------------
 */

#define WARNINGS_MAX 8

/* What the check beforehand warned of, and the same process need not say again when it opens the
 * image. In another one, in the background, it goes to another log. */
static struct {
    pthread_mutex_t mutex;
    pid_t process; /* of the check; 0: not yet */
    bool is_checking;
    unsigned count;
    char lines[WARNINGS_MAX][ERROR_MESSAGE_MAX];
} warned = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static bool is_repeated(const char *line)
{
    bool is_known = false;
    pthread_mutex_lock(&warned.mutex);
    for (unsigned i = 0; i < warned.count && !is_known; i++)
        is_known = strncmp(warned.lines[i], line, ERROR_MESSAGE_MAX - 1) == 0;
    if (!is_known && warned.is_checking && warned.count < WARNINGS_MAX)
        snprintf(warned.lines[warned.count++], ERROR_MESSAGE_MAX, "%s", line);
    pthread_mutex_unlock(&warned.mutex);
    return is_known && warned.process == getpid();
}

static void log_to_nbdkit(enum log_kind kind, const char *line)
{
    if (kind == LOG_KIND_WARNING && is_repeated(line))
        kind = LOG_KIND_VERBOSE;
    switch (kind) {
    case LOG_KIND_ERROR:
        nbdkit_error("%s", line);
        break;
    case LOG_KIND_WARNING:
        nbdkit_error("warning: %s", line);
        break;
    case LOG_KIND_VERBOSE:
        nbdkit_debug("%s", line);
        break;
    }
}

/* --- configuration ------------------------------------------------------------------------------
 */

static void plugin_load(void)
{
    log_set_sink(log_to_nbdkit);
    log_set_verbose(true); /* nbdkit -v says whether anyone sees it */
}

static void plugin_unload(void)
{
    parameters_fini(&the.parameters);
}

static int init_parameters(void)
{
    struct error err;
    if (the.parameters.folder)
        return 0;
    char *folder = nbdkit_absolute_path(".");
    if (!folder)
        return -1;
    folder[strlen(folder) - strlen("/.")] = '\0';
    int code = parameters_init(&the.parameters, folder, &err);
    free(folder);
    return tell(code, &err);
}

static int plugin_config(const char *key, const char *value)
{
    struct error err;
    if (init_parameters() < 0)
        return -1;
    return tell(parameters_set(&the.parameters, key, value, &err), &err);
}

static int plugin_config_complete(void)
{
    struct error err;
    if (init_parameters() < 0)
        return -1;
    return tell(parameters_check(&the.parameters, &err), &err);
}

/* Names of drivers that have none of the flags. */
static void print_drivers(const char *key, unsigned wanted_flags, unsigned skipped_flags)
{
    const char *between = "";
    printf("%s=", key);
    for (unsigned i = 0; formats_registry[i]; i++) {
        unsigned flags = formats_registry[i]->flags;
        if ((flags & wanted_flags) != wanted_flags || (flags & skipped_flags) != 0)
            continue;
        printf("%s%s", between, formats_registry[i]->name);
        between = " ";
    }
    printf("\n");
}

static void plugin_dump_plugin(void)
{
    const char *between = "";
    printf("platter_version=%s\n", PLATTER_VERSION);
    print_drivers("platter_formats", 0, BLOCK_DRIVER_PROTOCOL | BLOCK_DRIVER_FILTER);
    print_drivers("platter_protocols", BLOCK_DRIVER_PROTOCOL, 0);
    print_drivers("platter_filters", BLOCK_DRIVER_FILTER, 0);
    printf("platter_aio=");
    for (unsigned i = 0; engines_by_preference[i]; i++, between = " ")
        printf("%s%s", between, engines_by_preference[i]->name);
    printf("\n");
}

/* --- start and end ------------------------------------------------------------------------------
 */

static int plugin_get_ready(void)
{
    struct error err;
    struct stand stand;
    warned.process = getpid();
    warned.is_checking = true;
    int code = stand_init(&stand, 2, &err);
    if (code == 0) {
        code = shared_image_check(&stand, &the.parameters, &err);
        stand_fini(&stand);
    }
    warned.is_checking = false;
    return tell(code, &err);
}

static int plugin_after_fork(void)
{
    struct error err;
    int code = stand_init(&the.stand, LOOP_COUNT_MAX, &err);
    if (code == 0) {
        code = stand_start(&the.stand, &err);
        if (code < 0)
            stand_fini(&the.stand);
    }
    if (code == 0)
        shared_image_init(&the.image, &the.stand, &the.parameters);
    the.is_open = code == 0;
    return tell(code, &err);
}

static void plugin_cleanup(void)
{
    struct error err;
    if (!the.is_open)
        return;
    the.is_open = false;
    tell(shared_image_close(&the.image, &err), &err);
    shared_image_fini(&the.image);
    stand_stop(&the.stand);
    stand_fini(&the.stand);
}

/* --- a client comes -----------------------------------------------------------------------------
 */

static void *plugin_open(int readonly)
{
    struct error err;
    struct connection *connection = calloc(1, sizeof(*connection));
    if (!connection) {
        nbdkit_error("no memory for a connection");
        return NULL;
    }
    if (tell(shared_image_open(&the.image, readonly, &err), &err) < 0) {
        free(connection);
        return NULL;
    }
    connection->may_write = !readonly && !block_backend_is_read_only(the.image.backend);
    connection->size_bytes = block_backend_size_bytes(the.image.backend);
    return connection;
}

static void plugin_close(void *handle)
{
    free(handle);
}

static int64_t plugin_get_size(void *handle)
{
    const struct connection *connection = handle;
    return (int64_t)connection->size_bytes; /* no node is larger than that can say */
}

static int plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
                             uint32_t *maximum)
{
    (void)handle;
    *minimum = 1; /* the block layer takes any alignment */
    *preferred = block_backend_preferred_bytes(the.image.backend, NBD_BLOCK_PREFERRED_DEFAULT,
                                               NBD_PAYLOAD_DEFAULT_MAX);
    *maximum = NBD_PAYLOAD_DEFAULT_MAX;
    return 0;
}

static int plugin_can_write(void *handle)
{
    const struct connection *connection = handle;
    return connection->may_write;
}

static int plugin_yes(void *handle)
{
    (void)handle;
    return 1;
}

static int plugin_can_fua(void *handle)
{
    (void)handle;
    return NBDKIT_FUA_NATIVE;
}

static int plugin_can_cache(void *handle)
{
    (void)handle;
    return NBDKIT_CACHE_NATIVE;
}

/* --- requests -----------------------------------------------------------------------------------
 */

/* nbdkit takes an errno and makes the wire's error of it, in its own way. The wire's numbers are
 * those of Linux, so what our own server would say is handed over as it is. */
_Static_assert(NBD_EPERM == EPERM && NBD_EIO == EIO && NBD_ENOMEM == ENOMEM &&
                   NBD_EINVAL == EINVAL && NBD_ENOSPC == ENOSPC && NBD_EOVERFLOW == EOVERFLOW &&
                   NBD_ENOTSUP == ENOTSUP && NBD_ESHUTDOWN == ESHUTDOWN,
               "the wire's numbers are this system's");

static int run(const struct request *request)
{
    bool is_fast = (request->flags & BLOCK_FAST) != 0;
    int code = request_run(&the.image, request);
    if (code == 0)
        return 0;
    uint16_t command = request->kind == REQUEST_ZERO ? NBD_CMD_WRITE_ZEROES : NBD_CMD_READ;
    nbdkit_set_error(
        (int)nbd_error_from_errno(code, command, is_fast ? NBD_CMD_FLAG_FAST_ZERO : 0));
    if (is_fast && code == -ENOTSUP)
        return -1; /* an answer, no failure */
    nbdkit_error("cannot %s %u bytes at %llu of '%s': %s", request_verb(request->kind),
                 request->length, (unsigned long long)request->offset,
                 parameters_image_name(&the.parameters), error_text(code));
    return -1;
}

static unsigned durability(uint32_t flags)
{
    return flags & NBDKIT_FLAG_FUA ? BLOCK_FUA : 0;
}

static int plugin_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle, (void)flags;
    return run(
        &(struct request){.kind = REQUEST_READ, .offset = offset, .length = count, .data = buf});
}

static int plugin_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                         uint32_t flags)
{
    (void)handle;
    return run(&(struct request){.kind = REQUEST_WRITE,
                                 .offset = offset,
                                 .length = count,
                                 .flags = durability(flags),
                                 .data = (void *)buf});
}

static int plugin_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    return run(&(struct request){.kind = REQUEST_ZERO,
                                 .offset = offset,
                                 .length = count,
                                 .flags = durability(flags) |
                                          (flags & NBDKIT_FLAG_MAY_TRIM ? 0 : BLOCK_NO_UNMAP) |
                                          (flags & NBDKIT_FLAG_FAST_ZERO ? BLOCK_FAST : 0)});
}

static int plugin_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    return run(&(struct request){
        .kind = REQUEST_TRIM, .offset = offset, .length = count, .flags = durability(flags)});
}

static int plugin_flush(void *handle, uint32_t flags)
{
    (void)handle, (void)flags;
    return run(&(struct request){.kind = REQUEST_FLUSH});
}

static int plugin_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle, (void)flags;
    return run(&(struct request){.kind = REQUEST_CACHE, .offset = offset, .length = count});
}

static int tell_extent(void *arg, uint64_t offset, const struct block_extent *extent)
{
    uint32_t type = (extent->flags & BLOCK_EXTENT_ALLOCATED ? 0 : NBDKIT_EXTENT_HOLE) |
                    (extent->flags & BLOCK_EXTENT_ZERO ? NBDKIT_EXTENT_ZERO : 0);
    return nbdkit_add_extent(arg, offset, extent->length, type) < 0 ? -ENOMEM : 0;
}

static int plugin_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                          struct nbdkit_extents *extents)
{
    (void)handle;
    return run(&(struct request){.kind = REQUEST_EXTENTS,
                                 .offset = offset,
                                 .length = count,
                                 .tells_one = flags & NBDKIT_FLAG_REQ_ONE,
                                 .tell = tell_extent,
                                 .tell_arg = extents});
}

/* --- the table ----------------------------------------------------------------------------------
 */

static const char config_help[] =
    "[file=]IMAGE          (required) the image: a path, or json:{...}\n"
    "format=FORMAT         raw, qcow2, gow1 (default: by the image's first bytes)\n"
    "cache=MODE            writeback (default), none (past the page cache),\n"
    "                      writethrough, directsync, unsafe (no flush, ever)\n"
    "read-only=on          as nbdkit -r\n"
    "discard=unmap         trim gives space back (default: ignore)\n"
    "detect-zeroes=MODE    what a write of zeroes is: off (default), on, unmap\n"
    "aio=ENGINE            io_uring (default), threads, native (with cache=none), sync\n"
    "load-snapshot=S       the internal snapshot with this id or name, read-only\n"
    "allow-path=DIR[:DIR]  files that an image names may be there too\n"
    "object=TYPE,id=ID,... what other options refer to: throttle-group\n"
    "driver=..., file.driver=..., l2-cache-size=..., ...\n"
    "                      every other option of an image; see nbdkit-platter-plugin(1)";

static struct nbdkit_plugin plugin = {
    .name = "platter",
    .longname = "platter's disk images",
    .version = PLATTER_VERSION,
    .description = "Serve a disk image of any format that platter knows, to read and to write.",
    .config_help = config_help,
    .magic_config_key = "file",
    .load = plugin_load,
    .unload = plugin_unload,
    .config = plugin_config,
    .config_complete = plugin_config_complete,
    .dump_plugin = plugin_dump_plugin,
    .get_ready = plugin_get_ready,
    .after_fork = plugin_after_fork,
    .cleanup = plugin_cleanup,
    .open = plugin_open,
    .close = plugin_close,
    .get_size = plugin_get_size,
    .block_size = plugin_block_size,
    .can_write = plugin_can_write,
    .can_flush = plugin_yes,
    .can_trim = plugin_yes,
    .can_zero = plugin_yes,
    .can_fast_zero = plugin_yes,
    .can_fua = plugin_can_fua,
    .can_multi_conn = plugin_yes,
    .can_extents = plugin_yes,
    .can_cache = plugin_can_cache,
    .pread = plugin_pread,
    .pwrite = plugin_pwrite,
    .flush = plugin_flush,
    .trim = plugin_trim,
    .zero = plugin_zero,
    .extents = plugin_extents,
    .cache = plugin_cache,
};

struct nbdkit_plugin *plugin_init(void); /* nbdkit's macro defines it and declares it nowhere */
NBDKIT_REGISTER_PLUGIN(plugin)
