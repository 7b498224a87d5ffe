/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_CONTRIB_NBDKIT_PLUGIN_PLUGIN_FIXTURE_H
#define TESTS_UNIT_CONTRIB_NBDKIT_PLUGIN_PLUGIN_FIXTURE_H

/* A raw image of IMAGE_BYTES in a folder of its own, and what the plugin stands on. */

#include "contrib/nbdkit-plugin/requests.h"
#include "contrib/nbdkit-plugin/shared_image.h"

#define IMAGE_BYTES (1u << 20)

struct plugin_fixture {
    char folder[64];
    struct parameters parameters;
    struct stand stand;
    struct shared_image image;
};

/* words: keys and values by turns, NULL-ended, besides file=disk.img; they live as long. Started.
 */
void plugin_fixture_init(struct plugin_fixture *fixture, const char *const *words);
/* Closes the image and returns what the close said. */
int plugin_fixture_fini(struct plugin_fixture *fixture);
/* The same where the image was closed already. */
void plugin_fixture_closed(struct plugin_fixture *fixture);

/* The path of a file in the folder; of the next call's too. */
const char *plugin_fixture_path(const struct plugin_fixture *fixture, const char *name);

#endif
