/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/throttle.h"

#include <errno.h>
#include <inttypes.h>

#include "common/clock.h"

/* How long a bucket takes to fill at the rate that leaks out, where no burst says otherwise. */
#define BUCKET_S 0.1

const char *const throttle_rate_names[THROTTLE_RATE_COUNT] = {
    [THROTTLE_BPS_TOTAL] = "bps-total", [THROTTLE_BPS_READ] = "bps-read",
    [THROTTLE_BPS_WRITE] = "bps-write", [THROTTLE_IOPS_TOTAL] = "iops-total",
    [THROTTLE_IOPS_READ] = "iops-read", [THROTTLE_IOPS_WRITE] = "iops-write",
};

/* The rates that a direction's requests pour into. */
static const enum throttle_rate rates_of[THROTTLE_DIRECTION_COUNT][4] = {
    [THROTTLE_READ] = {THROTTLE_BPS_TOTAL, THROTTLE_IOPS_TOTAL, THROTTLE_BPS_READ,
                       THROTTLE_IOPS_READ},
    [THROTTLE_WRITE] = {THROTTLE_BPS_TOTAL, THROTTLE_IOPS_TOTAL, THROTTLE_BPS_WRITE,
                        THROTTLE_IOPS_WRITE},
};
#define RATES_OF_COUNT 4

static bool counts_bytes(enum throttle_rate rate)
{
    return rate == THROTTLE_BPS_TOTAL || rate == THROTTLE_BPS_READ || rate == THROTTLE_BPS_WRITE;
}

/* --- limits ------------------------------------------------------------------------------------
 */

void throttle_limits_init(struct throttle_limits *limits)
{
    *limits = (struct throttle_limits){.iops_size_bytes = 0};
    for (unsigned i = 0; i < THROTTLE_RATE_COUNT; i++)
        limits->rates[i].burst_length_s = 1;
}

/* A burst has the same rule as the average, and needs one; so looking at averages would do, but the
 * sentence is about what was given. */
static bool is_given(const struct throttle_limits *limits, enum throttle_rate rate)
{
    return limits->rates[rate].average > 0 || limits->rates[rate].burst > 0;
}

static int check_not_mixed(const struct throttle_limits *limits, enum throttle_rate total,
                           struct error *err)
{
    if (!is_given(limits, total))
        return 0;
    for (enum throttle_rate part = total + 1; part <= total + 2; part++) {
        if (is_given(limits, part))
            return error_set(err, -EINVAL,
                             "%s and %s cannot be limited together; limit the total, or reads and "
                             "writes each",
                             throttle_rate_names[total], throttle_rate_names[part]);
    }
    return 0;
}

static int check_range(const char *name, const char *what, uint64_t value, struct error *err)
{
    if (value <= THROTTLE_VALUE_MAX)
        return 0;
    return error_set(err, -EINVAL, "%s%s is %" PRIu64 "; the most is %" PRIu64, name, what, value,
                     THROTTLE_VALUE_MAX);
}

static int check_burst(const char *name, const struct throttle_limit *limit, struct error *err)
{
    if (limit->burst > 0 && limit->average == 0)
        return error_set(err, -EINVAL, "%s-max is given without %s; give the average as well", name,
                         name);
    if (limit->burst > 0 && limit->burst < limit->average)
        return error_set(err, -EINVAL,
                         "%s-max, %" PRIu64 ", is below %s, %" PRIu64
                         "; a burst is not slower than the average",
                         name, limit->burst, name, limit->average);
    if (limit->burst_length_s == 0)
        return error_set(err, -EINVAL, "%s-max-length is 0; a burst lasts at least 1 second", name);
    if (limit->burst_length_s > 1 && limit->burst == 0)
        return error_set(err, -EINVAL,
                         "%s-max-length is given without %s-max; give the rate of the burst as "
                         "well",
                         name, name);
    if (limit->burst > 0 && limit->burst_length_s > THROTTLE_VALUE_MAX / limit->burst)
        return error_set(err, -EINVAL,
                         "%s-max-length, %" PRIu64 ", is too long for %s-max, %" PRIu64
                         "; the two multiplied give at most %" PRIu64,
                         name, limit->burst_length_s, name, limit->burst, THROTTLE_VALUE_MAX);
    return 0;
}

static int check_rate(const struct throttle_limits *limits, enum throttle_rate rate,
                      struct error *err)
{
    const struct throttle_limit *limit = &limits->rates[rate];
    const char *name = throttle_rate_names[rate];
    int rc = check_range(name, "", limit->average, err);
    if (rc == 0)
        rc = check_range(name, "-max", limit->burst, err);
    if (rc == 0)
        rc = check_burst(name, limit, err);
    return rc;
}

int throttle_limits_check(const struct throttle_limits *limits, struct error *err)
{
    int rc = check_not_mixed(limits, THROTTLE_BPS_TOTAL, err);
    if (rc == 0)
        rc = check_not_mixed(limits, THROTTLE_IOPS_TOTAL, err);
    bool any_iops = false;
    for (enum throttle_rate rate = 0; rate < THROTTLE_RATE_COUNT && rc == 0; rate++) {
        any_iops |= !counts_bytes(rate) && limits->rates[rate].average > 0;
        rc = check_rate(limits, rate, err);
    }
    if (rc == 0)
        rc = check_range("iops-size", "", limits->iops_size_bytes, err);
    if (rc == 0 && limits->iops_size_bytes > 0 && !any_iops)
        rc = error_set(err, -EINVAL,
                       "iops-size is given, but no iops are limited; give iops-total, iops-read or "
                       "iops-write");
    return rc;
}

bool throttle_limits_concern(const struct throttle_limits *limits,
                             enum throttle_direction direction)
{
    for (unsigned i = 0; i < RATES_OF_COUNT; i++) {
        if (limits->rates[rates_of[direction][i]].average > 0)
            return true;
    }
    return false;
}

bool throttle_limits_have_total(const struct throttle_limits *limits)
{
    return limits->rates[THROTTLE_BPS_TOTAL].average > 0 ||
           limits->rates[THROTTLE_IOPS_TOTAL].average > 0;
}

/* --- buckets -----------------------------------------------------------------------------------
 */

void throttle_init(struct throttle *throttle, const struct throttle_limits *limits)
{
    *throttle = (struct throttle){.limits = *limits};
}

static double leak(double level, uint64_t a_second, double passed_s)
{
    double left = level - (double)a_second * passed_s;
    return left > 0 ? left : 0;
}

static void leak_all(struct throttle *throttle, uint64_t now_ns)
{
    if (now_ns <= throttle->leaked_ns)
        return;
    double passed_s = (double)(now_ns - throttle->leaked_ns) / (double)NS_PER_S;
    throttle->leaked_ns = now_ns;
    for (unsigned i = 0; i < THROTTLE_RATE_COUNT; i++) {
        const struct throttle_limit *limit = &throttle->limits.rates[i];
        struct throttle_bucket *bucket = &throttle->buckets[i];
        if (limit->average == 0)
            continue;
        bucket->level = leak(bucket->level, limit->average, passed_s);
        bucket->burst_level = leak(bucket->burst_level, limit->burst, passed_s);
    }
}

/* Until what is above `size` has leaked out. */
static uint64_t overflow_ns(double level, double size, uint64_t a_second)
{
    if (level <= size)
        return 0;
    double wait_ns = (level - size) / (double)a_second * (double)NS_PER_S;
    if (wait_ns >= (double)(THROTTLE_WAIT_MAX_NS - 1))
        return THROTTLE_WAIT_MAX_NS;
    return (uint64_t)wait_ns + 1; /* upwards: who comes back then finds room */
}

static uint64_t bucket_wait_ns(const struct throttle_limit *limit,
                               const struct throttle_bucket *bucket)
{
    if (limit->average == 0)
        return 0;
    if (limit->burst == 0)
        return overflow_ns(bucket->level, (double)limit->average * BUCKET_S, limit->average);
    double size = (double)limit->burst * (double)limit->burst_length_s;
    uint64_t wait_ns = overflow_ns(bucket->level, size, limit->average);
    if (limit->burst_length_s == 1)
        return wait_ns;
    uint64_t burst_ns =
        overflow_ns(bucket->burst_level, (double)limit->burst * BUCKET_S, limit->burst);
    return wait_ns > burst_ns ? wait_ns : burst_ns;
}

uint64_t throttle_wait_ns(struct throttle *throttle, enum throttle_direction direction,
                          uint64_t now_ns)
{
    uint64_t longest_ns = 0;
    leak_all(throttle, now_ns);
    for (unsigned i = 0; i < RATES_OF_COUNT; i++) {
        enum throttle_rate rate = rates_of[direction][i];
        uint64_t wait_ns = bucket_wait_ns(&throttle->limits.rates[rate], &throttle->buckets[rate]);
        if (wait_ns > longest_ns)
            longest_ns = wait_ns;
    }
    return longest_ns;
}

static double operations_in(const struct throttle_limits *limits, uint64_t length_bytes)
{
    if (limits->iops_size_bytes == 0 || length_bytes <= limits->iops_size_bytes)
        return 1;
    return (double)length_bytes / (double)limits->iops_size_bytes;
}

void throttle_account(struct throttle *throttle, enum throttle_direction direction,
                      uint64_t length_bytes)
{
    double operations = operations_in(&throttle->limits, length_bytes);
    for (unsigned i = 0; i < RATES_OF_COUNT; i++) {
        enum throttle_rate rate = rates_of[direction][i];
        double amount = counts_bytes(rate) ? (double)length_bytes : operations;
        if (throttle->limits.rates[rate].average == 0)
            continue;
        throttle->buckets[rate].level += amount;
        if (throttle->limits.rates[rate].burst > 0)
            throttle->buckets[rate].burst_level += amount;
    }
}
