/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

/* What the person who started the server asked for, checked. Strings are borrowed from argv. */

#include <stdbool.h>
#include <stdint.h>

#include "block/image_options.h"
#include "common/error.h"
#include "server/export.h"

struct node_options;

#define CONFIG_THREADS_MAX 64
#define CONFIG_THREADS_DEFAULT_MAX 4
#define CONFIG_BUSY_POLL_US_MAX 1000000
#define CONFIG_BUSY_POLL_US_DEFAULT 50 /* more than a wake-up takes, on the worst of hosts */
#define CONFIG_HANDSHAKE_LIMIT_S_DEFAULT 10
#define CONFIG_STALL_LIMIT_S_DEFAULT 60
#define CONFIG_LIMIT_S_MAX 3600
#define CONFIG_OBJECTS_MAX 64
#define CONFIG_ALLOW_PATHS_MAX 16
#define CONFIG_BIND_DEFAULT "0.0.0.0"
#define CONFIG_PORT_DEFAULT "10809"

struct config {
    const char *image;  /* a path, or "json:" and options, or options alone */
    bool image_opts;    /* options alone: key=value,... or a JSON object */
    const char *format; /* NULL: by probing */
    uint64_t offset;    /* what is served begins at this byte of the image */
    bool read_only;
    bool snapshot; /* the image is only read, and writes go to a temporary one above it */
    const char *load_snapshot; /* an internal snapshot instead of the disk; NULL for none */
    /* Directories in which files may lie that an image names. */
    const char *allow_paths[CONFIG_ALLOW_PATHS_MAX];
    unsigned allow_path_count;
    enum image_cache cache;
    const char *aio;           /* an engine's name; NULL: the best there is */
    bool discard;              /* TRIM gives space back */
    const char *detect_zeroes; /* as the option of a node; NULL: off */

    bool allocation_depth;                   /* offer qemu:allocation-depth */
    const char *bitmaps[EXPORT_BITMAPS_MAX]; /* offer qemu:dirty-bitmap:NAME of these */
    unsigned bitmap_count;

    const char *objects[CONFIG_OBJECTS_MAX]; /* as given, for objects_add() */
    unsigned object_count;

    const char *socket_path; /* a UNIX socket; NULL: TCP on bind and port */
    const char *bind, *port;
    bool names_place; /* one of these three was given */
    const char *export_name;
    const char *description; /* NULL for none */
    unsigned clients_max;    /* 0: no bound */
    bool persistent;
    unsigned handshake_limit_s; /* from accept to the choice of an export; 0: no limit */
    unsigned stall_limit_s;     /* nothing more of a request that came in part; 0: no limit */

    const char *run;     /* a shell command that is served until it ends; NULL for none */
    bool private_socket; /* on a new UNIX socket that only the command is told of */

    unsigned thread_count; /* event loops, at least 1 */
    unsigned busy_poll_us; /* how long a loop looks on before it sleeps; 0: it sleeps at once */
    bool fork;
    const char *pid_file; /* NULL for none */
    const char *stats;    /* a file, or "-"; NULL for none */
    enum error_action on_read_error, on_write_error;
    bool verbose;
};

/* What the block layer is told of the image, as block_co_open_image() takes it. -ENOMEM. */
int config_node_options(const struct config *config, struct node_options **ret_options,
                        struct error *err);
/* The strings stay the config's. */
struct export_options config_export_options(const struct config *config);

#endif
