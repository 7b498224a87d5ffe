# SPDX-License-Identifier: BSD-3-Clause
"""A guest whose root file system is on a qcow2 image that platter serves."""
import os
import shutil
import subprocess

import common
import guest


def root_image(folder):
    """What is in the initramfs, as an ext4 file system on a qcow2 image."""
    tree = os.path.join(folder, "tree")
    os.mkdir(tree)
    with open(guest.initramfs(folder, False), "rb") as archives:
        # Each archive ends with a trailer; cpio stops there, and goes on with the next.
        for _ in range(2):
            subprocess.run(["cpio", "--quiet", "-id"], cwd=tree, stdin=archives, check=True,
                           stdout=subprocess.DEVNULL)
    os.makedirs(os.path.join(tree, "home"))
    with open(os.path.join(tree, "on-disk"), "wb"):
        pass
    raw, image = os.path.join(folder, "root.raw"), os.path.join(folder, "root.qcow2")
    common.run("mke2fs", "-q", "-t", "ext4", "-d", tree, raw, "192M")
    common.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image)
    os.unlink(raw)
    shutil.rmtree(tree)
    return image


def from_disk(folder):
    guest.need()
    common.need("mke2fs")
    image = root_image(folder)
    for boot in ("first", "later", "later"):
        with common.Server(folder, image, "qcow2") as server:
            with guest.Guest(folder, "from_disk", [boot], guest.VIRTIO_DISK + guest.EXT4,
                             guest.disk(server, "virtio"), kernel_says="root=/dev/vda") as machine:
                machine.passes()
            server.stop()
        common.check_image(image, "qcow2")


CASES = {"the root is on qcow2": (from_disk,)}
