/* SPDX-License-Identifier: BSD-3-Clause */
#include <stddef.h>
#include <string.h>

#include "tests/crash/crash.h"

const struct crash_format *const crash_formats[] = {&crash_raw, &crash_qcow2, &crash_gow1, NULL};

static bool is_selected(const struct crash_selection *selection, const struct crash_choice *choice)
{
    return (!selection->format || strcmp(selection->format, choice->format->name) == 0) &&
           (!selection->shape || strcmp(selection->shape, choice->shape->name) == 0);
}

bool crash_next_shape(const struct crash_selection *selection, struct crash_choice *choice)
{
    bool is_behind = !choice->shape;
    for (unsigned f = 0; crash_formats[f]; f++) {
        for (const struct crash_shape *shape = crash_formats[f]->shapes; shape->name; shape++) {
            struct crash_choice next = {crash_formats[f], shape};
            if (is_behind && is_selected(selection, &next)) {
                *choice = next;
                return true;
            }
            is_behind = is_behind || shape == choice->shape;
        }
    }
    return false;
}
