#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The driver host_device on real loop devices: what clients write, zero and discard is in the file
# behind the device, and what cannot be served is refused.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-io nbdinfo losetup blockdev openssl
is_stand_in && skip "the stand-in words its refusals otherwise"
[ "$(id -u)" -eq 0 ] || skip "loop devices need root"
[ -e /dev/loop-control ] || skip "this machine has no loop devices"

# The servers end before their devices are taken down.
loops=()
end_all() {
    local status=$? pid loop
    set +e
    for pid in "${server_pids[@]}"; do
        kill -KILL "$pid" 2>/dev/null
    done
    wait 2>/dev/null
    for loop in "${loops[@]}"; do
        timeout 10 losetup -d "$loop" 2>/dev/null
    done
    (exit "$status")
    cleanup
}
trap end_all EXIT

# attach FILE OPTIONS...: sets loop.
attach() {
    local file=$1
    shift
    loop=$(timeout 10 losetup -f --show "$@" "$file" 2>"$dir/losetup.err") ||
        skip "no loop device can be had: $(cat "$dir/losetup.err")"
    loops+=("$loop")
}

# what the device holds, past every cache of the device itself
same_as_file() {
    timeout 20 blockdev --flushbufs "$loop"
    sync "$1"
    same_bytes "$1" "$2"
}

random_file "$dir/old" 16777216
cp "$dir/old" "$dir/disk"
cp "$dir/old" "$dir/wanted"
attach "$dir/disk"

# --- written, zeroed, discarded ----------------------------------------------------------------

start_server -t -f raw --discard=unmap "$loop"
[ "$(client nbdinfo --size "$uri")" -eq 16777216 ] || fail "the size is wrong"
ok "a path alone is opened by host_device, with the device's size"

client qemu-io -f raw -d unmap -c 'write -P 0xa5 1M 1M' -c 'write -P 0x5a 700 5' \
    -c 'write -z 4M 1M' -c 'write -z -u 6M 1M' -c 'write -z 11000001 77777' \
    -c 'discard 8M 1M' -c flush "$uri" >"$dir/io.out" || fail "qemu-io: $(cat "$dir/io.out")"
client qemu-io -f raw -c 'write -P 0xa5 1M 1M' -c 'write -P 0x5a 700 5' -c 'write -z 4M 1M' \
    -c 'write -z 6M 1M' -c 'write -z 11000001 77777' "$dir/wanted" >/dev/null
client qemu-io -f raw -c 'read -P 0xa5 1M 1M' -c 'read -P 0x5a 700 5' -c 'read -P 0 4M 1M' \
    -c 'read -P 0 6M 1M' -c 'read -P 0 11000001 77777' "$uri" >"$dir/io.out" || fail "$(cat "$dir/io.out")"
! grep -q 'Pattern verification failed' "$dir/io.out" || fail "$(cat "$dir/io.out")"
timeout 20 blockdev --flushbufs "$loop"
# what a discard leaves is the device's own affair: not compared
dd if="$dir/disk" of="$dir/wanted" bs=1M skip=8 seek=8 count=1 conv=notrunc status=none
same_as_file "$dir/disk" "$dir/wanted"
ok "writes and zeroes of any range are in the file behind the device"

client nbdinfo --map "$uri" >"$dir/map"
awk '{sum += $2; if ($3 != 0) bad = 1} END {exit !(sum == 16777216 && !bad)}' "$dir/map" ||
    fail "a device is not all data: $(cat "$dir/map")"
ok "all of a device is data"
client nbdcopy "$uri" "$dir/copy" 2>/dev/null || client qemu-img convert -f raw -O raw "$uri" "$dir/copy"
same_bytes "$dir/copy" "$dir/wanted"
ok "a copy has every byte"
refused "$PLATTER" -f raw -k "$dir/second" "$loop"
grep -q "in use" "$dir/refused.out" || fail "$(cat "$dir/refused.out")"
ok "a device that is written is refused to a second server"
stop_server

# --- discards ------------------------------------------------------------------------------------

# space_after_discard OPTIONS...: KiB of the file once 8 MiB of the device were discarded.
space_after_discard() {
    cp "$dir/old" "$dir/disk.new"
    dd if="$dir/disk.new" of="$loop" bs=1M conv=fsync status=none
    start_server -t -f raw "$@" "$loop"
    client qemu-io -f raw -d unmap -c 'discard 4M 8M' -c flush "$uri" >"$dir/io.out" ||
        fail "discard: $(cat "$dir/io.out")"
    stop_server
    timeout 20 blockdev --flushbufs "$loop"
    sync "$dir/disk"
    space=$(allocated_bytes "$dir/disk")
}
max=$(cat "/sys/block/$(basename "$loop")/queue/discard_max_bytes" 2>/dev/null || echo 0)
space_after_discard
[ "$space" -ge 16000000 ] || fail "a discard that nobody allowed freed space: $space bytes are left"
ok "--discard=ignore, the default, keeps blocks"
if [ "$max" -gt 0 ]; then
    space_after_discard --discard=unmap
    [ "$space" -le 9000000 ] || fail "--discard=unmap freed too little: $space bytes are left"
    ok "--discard=unmap frees them"
fi

# --- refused -------------------------------------------------------------------------------------

refused "$PLATTER" --image-opts -k "$dir/second" "driver=raw,file.driver=file,file.filename=$loop"
grep -q "driver=host_device" "$dir/refused.out" || fail "$(cat "$dir/refused.out")"
ok "the driver file refuses a device and says which driver to name"
refused "$PLATTER" --image-opts -k "$dir/second" "driver=raw,file.driver=host_device,file.filename=$dir/disk"
grep -q "not a block device" "$dir/refused.out" || fail "$(cat "$dir/refused.out")"
refused "$PLATTER" -f raw -k "$dir/second" /dev/null
refused "$PLATTER" -f raw -k "$dir/second" /dev
ok "host_device refuses a file; characters and folders are refused"

attach "$dir/old" -r
refused "$PLATTER" -f raw -k "$dir/second" "$loop"
grep -q -- "--read-only" "$dir/refused.out" || fail "$(cat "$dir/refused.out")"
start_server -t -f raw --read-only "$loop"
client nbdcopy "$uri" "$dir/copy" 2>/dev/null || client qemu-img convert -f raw -O raw "$uri" "$dir/copy"
same_bytes "$dir/copy" "$dir/old"
stop_server
ok "a read-only device is served with --read-only alone"

# --- blocks of 4096 bytes ------------------------------------------------------------------------

cp "$dir/old" "$dir/disk4k"
cp "$dir/old" "$dir/wanted"
attach "$dir/disk4k" -b 4096
for cache in none writeback; do
    start_server -t -f raw --cache=$cache --discard=unmap "$loop"
    client qemu-io -f raw -d unmap -c 'write -P 1 512 512' -c 'write -P 2 4000 200' \
        -c 'write -P 3 1M 1M' -c 'write -z 2150000 10000' -c 'write -z -u 3M 100001' \
        -c 'discard 8000000 10' -c flush "$uri" >"$dir/io.out" || fail "4096, $cache: $(cat "$dir/io.out")"
    client qemu-io -f raw -c 'read -P 1 512 512' -c 'read -P 2 4000 200' -c 'read -P 3 1M 1M' \
        -c 'read -P 0 2150000 10000' -c 'read -P 0 3M 100001' "$uri" >"$dir/io.out" || fail "$cache: $(cat "$dir/io.out")"
    ! grep -q 'Pattern verification failed' "$dir/io.out" || fail "$(cat "$dir/io.out")"
    stop_server
done
client qemu-io -f raw -c 'write -P 1 512 512' -c 'write -P 2 4000 200' -c 'write -P 3 1M 1M' \
    -c 'write -z 2150000 10000' -c 'write -z 3M 100001' "$dir/wanted" >/dev/null
same_as_file "$dir/disk4k" "$dir/wanted"
ok "blocks of 4096 bytes take any range, with --cache=none too"

# --- a device that goes --------------------------------------------------------------------------

cp "$dir/old" "$dir/shrinks"
attach "$dir/shrinks"
start_server -t -f raw "$loop"
truncate -s 8M "$dir/shrinks"
timeout 10 losetup -c "$loop"
refused qemu-io -f raw -c 'read 12M 64k' "$uri"
client qemu-io -f raw -c 'read 4M 64k' "$uri" >"$dir/io.out"
grep -q '^read 65536' "$dir/io.out" || fail "what is left cannot be read: $(cat "$dir/io.out")"
alive || fail "the server ended"
stop_server
grep -q "smaller" "$log" || fail "the log says nothing of a device that has become smaller"
ok "reads behind the end of a device that shrank fail, and the rest is served"
