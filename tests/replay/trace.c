/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/replay/trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 6
#define WORD_BYTES_MAX 32
#define FILE_BYTES_MAX (64 << 20)

/* One line, cut into words. */
struct line {
    unsigned number;
    unsigned word_count;
    char words[WORDS_MAX][WORD_BYTES_MAX];
};

struct parser {
    struct trace *trace;
    struct error *err;
    struct line line;
    unsigned step_room;
    bool has_device, has_size, has_depth;
};

static int bad_line(struct parser *parser, const char *what)
{
    return error_set(parser->err, -EINVAL, "line %u of the trace: %s", parser->line.number, what);
}

/* --- words -------------------------------------------------------------------------------------
 */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Cuts [from, end) into the parser's line. */
static int cut(struct parser *parser, const char *from, const char *end)
{
    struct line *line = &parser->line;
    line->word_count = 0;
    for (;;) {
        const char *start;
        size_t length;
        while (from < end && is_blank(*from))
            from++;
        if (from == end || *from == '#')
            return 0;
        for (start = from; from < end && !is_blank(*from);)
            from++;
        length = (size_t)(from - start);
        if (line->word_count == WORDS_MAX)
            return bad_line(parser, "too many words");
        if (length >= WORD_BYTES_MAX || memchr(start, '\0', length))
            return bad_line(parser, "a word is too long, or holds a zero byte");
        memcpy(line->words[line->word_count], start, length);
        line->words[line->word_count++][length] = '\0';
    }
}

static int number(struct parser *parser, unsigned word, uint64_t *ret_value)
{
    uint64_t value = 0;
    const char *digit;
    if (word >= parser->line.word_count)
        return bad_line(parser, "a number is missing");
    for (digit = parser->line.words[word]; *digit >= '0' && *digit <= '9'; digit++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*digit - '0'), &value))
            return bad_line(parser, "a number is too large");
    if (*digit != '\0' || digit == parser->line.words[word])
        return bad_line(parser, "something else stands where a number must be");
    *ret_value = value;
    return 0;
}

static bool is_word(const struct parser *parser, unsigned word, const char *text)
{
    return word < parser->line.word_count && strcmp(parser->line.words[word], text) == 0;
}

static int expect_words(struct parser *parser, unsigned count)
{
    if (parser->line.word_count != count)
        return bad_line(parser, "it has too many words, or too few");
    return 0;
}

/* --- what comes first --------------------------------------------------------------------------
 */

/* A range of the disk, from these two words. */
static int range(struct parser *parser, unsigned word, uint64_t count_max, uint64_t *ret_sector,
                 uint64_t *ret_count)
{
    uint64_t sectors = parser->trace->size_bytes / TRACE_SECTOR, sector, count;
    int rc = number(parser, word, &sector);
    if (rc == 0)
        rc = number(parser, word + 1, &count);
    if (rc < 0)
        return rc;
    if (!parser->has_size)
        return bad_line(parser, "the size must come before it");
    if (count == 0 || count > count_max)
        return bad_line(parser, "so many sectors cannot be asked for at once");
    if (sector > sectors || count > sectors - sector)
        return bad_line(parser, "it goes beyond the disk");
    *ret_sector = sector;
    *ret_count = count;
    return 0;
}

static int take_device(struct parser *parser)
{
    if (expect_words(parser, 2) < 0)
        return -EINVAL;
    if (parser->has_device)
        return bad_line(parser, "the device was named before");
    if (!is_word(parser, 1, "virtio-blk") && !is_word(parser, 1, "ide"))
        return bad_line(parser, "there are the devices virtio-blk and ide");
    strcpy(parser->trace->device, parser->line.words[1]);
    parser->has_device = true;
    return 0;
}

static int take_size(struct parser *parser)
{
    uint64_t bytes;
    if (expect_words(parser, 2) < 0 || number(parser, 1, &bytes) < 0)
        return -EINVAL;
    if (parser->has_size)
        return bad_line(parser, "the size was said before");
    if (bytes == 0 || bytes % TRACE_SECTOR != 0 || bytes > TRACE_BYTES_MAX)
        return bad_line(parser, "the size must be whole sectors, at most 64 GiB");
    parser->trace->size_bytes = bytes;
    parser->has_size = true;
    return 0;
}

static int take_depth(struct parser *parser)
{
    uint64_t depth;
    if (expect_words(parser, 2) < 0 || number(parser, 1, &depth) < 0)
        return -EINVAL;
    if (parser->has_depth)
        return bad_line(parser, "the depth was said before");
    if (depth == 0 || depth > TRACE_DEPTH_MAX)
        return bad_line(parser, "the depth must be 1 to 1024");
    parser->trace->depth = (unsigned)depth;
    parser->has_depth = true;
    return 0;
}

static int take_overlap(struct parser *parser)
{
    if (expect_words(parser, 1) < 0)
        return -EINVAL;
    if (!parser->has_size || parser->trace->size_bytes > TRACE_OVERLAP_BYTES_MAX)
        return bad_line(parser, "the size must come before it, and be at most 4 MiB");
    parser->trace->overlaps = true;
    return 0;
}

static int take_bad(struct parser *parser)
{
    struct trace *trace = parser->trace;
    struct trace_bad bad;
    if (expect_words(parser, 4) < 0 || range(parser, 2, UINT64_MAX, &bad.sector, &bad.count) < 0)
        return -EINVAL;
    if (!is_word(parser, 1, "read") && !is_word(parser, 1, "write"))
        return bad_line(parser, "reads or writes can be bad");
    if (trace->bad_count == TRACE_BAD_MAX)
        return bad_line(parser, "there are too many error points");
    bad.of_reads = is_word(parser, 1, "read");
    trace->bad[trace->bad_count++] = bad;
    return 0;
}

/* --- steps -------------------------------------------------------------------------------------
 */

/* How a verb is written, and what follows it. */
static const struct form {
    const char *word;
    enum trace_verb verb;
    bool by_pio, has_range, has_seed, has_result;
} forms[] = {
    {"read", TRACE_READ, false, true, false, true},
    {"write", TRACE_WRITE, false, true, true, true},
    {"pio-read", TRACE_READ, true, true, false, true},
    {"pio-write", TRACE_WRITE, true, true, true, true},
    {"discard", TRACE_DISCARD, false, true, false, true},
    {"zero", TRACE_ZERO, false, true, false, true},
    {"flush", TRACE_FLUSH, false, false, false, true},
    {"wait", TRACE_WAIT, false, false, false, false},
    {"reset", TRACE_RESET, false, false, false, false},
    {"crash", TRACE_CRASH, false, false, false, false},
};

static int take_result(struct parser *parser, unsigned word, int *ret_result)
{
    if (is_word(parser, word, "ok"))
        *ret_result = 0;
    else if (is_word(parser, word, "eio"))
        *ret_result = -EIO;
    else if (is_word(parser, word, "enotsup"))
        *ret_result = -ENOTSUP;
    else
        return bad_line(parser, "a result is ok, eio or enotsup");
    return 0;
}

static int fill_step(struct parser *parser, const struct form *form, struct trace_step *step)
{
    unsigned word = 1;
    uint64_t count = 0;
    step->verb = form->verb;
    step->by_pio = form->by_pio;
    if (form->has_range) {
        if (range(parser, word, TRACE_SECTORS_MAX, &step->sector, &count) < 0)
            return -EINVAL;
        step->count = (uint32_t)count;
        word += 2;
    }
    if (form->has_seed && number(parser, word++, &step->seed) < 0)
        return -EINVAL;
    if (step->seed > TRACE_SEED_MAX)
        return bad_line(parser, "seeds are below 2^63");
    if (form->has_result && word < parser->line.word_count &&
        take_result(parser, word++, &step->result) < 0)
        return -EINVAL;
    return expect_words(parser, word);
}

static int add_step(struct parser *parser, const struct trace_step *step)
{
    struct trace *trace = parser->trace;
    if (trace->step_count == TRACE_STEPS_MAX)
        return bad_line(parser, "there are too many requests");
    if (trace->step_count == parser->step_room) {
        unsigned room = parser->step_room ? 2 * parser->step_room : 256;
        struct trace_step *steps = realloc(trace->steps, room * sizeof(*steps));
        if (!steps)
            return error_set(parser->err, -ENOMEM, "no memory for %u requests of a trace", room);
        trace->steps = steps;
        parser->step_room = room;
    }
    trace->steps[trace->step_count++] = *step;
    return 0;
}

static int take_step(struct parser *parser)
{
    struct trace_step step = {.line = parser->line.number};
    if (!parser->has_size || !parser->has_device)
        return bad_line(parser, "the device and the size must come before the first request");
    if (is_word(parser, 0, "cache")) {
        if (expect_words(parser, 2) < 0)
            return -EINVAL;
        if (!is_word(parser, 1, "on") && !is_word(parser, 1, "off"))
            return bad_line(parser, "the cache is on or off");
        step.verb = is_word(parser, 1, "on") ? TRACE_CACHE_ON : TRACE_CACHE_OFF;
        return add_step(parser, &step);
    }
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++)
        if (is_word(parser, 0, forms[i].word)) {
            int rc = fill_step(parser, &forms[i], &step);
            if (step.verb == TRACE_CRASH && parser->trace->overlaps)
                return bad_line(parser, "where requests overlap nothing can crash");
            return rc < 0 ? rc : add_step(parser, &step);
        }
    return bad_line(parser, "there is no such request");
}

static int take_line(struct parser *parser)
{
    static const struct {
        const char *word;
        int (*take)(struct parser *parser);
    } heads[] = {{"device", take_device},
                 {"size", take_size},
                 {"depth", take_depth},
                 {"overlap", take_overlap},
                 {"bad", take_bad}};
    for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
        if (!is_word(parser, 0, heads[i].word))
            continue;
        if (parser->trace->step_count > 0)
            return bad_line(parser, "it must come before the first request");
        return heads[i].take(parser);
    }
    return take_step(parser);
}

/* --- the whole ---------------------------------------------------------------------------------
 */

static int parse_lines(struct parser *parser, const char *text, const char *end)
{
    bool has_begun = false;
    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline ? newline : end;
        int rc;
        parser->line.number++;
        rc = cut(parser, text, stop);
        if (rc == 0 && parser->line.word_count > 0) {
            if (has_begun)
                rc = take_line(parser);
            else if (!is_word(parser, 0, "platter-trace") || !is_word(parser, 1, "1"))
                rc = bad_line(parser, "it must be: platter-trace 1");
            has_begun = true;
        }
        if (rc < 0)
            return rc;
        text = newline ? newline + 1 : end;
    }
    if (!parser->has_size || !parser->has_device)
        return bad_line(parser, "it ends without a device and a size");
    if (parser->trace->step_count > 0 &&
        parser->trace->steps[parser->trace->step_count - 1].verb == TRACE_CRASH)
        return bad_line(parser, "it ends with a crash; let something be read after it");
    return 0;
}

int trace_parse(struct trace *trace, const char *text, size_t length, struct error *err)
{
    struct trace fresh = {.depth = 1};
    struct parser parser = {.trace = &fresh, .err = err};
    int rc = parse_lines(&parser, text, text + length);
    if (rc < 0) {
        trace_fini(&fresh);
        return rc;
    }
    *trace = fresh;
    return 0;
}

int trace_load(struct trace *trace, const char *path, struct error *err)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t length = 0, room = 0;
    int rc = 0;
    if (!file)
        return error_set(err, -errno, "the trace '%s' cannot be opened: %s", path, strerror(errno));
    while (rc == 0 && !feof(file)) {
        if (length == room) {
            char *more = realloc(text, room = room ? 2 * room : 65536);
            if (!more)
                rc = error_set(err, -ENOMEM, "no memory for the trace '%s'", path);
            else
                text = more;
        }
        if (rc == 0)
            length += fread(text + length, 1, room - length, file);
        if (rc == 0 && ferror(file))
            rc = error_set(err, -EIO, "the trace '%s' cannot be read", path);
        if (rc == 0 && length > FILE_BYTES_MAX)
            rc = error_set(err, -EINVAL, "the trace '%s' is longer than 64 MiB", path);
    }
    fclose(file);
    if (rc == 0)
        rc = trace_parse(trace, text, length, err);
    free(text);
    return rc;
}

void trace_fini(struct trace *trace)
{
    free(trace->steps);
    trace->steps = NULL;
    trace->step_count = 0;
}
