/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/processor.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define SCHEDSTAT_BYTES 64 /* three numbers: ns it ran, ns it waited, how often it ran */

int processor_open_waited(void)
{
    return open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
}

uint64_t processor_waited_ns(int fd)
{
    char text[SCHEDSTAT_BYTES + 1], *end;
    ssize_t got = fd < 0 ? -1 : pread(fd, text, SCHEDSTAT_BYTES, 0);
    if (got <= 0)
        return 0;
    text[got] = '\0';
    strtoull(text, &end, 10);
    return strtoull(end, NULL, 10);
}

int processor_current(void)
{
    return sched_getcpu();
}

/* Who changes the thread's processors from outside meanwhile (taskset -p) has to do it again. */
void processor_leave(struct processor_leave *leave, int processor)
{
    leave->has_left = false;
    if (processor < 0 || processor >= CPU_SETSIZE ||
        sched_getaffinity(0, sizeof(leave->before), &leave->before) < 0)
        return;
    cpu_set_t others = leave->before;
    CPU_CLR(processor, &others);
    if (CPU_COUNT(&others) > 0 && CPU_COUNT(&others) < CPU_COUNT(&leave->before))
        leave->has_left = sched_setaffinity(0, sizeof(others), &others) == 0;
}

void processor_return(const struct processor_leave *leave)
{
    if (leave->has_left)
        sched_setaffinity(0, sizeof(leave->before), &leave->before);
}
