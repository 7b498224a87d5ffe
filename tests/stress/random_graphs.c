/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random stacks of nodes over disks in memory, and random requests from four loops, compared with a
 * flat array. The seed decides the stacks, the disks' limits, and what each actor asks for.
 *
 * The image is cut into slots that are no multiple of any block, each the property of one actor: so
 * requests of several meet in every block, while each actor knows what its own bytes are. After a
 * change that failed, or a discard, it looks which of the two possible values each byte has.
 *
 * Checked: every read; that what is said to read as zeroes does; that nothing fails but where a
 * rule of a fault filter may; that every byte that changed was shown to an observer of the top node
 * before; at the end the whole image from above, and every disk from below that holds all of it.
 */
#include "tests/stress/stress.h"

#include <errno.h>
#include <string.h>

#include "block/env.h"
#include "block/observer.h"
#include "block/throttle.h"
#include "block/throttle_group.h"
#include "common/clock.h"
#include "formats/registry.h"
#include "tests/unit/block/layered_driver.h"
#include "tests/unit/block/memory_driver.h"
#include "tests/unit/formats/gow1/memory_gow1.h"

#define SLOT_BYTES 777
#define ACTORS 12
#define SLOTS_EACH 8
#define IMAGE_BYTES (SLOT_BYTES * ACTORS * SLOTS_EACH)
#define LEAVES_MAX 6 /* logs too */
#define SPOTS_MAX 4
#define LOG_BYTES_MAX (64u << 20)
#define BLOCK_BYTES_MAX 4096 /* of any node: so far past its end a change is rounded */
#define NODES_MAX 7          /* from the top to a disk, without it */
#define REQUESTS 150
#define GRAPH_NS_MAX (UINT64_C(2) * 1000 * 1000 * 1000) /* then no actor asks for more */
#define GRAPHS_DEFAULT 10
#define DRIVERS_MAX 32

struct leaf {
    struct memory_disk disk;
    uint64_t start;   /* where the image begins on the disk */
    bool is_complete; /* it holds the whole image: no log, and no layer of it */
    bool is_gow1;     /* not byte by byte */
};

struct shared {
    struct stress stress;
    struct block_env env;
    const struct block_driver *drivers[DRIVERS_MAX];
    struct throttle_group *group; /* of all throttles: they wait for each other */

    /* of the graph under test */
    struct random random;
    unsigned graph;
    struct leaf leaves[LEAVES_MAX];
    unsigned leaf_count;
    bool may_fail; /* some rule fails requests */
    struct block_node *top;
    struct block_observer observer; /* of the top */
    atomic_bool was_shown[IMAGE_BYTES + BLOCK_BYTES_MAX];
    struct block_backend *backend;
    uint8_t oracle[IMAGE_BYTES];
    atomic_uint numbers, actors_ended;
    uint64_t end_ns;
};

/* --- graphs ---------------------------------------------------------------------------------- */

struct spot {
    char prefix[160]; /* of the node's options */
    unsigned depth;
    uint64_t start;
    bool is_verified;  /* below a verify: nothing may fail, since it would be a difference */
    bool is_in_shards; /* below a fault, which may cut what comes so small that a log has no end */
    bool is_layer;     /* of a layered image: has a part of it */
};

static void set(struct node_options *options, const struct spot *spot, const char *key,
                const char *value)
{
    char path[250];
    snprintf(path, sizeof(path), "%s%s", spot->prefix, key);
    check(node_options_set(options, path, value, NULL) == 0);
    if (strcmp(key, "disk") != 0)
        printf(" %s=%s", path, value);
}

static void set_number(struct node_options *options, const struct spot *spot, const char *key,
                       uint64_t number, const char *unit)
{
    char value[40];
    snprintf(value, sizeof(value), "%llu%s", (unsigned long long)number, unit);
    set(options, spot, key, value);
}

static struct spot below(const struct spot *spot, const char *key)
{
    struct spot child = *spot;
    size_t used = strlen(spot->prefix);
    snprintf(child.prefix + used, sizeof(child.prefix) - used, "%s.", key);
    child.depth++;
    return child;
}

static uint64_t one_of(struct random *random, const uint64_t *values, unsigned count)
{
    return values[random_below(random, count)];
}

#define ONE_OF(random, ...)                         \
    one_of(random, (const uint64_t[]){__VA_ARGS__}, \
           sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static struct leaf *new_leaf(struct shared *shared, const struct spot *spot, uint64_t size,
                             uint64_t capacity)
{
    struct random *random = &shared->random;
    struct leaf *leaf = &shared->leaves[shared->leaf_count++];
    memory_disk_init(&leaf->disk, size, capacity, random_below(random, UINT32_MAX));
    leaf->start = spot->start;
    leaf->is_complete = !spot->is_layer;
    leaf->is_gow1 = false;
    leaf->disk.pauses_max = (unsigned)random_below(random, 3);
    leaf->disk.refuses_zero = random_once_in(random, 4);
    leaf->disk.limits = (struct block_limits){
        .request_alignment = (uint32_t)ONE_OF(random, 1, 64, 512, 4096),
        .memory_alignment = (uint32_t)ONE_OF(random, 1, 16, 512),
        .transfer_bytes_max = ONE_OF(random, 0, 4096, 12288),
        .zero_bytes_max = ONE_OF(random, 0, 4096),
        .discard_bytes_max = ONE_OF(random, 0, 8192),
    };
    printf(" [alignment %u]", leaf->disk.limits.request_alignment);
    return leaf;
}

static void add_leaf(struct shared *shared, struct node_options *options, const struct spot *spot)
{
    static const char *const drivers[] = {"file", "growing", "bare"};
    uint64_t size = spot->start + IMAGE_BYTES;
    struct leaf *leaf = new_leaf(shared, spot, size, size);
    memory_disk_options(&leaf->disk, options, spot->prefix,
                        drivers[random_below(&shared->random, 3)]);
}

/* A gow1 image whose disk has whole blocks, and as much of it as there is of the others. Nothing
 * fails between it and its disk: it would not open. */
static void add_gow1(struct shared *shared, struct node_options *options, const struct spot *spot)
{
    uint64_t size = spot->start + IMAGE_BYTES;
    uint32_t blocks = (uint32_t)((size + GOW_BLOCK - 1) / GOW_BLOCK);
    struct spot image = below(spot, "file"), file = below(&image, "file");
    struct leaf *leaf = new_leaf(shared, spot, 0, GOW_DATA + (uint64_t)blocks * GOW_BLOCK);
    gow_make(&leaf->disk, blocks);
    leaf->is_gow1 = true;
    set(options, spot, "driver", "raw");
    set_number(options, spot, "size", size, "");
    set(options, &image, "driver", "gow1");
    memory_disk_options(&leaf->disk, options, file.prefix, "growing");
}

static void add_rule(struct shared *shared, struct node_options *options, const struct spot *spot)
{
    static const char *const kinds[] = {"read",    "write", "write-zeroes",
                                        "discard", "flush", "block-status"};
    struct random *random = &shared->random;
    shared->may_fail = true;
    for (unsigned i = 0; i < 4; i++) {
        char key[40];
        snprintf(key, sizeof(key), "inject-error.%u.iotype", i);
        set(options, spot, key, kinds[random_below(random, 6)]);
        snprintf(key, sizeof(key), "inject-error.%u.once", i);
        set(options, spot, key, "on");
        snprintf(key, sizeof(key), "inject-error.%u.nth", i);
        set_number(options, spot, key, 1 + random_below(random, 300), "");
        snprintf(key, sizeof(key), "inject-error.%u.partial", i);
        set_number(options, spot, key, random_below(random, 1000), "");
    }
}

static void add_fault(struct shared *shared, struct node_options *options, struct spot *spot)
{
    static const char *const multiples[] = {"max-transfer", "max-write-zero", "max-discard",
                                            "opt-write-zero", "opt-discard"};
    struct random *random = &shared->random;
    set(options, spot, "driver", "fault");
    spot->is_in_shards = true;
    /* Multiples of the alignment, whatever the child's is; small ones where it is 1. */
    uint64_t align = ONE_OF(random, 0, 0, 1, 1, 256, 4096);
    uint64_t unit = align == 1 ? 70 : 4096;
    if (align > 0)
        set_number(options, spot, "align", align, "");
    for (unsigned i = 0; i < 5; i++) {
        if (random_once_in(random, 3))
            set_number(options, spot, multiples[i], unit * (1 + random_below(random, 4)), "");
    }
    if (random_once_in(random, 3))
        set_number(options, spot, "short-read", 100 + random_below(random, 2000), "");
    if (random_once_in(random, 3))
        set_number(options, spot, "short-write", 100 + random_below(random, 2000), "");
    if (!spot->is_verified && random_once_in(random, 2))
        add_rule(shared, options, spot);
}

static void add_delay(struct shared *shared, struct node_options *options, const struct spot *spot)
{
    static const char *const names[] = {"rdelay", "wdelay", "zdelay", "tdelay",
                                        "fdelay", "edelay", "cdelay"};
    set(options, spot, "driver", "delay");
    for (unsigned i = 0; i < 7; i++) {
        if (random_once_in(&shared->random, 4))
            set_number(options, spot, names[i], random_below(&shared->random, 200), "us");
    }
}

static void add_throttle(struct node_options *options, const struct spot *spot)
{
    set(options, spot, "driver", "throttle");
    set(options, spot, "throttle-group", "all");
}

static void add_raw(struct shared *shared, struct node_options *options, struct spot *spot)
{
    uint64_t offset = ONE_OF(&shared->random, 0, 1, 512, 4096, 5000);
    set(options, spot, "driver", "raw");
    if (offset > 0)
        set_number(options, spot, "offset", offset, "");
    spot->start += offset;
}

/* Its log is a disk of its own: one more. */
static unsigned add_record(struct shared *shared, struct node_options *options,
                           const struct spot *spot)
{
    struct leaf *leaf = &shared->leaves[shared->leaf_count++];
    struct spot log = below(spot, "log");
    set(options, spot, "driver", "record");
    set_number(options, spot, "log-sector-size", ONE_OF(&shared->random, 512, 4096), "");
    memory_disk_init(&leaf->disk, 0, LOG_BYTES_MAX, random_below(&shared->random, UINT32_MAX));
    leaf->is_complete = leaf->is_gow1 = false;
    memory_disk_options(&leaf->disk, options, log.prefix, "growing");
    return 1;
}

/* An image over a backing file of zeroes, and copy-on-read above it. Returns where its file is. */
static struct spot add_layered(struct shared *shared, struct node_options *options,
                               const struct spot *spot)
{
    set(options, spot, "driver", "copy-on-read");
    struct spot image = below(spot, "file");
    image.is_layer = true;
    set(options, &image, "driver", "layered");
    struct spot backing = below(&image, "backing");
    add_leaf(shared, options, &backing);
    return below(&image, "file");
}

static void add_detect_zeroes(struct shared *shared, struct node_options *options,
                              const struct spot *spot)
{
    static const char *const modes[] = {"off", "on", "unmap"};
    const char *mode = modes[random_below(&shared->random, 3)];
    set(options, spot, "detect-zeroes", mode);
    if (strcmp(mode, "unmap") == 0)
        set(options, spot, "discard", "unmap");
}

/* A node and all below it. Its children are on a list of spots, so that a verify needs no
 * recursion. */
static void add_graph(struct shared *shared, struct node_options *options)
{
    struct random *random = &shared->random;
    struct spot spots[SPOTS_MAX] = {{.prefix = ""}};
    unsigned count = 1, disks = 1; /* disks: that there will be */
    while (count > 0) {
        struct spot spot = spots[--count];
        uint64_t choice = spot.depth >= NODES_MAX ? 0 : random_below(random, 14);
        if (choice < 2 && spot.depth > 0) {
            if (random_once_in(random, 3))
                add_gow1(shared, options, &spot);
            else
                add_leaf(shared, options, &spot);
            continue;
        }
        if (random_once_in(random, 4))
            add_detect_zeroes(shared, options, &spot);
        if ((choice == 8 || choice == 9) && disks < LEAVES_MAX && count + 2 <= SPOTS_MAX) {
            set(options, &spot, "driver", "verify");
            spot.is_verified = true;
            spots[count++] = below(&spot, "raw");
            spots[count++] = below(&spot, "test");
            disks++;
            continue;
        }
        if ((choice == 10 || choice == 11) && disks < LEAVES_MAX) {
            spots[count++] = add_layered(shared, options, &spot);
            disks++;
            continue;
        }
        if (choice < 4)
            add_raw(shared, options, &spot);
        else if (choice == 4)
            add_throttle(options, &spot);
        else if (choice < 7)
            add_fault(shared, options, &spot);
        else if (choice >= 12 && disks < LEAVES_MAX && !spot.is_in_shards)
            disks += add_record(shared, options, &spot);
        else
            add_delay(shared, options, &spot);
        spots[count++] = below(&spot, "file");
    }
}

/* --- actors ---------------------------------------------------------------------------------- */

struct actor {
    struct shared *shared;
    struct random random;
    uint8_t data[SLOT_BYTES];
};

static bool may_be(const struct shared *shared, int rc)
{
    return rc == 0 || (shared->may_fail && rc == -EIO);
}

static int co_transfer(struct actor *actor, bool is_write, uint64_t offset, uint8_t *data,
                       size_t length, unsigned flags)
{
    /* In three parts of memory, so that views of several iovecs are cut. */
    size_t third = length / 3;
    struct iovec iov[3] = {
        {data, third}, {data + third, third}, {data + 2 * third, length - 2 * third}};
    struct block_vec vec = {.iov = length < 3 ? iov + 2 : iov, .length = length};
    return is_write ? block_co_write(actor->shared->backend, offset, &vec, flags)
                    : block_co_read(actor->shared->backend, offset, &vec);
}

/* Each rule fails once, so after some tries it can be read. */
static void co_read_again(struct actor *actor, uint64_t offset, uint8_t *data, size_t length)
{
    for (unsigned tries = 0;; tries++) {
        int rc = co_transfer(actor, false, offset, data, length, 0);
        if (rc == 0)
            return;
        check(may_be(actor->shared, rc) && tries < 100);
    }
}

/* Bytes are what they were or what they should have become. */
static void co_look(struct actor *actor, uint64_t offset, size_t length)
{
    uint8_t *oracle = actor->shared->oracle + offset;
    uint8_t seen[SLOT_BYTES];
    co_read_again(actor, offset, seen, length);
    for (size_t i = 0; i < length; i++)
        check(seen[i] == oracle[i] || seen[i] == actor->data[i]);
    memcpy(oracle, seen, length);
}

static void co_change(struct actor *actor, uint64_t offset, size_t length)
{
    struct shared *shared = actor->shared;
    struct random *random = &actor->random;
    unsigned flags = random_once_in(random, 4) ? BLOCK_FUA : 0;
    unsigned choice = (unsigned)random_below(random, 6);
    int rc;
    memset(actor->data, 0, length);
    if (choice < 3) {
        unsigned values = random_once_in(random, 3) ? 1 : 256; /* zeroes, to be detected */
        for (size_t i = 0; i < length; i++)
            actor->data[i] = (uint8_t)random_below(random, values);
        rc = co_transfer(actor, true, offset, actor->data, length, flags);
    } else if (choice < 5) {
        flags |= random_once_in(random, 3) ? BLOCK_NO_UNMAP : 0;
        flags |= random_once_in(random, 3) ? BLOCK_FAST : 0;
        rc = block_co_zero(shared->backend, offset, length, flags);
        if (rc == -ENOTSUP && (flags & BLOCK_FAST))
            return;
    } else {
        rc = block_co_discard(shared->backend, offset, length, flags);
        check(may_be(shared, rc));
        co_look(actor, offset, length);
        return;
    }
    check(may_be(shared, rc));
    if (rc == 0)
        memcpy(shared->oracle + offset, actor->data, length);
    else
        co_look(actor, offset, length);
}

static void co_ask_status(struct actor *actor, uint64_t offset, size_t length)
{
    struct shared *shared = actor->shared;
    struct block_extent extent;
    int rc = block_co_status(shared->backend, offset, length, &extent);
    check(may_be(shared, rc));
    if (rc < 0 || !(extent.flags & BLOCK_EXTENT_ZERO))
        return;
    for (uint64_t i = 0; i < extent.length; i++)
        check(shared->oracle[offset + i] == 0);
}

static void co_one_request(struct actor *actor, uint64_t offset, size_t length)
{
    struct shared *shared = actor->shared;
    switch (random_below(&actor->random, 12)) {
    case 0:
        check(may_be(shared, block_co_flush(shared->backend)));
        break;
    case 1:
        check(may_be(shared, block_co_cache(shared->backend, offset, length)));
        break;
    case 2:
        co_ask_status(actor, offset, length);
        break;
    case 3:
    case 4:
    case 5:
        co_read_again(actor, offset, actor->data, length);
        check(memcmp(actor->data, shared->oracle + offset, length) == 0);
        break;
    default:
        co_change(actor, offset, length);
        break;
    }
}

static void actor_entry(void *arg)
{
    struct actor actor = {.shared = arg};
    struct shared *shared = arg;
    unsigned number = atomic_fetch_add(&shared->numbers, 1);
    stress_random(&shared->stress, &actor.random, shared->graph * 1000 + number);
    for (unsigned i = 0; i < REQUESTS && clock_monotonic.now_ns(&clock_monotonic) < shared->end_ns;
         i++) {
        uint64_t slot = number + ACTORS * random_below(&actor.random, SLOTS_EACH);
        uint64_t first = random_below(&actor.random, SLOT_BYTES);
        size_t length = 1 + random_below(&actor.random, SLOT_BYTES - first);
        co_one_request(&actor, slot * SLOT_BYTES + first, length);
        if (random_once_in(&actor.random, 20))
            stress_co_dawdle(&shared->stress, &actor.random);
    }
    atomic_fetch_add(&shared->actors_ended, 1);
}

/* --- the director ---------------------------------------------------------------------------- */

static int observer_co_note(struct block_observer *observer, struct block_node *node,
                            enum block_change change, uint64_t offset, uint64_t length)
{
    struct shared *shared = container_of(observer, struct shared, observer);
    (void)node;
    (void)change;
    check(offset + length <= IMAGE_BYTES + BLOCK_BYTES_MAX);
    for (uint64_t i = 0; i < length; i++)
        atomic_store_explicit(&shared->was_shown[offset + i], true, memory_order_relaxed);
    return 0;
}

static void co_open_graph(struct shared *shared)
{
    struct block_node *node;
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    check(options);
    printf("graph %u:", shared->graph);
    shared->leaf_count = 0;
    shared->may_fail = false;
    stress_random(&shared->stress, &shared->random, UINT32_MAX - shared->graph);
    add_graph(shared, options);
    printf("\n");
    fflush(stdout);
    if (block_co_open(&shared->env, options, &node, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    check(block_backend_new(&shared->backend, node, false, NULL) == 0);
    check(block_backend_size_bytes(shared->backend) == IMAGE_BYTES);
    shared->top = node;
    shared->observer.co_before = observer_co_note;
    observer_co_add(node, &shared->observer);
    for (unsigned i = 0; i < IMAGE_BYTES; i++)
        atomic_store(&shared->was_shown[i], false);
    memset(shared->oracle, 0, IMAGE_BYTES);
}

static void check_leaf(const struct shared *shared, const struct leaf *leaf)
{
    const uint8_t *data = leaf->disk.data + leaf->start;
    static uint8_t shown[IMAGE_BYTES];
    check(leaf->disk.active_count == 0);
    if (leaf->is_gow1) {
        check(gow_check(&leaf->disk).errors == 0);
        gow_read(&leaf->disk, leaf->start, shown, IMAGE_BYTES);
        data = shown;
    }
    if (leaf->is_complete)
        check(memcmp(data, shared->oracle, IMAGE_BYTES) == 0);
}

static void co_close_graph(struct shared *shared)
{
    struct actor reader = {.shared = shared};
    for (uint64_t offset = 0; offset < IMAGE_BYTES; offset += SLOT_BYTES) {
        co_read_again(&reader, offset, reader.data, SLOT_BYTES);
        check(memcmp(reader.data, shared->oracle + offset, SLOT_BYTES) == 0);
    }
    for (unsigned i = 0; i < IMAGE_BYTES; i++)
        check(shared->oracle[i] == 0 || atomic_load(&shared->was_shown[i]));
    observer_co_remove(shared->top, &shared->observer);
    block_co_node_unref(shared->top);
    check(may_be(shared, block_co_backend_free(shared->backend)));
    for (unsigned i = 0; i < shared->leaf_count; i++) {
        struct leaf *leaf = &shared->leaves[i];
        check_leaf(shared, leaf);
        memory_disk_fini(&leaf->disk);
    }
}

static void director(void *arg)
{
    struct shared *shared = arg;
    const char *given = getenv("PLATTER_GRAPHS");
    unsigned graphs = given ? (unsigned)strtoul(given, NULL, 0) : GRAPHS_DEFAULT;
    struct random random;
    random_seed(&random, 1);
    for (shared->graph = 0; shared->graph < graphs; shared->graph++) {
        co_open_graph(shared);
        atomic_store(&shared->numbers, 0);
        shared->end_ns = clock_monotonic.now_ns(&clock_monotonic) + GRAPH_NS_MAX;
        atomic_store(&shared->actors_ended, 0);
        for (unsigned i = 0; i < ACTORS; i++)
            stress_spawn(&shared->stress, i % STRESS_LOOPS, actor_entry, shared);
        while (atomic_load(&shared->actors_ended) < ACTORS)
            stress_co_dawdle(&shared->stress, &random);
        co_close_graph(shared);
    }
}

/* All there are, with disks in memory where the host's files would be. */
static void list_drivers(struct shared *shared)
{
    unsigned count = 0;
    shared->drivers[count++] = &layered_driver;
    for (unsigned i = 0; memory_drivers[i]; i++)
        shared->drivers[count++] = memory_drivers[i];
    for (unsigned i = 0; formats_registry[i]; i++) {
        check(count < DRIVERS_MAX - 1);
        if (strcmp(formats_registry[i]->name, "file") != 0)
            shared->drivers[count++] = formats_registry[i];
    }
}

int main(void)
{
    struct shared *shared = calloc(1, sizeof(*shared));
    check(shared);
    stress_init(&shared->stress, "random_graphs");
    list_drivers(shared);
    check(block_env_init(&shared->env, shared->stress.loops, STRESS_LOOPS, shared->stress.workers,
                         NULL, shared->drivers, NULL) == 0);
    struct throttle_limits limits;
    throttle_limits_init(&limits);
    limits.rates[THROTTLE_IOPS_TOTAL].average = 20000;
    check(throttle_group_new(&shared->group, &shared->env.throttle_groups, "all", &limits, NULL) ==
          0);
    stress_spawn(&shared->stress, 0, director, shared);
    stress_run(&shared->stress);
    throttle_group_free(shared->group);
    block_env_fini(&shared->env);
    stress_fini(&shared->stress);
    free(shared);
    return 0;
}
