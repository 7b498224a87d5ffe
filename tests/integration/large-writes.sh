#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Large writes, which are made in pieces where the loop makes them: the bytes are right over each kind
# of socket, at odd places, and where such a write may not be made.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need nbdcopy qemu-io

size=$((16 * 1048576 + 4711))
random_file "$dir/random" "$size"

# copy_in NAME [SIZE]: everything by writes of SIZE bytes (256 KiB); then the image is what was written.
copy_in() {
    client nbdcopy --request-size="${2:-262144}" --connections=1 --threads=1 --flush "$dir/random" "$uri"
    stop_server
    same_bytes "$dir/random" "$dir/disk.img"
    ok "copied in: $1"
}

truncate -s "$size" "$dir/disk.img"
start_server -t -f raw "$dir/disk.img"
copy_in "over a UNIX socket"
truncate -s 0 "$dir/disk.img" && truncate -s "$size" "$dir/disk.img"
start_tcp_server 127.0.0.1 -t -f raw "$dir/disk.img"
copy_in "over TCP"
for option in --cache=writethrough --detect-zeroes=on --aio=threads; do
    truncate -s 0 "$dir/disk.img" && truncate -s "$size" "$dir/disk.img"
    start_server -t -f raw "$option" "$dir/disk.img"
    copy_in "with $option"
done

options=(--aio=io_uring --aio=threads)
truncate -s 4096 "$dir/direct"
if dd if=/dev/zero of="$dir/direct" bs=4096 count=1 oflag=direct conv=notrunc status=none 2>/dev/null; then
    options+=(--cache=none)
fi
for option in "${options[@]}"; do
    truncate -s 0 "$dir/disk.img" && truncate -s "$size" "$dir/disk.img"
    start_server -t -f raw "$option" "$dir/disk.img"
    copy_in "4 MiB at a time with $option" 4194304
done

# Behind an odd offset of the file, and at odd places of the export; several in a row on one connection.
truncate -s 8M "$dir/disk.img"
start_server -t --image-opts "driver=raw,offset=1234567,size=4194304,file.driver=file,file.filename=$dir/disk.img"
client qemu-io -t writeback -f raw "$uri" -c "write -P 1 0 1M" -c "write -P 2 100001 300003" \
    -c "write -P 3 300000 2000001" -c "write -P 4 3000001 1194303" \
    -c "read -P 1 0 100001" -c "read -P 2 100001 199999" -c "read -P 3 300000 2000001" \
    -c "read -P 4 3000001 1194303" >"$dir/out" 2>&1 || fail "odd places: $(cat "$dir/out")"
! grep -q 'Pattern verification failed' "$dir/out" || fail "odd places: $(cat "$dir/out")"
stop_server
ok "odd places behind an odd offset"

# Where nobody said -f raw, the head is guarded from large writes too, also after others.
{ printf 'QFI\373' && head -c 131068 /dev/zero; } >"$dir/head"
truncate -s 0 "$dir/disk.img" && truncate -s 2M "$dir/disk.img"
start_server -t "$dir/disk.img"
client qemu-io -t writeback -f raw "$uri" -c "write -P 5 1M 256k" -c "write -P 6 1M 256k" \
    -c "write -s $dir/head 0 128k" >"$dir/out" 2>&1 && fail "a head was written: $(cat "$dir/out")"
grep -q 'Operation not permitted' "$dir/out" || fail "not EPERM: $(cat "$dir/out")"
stop_server
ok "a guarded head"
