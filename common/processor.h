/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef COMMON_PROCESSOR_H
#define COMMON_PROCESSOR_H

/*
 * This thread and the machine's processors, as Linux' scheduler has it. Where it does not tell,
 * nothing is known; where it does not obey, nothing happens.
 */

#include <sched.h>
#include <stdint.h>

/* How long a thread has been able to run and others had the processor, in all. (What the host of a
 * virtual machine takes is not in it.) Opened by the thread whose time it is, read by anybody,
 * closed by close(2). Negative: the kernel does not count it. */
int processor_open_waited(void);
/* 0 when it cannot be read, or fd is negative. One system call. */
uint64_t processor_waited_ns(int fd);

/* The processor that the caller runs on at this moment; negative: unknown. No system call. */
int processor_current(void);

/* From now on the caller keeps off this processor, if it may run on others; negative: it may use
 * all again. Each thread has a place of its own, which begins as PROCESSOR_ANY. No system call
 * where nothing changes. What others meanwhile allow the thread (taskset -p) it takes over. */
struct processor_place {
    int kept_off;         /* negative: none */
    cpu_set_t all, asked; /* what it may use without us, and with */
};
#define PROCESSOR_ANY ((struct processor_place){.kept_off = -1})
void processor_keep_off(struct processor_place *place, int processor);

#endif
