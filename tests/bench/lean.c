/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The lean load generator: what is left of a client when only the protocol is left, so that a
 * figure is the server's. See lean --help.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "tests/bench/lean_load.h"

static const char usage[] =
    "lean: a pipelined NBD load from one thread\n"
    "usage: lean [options] MODE TARGET\n"
    "MODE is read, write, randread, randwrite, or writeflush (a write, then a flush when it is\n"
    "answered; the pair counts as one request).\n"
    "TARGET is nbd+unix:///NAME?socket=PATH, nbd://HOST:PORT/NAME (numeric), or a socket's path.\n"
    "  -d, --depth=N        requests in flight on each connection (16)\n"
    "  -c, --connections=N  connections (1)\n"
    "  -b, --block=BYTES    bytes in a request, k and m are known (4k)\n"
    "  -s, --seconds=N      how long (5)\n"
    "  -n, --requests=N     how many instead\n"
    "  -r, --seed=N         of the places (1)\n"
    "  -o, --offset=BYTES   only the part of the export from here on (0)\n"
    "  -l, --length=BYTES   and as long as this (to the end)\n"
    "  -S, --structured     structured replies (simple ones)\n"
    "  -v, --verify         write a pattern that depends on the place; check it in reads\n"
    "  -j, --json           the result as JSON\n"
    "  -h, --help           this\n";

static const struct option long_options[] = {
    {"depth", required_argument, NULL, 'd'},
    {"connections", required_argument, NULL, 'c'},
    {"block", required_argument, NULL, 'b'},
    {"seconds", required_argument, NULL, 's'},
    {"requests", required_argument, NULL, 'n'},
    {"seed", required_argument, NULL, 'r'},
    {"offset", required_argument, NULL, 'o'},
    {"length", required_argument, NULL, 'l'},
    {"structured", no_argument, NULL, 'S'},
    {"verify", no_argument, NULL, 'v'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static const char *const mode_names[] = {"read",      "write",      "randread",
                                         "randwrite", "writeflush", NULL};

static void refuse(const char *what, const char *value)
{
    fprintf(stderr, "lean: %s '%s'; see lean --help\n", what, value);
    exit(2);
}

static uint64_t parse_number(const char *text, uint64_t min, uint64_t max)
{
    char *end;
    uint64_t number = strtoull(text, &end, 0);
    if (*end == 'k' || *end == 'm') {
        number *= *end == 'k' ? 1024 : 1024 * 1024;
        end++;
    }
    if (end == text || *end || number < min || number > max) {
        refuse("cannot use the number", text);
    }
    return number;
}

/* Takes a URI (or a path) apart; the strings live as long as the process. */
static void parse_target(const char *target, struct lean_plan *plan)
{
    static char copy[4096];
    if (strlen(target) >= sizeof(copy)) {
        refuse("too long a target", target);
    }
    strcpy(copy, target);
    plan->export_name = "";
    if (strncmp(copy, "nbd+unix:///", 12) == 0) {
        char *socket = strstr(copy, "?socket=");
        if (!socket) {
            refuse("no socket= in", target);
        }
        plan->address = socket + 8;
        *socket = '\0';
        plan->export_name = copy + 12;
    } else if (strncmp(copy, "nbd://", 6) == 0) {
        char *slash = strchr(copy + 6, '/');
        if (slash) {
            *slash = '\0';
            plan->export_name = slash + 1;
        }
        plan->address = copy + 6;
    } else if (copy[0] == '/') {
        plan->address = copy;
    } else {
        refuse("no target", target);
    }
}

static enum lean_mode parse_mode(const char *name)
{
    for (int i = 0; mode_names[i]; i++) {
        if (strcmp(name, mode_names[i]) == 0) {
            return i;
        }
    }
    refuse("no mode", name);
    return 0;
}

static bool parse_options(int argc, char **argv, struct lean_plan *plan)
{
    bool json = false;
    int option;
    while ((option = getopt_long(argc, argv, "d:c:b:s:n:r:o:l:Svjh", long_options, NULL)) != -1) {
        switch (option) {
        case 'd':
            plan->depth = parse_number(optarg, 1, 4096);
            break;
        case 'c':
            plan->connections = parse_number(optarg, 1, 10000);
            break;
        case 'b':
            plan->block_bytes = parse_number(optarg, 1, 32 << 20);
            break;
        case 's':
            plan->seconds = parse_number(optarg, 1, 1000000);
            break;
        case 'n':
            plan->requests = parse_number(optarg, 1, UINT64_MAX);
            break;
        case 'r':
            plan->seed = parse_number(optarg, 0, UINT64_MAX);
            break;
        case 'o':
            plan->part_offset = parse_number(optarg, 0, UINT64_MAX);
            break;
        case 'l':
            plan->part_bytes = parse_number(optarg, 1, UINT64_MAX);
            break;
        case 'S':
            plan->structured = true;
            break;
        case 'v':
            plan->verify = true;
            break;
        case 'j':
            json = true;
            break;
        case 'h':
            fputs(usage, stdout);
            exit(0);
        default:
            exit(2);
        }
    }
    if (argc - optind != 2) {
        fputs(usage, stderr);
        exit(2);
    }
    plan->mode = parse_mode(argv[optind]);
    parse_target(argv[optind + 1], plan);
    return json;
}

static double cpu_seconds(void)
{
    struct rusage usage_now;
    getrusage(RUSAGE_SELF, &usage_now);
    return usage_now.ru_utime.tv_sec + usage_now.ru_stime.tv_sec +
           (usage_now.ru_utime.tv_usec + usage_now.ru_stime.tv_usec) / 1e6;
}

static void report(const struct lean_plan *plan, const struct lean_result *result, double cpu_s,
                   bool json)
{
    double requests = result->requests ? result->requests : 1;
    double iops = result->requests / result->seconds;
    double p50_us = latency_percentile_ns(&result->latency, 0.50) / 1e3;
    double p99_us = latency_percentile_ns(&result->latency, 0.99) / 1e3;
    double max_us = result->latency.max_ns / 1e3;
    double mb_per_s = iops * plan->block_bytes / 1e6;
    double batch = requests / (result->turns ? result->turns : 1);
    if (json) {
        printf("{\"mode\": \"%s\", \"block_bytes\": %u, \"depth\": %u, \"connections\": %u, "
               "\"requests\": %llu, \"errors\": %llu, \"seconds\": %.6f, \"iops\": %.1f, "
               "\"mb_per_s\": %.2f, \"latency_us\": {\"p50\": %.2f, \"p99\": %.2f, \"max\": %.2f}, "
               "\"client_cpu_us_per_request\": %.3f, \"requests_per_receive\": %.2f}\n",
               mode_names[plan->mode], plan->block_bytes, plan->depth, plan->connections,
               (unsigned long long)result->requests, (unsigned long long)result->errors,
               result->seconds, iops, mb_per_s, p50_us, p99_us, max_us, cpu_s * 1e6 / requests,
               batch);
        return;
    }
    printf("%s %u bytes, depth %u, %u connection(s): %llu requests in %.2f s, %llu errors\n",
           mode_names[plan->mode], plan->block_bytes, plan->depth, plan->connections,
           (unsigned long long)result->requests, result->seconds,
           (unsigned long long)result->errors);
    printf("  %.0f IOPS, %.1f MB/s\n", iops, mb_per_s);
    printf("  latency p50 %.1f us, p99 %.1f us, max %.1f us\n", p50_us, p99_us, max_us);
    printf("  this client: %.2f us CPU a request, %.1f requests a receive\n",
           cpu_s * 1e6 / requests, batch);
}

int main(int argc, char **argv)
{
    struct lean_plan plan = {
        .depth = 16, .connections = 1, .block_bytes = 4096, .seconds = 5, .seed = 1};
    static struct lean_result result;
    bool json = parse_options(argc, argv, &plan);
    double cpu_before_s = cpu_seconds();
    if (lean_run(&plan, &result) < 0) {
        return 1;
    }
    report(&plan, &result, cpu_seconds() - cpu_before_s, json);
    return result.errors ? 1 : 0;
}
