/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Eight connections to a server on four loops, over random graphs of qcow2, raw and filters
 * (sim_graph.h) on files of the host: overlapping reads, writes, zeroes, trims, flushes and
 * questions for the block status, up to 400 deep, and clients that leave in the middle of them.
 * Holes are punched late, behind a filter that delays them.
 *
 * The server's loops are threads; the clients are those of the simulation, over real sockets, and
 * live on one thread, so that they share one oracle, which knows all values that a byte may have.
 * What the oracle calls sent is counted before a byte of it goes out, and answered after the last
 * byte came in: it allows what really may be.
 *
 * At the end a last client reads everything, the image is closed, opened again, read again, and
 * checked by us and by qemu-img.
 */
#include "tests/stress/stress.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/block.h"
#include "block/driver.h"
#include "block/env.h"
#include "block/host_files.h"
#include "block/sleep.h"
#include "formats/registry.h"
#include "server/export.h"
#include "server/intake.h"
#include "server/server.h"
#include "tests/harness/sim_client.h"
#include "tests/harness/sim_graph.h"
#include "tests/stress/socket_stream.h"

#define CLIENTS 8
#define SIZE_BYTES_MAX (1u << 20)
#define REQUESTS_DEFAULT 250 /* of each client */
#define LENGTH_MAX 65536
#define STORM_BYTES (192u << 10)
#define STORM_LENGTH_MAX 8192
#define STORM_DEPTH 64
#define STORM_TIMES 5     /* more requests */
#define PATIENCE_MS 60000 /* for any answer at all */
#define FOLDER "/tmp/platter-connections-XXXXXX"

struct scene {
    struct stress stress;
    struct block_env env;
    struct throttle_group *group;
    char folder[sizeof(FOLDER)];
    struct sim_graph graph;
    struct export *export;
    struct server *server;
    atomic_bool are_clients_gone;
    bool is_stopped;

    /* Of the clients' thread, and of loop 0 before and after it. */
    struct sim sim;
    struct random random;
    struct oracle oracle;
    struct sim_faults faults; /* none */
    struct sim_clients all;
    struct sim_client clients[CLIENTS + 1]; /* the last one reads it all */
};
static struct scene scene;

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *given = getenv(name);
    return given ? strtoull(given, NULL, 0) : otherwise;
}

static void must(int ret, const struct error *err, const char *what)
{
    if (ret >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, err->message);
    abort();
}

static void must_be_well(void)
{
    if (!sim_failed(&scene.sim))
        return;
    fprintf(stderr, "%s\n", scene.sim.failure);
    abort();
}

/* --- the clients' thread ------------------------------------------------------------------------
 */

struct arrival {
    struct loop_job job;
    struct stream *stream;
};

static void accept_home(struct loop_job *job)
{
    struct arrival *arrival = container_of(job, struct arrival, job);
    server_accept_stream(scene.server, arrival->stream);
    free(arrival);
}

static void connect_client(struct sim_client *client)
{
    struct arrival *arrival = malloc(sizeof(*arrival));
    check(arrival);
    sim_client_connect(client);
    arrival->job = (struct loop_job){.run = accept_home};
    arrival->stream = socket_stream_take_server(client->stream);
    loop_post(scene.stress.loops[0], &arrival->job);
}

/* Waits for the sockets of those who are still there; false: nobody is. */
static bool wait_for_sockets(struct sim_client *clients, unsigned count)
{
    struct pollfd fds[CLIENTS];
    struct sim_client *owners[CLIENTS];
    nfds_t used = 0;
    for (unsigned i = 0; i < count; i++) {
        if (clients[i].phase == PHASE_GONE)
            continue;
        short wish = clients[i].output.length > 0 ? POLLIN | POLLOUT : POLLIN;
        fds[used] = (struct pollfd){.fd = socket_stream_fd(clients[i].stream), .events = wish};
        owners[used++] = &clients[i];
    }
    if (used == 0)
        return false;
    int ready = poll(fds, used, PATIENCE_MS);
    if (ready == 0) {
        char text[256];
        sim_client_describe(owners[0], text, sizeof(text));
        fprintf(stderr, "hang: %s\n", text);
        abort();
    }
    for (nfds_t i = 0; i < used; i++)
        if (fds[i].revents)
            event_set(&owners[i]->event, 0);
    return true;
}

/* The clients' own time passes only from event to event: nobody waits for one that is idle. */
static void run_clients(struct sim_client *clients, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        connect_client(&clients[i]);
    do {
        sim_run(&scene.sim);
        must_be_well();
    } while (wait_for_sockets(clients, count));
}

static void *clients_main(void *arg)
{
    (void)arg;
    run_clients(scene.clients, CLIENTS);
    run_clients(&scene.clients[CLIENTS], 1);
    atomic_store(&scene.are_clients_gone, true);
    return NULL;
}

static void set_up_clients(bool is_storm)
{
    uint32_t length_max = is_storm ? STORM_LENGTH_MAX : LENGTH_MAX;
    scene.all = (struct sim_clients){
        .sim = &scene.sim,
        .oracle = &scene.oracle,
        .export_name = "",
        .faults = &scene.faults,
    };
    for (unsigned i = 0; i < 4; i++)
        scene.all.hot_spots[i] = random_below(&scene.random, scene.graph.size_bytes);
    for (unsigned i = 0; i <= CLIENTS; i++) {
        struct sim_client *client = &scene.clients[i];
        bool is_last = i == CLIENTS;
        sim_client_init(client, &scene.all, i, is_last ? SIM_CLIENT_VERIFIER : SIM_CLIENT_HONEST);
        if (is_last)
            continue;
        client->requests_left = number_from("PLATTER_REQUESTS", REQUESTS_DEFAULT);
        if (is_storm) {
            client->requests_left *= STORM_TIMES;
            client->depth = STORM_DEPTH;
        }
        client->changes_much = i % 2;
        if (client->length_max > length_max)
            client->length_max = length_max;
    }
}

/* --- loop 0 -------------------------------------------------------------------------------------
 */

static void stopped(void *ctx)
{
    (void)ctx;
    scene.is_stopped = true;
}

static void ignored(void *ctx)
{
    (void)ctx;
}

/* So little that WRITEs that come in part wait for each other, also for those of other loops. */
static const struct intake_limits little_intake = {
    .small_bytes = 1000,
    .room_bytes = 4000,
    .reserve_bytes = 4000,
    .behind_bytes = 300,
    .idle_ms = PATIENCE_MS,
    .slowest_bytes = 1,
};

static void serve_until_they_are_gone(void)
{
    struct error err;
    pthread_t clients;
    const struct server_options options = {
        .persistent = true,
        .stop_timeout_ms = PATIENCE_MS,
        .placement = &placement_fewest,
        .intake = &little_intake,
    };
    const struct server_events events = {
        .room = ignored, .last_left = ignored, .stopped = stopped, .ctx = &scene};
    must(server_new(&scene.server, &scene.env, scene.export, &options, &events, &err), &err,
         "the server");
    check(pthread_create(&clients, NULL, clients_main, NULL) == 0);
    while (!atomic_load(&scene.are_clients_gone))
        sleep_co_ns(NS_PER_MS);
    check(pthread_join(clients, NULL) == 0);
    server_stop(scene.server);
    while (!scene.is_stopped)
        sleep_co_ns(NS_PER_MS);
    server_free(scene.server);
}

/* Opened once more, the image shows what it did, and a check finds nothing. */
static void co_look_again(const char *options)
{
    struct block_node *node;
    struct oracle_view view;
    struct iovec iov;
    struct error err;
    uint64_t errors, leaks, size = scene.graph.size_bytes;
    uint8_t *bytes = malloc(size);
    check(bytes);
    struct block_vec vec = vec_of_buffer(&iov, bytes, size);
    must(sim_graph_co_open(&scene.graph, &scene.env, options, &node, &err), &err, "opening again");
    oracle_view_open(&scene.oracle, &view, 0, size);
    check(node_co_read(node, 0, &vec) == 0);
    block_co_node_unref(node);
    oracle_view_check(&scene.oracle, &view, bytes, "what was read at the end");
    oracle_view_close(&view);
    free(bytes);
    must_be_well();
    must(sim_graph_co_check(&scene.graph, &scene.env, &errors, &leaks, &err), &err, "the check");
    if (errors + leaks > 0)
        fprintf(stderr, "the check: %s\n", err.message);
    check(errors == 0);
    check(leaks == 0);
}

static void conductor(void *arg)
{
    const char *options =
        random_once_in(&scene.random, 2) ? "discard=unmap" : "discard=unmap,aio=threads";
    const struct export_options export_options = {.name = "", .multi_conn = true};
    struct block_node *node;
    struct error err;
    (void)arg;
    must(sim_graph_co_make(&scene.graph, &scene.env, &scene.oracle, &err), &err,
         "making the image");
    must(sim_graph_co_open(&scene.graph, &scene.env, options, &node, &err), &err, "opening");
    must(export_co_open(&scene.export, node, &export_options, &err), &err, "exporting");
    block_co_node_unref(node);
    serve_until_they_are_gone();
    check(export_co_close(scene.export) == 0);
    co_look_again(options);
}

/* --- graphs -------------------------------------------------------------------------------------
 */

/* The first one is no draw of chance: few clusters that change hands all the time, while reads of
 * them, and the punches of their holes, are held up for longer than a round of the tables takes. */
static void make_storm(struct sim_graph *graph)
{
    *graph = (struct sim_graph){.size_bytes = STORM_BYTES, .image_bytes = STORM_BYTES};
    snprintf(graph->image, sizeof(graph->image), "%s/image.qcow2", scene.folder);
    snprintf(graph->create, sizeof(graph->create), "filename=%s,size=%u,cluster_size=512",
             graph->image, STORM_BYTES);
    snprintf(graph->options, sizeof(graph->options),
             "driver=qcow2,file.driver=delay,file.rdelay=80ms,file.tdelay=1ms,"
             "file.file.driver=file,file.file.filename=%s",
             graph->image);
}

static void make_graph(unsigned number)
{
    if (number == 0) {
        make_storm(&scene.graph);
        return;
    }
    uint64_t size = draw_scaled(&scene.random, 131072, SIZE_BYTES_MAX) / 512 * 512;
    sim_graph_draw(&scene.graph, &scene.random, scene.folder, size, number % 3 < 2);
}

/* --- runs ---------------------------------------------------------------------------------------
 */

static void shell(const char *format, const char *argument)
{
    char command[SIM_GRAPH_PATH_MAX + 64];
    snprintf(command, sizeof(command), format, argument);
    int status = system(command);
    if (status == 0)
        return;
    fprintf(stderr, "exit status %d: %s\n", WEXITSTATUS(status), command);
    abort();
}

static void run(unsigned number)
{
    struct error err;
    char name[32];
    memset(&scene, 0, sizeof(scene));
    snprintf(name, sizeof(name), "connections, graph %u", number);
    stress_init(&scene.stress, name);
    sim_init(&scene.sim, scene.stress.seed + number, false);
    scene.sim.events_max = UINT64_MAX;
    scene.random = sim_random(&scene.sim, "connections", 0);
    strcpy(scene.folder, FOLDER);
    check(mkdtemp(scene.folder));
    make_graph(number);
    printf("%s\n%s\n", scene.graph.options, scene.graph.create);
    fflush(stdout);
    oracle_init(&scene.oracle, &scene.sim, scene.graph.size_bytes);
    sim_faults_init(&scene.faults, &scene.sim);
    set_up_clients(number == 0);
    must(block_env_init(&scene.env, scene.stress.loops, STRESS_LOOPS, scene.stress.workers,
                        &host_files_linux, formats_registry, &err),
         &err, "the environment");
    must(sim_graph_add_group(&scene.env, &scene.group, &err), &err, "the throttle group");
    stress_spawn(&scene.stress, 0, conductor, NULL);
    stress_run(&scene.stress);
    if (scene.graph.create[0])
        shell("qemu-img check -q -f qcow2 '%s'", scene.graph.image);
    shell("rm -r '%s'", scene.folder);
    printf("%llu requests checked, %llu bytes\n", (unsigned long long)scene.all.requests_checked,
           (unsigned long long)scene.oracle.bytes_checked);
    for (unsigned i = 0; i <= CLIENTS; i++)
        sim_client_fini(&scene.clients[i]);
    throttle_group_free(scene.group);
    block_env_fini(&scene.env);
    stress_fini(&scene.stress);
    sim_faults_fini(&scene.faults);
    oracle_fini(&scene.oracle);
    sim_fini(&scene.sim);
}

int main(void)
{
    unsigned graphs = (unsigned)number_from("PLATTER_GRAPHS", GRAPHS_DEFAULT);
    signal(SIGPIPE, SIG_IGN);
    for (unsigned i = 0; i < graphs; i++)
        run(i);
    return 0;
}
