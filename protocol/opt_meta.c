/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. The handshake forgets the earlier choice
 * whenever a SET begins, so a SET that fails, for whatever reason, leaves none.
 */
#include "protocol/metacontext.h"
#include "protocol/names.h"
#include "protocol/option.h"

#include <string.h>

/* "MAY fail with NBD_REP_ERR_TOO_BIG": each query is compared with each context. */
#define QUERIES_MAX 1024

typedef uint64_t match_function(const char *const *contexts, const char *query, size_t length);

struct meta_query {
    const uint8_t *name;
    size_t name_length;
    const struct nbd_export_info *export; /* NULL when there is none of that name */
    uint32_t count;
    uint64_t mask; /* contexts that the queries chose */
};

/* NULL, or what is wrong with the data. */
static const char *parse_queries(struct reader *data, match_function *match,
                                 struct meta_query *query)
{
    const char *const *contexts = query->export ? query->export->contexts : NULL;
    query->count = reader_be32(data);
    for (uint32_t i = 0; i < query->count && !data->failed; i++) {
        size_t length = reader_be32(data);
        const uint8_t *text = reader_bytes(data, length);
        if (!text)
            break;
        if (!option_string_is_valid(text, length))
            return "a query is longer than 4096 bytes or has a NUL in it";
        if (i < QUERIES_MAX)
            query->mask |= match(contexts, (const char *)text, length);
    }
    if (data->failed)
        return "the data ends before what its lengths announce";
    if (!reader_is_exhausted(data))
        return "the data goes on after its last query";
    return NULL;
}

static const char *parse(const struct handshake *handshake, struct reader *data,
                         match_function *match, struct meta_query *ret_query)
{
    *ret_query = (struct meta_query){.name_length = reader_be32(data)};
    ret_query->name = reader_bytes(data, ret_query->name_length);
    if (!ret_query->name)
        return "the data ends before what its lengths announce";
    if (!option_string_is_valid(ret_query->name, ret_query->name_length))
        return "the export name is longer than 4096 bytes or has a NUL in it";
    const struct handshake_exports *exports = handshake->exports;
    ret_query->export =
        exports->lookup(exports->ctx, (const char *)ret_query->name, ret_query->name_length);
    return parse_queries(data, match, ret_query);
}

/* Parses the data; false when the option was answered with an error. */
static bool parse_or_refuse(const struct handshake *handshake, struct reader *data,
                            match_function *match, struct meta_query *ret_query,
                            struct writer *output)
{
    char quoted[NBD_QUOTE_SIZE];
    const char *problem = parse(handshake, data, match, ret_query);
    if (problem)
        option_error(handshake, output, NBD_REP_ERR_INVALID, "%s: %s",
                     nbd_option_name(handshake->option), problem);
    else if (ret_query->count > QUERIES_MAX)
        option_error(handshake, output, NBD_REP_ERR_TOO_BIG,
                     "%u metadata context queries are more than %d", ret_query->count, QUERIES_MAX);
    else if (!ret_query->export)
        option_error(handshake, output, NBD_REP_ERR_UNKNOWN, "there is no export named %s",
                     nbd_quote(quoted, ret_query->name, ret_query->name_length));
    else
        return true;
    return false;
}

static void reply_contexts(const struct handshake *handshake, const char *const *contexts,
                           uint64_t mask, bool with_ids, struct writer *output)
{
    unsigned count = metacontext_count(contexts);
    for (unsigned i = 0; i < count; i++) {
        if (!(mask >> i & 1))
            continue;
        size_t length = strlen(contexts[i]);
        option_reply(handshake, output, NBD_REP_META_CONTEXT,
                     (uint32_t)(sizeof(uint32_t) + length));
        writer_be32(output, with_ids ? metacontext_id(i) : 0);
        writer_bytes(output, contexts[i], length);
    }
}

enum option_outcome opt_list_meta_context(struct handshake *handshake, struct reader *data,
                                          struct writer *output)
{
    struct meta_query query;
    if (!parse_or_refuse(handshake, data, metacontext_list, &query, output))
        return OPTION_NEXT;
    uint64_t mask = query.count > 0 ? query.mask : UINT64_MAX;
    reply_contexts(handshake, query.export->contexts, mask, false, output);
    return option_ack(handshake, output);
}

enum option_outcome opt_set_meta_context(struct handshake *handshake, struct reader *data,
                                         struct writer *output)
{
    if (handshake->headers == NBD_HEADERS_SIMPLE)
        return option_error(handshake, output, NBD_REP_ERR_INVALID,
                            "NBD_OPT_SET_META_CONTEXT needs NBD_OPT_STRUCTURED_REPLY or "
                            "NBD_OPT_EXTENDED_HEADERS first");
    struct meta_query query;
    if (!parse_or_refuse(handshake, data, metacontext_select, &query, output))
        return OPTION_NEXT;
    handshake->context_mask = query.mask;
    handshake->context_name_length = query.name_length;
    if (query.name_length > 0)
        memcpy(handshake->context_name, query.name, query.name_length);
    reply_contexts(handshake, query.export->contexts, query.mask, true, output);
    return option_ack(handshake, output);
}
