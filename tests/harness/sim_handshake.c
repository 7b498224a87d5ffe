/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_handshake.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "common/endian.h"
#include "protocol/wire.h"

#define CONTEXT "base:allocation"
#define UNKNOWN_OPTION UINT32_C(0x4242)

static uint32_t option_of(enum sim_step step)
{
    static const uint32_t options[] = {
        [STEP_STRUCTURED_REPLY] = NBD_OPT_STRUCTURED_REPLY,
        [STEP_LIST] = NBD_OPT_LIST,
        [STEP_UNKNOWN_OPTION] = UNKNOWN_OPTION,
        [STEP_INFO_WRONG_NAME] = NBD_OPT_INFO,
        [STEP_INFO] = NBD_OPT_INFO,
        [STEP_LIST_META_CONTEXT] = NBD_OPT_LIST_META_CONTEXT,
        [STEP_SET_META_CONTEXT] = NBD_OPT_SET_META_CONTEXT,
        [STEP_GO] = NBD_OPT_GO,
        [STEP_EXPORT_NAME] = NBD_OPT_EXPORT_NAME,
        [STEP_ABORT] = NBD_OPT_ABORT,
    };
    return options[step];
}

/* The error that a step is there for; 0: it must be acknowledged. */
static uint32_t error_of(enum sim_step step)
{
    if (step == STEP_UNKNOWN_OPTION)
        return NBD_REP_ERR_UNSUP;
    if (step == STEP_INFO_WRONG_NAME)
        return NBD_REP_ERR_UNKNOWN;
    return 0;
}

static enum sim_handshake_state wrong(struct sim_handshake *handshake, const char *what,
                                      uint64_t value)
{
    sim_fail(handshake->sim, "%s: handshake, step %u: %s: %#" PRIx64, handshake->who,
             handshake->answered, what, value);
    return SIM_HANDSHAKE_WRONG;
}

static void add_step(struct sim_handshake *handshake, bool is_wanted, enum sim_step step)
{
    assert(handshake->step_count < SIM_STEPS_MAX);
    if (is_wanted)
        handshake->steps[handshake->step_count++] = step;
}

void sim_handshake_init(struct sim_handshake *handshake, struct sim *sim, struct random *random,
                        const char *export_name, uint64_t size_bytes, bool may_abort,
                        const char *who)
{
    *handshake = (struct sim_handshake){.sim = sim,
                                        .who = who,
                                        .export_name = export_name,
                                        .size_bytes = size_bytes,
                                        .block_minimum = 1};
    handshake->no_zeroes = !random_once_in(random, 4);
    handshake->asks_block_size = random_once_in(random, 2);
    bool is_structured = !random_once_in(random, 3);
    bool has_context = is_structured && !random_once_in(random, 5);
    add_step(handshake, random_once_in(random, 6), STEP_LIST);
    add_step(handshake, random_once_in(random, 8), STEP_UNKNOWN_OPTION);
    add_step(handshake, is_structured, STEP_STRUCTURED_REPLY);
    add_step(handshake, random_once_in(random, 8), STEP_INFO_WRONG_NAME);
    add_step(handshake, random_once_in(random, 4), STEP_INFO);
    add_step(handshake, has_context && random_once_in(random, 4), STEP_LIST_META_CONTEXT);
    add_step(handshake, has_context, STEP_SET_META_CONTEXT);
    bool aborts = may_abort && random_once_in(random, 10);
    bool by_name = random_once_in(random, 5);
    add_step(handshake, true, aborts ? STEP_ABORT : by_name ? STEP_EXPORT_NAME : STEP_GO);
    handshake->all_at_once = random_once_in(random, 4);
}

/* --- sending --------------------------------------------------------------------------------- */

static void put_info_request(struct sim_bytes *data, const char *name, bool asks_block_size)
{
    bytes_append_be32(data, (uint32_t)strlen(name));
    bytes_append_copy(data, name, strlen(name));
    bytes_append_be16(data, asks_block_size ? 2 : 0);
    if (asks_block_size) {
        bytes_append_be16(data, NBD_INFO_BLOCK_SIZE);
        bytes_append_be16(data, NBD_INFO_NAME);
    }
}

static void put_contexts(struct sim_bytes *data, const char *name, const char *context)
{
    bytes_append_be32(data, (uint32_t)strlen(name));
    bytes_append_copy(data, name, strlen(name));
    bytes_append_be32(data, 1);
    bytes_append_be32(data, (uint32_t)strlen(context));
    bytes_append_copy(data, context, strlen(context));
}

static void send_step(const struct sim_handshake *handshake, enum sim_step step,
                      struct sim_bytes *output)
{
    struct sim_bytes data = {0};
    const char *name = handshake->export_name;
    switch (step) {
    case STEP_INFO_WRONG_NAME:
        put_info_request(&data, "no such export", false);
        break;
    case STEP_INFO:
    case STEP_GO:
        put_info_request(&data, name, handshake->asks_block_size);
        break;
    case STEP_LIST_META_CONTEXT:
        put_contexts(&data, name, "base:");
        break;
    case STEP_SET_META_CONTEXT:
        put_contexts(&data, name, CONTEXT);
        break;
    case STEP_EXPORT_NAME:
        bytes_append_copy(&data, name, strlen(name));
        break;
    case STEP_UNKNOWN_OPTION:
        bytes_append_copy(&data, "some data", 9);
        break;
    case STEP_STRUCTURED_REPLY:
    case STEP_LIST:
    case STEP_ABORT:
        break;
    }
    bytes_append_be64(output, NBD_OPTS_MAGIC);
    bytes_append_be32(output, option_of(step));
    bytes_append_be32(output, (uint32_t)data.length);
    bytes_append_copy(output, data.memory, data.length);
    bytes_free(&data);
}

static void send_steps(struct sim_handshake *handshake, struct sim_bytes *output)
{
    while (handshake->sent < handshake->step_count &&
           (handshake->all_at_once || handshake->sent == handshake->answered))
        send_step(handshake, handshake->steps[handshake->sent++], output);
}

/* --- what the server says -------------------------------------------------------------------- */

static enum sim_handshake_state take_size_and_flags(struct sim_handshake *handshake,
                                                    const uint8_t *bytes)
{
    if (load_be64(bytes) != handshake->size_bytes)
        return wrong(handshake, "the export's size", load_be64(bytes));
    handshake->transmission_flags = load_be16(bytes + 8);
    if (!(handshake->transmission_flags & NBD_FLAG_HAS_FLAGS))
        return wrong(handshake, "transmission flags", handshake->transmission_flags);
    return SIM_HANDSHAKE_MORE;
}

static enum sim_handshake_state take_info(struct sim_handshake *handshake, const uint8_t *data,
                                          uint32_t length)
{
    if (length < 2)
        return wrong(handshake, "length of an info", length);
    uint16_t info = load_be16(data);
    if (info == NBD_INFO_EXPORT) {
        if (length != 12)
            return wrong(handshake, "length of NBD_INFO_EXPORT", length);
        handshake->step_shown = true;
        return take_size_and_flags(handshake, data + 2);
    }
    if (info == NBD_INFO_BLOCK_SIZE) {
        uint32_t minimum = length == 14 ? load_be32(data + 2) : 0;
        if (minimum == 0 || (minimum & (minimum - 1)) || load_be32(data + 6) < minimum)
            return wrong(handshake, "minimum block size", minimum);
        handshake->block_minimum = minimum;
    }
    return SIM_HANDSHAKE_MORE;
}

/* An answer that is not the last of its step. */
static enum sim_handshake_state take_answer(struct sim_handshake *handshake, enum sim_step step,
                                            uint32_t type, const uint8_t *data, uint32_t length)
{
    size_t name_length = strlen(handshake->export_name);
    if (type == NBD_REP_INFO && (step == STEP_INFO || step == STEP_GO))
        return take_info(handshake, data, length);
    if (type == NBD_REP_SERVER && step == STEP_LIST) {
        if (length < 4 + name_length || load_be32(data) != name_length ||
            memcmp(data + 4, handshake->export_name, name_length) != 0)
            return wrong(handshake, "another name in the list, of length", length);
        handshake->step_shown = true;
        return SIM_HANDSHAKE_MORE;
    }
    if (type == NBD_REP_META_CONTEXT &&
        (step == STEP_LIST_META_CONTEXT || step == STEP_SET_META_CONTEXT)) {
        if (length != 4 + strlen(CONTEXT) || memcmp(data + 4, CONTEXT, strlen(CONTEXT)) != 0)
            return wrong(handshake, "another context, of length", length);
        handshake->step_shown = true;
        if (step == STEP_SET_META_CONTEXT) {
            handshake->has_context = true;
            handshake->context_id = load_be32(data);
        }
        return SIM_HANDSHAKE_MORE;
    }
    return wrong(handshake, "an answer of this type", type);
}

static enum sim_handshake_state end_step(struct sim_handshake *handshake, enum sim_step step)
{
    bool must_show = step == STEP_LIST || step == STEP_INFO || step == STEP_GO ||
                     step == STEP_LIST_META_CONTEXT || step == STEP_SET_META_CONTEXT;
    if (must_show && !handshake->step_shown)
        return wrong(handshake, "acknowledged without an answer: option", option_of(step));
    handshake->step_shown = false;
    handshake->answered++;
    if (step == STEP_STRUCTURED_REPLY)
        handshake->structured_replies = true;
    if (step == STEP_GO)
        return SIM_HANDSHAKE_READY;
    return step == STEP_ABORT ? SIM_HANDSHAKE_LEFT : SIM_HANDSHAKE_MORE;
}

/* The server stops: the option was not looked at, and nor will be those that are on their way. */
static enum sim_handshake_state end_by_shutdown(struct sim_handshake *handshake, enum sim_step step)
{
    if (!handshake->server_stops || step == STEP_ABORT)
        return wrong(handshake, "a shutdown for option", option_of(step));
    handshake->step_shown = false;
    handshake->answered++;
    return handshake->answered == handshake->sent ? SIM_HANDSHAKE_LEFT : SIM_HANDSHAKE_MORE;
}

/* One answer to an option, if it is there as a whole. */
static enum sim_handshake_state take_option_reply(struct sim_handshake *handshake,
                                                  struct sim_bytes *input, bool *ret_any)
{
    if (input->length < NBD_OPTION_REPLY_SIZE)
        return SIM_HANDSHAKE_MORE;
    const uint8_t *header = bytes_begin(input);
    enum sim_step step = handshake->steps[handshake->answered];
    uint32_t type = load_be32(header + 12), length = load_be32(header + 16);
    if (load_be64(header) != NBD_REP_MAGIC)
        return wrong(handshake, "magic of an option's reply", load_be64(header));
    if (load_be32(header + 8) != option_of(step))
        return wrong(handshake, "a reply to another option", load_be32(header + 8));
    if (length > 65536)
        return wrong(handshake, "length of a reply", length);
    if (input->length < NBD_OPTION_REPLY_SIZE + length)
        return SIM_HANDSHAKE_MORE;
    const uint8_t *data = header + NBD_OPTION_REPLY_SIZE;
    uint32_t expected = error_of(step) ? error_of(step) : NBD_REP_ACK;
    enum sim_handshake_state state;
    if (type == NBD_REP_ERR_SHUTDOWN)
        state = end_by_shutdown(handshake, step);
    else if (type == expected)
        state = end_step(handshake, step);
    else
        state = take_answer(handshake, step, type, data, length);
    bytes_drop(input, NBD_OPTION_REPLY_SIZE + length);
    *ret_any = true;
    return state;
}

/* EXPORT_NAME has an answer of its own kind. */
static enum sim_handshake_state take_export_name_reply(struct sim_handshake *handshake,
                                                       struct sim_bytes *input)
{
    size_t length = 10 + (handshake->no_zeroes ? 0 : NBD_EXPORT_NAME_ZEROES);
    if (input->length < length)
        return SIM_HANDSHAKE_MORE;
    const uint8_t *bytes = bytes_begin(input);
    for (size_t i = 10; i < length; i++)
        if (bytes[i] != 0)
            return wrong(handshake, "a byte that must be zero", bytes[i]);
    if (take_size_and_flags(handshake, bytes) == SIM_HANDSHAKE_WRONG)
        return SIM_HANDSHAKE_WRONG;
    bytes_drop(input, length);
    handshake->answered++;
    return SIM_HANDSHAKE_READY;
}

static enum sim_handshake_state take_greeting(struct sim_handshake *handshake,
                                              struct sim_bytes *input, struct sim_bytes *output)
{
    if (input->length < NBD_GREETING_SIZE)
        return SIM_HANDSHAKE_MORE;
    const uint8_t *bytes = bytes_begin(input);
    if (load_be64(bytes) != NBD_MAGIC || load_be64(bytes + 8) != NBD_OPTS_MAGIC)
        return wrong(handshake, "the greeting", load_be64(bytes));
    if (load_be16(bytes + 16) != (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES))
        return wrong(handshake, "the greeting's flags", load_be16(bytes + 16));
    bytes_drop(input, NBD_GREETING_SIZE);
    handshake->was_greeted = true;
    bytes_append_be32(output, NBD_FLAG_C_FIXED_NEWSTYLE |
                                  (handshake->no_zeroes ? NBD_FLAG_C_NO_ZEROES : 0));
    return SIM_HANDSHAKE_MORE;
}

enum sim_handshake_state sim_handshake_run(struct sim_handshake *handshake, struct sim_bytes *input,
                                           struct sim_bytes *output)
{
    enum sim_handshake_state state = SIM_HANDSHAKE_MORE;
    if (!handshake->was_greeted)
        state = take_greeting(handshake, input, output);
    if (!handshake->was_greeted || state != SIM_HANDSHAKE_MORE)
        return state;
    bool any = true;
    while (any && state == SIM_HANDSHAKE_MORE) {
        send_steps(handshake, output);
        any = false;
        if (handshake->steps[handshake->answered] == STEP_EXPORT_NAME)
            return take_export_name_reply(handshake, input);
        state = take_option_reply(handshake, input, &any);
    }
    return state;
}
