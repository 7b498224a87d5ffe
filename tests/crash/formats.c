/* SPDX-License-Identifier: BSD-3-Clause */
#include <stddef.h>

#include "tests/crash/crash.h"

const struct crash_format *const crash_formats[] = {&crash_raw, &crash_qcow2, &crash_gow1, NULL};
