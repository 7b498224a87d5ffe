#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# An image in use is refused: qemu's programs refuse what platter uses, and platter what they use.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io qemu-nbd
is_stand_in && skip "the stand-in lets two writers into one raw image"

random_file "$dir/disk.img" 1048576
qemu-img create -q -f qcow2 "$dir/disk.qcow2" 1M

# refused_because WORDS COMMAND...
refused_because() {
    local words=$1
    shift
    refused "$@"
    grep -qF -- "$words" "$dir/refused.out" || fail "'$*' says: $(cat "$dir/refused.out")"
}

# one_line WORDS: the last refusal is one sentence with these words.
platter_refuses() {
    local words=$1
    shift
    refused_because "$words" "$PLATTER" -k "$dir/never" "$@"
    [ "$(wc -l <"$dir/refused.out")" -eq 1 ] || fail "not one sentence: $(cat "$dir/refused.out")"
    [ ! -e "$dir/never" ] || fail "a refused server left a socket"
}

# --- platter writes ---
start_server -t -e 0 -f raw "$dir/disk.img"
writer=$server_pid
refused_because 'Failed to get' qemu-io -f raw -c 'write 0 512' "$dir/disk.img"
refused_because 'Failed to get' qemu-img convert -f raw -O raw "$dir/disk.img" "$dir/copy"
refused_because 'Failed to get' qemu-img resize -q -f raw "$dir/disk.img" 2M
refused_because 'Failed to get' qemu-img create -q -f raw "$dir/disk.img" 2M
refused_because 'Failed to get' timeout 10 qemu-nbd -k "$dir/never" -f raw "$dir/disk.img"
refused_because 'Failed to get' timeout 10 qemu-nbd -r -k "$dir/never" -f raw "$dir/disk.img"
rm -f "$dir/never"
platter_refuses "$dir/disk.img" -f raw "$dir/disk.img"
platter_refuses "(process $writer)" -f raw "$dir/disk.img"
platter_refuses "(process $writer)" -f raw -r "$dir/disk.img"
client qemu-img convert -U -f raw -O raw "$dir/disk.img" "$dir/copy"
same_bytes "$dir/disk.img" "$dir/copy"
client qemu-io -r -U -f raw -c 'read 0 512' "$dir/disk.img" >/dev/null
stop_server
ok "what platter writes is refused by qemu-img, qemu-io, qemu-nbd and platter, but for -U"

client qemu-io -f raw -c 'write 0 512' "$dir/disk.img" >/dev/null
ok "a server that has ended leaves no lock"

start_server -t -f raw "$dir/disk.qcow2"
refused_because 'Failed to get' qemu-img info "$dir/disk.qcow2"
client qemu-img info -U "$dir/disk.qcow2" >/dev/null
stop_server
ok "qemu-img info refuses a qcow2 image that platter writes, but for -U"

# --- platter reads ---
start_server -t -e 0 -r -f raw "$dir/disk.img"
start_server -t -e 0 -r -f raw "$dir/disk.img"
client qemu-img convert -f raw -O raw "$dir/disk.img" "$dir/copy"
client qemu-io -r -f raw -c 'read 0 512' "$dir/disk.img" >/dev/null
refused_because 'Failed to get' qemu-io -f raw -c 'write 0 512' "$dir/disk.img"
platter_refuses --read-only -f raw "$dir/disk.img"
platter_refuses "(process " -f raw "$dir/disk.img"
for server_pid in "${server_pids[@]: -2}"; do
    kill -TERM "$server_pid"
    wait_exit "$server_pid" 0
done
ok "two readers and qemu's readers get on with each other, and let no writer in"

# --- qemu uses it ---
# qemu_serves [OPTIONS] IMAGE
qemu_serves() {
    sock=$dir/s${#server_pids[@]}
    launch qemu-nbd -t -k "$sock" "$@"
    wait_ready "$sock"
}
qemu_serves -f raw "$dir/disk.img"
platter_refuses "qemu-nbd (process $server_pid)" -f raw "$dir/disk.img"
platter_refuses "qemu-nbd (process $server_pid)" -f raw -r "$dir/disk.img"
stop_server
qemu_serves -r -f raw "$dir/disk.img"
qemu=$server_pid
platter_refuses "qemu-nbd (process $server_pid)" -f raw "$dir/disk.img"
start_server -t -r -f raw "$dir/disk.img"
stop_server
kill -TERM "$qemu"
wait_exit "$qemu" 0
ok "what qemu-nbd uses is refused, and read beside it when it reads too"

# --- kill -9, under load ---
for cache in writeback none writeback none; do
    start_server -t -e 0 -f raw --cache=$cache "$dir/disk.img"
    timeout 30 qemu-io -f raw -c 'aio_write -P 7 0 1M' -c 'aio_read 0 1M' -c 'sleep 200' "$uri" >/dev/null 2>&1 &
    writes=$!
    sleep 0.1
    kill -KILL "$server_pid"
    wait "$server_pid" || true
    rm -f "$sock"
    start_server -t -e 0 -f raw "$dir/disk.img"
    wait "$writes" || true
    stop_server
done
ok "a killed server leaves no lock"
