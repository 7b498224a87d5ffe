#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A server of a qcow2 image is killed (SIGKILL), and the next one has all that was answered.

usage: qcow2_killed.py [cases] [SHAPE...]

For each shape of images: connections send random requests, and none of them is a flush; the server is
killed, some of the next ones are killed as they start, and the one after them gets a flush and is asked
for every byte. Then it stops, qemu-img check finds leaks at most, and qemu-img reads the same bytes.
Last come the cases in which there is no redo log, or it is not that of the image any more.

PLATTER_BUILT names the server. SEED repeats a run.
"""
import os
import random
import shutil
import struct
import sys
import tempfile
import time

import listening
import qcow2_writes as writes

MIB = 1 << 20
SHAPES = ("plain", "cluster 512", "backing file", "short backing file", "lazy refcounts",
          "extended L2 with a backing file", "data file", "compressed", "snapshot", "compressing")
writes.SHAPES["compressing"] = ("cluster_size=16k", ())
HEARTBEAT_OFFSET = 128  # in the header of a log: cache/redo_log.h
REPLAYED = "changes of its tables that were not written then are written now"


class Server(writes.Server):
    """One that may be killed, and says so where it is not told otherwise."""

    def __init__(self, folder, image, *arguments):
        self.start(folder, *(arguments or ("--discard=unmap", "-f", "qcow2", image)))
        if not listening.wait_for(self.path, self.process):
            sys.exit("the server does not start: " + self.said())

    def kill(self):
        self.process.kill()
        self.process.wait(60)
        self.log.close()


def compressing(image):
    return ("--image-opts", "driver=compress,file.driver=qcow2,file.file.filename=" + image)


def kept_name(image):
    status = os.stat(image)
    return "/dev/shm/platter-%d-%x-%x" % (os.geteuid(), status.st_dev, status.st_ino)


class Writer(writes.Writer):
    """Without flushes; what is in flight in the end may be there or not, byte by byte."""

    def __init__(self, rng, path, model, connections):
        super().__init__(rng, path, model, connections)
        self.loose = []
        for connection in self.connections:
            connection.send_all = connection.send
            connection.send = lambda command, *rest, c=connection: self.send(c, command, *rest)

    @staticmethod
    def send(connection, command, offset=0, length=0, flags=0, payload=b""):
        if command != writes.FLUSH:
            connection.send_all(command, offset, length, flags & ~writes.FUA, payload)

    def let_fly(self):
        for offset, length in self.ranges(16):
            payload = writes.some_bytes(self.rng, length)
            self.rng.choice(self.connections).send(writes.WRITE, offset, length, 0, payload)
            self.loose.append((offset, payload))

    def settle(self, loose):
        """Of what was in flight as the last server was killed: what it came to."""
        for offset, payload in loose:
            data = self.connections[0].read(offset, len(payload))
            old = self.model[offset:offset + len(payload)]
            if any(byte not in pair for byte, pair in zip(data, zip(old, payload))):
                sys.exit("a write in flight at %d, %d bytes, shows other bytes" %
                         (offset, len(payload)))
            self.model[offset:offset + len(payload)] = data


def start_and_kill(rng, folder, arguments):
    """Servers that do not come far."""
    for _ in range(rng.randrange(3)):
        server = Server.__new__(Server)
        server.start(folder, *arguments)
        time.sleep(rng.random() * 0.05)
        server.kill()


def test(shape, seed, steps):
    rng = random.Random("%s %s" % (seed, shape))
    folder = tempfile.mkdtemp(prefix="platter-killed.")
    image = None
    try:
        size = 8 * MIB
        image = writes.prepare(rng, folder, shape, size)
        model = writes.content(folder, image, size)[:size]
        snapshots = writes.snapshot_contents(folder, image)
        arguments = compressing(image) if shape == "compressing" else (
            "--discard=unmap", "--threads=2", "-f", "qcow2", image)
        loose = []
        for turn in range(3):
            server = Server(folder, image, *arguments)
            writer = Writer(rng, server.path, model, 2)
            writer.settle(loose)
            writer.check_all()
            for _ in range(rng.randrange(steps) + 1):
                writer.step()
            if turn > 0:
                writer.let_fly()
            loose = writer.loose
            server.kill()
            start_and_kill(rng, folder, arguments)
        server = Server(folder, image, *arguments)
        writer = Writer(rng, server.path, model, 1)
        writer.connections[0].send_all(writes.FLUSH)
        writer.settle(loose)
        writer.check_all()
        writer.leave()
        server.process.terminate()
        if server.process.wait(60):
            sys.exit("the server ends with %d: %s" % (server.process.returncode, server.said()))
        if os.path.exists(kept_name(image)):
            sys.exit("a log is left behind")
        writes.run("qemu-img", "check", "-q", image, ok=(0, 3))
        if bytes(writes.content(folder, image, size)[:size]) != bytes(model):
            sys.exit("qemu-img reads other bytes")
        if writes.snapshot_contents(folder, image) != snapshots:
            sys.exit("a snapshot has changed")
    finally:
        clean(folder, image)


def clean(folder, image):
    if image and os.path.exists(image) and os.path.exists(kept_name(image)):
        os.unlink(kept_name(image))
    shutil.rmtree(folder)


# --- one case each ----------------------------------------------------------------------------------


class Case:
    """An image, flushed once with 1s in front and 2s far behind, then overwritten and not flushed: 3s
    in the first half of the 1s, and on new clusters; and its server is killed."""

    def __init__(self, create_options="", options=""):
        self.folder = tempfile.mkdtemp(prefix="platter-killed.")
        self.image = os.path.join(self.folder, "image.qcow2")
        writes.run("qemu-img", "create", "-q", "-f", "qcow2", *create_options.split(), self.image,
                   "64M")
        self.arguments = self.with_options(options)
        self.server = Server(self.folder, self.image, *self.arguments)
        self.send(writes.WRITE, 0, b"\1" * MIB)
        self.send(writes.WRITE, 60 * MIB, b"\2" * MIB)
        self.send(writes.FLUSH)
        self.flushed = self.copy("flushed")
        self.send(writes.ZEROES, 60 * MIB, bytes(MIB))
        self.send(writes.WRITE, 0, b"\3" * (MIB // 2))
        self.send(writes.WRITE, 20 * MIB, b"\3" * MIB)
        self.had_log = os.path.exists(kept_name(self.image))

    def with_options(self, options):
        return ("--image-opts", "driver=qcow2,%sfile.filename=%s" % (options, self.image))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.server.process.poll() is None:
            self.server.kill()
        clean(self.folder, self.image)

    def copy(self, name):
        path = os.path.join(self.folder, name)
        shutil.copy(self.image, path)
        return path

    def send(self, command, offset=0, payload=b""):
        connection = writes.Connection(self.server.path)
        connection.send(command, offset, len(payload), 0,
                        payload if command == writes.WRITE else b"")
        list(connection.answers())
        connection.peer.close()

    def bytes_at(self, *offsets):
        connection = writes.Connection(self.server.path)
        found = [connection.read(offset, MIB // 2) for offset in offsets]
        connection.leave()
        if any(len(set(data)) > 1 for data in found):
            sys.exit("bytes are mixed")
        return [data[0] for data in found]

    def serve(self, *options):
        self.server = Server(self.folder, self.image, *options, *self.arguments)

    def stop(self):
        self.server.process.terminate()
        if self.server.process.wait(60):
            sys.exit("the server ends with %d: %s" % (self.server.process.returncode,
                                                      self.server.said()))
        if os.path.exists(kept_name(self.image)):
            sys.exit("a log is left behind")
        writes.run("qemu-img", "check", "-q", self.image, ok=(0, 3))

    def expect(self, what, found, wanted):
        if found != wanted:
            sys.exit("%s: %r, not %r; the server: %s" % (what, found, wanted, self.server.said()))

    def expect_said(self, text, is_said=True):
        if (text in self.server.said()) != is_said:
            sys.exit("%r is %ssaid: %s" % (text, "not " if is_said else "", self.server.said()))


ALL_THERE = [3, 1, 0, 3]
PLACES = (0, MIB // 2, 60 * MIB, 20 * MIB)


def all_is_there():
    with Case() as case:
        case.server.kill()
        case.serve()
        case.expect_said(REPLAYED)
        case.send(writes.FLUSH)
        case.expect("after a kill", case.bytes_at(*PLACES), ALL_THERE)
        case.stop()


def without_a_log(*options):
    """What was not flushed is lost, where it was in the tables."""
    with Case(*options) as case:
        case.expect("a log", case.had_log, False)
        case.server.kill()
        case.serve()
        case.expect_said(REPLAYED, False)
        found = case.bytes_at(*PLACES)
        case.expect("what was flushed", found[1], 1)
        case.expect("what was not", found[2:], [2, 0])
        case.stop()


def switched_off():
    """With redo-log=off what another one has left is written all the same."""
    with Case() as case:
        case.server.kill()
        case.arguments = case.with_options("redo-log=off,")
        case.serve()
        case.expect_said(REPLAYED)
        case.expect("by one that keeps none", case.bytes_at(*PLACES), ALL_THERE)
        case.expect("a log", os.path.exists(kept_name(case.image)), False)
        case.stop()


def read_only_first():
    with Case() as case:
        case.server.kill()
        for _ in range(2):
            case.serve("--read-only")
            case.expect_said("it is served as it was flushed last")
            case.expect("read-only", case.bytes_at(*PLACES[1:]), [1, 2, 0])
            case.server.process.terminate()
            case.server.process.wait(60)
        case.serve()
        case.expect_said(REPLAYED)
        case.expect("after that", case.bytes_at(*PLACES), ALL_THERE)
        case.stop()
        case.serve("--read-only")
        case.expect_said("served as", False)
        case.stop()


def written_by_another():
    with Case() as case:
        case.server.kill()
        writes.run("qemu-io", "-f", "qcow2", "-c", "write -P 9 20M 1M", case.image)
        case.serve()
        case.expect_said(REPLAYED, False)
        case.expect("another's bytes", case.bytes_at(20 * MIB), [9])
        case.stop()


def copied_over():
    """The feature bit is in the copy too. The log is made a minute old, so that the copy is younger."""
    with Case() as case:
        copy = case.copy("copy")
        case.server.kill()
        with open(kept_name(case.image), "r+b") as log:
            log.seek(HEARTBEAT_OFFSET)
            beat_ns = struct.unpack("@Q", log.read(8))[0]
            case.expect("the heartbeat's age", abs(time.time() - beat_ns / 1e9) < 60, True)
            log.seek(HEARTBEAT_OFFSET)
            log.write(struct.pack("@Q", beat_ns - 60 * 10**9))
        with open(copy, "rb") as file, open(case.image, "r+b") as image:
            image.write(file.read())
        case.serve()
        case.expect_said("somebody else has changed its file since")
        case.expect("the copy's bytes", case.bytes_at(*PLACES[1:]), [1, 2, 0])
        case.stop()


def log_is_gone():
    """As after a power cut, or where the servers do not share /dev/shm."""
    with Case() as case:
        case.server.kill()
        os.unlink(kept_name(case.image))
        case.serve()
        case.expect_said(REPLAYED, False)
        case.expect("what was flushed", case.bytes_at(*PLACES[1:]), [1, 2, 0])
        case.stop()


def log_is_garbage():
    with Case() as case:
        case.server.kill()
        with open(kept_name(case.image), "r+b") as log:
            log.seek(4096)
            log.write(os.urandom(65536))
        case.serve()
        case.expect_said("makes no sense")
        case.expect("what was flushed", case.bytes_at(*PLACES[1:]), [1, 2, 0])
        case.stop()


def no_room_for_a_log():
    """Whatever lies at its place is left there, and the image is served."""
    for make, remove in ((os.mkdir, os.rmdir), (os.mkfifo, os.unlink),
                         (lambda name: os.symlink("/dev/null", name), os.unlink)):
        with Case() as case:
            case.stop()
            make(kept_name(case.image))
            try:
                case.serve("--verbose")
                case.expect_said("has no redo log: ")
                case.expect("all is served", case.bytes_at(*PLACES), ALL_THERE)
                case.server.process.terminate()
                case.expect("its end", case.server.process.wait(60), 0)
            finally:
                remove(kept_name(case.image))


def cases():
    all_is_there()
    without_a_log("-o compat=0.10")
    without_a_log("", "redo-log=off,")
    read_only_first()
    written_by_another()
    copied_over()
    log_is_gone()
    log_is_garbage()
    no_room_for_a_log()
    switched_off()


def main():
    if not shutil.which("qemu-img"):
        print("skip: qemu-img is not installed")
        sys.exit(77)
    if not os.path.ismount("/dev/shm") or not os.access("/dev/shm", os.W_OK):
        print("skip: there is no tmpfs at /dev/shm")
        sys.exit(77)
    seed = os.environ.get("SEED") or str(random.randrange(1 << 32))
    steps = int(os.environ.get("STEPS", "8"))
    print("SEED=%s" % seed)
    for what in sys.argv[1:] or [*SHAPES, "cases"]:
        print(what, flush=True)
        if what == "cases":
            cases()
        else:
            test(what, seed, steps)


if __name__ == "__main__":
    main()
