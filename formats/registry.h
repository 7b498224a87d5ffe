/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_REGISTRY_H
#define FORMATS_REGISTRY_H

#include "block/driver.h"

/* Every driver there is, formats and protocols, NULL-ended: for block_env_init(). */
extern const struct block_driver *const formats_registry[];

#endif
