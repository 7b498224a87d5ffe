/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A session on a raw image in which the n-th call of the host's files fails, for every n until none
 * is left to fail: EIO, ENOSPC, an interruption, a short transfer; once, and from then on. It may
 * not crash or hang, no error of a write, zero or sync may be swallowed, interruptions and short
 * transfers must not be seen, and the bytes must be right afterwards. After a failed sync no flush
 * may succeed until the image is opened anew.
 *
 * The calls are those of the engines "sync" and "threads"; io_uring makes none of them.
 */
#include "tests/unit/block/posix_fixture.h"

#include <stdatomic.h>

#include "block/block.h"
#include "formats/registry.h"

enum { SIZE = 1 << 20, CALLS_MAX = 2000 };

enum fault_kind { FAULT_EIO, FAULT_ENOSPC, FAULT_EINTR, FAULT_SHORT, FAULT_KINDS };

static const char *const kind_names[] = {"EIO", "ENOSPC", "EINTR", "short"};

/* One at a time; the calls come from a worker's thread, too. */
static struct {
    enum fault_kind kind;
    bool sticky;
    _Atomic unsigned at; /* this call fails, counted from 1; 0: none */
    _Atomic unsigned calls;
    _Atomic unsigned hits;
    _Atomic bool write_failed; /* a write, fallocate or truncate, since it was last cleared */
    _Atomic bool sync_failed;
    _Atomic bool read_failed;
} fault;

static bool hits(void)
{
    unsigned number = ++fault.calls, at = fault.at;
    bool hit = at > 0 && (number == at || (number > at && fault.sticky));
    fault.hits += hit;
    return hit;
}

/* What a call gives that is not a transfer, or 0: it is made. */
static int spoil(_Atomic bool *ret_failed)
{
    if (!hits() || fault.kind == FAULT_SHORT)
        return 0;
    if (fault.kind == FAULT_EINTR)
        return -EINTR;
    *ret_failed = true;
    return fault.kind == FAULT_EIO ? -EIO : -ENOSPC;
}

/* The same for a transfer, which may also be cut to its first half; returns how many of cut[]. */
static int spoil_transfer(_Atomic bool *ret_failed, const struct iovec *iov, int iov_count,
                          struct iovec *cut)
{
    size_t length = 0;
    memcpy(cut, iov, (size_t)iov_count * sizeof(*cut));
    if (!hits())
        return iov_count;
    if (fault.kind == FAULT_EINTR)
        return -EINTR;
    if (fault.kind != FAULT_SHORT) {
        *ret_failed = true;
        return fault.kind == FAULT_EIO ? -EIO : -ENOSPC;
    }
    for (int i = 0; i < iov_count; i++)
        length += iov[i].iov_len;
    /* A multiple of what O_DIRECT wants, as the kernel would; too little to cut is left whole. */
    size_t left = length / 2 / 4096 * 4096;
    if (left == 0)
        return iov_count;
    int count = 0;
    for (; left > 0; count++) {
        cut[count].iov_len = cut[count].iov_len < left ? cut[count].iov_len : left;
        left -= cut[count].iov_len;
    }
    return count;
}

static ssize_t faulty_preadv(struct host_files *files, int fd, const struct iovec *iov,
                             int iov_count, uint64_t offset)
{
    struct iovec cut[1024];
    int count = spoil_transfer(&fault.read_failed, iov, iov_count, cut);
    return count < 0 ? count : host_files_linux.preadv(files, fd, cut, count, offset);
}

static ssize_t faulty_pwritev(struct host_files *files, int fd, const struct iovec *iov,
                              int iov_count, uint64_t offset)
{
    struct iovec cut[1024];
    int count = spoil_transfer(&fault.write_failed, iov, iov_count, cut);
    return count < 0 ? count : host_files_linux.pwritev(files, fd, cut, count, offset);
}

static int faulty_sync(struct host_files *files, int fd)
{
    int code = spoil(&fault.sync_failed);
    (void)files, (void)fd; /* no power is cut here: it need not be true, only told */
    return code;
}

static int faulty_fallocate(struct host_files *files, int fd, int mode, uint64_t offset,
                            uint64_t length)
{
    int code = spoil(&fault.write_failed);
    return code < 0 ? code : host_files_linux.fallocate(files, fd, mode, offset, length);
}

static int faulty_truncate(struct host_files *files, int fd, uint64_t size_bytes)
{
    int code = spoil(&fault.write_failed);
    return code < 0 ? code : host_files_linux.truncate(files, fd, size_bytes);
}

static int faulty_seek(struct host_files *files, int fd, enum host_seek what, uint64_t offset,
                       uint64_t *ret_offset)
{
    int code = spoil(&fault.read_failed);
    return code < 0 ? code : host_files_linux.seek(files, fd, what, offset, ret_offset);
}

/* --- the model: which values each byte may have -------------------------------------------------
 */

struct session {
    struct posix_fixture *fixture;
    struct block_backend *backend;
    bool direct;
    bool sync_lost; /* since the image was opened */
    const char *step;
    uint32_t *may_be; /* by byte: a set of values from 0 to 31 */
    uint8_t *buffer;
};

#define fail_here(session, ...)                                                                 \
    do {                                                                                        \
        print_error("%s, %s, %s, call %u %s, in step '%s': ", (session)->fixture->engine->name, \
                    (session)->direct ? "direct" : "buffered", kind_names[fault.kind],          \
                    (unsigned)fault.at, fault.sticky ? "and after" : "once", (session)->step);  \
        fail_msg(__VA_ARGS__);                                                                  \
    } while (0)

static void begin(struct session *session, const char *step)
{
    session->step = step;
    fault.write_failed = fault.sync_failed = fault.read_failed = false;
}

/* What a change must have answered: an error that was injected is told, and nothing else is. */
static void judge(struct session *session, int code, bool needs_sync)
{
    bool must_fail = fault.write_failed || fault.sync_failed || (needs_sync && session->sync_lost);
    if (must_fail && code >= 0)
        fail_here(session, "an error was swallowed");
    if (!must_fail && !fault.read_failed && code < 0)
        fail_here(session, "failed without a reason: %s", error_text(code));
    if (fault.sync_failed)
        session->sync_lost = true;
}

static void now_may_be(struct session *session, uint64_t offset, size_t length, unsigned value,
                       bool surely)
{
    for (size_t i = 0; i < length; i++) {
        uint32_t before = surely ? 0 : session->may_be[offset + i];
        session->may_be[offset + i] = before | UINT32_C(1) << value;
    }
}

/* --- steps --------------------------------------------------------------------------------------
 */

static void write_step(struct session *session, const char *step, uint64_t offset, size_t length,
                       unsigned value, unsigned flags)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, session->buffer, length);
    begin(session, step);
    memset(session->buffer, (int)value, length);
    int code = block_co_write(session->backend, offset, &vec, flags);
    judge(session, code, flags & BLOCK_FUA);
    now_may_be(session, offset, length, value, code == 0);
}

static void zero_step(struct session *session, const char *step, uint64_t offset, size_t length,
                      unsigned flags)
{
    begin(session, step);
    int code = block_co_zero(session->backend, offset, length, flags);
    judge(session, code, flags & BLOCK_FUA);
    now_may_be(session, offset, length, 0, code == 0);
}

static void discard_step(struct session *session, uint64_t offset, size_t length)
{
    begin(session, "discard");
    int code = block_co_discard(session->backend, offset, length, 0);
    if (code < 0 && !fault.write_failed)
        fail_here(session, "failed without a reason: %s", error_text(code));
    now_may_be(session, offset, length, 0, false);
}

static void flush_step(struct session *session, const char *step)
{
    begin(session, step);
    judge(session, block_co_flush(session->backend), true);
}

static void read_step(struct session *session, const char *step, uint64_t offset, size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, session->buffer, length);
    begin(session, step);
    memset(session->buffer, 31, length);
    int code = block_co_read(session->backend, offset, &vec);
    if (code < 0 && !fault.read_failed)
        fail_here(session, "failed without a reason: %s", error_text(code));
    if (code == 0 && fault.read_failed)
        fail_here(session, "an error was swallowed");
    for (size_t i = 0; code == 0 && i < length; i++) {
        unsigned value = session->buffer[i];
        if (value > 30 || !(session->may_be[offset + i] & UINT32_C(1) << value))
            fail_here(session, "byte %lu is %u", (unsigned long)(offset + i), value);
    }
}

static void status_step(struct session *session)
{
    struct block_extent extent;
    begin(session, "status");
    for (uint64_t at = 0; at < SIZE; at += extent.length) {
        int code = block_co_status(session->backend, at, SIZE - at, &extent);
        if (code < 0 && !fault.read_failed)
            fail_here(session, "failed without a reason: %s", error_text(code));
        if (code < 0)
            return;
        for (uint64_t i = at; (extent.flags & BLOCK_EXTENT_ZERO) && i < at + extent.length; i++) {
            if (!(session->may_be[i] & 1))
                fail_here(session, "byte %lu is called zero", (unsigned long)i);
        }
    }
}

static void resize_step(struct session *session)
{
    struct error err;
    begin(session, "resize");
    int code = block_co_resize(session->backend, SIZE + 65536, &err);
    if (code < 0 && !fault.write_failed && !fault.sync_failed && !session->sync_lost)
        fail_here(session, "failed without a reason: %s", err.message);
}

/* --- the session --------------------------------------------------------------------------------
 */

static int open_session(struct session *session)
{
    struct posix_fixture *fixture = session->fixture;
    struct node_options *options = node_options_new();
    struct block_node *node;
    node_options_set(options, "file.aio", fixture->engine->name, NULL);
    node_options_set(options, "file.discard", "unmap", NULL);
    node_options_set(options, "file.cache.direct", session->direct ? "on" : "off", NULL);
    begin(session, "open");
    session->sync_lost = false;
    int code =
        block_co_open_image(&fixture->env, fixture->path, "raw", options, &node, &fixture->err);
    if (code == 0) {
        code = block_backend_new(&session->backend, node, false, &fixture->err);
        block_co_node_unref(node);
    }
    return code;
}

static void close_session(struct session *session)
{
    begin(session, "close");
    judge(session, block_co_backend_free(session->backend), true);
}

static void run_steps(struct session *session)
{
    write_step(session, "write", 0, 65536, 1, 0);
    write_step(session, "odd write", 200001, 100007, 2, 0);
    read_step(session, "odd read", 200000, 100010);
    write_step(session, "FUA write", 131072, 4096, 3, BLOCK_FUA);
    flush_step(session, "flush of nothing new");
    zero_step(session, "zero", 8192, 16384, 0);
    zero_step(session, "odd zero", 210001, 7777, 0);
    zero_step(session, "zero without a hole", 1 << 19, 65536, BLOCK_NO_UNMAP);
    write_step(session, "large write", 600000, 400000, 4, 0);
    flush_step(session, "flush");
    discard_step(session, 700000, 100000);
    status_step(session);
    write_step(session, "write to the end", SIZE - 5000, 5000, 5, 0);
    flush_step(session, "flush again");
    read_step(session, "read all", 0, SIZE);
    resize_step(session);
    write_step(session, "write after all", 4096, 4096, 6, 0);
    flush_step(session, "last flush");
}

static bool one_fault(struct session *session, enum fault_kind kind, unsigned n, bool sticky)
{
    make_image(session->fixture, 0);
    assert_int_equal(truncate(session->fixture->path, SIZE), 0);
    now_may_be(session, 0, SIZE, 0, true);
    fault.kind = kind;
    fault.sticky = sticky;
    fault.calls = fault.hits = 0;
    fault.at = n;
    if (open_session(session) == 0) {
        run_steps(session);
        close_session(session);
    } else if (fault.hits == 0) {
        fail_here(session, "cannot be opened: %s", session->fixture->err.message);
    }
    bool hit = fault.hits > 0;
    fault.at = 0;
    if (open_session(session) < 0)
        fail_here(session, "cannot be opened again: %s", session->fixture->err.message);
    read_step(session, "read what is left", 0, SIZE);
    write_step(session, "write as before", 100, 100000, 7, 0);
    flush_step(session, "flush as before");
    read_step(session, "read as before", 0, SIZE);
    close_session(session);
    return hit;
}

static void each_call_fails(struct session *session, enum fault_kind kind, bool sticky)
{
    unsigned n = 1;
    while (one_fault(session, kind, n, sticky)) {
        n++;
        assert_true(n < CALLS_MAX);
    }
    assert_true(n > 20);
    print_message("%s, %s: %s at each of %u calls, %s\n", session->fixture->engine->name,
                  session->direct ? "direct" : "buffered", kind_names[kind], n - 1,
                  sticky ? "and after it" : "once");
}

static void body(struct posix_fixture *fixture, bool direct)
{
    struct session session = {.fixture = fixture, .direct = direct};
    session.may_be = malloc(SIZE * sizeof(*session.may_be));
    session.buffer = aligned_alloc(4096, SIZE);
    assert_true(session.may_be && session.buffer);
    fixture->odd.files.preadv = faulty_preadv;
    fixture->odd.files.pwritev = faulty_pwritev;
    fixture->odd.files.sync = faulty_sync;
    fixture->odd.files.fallocate = faulty_fallocate;
    fixture->odd.files.truncate = faulty_truncate;
    fixture->odd.files.seek = faulty_seek;
    for (enum fault_kind kind = 0; kind < FAULT_KINDS; kind++) {
        each_call_fails(&session, kind, false);
        if (kind != FAULT_EINTR) /* for ever interrupted is for ever tried again */
            each_call_fails(&session, kind, true);
    }
    free(session.may_be);
    free(session.buffer);
}

static void buffered_body(struct posix_fixture *fixture)
{
    body(fixture, false);
}

static void direct_body(struct posix_fixture *fixture)
{
    body(fixture, true);
}

static void each_call_fails_in_turn_buffered(void **state)
{
    with_posix_drivers(state, formats_registry, buffered_body);
}

static void each_call_fails_in_turn_direct(void **state)
{
    with_posix_drivers(state, formats_registry, direct_body);
}

int main(void)
{
#define on_engine(engine, test)                                        \
    {                                                                  \
#engine ": " #test, test, NULL, NULL, (void *)&engine_##engine \
    }
    const struct CMUnitTest tests[] = {
        on_engine(sync, each_call_fails_in_turn_buffered),
        on_engine(threads, each_call_fails_in_turn_buffered),
        on_engine(sync, each_call_fails_in_turn_direct),
        on_engine(threads, each_call_fails_in_turn_direct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
