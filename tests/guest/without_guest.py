# SPDX-License-Identifier: BSD-3-Clause
"""No guest yet: this machine's kernel makes file systems on an export, through nbdfuse and a loop device."""
import contextlib
import os
import subprocess

import common
import dialogue
import rounds

SHELL = r"""
set -e
ask() {
    echo "? $*"
    read -r answer
    [ "$answer" = go ]
}
. "$1/inside/files.sh"
file_system_round "$2" "$3" "$4"
echo PASS
"""


@contextlib.contextmanager
def fuse_file(folder, uri):
    """The export as a file."""
    path = os.path.join(folder, "export")
    with open(path, "wb"):
        pass
    with subprocess.Popen(["nbdfuse", path, uri]) as process:
        try:
            common.wait_until("nbdfuse shows the export", lambda: os.path.getsize(path) > 0)
            yield path
            common.run("umount", path)
            process.wait(30)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(30)
    os.unlink(path)


@contextlib.contextmanager
def loop_device(path):
    device = common.run("losetup", "--find", "--show", path).strip()
    try:
        yield device
    finally:
        common.run("losetup", "--detach", device)
        common.wait_until(device + " is free", lambda: not os.path.exists(
            "/sys/block/%s/loop/backing_file" % os.path.basename(device)))


@contextlib.contextmanager
def mount_point(folder):
    path = os.path.join(folder, "mounted")
    os.mkdir(path)
    try:
        yield path
    finally:
        if os.path.ismount(path):
            common.run("umount", path)
        os.rmdir(path)


def mounted(folder, kind, file_system):
    common.need_root("mounting")
    common.need("nbdfuse", "losetup", "fstrim", "mkfs." + file_system)
    if not os.path.exists("/dev/fuse"):
        raise common.Skip("this machine has no FUSE")
    image = common.new_image(folder, kind, 512 << 20)
    with common.Server(folder, image, kind) as server:
        with fuse_file(folder, server.uri()) as path, loop_device(path) as device, \
             mount_point(folder) as where:
            command = ["sh", "-c", SHELL, "sh", common.HERE, file_system, device, where]
            with dialogue.Dialogue(command, 120) as talk:
                rounds.expect_round(talk, file_system, image)
                talk.passes()
        server.stop()
    common.check_image(image, kind)


CASES = {"without a guest, %s on %s" % (file_system, kind): (mounted, kind, file_system)
         for kind in ("raw", "qcow2") for file_system in ("ext4", "xfs")}
