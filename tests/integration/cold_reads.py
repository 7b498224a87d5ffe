#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Reads that miss the page cache never stop a loop: while a client keeps 16 under way, and
the pages are dropped all the time, the loop's thread is looked at some thousand times, and is not
found waiting for the disk (state D of proc(5)). With --aio=sync it is, which shows that the look
sees it. As states are counted, and not time, a busy machine changes nothing.
"""
import os
import random
import struct
import subprocess
import sys
import tempfile
import time

import listening
import nbd_ops

SIZE = 64 << 20
SECONDS = 1.5
DEPTH = 16
WAITS_MAX = 0.2  # of what the control waits: a page table or the like may be waited for
CONTROL_MIN = 0.05


def load(sock, block, parent):
    """Runs until it is killed, or its parent is gone."""
    peer = nbd_ops.connect(sock)

    def send(cookie):
        offset = random.randrange(SIZE // block) * block
        peer.sendall(struct.pack(">IHHQQI", nbd_ops.REQUEST_MAGIC, 0, 0, cookie, offset, block))

    for cookie in range(DEPTH):
        send(cookie)
    while os.getppid() == parent:
        _, error, cookie = struct.unpack(">IIQ", nbd_ops.receive(peer, 16))
        assert error == 0
        nbd_ops.receive(peer, block)
        send(cookie)


def state_of(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0]


def look(pid, image):
    """The share of looks that found the first thread, which is the only loop, waiting for the disk."""
    fd = os.open(image, os.O_RDONLY)
    end, looks, waits = time.monotonic() + SECONDS, 0, 0
    while time.monotonic() < end or looks < 500:
        if looks % 20 == 0:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        looks += 1
        waits += state_of(pid) == "D"
        time.sleep(0.0005)
    os.close(fd)
    return waits / looks


def waiting_share(program, folder, engine, block):
    image, sock = os.path.join(folder, "image"), os.path.join(folder, "sock")
    subprocess.run(["sync", image], check=True)
    server = subprocess.Popen([program, "-t", "-f", "raw", "--threads=1", f"--aio={engine}",
                               "-k", sock, image])
    try:
        assert listening.wait_for(sock, server), "no server"
        parent = os.getpid()
        client = os.fork()
        if client == 0:
            try:
                load(sock, block, parent)
            finally:
                os._exit(1)
        try:
            time.sleep(0.2)
            share = look(server.pid, image)
            assert os.waitpid(client, os.WNOHANG) == (0, 0), "the client ended before its time"
        finally:
            os.kill(client, 9)
            os.waitpid(client, 0)
    finally:
        server.terminate()
        status = server.wait(60)
    assert status == 0, f"the server ended with status {status}"
    return share


def quiet_share(program, folder, engine, block, share_max):
    """The least of up to three: what else the machine does makes the loop wait too."""
    shares = []
    while not shares or (min(shares) > share_max and len(shares) < 3):
        shares.append(waiting_share(program, folder, engine, block))
    return min(shares)


def main():
    program = os.environ.get("PLATTER") or os.environ["PLATTER_BUILT"]
    wrong = 0
    version = subprocess.run([program, "--version"], stdout=subprocess.PIPE, text=True, check=True)
    if not version.stdout.startswith("platter"):
        print("SKIP: the stand-in has other engines and threads")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="platter-test.") as folder:
        with open(os.path.join(folder, "image"), "wb") as image:
            image.write(os.urandom(SIZE))
        control = waiting_share(program, folder, "sync", 4096)
        print(f"--aio=sync, reads: {control:.1%} of the looks find the loop waiting for the disk")
        if control < CONTROL_MIN:
            print("SKIP: this disk is too quick, or in memory, to see a loop wait for it")
            sys.exit(77)
        for engine in "io_uring", "threads":
            for kib in 4, 64, 256:
                share = quiet_share(program, folder, engine, kib * 1024, WAITS_MAX * control)
                verdict = "ok" if share <= WAITS_MAX * control else "WRONG"
                wrong += share > WAITS_MAX * control
                print(f"{verdict}: --aio={engine}, {kib} KiB reads: {share:.1%}")
    sys.exit(1 if wrong else 0)


main()
