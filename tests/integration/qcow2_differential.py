#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The same random image and requests to platter and to qemu: same bytes, same block status, same verdict.

usage: qcow2_differential.py [CASES [FIRST]]

Each case is made from the seed and its number: qemu-img makes an image of a random shape, qemu-io
writes something into it, and there are two of it. One is served by platter and gets random requests;
the other gets the same ones from qemu-io. Compared are

  - what each says is zero, and what is data, before the requests
  - the bytes as platter shows them, as qemu reads platter's image, and as qemu reads its own
  - what qemu-img check and our own check find in both images, and in one with some damage in its tables

PLATTER_BUILT and HELPERS name the programs; SEED and FIRST repeat a case. Without CASES there are
PLATTER_DIFFERENTIAL_CASES of them, or 20.
"""
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile

import qcow2_writes as writes

TOOL = os.path.join(os.environ.get("HELPERS", "build/tests/integration"), "image_tool")
COPIED, OFFSET = 1 << 63, 0x00fffffffffffe00


def random_options(rng):
    """A shape, as qemu-img create takes it."""
    options = {"compat": rng.choice(("1.1", "1.1", "0.10")), "cluster_size": 1 << rng.randrange(9, 18)}
    if options["compat"] == "1.1":
        options["refcount_bits"] = 1 << rng.randrange(7)
        options["lazy_refcounts"] = rng.choice(("on", "off", "off"))
        options["compression_type"] = rng.choice(("zlib", "zstd"))
        if options["cluster_size"] >= 1 << 14:
            options["extended_l2"] = rng.choice(("on", "off"))
    return options


def random_range(rng, size):
    offset = rng.randrange(size)
    length = rng.choice((1, 512, 4096, 65536, 200000))
    if rng.random() < 0.7:
        offset, length = offset // 512 * 512, max(512, length // 512 * 512)
    return offset, min(length, size - offset)


def random_requests(rng, size, count):
    """(kind, offset, length, byte)."""
    kinds = ("write", "write", "write", "zero", "unmap", "trim", "flush")
    return [(rng.choice(kinds), *random_range(rng, size), rng.randrange(1, 256)) for _ in range(count)]


def as_qemu_io(request):
    kind, offset, length, byte = request
    return {"write": "write -P %d %d %d" % (byte, offset, length),
            "zero": "write -z %d %d" % (offset, length),
            "unmap": "write -z -u %d %d" % (offset, length),
            "trim": "discard %d %d" % (offset, length),
            "flush": "flush"}[kind]


def qemu_io(image, requests):
    if requests:
        commands = [word for request in requests for word in ("-c", as_qemu_io(request))]
        said = writes.run("qemu-io", "-f", "qcow2", "-d", "unmap", *commands, image)
        if "failed" in said:
            sys.exit("qemu-io: " + said)


def send(connection, request):
    kind, offset, length, byte = request
    if kind == "write":
        connection.send(writes.WRITE, offset, length, 0, bytes([byte]) * length)
    elif kind in ("zero", "unmap"):
        connection.send(writes.ZEROES, offset, length, writes.NO_HOLE if kind == "zero" else 0)
    elif kind == "trim":
        connection.send(writes.TRIM, offset, length)
    else:
        connection.send(writes.FLUSH)
    list(connection.answers())


class Case:
    def __init__(self, seed, number):
        self.rng = random.Random("%s %d" % (seed, number))
        self.folder = tempfile.mkdtemp(prefix="platter-differential.")
        self.ours, self.theirs = (os.path.join(self.folder, name) for name in ("ours", "theirs"))

    def make(self):
        rng, options = self.rng, random_options(self.rng)
        self.size = rng.randrange(1, 4097) * 512 * rng.choice((1, 1, 4))
        self.has_bits = 16 if options["compat"] == "0.10" else options["refcount_bits"]
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-o",
                  ",".join("%s=%s" % item for item in options.items())]
        if rng.random() < 0.4:
            base = os.path.join(self.folder, "base")
            with open(base, "wb") as file:
                for _ in range(rng.randrange(1, 2 * self.size // 65536 + 2)):
                    if rng.random() < 0.3:
                        file.seek(65536, os.SEEK_CUR)
                    file.write(writes.some_bytes(rng, 65536))
            create += ["-b", base, "-F", "raw"]
        writes.run(*create, self.theirs, str(self.size))
        self.describe = " ".join(create[4:])
        if rng.random() < 0.4:
            self.compress(options["cluster_size"])
        qemu_io(self.theirs, random_requests(rng, self.size, rng.randrange(12)))
        if rng.random() < 0.3 and self.has_bits > 1:
            writes.run("qemu-img", "snapshot", "-c", "one", self.theirs, ok=(0, 1))
            # A count that is at its end: qemu fails half way.
            writes.run("qemu-img", "check", "-q", "-r", "all", self.theirs, ok=(0, 2, 3))
        shutil.copyfile(self.theirs, self.ours)

    def compress(self, cluster):
        """Whole clusters, each once, as qemu wants it."""
        clusters = self.rng.sample(range(self.size // cluster + 1), min(8, self.size // cluster + 1))
        commands = []
        for number in clusters:
            length = min(cluster, self.size - number * cluster)
            if length > 0:
                commands += ["-c", "write -c -P %d %d %d" % (self.rng.randrange(1, 256),
                                                             number * cluster, length)]
        writes.run("qemu-io", "-f", "qcow2", *commands, self.theirs)

    def compare_status(self, uri):
        """Byte by byte would be long: both are cut where either has a boundary."""
        ours = [(e["offset"], e["length"], e["type"]) for e in
                json.loads(writes.run("nbdinfo", "--map", "--json", uri))]
        theirs = json.loads(writes.run("qemu-img", "map", "-f", "qcow2", "--output=json", self.theirs))
        at = i = k = 0
        while at < self.size:
            offset, length, kind = ours[i]
            other = theirs[k]
            other_end = other["start"] + other["length"]
            if bool(kind & 2) != other["zero"]:
                sys.exit("at %d: zero: we say %s, qemu says %s" % (at, bool(kind & 2), other["zero"]))
            if not kind & 2 and bool(kind & 1) == other["data"]:
                sys.exit("at %d: data: we say %s, qemu says %s" % (at, not kind & 1, other["data"]))
            at = min(offset + length, other_end)
            i += at == offset + length
            k += at == other_end

    def serve(self, requests):
        options = self.rng.choice(([], ["--discard=unmap"], ["--threads=1"], ["--cache=none"]))
        server = writes.Server(self.folder, self.ours, *options)
        self.compare_status("nbd+unix:///?socket=" + server.path)
        connection = writes.Connection(server.path)
        for request in requests:
            send(connection, request)
        shown = b"".join(connection.read(offset, min(1 << 20, self.size - offset))
                         for offset in range(0, self.size, 1 << 20))
        connection.leave()
        server.stop()
        return shown

    def verdicts(self, image):
        """(errors, leaks) of qemu and of ours, each whether there are any."""
        done = subprocess.run(["qemu-img", "check", "-f", "qcow2", "--output=json", image],
                              capture_output=True, text=True, check=False)
        theirs = json.loads(done.stdout) if done.stdout.startswith("{") else None
        mine = subprocess.run([TOOL, "check", "qcow2", image], capture_output=True, text=True, check=False)
        words = mine.stdout.splitlines()[-1].split() if mine.returncode == 0 else []
        qemu = (bool(theirs.get("corruptions")), bool(theirs.get("leaks"))) if theirs else None
        ours = (int(words[1]) > 0, int(words[3]) > 0) if words else None
        return qemu, ours, done.stdout + done.stderr + mine.stdout + mine.stderr

    def compare_verdicts(self, image, what):
        qemu, ours, said = self.verdicts(image)
        if qemu != ours:
            sys.exit("%s: qemu finds %s, we find %s (errors, leaks)\n%s" % (what, qemu, ours, said))
        return qemu

    def damage(self):
        """Something in the tables of theirs that both checks must see, or neither."""
        rng = self.rng
        with open(self.theirs, "r+b") as file:
            header = file.read(104)
            bits, l1_size = struct.unpack_from(">I", header, 20)[0], struct.unpack_from(">I", header, 36)[0]
            l1_offset, table = struct.unpack_from(">QQ", header, 40)
            file.seek(l1_offset)
            l1 = struct.unpack(">%dQ" % l1_size, file.read(8 * l1_size))
            tables = [entry & OFFSET for entry in l1 if entry & OFFSET]
            kind = rng.choice(("count", "entry", "l1") if tables else ("count",))
            if kind == "count" and self.has_bits == 16:
                file.seek(table)
                block = struct.unpack(">Q", file.read(8))[0]
                counts = min(os.path.getsize(self.theirs) >> bits, (1 << bits) // 2)
                at = block + 2 * rng.randrange(counts)
                self.change(file, at, ">H", lambda count: rng.choice((0, count + 1, 2)))
            elif kind == "entry":
                extended = struct.unpack_from(">I", header, 4)[0] == 3 and header[79] & 16
                step = 16 if extended else 8
                at = rng.choice(tables) + step * rng.randrange(min((1 << bits) // step, 64))
                self.change(file, at, ">Q", lambda entry: rng.choice(
                    (entry ^ COPIED if entry & OFFSET and not entry & 1 << 62 else entry, 0)))
            elif kind == "l1":
                at = l1_offset + 8 * rng.choice([i for i, entry in enumerate(l1) if entry & OFFSET])
                self.change(file, at, ">Q", lambda entry: rng.choice((entry ^ COPIED, 0)))

    @staticmethod
    def change(file, at, form, new):
        file.seek(at)
        old = file.read(struct.calcsize(form))
        if len(old) == struct.calcsize(form):
            file.seek(at)
            file.write(struct.pack(form, new(struct.unpack(form, old)[0])))

    def run(self):
        self.make()
        requests = random_requests(self.rng, self.size, self.rng.randrange(1, 20))
        shown = self.serve(requests)
        qemu_io(self.theirs, requests)
        for image, whose in ((self.ours, "our"), (self.theirs, "qemu's")):
            data = bytes(writes.content(self.folder, image, self.size)[:self.size])
            if data != shown:
                wrong = next(i for i, byte in enumerate(data) if byte != shown[i])
                sys.exit("byte %d of %s image: qemu reads %d, we showed %d"
                         % (wrong, whose, data[wrong], shown[wrong]))
        if self.compare_verdicts(self.ours, "our image") != (False, False):
            sys.exit("our image is not clean")
        self.compare_verdicts(self.theirs, "qemu's image")
        self.damage()
        self.compare_verdicts(self.theirs, "the damaged image")

    def remove(self):
        shutil.rmtree(self.folder)


def main():
    if not shutil.which("qemu-img") or not shutil.which("nbdinfo"):
        print("skip: qemu-img or nbdinfo is not installed")
        sys.exit(77)
    seed = os.environ.get("SEED") or str(random.randrange(1 << 32))
    cases = int(sys.argv[1] if len(sys.argv) > 1 else
                os.environ.get("PLATTER_DIFFERENTIAL_CASES", "20"))
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    print("SEED=%s" % seed, flush=True)
    for number in range(first, first + cases):
        case = Case(seed, number)
        try:
            case.run()
        except BaseException:
            print("case %d of SEED=%s: %s" % (number, seed, getattr(case, "describe", "")), flush=True)
            raise
        finally:
            case.remove()
        if (number - first) % 500 == 499:
            print("case %d passed" % number, flush=True)
    print("%d cases" % cases)


if __name__ == "__main__":
    main()
