# SPDX-License-Identifier: BSD-3-Clause
"""Disks of the emulated machine, virtio-blk and IDE, on an export."""
import common
import guest
import rounds


def disk(folder, device, kind, file_system):
    guest.need()
    common.need("fio")
    seed = common.seed()
    image = common.new_image(folder, kind, 512 << 20)
    with common.Server(folder, image, kind) as server:
        with guest.Guest(folder, "disk", [guest.NAME_OF[device], file_system, str(seed)],
                         guest.MODULES_OF[device] + guest.MODULES_OF[file_system],
                         guest.disk(server, device), with_fio=True) as machine:
            machine.expect("fio verified")
            rounds.expect_round(machine, file_system, image)
            machine.passes()
        server.stop()
    common.check_image(image, kind)


CASES = {"%s, %s on %s" % (device, file_system, kind): (disk, device, kind, file_system)
         for device, file_system, kind in (
             ("virtio", "ext4", "qcow2"), ("virtio", "xfs", "raw"),
             ("ide", "ext4", "raw"), ("ide", "xfs", "qcow2"))}
