/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_CREATE_H
#define FORMATS_QCOW2_CREATE_H

#include "block/driver.h"

/* Makes a new image; the options are in create.c. See block_driver_admin.co_create. */
int qcow2_co_create(struct block_env *env, struct node_options *options, struct error *err);

#endif
