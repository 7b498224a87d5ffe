#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A disk that fails, seen by the kernel itself: the image lies on a FUSE file whose reads and writes
# nbdkit fails on demand. Every engine must hand each error to the client that asked, name it, lose
# nothing that was answered before, and go on when the disk does.
# Usage: disk-errors.sh [OPTIONS OF THE SERVER]
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-io nbdkit nbdfuse umount
[ -e /dev/fuse ] || skip "this machine has no FUSE"
[ "$(id -u)" -eq 0 ] || skip "mounting needs root"
seed=${SEED:-$RANDOM}
echo "SEED=$seed"
RANDOM=$seed

unmount_all() {
    umount "$dir"/disk* 2>/dev/null || true
}

# mount_disk ERROR RATE: $disk fails with it while $dir/bad-reads, $dir/bad-writes exist.
mount_disk() {
    local number=${#server_pids[@]}
    disk=$dir/disk$number
    : >"$disk"
    nbdfuse "$disk" "[" nbdkit --exit-with-parent --filter=error memory 16M "error=$1" \
        "error-pread-rate=$2" "error-pread-file=$dir/bad-reads" \
        "error-pwrite-rate=$2" "error-pwrite-file=$dir/bad-writes" \
        "error-zero-rate=$2" "error-zero-file=$dir/bad-writes" "]" >"$dir/nbdfuse.log" 2>&1 &
    server_pids+=("$!")
    fuse_pid=$!
    local try
    for try in $(seq 100); do
        [ "$(stat -c %s "$disk")" -eq 0 ] || return 0
        sleep 0.1
    done
    echo "try $try"
    cat "$dir/nbdfuse.log"
    skip "nbdfuse cannot mount here"
}

unmount_disk() {
    stop_server
    umount "$disk"
    wait "$fuse_pid" || true
}

# io COMMAND: prints what qemu-io said; each is a client of its own.
io() {
    client qemu-io -f raw --cache=writeback -c "$1" "$uri" 2>&1 || true
}

must_fail() { # COMMAND SENTENCE
    local said
    said=$(io "$1")
    grep -q "$2" <<<"$said" || fail "$1 on a bad disk: $said"
}

must_do() { # COMMAND
    local said
    said=$(io "$1")
    ! grep -qiE 'fail|error' <<<"$said" || fail "$1 on a good disk: $said"
}

for pair in "EIO:Input/output error" "ENOSPC:No space left on device"; do
    mount_disk "${pair%%:*}" 100%
    start_server -t -f raw "$@" "$disk"
    must_do "write -P 7 1M 1M"
    must_do "flush"
    touch "$dir/bad-writes"
    must_fail "write -P 8 1M 64k" "${pair#*:}"
    must_fail "write -P 8 4M 4k" "${pair#*:}"
    must_fail "write -f -P 8 4M 1M" "${pair#*:}"
    rm "$dir/bad-writes"
    must_do "write -P 9 1M 64k"
    must_do "read -P 9 1M 64k"
    must_do "read -P 7 1088k 960k"
    # EIO, whatever the disk called it, may be what NBD has for the reading client.
    touch "$dir/bad-reads"
    must_fail "read 8M 4k" "read failed" # a place that is in no cache
    must_fail "read 12M 1M" "read failed"
    rm "$dir/bad-reads"
    must_do "read -P 0 8M 4k"
    must_do "read -P 0 12M 1M"
    must_do "read -P 7 1088k 960k"
    alive || fail "the server is gone"
    unmount_disk
    ok "${pair%%:*} reaches the client, and the next request is served"
done

# A third of all transfers fail: what was answered well is there, the rest is old or new, as told.
mount_disk EIO 33%
start_server -t -f raw "$@" "$disk"
declare -A holds=() # 64 KiB block -> its byte; "-": not known
errors=0
touch "$dir/bad-reads" "$dir/bad-writes"
for _ in $(seq 60); do
    block=$((RANDOM % 16))
    if [ $((RANDOM % 2)) -eq 0 ]; then
        byte=$((RANDOM % 255 + 1))
        said=$(io "write -P $byte $((block * 64))k 64k")
        if grep -qi failed <<<"$said"; then
            holds[$block]=- && errors=$((errors + 1))
        else
            holds[$block]=$byte
        fi
    elif [ "${holds[$block]:-0}" != - ]; then
        said=$(io "read -P ${holds[$block]:-0} $((block * 64))k 64k")
        ! grep -qi "verification failed" <<<"$said" || fail "block $block holds other bytes: $said"
        ! grep -qi "read failed" <<<"$said" || errors=$((errors + 1))
    fi
done
rm "$dir/bad-reads" "$dir/bad-writes"
[ "$errors" -gt 0 ] || fail "no transfer failed: the test shows nothing"
for block in "${!holds[@]}"; do
    [ "${holds[$block]}" = - ] || must_do "read -P ${holds[$block]} $((block * 64))k 64k"
done
unmount_disk
ok "$errors of 60 requests failed, and every byte of the others is there"
