/* SPDX-License-Identifier: BSD-3-Clause */
#include "contrib/nbdkit-plugin/shared_image.h"

#include <errno.h>

#include "block/node_options.h"
#include "block/reopen.h"

/* What a coroutine on the home loop is asked to do, and how it went. */
struct image_call {
    struct stand *stand;
    const struct parameters *parameters;
    bool read_only;
    struct block_backend *backend;
    struct error *err;
    int code;
};

void shared_image_init(struct shared_image *image, struct stand *stand,
                       const struct parameters *parameters)
{
    *image = (struct shared_image){
        .stand = stand, .parameters = parameters, .mutex = PTHREAD_MUTEX_INITIALIZER};
}

void shared_image_fini(struct shared_image *image)
{
    objects_fini(&image->objects);
    pthread_mutex_destroy(&image->mutex);
}

/* --- on the home loop ---------------------------------------------------------------------------
 */

static void open_main(void *arg)
{
    struct image_call *call = arg;
    const struct parameters *parameters = call->parameters;
    bool read_only = call->read_only || parameters->read_only;
    struct node_options *options;
    struct block_node *node;
    call->code = parameters_node_options(parameters, read_only, &options, call->err);
    if (call->code == 0)
        call->code =
            block_co_open_image(&call->stand->env, parameters->image,
                                parameters_top_format(parameters), options, &node, call->err);
    if (call->code < 0)
        return;
    call->code = block_backend_new(&call->backend, node, read_only, call->err);
    block_co_node_unref(node); /* the backend has its own */
}

static void allow_writes_main(void *arg)
{
    struct image_call *call = arg;
    struct node_options *options = node_options_new();
    call->code = options ? node_options_set(options, "read-only", "off", call->err)
                         : error_set(call->err, -ENOMEM, "no memory to open the image again");
    if (call->code == 0)
        call->code = block_co_reopen(call->backend, options, call->err);
    else
        node_options_free(options);
}

/* A host that does not answer will be heard of at the next request. */
static void refresh_main(void *arg)
{
    struct image_call *call = arg;
    call->code = 0;
    (void)block_co_refresh_size(call->backend);
}

static void hurry_main(void *arg)
{
    struct image_call *call = arg;
    call->code = 0;
    block_backend_hurry(call->backend);
}

static void close_main(void *arg)
{
    struct image_call *call = arg;
    call->code = block_co_backend_free(call->backend);
    if (call->code < 0)
        error_set(call->err, call->code, "cannot flush '%s': %s; what was written last may be lost",
                  parameters_image_name(call->parameters), error_text(call->code));
}

static int call_home(struct image_call *call, void (*entry)(void *arg), struct error *err)
{
    call->err = err;
    int code = stand_run_home_co(call->stand, entry, call);
    if (code < 0)
        return error_set(err, code, "no memory for a stack");
    return call->code;
}

/* Once; a failure leaves none. */
static int make_objects(struct shared_image *image, struct error *err)
{
    const struct parameters *parameters = image->parameters;
    int code = 0;
    if (image->objects.env)
        return 0;
    objects_init(&image->objects, &image->stand->env, "object");
    for (unsigned i = 0; i < parameters->object_count && code == 0; i++)
        code = objects_add(&image->objects, parameters->objects[i], err);
    if (code < 0) {
        objects_fini(&image->objects);
        image->objects = (struct objects){.env = NULL};
    }
    return code;
}

/* --- for the connections ------------------------------------------------------------------------
 */

int shared_image_open(struct shared_image *image, bool read_only, struct error *err)
{
    struct image_call call = {
        .stand = image->stand, .parameters = image->parameters, .read_only = read_only};
    pthread_mutex_lock(&image->mutex);
    call.backend = image->backend;
    bool asks_for_more = !read_only && !image->parameters->read_only;
    int code = make_objects(image, err);
    if (code == 0) {
        bool is_too_little =
            asks_for_more && image->backend && block_backend_is_read_only(image->backend);
        code = call_home(&call,
                         !image->backend ? open_main
                         : is_too_little ? allow_writes_main
                                         : refresh_main,
                         err);
    }
    if (code == 0)
        image->backend = call.backend;
    pthread_mutex_unlock(&image->mutex);
    return code;
}

int shared_image_close(struct shared_image *image, struct error *err)
{
    struct image_call call = {
        .stand = image->stand, .parameters = image->parameters, .backend = image->backend};
    struct error ignored;
    if (call.backend)
        (void)call_home(&call, hurry_main, &ignored);
    stand_end_requests(image->stand);
    image->backend = NULL;
    return call.backend ? call_home(&call, close_main, err) : 0;
}

/* --- beforehand ---------------------------------------------------------------------------------
 */

static int try_open(struct image_call *call, bool read_only, struct error *err)
{
    struct error ignored;
    call->read_only = read_only;
    int code = call_home(call, open_main, err);
    if (code == 0) /* nothing was written */
        (void)call_home(call, close_main, &ignored);
    return code;
}

int shared_image_check(struct stand *stand, const struct parameters *parameters, struct error *err)
{
    struct image_call call = {.stand = stand, .parameters = parameters};
    struct shared_image image;
    struct error ignored;
    shared_image_init(&image, stand, parameters);
    int code = make_objects(&image, err);
    if (code == 0)
        code = try_open(&call, true, err);
    /* Some can be opened for writing alone: a graph that writes when it is opened (repair=all). */
    if (code < 0 && image.objects.env && !parameters->read_only &&
        try_open(&call, false, &ignored) == 0)
        code = 0;
    shared_image_fini(&image);
    return code;
}
