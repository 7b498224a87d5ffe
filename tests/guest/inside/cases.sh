# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# What guests do, one function a case. They stop at the first command that fails.

# The smallest: a disk that is written, read again, and given back.
case_smoke() { # DEVICE
    make_fs ext4 "$1"
    mount -t ext4 "$1" /mnt
    make_files /mnt 4
    umount /mnt
    drop_caches "$1"
    mount -t ext4 "$1" /mnt
    same_files /mnt
    umount /mnt
    check_fs ext4 "$1"
}
