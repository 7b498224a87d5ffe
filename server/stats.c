/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/stats.h"

#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "block/block.h"
#include "common/clock.h"
#include "common/error.h"
#include "server/export.h"
#include "server/json_writer.h"

/* --- JSON ------------------------------------------------------------------------------------ */

static const char *const span_names[LATENCY_SPAN_COUNT] = {
    [LATENCY_LIFE] = "life",
    [LATENCY_MINUTE] = "last_1m",
    [LATENCY_TEN_MINUTES] = "last_10m",
    [LATENCY_HOUR] = "last_1h",
};

static void write_latency(struct json_writer *json, const char *key,
                          const struct latency_summary *latency)
{
    json_begin_object(json, key);
    json_number(json, "count", latency->count);
    json_number(json, "min_ns", latency->min_ns);
    json_number(json, "avg_ns", latency->avg_ns);
    json_number(json, "p50_ns", latency->p50_ns);
    json_number(json, "p99_ns", latency->p99_ns);
    json_number(json, "max_ns", latency->max_ns);
    json_end_object(json);
}

static void write_kind(struct json_writer *json, const struct account *account,
                       enum account_kind kind)
{
    struct account_counts counts;
    account_read_counts(account, kind, &counts);
    json_begin_object(json, account_kind_name(kind));
    json_number(json, "operations", counts.operations);
    json_number(json, "bytes", counts.bytes);
    json_number(json, "failed", counts.failed);
    json_number(json, "invalid", counts.invalid);
    json_number(json, "merged", counts.merged);
    json_begin_object(json, "latency");
    for (enum latency_span span = LATENCY_LIFE; span < LATENCY_SPAN_COUNT; span++) {
        struct latency_summary latency;
        account_read_latency(account, kind, span, &latency);
        if (latency.count > 0)
            write_latency(json, span_names[span], &latency);
    }
    json_end_object(json);
    json_end_object(json);
}

static void write_account(struct json_writer *json, const struct account *account)
{
    json_begin_object(json, "requests");
    for (enum account_kind kind = 0; kind < ACCOUNT_KIND_COUNT; kind++)
        write_kind(json, account, kind);
    json_end_object(json);
}

static void write_number(void *json, const char *name, uint64_t value)
{
    json_number(json, name, value);
}

/* A graph is at most BLOCK_GRAPH_DEPTH_MAX deep. */
static void write_node(struct json_writer *json, const char *key, const struct block_node *node)
{
    const struct block_node *child;
    json_begin_object(json, key);
    json_string(json, "driver", block_node_driver_name(node));
    json_string(json, "name", block_node_name(node));
    if (block_node_given_name(node))
        json_string(json, "node_name", block_node_given_name(node));
    write_account(json, block_node_account(node));
    json_begin_object(json, "counters");
    block_node_tell_numbers(node, write_number, json);
    json_end_object(json);
    json_begin_array(json, "children");
    for (unsigned i = 0; (child = block_node_child(node, i)) != NULL; i++)
        write_node(json, NULL, child);
    json_end_array(json);
    json_end_object(json);
}

static void write_policy(struct json_writer *json, struct error_policy *policy, uint64_t now_ns)
{
    struct error_policy_status status;
    error_policy_look(policy, &status);
    json_begin_object(json, "error_policy");
    json_string(json, "rerror", error_action_name(policy->on_read));
    json_string(json, "werror", error_action_name(policy->on_write));
    if (status.is_stopped) {
        json_begin_object(json, "stopped");
        json_number(json, "for_ns", now_ns > status.stopped_ns ? now_ns - status.stopped_ns : 0);
        json_number(json, "errno", (uint64_t)-status.stopped_code);
        json_string(json, "error", error_text(status.stopped_code));
        json_number(json, "held_requests", status.held_count);
        json_end_object(json);
    } else {
        json_null(json, "stopped");
    }
    json_number(json, "stops", status.stop_count);
    json_number(json, "retried_requests", status.retried_count);
    json_number(json, "ignored_reads", status.ignored_read_count);
    json_number(json, "ignored_writes", status.ignored_write_count);
    json_end_object(json);
}

static void write_export(struct json_writer *json, struct export *export, uint64_t now_ns)
{
    json_begin_object(json, NULL);
    json_string(json, "name", export->name);
    json_number(json, "size_bytes", export->info.size_bytes);
    json_bool(json, "read_only", block_backend_is_read_only(export->backend));
    write_account(json, &export->account);
    json_begin_object(json, "counters");
    for (unsigned i = 0; i < export->account.counter_count; i++)
        json_number(json, export->account.counter_names[i], account_counter(&export->account, i));
    json_end_object(json);
    write_policy(json, &export->error_policy, now_ns);
    write_node(json, "node", block_backend_node(export->backend));
    json_end_object(json);
}

void stats_write_json(FILE *to, struct export *export, uint64_t now_ns, uint64_t started_ns,
                      const char *why)
{
    struct json_writer json;
    json_init(&json, to);
    json_begin_object(&json, NULL);
    json_string(&json, "version", PLATTER_VERSION);
    json_number(&json, "pid", (uint64_t)getpid());
    json_string(&json, "written_at", why);
    json_number(&json, "time_s", (uint64_t)time(NULL));
    json_number(&json, "uptime_ns", now_ns - started_ns);
    json_begin_array(&json, "exports");
    write_export(&json, export, now_ns);
    json_end_array(&json);
    json_end_object(&json);
    json_fini(&json);
}

/* --- text ------------------------------------------------------------------------------------ */

static void print_us(FILE *to, const char *what, uint64_t ns)
{
    fprintf(to, "%s %" PRIu64 ".%" PRIu64, what, ns / 1000, ns % 1000 / 100);
}

static void print_account(FILE *to, const struct account *account, const char *indent)
{
    for (enum account_kind kind = 0; kind < ACCOUNT_KIND_COUNT; kind++) {
        struct account_counts counts;
        struct latency_summary latency;
        account_read_counts(account, kind, &counts);
        account_read_latency(account, kind, LATENCY_LIFE, &latency);
        if (counts.operations + counts.failed + counts.invalid == 0)
            continue;
        fprintf(to, "%s%-8s %" PRIu64 ", %" PRIu64 " bytes", indent, account_kind_name(kind),
                counts.operations, counts.bytes);
        if (counts.merged)
            fprintf(to, ", %" PRIu64 " merged", counts.merged);
        if (counts.failed)
            fprintf(to, ", %" PRIu64 " failed", counts.failed);
        if (counts.invalid)
            fprintf(to, ", %" PRIu64 " invalid", counts.invalid);
        if (latency.count) {
            print_us(to, "; us: min", latency.min_ns);
            print_us(to, ", avg", latency.avg_ns);
            print_us(to, ", p50", latency.p50_ns);
            print_us(to, ", p99", latency.p99_ns);
            print_us(to, ", max", latency.max_ns);
        }
        fputc('\n', to);
    }
}

static void print_number(void *to, const char *name, uint64_t value)
{
    if (value)
        fprintf(to, "    %s %" PRIu64 "\n", name, value);
}

static void print_nodes(FILE *to, const struct block_node *node)
{
    const struct block_node *child;
    fprintf(to, "  node %s '%s'\n", block_node_driver_name(node), block_node_name(node));
    print_account(to, block_node_account(node), "    ");
    block_node_tell_numbers(node, print_number, to);
    for (unsigned i = 0; (child = block_node_child(node, i)) != NULL; i++)
        print_nodes(to, child);
}

void stats_write_text(FILE *to, struct export *export, uint64_t now_ns, uint64_t started_ns)
{
    struct error_policy_status status;
    error_policy_look(&export->error_policy, &status);
    fprintf(to, "export \"%s\", %" PRIu64 " bytes, served for %" PRIu64 " s\n", export->name,
            export->info.size_bytes, (now_ns - started_ns) / NS_PER_S);
    if (status.is_stopped)
        fprintf(to, "  stopped: %s; %u requests are held\n", error_text(status.stopped_code),
                status.held_count);
    if (status.ignored_read_count + status.ignored_write_count > 0)
        fprintf(to, "  errors ignored: %" PRIu64 " of reads, %" PRIu64 " of writes\n",
                status.ignored_read_count, status.ignored_write_count);
    print_account(to, &export->account, "  ");
    for (unsigned i = 0; i < export->account.counter_count; i++)
        print_number(to, export->account.counter_names[i], account_counter(&export->account, i));
    print_nodes(to, block_backend_node(export->backend));
}
