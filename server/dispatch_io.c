/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/dispatch_io.h"

#include "block/block.h"
#include "protocol/wire.h"
#include "server/export.h"

/* --- errors ---------------------------------------------------------------------------------- */

static struct error_policy_client client_of(const struct server_request *request)
{
    return (struct error_policy_client){.owner = request->owner,
                                        .has_left = request->client_has_left};
}

static enum error_verdict co_judge(struct server_request *request, bool is_read, int code)
{
    struct error_policy_client client = client_of(request);
    return error_policy_co_judge(&request->export->error_policy, &client, is_read, code);
}

int dispatch_co_read(struct server_request *request, uint64_t offset, const struct block_vec *vec)
{
    int code;
    enum error_verdict verdict = ERROR_VERDICT_REPORT;
    do {
        code = block_co_read(request->export->backend, offset, vec);
        if (code < 0)
            verdict = co_judge(request, true, code);
    } while (code < 0 && verdict == ERROR_VERDICT_RETRY);
    if (code == 0 || verdict == ERROR_VERDICT_REPORT)
        return code;
    vec_fill(vec, 0);
    return 0;
}

int dispatch_co_change(struct server_request *request, int (*once)(struct server_request *request))
{
    for (;;) {
        int code = once(request);
        if (code == 0)
            return 0;
        enum error_verdict verdict = co_judge(request, false, code);
        if (verdict != ERROR_VERDICT_RETRY)
            return verdict == ERROR_VERDICT_REPORT ? code : 0;
    }
}

int dispatch_co_enter(struct server_request *request)
{
    struct error_policy_client client = client_of(request);
    return error_policy_co_enter(&request->export->error_policy, &client);
}

/* --- accounting ------------------------------------------------------------------------------ */

/* False for a command that nobody knows. */
static bool kind_of(const struct server_request *request, enum account_kind *ret_kind)
{
    static const struct {
        uint16_t command;
        enum account_kind kind;
    } kinds[] = {
        {NBD_CMD_READ, ACCOUNT_READ},         {NBD_CMD_WRITE, ACCOUNT_WRITE},
        {NBD_CMD_WRITE_ZEROES, ACCOUNT_ZERO}, {NBD_CMD_TRIM, ACCOUNT_DISCARD},
        {NBD_CMD_FLUSH, ACCOUNT_FLUSH},       {NBD_CMD_BLOCK_STATUS, ACCOUNT_STATUS},
        {NBD_CMD_CACHE, ACCOUNT_CACHE},
    };
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        if (kinds[i].command == request->wire.command) {
            *ret_kind = kinds[i].kind;
            return true;
        }
    }
    return false;
}

void dispatch_account(struct server_request *request, int code)
{
    enum account_kind kind;
    if (kind_of(request, &kind))
        account_end(&request->export->account, kind, request->start, request->wire.length, code);
}

/* A good one that is empty is an operation that took no time. */
void dispatch_account_answer(struct server_request *request, const struct request_verdict *verdict)
{
    struct export *export = request->export;
    enum account_kind kind;
    if (!kind_of(request, &kind))
        account_count(&export->account, export->unknown_counter, 1);
    else if (verdict->error != NBD_SUCCESS)
        account_invalid(&export->account, kind);
    else
        account_end(&export->account, kind, loop_moment(), 0, 0);
}

void dispatch_account_unsent(struct server_request *request)
{
    account_turned_bad(&request->export->account, ACCOUNT_READ, request->wire.length);
}
