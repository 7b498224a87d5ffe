#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# --werror on a file system that is full: report, stop and resume, ignore, and an end while stopped.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-io python3 unshare mount
! is_stand_in || skip "the stand-in has no error policy"
unshare -m mount -t tmpfs -o size=1M none /mnt 2>/dev/null || skip "no file system can be mounted here"

stats=$dir/stats.json
mkdir "$dir/full"

# start_full OPTIONS...: an image of 8 MiB where there is room for some, and a filler takes most of it.
start_full() {
    sock=$dir/s${#server_pids[@]}
    uri="nbd+unix:///?socket=$sock"
    rm -f "$stats"
    # shellcheck disable=SC2016 # the inner shell expands them
    launch unshare -m bash -c 'mount -t tmpfs -o size=3M none "$0" && truncate -s 8M "$0/disk.img" &&
        head -c 2500K /dev/zero >"$0/filler" && shift && exec "$@" "$0/disk.img"' \
        "$dir/full" - "$PLATTER" -t -e 0 -f raw -k "$sock" --stats="$stats" "$@"
    wait_ready "$sock"
}

free_space() {
    rm "/proc/$server_pid/root$dir/full/filler"
}

wait_for_log() {
    local try
    for try in $(seq 300); do
        ! grep -q "$1" "$log" || return 0
        sleep 0.1
    done
    fail "no '$1' in the log after $try tries"
}

write_io() {
    client qemu-io -t writeback -f raw -c 'write -P 7 0 2M' -c 'read -P 7 0 2M' "$uri" >"$dir/io.out" 2>&1
}

start_full
refused qemu-io -t writeback -f raw -c 'write -P 7 0 2M' "$uri"
grep -q 'No space left' "$dir/refused.out" || fail "$(cat "$dir/refused.out")"
stop_server
ok "by default the client is told"

: >"$log"
start_full --werror=enospc
write_io &
client_pid=$!
wait_for_log 'is stopped: a write failed: No space left on device'
kill -USR1 "$server_pid"
for _ in $(seq 200); do
    [ ! -e "$stats" ] || break
    sleep 0.1
done
python3 -c 'import json, sys
s = json.load(open(sys.argv[1]))["exports"][0]["error_policy"]
assert s["stopped"]["errno"] == 28 and s["stopped"]["held_requests"] == 1, s
assert s["werror"] == "enospc" and s["rerror"] == "report" and s["stops"] == 1, s' "$stats"
kill -0 "$client_pid" || fail "the client did not wait"
free_space
kill -USR2 "$server_pid"
wait "$client_pid" || fail "the write was not done: $(cat "$dir/io.out")"
! grep -q 'Pattern verification failed' "$dir/io.out" || fail "$(cat "$dir/io.out")"
stop_server
ok "a full disk stops the export, and SIGUSR2 resumes it"

: >"$log"
start_full --werror=stop
qemu-io -t writeback -f raw -c 'write -P 7 0 2M' "$uri" >"$dir/io.out" 2>&1 &
client_pid=$!
wait_for_log 'is stopped'
stop_server
wait "$client_pid" || true
grep -q 'No space left' "$dir/io.out" || fail "$(cat "$dir/io.out")"
ok "a server that stops lets go of what is held"

: >"$log"
start_full --werror=stop
qemu-io -t writeback -f raw -c 'write -P 7 0 2M' "$uri" >/dev/null 2>&1 &
client_pid=$!
wait_for_log 'is stopped'
kill -KILL "$client_pid"
wait "$client_pid" 2>/dev/null || true
free_space
kill -USR2 "$server_pid"
write_io || fail "the next client: $(cat "$dir/io.out")"
stop_server
ok "a client that was killed while it waited is forgotten"

: >"$log"
start_full --werror=ignore
client qemu-io -t writeback -f raw -c 'write -P 7 0 2M' "$uri" >"$dir/io.out" || fail "$(cat "$dir/io.out")"
wait_for_log 'told to have succeeded'
stop_server
ok "ignore tells the client that it was written"

refused "$PLATTER" -f raw --rerror=enospc "$dir/disk.img"
grep -q 'report, ignore, stop' "$dir/refused.out" || fail "$(cat "$dir/refused.out")"
ok "a read has no enospc"
