# SPDX-License-Identifier: BSD-3-Clause
"""What a guest sees when the host's disk is full, or fails."""
import contextlib
import os
import signal

import common
import guest

ROOM = 12 << 20  # of the host's file system at first
MORE_ROOM = 64 << 20


@contextlib.contextmanager
def small_file_system(folder):
    """A tmpfs of ROOM bytes."""
    where = os.path.join(folder, "small")
    os.mkdir(where)
    common.run("mount", "-t", "tmpfs", "-o", "size=%d" % ROOM, "none", where)
    try:
        yield where
    finally:
        common.run("umount", where)
        os.rmdir(where)


def make_room(where):
    common.run("mount", "-o", "remount,size=%d" % MORE_ROOM, where)


def full_disk(folder, kind):
    """The guest is told of the write that failed; the rest goes on, and all of it when there is room."""
    common.need_root("mounting")
    guest.need()
    with small_file_system(folder) as where:
        image = common.new_image(where, kind, 32 << 20)
        with common.Server(folder, image, kind) as server:
            with guest.Guest(folder, "full_disk", ["/dev/vda"], guest.VIRTIO_DISK,
                             guest.disk(server, "virtio", device=["werror=report"]),
                             kernel_says="errors=expected") as machine:
                machine.expect_question("full")
                make_room(where)
                machine.go()
                machine.passes()
            server.stop()
        common.check_image(image, kind)


def full_disk_waits(folder):
    """With --werror=enospc the guest waits until there is room, and sees nothing."""
    common.need_root("mounting")
    guest.need()
    with small_file_system(folder) as where:
        image = common.new_image(where, "qcow2", 32 << 20)
        with common.Server(folder, image, "qcow2", "--werror=enospc") as server:
            with guest.Guest(folder, "write_all", ["/dev/vda"], guest.VIRTIO_DISK,
                             guest.disk(server, "virtio")) as machine:
                machine.expect("begins")
                common.wait_until("the server says that it is stopped",
                                  lambda: "is stopped" in server.log(), 120)
                make_room(where)
                server.process.send_signal(signal.SIGUSR2)
                machine.passes()
            server.stop()
        common.check_image(image, "qcow2")


def faults(folder, case, rules, status):
    """The filter fault fails what the rules say."""
    guest.need()
    image = common.new_image(folder, "raw", 64 << 20)
    graph = ["driver=fault", "file.driver=raw", "file.file.filename=" + image]
    for number, rule in enumerate(rules):
        graph += ["inject-error.%d.%s" % (number, word) for word in rule.split(",")]
    with common.Server(folder, ",".join(graph), None, "--image-opts") as server:
        with guest.Guest(folder, case, ["/dev/vda"], guest.VIRTIO_DISK,
                         guest.disk(server, "virtio", device=["werror=report", "rerror=report"]),
                         kernel_says="errors=expected") as machine:
            machine.passes()
        server.stop(status)


CASES = {"a full disk, %s" % kind: (full_disk, kind) for kind in ("raw", "qcow2")}
CASES["a full disk, and the guest waits"] = (full_disk_waits,)
CASES["bad sectors"] = (faults, "bad_sectors", ("iotype=read,offset=8M,length=4096",
                                                "iotype=write,offset=16M,length=4096"), 0)
# What was lost is told once more at the end, by the exit status.
CASES["a flush that fails"] = (faults, "failed_flush", ("iotype=flush,nth=2,once=on",), 1)
