/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef COMMON_PROCESSOR_H
#define COMMON_PROCESSOR_H

/*
 * This thread and the machine's processors, as Linux' scheduler has it. Where it does not tell,
 * nothing is known; where it does not obey, nothing happens.
 */

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

/* How long a thread has been able to run and others had the processor, in all. (What the host of a
 * virtual machine takes is not in it.) Opened by the thread whose time it is, read by anybody,
 * closed by close(2). Negative: the kernel does not count it. */
int processor_open_waited(void);
/* 0 when it cannot be read, or fd is negative. One system call. */
uint64_t processor_waited_ns(int fd);

/* The processor that the caller runs on at this moment; negative: unknown. No system call. */
int processor_current(void);

/* The caller runs on others than this processor until processor_return(), if it may run on others;
 * negative: it stays where it is. */
struct processor_leave {
    bool has_left;
    cpu_set_t before;
};
void processor_leave(struct processor_leave *leave, int processor);
void processor_return(const struct processor_leave *leave);

#endif
