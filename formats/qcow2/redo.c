/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The image's redo log (cache/redo.h): what is in its tables in memory alone, once more in memory
 * that stays when the process is killed (block/kept.h). The next one that opens the image for
 * writing writes it to the tables, before it looks at anything in them.
 *
 * Is it the log of what the file holds? Three things say so:
 *
 *   the bit        Autoclear feature bit 63, set before the first change, cleared when nothing is
 *                  in memory alone. Whoever else opens the image for writing clears it, as the
 *                  specification wants, so it says that only who keeps a log has written since. It
 *                  is not synced: after a power cut the log is gone, and the bit alone means
 *                  nothing.
 *   the session    A number in the 31 bits below it, and in the log: not the same for two logs. An
 *                  older copy of the image, bit and all, is not of this log.
 *   the heartbeat  When the image's file was last written by who kept the log. A file that was
 *                  changed later, as by a copy of the same session, was changed by somebody else;
 *                  one that was changed earlier has been put back, as by a snapshot of the file
 *                  system below.
 *
 * Where there is no such memory, or the image's version is 2, all is as it would be without a log:
 * what a kill takes away is what was answered and not flushed.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "block/kept.h"
#include "block/loop.h"
#include "block/node_options.h"
#include "cache/redo.h"
#include "common/clock.h"
#include "common/endian.h"
#include "common/log.h"
#include "formats/qcow2/writer.h"

/* How much later than the heartbeat a file may be changed by who keeps the log: by a write that
 * waited on its way, and was let go when the process was killed. */
#define LATER_MAX_NS (10 * NS_PER_S)
/* How much earlier: it was about to change it, and a write may have waited that long. An older one
 * was put back, with all that surrounds it, to what it was when the same session had it. */
#define EARLIER_MAX_NS (60 * NS_PER_S)

struct qcow2_redo {
    struct kept_memory *kept;
    struct redo *log;
    uint64_t bits; /* of the header, the session among them */
    _Atomic bool
        is_marked;   /* the header has the bit, or cannot get it; written under the monitor */
    bool is_marking; /* monitor */
    struct co_queue markers; /* monitor */
};

int qcow2_take_redo(struct qcow2_image *image, struct node_options *options, struct error *err)
{
    image->wants_redo = true;
    return node_options_take_bool(options, "redo-log", &image->wants_redo, err);
}

/* What the log's records depend on. */
static struct redo_identity identity_of(const struct qcow2_image *image, uint64_t bits)
{
    const uint64_t states = QCOW2_INCOMPATIBLE_DIRTY | QCOW2_INCOMPATIBLE_CORRUPT;
    struct redo_identity identity = {.bytes = "qcow2"};
    store_be32(identity.bytes + 8, image->header.cluster_bits);
    store_be32(identity.bytes + 12, image->header.refcount_order);
    store_be64(identity.bytes + 16, image->header.incompatible_features & ~states);
    store_be64(identity.bytes + 24, bits & QCOW2_AUTOCLEAR_REDO_ALL);
    return identity;
}

/* Not those of another log: no two are made in one moment, and none is older than the host's
 * uptime, by which the loop counts. */
static uint64_t draw_bits(void)
{
    uint64_t mixed = loop_now_ns(loop_current()) * UINT64_C(0x9e3779b97f4a7c15);
    return (mixed & QCOW2_AUTOCLEAR_REDO_ALL) | QCOW2_AUTOCLEAR_REDO;
}

/* As the header was read. */
static bool has_bit(const struct qcow2_image *image)
{
    return image->header.version >= 3 && (image->header.autoclear_features & QCOW2_AUTOCLEAR_REDO);
}

/* --- what the last one left ---------------------------------------------------------------------
 */

static enum redo_content look(const struct qcow2_image *image, const struct kept_memory *kept,
                              const struct redo *log)
{
    struct redo_identity identity = identity_of(image, image->header.autoclear_features);
    return kept->is_found && has_bit(image) ? redo_look(log, &identity) : REDO_FOREIGN;
}

/* NULL: it is as who keeps the log has left it, as far as its time says. */
static const char *fault_of_time(const struct kept_memory *kept, const struct redo *log)
{
    uint64_t changed_ns = kept->file_changed_ns, beat_ns = redo_heartbeat_ns(log);
    uint64_t last_ns = beat_ns > redo_replay_ns(log) ? beat_ns : redo_replay_ns(log);
    if (changed_ns > last_ns + LATER_MAX_NS)
        return "somebody else has changed its file since";
    if (changed_ns > 0 && changed_ns + EARLIER_MAX_NS < beat_ns)
        return "its file was put back to what it was before";
    return NULL;
}

/* What cannot be replayed is said, and is as if it were not there. */
static bool is_to_be_replayed(const struct qcow2_image *image, const struct kept_memory *kept,
                              const struct redo *log)
{
    enum redo_content content = look(image, kept, log);
    const char *why = NULL;
    if (content == REDO_BROKEN)
        why = "its redo log does not have all that was changed";
    else if (content == REDO_CHANGES)
        why = fault_of_time(kept, log);
    if (why)
        log_warning("'%s': its server was killed, and %s; what was written after the last flush "
                    "may be lost",
                    image->node->name, why);
    return content == REDO_CHANGES && !why;
}

static int co_replay(struct qcow2_image *image, struct redo *log, struct error *err)
{
    struct error why = {.message = ""};
    const char *name = image->node->name;
    uint64_t count = 0;
    int ret = redo_co_replay(log, image->cache, QCOW2_HOST_OFFSET_MAX, &count, &why);
    if (ret == 0)
        log_warning("'%s': its server was killed; %" PRIu64 " changes of its tables that were not "
                    "written then are written now",
                    name, count);
    if (ret == -EBADMSG)
        log_warning("'%s': its server was killed, and %s; what was written after the last flush "
                    "may be lost",
                    name, why.message);
    if (ret == 0 || ret == -EBADMSG)
        return ret;
    return error_set(err, ret, "cannot open '%.200s' for writing: %s", name, why.message);
}

static void format(const struct qcow2_image *image, struct qcow2_redo *redo)
{
    redo->bits = draw_bits();
    struct redo_identity identity = identity_of(image, redo->bits);
    redo_format(redo->log, &identity);
}

/* The log is empty afterwards. */
static int co_take_over(struct qcow2_image *image, struct qcow2_redo *redo, struct error *err)
{
    int ret = -EBADMSG;
    redo->bits = image->header.autoclear_features & QCOW2_AUTOCLEAR_REDO_ALL;
    if (is_to_be_replayed(image, redo->kept, redo->log))
        ret = co_replay(image, redo->log, err);
    atomic_store(&redo->is_marked, ret == 0);
    if (ret == -EBADMSG)
        format(image, redo);
    return ret == -EBADMSG ? 0 : ret;
}

/* --- its life -----------------------------------------------------------------------------------
 */

static struct qcow2_redo *redo_of(struct kept_memory *kept)
{
    struct qcow2_redo *redo = calloc(1, sizeof(*redo));
    if (!redo || redo_new(&redo->log, kept->base, kept->length) < 0) {
        free(redo);
        return NULL;
    }
    redo->kept = kept;
    redo_set_clock(redo->log, kept->clock);
    co_queue_init(&redo->markers);
    return redo;
}

static void co_end(struct qcow2_redo *redo, bool is_done)
{
    redo_free(redo->log);
    kept_co_close(redo->kept, is_done);
    free(redo);
}

/* NULL: there is none. What the last one left is taken even where none is wanted, to be replayed,
 * or else to be taken away. */
static struct kept_memory *co_keep(const struct qcow2_image *image)
{
    struct kept_memory *kept = NULL;
    struct error why;
    bool only_look = !image->wants_redo && !has_bit(image);
    int ret = node_co_keep(image->node->file, REDO_MEMORY_BYTES_DEFAULT, only_look, &kept, &why);
    if (ret < 0 && !only_look)
        log_verbose("'%s' has no redo log: %s", image->node->name, why.message);
    if (ret == 0 && only_look) {
        kept_co_close(kept, true);
        kept = NULL;
    }
    return kept;
}

int qcow2_redo_co_open(struct qcow2_image *image, struct error *err)
{
    assert(!image->redo && !image->node->read_only);
    struct kept_memory *kept = image->header.version >= 3 ? co_keep(image) : NULL;
    if (!kept)
        return 0;
    struct qcow2_redo *redo = redo_of(kept);
    if (!redo) {
        kept_co_close(kept, false);
        return error_set(err, -ENOMEM, "no memory to open '%.200s'", image->node->name);
    }
    int ret = co_take_over(image, redo, err);
    if (ret == 0 && image->wants_redo)
        image->redo = redo;
    else
        co_end(redo, ret == 0);
    return ret;
}

bool qcow2_redo_has_bit(const struct qcow2_image *image)
{
    return image->redo && atomic_load(&image->redo->is_marked);
}

static void attach(struct qcow2_image *image, struct redo *log)
{
    pthread_mutex_lock(&image->monitor);
    cache_attach_redo(image->cache, log);
    pthread_mutex_unlock(&image->monitor);
}

void qcow2_redo_attach(struct qcow2_image *image)
{
    if (image->redo)
        attach(image, image->redo->log);
}

void qcow2_redo_co_close(struct qcow2_image *image)
{
    struct qcow2_redo *redo = image->redo;
    if (!redo)
        return;
    struct redo_identity identity = identity_of(image, redo->bits);
    attach(image, NULL);
    image->redo = NULL;
    co_end(redo, redo_look(redo->log, &identity) != REDO_CHANGES);
}

void qcow2_redo_co_detach(struct qcow2_image *image)
{
    if (qcow2_is_corrupt(image)) /* nothing will ever be written any more */
        qcow2_redo_co_close(image);
    if (!image->redo)
        return;
    attach(image, NULL);
    format(image, image->redo);
}

void qcow2_redo_give_up(struct qcow2_image *image)
{
    if (!image->redo)
        return;
    pthread_mutex_lock(&image->monitor);
    redo_break_for_good(image->redo->log);
    pthread_mutex_unlock(&image->monitor);
}

/* --- the bit ------------------------------------------------------------------------------------
 */

/* A header that cannot be written is no reason to fail a write of data: the log is of no use then,
 * and that is all. */
static void co_write_bit(struct qcow2_image *image)
{
    uint8_t field[8];
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, field, sizeof(field));
    store_be64(field, image->header.autoclear_features | image->redo->bits);
    int ret = qcow2_co_write_to(image, image->node->file, QCOW2_HEADER_AUTOCLEAR, &vec);
    if (ret == 0)
        return;
    log_warning("'%s' has no redo log, since its header cannot be written: %s", image->node->name,
                error_text(ret));
    qcow2_redo_give_up(image);
}

static void co_mark(struct qcow2_image *image)
{
    struct qcow2_redo *redo = image->redo;
    pthread_mutex_lock(&image->monitor);
    while (redo->is_marking)
        co_queue_wait(&redo->markers, &image->monitor);
    bool is_mine = !atomic_load(&redo->is_marked);
    redo->is_marking = is_mine;
    pthread_mutex_unlock(&image->monitor);
    if (!is_mine)
        return;
    co_write_bit(image);
    pthread_mutex_lock(&image->monitor);
    atomic_store(&redo->is_marked, true);
    redo->is_marking = false;
    co_queue_wake_all(&redo->markers);
    pthread_mutex_unlock(&image->monitor);
}

void qcow2_redo_co_mark(struct qcow2_image *image)
{
    if (!atomic_load_explicit(&image->redo->is_marked, memory_order_acquire))
        co_mark(image);
}

void qcow2_redo_co_rest(struct qcow2_image *image)
{
    uint8_t field[8];
    if (!image->redo || !atomic_load(&image->redo->is_marked))
        return;
    store_be64(field, image->header.autoclear_features);
    int ret = qcow2_co_write_header_bytes(image, QCOW2_HEADER_AUTOCLEAR, field, sizeof(field));
    if (ret < 0) /* without a log it means nothing */
        log_verbose("'%s' keeps its feature bit of the redo log: %s", image->node->name,
                    error_text(ret));
    atomic_store(&image->redo->is_marked, false);
}

void qcow2_redo_beat_of(const struct qcow2_redo *redo)
{
    redo_beat_now(redo->log);
}

/* --- who only reads -----------------------------------------------------------------------------
 */

/* Where there is no memory to look, something is: who believed that nothing is would write, and
 * what is left would be replayed below it. */
bool qcow2_redo_co_is_left(const struct qcow2_image *image)
{
    struct kept_memory *kept = NULL;
    struct redo *log = NULL;
    if (!has_bit(image))
        return false;
    int ret = node_co_keep(image->node->file, REDO_MEMORY_BYTES_DEFAULT, true, &kept, NULL);
    if (ret == 0)
        ret = redo_new(&log, kept->base, kept->length);
    bool is_left = ret == -ENOMEM;
    if (ret == 0)
        is_left = look(image, kept, log) == REDO_CHANGES && !fault_of_time(kept, log);
    redo_free(log);
    kept_co_close(kept, false);
    return is_left;
}
