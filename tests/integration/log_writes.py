# SPDX-License-Identifier: BSD-3-Clause
"""Reads a log of writes as the kernel's Documentation/admin-guide/device-mapper/log-writes.rst and
the structures it names describe it, and replays it. It knows nothing of ours.

usage: log_writes.py show LOG             one line an entry: number, kind, offset, bytes
       log_writes.py replay LOG IMAGE [N]  the first N entries, or all, over the file IMAGE
"""
import struct
import sys

MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


def entries(log):
    """(flags, offset, length, data or None, mark) of each."""
    magic, version, count, sector = struct.unpack("<QQQL", log.read(28))
    if magic != MAGIC or version != 1:
        sys.exit("no log: magic %#x, version %d" % (magic, version))
    if sector < 512 or sector & (sector - 1):
        sys.exit("sectors of %d bytes" % sector)
    log.seek(sector)
    for number in range(count):
        head = log.read(sector)
        if len(head) != sector:
            sys.exit("the log ends in entry %d of %d" % (number, count))
        start, sectors, flags, data_len = struct.unpack("<QQQQ", head[:32])
        if flags & ~(FLUSH | FUA | DISCARD | MARK):
            sys.exit("entry %d has the flags %#x" % (number, flags))
        if flags & MARK:
            if sectors or data_len > sector - 32:
                sys.exit("the mark %d has %d sectors, %d bytes" % (number, sectors, data_len))
            yield flags, 0, 0, None, head[32:32 + data_len].decode()
            continue
        if data_len:
            sys.exit("entry %d has a length of %d but is no mark" % (number, data_len))
        if flags & FLUSH and sectors:
            sys.exit("the flush %d has data" % number)
        length = sectors * sector
        data = None if flags & DISCARD else log.read(length)
        if data is not None and len(data) != length:
            sys.exit("the data of entry %d is cut" % number)
        yield flags, start * sector, length, data, None


def kind(flags):
    names = [(MARK, "mark"), (FLUSH, "flush"), (DISCARD, "discard"), (FUA, "fua")]
    return "+".join(name for bit, name in names if flags & bit) or "write"


def show(log):
    for number, (flags, offset, length, _, mark) in enumerate(entries(log)):
        print(number, kind(flags), offset, length, mark or "")


def replay(log, image, until):
    size = image.seek(0, 2)
    for number, (_, offset, length, data, mark) in enumerate(entries(log)):
        if number == until:
            return
        if mark is not None or offset >= size:
            continue
        length = min(length, size - offset)
        image.seek(offset)
        image.write(data[:length] if data is not None else bytes(length))


def main(words):
    if len(words) == 2 and words[0] == "show":
        with open(words[1], "rb") as log:
            show(log)
    elif len(words) in (3, 4) and words[0] == "replay":
        with open(words[1], "rb") as log, open(words[2], "r+b") as image:
            replay(log, image, int(words[3]) if len(words) == 4 else -1)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
