/* SPDX-License-Identifier: BSD-3-Clause */
#include "protocol/metacontext.h"

#include <assert.h>
#include <string.h>

unsigned metacontext_count(const char *const *contexts)
{
    unsigned count = 0;
    while (contexts && contexts[count])
        count++;
    assert(count <= METACONTEXTS_MAX);
    return count;
}

uint64_t metacontext_select(const char *const *contexts, const char *query, size_t length)
{
    for (unsigned i = 0; i < metacontext_count(contexts); i++)
        if (strlen(contexts[i]) == length && memcmp(contexts[i], query, length) == 0)
            return UINT64_C(1) << i;
    return 0;
}

static bool is_wildcard(const char *query, size_t length)
{
    static const char *const wildcards[] = {"base:", "qemu:", "qemu:dirty-bitmap:"};
    for (size_t i = 0; i < sizeof(wildcards) / sizeof(*wildcards); i++)
        if (strlen(wildcards[i]) == length && memcmp(wildcards[i], query, length) == 0)
            return true;
    return false;
}

uint64_t metacontext_list(const char *const *contexts, const char *query, size_t length)
{
    if (!is_wildcard(query, length))
        return metacontext_select(contexts, query, length);
    uint64_t mask = 0;
    for (unsigned i = 0; i < metacontext_count(contexts); i++)
        if (strlen(contexts[i]) >= length && memcmp(contexts[i], query, length) == 0)
            mask |= UINT64_C(1) << i;
    return mask;
}
