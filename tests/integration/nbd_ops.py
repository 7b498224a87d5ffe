#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Sends the commands that a word spells, one after the other, and waits for each reply.

usage: nbd_ops.py SOCKET WORD

  r read   w write   z write zeroes   t trim   f flush; W, Z and T with FUA
  c client leaves without a word (else it disconnects)

Each is 4 KiB, at an offset of its own kind. Exit status 1 when a reply is an error.
"""
import socket
import struct
import sys

BLOCK = 4096
MAGIC, OPTION_MAGIC = 0x4E42444D41474943, 0x49484156454F5054
REQUEST_MAGIC, REPLY_MAGIC = 0x25609513, 0x67446698
EXPORT_NAME, FIXED_NEWSTYLE_NO_ZEROES = 1, 3
FUA = 1
COMMANDS = {"r": (0, 0), "w": (1, 0), "f": (3, None), "t": (4, 64 * BLOCK), "z": (6, 32 * BLOCK)}


def receive(peer, length):
    data = b""
    while len(data) < length:
        more = peer.recv(length - len(data))
        if not more:
            sys.exit("the server hangs up")
        data += more
    return data


def connect(path):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(path)
    magic, option_magic, _ = struct.unpack(">QQH", receive(peer, 18))
    assert (magic, option_magic) == (MAGIC, OPTION_MAGIC)
    peer.sendall(struct.pack(">IQII", FIXED_NEWSTYLE_NO_ZEROES, OPTION_MAGIC, EXPORT_NAME, 0))
    receive(peer, 10)
    return peer


def run(peer, letter, cookie):
    command, offset = COMMANDS[letter.lower()]
    flags = FUA if letter.isupper() else 0
    length = 0 if offset is None else BLOCK
    payload = bytes([cookie % 255 + 1]) * BLOCK if command == 1 else b""
    peer.sendall(struct.pack(">IHHQQI", REQUEST_MAGIC, flags, command, cookie, offset or 0, length)
                 + payload)
    magic, error, answered = struct.unpack(">IIQ", receive(peer, 16))
    assert (magic, answered) == (REPLY_MAGIC, cookie)
    if error:
        sys.exit(f"{letter}: error {error}")
    if command == 0:
        receive(peer, length)


def main():
    path, word = sys.argv[1:]
    peer = connect(path)
    for cookie, letter in enumerate(word):
        if letter == "c":
            break
        run(peer, letter, cookie)
    else:
        peer.sendall(struct.pack(">IHHQQI", REQUEST_MAGIC, 0, 2, 0, 0, 0))
    peer.close()


if __name__ == "__main__":
    main()
