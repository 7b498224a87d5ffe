# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# What guests do, one function a case. They stop at the first command that fails.

# No more than a boot.
case_probe() {
    :
}

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

# The guest's end of slirp's network; the host is 10.0.2.2.
network_up() {
    ip link set lo up
    ip addr add 10.0.2.15/24 dev eth0
    ip link set eth0 up
}

# connect PORT CONNECTIONS: /dev/nbd0 to the server on the host's loopback.
connect() {
    nbd-client 10.0.2.2 "$1" /dev/nbd0 -C "$2" -N ""
}

disconnect() {
    nbd-client -d /dev/nbd0
}

# The guest kernel's own client, twice: what the first connection wrote, the second reads.
case_nbd_client() { # PORT CONNECTIONS ext4|xfs
    network_up
    connect "$1" "$2"
    [ "$(cat /sys/block/nbd0/queue/write_cache)" = "write back" ]
    [ "$(cat /sys/block/nbd0/queue/fua)" = 1 ]
    [ "$(cat /sys/block/nbd0/queue/discard_max_bytes)" -gt 0 ]
    [ "$(ls /sys/block/nbd0/mq | wc -l)" = "$2" ]
    # Established (01) to that port, in hexadecimal.
    [ "$(grep -c ":$(printf %04X "$1") 01 " /proc/net/tcp)" = "$2" ]
    file_system_round "$3" /dev/nbd0 /mnt
    disconnect
    [ "$(cat /sys/block/nbd0/size)" = 0 ]
    connect "$1" "$2"
    mount -t "$3" /dev/nbd0 /mnt
    same_files /mnt
    umount /mnt
    check_fs "$3" /dev/nbd0
    disconnect
}

# What fio writes at random is what it reads.
verify_random() { # DEVICE SEED
    fio --thread --name=random --filename="$1" --offset=64M --size=24M --rw=randrw --bsrange=4k-64k \
        --ioengine=libaio --direct=1 --iodepth=16 --verify=crc32c --fsync=64 --randseed="$2" \
        --randrepeat=0
}

# A disk of the machine: what fio writes is what it reads, and a file system's life.
case_disk() { # DEVICE ext4|xfs SEED
    queue=/sys/block/${1#/dev/}/queue
    [ "$(cat "$queue/write_cache")" = "write back" ]
    [ "$(cat "$queue/discard_max_bytes")" -gt 0 ]
    verify_random "$1" "$3"
    fio --thread --name=many --filename="$1" --offset=128M --size=8M --offset_increment=8M --numjobs=3 \
        --rw=write --bs=4k --ioengine=libaio --direct=1 --iodepth=8 --verify=sha256 --do_verify=1
    say "fio verified"
    file_system_round "$2" "$1" /mnt
}

# What a disk by vhost-user has, before and after its driver was taken away and given back.
same_vhost_disk() { # DEVICE QUEUES
    disk=/sys/block/${1#/dev/}
    [ "$(cat "$disk/serial")" = platter-vhost-user ]
    [ "$(ls "$disk/mq" | wc -l)" = "$2" ]
    # Each processor writes and reads by its own queue, whose interrupts are counted.
    for cpu in $(seq 0 $(($2 - 1))); do
        before=$(interrupts "$cpu")
        taskset -c "$cpu" dd if=/dev/zero of="$1" bs=64k count=16 seek=$((cpu * 16)) oflag=direct conv=notrunc
        taskset -c "$cpu" dd if="$1" of=/dev/null bs=64k count=16 skip=$((cpu * 16)) iflag=direct
        [ "$(interrupts "$cpu")" -gt "$before" ]
    done
}

interrupts() { # QUEUE: how many it has had, on any processor
    awk -v queue="virtio0-req.$1" '$NF == queue { for (i = 2; $i ~ /^[0-9]+$/; i++) sum += $i } END { print sum + 0 }' \
        /proc/interrupts
}

# A disk by vhost-user: the same as any, its write cache, and a reset of the device. The driver is taken away
# under a load, for which requests in flight are waited.
case_vhost_user() { # DEVICE ext4|xfs SEED QUEUES
    same_vhost_disk "$1" "$4"
    case_disk "$1" "$2" "$3"
    echo "write through" >"/sys/block/${1#/dev/}/cache_type"
    [ "$(cat "/sys/block/${1#/dev/}/queue/write_cache")" = "write through" ]
    dd if="$1" of=/dev/null bs=4k count=20000 iflag=direct 2>/run/reader &
    echo virtio0 >/sys/bus/virtio/drivers/virtio_blk/unbind
    wait
    [ ! -e "/sys/block/${1#/dev/}" ]
    echo virtio0 >/sys/bus/virtio/drivers/virtio_blk/bind
    # The machine keeps what was written into the configuration, over a reset.
    [ "$(cat "/sys/block/${1#/dev/}/queue/write_cache")" = "write through" ]
    echo "write back" >"/sys/block/${1#/dev/}/cache_type"
    say "bound again"
    mount -t "$2" "$1" /mnt # what was there before the reset
    same_files /mnt
    umount /mnt
    same_vhost_disk "$1" "$4"
    verify_random "$1" "$3"
}

# Twice the same machine: the first time it resets itself in the middle of a load.
case_reboot() { # DEVICE
    if same_piece "$1" 500; then
        say "booted again"
        mount -t ext4 "$1" /mnt # the journal is replayed
        umount /mnt
        check_fs ext4 "$1"
        mount -t ext4 "$1" /mnt
        same_files /mnt
        umount /mnt
        return
    fi
    # The file system ends before the mark.
    mke2fs -q -t ext4 -F "$1" 400M
    mount -t ext4 "$1" /mnt
    make_files /mnt 24
    sync
    write_piece "$1" 500
    fio --thread --name=load --directory=/mnt --size=64M --rw=randwrite --bsrange=4k-64k --ioengine=libaio \
        --direct=1 --iodepth=32 --fsync=32 --time_based --runtime=300 >/run/fio &
    until [ "$(awk '{ print $9 }' "/sys/block/${1#/dev/}/stat")" -gt 4 ]; do :; done
    say "reboots under a load"
    reboot -f
    sleep 60 # nothing more is done here
}

# Runs from the disk: files are made in the first boot and found in those that follow.
case_from_disk() { # first|later
    grep -q ' / ext4 rw' /proc/mounts
    grep -q '^rootfs / ' /proc/mounts && return 1
    if [ "$1" = first ]; then
        make_files /home 8
        sync
    else
        same_files /home
    fi
    mount -o remount,ro /
}

# A shell of its own hears the other side: "restarted" when the server was, "go" to end the load.
listen() { # WHAT TO DO AFTER A RESTART
    rm -f /run/told
    while read -r word <&3 && [ "$word" != go ]; do
        $1 || break
        say reconnected
    done
    touch /run/told
}

# One file after the other is written, fsynced and then told; around it are files that are made, renamed
# and removed without a sync, so that the journal has something to do.
load() { # DIRECTORY [COMMAND]; until the machine is cut, or "go" comes; what to do after "restarted"
    mkdir "$1" "$1/unsynced"
    fsync "$1"
    number=0
    listen "${2:-false}" &
    while [ ! -e /run/told ]; do
        number=$((number + 1))
        dd if=/dev/urandom of="$1/$number" bs=$((number * 7919 % 90000 + 1)) count=1 2>/dev/null
        for other in 1 2 3 4 5; do
            echo "$number" >"$1/unsynced/$number.$other"
            mv "$1/unsynced/$number.$other" "$1/unsynced/$other"
        done
        [ $((number % 7)) -ne 0 ] || rm -r "$1/unsynced" && mkdir -p "$1/unsynced"
        fsync "$1/$number"
        say "synced $1/$number $(sha256sum <"$1/$number" | cut -d' ' -f1)"
    done
}

# Says what is there: every file that the loads before this one have told of, if nothing went wrong.
recover() { # ext4|xfs DEVICE
    mount -t "$1" "$2" /mnt # the journal is replayed
    umount /mnt
    check_fs "$1" "$2"
    mount -t "$1" "$2" /mnt
    for file in /mnt/*/[0-9]*; do
        say "has $file $(sha256sum <"$file" | cut -d' ' -f1)"
    done
    say recovered
}

# first: a new file system; again: after a cut; last: after a cut, and no load; whole: first, and recovered
# in the same life.
case_load() { # DEVICE ext4|xfs NUMBER first|again|last|whole
    case $4 in
    first | whole)
        make_fs "$2" "$1"
        mount -t "$2" "$1" /mnt
        ;;
    *) recover "$2" "$1" ;;
    esac
    [ "$4" = last ] || load "/mnt/load$3"
    if [ "$4" = whole ]; then
        umount /mnt
        recover "$2" "$1"
    fi
    umount /mnt
}

# For a trace: a file system with a journal from its making to its trim.
case_mkfs() { # DEVICE
    make_fs ext4 "$1"
    mount -t ext4 "$1" /mnt
    make_files /mnt 4
    for number in $(seq 20); do
        mkdir "/mnt/$number"
        echo "$number" >"/mnt/$number/file"
        fsync "/mnt/$number/file"
    done
    rm -r /mnt/1* /mnt/files/middle1
    sync
    fstrim /mnt
    drop_caches "$1"
    cat /mnt/files/* >/dev/null
    umount /mnt
    check_fs ext4 "$1"
}

# piece WHERE NUMBER: writes or compares 1 MiB that follows from its number, past the page cache.
PIECE=1048576
expected_piece() { # NUMBER
    yes "piece $1 of the disk" | head -c $PIECE
}

write_piece() { # DEVICE NUMBER
    expected_piece "$2" >/run/piece
    dd if=/run/piece of="$1" bs=$PIECE seek="$2" count=1 oflag=direct conv=notrunc,fsync
}

same_piece() { # DEVICE NUMBER
    expected_piece "$2" >/run/piece
    dd if="$1" bs=$PIECE skip="$2" count=1 iflag=direct | cmp - /run/piece
}

# The host's file system has no room for all of the disk.
case_full_disk() { # DEVICE
    number=0
    while write_piece "$1" "$number"; do
        number=$((number + 1))
        [ "$number" -lt 31 ]
    done
    [ "$number" -gt 4 ]
    # What was written before is as it was, also what is written anew in its old place.
    for old in $(seq 0 $((number - 1))); do same_piece "$1" "$old"; done
    write_piece "$1" 1
    ask full
    for next in $(seq "$number" 30); do write_piece "$1" "$next"; done
    for any in $(seq 0 30); do same_piece "$1" "$any"; done
}

# The same, but nothing may fail.
case_write_all() { # DEVICE
    say begins
    for number in $(seq 0 30); do write_piece "$1" "$number"; done
    for number in $(seq 0 30); do same_piece "$1" "$number"; done
}

must_fail() { # COMMAND...
    if "$@"; then return 1; fi
}

write_block() { # DEVICE NUMBER
    dd if=/run/block of="$1" bs=4096 seek="$2" count=1 oflag=direct conv=notrunc
}

read_block() { # DEVICE NUMBER
    dd if="$1" of=/run/read bs=4096 skip="$2" count=1 iflag=direct
}

# Block 2048 cannot be read, block 4096 cannot be written; their neighbours are as good as ever.
case_bad_sectors() { # DEVICE
    yes neighbours | head -c 4096 >/run/block
    for place in 2047 2048 2049 4095 4097; do write_block "$1" $place; done
    must_fail write_block "$1" 4096
    must_fail read_block "$1" 2048
    for place in 2047 2049 4095 4097; do
        read_block "$1" $place
        cmp /run/block /run/read
    done
}

# The second flush fails. Nobody knows what has become of what was written, so those that follow fail too.
case_failed_flush() { # DEVICE
    yes block | head -c 4096 >/run/block
    write_block "$1" 1
    fsync "$1"
    for place in 2 3; do
        write_block "$1" $place
        must_fail fsync "$1"
    done
    read_block "$1" 3
    cmp /run/block /run/read
}

# The server is killed and started again under the load; each time the other side says so, the device gets
# new connections. Requests wait meanwhile.
case_nbd_restarts() { # PORT CONNECTIONS ext4|xfs
    network_up
    /inside/nbd_link connect 0 10.0.2.2 "$1" "$2" 120
    make_fs "$3" /dev/nbd0
    mount -t "$3" /dev/nbd0 /mnt
    load /mnt/load "/inside/nbd_link reconnect 0 10.0.2.2 $1 $2"
    umount /mnt
    recover "$3" /dev/nbd0
    umount /mnt
    disconnect
}
