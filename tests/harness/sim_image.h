/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_IMAGE_H
#define TESTS_HARNESS_SIM_IMAGE_H

/*
 * The image of a graph between the lives of the server. What clients were promised cannot be seen
 * in its file, so the image is opened, read to the last byte, and checked by our own check and now
 * and then by qemu-img's. Each of these can fail the run.
 */

#include "tests/harness/sim_world.h"

/* Makes the graph's files, and finds world->file. */
void sim_image_make(struct sim_world *world);
/* After a close that went well: it shows what it showed, and the next power cut takes nothing.
 * is_promised: it was flushed. */
void sim_image_closed(struct sim_world *world, bool is_promised);
/* After a power cut: so many states that the disk may be in now, and the next life has the last. */
void sim_image_cut(struct sim_world *world, unsigned survivors);
/* After a kill, or a close that failed: what the page cache shows is the image. */
void sim_image_killed(struct sim_world *world);

#endif
