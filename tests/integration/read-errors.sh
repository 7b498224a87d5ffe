#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# --rerror over a disk that fails reads: report, stop and resume, ignore. The fault filter stands
# between the format and the file, so small reads and those that could be lent meet it.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-io
! is_stand_in || skip "the stand-in has no error policy"
random_file "$dir/random" 1048576
cp "$dir/random" "$dir/disk.img"

# start_faulty ONCE OPTIONS...: reads at 64 KiB fail, one or all.
start_faulty() {
    local once=$1
    shift
    : >"$log"
    start_server -t "$@" --image-opts "driver=raw,file.driver=fault,file.inject-error.0.iotype=read,\
file.inject-error.0.sector=128,file.inject-error.0.once=$once,file.inject-error.0.errno=5,\
file.file.driver=file,file.file.filename=$dir/disk.img"
}

wait_until_stopped() {
    local try
    for try in $(seq 300); do
        ! grep -q 'is stopped: a read failed' "$log" || return 0
        sleep 0.1
    done
    fail "it did not stop in $try tries"
}

for read in "64k 4k" "0 1M"; do
    start_faulty off
    refused qemu-io -f raw -c "read $read" "$uri"
    grep -q 'Input/output error' "$dir/refused.out" || fail "$(cat "$dir/refused.out")"
    stop_server
    ok "read $read: by default the client is told"

    start_faulty on --rerror=stop
    client qemu-io -f raw -c "read -v $read" "$uri" >"$dir/io.out" 2>&1 &
    client_pid=$!
    wait_until_stopped
    kill -0 "$client_pid" || fail "the client did not wait"
    kill -USR2 "$server_pid"
    wait "$client_pid" || fail "the read was not done again: $(tail -n 3 "$dir/io.out")"
    client qemu-io -f raw -c "read -v $read" "$uri" >"$dir/again.out" 2>&1
    stop_server
    cmp <(grep -v ops "$dir/io.out") <(grep -v ops "$dir/again.out") || fail "the bytes are not those of the disk"
    ok "read $read: stop holds it, SIGUSR2 does it again"

    start_faulty off --rerror=stop
    qemu-io -f raw -c "read $read" "$uri" >"$dir/io.out" 2>&1 &
    client_pid=$!
    wait_until_stopped
    stop_server
    wait "$client_pid" || true
    grep -qi 'failed' "$dir/io.out" || fail "$(cat "$dir/io.out")"
    ok "read $read: a server that stops lets go of it"

    start_faulty off --rerror=ignore
    client qemu-io -f raw -c "read $read" "$uri" >"$dir/io.out" 2>&1 || fail "$(cat "$dir/io.out")"
    ! grep -qi 'failed' "$dir/io.out" || fail "$(cat "$dir/io.out")"
    stop_server
    ok "read $read: ignore gives the client zeroes"
done
