#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes images of every shape through platter, and lets qemu-img be the judge.

usage: qcow2_writes.py [SHAPE... | PART PARTS]

For each shape: qemu-img makes an image; some connections send random writes, zeroes, trims, flushes
and reads, several in flight, of ranges that do not overlap but lie in the same clusters; what is read
is compared with a plain copy in memory. Then the server stops, qemu-img check must find nothing
(leaks neither), and qemu-img must read the same bytes. The server is started a second time on what
is there.

PLATTER_BUILT names the server. SEED repeats a run.
"""
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile

import listening

MIB = 1 << 20
MAGIC, OPTION_MAGIC = 0x4E42444D41474943, 0x49484156454F5054
REQUEST_MAGIC, REPLY_MAGIC = 0x25609513, 0x67446698
READ, WRITE, FLUSH, TRIM, ZEROES = 0, 1, 3, 4, 6
FUA, NO_HOLE = 1, 2

# name: (options of qemu-img create, what is done before the server starts)
SHAPES = {
    "plain": ("", ()),
    "cluster 512": ("cluster_size=512", ()),
    "cluster 4k": ("cluster_size=4k", ()),
    "cluster 2M": ("cluster_size=2M", ()),
    "version 2": ("compat=0.10", ()),
    "version 2 with a backing file": ("compat=0.10", ("backing",)),
    "refcounts of 1 bit": ("refcount_bits=1", ()),
    "refcounts of 2 bits": ("refcount_bits=2,cluster_size=1k", ("snapshot",)),
    "refcounts of 4 bits": ("refcount_bits=4", ("snapshot",)),
    "refcounts of 8 bits": ("refcount_bits=8", ("snapshot",)),
    "refcounts of 32 bits": ("refcount_bits=32,cluster_size=512", ("snapshot",)),
    "refcounts of 64 bits": ("refcount_bits=64,cluster_size=512", ()),
    "extended L2": ("extended_l2=on,cluster_size=64k", ()),
    "extended L2 with a backing file": ("extended_l2=on,cluster_size=128k", ("backing",)),
    "extended L2 with a snapshot": ("extended_l2=on,cluster_size=16k", ("fill", "snapshot")),
    "extended L2, compressed": ("extended_l2=on", ("compressed",)),
    "backing file": ("", ("backing",)),
    "short backing file": ("", ("short backing",)),
    "long backing file": ("cluster_size=4k", ("long backing",)),
    "snapshot": ("", ("fill", "snapshot")),
    "two snapshots": ("cluster_size=4k", ("fill", "snapshot", "fill", "snapshot")),
    "compressed": ("", ("compressed",)),
    "compressed by zstd": ("compression_type=zstd,cluster_size=4k", ("compressed",)),
    "compressed, with a snapshot": ("", ("compressed", "snapshot")),
    "metadata preallocated": ("preallocation=metadata", ()),
    "all preallocated": ("preallocation=full", ()),
    "lazy refcounts": ("lazy_refcounts=on", ()),
    "data file": ("data_file=data.img", ()),
    "raw data file": ("data_file=data.img,data_file_raw=on", ()),
    "data file, extended L2": ("data_file=data.img,extended_l2=on", ()),
    "odd size": ("", ("odd size",)),
    "odd size with a backing file": ("cluster_size=4k", ("odd size", "long backing")),
}
LARGE = ("cluster 2M",)


def run(*command, ok=(0,)):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode not in ok:
        sys.exit("%s: status %d\n%s%s" % (" ".join(command), result.returncode, result.stdout,
                                          result.stderr))
    return result.stdout


class Connection:
    def __init__(self, path):
        self.peer = socket.socket(socket.AF_UNIX)
        self.peer.settimeout(120)
        self.peer.connect(path)
        magic, option_magic, _ = struct.unpack(">QQH", self.receive(18))
        assert (magic, option_magic) == (MAGIC, OPTION_MAGIC)
        self.peer.sendall(struct.pack(">IQII", 3, OPTION_MAGIC, 1, 0))
        self.size, _ = struct.unpack(">QH", self.receive(10))
        self.pending = {}
        self.cookie = 0

    def receive(self, length):
        data = bytearray()
        while len(data) < length:
            more = self.peer.recv(length - len(data))
            if not more:
                sys.exit("the server hangs up")
            data += more
        return bytes(data)

    def send(self, command, offset=0, length=0, flags=0, payload=b""):
        self.cookie += 1
        self.pending[self.cookie] = (command, offset, length)
        self.peer.sendall(struct.pack(">IHHQQI", REQUEST_MAGIC, flags, command, self.cookie, offset,
                                      length) + payload)

    def answers(self):
        """(offset, bytes) of each read that is answered."""
        while self.pending:
            magic, error, cookie = struct.unpack(">IIQ", self.receive(16))
            assert magic == REPLY_MAGIC
            command, offset, length = self.pending.pop(cookie)
            if error:
                sys.exit("command %d at %d, %d bytes: error %d" % (command, offset, length, error))
            if command == READ:
                yield offset, self.receive(length)

    def read(self, offset, length):
        self.send(READ, offset, length)
        return next(self.answers())[1]

    def leave(self):
        self.peer.sendall(struct.pack(">IHHQQI", REQUEST_MAGIC, 0, 2, 0, 0, 0))
        self.peer.close()


class Server:
    def __init__(self, folder, image, *options):
        self.start(folder, "-f", "qcow2", *options, image)
        if not listening.wait_for(self.path, self.process):
            sys.exit("the server does not start: " + self.said())

    def start(self, folder, *arguments):
        self.path = os.path.join(folder, "socket")
        self.log = open(os.path.join(folder, "log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [os.environ.get("PLATTER_BUILT", "build/server/platter"), "-t", "-e", "0", "-k", self.path,
             *arguments], stdout=self.log, stderr=self.log)

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(120) != 0:
            sys.exit("the server ends with %d: %s" % (self.process.returncode, self.said()))
        said = self.said()
        if "corrupt" in said or "error" in said:
            sys.exit("the server says: " + said)
        if os.path.exists(self.path):
            os.unlink(self.path)


def some_bytes(rng, length):
    return bytes([rng.randrange(1, 256)]) * length if rng.random() < 0.7 else rng.randbytes(length)


def fill(rng, path, size, count=40):
    """Writes by qemu-io, as somebody else did before us."""
    commands = []
    for _ in range(count):
        offset = rng.randrange(size // 512) * 512
        length = min(rng.choice((512, 4096, 65536, 200 * 512)), size - offset) // 512 * 512
        if length:
            commands += ["-c", "write -P %d %d %d" % (rng.randrange(1, 256), offset, length)]
    run("qemu-io", "-f", "qcow2", *commands, path)


def prepare(rng, folder, shape, size):
    options, steps = SHAPES[shape]
    image = os.path.join(folder, "image.qcow2")
    base = os.path.join(folder, "base.img")
    create = ["qemu-img", "create", "-q", "-f", "qcow2"]
    if options:
        create += ["-o", options.replace("data.img", os.path.join(folder, "data.img"))]
    backing = next((s for s in steps if s.endswith("backing")), None)
    if backing:
        base_size = {"backing": size, "short backing": size // 3 // 512 * 512 + 512,
                     "long backing": size * 2 // 512 * 512}[backing]
        with open(base, "wb") as file:
            for _ in range(base_size // 65536 + 1):
                file.write(some_bytes(rng, 65536))
            file.truncate(base_size)
        create += ["-b", base, "-F", "raw"]
    if "compressed" in steps:
        with open(base, "wb") as file:
            for _ in range(size // 65536):
                file.write(some_bytes(rng, 65536))
        run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", *(("-o", options) if options
                                                                     else ()), base, image)
    else:
        run(*create, image, str(size))
    for number, step in enumerate(steps):
        if step == "fill":
            fill(rng, image, size)
        elif step == "snapshot":
            run("qemu-img", "snapshot", "-c", "snapshot%d" % number, image)
    return image


def content(folder, image, size):
    raw = os.path.join(folder, "out.raw")
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw)
    with open(raw, "rb") as file:
        data = bytearray(file.read())
    if not size <= len(data) < size + 512:
        sys.exit("the image has %d bytes, not %d" % (len(data), size))
    return data


def snapshot_contents(folder, image):
    names = [line.split()[1] for line in run("qemu-img", "snapshot", "-l", image).splitlines()[2:]]
    contents = {}
    for name in names:
        raw = os.path.join(folder, "snapshot.raw")
        run("qemu-img", "convert", "-l", "snapshot.name=" + name, "-O", "raw", image, raw)
        with open(raw, "rb") as file:
            contents[name] = file.read()
    return contents


class Writer:
    """Random requests against what the bytes must be."""

    def __init__(self, rng, path, model, connections):
        self.rng, self.model = rng, model
        self.connections = [Connection(path) for _ in range(connections)]
        self.size = self.connections[0].size

    def ranges(self, count):
        """Ranges that share no byte, many of them in few clusters."""
        rng, taken = self.rng, []
        hot = rng.randrange(self.size)
        for _ in range(count):
            near = rng.random() < 0.6
            offset = min(self.size - 1, hot + rng.randrange(200000) if near
                         else rng.randrange(self.size))
            length = rng.choice((1, 511, 512, 4096, 5000, 65536, 100000, 400000))
            length = min(length, self.size - offset)
            if rng.random() < 0.5:
                offset, length = offset // 4096 * 4096, max(1, length // 4096 * 4096)
                length = min(length, self.size - offset)
            if all(offset + length <= o or o + l <= offset for o, l in taken):
                taken.append((offset, length))
        return taken

    def check(self, offset, data):
        if data != self.model[offset:offset + len(data)]:
            wrong = next(i for i, b in enumerate(data) if b != self.model[offset + i])
            sys.exit("byte %d reads as %d, not %d" % (offset + wrong, data[wrong],
                                                     self.model[offset + wrong]))

    def step(self):
        rng, trimmed = self.rng, []
        for offset, length in self.ranges(rng.randrange(1, 16)):
            connection = rng.choice(self.connections)
            choice = rng.random()
            flags = FUA if rng.random() < 0.1 else 0
            if choice < 0.5:
                payload = some_bytes(rng, length)
                self.model[offset:offset + length] = payload
                connection.send(WRITE, offset, length, flags, payload)
            elif choice < 0.65:
                self.model[offset:offset + length] = bytes(length)
                connection.send(ZEROES, offset, length, flags | rng.choice((0, NO_HOLE)))
            elif choice < 0.75:
                trimmed.append((offset, length))
                connection.send(TRIM, offset, length, flags)
            elif choice < 0.8:
                connection.send(FLUSH)
            else:
                connection.send(READ, offset, length)
        for connection in self.connections:
            for offset, data in connection.answers():
                self.check(offset, data)
        for offset, length in trimmed:
            self.take_trimmed(offset, length)

    def take_trimmed(self, offset, length):
        data = self.connections[0].read(offset, length)
        old = self.model[offset:offset + length]
        if any(new not in (0, was) for new, was in zip(data, old)):
            sys.exit("a trim at %d of %d bytes shows other bytes" % (offset, length))
        self.model[offset:offset + length] = data

    def check_all(self):
        for offset in range(0, self.size, MIB):
            length = min(MIB, self.size - offset)
            self.check(offset, self.connections[0].read(offset, length))

    def leave(self):
        for connection in self.connections:
            connection.leave()


def judge(folder, image, model, snapshots):
    run("qemu-img", "check", "-q", "-f", "qcow2", image)
    if bytes(content(folder, image, len(model))[:len(model)]) != bytes(model):
        sys.exit("qemu-img reads other bytes")
    if snapshot_contents(folder, image) != snapshots:
        sys.exit("a snapshot has changed")


def test(shape, seed, steps):
    rng = random.Random("%s %s" % (seed, shape))
    folder = tempfile.mkdtemp(prefix="platter-qcow2.")
    try:
        size = (64 if shape in LARGE else 8) * MIB
        size -= 777 * 512 + 512 if "odd size" in SHAPES[shape][1] else 0
        image = prepare(rng, folder, shape, size)
        model = content(folder, image, size)[:size]
        snapshots = snapshot_contents(folder, image)
        for options in (["--discard=unmap", "--threads=4"], ["--cache=none", "--threads=1"]):
            server = Server(folder, image, *options)
            writer = Writer(rng, server.path, model, 4)
            for _ in range(steps):
                writer.step()
            writer.check_all()
            writer.leave()
            server.stop()
            judge(folder, image, model, snapshots)
        if "data_file_raw" in SHAPES[shape][0]:
            with open(os.path.join(folder, "data.img"), "rb") as file:
                if file.read() != bytes(model):
                    sys.exit("the raw data file is not what the disk shows")
    finally:
        shutil.rmtree(folder)


def main():
    if not shutil.which("qemu-img"):
        print("skip: qemu-img is not installed")
        sys.exit(77)
    seed = os.environ.get("SEED") or str(random.randrange(1 << 32))
    steps = int(os.environ.get("STEPS", "25"))
    print("SEED=%s" % seed)
    shapes = sys.argv[1:] or list(SHAPES)
    if shapes[0].isdigit():
        shapes = list(SHAPES)[int(shapes[0])::int(shapes[1])]
    for shape in shapes:
        print(shape, flush=True)
        test(shape, seed, steps)


if __name__ == "__main__":
    main()
