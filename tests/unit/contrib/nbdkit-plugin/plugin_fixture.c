/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include "tests/unit/contrib/nbdkit-plugin/plugin_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *plugin_fixture_path(const struct plugin_fixture *fixture, const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", fixture->folder, name);
    return path;
}

void plugin_fixture_init(struct plugin_fixture *fixture, const char *const *words)
{
    struct error err = {""};
    *fixture = (struct plugin_fixture){.folder = "/tmp/platter-plugin.XXXXXX"};
    assert_non_null(mkdtemp(fixture->folder));
    int fd = open(plugin_fixture_path(fixture, "disk.img"), O_CREAT | O_RDWR, 0600);
    assert_true(fd >= 0 && ftruncate(fd, IMAGE_BYTES) == 0);
    close(fd);
    assert_int_equal(parameters_init(&fixture->parameters, fixture->folder, &err), 0);
    assert_int_equal(parameters_set(&fixture->parameters, "file", "disk.img", &err), 0);
    for (unsigned i = 0; words[i]; i += 2) {
        if (parameters_set(&fixture->parameters, words[i], words[i + 1], &err) < 0)
            fail_msg("%s", err.message);
    }
    if (stand_init(&fixture->stand, LOOP_COUNT_MAX, &err) < 0 ||
        stand_start(&fixture->stand, &err) < 0)
        fail_msg("%s", err.message);
    shared_image_init(&fixture->image, &fixture->stand, &fixture->parameters);
}

int plugin_fixture_fini(struct plugin_fixture *fixture)
{
    struct error err;
    int code = shared_image_close(&fixture->image, &err);
    plugin_fixture_closed(fixture);
    return code;
}

void plugin_fixture_closed(struct plugin_fixture *fixture)
{
    shared_image_fini(&fixture->image);
    stand_stop(&fixture->stand);
    stand_fini(&fixture->stand);
    parameters_fini(&fixture->parameters);
    unlink(plugin_fixture_path(fixture, "disk.img"));
    rmdir(fixture->folder);
}
