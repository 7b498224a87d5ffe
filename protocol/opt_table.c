/* SPDX-License-Identifier: BSD-3-Clause */
#include "protocol/option.h"

#include <stddef.h>

/* Every option that this server has. All others are refused with NBD_REP_ERR_UNSUP. */
static const struct option_entry table[] = {
    {.option = NBD_OPT_EXPORT_NAME, .run = opt_export_name},
    {.option = NBD_OPT_ABORT, .run = opt_abort, .ignores_data = true},
    {.option = NBD_OPT_LIST, .run = opt_list},
    {.option = NBD_OPT_INFO, .run = opt_info},
    {.option = NBD_OPT_GO, .run = opt_go},
    {.option = NBD_OPT_STRUCTURED_REPLY, .run = opt_structured_reply},
    {.option = NBD_OPT_LIST_META_CONTEXT, .run = opt_list_meta_context},
    {.option = NBD_OPT_SET_META_CONTEXT, .run = opt_set_meta_context},
    {.option = NBD_OPT_EXTENDED_HEADERS, .run = opt_extended_headers},
    {.option = 0},
};

const struct option_entry *option_find(uint32_t option)
{
    for (const struct option_entry *entry = table; entry->option != 0; entry++)
        if (entry->option == option)
            return entry;
    return NULL;
}
