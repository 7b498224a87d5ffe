/* SPDX-License-Identifier: BSD-3-Clause */
#include "contrib/nbdkit-plugin/requests.h"

#include "contrib/nbdkit-plugin/shared_image.h"

/* Questions of one request: an answer may be short, and a client asks again behind it. */
#define EXTENTS_MAX 4096
/* A hint has no claim to all of the host's memory: a long one is followed for a part. */
#define CACHE_BYTES_MAX (32u << 20)

struct request_call {
    struct shared_image *image;
    const struct request *request;
    int code;
};

static int co_extents(struct block_backend *backend, const struct request *request)
{
    uint64_t done = 0;
    for (unsigned i = 0; done < request->length && i < EXTENTS_MAX; i++) {
        struct block_extent extent;
        int code =
            block_co_status(backend, request->offset + done, request->length - done, &extent);
        if (code == 0)
            code = request->tell(request->tell_arg, request->offset + done, &extent);
        if (code < 0)
            return code;
        done += extent.length;
        if (request->tells_one)
            break;
    }
    return 0;
}

static unsigned durability(const struct request_call *call)
{
    bool is_through = image_cache_writes_through(call->image->parameters->cache);
    return call->request->flags | (is_through ? BLOCK_FUA : 0);
}

static int co_carry_out(const struct request_call *call)
{
    const struct request *request = call->request;
    struct block_backend *backend = call->image->backend;
    uint64_t offset = request->offset, length = request->length;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, request->data, length);
    switch (request->kind) {
    case REQUEST_READ:
        return block_co_read(backend, offset, &vec);
    case REQUEST_WRITE:
        return block_co_write(backend, offset, &vec, durability(call));
    case REQUEST_ZERO:
        return block_co_zero(backend, offset, length, durability(call));
    case REQUEST_TRIM: /* writes nothing that a client could miss: write-through is no matter */
        return block_co_discard(backend, offset, length, request->flags);
    case REQUEST_FLUSH:
        return block_co_flush(backend);
    case REQUEST_CACHE:
        return block_co_cache(backend, offset, length < CACHE_BYTES_MAX ? length : CACHE_BYTES_MAX);
    case REQUEST_EXTENTS:
        return co_extents(backend, request);
    }
    __builtin_unreachable();
}

static void request_main(void *arg)
{
    struct request_call *call = arg;
    call->code = co_carry_out(call);
}

int request_run(struct shared_image *image, const struct request *request)
{
    struct request_call call = {.image = image, .request = request};
    int code = stand_run_co(image->stand, request_main, &call);
    return code < 0 ? code : call.code;
}

const char *request_verb(enum request_kind kind)
{
    static const char *const verbs[] = {
        [REQUEST_READ] = "read",       [REQUEST_WRITE] = "write", [REQUEST_ZERO] = "zero",
        [REQUEST_TRIM] = "trim",       [REQUEST_FLUSH] = "flush", [REQUEST_CACHE] = "cache",
        [REQUEST_EXTENTS] = "look at",
    };
    return verbs[kind];
}
