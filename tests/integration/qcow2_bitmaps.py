#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Persistent bitmaps of images of several shapes: kept true while platter writes, and shown by it.

usage: qcow2_bitmaps.py [SHAPE...]

For each shape qemu-img makes an image with bitmaps of several granularities. Random writes, zeroes and
trims go to platter, and what they touch is noted. Between them one BLOCK_STATUS asks for several
contexts, with compact and with extended headers. Then platter stops; qemu-img check must find
nothing, qemu-img info must show the flags, and qemu-nbd must show the same bits. The same requests
are made again to qemu-nbd on a copy: it must have recorded the same. At last platter is killed, and
nobody may be shown the bitmaps that it kept.

PLATTER_BUILT names the server. SEED repeats a run.
"""
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile

import listening
import qcow2_writes as writes

STRUCTURED_REPLY, SET_META_CONTEXT, GO, EXTENDED_HEADERS = 8, 10, 7, 11
REP_ACK, REP_INFO, REP_META_CONTEXT = 1, 3, 4
BLOCK_STATUS, REQ_ONE = 7, 8
SHAPES = ("plain", "cluster 512", "cluster 4k", "extended L2", "backing file", "compressed",
          "lazy refcounts", "data file", "odd size")
BITMAPS = {"coarse": 65536, "fine": 4096, "with:a colon:": 1 << 20, "off": 65536}
PREFIX = "qemu:dirty-bitmap:"


class Noted(writes.Connection):
    """A connection whose changes are noted."""

    def __init__(self, path, changes):
        super().__init__(path)
        self.changes = changes

    def send(self, command, offset=0, length=0, flags=0, payload=b""):
        if command in (writes.WRITE, writes.ZEROES, writes.TRIM):
            self.changes.append((command, offset, length, flags, payload))
        super().send(command, offset, length, flags, payload)


class Asking(writes.Connection):
    """A client with contexts. (It does not call its parent's __init__, which makes no options.)"""

    # pylint: disable=super-init-not-called
    def __init__(self, path, contexts, extended):
        self.peer = socket.socket(socket.AF_UNIX)
        self.peer.settimeout(120)
        self.peer.connect(path)
        self.extended, self.cookie, self.names = extended, 0, {}
        assert struct.unpack(">QQ", self.receive(16)) == (writes.MAGIC, writes.OPTION_MAGIC)
        self.receive(2)
        self.peer.sendall(struct.pack(">I", 3))
        self.option(EXTENDED_HEADERS if extended else STRUCTURED_REPLY)
        queries = b"".join(struct.pack(">I", len(c.encode())) + c.encode() for c in contexts)
        for kind, data in self.option(SET_META_CONTEXT,
                                      struct.pack(">II", 0, len(contexts)) + queries):
            assert kind == REP_META_CONTEXT
            self.names[struct.unpack(">I", data[:4])[0]] = data[4:].decode()
        assert list(self.names.values()) == contexts, (self.names, contexts)
        for kind, data in self.option(GO, struct.pack(">IH", 0, 0)):
            if kind == REP_INFO and struct.unpack(">H", data[:2])[0] == 0:
                self.size = struct.unpack(">Q", data[2:10])[0]

    def option(self, number, data=b""):
        """What comes before the ACK."""
        replies = []
        self.peer.sendall(struct.pack(">QII", writes.OPTION_MAGIC, number, len(data)) + data)
        while True:
            _, answered, kind, length = struct.unpack(">QIII", self.receive(20))
            data = self.receive(length)
            assert answered == number
            if kind == REP_ACK:
                return replies
            if kind & 0x80000000:
                sys.exit("option %d: error 0x%x %s" % (number, kind, data))
            replies.append((kind, data))

    def request(self, offset, length, flags):
        self.cookie += 1
        if self.extended:
            self.peer.sendall(struct.pack(">IHHQQQ", 0x21E41C71, flags, BLOCK_STATUS, self.cookie,
                                          offset, length))
        else:
            self.peer.sendall(struct.pack(">IHHQQI", writes.REQUEST_MAGIC, flags, BLOCK_STATUS,
                                          self.cookie, offset, length))

    def chunk(self):
        """(done, context id, extents)"""
        if self.extended:
            magic, flags, kind, cookie, _, length = struct.unpack(">IHHQQQ", self.receive(32))
            data = self.receive(length)
            assert (magic, kind) == (0x6E8A278C, 6), (magic, kind, data)
            context, count = struct.unpack(">II", data[:8])
            extents = [struct.unpack(">QQ", data[8 + 16 * i:24 + 16 * i]) for i in range(count)]
            assert len(data) == 8 + 16 * count
        else:
            magic, flags, kind, cookie, length = struct.unpack(">IHHQI", self.receive(20))
            data = self.receive(length)
            assert (magic, kind) == (0x668E33EF, 5), (magic, kind, data)
            context = struct.unpack(">I", data[:4])[0]
            extents = list(struct.iter_unpack(">II", data[4:]))
        assert cookie == self.cookie
        return bool(flags & 1), context, extents

    def status(self, offset, length, flags=0):
        """The extents of each context, by its name."""
        found, done = {}, False
        self.request(offset, length, flags)
        while not done:
            done, context, extents = self.chunk()
            assert self.names[context] not in found and extents
            found[self.names[context]] = extents
        assert len(found) == len(self.names)
        return found

    def leave(self):
        form = ">IHHQQQ" if self.extended else ">IHHQQI"
        magic = 0x21E41C71 if self.extended else writes.REQUEST_MAGIC
        self.peer.sendall(struct.pack(form, magic, 0, 2, 0, 0, 0))
        self.peer.close()

    def map(self, name):
        """The flags of the whole disk, run by run."""
        runs, offset = [], 0
        while offset < self.size:
            for length, flags in self.status(offset, min(self.size - offset, 1 << 30))[name]:
                length = min(length, self.size - offset)
                if runs and runs[-1][2] == flags:
                    runs[-1][1] = offset + length
                else:
                    runs.append([offset, offset + length, flags])
                offset += length
        return runs


class QemuNbd:
    def __init__(self, folder, image, *options):
        self.path = os.path.join(folder, "qemu-socket")
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.process = subprocess.Popen(["qemu-nbd", "-t", "-e", "8", "-f", "qcow2", "-k", self.path,
                                         *options, image])
        if not listening.wait_for(self.path, self.process):
            sys.exit("qemu-nbd does not start")

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def expected(changes, granularity, size):
    """The runs of a bitmap that has noted these changes."""
    dirty = bytearray((size + granularity - 1) // granularity)
    for _, offset, length, _, _ in changes:
        first, last = offset // granularity, (offset + length - 1) // granularity
        dirty[first:last + 1] = b"\1" * (last - first + 1)
    runs = []
    for index, flag in enumerate(dirty):
        end = min(size, (index + 1) * granularity)
        if runs and runs[-1][2] == flag:
            runs[-1][1] = end
        else:
            runs.append([index * granularity, end, flag])
    return runs


def compare(who, name, found, wanted):
    if found != wanted:
        wrong = next((pair for pair in zip(found, wanted) if pair[0] != pair[1]), "its length")
        sys.exit("%s: bitmap '%s': %s" % (who, name, wrong))


def check_live(rng, path, changes, size):
    contexts = ["base:allocation", "qemu:allocation-depth"] + [PREFIX + name for name in BITMAPS]
    for extended in (False, True):
        asking = Asking(path, contexts, extended)
        for name, granularity in BITMAPS.items():
            wanted = expected([] if name == "off" else changes, granularity, size)
            compare("platter", name, asking.map(PREFIX + name), wanted)
        offset = rng.randrange(size - 1)
        one = asking.status(offset, 1 + rng.randrange(size - offset), REQ_ONE)
        assert all(len(extents) == 1 for extents in one.values())
        asking.leave()


def flags_of(image):
    info = json.loads(writes.run("qemu-img", "info", "-U", "--output=json", image))
    return {b["name"]: sorted(b["flags"]) for b in info["format-specific"]["data"]["bitmaps"]}


def check_stored(folder, image, changes):
    writes.run("qemu-img", "check", "-q", "-f", "qcow2", image)
    wanted = {name: [] if name == "off" else ["auto"] for name in BITMAPS}
    if flags_of(image) != wanted:
        sys.exit("qemu-img info shows %s" % flags_of(image))
    read_by_qemu(folder, image, changes)


def read_by_qemu(folder, image, changes):
    qemu = QemuNbd(folder, image, "-r", *(word for name in BITMAPS for word in ("-B", name)))
    try:
        for name, granularity in BITMAPS.items():
            asking = Asking(qemu.path, [PREFIX + name], False)
            wanted = expected([] if name == "off" else changes, granularity, asking.size)
            compare("qemu-nbd", name, asking.map(PREFIX + name), wanted)
            asking.leave()
    finally:
        qemu.stop()


def add_bitmaps(image):
    for name, granularity in BITMAPS.items():
        state = ["--disable"] if name == "off" else []
        writes.run("qemu-img", "bitmap", "--add", *state, "-g", str(granularity), "-f", "qcow2", image,
                   name)


def repeat_by_qemu(folder, image, changes):
    qemu = QemuNbd(folder, image, "--discard=unmap")
    try:
        connection = writes.Connection(qemu.path)
        for change in changes:
            connection.send(*change[:4], payload=change[4])
            list(connection.answers())
        connection.leave()
    finally:
        qemu.stop()


def check_killed(folder, image, rng):
    server = writes.Server(folder, image)
    connection = writes.Connection(server.path)
    connection.send(writes.WRITE, rng.randrange(1 << 20), 1, 0, b"x")
    list(connection.answers())
    server.process.kill()
    server.process.wait()
    os.unlink(server.path)
    wanted = {name: [] if name == "off" else ["auto", "in-use"] for name in BITMAPS}
    if flags_of(image) != wanted:
        sys.exit("after a kill qemu-img info shows %s" % flags_of(image))
    for options in (["-r", "-B", "fine"], ["-B", "off", "-B", "fine"]):
        result = subprocess.run([os.environ.get("PLATTER_BUILT", "build/server/platter"), "-f",
                                 "qcow2", "-k", server.path, *options, image],
                                capture_output=True, text=True, timeout=60, check=False)
        if result.returncode == 0 or "'fine' is inconsistent and cannot" not in result.stderr:
            sys.exit("a bitmap that was not stored: %s" % result.stderr)
    server = writes.Server(folder, image, "-B", "off")
    Asking(server.path, [PREFIX + "off"], True).leave()
    server.process.terminate()
    server.process.wait()
    # "-q" of a check says nothing of leaks alone: those of a kill are allowed.
    writes.run("qemu-img", "check", "-q", "-f", "qcow2", image, ok=(0, 3))
    if flags_of(image) != wanted:
        sys.exit("a second life changes what was not stored: %s" % flags_of(image))


def test(shape, seed, steps):
    rng = random.Random("%s %s" % (seed, shape))
    folder = tempfile.mkdtemp(prefix="platter-bitmaps.")
    try:
        size = 8 * writes.MIB - (777 * 512 + 512 if shape == "odd size" else 0)
        image = writes.prepare(rng, folder, shape, size)
        copy, changes = os.path.join(folder, "copy.qcow2"), []
        add_bitmaps(image)
        has_copy = "data_file" not in writes.SHAPES[shape][0]
        if has_copy:
            shutil.copy(image, copy)
        model = writes.content(folder, image, size)[:size]
        served = [word for name in BITMAPS for word in ("-B", name)]
        for options in (["--threads=4"], ["--cache=none", "--threads=1"]):
            server = writes.Server(folder, image, "--discard=unmap", "-A", *served, *options)
            writer = writes.Writer(rng, server.path, model, 1)
            writer.leave()
            writer.connections = [Noted(server.path, changes) for _ in range(4)]
            for step in range(steps):
                writer.step()
                if step % 4 == 0:
                    check_live(rng, server.path, changes, size)
            writer.leave()
            server.stop()
            check_stored(folder, image, changes)
        if has_copy:
            repeat_by_qemu(folder, copy, changes)
            read_by_qemu(folder, copy, changes)
        check_killed(folder, image, rng)
    finally:
        shutil.rmtree(folder)


def main():
    if not shutil.which("qemu-nbd"):
        print("skip: qemu-nbd is not installed")
        sys.exit(77)
    seed = os.environ.get("SEED") or str(random.randrange(1 << 32))
    steps = int(os.environ.get("STEPS", "8"))
    print("SEED=%s" % seed)
    for shape in sys.argv[1:] or SHAPES:
        print(shape, flush=True)
        test(shape, seed, steps)


if __name__ == "__main__":
    main()
