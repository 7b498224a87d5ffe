/* SPDX-License-Identifier: BSD-3-Clause */
#include "protocol/handshake.h"

#include "common/endian.h"
#include "protocol/names.h"
#include "protocol/option.h"

#include <assert.h>
#include <string.h>

/* What is left of the bytes that were fed. */
struct input {
    const uint8_t *data;
    size_t length;
};

static const uint8_t *input_take(struct input *input, size_t length)
{
    const uint8_t *data = input->data;
    if (length > 0) /* data may be NULL when there is nothing */
        input->data += length;
    input->length -= length;
    return data;
}

void handshake_init(struct handshake *handshake, const struct handshake_exports *exports)
{
    memset(handshake, 0, sizeof(*handshake));
    handshake->exports = exports;
    writer_init(&handshake->payload, HANDSHAKE_PAYLOAD_MAX);
}

void handshake_fini(struct handshake *handshake)
{
    writer_fini(&handshake->payload);
}

void handshake_start(struct handshake *handshake, struct writer *output)
{
    (void)handshake;
    writer_be64(output, NBD_MAGIC);
    writer_be64(output, NBD_OPTS_MAGIC);
    writer_be16(output, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
}

bool handshake_is_silent(const struct handshake *handshake)
{
    return handshake->state == HANDSHAKE_STATE_FLAGS && handshake->head_length == 0;
}

void handshake_shut_down(struct handshake *handshake)
{
    handshake->shutting_down = true;
}

/* Collects the `needed` bytes of a fixed-size piece into head; true when they are all there. */
static bool collect_head(struct handshake *handshake, struct input *input, size_t needed)
{
    size_t missing = needed - handshake->head_length;
    size_t taken = missing < input->length ? missing : input->length;
    if (taken > 0)
        memcpy(handshake->head + handshake->head_length, input_take(input, taken), taken);
    handshake->head_length += taken;
    if (handshake->head_length < needed)
        return false;
    handshake->head_length = 0;
    return true;
}

static enum option_outcome take_client_flags(struct handshake *handshake)
{
    uint32_t flags = load_be32(handshake->head);
    if (flags & ~(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES))
        return option_close(handshake, false, "the client set unknown flags (0x%08x)", flags);
    handshake->fixed_newstyle = flags & NBD_FLAG_C_FIXED_NEWSTYLE;
    handshake->no_zeroes = flags & NBD_FLAG_C_NO_ZEROES;
    handshake->state = HANDSHAKE_STATE_OPTION_HEADER;
    return OPTION_NEXT;
}

/* Checks the header of an option and decides what becomes of its data. */
static enum option_outcome take_option_header(struct handshake *handshake)
{
    handshake->option = load_be32(handshake->head + 8);
    handshake->option_length = load_be32(handshake->head + 12);
    uint32_t option = handshake->option, length = handshake->option_length;

    if (load_be64(handshake->head) != NBD_OPTS_MAGIC)
        return option_close(handshake, false,
                            "the client sent an option with a wrong magic number");
    if (++handshake->option_count > HANDSHAKE_OPTIONS_MAX)
        return option_close(handshake, false, "the client sent more than %d options",
                            HANDSHAKE_OPTIONS_MAX);
    if (!handshake->fixed_newstyle && option != NBD_OPT_EXPORT_NAME)
        return option_close(handshake, false,
                            "the client sent option %u (%s) without fixed newstyle negotiation",
                            option, nbd_option_name(option));
    if (option == NBD_OPT_EXPORT_NAME && length > NBD_STRING_MAX)
        return option_close(handshake, false, "the client sent an export name of %u bytes", length);
    if (option == NBD_OPT_SET_META_CONTEXT)
        handshake->context_mask = 0;

    const struct option_entry *entry = option_find(option);
    if (entry && !entry->ignores_data && length <= HANDSHAKE_PAYLOAD_MAX) {
        handshake->state = HANDSHAKE_STATE_PAYLOAD;
        return OPTION_NEXT;
    }
    if (length > HANDSHAKE_DRAIN_MAX)
        return option_close(handshake, false,
                            "the client sent option %u (%s) with %u bytes of data", option,
                            nbd_option_name(option), length);
    handshake->drain_left = length;
    handshake->state = HANDSHAKE_STATE_DRAIN;
    return OPTION_NEXT;
}

/* Runs or refuses the current option, whose data is complete. */
static enum option_outcome dispatch(struct handshake *handshake, struct reader *data,
                                    struct writer *output)
{
    uint32_t option = handshake->option;
    const struct option_entry *entry = option_find(option);
    if (handshake->shutting_down && option == NBD_OPT_EXPORT_NAME)
        return option_close(handshake, true, "the server is shutting down");
    if (handshake->shutting_down && option != NBD_OPT_ABORT)
        return option_error(handshake, output, NBD_REP_ERR_SHUTDOWN, "the server is shutting down");
    if (!entry)
        return option_error(handshake, output, NBD_REP_ERR_UNSUP,
                            "option %u (%s) is not supported by this server", option,
                            nbd_option_name(option));
    if (!entry->ignores_data && handshake->option_length > HANDSHAKE_PAYLOAD_MAX)
        return option_error(handshake, output, NBD_REP_ERR_TOO_BIG,
                            "option %u (%s) has %u bytes of data, more than %zu", option,
                            nbd_option_name(option), handshake->option_length,
                            HANDSHAKE_PAYLOAD_MAX);
    return entry->run(handshake, data, output);
}

/* dispatch(), and what to do when the replies do not fit. */
static enum option_outcome run_option(struct handshake *handshake, const uint8_t *bytes,
                                      size_t length, struct writer *output)
{
    struct reader data;
    reader_init(&data, bytes, length);
    size_t before = output->length;
    enum option_outcome outcome = dispatch(handshake, &data, output);
    handshake->state = HANDSHAKE_STATE_OPTION_HEADER;
    writer_truncate(&handshake->payload, 0);
    if (!output->failed)
        return outcome;

    writer_truncate(output, before);
    if (outcome == OPTION_NEXT)
        option_error(handshake, output, NBD_REP_ERR_TOO_BIG,
                     "the answer to option %u (%s) is too long to send", handshake->option,
                     nbd_option_name(handshake->option));
    if (outcome != OPTION_NEXT || output->failed)
        return option_close(handshake, false, "no memory to answer the client's options");
    return OPTION_NEXT;
}

/* Runs the option when its data is complete; data that lies there whole is not copied. */
static enum option_outcome take_payload(struct handshake *handshake, struct input *input,
                                        struct writer *output)
{
    size_t missing = handshake->option_length - handshake->payload.length;
    if (handshake->payload.length == 0 && input->length >= missing)
        return run_option(handshake, input_take(input, missing), missing, output);

    size_t taken = missing < input->length ? missing : input->length;
    writer_bytes(&handshake->payload, input_take(input, taken), taken);
    if (handshake->payload.failed)
        return option_close(handshake, false, "no memory for an option's data");
    if (taken < missing)
        return OPTION_NEXT;
    return run_option(handshake, handshake->payload.data, handshake->payload.length, output);
}

static enum option_outcome take_drain(struct handshake *handshake, struct input *input,
                                      struct writer *output)
{
    size_t left = handshake->drain_left;
    size_t taken = left < input->length ? left : input->length;
    input_take(input, taken);
    handshake->drain_left -= (uint32_t)taken;
    return handshake->drain_left > 0 ? OPTION_NEXT : run_option(handshake, NULL, 0, output);
}

/* One step of the state machine; *ret_stuck when it needs more input, or the output sent. */
static enum option_outcome step(struct handshake *handshake, struct input *input,
                                struct writer *output, bool *ret_stuck)
{
    enum option_outcome outcome = OPTION_NEXT;
    switch (handshake->state) {
    case HANDSHAKE_STATE_FLAGS:
        *ret_stuck = !collect_head(handshake, input, NBD_CLIENT_FLAGS_SIZE);
        return *ret_stuck ? OPTION_NEXT : take_client_flags(handshake);
    case HANDSHAKE_STATE_OPTION_HEADER:
        *ret_stuck = output->length > HANDSHAKE_OUTPUT_PAUSE ||
                     !collect_head(handshake, input, NBD_OPTION_HEADER_SIZE);
        return *ret_stuck ? OPTION_NEXT : take_option_header(handshake);
    case HANDSHAKE_STATE_PAYLOAD:
        outcome = take_payload(handshake, input, output);
        *ret_stuck = handshake->state == HANDSHAKE_STATE_PAYLOAD;
        return outcome;
    case HANDSHAKE_STATE_DRAIN:
        outcome = take_drain(handshake, input, output);
        *ret_stuck = handshake->state == HANDSHAKE_STATE_DRAIN;
        return outcome;
    case HANDSHAKE_STATE_ENDED:
        break;
    }
    assert(!"the handshake has ended");
    return OPTION_CLOSE;
}

enum handshake_event handshake_feed(struct handshake *handshake, const void *bytes, size_t length,
                                    size_t *ret_used, struct writer *output)
{
    assert(handshake->state != HANDSHAKE_STATE_ENDED);
    struct input input = {.data = bytes, .length = length};
    enum option_outcome outcome = OPTION_NEXT;
    bool stuck = false;
    while (outcome == OPTION_NEXT && !stuck)
        outcome = step(handshake, &input, output, &stuck);
    *ret_used = length - input.length;
    if (outcome == OPTION_NEXT)
        return HANDSHAKE_MORE;
    handshake->state = HANDSHAKE_STATE_ENDED;
    return outcome == OPTION_READY ? HANDSHAKE_READY : HANDSHAKE_CLOSE;
}

enum handshake_event handshake_eof(struct handshake *handshake)
{
    assert(handshake->state != HANDSHAKE_STATE_ENDED);
    if (handshake->head_length > 0 || handshake->state == HANDSHAKE_STATE_PAYLOAD ||
        handshake->state == HANDSHAKE_STATE_DRAIN)
        option_close(handshake, false, "the client left in the middle of the handshake");
    else
        option_close(handshake, true, "the client left during the handshake");
    handshake->state = HANDSHAKE_STATE_ENDED;
    return HANDSHAKE_CLOSE;
}
