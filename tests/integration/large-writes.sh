#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Large writes, which go from the socket to the file by splice(2): the bytes are right over each kind
# of socket, at odd places, and where such a write may not be made.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need nbdcopy qemu-io strace
! is_stand_in || skip "the stand-in copies"

size=$((16 * 1048576 + 4711))
random_file "$dir/random" "$size"

# copy_in NAME: everything by writes of 256 KiB; then the image is what was written.
copy_in() {
    client nbdcopy --request-size=262144 --connections=1 --threads=1 --flush "$dir/random" "$uri"
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

# The way is taken: else the above shows little. Not by each write: one is copied when the file was slow before it.
truncate -s 0 "$dir/disk.img" && truncate -s "$size" "$dir/disk.img"
sock=$dir/traced uri="nbd+unix:///?socket=$dir/traced"
launch env "$no_leak_check" strace -f -qq -e trace=splice -o "$dir/trace" \
    "$PLATTER" -t -e 0 -f raw -k "$sock" "$dir/disk.img"
wait_ready "$sock"
spliced=0
for ((i = 0; i < 20 && spliced < 4; i++)); do
    sleep 0.2 # who was there less than 0.1 s ago counts as another client, and then it copies
    client nbdcopy --request-size=262144 --connections=1 --threads=1 --flush "$dir/random" "$uri"
    spliced=$(grep -c ' splice(.*) = [1-9]' "$dir/trace" || true)
done
pkill -TERM -P "$server_pid" || true
"$HELPERS/wait_server" gone "$server_pid" "$limit_s" || fail "the traced server does not end"
same_bytes "$dir/random" "$dir/disk.img"
[ "$spliced" -ge 4 ] || fail "no splice: $(head -3 "$dir/trace")"
ok "by splice"

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
