/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/processor.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#define SCHEDSTAT_BYTES 64 /* three numbers */

/* All 0 where there is no such file, or nothing can be read of it. */
struct schedstat {
    uint64_t waited_ns, runs;
};

static struct schedstat read_schedstat(int fd)
{
    char text[SCHEDSTAT_BYTES + 1], *end;
    struct schedstat stat = {.runs = 0};
    ssize_t got = fd < 0 ? -1 : pread(fd, text, SCHEDSTAT_BYTES, 0);
    if (got <= 0)
        return stat;
    text[got] = '\0';
    strtoull(text, &end, 10); /* how long it ran */
    stat.waited_ns = strtoull(end, &end, 10);
    stat.runs = strtoull(end, NULL, 10);
    return stat;
}

int processor_open_waited(void)
{
    int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read_schedstat(fd).runs > 0)
        return fd;
    close(fd); /* a kernel that has the file and does not count: we do run */
    return -1;
}

uint64_t processor_waited_ns(int fd)
{
    return read_schedstat(fd).waited_ns;
}

int processor_current(void)
{
    return sched_getcpu();
}

/* False: there are more processors than a set holds. */
static bool learn_all(struct processor_place *place)
{
    cpu_set_t now;
    if (sched_getaffinity(0, sizeof(now), &now) < 0)
        return false;
    if (place->kept_off < 0 || !CPU_EQUAL(&now, &place->asked))
        place->all = now;
    return true;
}

void processor_keep_off(struct processor_place *place, int processor)
{
    if (processor < 0 || processor >= CPU_SETSIZE)
        processor = -1;
    if (processor == place->kept_off || !learn_all(place))
        return;
    place->asked = place->all;
    if (processor >= 0)
        CPU_CLR(processor, &place->asked);
    if (CPU_COUNT(&place->asked) == 0)
        place->asked = place->all;
    sched_setaffinity(0, sizeof(place->asked), &place->asked); /* refused: then it stays */
    place->kept_off = processor;
}
