# SPDX-License-Identifier: BSD-3-Clause
"""The one guest of the default tests: a disk on a qcow2 image, written and read again."""
import common
import guest


def smoke(folder):
    guest.need()
    image = common.new_image(folder, "qcow2", 256 << 20)
    with common.Server(folder, image, "qcow2") as server:
        with guest.Guest(folder, "smoke", ["/dev/vda"], guest.EXT4 + guest.VIRTIO_DISK,
                         guest.disk(server, "virtio")) as machine:
            machine.passes()
        server.stop()
    common.check_image(image, "qcow2")


CASES = {"smoke": (smoke,)}
