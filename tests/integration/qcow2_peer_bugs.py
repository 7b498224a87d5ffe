#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Bugs that other programs had with qcow2 images, each a test that would have found it.

usage: qcow2_peer_bugs.py [NAME...]

A test is a function; its first line says whose bug it was. PLATTER_BUILT names the server; SEED repeats
a run.
"""
import contextlib
import errno
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

import listening
import log_writes
import qcow2_writes as writes

MIB = 1 << 20
CLUSTER = 65536
PLATTER = os.environ.get("PLATTER_BUILT", "build/server/platter")


class Bench:
    """A folder of its own, an image in it, and how it is served."""

    def __init__(self, name):
        self.rng = random.Random("%s %s" % (os.environ["SEED"], name))
        self.folder = tempfile.mkdtemp(prefix="platter-peer.")
        self.image = self.path("image.qcow2")

    def path(self, name):
        return os.path.join(self.folder, name)

    def create(self, size, *options):
        """A new file: the kernel may still be giving back the locks that a killed server had on the old
        one, since its io_uring ends a moment after the process."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.image)
        writes.run("qemu-img", "create", "-q", "-f", "qcow2", *options, self.image, str(size))
        return bytearray(size)

    def serve(self, *options, **file):
        """file: of the node below the format; below that is the image's file."""
        if not file:
            return writes.Server(self.folder, self.image, *options)
        bottom = {"driver": "file", "filename": self.image}
        graph = {"file": {"file": bottom, **{key.replace("_", "-"): value for key, value in file.items()}}}
        return writes.Server(self.folder, "json:" + json.dumps(graph), *options)

    def check(self, image=None):
        writes.run("qemu-img", "check", "-q", "-f", "qcow2", image or self.image)

    def compare(self, model):
        data = writes.content(self.folder, self.image, len(model))[:len(model)]
        if data != model:
            wrong = next(i for i, byte in enumerate(data) if byte != model[i])
            sys.exit("byte %d is %d, not %d" % (wrong, data[wrong], model[wrong]))

    def remove(self):
        shutil.rmtree(self.folder)


def put(connection, model, offset, byte, length):
    model[offset:offset + length] = bytes([byte]) * length
    connection.send(writes.WRITE, offset, length, 0, bytes([byte]) * length)
    list(connection.answers())


def ask(connection, command, offset=0, length=0, flags=0):
    connection.send(command, offset, length, flags)
    list(connection.answers())


def error_of(connection, command, offset, length, payload=b""):
    connection.send(command, offset, length, 0, payload)
    connection.pending.clear()
    _, error, _ = struct.unpack(">IIQ", connection.receive(16))
    return error


# --- clusters that change hands -------------------------------------------------------------------


def delayed_punch(bench):
    """cloud-hypervisor PR 8624: a cluster was given away before the punch of its old hole had ended."""
    model = bench.create(64 * MIB)
    server = bench.serve("--discard=unmap", "--threads=4", driver="delay", tdelay="40ms")
    first, second = (writes.Connection(server.path) for _ in range(2))
    for round_number in range(5):
        base = round_number * 4 * MIB
        for at in range(base, base + MIB, CLUSTER):
            put(first, model, at, round_number + 1, CLUSTER)
        ask(first, writes.FLUSH)
        first.send(writes.TRIM, base, MIB)
        list(first.answers())
        model[base:base + MIB] = bytes(MIB)
        ask(second, writes.FLUSH)
        # New data, and new L2 tables, right away: 512 MiB further each takes one.
        for at in range(base + 2 * MIB, base + 3 * MIB, CLUSTER):
            put(second, model, at, 100 + round_number, CLUSTER)
        ask(second, writes.FLUSH)
    time.sleep(0.3)
    for offset in range(0, len(model), MIB):
        if first.read(offset, MIB) != model[offset:offset + MIB]:
            sys.exit("wrong bytes at %d" % offset)
    first.leave()
    second.leave()
    server.stop()
    bench.check()
    bench.compare(model)


def many_queues_above_a_backing_file(bench):
    """cloud-hypervisor issues 8606, 8621, 8358: clusters of tables and of the header were given out."""
    base = bench.path("base.img")
    with open(base, "wb") as file:
        file.write(bench.rng.randbytes(8 * MIB))
    bench.create(8 * MIB, "-o", "cluster_size=4k", "-b", base, "-F", "raw")
    with open(base, "rb") as file:
        model = bytearray(file.read())
    for _ in range(4):
        server = bench.serve("--threads=4", "--discard=unmap")
        writer = writes.Writer(bench.rng, server.path, model, 4)
        for step in range(12):
            writer.step()
            at = bench.rng.randrange(16, 127) * CLUSTER  # the first MiB stays as it is
            ask(writer.connections[step % 4], writes.TRIM, at, CLUSTER)
            writer.take_trimmed(at, CLUSTER)
        writer.check_all()
        writer.leave()
        server.stop()
        bench.check()
        bench.compare(model)


def status_storm(bench):
    """QEMU 5e97855052 (4.1): block status read refcounts without the lock, and images were damaged."""
    model = bench.create(8 * MIB, "-o", "cluster_size=4k")
    server = bench.serve("--threads=4")
    uri, stop, failed = "nbd+unix:///?socket=" + server.path, threading.Event(), []

    def storm():
        while not stop.is_set():
            done = subprocess.run(["nbdinfo", "--map", uri], capture_output=True, check=False)
            if done.returncode != 0:
                failed.append(done.stderr)

    storms = [threading.Thread(target=storm) for _ in range(3)]
    for thread in storms:
        thread.start()
    writer = writes.Writer(bench.rng, server.path, model, 4)
    for _ in range(40):
        writer.step()
    writer.check_all()
    writer.leave()
    stop.set()
    for thread in storms:
        thread.join()
    server.stop()
    if failed:
        sys.exit("nbdinfo: %s" % failed[0])
    bench.check()
    bench.compare(model)


# --- transfers ------------------------------------------------------------------------------------


def short_transfers(bench):
    """QEMU c06fc7ce14: a short read by io_uring was carried on at the wrong offset."""
    model = bench.create(4 * MIB)
    server = bench.serve("--aio=io_uring", driver="fault", short_read="3584", short_write="1536")
    writer = writes.Writer(bench.rng, server.path, model, 2)
    for _ in range(15):
        writer.step()
    writer.check_all()
    writer.leave()
    server.stop()
    bench.check()
    bench.compare(model)


def canaries(bench):
    """QEMU 353ab96973, nbdkit a0ae7b21: a trim or zero that is not aligned went beyond its range."""
    near = (0, 1, 511, 512, 513, 4095, 4096, 4097, 16383, 16384, 16385)
    for options in ("cluster_size=4k", "cluster_size=64k,extended_l2=on"):
        model = bench.create(MIB, "-o", options)
        server = bench.serve()
        connection = writes.Connection(server.path)
        put(connection, model, 0, 0xaa, MIB)
        for command in (writes.TRIM, writes.ZEROES):
            for begin in near:
                for length in near[1:]:
                    offset = 131072 + begin
                    put(connection, model, 131072, 0xaa, 65536)
                    ask(connection, command, offset, length)
                    data = connection.read(131072 - 512, 65536 + 1024)
                    inside = data[512 + begin:512 + begin + length]
                    outside = data[:512 + begin] + data[512 + begin + length:]
                    if outside.strip(b"\xaa"):
                        sys.exit("%s: %d at %d, %d bytes: bytes outside have changed"
                                 % (options, command, begin, length))
                    if inside.strip(b"\0") and (command == writes.ZEROES or inside.strip(b"\xaa\0")):
                        sys.exit("%s: %d at %d, %d bytes: not zero" % (options, command, begin, length))
        connection.leave()
        server.stop()
        bench.check()


def trim_with_fua(bench):
    """QEMU 65529782f8: FUA was forgotten on TRIM."""
    with_fua, without = (flushes_of_a_trim(bench, flags) for flags in (writes.FUA, 0))
    if with_fua <= without:
        sys.exit("%d syncs for a trim with FUA, %d without" % (with_fua, without))


def flushes_of_a_trim(bench, flags):
    """Killed right after the answer, so that the close syncs nothing."""
    model, log = bench.create(8 * MIB), bench.path("log")
    with open(log, "wb"):
        pass
    server = bench.serve("--discard=unmap", driver="record", log={"filename": log})
    connection = writes.Connection(server.path)
    put(connection, model, 0, 1, MIB)
    ask(connection, writes.FLUSH)
    ask(connection, writes.TRIM, 0, MIB, flags)
    server.process.kill()
    server.process.wait()
    os.unlink(server.path)
    with open(log, "rb") as file:
        return sum(1 for entry in log_writes.entries(file) if entry[0] & log_writes.FLUSH)


# --- writes that fail -----------------------------------------------------------------------------


def failing_data_write(bench):
    """QEMU 8b24cd1415: clusters leaked when the write of their data failed."""
    model = bench.create(8 * MIB)
    server = bench.serve(driver="fault", inject_error=[{"event": "write_aio", "errno": "EIO", "nth": 3 * n + 1,
                                                        "once": "on"} for n in range(4)])
    connection = writes.Connection(server.path)
    failures = 0
    for at in range(0, 2 * MIB, CLUSTER):
        code = error_of(connection, writes.WRITE, at, CLUSTER, b"\x05" * CLUSTER)
        failures += code != 0
        if code == 0:
            model[at:at + CLUSTER] = b"\x05" * CLUSTER
        elif code != errno.EIO:
            sys.exit("error %d" % code)
    connection.leave()
    server.stop()
    if failures == 0:
        sys.exit("nothing failed")
    bench.check()
    bench.compare(model)


def failing_data_file(bench):
    """QEMU c3b6658c1a: after a write error on an external data file clusters of the image were freed."""
    model = bench.create(4 * MIB, "-o", "data_file=" + bench.path("data.img"))
    graph = {"file": {"driver": "file", "filename": bench.image},
             "data-file": {"driver": "fault", "inject-error": [{"iotype": "write", "errno": "ENOSPC",
                                                                "offset": str(MIB), "length": str(MIB)}],
                           "file": {"driver": "file", "filename": bench.path("data.img")}}}
    server = writes.Server(bench.folder, "json:" + json.dumps(graph))
    connection = writes.Connection(server.path)
    for at in range(0, 4 * MIB, CLUSTER):
        code = error_of(connection, writes.WRITE, at, CLUSTER, b"\x07" * CLUSTER)
        if code != (errno.ENOSPC if MIB <= at < 2 * MIB else 0):
            sys.exit("at %d: error %d" % (at, code))
        if code == 0:
            model[at:at + CLUSTER] = b"\x07" * CLUSTER
    ask(connection, writes.FLUSH)
    connection.leave()
    server.stop()
    bench.check()
    bench.compare(model)


# --- files that an image names --------------------------------------------------------------------


def refused(bench, *options, say):
    done = subprocess.run([PLATTER, "-k", bench.path("never"), *options], capture_output=True, text=True,
                          timeout=60, check=False)
    if done.returncode != 1 or say not in done.stderr or done.stderr.count("\n") != 1:
        sys.exit("%s: status %d, said: %s" % (options, done.returncode, done.stderr))


def openstack_names(bench):
    """OpenStack bug 2059809 (CVE-2024-32498), CVE-2024-40767, CVE-2015-1851, CVE-2015-5163: an image that
    a user sent named a file of the host."""
    secret = tempfile.mkdtemp(prefix="platter-secret.")
    try:
        path = os.path.join(secret, "password")
        with open(path, "wb") as file:
            file.write(b"secret" * 100000)
        for options in (["-b", path, "-F", "raw"], ["-o", "data_file=" + path]):
            bench.create(MIB, "-u", *options)
            with open(path, "wb") as file:
                file.write(b"secret" * 100000)
            for more in ([], ["-r"]):
                refused(bench, *more, "-f", "qcow2", bench.image, say="--allow-path=")
                refused(bench, *more, bench.image, say="no second file is opened on a guess")
    finally:
        shutil.rmtree(secret)


def json_data_file(bench):
    """CVE-2024-4467: a data file's name that began with json: was followed."""
    bench.create(MIB, "-o", "data_file=" + bench.path("data.img"))
    with open(bench.image, "r+b") as file:
        head = bytearray(file.read(4096))
        at = head.index(bench.path("data.img").encode())
        length = len(bench.path("data.img"))
        name = b'json:{"driver":"file"}'.ljust(length, b" ")[:length]
        file.seek(at)
        file.write(name)
    refused(bench, "-r", "-f", "qcow2", bench.image, say="a name with a protocol is not followed")


def header_written_by_a_guest(bench):
    """CVE-2008-2004, CVE-2026-24708: a guest wrote a qcow2 header into its raw disk, and was believed."""
    raw = bench.path("disk.raw")
    with open(raw, "wb") as file:
        file.truncate(MIB)
    bench.create(MIB, "-u", "-b", "/etc/passwd", "-F", "raw")
    with open(bench.image, "rb") as file:
        head = file.read(4096)
    socket = bench.path("socket")
    with subprocess.Popen([PLATTER, "-t", "-k", socket, raw], stderr=subprocess.DEVNULL) as server:
        if not listening.wait_for(socket, server):
            sys.exit("the server does not start")
        connection = writes.Connection(socket)
        code = error_of(connection, writes.WRITE, 0, len(head), head)
        connection.leave()
        server.terminate()
    if code != errno.EPERM:
        sys.exit("a header was written into a raw image whose format was guessed: error %d" % code)
    with open(raw, "r+b") as file:
        file.write(head)
    refused(bench, "-r", raw, say="no second file is opened on a guess")


def two_servers(bench):
    """QEMU iotests 153 and 182: two writers of one image; a lock must be gone with its owner."""
    bench.create(MIB)
    server = bench.serve()
    refused(bench, "-f", "qcow2", bench.image, say="in use")
    server.process.kill()
    server.process.wait()
    os.unlink(server.path)
    server = bench.serve()
    connection = writes.Connection(server.path)
    put(connection, bytearray(MIB), 0, 1, 512)
    connection.leave()
    server.stop()
    bench.check()


TESTS = (delayed_punch, many_queues_above_a_backing_file, status_storm, short_transfers, canaries,
         trim_with_fua, failing_data_write, failing_data_file, openstack_names, json_data_file,
         header_written_by_a_guest, two_servers)


def main():
    for program in ("qemu-img", "nbdinfo"):
        if not shutil.which(program):
            print("skip: %s is not installed" % program)
            sys.exit(77)
    os.environ.setdefault("SEED", str(random.randrange(1 << 32)))
    print("SEED=%s" % os.environ["SEED"])
    for test in TESTS:
        if sys.argv[1:] and test.__name__ not in sys.argv[1:]:
            continue
        begin = time.monotonic()
        bench = Bench(test.__name__)
        try:
            test(bench)
        except BaseException:
            print("FAILED: %s: %s" % (test.__name__, test.__doc__), flush=True)
            raise
        finally:
            bench.remove()
        print("ok: %s (%.1f s)" % (test.__name__, time.monotonic() - begin), flush=True)


if __name__ == "__main__":
    main()
