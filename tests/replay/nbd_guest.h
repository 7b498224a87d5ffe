/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_REPLAY_NBD_GUEST_H
#define TESTS_REPLAY_NBD_GUEST_H

/*
 * A guest's disk that a server serves over NBD: libnbd as a guest_device. Without a write cache its
 * writes and zeroes are FUA, as a virtual machine's would be.
 */

#include <stdbool.h>

#include <libnbd.h>

#include "block/loop.h"
#include "tests/harness/guest_device.h"

struct nbd_guest {
    struct guest_device guest;
    struct loop *loop;
    struct nbd_handle *nbd;
    struct loop_watch watch;
    struct loop_task answer; /* for what has ended */
    struct list ended;       /* struct nbd_call.link */
    bool has_write_cache;
};

/* Connects to the UNIX socket, trying again for a while, since the server may be starting. Takes
 * part in the loop from then on. -1, with a sentence. */
int nbd_guest_init(struct nbd_guest *guest, struct loop *loop, const char *socket,
                   struct error *err);
/* Says good-bye. Nothing is in flight. */
void nbd_guest_fini(struct nbd_guest *guest);

#endif
