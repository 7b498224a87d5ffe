#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Power cuts of a qcow2 image with lazy refcounts: the next open for writing repairs it, and qemu-img
check finds nothing afterwards, leaks neither.

Random requests are written through the filter record below the format. Then the image is put together
as it may be after a cut: everything before the last flush, and of what came later any part, torn at 512
bytes. PLATTER_BUILT names the server; SEED repeats a run; CUTS says how many.
"""
import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import log_writes
import qcow2_writes as writes

SIZE = 4 << 20
PLATTER = os.environ.get("PLATTER_BUILT", "build/server/platter")


def record(rng, folder, image):
    """A session of random requests; the log has what reached the file, in which order."""
    log, path = os.path.join(folder, "log"), os.path.join(folder, "socket")
    with open(log, "wb"):
        pass
    graph = ("driver=qcow2,file.driver=record,file.file.driver=file,file.file.filename=%s,"
             "file.log.filename=%s,file.discard=unmap" % (image, log))
    with subprocess.Popen([PLATTER, "-t", "-e", "0", "-k", path, "--image-opts", graph]) as server:
        while not os.path.exists(path):
            if server.poll() is not None:
                sys.exit("the server does not start")
            time.sleep(0.02)
        writer = writes.Writer(rng, path, bytearray(SIZE), 2)
        for _ in range(25):
            writer.step()
        writer.leave()
        server.send_signal(signal.SIGTERM)
        if server.wait(60):
            sys.exit("the server ends with %d" % server.returncode)
    with open(log, "rb") as file:
        return list(log_writes.entries(file))


def apply(file, entry, rng=None):
    """rng: some of its sectors alone."""
    _, offset, length, data, mark = entry
    if mark is not None or length == 0:
        return
    data = data or bytes(length)
    for at in range(0, length, 512):
        if not rng or rng.random() < 0.7:
            file.seek(offset + at)
            file.write(data[at:at + 512])


def cut_at(rng, entries, end, base, path):
    """What a cut after `end` entries leaves."""
    shutil.copy(base, path)
    flushes = [i for i in range(end) if entries[i][0] & log_writes.FLUSH]
    durable = flushes[-1] if flushes else 0
    with open(path, "r+b") as file:
        for i in range(end):
            if i < durable:
                apply(file, entries[i])
            elif rng.random() < 0.6:
                apply(file, entries[i], rng if rng.random() < 0.5 else None)


def info(path):
    return json.loads(writes.run("qemu-img", "info", "--output=json", path))


def repair_and_judge(path):
    was_dirty = info(path)["dirty-flag"]
    result = subprocess.run([PLATTER, "-f", "qcow2", "--run", "true", path], capture_output=True,
                            text=True, timeout=60, check=False)
    if result.returncode:
        sys.exit("the image is not repaired: " + result.stderr)
    if was_dirty and "is repaired" not in result.stderr:
        sys.exit("nothing is said of a repair: " + result.stderr)
    if info(path)["dirty-flag"]:
        sys.exit("it is still dirty")
    # Without the dirty bit a cut may leak; with it, all is counted anew.
    writes.run("qemu-img", "check", path, ok=(0,) if was_dirty else (0, 3))
    return was_dirty


def on_terminal(path):
    """What a person sees of a repair, and who looks at a file."""
    shown = []
    for is_terminal in (True, False):
        copy = path + ".copy"
        shutil.copy(path, copy)
        here, there = pty.openpty() if is_terminal else os.pipe()
        command = [PLATTER, "-f", "qcow2", "--run", "true", copy]
        with subprocess.Popen(command, stderr=there, stdout=subprocess.DEVNULL) as server:
            os.close(there)
            text = b""
            while True:
                try:
                    more = os.read(here, 4096)
                except OSError:  # a terminal whose other end is closed
                    more = b""
                if not more:
                    break
                text += more
            if server.wait(60):
                sys.exit("the server ends with %d: %r" % (server.returncode, text))
        os.close(here)
        shown.append(text)
    if b"repairs '" not in shown[0] or b": 100 %" not in shown[0] or b"\r\x1b[K" not in shown[0]:
        sys.exit("no progress on a terminal: %r" % shown[0])
    if b"\r" in shown[1] or b"%" in shown[1] or b"is repaired" not in shown[1]:
        sys.exit("progress where no terminal is: %r" % shown[1])


def served_read_only(path):
    """As it is, with a warning; nothing is repaired."""
    with open(path, "rb") as file:
        before = file.read()
    result = subprocess.run([PLATTER, "-r", "-f", "qcow2", "--run", "true", path],
                            capture_output=True, text=True, timeout=60, check=False)
    if result.returncode or "it is served as it is" not in result.stderr:
        sys.exit("read-only: status %d: %s" % (result.returncode, result.stderr))
    with open(path, "rb") as file:
        if file.read() != before:
            sys.exit("a server that only reads has changed the image")


def crash_of_qemu(folder):
    """An image as QEMU leaves it: dirty, and entries of clusters that the file never came to."""
    path = os.path.join(folder, "qemu.qcow2")
    writes.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on,cluster_size=4k",
               path, str(SIZE))
    writes.run("qemu-io", "-c", "write -P 1 0 200k", "-c", "write -P 2 1M 100k", "-c", "flush",
               "-c", "abort", path, ok=(-signal.SIGABRT, 128 + signal.SIGABRT))
    os.truncate(path, os.path.getsize(path) - 40960)
    served_read_only(path)
    on_terminal(path)
    if not repair_and_judge(path):
        sys.exit("QEMU left no dirty image")


def main():
    if not shutil.which("qemu-img"):
        print("skip: qemu-img is not installed")
        sys.exit(77)
    seed = os.environ.get("SEED") or str(random.randrange(1 << 32))
    cuts = int(os.environ.get("CUTS", "25"))
    print("SEED=%s" % seed)
    rng = random.Random(seed)
    folder = tempfile.mkdtemp(prefix="platter-lazy.")
    try:
        crash_of_qemu(folder)
        image, base = os.path.join(folder, "image"), os.path.join(folder, "base")
        path = os.path.join(folder, "cut")
        writes.run("qemu-img", "create", "-q", "-f", "qcow2", "-o",
                   "lazy_refcounts=on,cluster_size=4k", image, str(SIZE))
        shutil.copy(image, base)
        entries = record(rng, folder, image)
        writes.run("qemu-img", "check", "-q", image)
        dirty = 0
        for end in sorted(rng.sample(range(len(entries) + 1), cuts)):
            cut_at(rng, entries, end, base, path)
            dirty += repair_and_judge(path)
        print("%d entries, %d cuts, %d of them dirty" % (len(entries), cuts, dirty))
        if dirty < cuts // 2:
            sys.exit("too few of them are dirty: the refcounts are not lazy")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
