# SPDX-License-Identifier: BSD-3-Clause
"""The harness's virtio-blk model as the disk of a real machine: Linux drives it by vhost-user.

There is no server here: the tool vhost_user_blk has the model, the image, and a socket for qemu.
"""
import os
import random
import re

import common
import cuts
import guest
import root_disk
import rounds

QUEUES = 2


class Disk(common.Server):
    """The tool on one image. It is started, stopped and looked at as a server is."""

    def __init__(self, folder, image, kind, *options):
        self.path, self.port = os.path.join(folder, "vhost-user"), None
        self.log_path = os.path.join(folder, "vhost-user.log")
        self.command = [common.tool("vhost_user_blk"), "--socket-path=" + self.path,
                        "--image-opts=driver=%s,file.filename=%s" % (kind, image),
                        "--num-queues=%d" % QUEUES, *options]
        self.process = None
        self.start()

    def device(self, *more):
        """qemu's options. Memory is shared, two processors have a queue each."""
        return ["-object", "memory-backend-memfd,id=memory,size=640M,share=on",
                "-machine", "memory-backend=memory", "-smp", str(QUEUES),
                "-chardev", "socket,id=disk,path=" + self.path,
                "-device", "vhost-user-blk-pci,chardev=disk,num-queues=%d" % QUEUES, *more]

    def stop(self, expected=0):
        """No connection was ended, and no ring found broken."""
        super().stop(expected)
        wrong = [line for line in self.log().splitlines() if "warning" in line]
        if wrong:
            raise common.Failure("the model says: " + "; ".join(wrong))

    def merged(self):
        """How many requests became a part of another."""
        return sum(int(count) for count in re.findall(r"merged (\d+)", self.log()))


def need():
    guest.need()
    if not os.path.exists(common.tool("vhost_user_blk")):
        raise common.Skip("vhost_user_blk is not built")


def load_and_reset(folder, kind, file_system):
    """fio with verification, a file system's round, the driver is unbound and bound, and that again."""
    need()
    common.need("fio")
    seed = common.seed()
    image = common.new_image(folder, kind, 512 << 20)
    with Disk(folder, image, kind) as disk:
        with guest.Guest(folder, "vhost_user", ["/dev/vda", file_system, str(seed), str(QUEUES)],
                         guest.MODULES_OF["virtio"] + guest.MODULES_OF[file_system], disk.device(),
                         with_fio=True) as machine:
            machine.expect("fio verified")
            rounds.expect_round(machine, file_system, image)
            machine.expect("bound again")
            machine.passes()
        disk.stop()
        if disk.merged() == 0:
            raise common.Failure("no requests were merged: " + disk.log())
    common.check_image(image, kind)


def reboots(folder, kind):
    """The machine is reset, under a load, while its disk lives on. What was synced before is whole."""
    need()
    common.need("fio")
    image = common.new_image(folder, kind, 512 << 20)
    with Disk(folder, image, kind) as disk:
        with guest.Guest(folder, "reboot", ["/dev/vda"], guest.VIRTIO_DISK + guest.EXT4,
                         disk.device("-action", "reboot=reset"), with_fio=True) as machine:
            machine.expect("reboots under a load")
            machine.expect("booted again")
            machine.passes()
        disk.stop()
    common.check_image(image, kind, leaks_are_fine=True)


def root(folder):
    """The guest's root file system is on it."""
    need()
    common.need("mke2fs")
    image = root_disk.root_image(folder)
    with Disk(folder, image, "qcow2") as disk:
        for boot in ("first", "later"):
            with guest.Guest(folder, "from_disk", [boot], guest.VIRTIO_DISK + guest.EXT4, disk.device(),
                             kernel_says="root=/dev/vda") as machine:
                machine.passes()
        disk.stop()
    common.check_image(image, "qcow2")


def killed(folder, kind):
    """kill -9 of qemu with requests in flight, each time; the same tool serves the next."""
    need()
    rng = random.Random(common.seed())
    image = common.new_image(folder, kind, 512 << 20)
    promised = {}
    with Disk(folder, image, kind) as disk:
        for life, step in enumerate(("first", "again", "last")):
            with guest.Guest(folder, "load", ["/dev/vda", "ext4", str(life), step],
                             guest.VIRTIO_DISK + guest.EXT4, disk.device()) as machine:
                if step != "first":
                    cuts.recovers(machine, promised)
                if step == "last":
                    machine.passes()
                    continue
                cuts.loads(machine, promised, rng)
                machine.kill()
                promised.update(match.groups() for match in machine.rest(cuts.SYNCED))
        disk.stop()
    common.check_image(image, kind, leaks_are_fine=True)


CASES = {"vhost-user, ext4 on raw": (load_and_reset, "raw", "ext4"),
         "vhost-user, xfs on qcow2": (load_and_reset, "qcow2", "xfs"),
         "vhost-user, the machine reboots": (reboots, "qcow2"),
         "vhost-user, the root is on qcow2": (root,),
         "vhost-user, power cut of qemu": (killed, "qcow2")}
