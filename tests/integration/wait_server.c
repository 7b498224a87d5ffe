/* SPDX-License-Identifier: BSD-3-Clause */
/* For the shell tests: `wait_server ready PID ADDRESS SECONDS` and `wait_server gone PID SECONDS`.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/error.h"
#include "tests/integration/readiness.h"

int main(int argc, char **argv)
{
    int code;
    if (argc == 5 && strcmp(argv[1], "ready") == 0) {
        code = wait_until_ready(argv[3], atoi(argv[2]), atoi(argv[4]) * 1000);
    } else if (argc == 4 && strcmp(argv[1], "gone") == 0) {
        code = wait_until_gone(atoi(argv[2]), atoi(argv[3]) * 1000);
    } else {
        fprintf(stderr, "usage: wait_server ready PID ADDRESS SECONDS | gone PID SECONDS\n");
        return 2;
    }
    if (code < 0) {
        fprintf(stderr, "wait_server: %s: %s\n", argv[1], error_text(code));
        return 1;
    }
    return 0;
}
