#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter delay through real clients: above a format and below it, side by side on one connection.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-io nbdcopy openssl
! is_stand_in || skip "the stand-in has no such filter"

random_file "$dir/disk.img" 1048576

# takes MS COMMANDS...: qemu-io with these commands takes at least so long; it sets took_ms.
takes() {
    local least_ms=$1 begin
    shift
    begin=$(date +%s%N)
    client qemu-io -f raw "$uri" "$@" >"$dir/io.out" || fail "$*: $(cat "$dir/io.out")"
    took_ms=$((($(date +%s%N) - begin) / 1000000))
    [ $took_ms -ge "$least_ms" ] || fail "$* took $took_ms ms, not $least_ms"
}

file=driver=raw,file.file.filename=$dir/disk.img
start_server -t -e 0 --image-opts "driver=delay,rdelay=200ms,wdelay=300ms,fdelay=100ms,file.$file"
client nbdcopy "$uri" "$dir/copy"
same_bytes "$dir/copy" "$dir/disk.img"
takes 200 -c 'read 0 4k'
takes 400 -c 'write -P 9 4096 4k' -c flush
takes 600 -c 'read -P 9 4096 4k' -c 'read 0 64k' -c 'read 0 512k'
stop_server
ok "reads, writes and flushes wait"

start_server -t -e 0 --image-opts \
    "driver=raw,file.driver=delay,file.delay-read=500ms,file.file.filename=$dir/disk.img"
reads=()
for i in $(seq 0 19); do reads+=(-c "aio_read $((i * 4))k 4k"); done
takes 500 "${reads[@]}" -c aio_flush
[ $took_ms -lt 9000 ] || fail "20 reads of 500 ms took $took_ms ms: one after the other"
stop_server
ok "requests wait side by side, also below a format"

start_server -t -e 0 --image-opts "driver=delay,rdelay=100ms,file.filename=$dir/disk.img"
takes 100 -c 'read 0 4k'
printf 'QFI\373' >"$dir/magic"
refused qemu-io -f raw "$uri" -c "write -s $dir/magic 0 512"
stop_server
ok "an image below it is probed, and its head is guarded"
refused "$PLATTER" -k "$dir/never" -f delay "$dir/disk.img"
grep -q "'delay' is not supported; supported formats: raw" "$dir/refused.out" ||
    fail "$(cat "$dir/refused.out")"
ok "it is no format"
