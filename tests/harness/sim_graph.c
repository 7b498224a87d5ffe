/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_graph.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "block/block.h"
#include "block/driver.h"
#include "block/node_options.h"
#include "block/throttle.h"
#include "common/align.h"
#include "tests/harness/sim.h"

#define GROUP "all"
#define RAW_ONCE_IN 6

/* --- options ------------------------------------------------------------------------------------
 */

/* Where the next node's options go: "", "file.", "file.file.", ... */
struct spot {
    struct sim_graph *graph;
    struct random *random;
    bool is_below_limits; /* which could be no multiple of what is below */
    char prefix[80];
};

static void set(const struct spot *spot, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void set(const struct spot *spot, const char *format, ...)
{
    char *text = spot->graph->options;
    size_t used = strlen(text), room = sizeof(spot->graph->options);
    used += (size_t)snprintf(text + used, room - used, "%s%s", used > 0 ? "," : "", spot->prefix);
    assert(used < room);
    va_list args;
    va_start(args, format);
    used += (size_t)vsnprintf(text + used, room - used, format, args);
    va_end(args);
    assert(used < room);
}

static struct spot child_of(const struct spot *spot, const char *name)
{
    struct spot child = *spot;
    size_t used = strlen(child.prefix);
    used += (size_t)snprintf(child.prefix + used, sizeof(child.prefix) - used, "%s.", name);
    assert(used < sizeof(child.prefix));
    return child;
}

/* --- filters ------------------------------------------------------------------------------------
 */

/* What an operation waits: discards above all, so that holes are punched late; and below a format
 * so long that whole rounds of its tables pass while one read is under way. */
static void add_delay(const struct spot *spot, bool is_below_format)
{
    static const char *const names[] = {"rdelay", "wdelay", "zdelay", "fdelay", "edelay", "cdelay"};
    set(spot, "driver=delay");
    set(spot, "tdelay=%uus", (unsigned)draw_scaled(spot->random, 1, 5000));
    for (unsigned i = 0; i < 6; i++)
        if (random_once_in(spot->random, 4))
            set(spot, "%s=%uus", names[i],
                (unsigned)draw_scaled(spot->random, 1, is_below_format ? 5000 : 500));
}

/* Below a format, pieces end at whole sectors, as tables are written: a kill comes between two. */
static unsigned draw_piece(struct random *random, bool is_below_format)
{
    unsigned bytes = (unsigned)draw_between(random, 600, 20000);
    return is_below_format ? bytes - bytes % 512 : bytes;
}

/* Limits and pieces. The alignment is one that an odd size of the image does not meet. */
static void add_limits(const struct spot *spot, bool is_below_format)
{
    static const char *const limits[] = {"max-transfer", "max-write-zero", "max-discard",
                                         "opt-write-zero", "opt-discard"};
    struct random *random = spot->random;
    set(spot, "driver=fault");
    if (random_once_in(random, 2))
        set(spot, "align=%u", 1u << draw_between(random, 0, 12));
    for (unsigned i = 0; i < 5; i++)
        if (random_once_in(random, 3))
            set(spot, "%s=%u", limits[i], 4096 * (unsigned)draw_between(random, 1, 16));
    if (random_once_in(random, 3))
        set(spot, "short-read=%u", (unsigned)draw_between(random, 600, 20000));
    if (random_once_in(random, 3))
        set(spot, "short-write=%u", draw_piece(random, is_below_format));
}

static void add_detect_zeroes(const struct spot *spot)
{
    static const char *const modes[] = {"off", "on", "unmap"};
    const char *mode = modes[random_below(spot->random, 3)];
    set(spot, "detect-zeroes=%s", mode);
    if (strcmp(mode, "unmap") == 0)
        set(spot, "discard=unmap");
}

/* Up to so many of them, one above the other; returns the spot below. */
static struct spot add_filters(struct spot spot, unsigned count_max, bool is_below_format)
{
    uint64_t count = random_below(spot.random, count_max + 1);
    for (uint64_t i = 0; i < count; i++) {
        switch (random_below(spot.random, is_below_format ? 4 : 6)) {
        case 0:
        case 1:
            add_delay(&spot, is_below_format);
            break;
        case 2:
        case 3:
            add_limits(&spot, is_below_format);
            spot.is_below_limits = true;
            break;
        case 4:
            set(&spot, "driver=throttle");
            set(&spot, "throttle-group=" GROUP);
            break;
        case 5:
            set(&spot, "driver=raw");
            break;
        }
        if (!is_below_format && random_once_in(spot.random, 4))
            add_detect_zeroes(&spot);
        spot = child_of(&spot, "file");
    }
    return spot;
}

/* --- images -------------------------------------------------------------------------------------
 */

static void draw_create(struct sim_graph *graph, struct random *random)
{
    bool is_extended = random_once_in(random, 4);
    unsigned cluster_bits = (unsigned)draw_between(random, is_extended ? 14 : 9, 16);
    size_t room = sizeof(graph->create);
    int used = snprintf(graph->create, room,
                        "filename=%s,size=%" PRIu64 ",cluster_size=%u,refcount_bits=%u,"
                        "extended_l2=%s,lazy_refcounts=%s",
                        graph->image, graph->image_bytes, 1u << cluster_bits,
                        1u << random_below(random, 7), is_extended ? "on" : "off",
                        random_once_in(random, 4) ? "on" : "off");
    if (graph->backing_bytes > 0)
        used += snprintf(graph->create + used, room - (size_t)used,
                         ",backing_file=%s,backing_fmt=raw", graph->backing);
    else if (random_once_in(random, 5))
        used += snprintf(graph->create + used, room - (size_t)used, ",preallocation=metadata");
    assert((size_t)used < room);
}

/* Half of the time the caches are so small that tables come and go all the time. Nothing is cleaned
 * by a timer: a simulation is at its end when nothing is left to happen. */
static void add_caches(const struct spot *spot)
{
    set(spot, "cache-clean-interval=0");
    if (random_once_in(spot->random, 2))
        return;
    set(spot, "l2-cache-size=4096");
    set(spot, "l2-cache-entry-size=512");
    set(spot, "refcount-cache-size=4096");
}

static void add_file(const struct spot *spot, const char *path)
{
    set(spot, "driver=file");
    set(spot, "filename=%s", path);
}

static void add_image(const struct spot *spot)
{
    struct sim_graph *graph = spot->graph;
    set(spot, "driver=%s", graph->create[0] ? "qcow2" : "raw");
    if (graph->create[0])
        add_caches(spot);
    if (graph->backing_bytes > 0) {
        struct spot backing = child_of(spot, "backing"), file = child_of(&backing, "file");
        set(&backing, "driver=raw");
        add_file(&file, graph->backing);
    }
    struct spot below = add_filters(child_of(spot, "file"), 2, true);
    add_file(&below, graph->image);
}

/* The image, with what is right above it: a window, then a verify, a copy-on-read, or a compress.
 */
static void add_whole(struct spot spot)
{
    struct sim_graph *graph = spot.graph;
    if (graph->start > 0) {
        set(&spot, "driver=raw");
        set(&spot, "offset=%" PRIu64, graph->start);
        set(&spot, "size=%" PRIu64, graph->size_bytes);
        spot = child_of(&spot, "file");
    }
    if (graph->is_verified) {
        struct spot raw = child_of(&spot, "raw"), file = child_of(&raw, "file");
        set(&spot, "driver=verify");
        set(&raw, "driver=raw");
        add_file(&file, graph->reference);
        spot = child_of(&spot, "test");
    } else if (graph->backing_bytes > 0 && random_once_in(spot.random, 2)) {
        set(&spot, "driver=copy-on-read");
        spot = child_of(&spot, "file");
    } else if (graph->create[0] && !spot.is_below_limits && random_once_in(spot.random, 5)) {
        set(&spot, "driver=compress");
        spot = child_of(&spot, "file");
    }
    add_image(&spot);
}

static void name_file(char path[SIM_GRAPH_PATH_MAX], const char *folder, const char *name)
{
    int used = snprintf(path, SIM_GRAPH_PATH_MAX, "%s%s%s", folder, *folder ? "/" : "", name);
    assert(used < SIM_GRAPH_PATH_MAX);
    (void)used;
}

void sim_graph_draw(struct sim_graph *graph, struct random *random, const char *folder,
                    uint64_t size_bytes, bool is_qcow2)
{
    *graph = (struct sim_graph){.size_bytes = size_bytes};
    bool is_raw = !is_qcow2 && random_once_in(random, RAW_ONCE_IN);
    name_file(graph->image, folder, is_raw ? "image.raw" : "image.qcow2");
    if (!is_raw && random_once_in(random, 3)) {
        name_file(graph->backing, folder, "backing.raw");
        graph->backing_bytes = draw_between(random, 1, size_bytes / 512) * 512;
    } else if (random_once_in(random, 8)) {
        name_file(graph->reference, folder, "reference.raw");
        graph->is_verified = true;
    } else if (random_once_in(random, 3)) {
        graph->start = draw_between(random, 1, 20000);
    }
    graph->image_bytes = align_up(graph->start + size_bytes, 512);
    if (!is_raw)
        draw_create(graph, random);
    struct spot top = {.graph = graph, .random = random, .prefix = ""};
    add_whole(add_filters(top, 3, false));
}

/* --- use ----------------------------------------------------------------------------------------
 */

int sim_graph_add_group(struct block_env *env, struct throttle_group **ret_group, struct error *err)
{
    struct throttle_limits limits;
    throttle_limits_init(&limits);
    limits.rates[THROTTLE_IOPS_TOTAL].average = 20000;
    return throttle_group_new(ret_group, &env->throttle_groups, GROUP, &limits, err);
}

/* The image without the filters. */
static int co_open_image(const struct sim_graph *graph, struct block_env *env, bool read_only,
                         struct block_node **ret_node, struct error *err)
{
    char text[2 * SIM_GRAPH_PATH_MAX + 160];
    struct node_options *options = node_options_new();
    assert(options);
    int used = snprintf(text, sizeof(text), "driver=%s,read-only=%s,file.filename=%s",
                        graph->create[0] ? "qcow2" : "raw", read_only ? "on" : "off", graph->image);
    if (graph->backing_bytes > 0)
        snprintf(text + used, sizeof(text) - (size_t)used,
                 ",backing.driver=raw,backing.file.filename=%s", graph->backing);
    int ret = node_options_parse(options, text, err);
    assert(ret == 0);
    (void)ret;
    return block_co_open(env, options, ret_node, err);
}

/* What there is at the beginning in [from, to) of the disk. The node is gone then. */
static int co_fill(struct block_node *node, const struct oracle *oracle, uint64_t start,
                   uint64_t from, uint64_t to)
{
    int ret = 0;
    for (uint64_t at = from, end; at < to && ret == 0; at = end) {
        end = at - at % ORACLE_INITIAL_UNIT + ORACLE_INITIAL_UNIT;
        end = end < to ? end : to;
        const uint8_t *bytes = oracle_initial(oracle, at);
        if (!bytes)
            continue;
        struct iovec iov;
        struct block_vec vec = vec_of_buffer(&iov, (void *)(uintptr_t)bytes, end - at);
        ret = node_co_write(node, start + at, &vec, 0);
    }
    if (ret == 0)
        ret = node_co_flush(node);
    block_co_node_unref(node);
    return ret;
}

static int co_make_raw(struct block_env *env, const char *path, const struct oracle *oracle,
                       uint64_t start, uint64_t bytes, struct error *err)
{
    struct block_node *file;
    int ret = block_co_create_file(env, path, start + bytes, err);
    if (ret == 0)
        ret = block_co_open_file(env, path, &file, err);
    return ret < 0 ? ret : co_fill(file, oracle, start, 0, bytes);
}

static int co_make_qcow2(const struct sim_graph *graph, struct block_env *env,
                         const struct oracle *oracle, struct error *err)
{
    struct block_node *node;
    struct node_options *options = node_options_new();
    assert(options);
    int ret = node_options_parse(options, graph->create, err);
    if (ret == 0)
        ret = node_options_set(options, "driver", "qcow2", err);
    assert(ret == 0);
    ret = block_co_create(env, options, err);
    if (ret == 0)
        ret = co_open_image(graph, env, false, &node, err);
    return ret < 0 ? ret
                   : co_fill(node, oracle, graph->start, graph->backing_bytes, graph->size_bytes);
}

int sim_graph_co_make(const struct sim_graph *graph, struct block_env *env,
                      const struct oracle *oracle, struct error *err)
{
    int ret = 0;
    if (graph->backing_bytes > 0)
        ret = co_make_raw(env, graph->backing, oracle, 0, graph->backing_bytes, err);
    if (ret == 0 && graph->is_verified)
        ret = co_make_raw(env, graph->reference, oracle, 0, graph->size_bytes, err);
    if (ret == 0 && graph->create[0])
        return co_make_qcow2(graph, env, oracle, err);
    return ret < 0 ? ret
                   : co_make_raw(env, graph->image, oracle, graph->start, graph->size_bytes, err);
}

int sim_graph_co_open(const struct sim_graph *graph, struct block_env *env, const char *more,
                      struct block_node **ret_node, struct error *err)
{
    struct node_options *options = node_options_new();
    assert(options);
    int ret = node_options_parse(options, graph->options, err);
    if (ret == 0 && *more)
        ret = node_options_parse(options, more, err);
    assert(ret == 0);
    return block_co_open(env, options, ret_node, err);
}

/* The first sentence stays. */
static void keep_first(void *arg, const char *sentence)
{
    struct error *err = arg;
    if (err->message[0] == '\0')
        error_set(err, -EIO, "%s", sentence);
}

int sim_graph_co_check(const struct sim_graph *graph, struct block_env *env, uint64_t *ret_errors,
                       uint64_t *ret_leaks, struct error *err)
{
    struct block_node *node;
    struct block_check check = {0};
    int ret = co_open_image(graph, env, true, &node, err);
    if (ret < 0)
        return ret;
    err->message[0] = '\0';
    if (graph->create[0])
        ret = block_co_check(node, keep_first, err, &check, err);
    block_co_node_unref(node);
    *ret_errors = check.errors + check.unreadable;
    *ret_leaks = check.leaks;
    return ret;
}
