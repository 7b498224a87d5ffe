/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A qcow2 image used by threads that are not ours, as nbdkit's are: more of them than there are
 * loops, each with one request after the other, and each gone after a while, when another comes in
 * its place. Each writes, zeroes, trims and reads small ranges of its own that lie in the same few
 * clusters as those of the others, and flushes; it sees what it wrote last, and a trim shows the
 * old bytes or zeroes. What is trimmed is given back behind the requests, on the home loop.
 *
 * Half of the time the image is ended in the middle: requests are refused from then on, and those
 * that were answered have had their effect.
 *
 * At the end the image is closed; a check finds neither an error nor a leak, and what is read from
 * the image when it is opened again is what was written.
 */
#include "tests/stress/stress.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "block/node_options.h"
#include "contrib/nbdkit-plugin/requests.h"
#include "contrib/nbdkit-plugin/shared_image.h"

#define LOOPS 6 /* one of them home */
#define THREADS 16
#define GENERATIONS 4
#define ROUNDS 150
#define RANGE_BYTES 700
#define GROUPS 60
#define DISK_BYTES (GROUPS * THREADS * RANGE_BYTES)

struct scene {
    uint64_t seed;
    struct stand stand;
    struct parameters parameters;
    struct shared_image image;
    char path[64];
    uint8_t model[THREADS][GROUPS][RANGE_BYTES];
    bool is_unsure[THREADS][GROUPS]; /* its last request was refused */
    atomic_uint refused;
};
static struct scene scene;

struct visitor {
    pthread_t thread;
    unsigned number, generation;
};

static uint64_t offset_of(unsigned number, unsigned group)
{
    return ((uint64_t)group * THREADS + number) * RANGE_BYTES;
}

static int run(enum request_kind kind, uint64_t offset, uint32_t length, void *data)
{
    struct request request = {.kind = kind, .offset = offset, .length = length, .data = data};
    int code = request_run(&scene.image, &request);
    if (code == -ESHUTDOWN)
        atomic_fetch_add(&scene.refused, 1);
    else
        check(code == 0);
    return code;
}

static bool reads_what_was_written(unsigned number, unsigned group)
{
    uint8_t seen[RANGE_BYTES];
    if (run(REQUEST_READ, offset_of(number, group), RANGE_BYTES, seen) < 0)
        return false;
    check(memcmp(seen, scene.model[number][group], RANGE_BYTES) == 0);
    return true;
}

static int trim(unsigned number, unsigned group)
{
    uint8_t seen[RANGE_BYTES], *model = scene.model[number][group];
    int code = run(REQUEST_TRIM, offset_of(number, group), RANGE_BYTES, NULL);
    if (code == 0)
        code = run(REQUEST_READ, offset_of(number, group), RANGE_BYTES, seen);
    if (code < 0) {
        scene.is_unsure[number][group] = true;
        return code;
    }
    for (size_t i = 0; i < RANGE_BYTES; i++)
        check(seen[i] == 0 || seen[i] == model[i]);
    memcpy(model, seen, RANGE_BYTES);
    return 0;
}

/* A request that was refused was not carried out: the model is of what was answered. */
static int change(struct random *random, unsigned number, unsigned group)
{
    uint8_t bytes[RANGE_BYTES], *model = scene.model[number][group];
    uint64_t choice = random_below(random, 20);
    uint32_t from = (uint32_t)random_below(random, RANGE_BYTES);
    uint32_t length = (uint32_t)(1 + random_below(random, RANGE_BYTES - from));
    uint64_t offset = offset_of(number, group) + from;
    int code;
    if (choice < 12) {
        memset(bytes, (int)(1 + random_below(random, 255)), length);
        code = run(REQUEST_WRITE, offset, length, bytes);
    } else if (choice < 15) {
        memset(bytes, 0, length);
        code = run(REQUEST_ZERO, offset, length, NULL);
    } else if (choice < 18) {
        return trim(number, group);
    } else {
        return run(REQUEST_FLUSH, 0, 0, NULL);
    }
    if (code == 0)
        memcpy(model + from, bytes, length);
    return code;
}

static void *visit(void *arg)
{
    const struct visitor *visitor = arg;
    struct random random;
    random_seed(&random, scene.seed + visitor->generation * THREADS + visitor->number);
    for (unsigned round = 0; round < ROUNDS; round++) {
        /* most of the time where the others are too */
        unsigned group = random_once_in(&random, 3) ? (unsigned)random_below(&random, GROUPS)
                                                    : round / 16 % GROUPS;
        if (change(&random, visitor->number, group) < 0)
            break;
        if (!reads_what_was_written(visitor->number, group))
            break;
    }
    return NULL;
}

/* --- the image ---------------------------------------------------------------------------------
 */

static void create_main(void *arg)
{
    char text[160];
    struct error err = {""};
    struct node_options *options = node_options_new();
    (void)arg;
    snprintf(text, sizeof(text), "driver=qcow2,filename=%s,size=%u,cluster_size=4k", scene.path,
             DISK_BYTES);
    check(node_options_parse(options, text, NULL) == 0);
    if (block_co_create(&scene.stand.env, options, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
}

static void open_all(void)
{
    struct error err = {""};
    check(stand_init(&scene.stand, LOOPS, NULL) == 0);
    check(stand_start(&scene.stand, NULL) == 0);
    shared_image_init(&scene.image, &scene.stand, &scene.parameters);
    if (shared_image_open(&scene.image, false, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
}

static void take_down(void)
{
    shared_image_fini(&scene.image);
    stand_stop(&scene.stand);
    stand_fini(&scene.stand);
}

static void check_main(void *arg)
{
    struct block_check found;
    (void)arg;
    check(block_co_check((struct block_node *)block_backend_node(scene.image.backend), NULL, NULL,
                         &found, NULL) == 0);
    check(found.errors == 0 && found.leaks == 0 && found.unreadable == 0);
}

static void look_again(void)
{
    struct error err;
    open_all();
    check(stand_run_home_co(&scene.stand, check_main, NULL) == 0);
    for (unsigned number = 0; number < THREADS; number++) {
        for (unsigned group = 0; group < GROUPS; group++) {
            if (!scene.is_unsure[number][group])
                check(reads_what_was_written(number, group));
        }
    }
    check(shared_image_close(&scene.image, &err) == 0);
    take_down();
}

/* --- a life ------------------------------------------------------------------------------------
 */

static void *come_and_go(void *arg)
{
    struct visitor *visitor = arg;
    for (; visitor->generation < GENERATIONS; visitor->generation++) {
        pthread_t thread;
        check(pthread_create(&thread, NULL, visit, visitor) == 0);
        pthread_join(thread, NULL);
    }
    return NULL;
}

static void live(bool ends_in_the_middle)
{
    struct visitor visitors[THREADS];
    struct error err;
    memset(scene.model, 0, sizeof(scene.model));
    memset(scene.is_unsure, 0, sizeof(scene.is_unsure));
    check(stand_init(&scene.stand, 2, NULL) == 0);
    check(stand_run_home_co(&scene.stand, create_main, NULL) == 0);
    stand_fini(&scene.stand);
    open_all();
    for (unsigned i = 0; i < THREADS; i++) {
        visitors[i] = (struct visitor){.number = i};
        check(pthread_create(&visitors[i].thread, NULL, come_and_go, &visitors[i]) == 0);
    }
    if (ends_in_the_middle) {
        usleep(50000);
        check(shared_image_close(&scene.image, &err) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(visitors[i].thread, NULL);
    if (!ends_in_the_middle) {
        check(atomic_load(&scene.refused) == 0);
        check(shared_image_close(&scene.image, &err) == 0);
    }
    take_down();
    look_again();
    scene.refused = 0;
}

int main(void)
{
    static char folder[] = "/tmp/platter-stress.XXXXXX";
    scene.seed = stress_seed("host_threads");
    check(mkdtemp(folder));
    snprintf(scene.path, sizeof(scene.path), "%s/disk.qcow2", folder);
    check(parameters_init(&scene.parameters, folder, NULL) == 0);
    check(parameters_set(&scene.parameters, "file", scene.path, NULL) == 0);
    check(parameters_set(&scene.parameters, "format", "qcow2", NULL) == 0);
    check(parameters_set(&scene.parameters, "discard", "unmap", NULL) == 0);
    live(false);
    for (unsigned i = 0; i < 3; i++)
        live(true);
    parameters_fini(&scene.parameters);
    unlink(scene.path);
    rmdir(folder);
    return 0;
}
