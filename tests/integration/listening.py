# SPDX-License-Identifier: BSD-3-Clause
"""Waits for a server's UNIX socket.

That its file is there does not say that a client is let in: between bind() and listen() it is refused.
The kernel's list tells, and unlike a client that tries it does not count as one that came and left.
"""
import time

ACCEPTS = 1 << 16  # __SO_ACCEPTCON


def listens(path):
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as sockets:
        for line in sockets:
            fields = line.rstrip("\n").split(None, 7)
            if fields[-1] == path and int(fields[3], 16) & ACCEPTS:
                return True
    return False


def wait_for(path, process, seconds=60):
    """Whether it listens; not if the process ends before it does, or in all that time."""
    deadline = time.monotonic() + seconds
    while not listens(path):
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
