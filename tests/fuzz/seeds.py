#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes the first inputs of the fuzz targets: seeds.py FOLDER [TARGET...]
makes FOLDER/TARGET/NAME, of all targets or of the given ones."""
import os
import sys
from struct import pack

SPLIT = b"\x01\x02"  # the bytes that seed how the input is cut into pieces


def string(text):
    return pack(">I", len(text)) + text


def option(number, data=b""):
    return b"IHAVEOPT" + pack(">II", number, len(data)) + data


def info(number, name, *infos):
    return option(number, string(name) + pack(">H", len(infos)) +
                  b"".join(pack(">H", i) for i in infos))


def meta(number, name, *queries):
    return option(number, string(name) + pack(">I", len(queries)) +
                  b"".join(string(q) for q in queries))


def handshake():
    flags = pack(">I", 3)
    structured = option(8)
    alloc, bitmap = b"base:allocation", b"qemu:dirty-bitmap:b"
    return {
        "export-name": flags + option(1, b"a"),
        "export-name-zeroes": pack(">I", 0) + option(1),
        "export-name-unknown": flags + option(1, b"nothing"),
        "abort": flags + option(2, b"bye"),
        "list": flags + option(3) + option(3, b"x") + option(2),
        "unsupported": flags + option(4) + option(5) + option(11) + option(99, b"data"),
        "info-go": flags + info(6, b"a", 0, 1, 2, 3) + info(7, b"", 3),
        "go-unknown": flags + info(7, b"\xff\n", 1) + info(7, b"a"),
        "meta": flags + structured + meta(9, b"", b"base:") + meta(9, b"a") +
        meta(10, b"", alloc, alloc, bitmap, b"x-y:z") + info(7, b""),
        "meta-void": flags + structured + meta(10, b"", alloc) + meta(10, b"no", alloc) +
        info(7, b""),
        "malformed": flags + option(7, b"\0\0\0\x09a\0\0") + option(10, b"\0\0\0\0\xff\xff\xff\xff") +
        option(6) + option(2),
        "extended": flags + structured + option(11) + option(8) + option(11) +
        meta(10, b"", alloc) + info(7, b""),
        "extended-export-name": flags + option(11) + option(1, b"a"),
        "too-big": flags + option(3, bytes(70000)) + option(2),
    }


def request(command, cookie, offset, length, flags=0, payload=b""):
    return pack(">IHHQQI", 0x25609513, flags, command, cookie, offset, length) + payload


def extended(command, cookie, offset, length, flags=0, payload=b""):
    return pack(">IHHQQQ", 0x21e41c71, flags, command, cookie, offset, length) + payload


def transmission():
    everything = b"".join([
        request(0, 1, 0, 512), request(0, 2, 512, 65536, 4),
        request(1, 3, 0, 5, 1, b"hello"), request(1, 4, 1 << 40, 4, 0, b"gone"),
        request(3, 5, 0, 0), request(4, 6, 512, 1024), request(6, 7, 0, 4096, 2),
        request(7, 8, 0, 1 << 20, 8), request(5, 9, 0, 1), request(6, 10, 0, 1, 16),
        request(1, 11, 0, 0), request(0, 12, 2**64 - 1, 2), request(2, 13, 0, 0)])
    seeds = {}
    for setting in (0x5e, 0x5f, 0x58, 0x7e, 0x9e, 0x1e, 0xc0):
        seeds["everything-%02x" % setting] = bytes([setting]) + SPLIT + everything
    for setting in (0x5e, 0x5f, 0x7e, 0xde):
        seeds["extended-%02x" % setting] = bytes([setting]) + b"\x01\x82" + b"".join([
            extended(0, 1, 0, 512), extended(1, 2, 0, 5, 32, b"hello"), extended(1, 3, 0, 5),
            extended(1, 4, 1 << 60, 4, 33, b"gone"), extended(4, 5, 0, 6 << 30),
            extended(6, 6, 0, 5 << 30, 2), extended(7, 7, 0, 1 << 40, 8),
            extended(7, 8, 0, 12, 32, bytes(12)), extended(0, 9, 0, 1 << 32),
            extended(2, 10, 0, 0)])
    seeds["extended-giant"] = b"\x5e\x01\x82" + extended(1, 1, 0, 1 << 32, 32) + bytes(64)
    seeds["wrong-magic"] = b"\x5e" + SPLIT + request(0, 1, 0, 1) + bytes(28)
    seeds["giant-write"] = b"\x5e" + SPLIT + request(1, 1, 0, 0xffffffff) + bytes(64)
    return seeds


def reply_status():
    def setting(size, offset, length, count, one, extended=0):
        return pack(">QQIBB", size << 1, offset << 1, length, count, (8 if one else 0) | extended)

    def extent(length, shift, flags):
        return pack(">IBB", length, shift, flags)

    extents = b"".join(extent(4097, i % 5, i % 3) for i in range(40))
    return {
        "merge": setting(1 << 40, 0, 1 << 30, 63, False) + extents + extent(1, 0, 1) * 5,
        "one": setting(1 << 40, 4096, 1 << 20, 63, True) + extents,
        "full": setting(1 << 40, 0, 1 << 30, 3, False) + extents,
        "giant": setting(1 << 40, 0, 0xffffffff, 63, False) + extent(1, 33, 3) + extent(3, 32, 3),
        "extended": setting(1 << 40, 0, 1 << 30, 63, False, 0x30) + extents + extent(9, 32, 3),
        "extended-one": setting(1 << 40, 0, 1 << 30, 63, True, 0x30) + extent(9, 32, 3),
        "end": setting(1000001, 1000000, 1, 1, False) + extent(9, 20, 0),
    }


def node_options():
    texts = {
        "raw": b"driver=raw,offset=4K,size=1M,file.driver=file,file.filename=/a,,b",
        "deep": b"file.file.file.filename=x,cache.direct=on,cache.no-flush=off,a=,",
        "bare": b"disk.img",
    }
    objects = {
        "object": b'{"driver": "raw", "file": {"driver": "file", "filename": "a\\u00e4,"}}',
        "dotted": b'{"file.filename": "a", "file": {"0": 1, "x": [true, {"y": -5}]}}',
        "nested": b'{"a":[[[[[[[[[[[[[[["x"]]]]]]]]]]]]]]]}',
        "wrong": b'{"a": 1.5, "b": null, "c": {}}',
    }
    return {**{name: b"\0" + text for name, text in texts.items()},
            **{name: b"\1" + text for name, text in objects.items()}}


def qcow2_header_bytes(version=3, cluster_bits=16, backing=(0, 0), l1_size=2, features=(0, 0, 0),
                       tail=b"", snapshots=(0, 0)):
    fixed = pack(">IIQIIQIIQQIIQ", 0x514649fb, version, backing[0], backing[1], cluster_bits,
                 1 << 30, 0, l1_size, 0x30000, 0x10000, 1, snapshots[0], snapshots[1])
    if version == 2:
        return fixed + tail
    return fixed + pack(">QQQIIB7x", *features, 4, 112, 0) + tail


def extension(number, data):
    return pack(">II", number, len(data)) + data + bytes(-len(data) % 8)


def qcow2_header():
    names = pack(">BB46s", 0, 5, b"warp") + pack(">BB46s", 2, 0, b"bitmaps")
    extensions = (extension(0xe2792aca, b"raw") + extension(0x6803f857, names) +
                  extension(0x23852875, pack(">IIQQ", 1, 0, 64, 0x70000)) +
                  extension(0x44415441, b"disk.data") + extension(0x1234, b"?") + bytes(8))
    size = bytes([30])
    return {
        "plain": size + qcow2_header_bytes(),
        "version-2": size + qcow2_header_bytes(2, tail=bytes(64)),
        "extensions": size + qcow2_header_bytes(features=(1 << 5, 1, 1), tail=extensions),
        "backing": size + qcow2_header_bytes(backing=(112 + len(extensions), 4),
                                             tail=extensions + b"base"),
        "data-file": size + qcow2_header_bytes(features=(4, 0, 2), tail=extensions),
        "small-clusters": size + qcow2_header_bytes(cluster_bits=9, l1_size=32768),
        "snapshots": size + qcow2_header_bytes(snapshots=(1, 0x80000)),
        "luks": size + qcow2_header_bytes(tail=extension(0x0537be77, bytes(16))),
    }


def qcow2_entry():
    entries = (1 << 63 | 0x50000, 0, 0x50001, 2 << 32 | 1, 1 << 62 | 5 << 54 | 0x50123, 0, 0x200, 7)
    return {"entries-%d-%d-%d" % key: bytes(key) + pack(">8Q", *entries)
            for key in ((1, 7, 0), (0, 0, 0), (1, 20, 16), (1, 90, 4), (1, 12, 8))}


def snapshot(id, name, extra=b""):
    entry = pack(">QIHHIIQII", 0x90000, 2, len(id), len(name), 1, 2, 3, 4, len(extra))
    entry += extra + id + name
    return entry + bytes(-len(entry) % 8)


def qcow2_snapshots():
    table = (snapshot(b"1", b"before", pack(">QQQ", 5, 1 << 20, 0)) + snapshot(b"2", b"") +
             snapshot(b"3", b"1", pack(">QQQ", 0, 1 << 30, 1) + b"more"))
    return {text.decode() or "none": bytes([3]) + text.ljust(16, b"\0") + table
            for text in (b"", b"1", b"before", b"snapshot.id=2", b"snapshot.name=1")}


def qcow2_image():
    """Images of a few clusters, made by hand: clusters of 512 bytes, and extended L2 in 16 KiB."""
    def image(bits, features, l2, version=3, tail=b"", kind=0, extensions=b"", more=(), snapshots=(0, 0)):
        cluster = 1 << bits
        head = pack(">IIQIIQIIQQIIQ", 0x514649fb, version, 0, 0, bits, cluster * 40, 0, 1,
                    3 * cluster, cluster, 1, *snapshots)
        if version == 3:
            head += pack(">QQQIIB7x", *features, 4, 112, kind) + extensions
        parts = [head, pack(">Q", 2 * cluster), pack(">16H", *[1] * 16), pack(">Q", 1 << 63 | 4 * cluster),
                 l2, b"data" * 128, b"more" * 128, *more]
        return b"".join(part.ljust(cluster, b"\0")[:cluster] for part in parts) + tail
    c = 512
    plain = pack(">8Q", 1 << 63 | 5 * c, 1 << 63 | 6 * c, 0, 1, 6 * c | 1, 0, 1 << 62 | 5 * c + 9, 5 * c)
    c = 1 << 14
    extended = pack(">8Q", 1 << 63 | 5 * c, 0xf << 36 | 0xf, 0, 1 << 32, 1 << 63 | 6 * c, (1 << 32) - 1,
                    1 << 62 | 5 * c, 0)
    # Clusters from the seventh on: the directory, two tables, bits.
    directory = (pack(">QIIBBHI8s", 8 * 512, 1, 2, 1, 9, 1, 0, b"a") +
                 pack(">QIIBBHI8s", 9 * 512, 1, 0, 1, 12, 1, 0, b"b"))
    kept = {"extensions": pack(">IIIIQQ8x", 0x23852875, 24, 2, 0, len(directory), 7 * 512),
            "more": (directory, pack(">Q", 10 * 512), pack(">Q", 1), b"\x55\xaa")}
    # The seventh: a snapshot with the disk's own L1 table.
    taken = {"snapshots": (1, 7 * 512),
             "more": (pack(">QIHHIIQIIQQQ", 3 * 512, 1, 1, 4, 0, 0, 0, 0, 24, 0, 512 * 40, 0) + b"1then",)}
    return {
        "plain": image(9, (0, 0, 0), plain),
        "snapshot": image(9, (0, 0, 0), plain, tail=b"\0", **taken),
        "of-snapshot": image(9, (0, 0, 0), plain, tail=b"\1", **taken),
        "written-snapshot": image(9, (0, 0, 0), plain, tail=b"\2", **taken),
        "bitmaps": image(9, (0, 0, 1), plain, **kept),
        "written-bitmaps": image(9, (0, 0, 1), plain, tail=b"\3", **kept),
        "repaired-bitmaps": image(9, (1, 1, 1), plain, tail=b"\2", **kept),
        "version-2": image(9, (0, 0, 0), plain[:24], 2),
        "extended": image(14, (16, 0, 0), extended),
        "dirty": image(9, (1, 1, 0), plain),
        "zstd": image(9, (8, 0, 0), plain, kind=1),
        "written": image(9, (0, 0, 0), plain, tail=b"\3"),
        "written-extended": image(14, (16, 0, 0), extended, tail=b"\3"),
        "written-version-2": image(9, (0, 0, 0), plain[:24], 2, tail=b"\2"),
        "repaired": image(9, (1, 1, 0), plain, tail=b"\3"),
    }


def gow1_bytes(how, blocks, size, allocated, *entries):
    """How it is used, the file's blocks, the header, entries of the map."""
    return (bytes([how, blocks]) + b"GOW1" + pack("<II", size, allocated) +
            b"".join(pack("<HI", where, what) for where, what in entries))


def gow1_image():
    image = gow1_bytes
    sound = (3, 0), (4, 1), (0, 2)
    wrong = (3, 0), (4, 0), (5, 9), (60000, 1), (0xff00, 2)
    return {
        "read": image(0, 3, 10, 3, *sound),
        "written": image(1, 3, 10, 4, *sound),
        "resized": image(1 | 8, 3, 10, 3, *sound),
        "shrunken": image(1 | 4 | 8, 8, 10, 9, *sound, (9, 7), (8, 6)),
        "cut-off": image(16, 3, 10, 3, *sound),
        "wrong": image(0, 3, 10, 3, *wrong),
        "repaired": image(2, 3, 10, 0xfffff, *wrong),
        "largest": image(1, 3, 1 << 20, 3, *sound, (0xff00, 1)),
        "many": image(2 | 8, 16, 300, 16, *((i * 7, i % 18) for i in range(40))),
    }


def gow1_open():
    image = gow1_bytes
    sound = (3, 0), (4, 1), (0, 2)
    wrong = (3, 0), (4, 0), (5, 9), (60000, 1)
    return {
        "read": image(0, 3, 10, 3, *sound),
        "written": image(1, 3, 10, 4, *sound),
        "cut-off": image(2, 3, 10, 3, *sound),
        "wrong": image(1, 3, 10, 3, *wrong),
        "too-much": image(1, 3, 10, 0xfffff, *sound),
        "large": image(1, 3, 1 << 20, 3, *sound),
        "too-large": image(1, 3, (1 << 20) + 1, 3, *sound),
        "read-wrong": image(0, 3, 10, 3, *wrong),
        "many": image(1, 16, 300, 16, *((i * 7, i % 18) for i in range(40))),
    }


def qcow2_bitmaps():
    def entry(name, flags, granularity, table=1):
        data = pack(">QIIBBHI", 0x8000, table, flags, 1, granularity, len(name), 0) + name
        return data + bytes(-len(data) % 8)
    return {"directory": bytes([30]) + entry(b"a", 0, 16) + entry(b"backup", 2, 9, 64),
            "in-use": bytes([40]) + entry(b"b", 3, 31, 77)}


def virtio_ring():
    """One queue of 8: a request of three buffers in the queue's table, in an indirect one, and one that
    goes in a circle."""
    def desc(address, length, flags, after=0):
        return pack("<QIHH", address, length, flags, after)

    def queue(features, descriptors, heads, tables=b""):
        table = b"".join(descriptors).ljust(128, b"\0")
        avail = pack("<HH", 0, len(heads)) + b"".join(pack("<H", h) for h in heads).ljust(18, b"\0")
        return bytes([features, 3]) + (table + avail).ljust(1024, b"\0") + tables

    data = 0x10000 + 2048
    chain = [desc(data, 16, 1, 1), desc(data + 512, 4096, 3, 2), desc(data + 8192, 1, 2)]
    table = b"".join(chain)
    return {"chain": queue(0, chain, [0]), "event": queue(2, chain, [0, 1, 2]),
            "indirect": queue(3, [desc(0x10000 + 1024, 48, 4)], [0], table),
            "circle": queue(0, [desc(data, 16, 1, 1), desc(data, 16, 1, 0)], [0]),
            "spans": queue(0, [desc(0x10000 + 12000, 1000, 0)], [0])}


def vhost_user_message():
    """What a front-end says to start a device, and some of it wrong."""
    def message(number, payload=b"", fds=0, flags=1):
        return bytes([fds]) + pack("<III", number, flags, len(payload)) + payload

    def table(*regions):
        return pack("<II", len(regions), 0) + b"".join(pack("<QQQQ", *region) for region in regions)

    low, high = (0, 0xa0000, 0x7f00 << 32, 0), (0xc0000, 1 << 28, (0x7f00 << 32) + 0xc0000, 0xc0000)
    ring = [message(number, pack("<II", 1, 128)) for number in (8, 10, 18, 11)]
    files = [message(number, pack("<Q", 1), 1) for number in (12, 13, 14)]
    ask = b"".join(message(number) for number in (1, 15, 17, 3, 34, 4))
    return {"ask": ask, "features": message(2, pack("<Q", 1 << 32)) + message(16, pack("<Q", 9), flags=9),
            "memory": message(5, table(low, high), 2), "overlap": message(5, table(low, low), 2),
            "wraps": message(5, table((1 << 63, 1 << 63, 0, 0)), 1),
            "ring": b"".join(ring) + message(9, pack("<IIQQQQ", 1, 0, 4096, 12288, 8192, 0)) + b"".join(files),
            "polling": message(12, pack("<Q", 0x101)),
            "config": message(24, pack("<III", 0, 60, 0) + bytes(60)) + message(25, pack("<IIIB", 32, 1, 0, 0))}


def trace():
    head = b"platter-trace 1\ndevice virtio-blk\nsize 1048576\ndepth 32\n"
    return {"all": head + b"bad read 100 8\nbad write 9 1\n# a comment\nread 0 8\nread 100 1 eio\n"
            b"write 8 16 77 ok\npio-read 0 1\npio-write 1 2 3\ndiscard 0 8\nzero 8 8 enotsup\nflush\n"
            b"wait\ncache off\ncache on\nreset\ncrash\n",
            "ide": b"platter-trace 1\r\n\tdevice ide # here\r\nsize 512\r\npio-read 0 1",
            "overlap": head + b"overlap\nwrite 0 8 1\nread 4 8\n", "overlap-crash": head + b"overlap\ncrash\nflush\n",
            "beyond": head + b"read 2047 2\n", "early": b"platter-trace 1\nread 0 1\n",
            "large": head + b"read 18446744073709551616 1\n"}


def redo():
    def record(kind, index, offset, length, payload=b""):
        return pack("<IBBHQ", length, kind, index, 0, offset) + payload + bytes(-len(payload) % 16)

    def log(records, head=0):
        ring = bytearray(4096)
        data = b"".join(records)
        for i, byte in enumerate(data):
            ring[(head + i) % 4096] = byte
        return pack("<QQ", head, head + len(data)) + bytes(ring)

    def store(index, offset, payload):
        return record(0, index, offset, len(payload), payload)

    def forget(node, offset, length):
        return record(2, node, offset, 8, pack("<Q", length))

    changes = [store(0, 8, b"eight"), store(1, 8192, b"12345678"), store(2, 32780, b"odd" * 11),
               record(1, 1, 12288, 4096), store(1, 12388, b"new"), store(3, 512, b"data"), store(0, 10, b"again")]
    pad = record(3, 0, 0, 4096 - 4000 - 16, bytes(4096 - 4000 - 16))
    return {"empty": log([]), "changes": log(changes), "round": log([changes[0]] + [pad] + changes, 4000 - 32),
            "forget": log(changes + [forget(0, 12288, 4096), store(1, 12288, b"later"), forget(0, 0, 512)]),
            "part": log(changes + [forget(0, 9, 512)]), "beyond": log([store(0, 8190, b"over")]),
            "ends": pack("<QQ", 8, 7), "grows": log([record(1, 1, 28672, 4096)])}


def ide():
    def port(number, value):
        return bytes([(number - 1) << 3, value])

    def command(code, count=1, lba=0, device=0x40, features=0):
        return port(1, features) + port(2, count) + port(3, lba & 255) + port(4, lba >> 8 & 255) + \
            port(5, lba >> 16 & 255) + port(6, device) + port(7, code)

    def master(offset, value):
        return bytes([offset << 3 | 3]) + pack("<I", value)

    def dma(code, count, to_memory):
        table = pack("<IHH", 0x10000, count * 512 & 0xffff, 0x8000)
        return bytes([8 << 3 | 4, 4]) + table + master(4, 4096) + command(code, count) + \
            master(0, 9 if to_memory else 1) + turns

    turns = bytes([31 << 3 | 5])
    data = bytes([9 << 3 | 2]) + bytes(4)  # a sector, in words of 32 bits
    send = bytes([2])  # and twelve bytes

    def packet(by_dma, *packet_bytes):
        return command(0xa0, 0, 2048 << 8, 0, by_dma) + send + bytes(packet_bytes).ljust(12, b"\0") + turns

    hold, release, reset = bytes([0 << 3 | 7]), bytes([1 << 3 | 7]), bytes([7 << 3, 4, 7 << 3, 0])
    trim = bytes([8 << 3 | 4, 64]) + pack("<Q", 10 | 3 << 48)
    disk = {"identify": command(0xec) + data, "read": command(0x20, 2, 5) + turns + data + turns + data,
            "write": command(0x30, 1, 5) + data + turns,
            "multiple": command(0xc6, 4) + command(0xc4, 9) + turns + data * 4 + turns + data * 4,
            "read-dma": dma(0xc8, 4, True), "write-dma": dma(0x35, 4, False),
            "trim": trim + command(0x06, 1, 0, 0x40, 1) + dma(0x06, 1, False),
            "reset": hold + command(0x20) + turns + reset + command(0x21) + turns + release + turns,
            "features": command(0xef, 0, 0, 0, 0x82) + turns + command(0xef, 0x45, 0, 0, 3) +
            command(0xe7) + turns + command(0x40, 0, 0) + turns}
    return {**{name: b"\x04" + steps for name, steps in disk.items()},
            "identify-cd": b"\1" + command(0xa1) + data, "sense": b"\1" + packet(0, 0) + packet(0, 3, 0, 0, 0, 18) + data + packet(0, 0x25) + data,
            "read-cd": b"\1" + packet(0, 0) + packet(0, 0x28, 0, 0, 0, 0, 5, 0, 0, 2) + data * 4 + turns + data * 4,
            "read-cd-dma": b"\1" + packet(0, 0) + bytes([8 << 3 | 4, 4]) + pack("<IHH", 0x10000, 4096, 0x8000) +
            master(4, 4096) + packet(1, 0x28, 0, 0, 0, 0, 5, 0, 0, 2) + master(0, 9) + turns,
            "tray": b"\1" + packet(0, 0) + packet(0, 0x1b, 0, 0, 0, 2) + packet(0, 0) + bytes([7 << 3 | 7]) +
            packet(0, 0x1e, 0, 0, 0, 1) + bytes([6 << 3 | 7]) + packet(0, 0)}


def with_shutdown(seeds, place):
    """The same seeds once more, with the byte that says that the server is shutting down."""
    return {**seeds, **{name + "-shutdown": data[:place] + b"\xf1" + data[place + 1:]
                        for name, data in seeds.items()}}


TARGETS = {
    "gow1_image": gow1_image,
    "gow1_open": gow1_open,
    "handshake": lambda: with_shutdown(
        {name: SPLIT + data for name, data in handshake().items()}, 0),
    "transmission": lambda: with_shutdown(transmission(), 1),
    "ide": ide,
    "node_options": node_options,
    "redo": redo,
    "reply_status": reply_status,
    "qcow2_bitmaps": qcow2_bitmaps,
    "qcow2_entry": qcow2_entry,
    "qcow2_header": qcow2_header,
    "qcow2_image": qcow2_image,
    "qcow2_open": lambda: {name: data for name, data in qcow2_image().items() if len(data) < 1 << 14},
    "qcow2_snapshots": qcow2_snapshots,
    "trace": trace,
    "vhost_user_message": vhost_user_message,
    "virtio_ring": virtio_ring,
}


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: seeds.py FOLDER [TARGET...]")
    for target, seeds in TARGETS.items():
        if sys.argv[2:] and target not in sys.argv[2:]:
            continue
        folder = os.path.join(sys.argv[1], target)
        os.makedirs(folder, exist_ok=True)
        for name, data in seeds().items():
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)


main()
