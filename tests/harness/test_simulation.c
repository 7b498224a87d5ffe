/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs the simulation:
 *
 *   test_simulation                    PLATTER_SIM_SEEDS seeds, from PLATTER_SIM_SEED on
 *   test_simulation --twice            some seeds twice: both runs must be the same, to the byte
 *   test_simulation --teeth            every planted bug must be found within TEETH_SEEDS seeds
 *   test_simulation --seed N           one seed, in this process, for a debugger
 *                   [--trace]          and every step of it
 *                   [--plant NAME]     and with a planted bug
 *
 *   test_simulation --graphs ...       the same over graphs of qcow2, raw and filters
 * (sim_graph.h); a fifth as many seeds
 *
 * Each seed is a process of its own, so that one that crashes is a seed that failed.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/sim_world.h"

#define SEED_DEFAULT UINT64_C(20260101000)
#define GRAPHS_SHARE 5       /* a seed with a graph for so many without */
#define GRAPHS_LOGGED_MIN 40 /* among so many some are killed that have a redo log */
#define TWICE_SEEDS 20
#define TEETH_SEEDS 50
#define JOBS_MAX 4
#define SECONDS_MAX 120 /* for one seed: it is a loop without end */

/* What a run leaves behind; in memory that parent and children share. */
struct outcome {
    uint64_t seed;
    bool has_ended;
    uint64_t hash, events;
    uint64_t requests, reads, statuses, durables, survivors, bytes;
    uint64_t faults, lives, cuts, kills, logs;
    char failure[SIM_FAILURE_MAX];
    uint64_t judged;
    char description[2500];
};

struct job {
    pid_t pid; /* 0: none */
    int log;   /* what the child says */
    struct outcome *outcome;
};

static const char *program;
static bool has_graph; /* --graphs */

static void run_seed(struct outcome *outcome, uint64_t seed, enum sim_plant plant, bool is_traced)
{
    static struct sim_world world;
    sim_world_run(&world, seed, has_graph, plant, is_traced);
    outcome->judged = world.judged;
    outcome->seed = seed;
    outcome->hash = world.sim.hash;
    outcome->events = world.sim.events;
    outcome->requests = world.all.requests_checked;
    outcome->reads = world.oracle.reads_checked;
    outcome->statuses = world.oracle.statuses_checked;
    outcome->durables = world.oracle.durables_checked;
    outcome->survivors = world.oracle.survivors_checked;
    outcome->faults = world.faults;
    outcome->lives = world.lives;
    outcome->cuts = world.cuts;
    outcome->kills = world.kills;
    outcome->logs = world.logs;
    outcome->bytes = world.oracle.bytes_checked;
    memcpy(outcome->failure, world.sim.failure, sizeof(outcome->failure));
    sim_world_describe(&world, outcome->description, sizeof(outcome->description));
    outcome->has_ended = true;
}

/* --- children -------------------------------------------------------------------------------- */

static void jobs_init(struct job *jobs)
{
    struct outcome *outcomes = mmap(NULL, JOBS_MAX * sizeof(*outcomes), PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(outcomes != MAP_FAILED);
    for (unsigned i = 0; i < JOBS_MAX; i++)
        jobs[i] = (struct job){.log = -1, .outcome = &outcomes[i]};
}

/* Ends a process that ran one seed. What was in flight when a life was cut off, or went wrong, is
 * no leak; after the others, exit() lets the sanitizers look for leaks. */
static _Noreturn void end_of_seed(const struct outcome *outcome)
{
    bool failed = outcome->failure[0] != '\0';
    if (!failed && outcome->cuts + outcome->kills == 0)
        exit(0);
    fflush(stdout);
    _exit(failed);
}

static void job_start(struct job *job, uint64_t seed, enum sim_plant plant)
{
    memset(job->outcome, 0, sizeof(*job->outcome));
    job->outcome->seed = seed;
    job->log = memfd_create("log", MFD_CLOEXEC);
    fflush(stdout);
    job->pid = fork();
    assert(job->log >= 0 && job->pid >= 0);
    if (job->pid > 0)
        return;
    alarm(SECONDS_MAX);
    dup2(job->log, STDERR_FILENO);
    run_seed(job->outcome, seed, plant, false);
    end_of_seed(job->outcome);
}

/* What a child that died said, into the failure. */
static void job_read_log(struct job *job, int status)
{
    char log[SIM_FAILURE_MAX - 64];
    ssize_t length = pread(job->log, log, sizeof(log) - 1, 0);
    log[length > 0 ? length : 0] = '\0';
    snprintf(job->outcome->failure, sizeof(job->outcome->failure), "%s %d: %s",
             WIFSIGNALED(status) ? "killed by signal" : "exit status",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), log);
}

/* The job that ends next. */
static struct job *jobs_wait(struct job *jobs)
{
    int status;
    pid_t pid;
    do {
        pid = wait(&status);
    } while (pid < 0 && errno == EINTR);
    assert(pid > 0);
    struct job *job = jobs;
    while (job->pid != pid)
        job++;
    if (status != 0 && job->outcome->failure[0] == '\0')
        job_read_log(job, status);
    close(job->log);
    job->pid = 0;
    return job;
}

/* --- runs ------------------------------------------------------------------------------------ */

static uint64_t number_from_env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

static void report(const struct outcome *outcome)
{
    printf("FAILED: seed %" PRIu64 " (%s)\n  %s\n  again: %s%s --seed %" PRIu64 " --trace\n",
           outcome->seed, outcome->description, outcome->failure, program,
           has_graph ? " --graphs" : "", outcome->seed);
}

static unsigned job_count(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors < 1 ? 1 : processors > JOBS_MAX ? JOBS_MAX : (unsigned)processors;
}

static void add(struct outcome *sum, const struct outcome *outcome)
{
    sum->events += outcome->events;
    sum->requests += outcome->requests;
    sum->reads += outcome->reads;
    sum->statuses += outcome->statuses;
    sum->durables += outcome->durables;
    sum->survivors += outcome->survivors;
    sum->faults += outcome->faults;
    sum->lives += outcome->lives;
    sum->cuts += outcome->cuts;
    sum->kills += outcome->kills;
    sum->logs += outcome->logs;
    sum->bytes += outcome->bytes;
    sum->judged += outcome->judged;
}

static int run_many(void)
{
    uint64_t first = number_from_env("PLATTER_SIM_SEED", SEED_DEFAULT);
    uint64_t count = number_from_env("PLATTER_SIM_SEEDS", SEEDS_DEFAULT);
    if (has_graph)
        count = (count + GRAPHS_SHARE - 1) / GRAPHS_SHARE;
    struct job jobs[JOBS_MAX];
    struct outcome sum = {0};
    uint64_t started = 0, ended = 0;
    unsigned failed = 0;
    jobs_init(jobs);
    printf("%" PRIu64 " seeds from %" PRIu64 "\n", count, first);
    while (ended < count) {
        for (unsigned i = 0; i < job_count() && started < count && failed < 5; i++)
            if (jobs[i].pid == 0)
                job_start(&jobs[i], first + started++, PLANT_NONE);
        if (ended == started)
            break;
        struct job *job = jobs_wait(jobs);
        ended++;
        add(&sum, job->outcome);
        if (job->outcome->failure[0] == '\0')
            continue;
        report(job->outcome);
        failed++;
    }
    printf("%" PRIu64 " seeds, %u failed; checked %" PRIu64 " requests: %" PRIu64 " reads, %" PRIu64
           " zero extents, %" PRIu64 " ranges on stable storage, %" PRIu64 " bytes\n",
           ended, failed, sum.requests, sum.reads, sum.statuses, sum.durables, sum.bytes);
    printf("%" PRIu64 " lives of the server, %" PRIu64 " kills, %" PRIu64
           " power cuts with %" PRIu64 " images, %" PRIu64 " faults, %" PRIu64 " events\n",
           sum.lives, sum.kills, sum.cuts, sum.survivors, sum.faults, sum.events);
    if (has_graph)
        printf("%" PRIu64 " images judged by qemu-img check; %" PRIu64
               " kills that left a redo log with all that was changed\n",
               sum.judged, sum.logs);
    bool is_enough = sum.requests > 0 && (!has_graph || sum.logs > 0 || count < GRAPHS_LOGGED_MIN);
    return failed > 0 || !is_enough;
}

static struct outcome run_alone(struct job *job, uint64_t seed, enum sim_plant plant)
{
    job_start(job, seed, plant);
    return *jobs_wait(job)->outcome;
}

/* The run's hash in a process that was not forked from this one, so that it has other addresses:
 * nothing may depend on them. */
static uint64_t hash_elsewhere(uint64_t seed)
{
    char command[512], line[512];
    uint64_t hash = 0;
    snprintf(command, sizeof(command), "'%s' %s --seed %" PRIu64 " 2>/dev/null", program,
             has_graph ? "--graphs" : "", seed);
    FILE *pipe = popen(command, "r");
    assert(pipe);
    while (fgets(line, sizeof(line), pipe)) {
        const char *at = strstr(line, "hash ");
        if (at)
            hash = strtoull(at + 5, NULL, 16);
    }
    pclose(pipe);
    return hash;
}

static int run_twice(void)
{
    uint64_t first = number_from_env("PLATTER_SIM_SEED", SEED_DEFAULT);
    struct job jobs[JOBS_MAX];
    int failed = 0;
    jobs_init(jobs);
    for (uint64_t seed = first; seed < first + TWICE_SEEDS; seed++) {
        struct outcome outcome = run_alone(jobs, seed, PLANT_NONE);
        uint64_t hash = hash_elsewhere(seed);
        if (outcome.hash == hash && outcome.events > 0)
            continue;
        printf("FAILED: seed %" PRIu64 " ran differently: hash %016" PRIx64 ", then %016" PRIx64
               "\n",
               seed, outcome.hash, hash);
        failed = 1;
    }
    printf("%d seeds ran twice\n", TWICE_SEEDS);
    return failed;
}

static int run_teeth(void)
{
    uint64_t first = number_from_env("PLATTER_SIM_SEED", SEED_DEFAULT);
    struct job jobs[JOBS_MAX];
    int failed = 0;
    jobs_init(jobs);
    for (unsigned plant = PLANT_NONE + 1; plant < PLANT_COUNT; plant++) {
        struct outcome outcome = {0};
        unsigned seeds = 0;
        while (seeds < TEETH_SEEDS && outcome.failure[0] == '\0')
            outcome = run_alone(jobs, first + seeds++, plant);
        if (outcome.failure[0] == '\0') {
            printf("FAILED: %s was not found in %u seeds\n", sim_plant_names[plant], seeds);
            failed = 1;
        } else {
            printf("%s: found by seed %u: %s\n", sim_plant_names[plant], seeds, outcome.failure);
        }
    }
    return failed;
}

static int run_one(int argc, char **argv)
{
    static struct outcome outcome;
    enum sim_plant plant = PLANT_NONE;
    bool is_traced = false;
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0)
            is_traced = true;
        else if (strcmp(argv[i], "--plant") == 0 && i + 1 < argc)
            for (i++; plant < PLANT_COUNT && strcmp(argv[i], sim_plant_names[plant]) != 0;)
                plant++;
    }
    if (plant == PLANT_COUNT) {
        fprintf(stderr, "no such plant\n");
        return 2;
    }
    run_seed(&outcome, strtoull(argv[2], NULL, 0), plant, is_traced);
    printf("seed %" PRIu64 ": %s\n%" PRIu64 " events, hash %016" PRIx64 ", %" PRIu64
           " requests checked\n",
           outcome.seed, outcome.description, outcome.events, outcome.hash, outcome.requests);
    if (outcome.failure[0] != '\0')
        report(&outcome);
    end_of_seed(&outcome);
}

int main(int argc, char **argv)
{
    program = argv[0];
    if (argc > 1 && strcmp(argv[1], "--graphs") == 0) {
        has_graph = true;
        argc--;
        argv++;
    }
    /* Most of a run's time was the kernel's, clearing pages for arrays that come and go. */
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    if (argc == 1)
        return run_many();
    if (argc == 2 && strcmp(argv[1], "--twice") == 0)
        return run_twice();
    if (argc == 2 && strcmp(argv[1], "--teeth") == 0)
        return run_teeth();
    if (argc >= 3 && strcmp(argv[1], "--seed") == 0)
        return run_one(argc, argv);
    fprintf(stderr,
            "usage: %s [--graphs] [--twice | --teeth | --seed N [--trace] [--plant NAME]]\n",
            program);
    return 2;
}
