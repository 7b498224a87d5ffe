#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Reads and makes gow1 images as docs/formats/gow1.md describes them; it knows nothing of ours, and
stands where for other formats a peer's tool does.

usage: gow1.py make RAW IMAGE [SEED]   an image that shows what the file RAW has, its blocks in an order
                                       that SEED decides, and what is zero left out
       gow1.py empty BYTES IMAGE       a new image of a disk of that size
       gow1.py check IMAGE             prints "errors N leaks N size N allocated N"; status 1 with errors
       gow1.py extract IMAGE RAW       what the image shows
       gow1.py compare IMAGE RAW       status 1 where it is not that; RAW may be shorter, by zeroes
       gow1.py entry IMAGE BLOCK [NEW] prints, or changes, an entry of the map
       gow1.py field IMAGE NAME [NEW]  the same for magic, size, allocated
"""
import os
import random
import struct
import sys

BLOCK = 65536
ENTRIES = 1048576
SLICE = 1024  # entries that are looked at together
MAP = 12
DATA = MAP + 4 * ENTRIES
FREE = 0xFFFFFFFF
FIELDS = {"magic": 0, "size": 4, "allocated": 8}


class Image:
    def __init__(self, path):
        self.file = open(path, "rb")
        self.bytes = os.path.getsize(path)
        head = self.file.read(MAP)
        entries = self.file.read(4 * ENTRIES)
        if len(head) != MAP or len(entries) != 4 * ENTRIES:
            sys.exit("%s: truncated, %d bytes" % (path, self.bytes))
        self.magic, self.size, self.allocated = struct.unpack("<3I", head)
        self.map = {}  # the entries that are not free
        for at in range(0, ENTRIES, SLICE):
            part = entries[4 * at:4 * (at + SLICE)]
            if part != b"\xff" * len(part):
                numbers = struct.unpack("<%dI" % SLICE, part)
                self.map.update((at + i, entry) for i, entry in enumerate(numbers) if entry != FREE)

    def faults(self):
        """Sentences about what breaks the rules of the format, and how many blocks nobody has."""
        found, used = [], set()
        if not 0 < self.size <= ENTRIES:
            found.append("size is %d" % self.size)
        if self.allocated > self.size:
            found.append("allocated is %d, size %d" % (self.allocated, self.size))
        for i, entry in self.map.items():
            if i >= self.size:
                found.append("map[%d] is %d, behind the end" % (i, entry))
            elif entry >= self.allocated:
                found.append("map[%d] is %d, allocated %d" % (i, entry, self.allocated))
            elif DATA + (entry + 1) * BLOCK > self.bytes:
                found.append("map[%d] is %d, the file has %d bytes" % (i, entry, self.bytes))
            elif entry in used:
                found.append("map[%d] is %d, as another one" % (i, entry))
            used.add(entry)
        leaks = sum(1 for block in range(min(self.allocated, ENTRIES)) if block not in used)
        return found, leaks

    def block(self, index):
        """None where it is free."""
        if index not in self.map:
            return None
        self.file.seek(DATA + self.map[index] * BLOCK)
        return self.file.read(BLOCK).ljust(BLOCK, b"\0")


def make(raw, path, seed=None):
    blocks = []
    with open(raw, "rb") as source:
        while True:
            data = source.read(BLOCK)
            if not data:
                break
            blocks.append(data.ljust(BLOCK, b"\0"))
    order = [i for i, data in enumerate(blocks) if data.strip(b"\0")]
    random.Random(seed).shuffle(order)
    entries = [FREE] * ENTRIES
    for place, i in enumerate(order):
        entries[i] = place
    with open(path, "wb") as image:
        image.write(b"GOW1" + struct.pack("<2I", len(blocks), len(order)))
        image.write(struct.pack("<%dI" % ENTRIES, *entries))
        for i in order:
            image.write(blocks[i])


def empty(size_bytes, path):
    with open(path, "wb") as image:
        image.write(b"GOW1" + struct.pack("<2I", -(-int(size_bytes) // BLOCK), 0))
        image.write(b"\xff" * (4 * ENTRIES))


def check(path):
    image = Image(path)
    found, leaks = image.faults()
    for sentence in found[:20]:
        print(sentence)
    print("errors %d leaks %d size %d allocated %d" % (len(found), leaks, image.size, image.allocated))
    return 1 if found else 0


def extract(path, raw):
    image = Image(path)
    with open(raw, "wb") as target:
        target.truncate(image.size * BLOCK)
        for i in range(image.size):
            data = image.block(i)
            if data is not None:
                target.seek(i * BLOCK)
                target.write(data)


def compare(path, raw):
    image = Image(path)
    with open(raw, "rb") as wanted:
        if os.path.getsize(raw) > image.size * BLOCK:
            print("the image is shorter")
            return 1
        for i in range(image.size):
            data = wanted.read(BLOCK).ljust(BLOCK, b"\0")
            shown = image.block(i) or bytes(BLOCK)
            if data != shown:
                at = next(k for k in range(BLOCK) if data[k] != shown[k])
                print("byte %d is %d, not %d" % (i * BLOCK + at, shown[at], data[at]))
                return 1
    return 0


def number(path, at, new=None):
    with open(path, "r+b" if new is not None else "rb") as image:
        image.seek(at)
        if new is not None:
            image.write(struct.pack("<I", int(new, 0)))
        else:
            print(struct.unpack("<I", image.read(4))[0])


def main(arguments):
    verb, rest = (arguments[0] if arguments else ""), arguments[1:]
    if verb == "entry":
        return number(rest[0], MAP + 4 * int(rest[1]), *rest[2:])
    if verb == "field":
        return number(rest[0], FIELDS[rest[1]], *rest[2:])
    verbs = {"make": make, "empty": empty, "check": check, "extract": extract, "compare": compare}
    if verb not in verbs:
        sys.exit(__doc__)
    return verbs[verb](*rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
