/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROTOCOL_OPTION_H
#define PROTOCOL_OPTION_H

/*
 * Inside the handshake: what the files opt_*.c are made of. A new option is one function in a file
 * of its family and one line in opt_table.c. Not for users of the handshake.
 */

#include "protocol/handshake.h"
#include "protocol/reader.h"

#include <stdbool.h>

enum option_outcome {
    OPTION_NEXT,  /* answered; the next option may come */
    OPTION_READY, /* answered, and the transmission begins: see option_select_export() */
    OPTION_CLOSE, /* see option_close() */
};

struct option_entry {
    uint32_t option; /* 0 ends the table */
    /* Whatever data comes is thrown away before, and run() sees none. */
    bool ignores_data;
    /* Writes all replies, the last of them too. The data is the option's whole data and is gone
     * after the call. A writer that overflows is seen to by the caller. */
    enum option_outcome (*run)(struct handshake *handshake, struct reader *data,
                               struct writer *output);
};

/* NULL for an option that this server does not have. */
const struct option_entry *option_find(uint32_t option);

enum option_outcome opt_export_name(struct handshake *handshake, struct reader *data,
                                    struct writer *output);
enum option_outcome opt_abort(struct handshake *handshake, struct reader *data,
                              struct writer *output);
enum option_outcome opt_list(struct handshake *handshake, struct reader *data,
                             struct writer *output);
enum option_outcome opt_info(struct handshake *handshake, struct reader *data,
                             struct writer *output);
enum option_outcome opt_go(struct handshake *handshake, struct reader *data, struct writer *output);
enum option_outcome opt_structured_reply(struct handshake *handshake, struct reader *data,
                                         struct writer *output);
enum option_outcome opt_extended_headers(struct handshake *handshake, struct reader *data,
                                         struct writer *output);
enum option_outcome opt_list_meta_context(struct handshake *handshake, struct reader *data,
                                          struct writer *output);
enum option_outcome opt_set_meta_context(struct handshake *handshake, struct reader *data,
                                         struct writer *output);

/* option_parts.c: what several options share. */

/* The front of a reply to the current option; length bytes of data follow. */
void option_reply(const struct handshake *handshake, struct writer *output, uint32_t type,
                  uint32_t length);
/* NBD_REP_ACK. Returns OPTION_NEXT, so that a handler can return it on, as the next two. */
enum option_outcome option_ack(const struct handshake *handshake, struct writer *output);
/* An error reply with a sentence for a person; quote what a client chose with nbd_quote(). */
enum option_outcome option_error(const struct handshake *handshake, struct writer *output,
                                 uint32_t type, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Sets reason and is_ordinary; returns OPTION_CLOSE. */
enum option_outcome option_close(struct handshake *handshake, bool is_ordinary, const char *format,
                                 ...) __attribute__((format(printf, 3, 4)));

/* Whether these bytes may be a string: at most NBD_STRING_MAX, and no NUL among them. */
bool option_string_is_valid(const uint8_t *bytes, size_t length);

/* The flags that the client is told for this export, with what was negotiated so far. */
uint16_t option_transmission_flags(const struct handshake *handshake,
                                   const struct nbd_export_info *export);

/* The client chose this export by this name: fills the result; returns OPTION_READY. */
enum option_outcome option_select_export(struct handshake *handshake,
                                         const struct nbd_export_info *export, const uint8_t *name,
                                         size_t name_length);

#endif
