# SPDX-License-Identifier: BSD-3-Clause
"""The guest kernel's nbd.ko and nbd-client, over TCP: from the guest's 10.0.2.2, which is qemu's name for
this machine's loopback."""
import common
import guest
import rounds


# The kernel has no more queues than processors, so there is one for each connection.
def connected(folder, kind, file_system, connections):
    guest.need()
    image = common.new_image(folder, kind, 512 << 20)
    with common.Server(folder, image, kind, tcp_port=common.some_port()) as server:
        words = [str(server.port), str(connections), file_system]
        with guest.Guest(folder, "nbd_client", words, guest.NBD + guest.MODULES_OF[file_system],
                         [*guest.NET, "-smp", str(connections)]) as machine:
            rounds.expect_round(machine, file_system, image)
            machine.passes()
        server.stop()
    common.check_image(image, kind)


CASES = {"nbd.ko, %s on %s, connections: %d" % (file_system, kind, connections):
         (connected, kind, file_system, connections)
         for file_system, kind, connections in (
             ("ext4", "raw", 1), ("ext4", "qcow2", 2), ("xfs", "qcow2", 4))}
