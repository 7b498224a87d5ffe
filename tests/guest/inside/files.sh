# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# File systems and files, as both the guests and the test without a guest use them. Callers set -e.

# What coreutils calls sync: one file.
fsync() { # FILE
    /bin/sync "$1"
}

# make_fs ext4|xfs DEVICE
make_fs() {
    case $1 in
    ext4) mke2fs -q -t ext4 -F "$2" ;;
    xfs) mkfs.xfs -q -f "$2" ;;
    esac
}

# The file system is not mounted, and without a fault.
check_fs() { # ext4|xfs DEVICE
    case $1 in
    ext4) e2fsck -f -n "$2" ;;
    xfs) xfs_repair -n "$2" ;;
    esac
}

# make_files DIRECTORY MEBIBYTES: files of several sizes, that many MiB together, and their sums in a
# list beside them.
make_files() {
    mkdir -p "$1/files"
    dd if=/dev/urandom of="$1/files/large" bs=1048576 count=$(($2 / 2)) 2>/dev/null
    for number in $(seq $(($2 / 4))); do
        dd if=/dev/urandom of="$1/files/middle$number" bs=1048576 count=1 2>/dev/null
    done
    # Many small ones, and one with holes.
    for number in $(seq 40); do
        dd if=/dev/urandom of="$1/files/small$number" bs=$((number * 617)) count=1 2>/dev/null
    done
    dd if=/dev/urandom of="$1/files/holes" bs=65536 count=1 seek=30 2>/dev/null
    dd if=/dev/urandom of="$1/files/holes" bs=4096 count=3 seek=1000 conv=notrunc 2>/dev/null
    (cd "$1/files" && sha256sum -- *) >"$1/sums"
}

same_files() { # DIRECTORY
    [ -s "$1/sums" ]
    (cd "$1/files" && sha256sum -c "$1/sums") >/dev/null
}

# file_system_round KIND DEVICE DIRECTORY: a file system's life on a new disk of 512 MiB. More is written
# than what stays, and goes again; what is written when is told by `ask`, which the caller defines.
file_system_round() {
    make_fs "$1" "$2"
    mount -t "$1" "$2" "$3"
    make_files "$3" 24
    dd if=/dev/urandom of="$3/litter" bs=1048576 count=96 2>/dev/null
    sync
    ask "filled $1"
    rm "$3/litter"
    umount "$3"
    mount -t "$1" "$2" "$3" # xfs frees in the background, and trims nothing that is not free yet
    fstrim "$3"
    umount "$3"
    check_fs "$1" "$2"
    ask "trimmed $1"
    drop_caches "$2"
    mount -t "$1" "$2" "$3"
    same_files "$3"
    umount "$3"
}

# What is read next comes from the disk.
drop_caches() { # DEVICE
    blockdev --flushbufs "$1"
    echo 3 >/proc/sys/vm/drop_caches
}
