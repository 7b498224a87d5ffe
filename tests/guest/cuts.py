# SPDX-License-Identifier: BSD-3-Clause
"""kill -9 of qemu, of platter and of both, in the middle of a load; then everything is started again.

Whatever the guest said it had fsynced is whole in the next life, the file system has no fault, the image
none but leaked clusters.
"""
import os
import random
import time

import common
import guest

CUTS = 3


SYNCED = r"synced (\S+) ([0-9a-f]{64})"


def hears(machine, promised, pattern):
    """Reads on to a line that matches, and keeps what is promised before it."""
    while True:
        match = machine.expect(SYNCED + "|" + pattern)
        if match.group(1) is None:
            return match
        promised[match.group(1)] = match.group(2)


def recovers(machine, promised):
    """Reads the guest's list of what it found, and compares."""
    found = {}
    while True:
        match = hears(machine, promised, r"has (\S+) ([0-9a-f]{64})|recovered")
        if match.group(0) == "recovered":
            break
        found[match.group(3)] = match.group(4)
    for name, total in promised.items():
        if found.get(name) != total:
            raise common.Failure("%s was fsynced with the sum %s, and has %s"
                                 % (name, total, found.get(name, "vanished")))


def loads(machine, promised, rng):
    """Lets the guest write for a while."""
    for _ in range(rng.randrange(4, 30)):
        match = machine.expect(SYNCED)
        promised[match.group(1)] = match.group(2)
    time.sleep(rng.random())


def kill(what, machine, server):
    if what in ("platter", "both"):
        server.kill()
    if what == "platter":
        time.sleep(1) # the guest goes on, on a disk that fails, and must not say that it has synced
    machine.kill()
    if what == "qemu":
        server.stop()


def power_cuts(folder, what, device, kind, file_system):
    guest.need()
    seed = common.seed()
    rng = random.Random(seed)
    image = common.new_image(folder, kind, 512 << 20)
    promised = {}
    for life in range(CUTS + 1):
        with common.Server(folder, image, kind) as server:
            step = "first" if life == 0 else "last" if life == CUTS else "again"
            with guest.Guest(folder, "load", [guest.NAME_OF[device], file_system, str(life), step],
                             guest.MODULES_OF[device] + guest.MODULES_OF[file_system],
                             guest.disk(server, device)) as machine:
                if step != "first":
                    recovers(machine, promised)
                if step != "last":
                    loads(machine, promised, rng)
                    kill(what, machine, server)
                    # What it had said before its end.
                    promised.update(match.groups() for match in machine.rest(SYNCED))
                else:
                    machine.passes()
                    server.stop()
        common.check_image(image, kind, leaks_are_fine=True)
    if len(promised) < 4 * CUTS:
        raise common.Failure("only %d files were promised" % len(promised))


def restarts(folder, device, kind, file_system):
    """The server is killed and started again under a guest, whose qemu connects anew."""
    guest.need()
    seed = common.seed()
    rng = random.Random(seed)
    image = common.new_image(folder, kind, 512 << 20)
    promised = {}
    with common.Server(folder, image, kind) as server:
        with guest.Guest(folder, "load", [guest.NAME_OF[device], file_system, "0", "whole"],
                         guest.MODULES_OF[device] + guest.MODULES_OF[file_system],
                         guest.disk(server, device, "reconnect-delay=120")) as machine:
            for _ in range(CUTS):
                loads(machine, promised, rng)
                server.kill()
                time.sleep(rng.random())
                server.start()
            machine.go()
            recovers(machine, promised)
            machine.passes()
        server.stop()
    common.check_image(image, kind, leaks_are_fine=True)


def restarts_nbd(folder, kind, file_system, connections):
    """The same under the guest's nbd.ko: requests wait for its dead-connection timeout, and the guest makes
    new connections."""
    guest.need()
    if not os.path.exists(common.tool("nbd_link")):
        raise common.Skip("nbd_link is not built")
    seed = common.seed()
    rng = random.Random(seed)
    image = common.new_image(folder, kind, 512 << 20)
    promised = {}
    with common.Server(folder, image, kind, tcp_port=common.some_port()) as server:
        with guest.Guest(folder, "nbd_restarts", [str(server.port), str(connections), file_system],
                         guest.NBD + guest.MODULES_OF[file_system],
                         [*guest.NET, "-smp", str(connections)]) as machine:
            for _ in range(CUTS):
                loads(machine, promised, rng)
                server.kill()
                time.sleep(rng.random())
                server.start()
                machine.tell("restarted")
                hears(machine, promised, "reconnected")
            machine.go()
            recovers(machine, promised)
            machine.passes()
        server.stop()
    common.check_image(image, kind, leaks_are_fine=True)


CASES = {"power cut of %s, %s, %s on %s" % case: (power_cuts, *case[:2], case[3], case[2])
         for case in (
             ("qemu", "virtio", "ext4", "raw"), ("platter", "virtio", "xfs", "qcow2"),
             ("both", "virtio", "ext4", "qcow2"), ("both", "ide", "ext4", "qcow2"))}
for each in ("raw", "qcow2"):
    CASES["platter is restarted under qemu, " + each] = (restarts, "virtio", each, "ext4")
    CASES["platter is restarted under nbd.ko, " + each] = (restarts_nbd, each, "ext4", 2)
