# SPDX-License-Identifier: BSD-3-Clause
"""The images that tests/bench/run measures with: what is in them, and how the page cache has them."""

import errno
import os

MIB = 1 << 20
IMAGE_BYTES = 1024 * MIB
SPARSE_BYTES = 2048 * MIB


def fill_read(path, _fill_bytes):
    """For reads, in the page cache as the kernel reads a file in: in folios of its choice, which
    settle() sees to."""
    fill(path, MIB)
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def fill_written(path, fill_bytes):
    """For writes. Large folios make small writes dear, since ext4 looks at every block of a folio for
    each write into it: a 4 KiB pwrite takes 2.6 us when writes of 4 KiB filled the image, 18 us and
    more when writes of 1 MiB did, or the kernel's readahead, and then says little of a server. So
    the folios are small unless --fill-kib says otherwise, and the result says which they were."""
    fill(path, fill_bytes)


def fill_sparse(path, _fill_bytes):
    """A quarter of each MiB is data, the rest a hole."""
    data = os.urandom(MIB // 4)
    with open(path, "wb", buffering=0) as image:
        image.truncate(SPARSE_BYTES)
        for i in range(SPARSE_BYTES // MIB):
            os.pwrite(image.fileno(), data, i * MIB)
        os.fsync(image.fileno())


FILL = {"read": fill_read, "written": fill_written, "sparse": fill_sparse}


def fill(path, block_bytes):
    with open(path, "wb", buffering=0) as image:
        for _ in range(IMAGE_BYTES // MIB):
            data = os.urandom(MIB)
            for at in range(0, MIB, block_bytes):
                image.write(data[at:at + block_bytes])
        os.fsync(image.fileno())


def make(kinds, folder, fill_bytes):
    """Returns the path of each."""
    paths = {kind: os.path.join(folder, kind) for kind in kinds}
    for kind, path in paths.items():
        FILL[kind](path, fill_bytes)
    return paths


def settle(path):
    """What the last server wrote is on the disk before the next is measured, and all of the image is
    in memory. What was there may not be any more: where a server has opened it without the page
    cache, or the kernel gives back what is idle (DAMON, a balloon). A page in a hundred that is
    missing is a tenth of the speed, of one server more than of another."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    piece = memoryview(bytearray(MIB))
    for begin, end in data_of(fd):
        for at in range(begin, end, MIB):
            os.preadv(fd, [piece[:end - at]], at)
    os.close(fd)


def data_of(fd):
    """Where a file is no hole: to read those would take memory."""
    end = 0
    while True:
        try:
            begin = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        end = os.lseek(fd, begin, os.SEEK_HOLE)
        yield begin, end
