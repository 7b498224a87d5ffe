#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# When a server ends by itself, and with what status: qemu-nbd's habits.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need nbdinfo qemu-nbd

truncate -s 1M "$dir/disk.img"

start_server -f raw "$dir/disk.img" # its readiness was asked by a client that aborted
client qemu-nbd -L -k "$sock" >/dev/null || fail "listing"
client qemu-nbd -L -k "$sock" >/dev/null || fail "the server ended after a client that only listed"
ok "clients that list or abort do not end a server without -t"
[ "$(client nbdinfo --size "$uri")" = 1048576 ] || fail "size"
wait_exit "$server_pid" 0
[ ! -e "$sock" ] || fail "the socket is left behind"
ok "the last client's leaving does, with status 0, and the socket is gone"

start_server -t -f raw "$dir/disk.img"
for _ in 1 2 3; do
    [ "$(client nbdinfo --size "$uri")" = 1048576 ] || fail "size"
done
alive || fail "a server with -t ended"
stop_server
ok "a server with -t stays until SIGTERM, which is status 0"

for signal in INT HUP; do
    start_server -t -f raw "$dir/disk.img"
    kill -$signal "$server_pid"
    wait_exit "$server_pid" 0
    [ ! -e "$sock" ] || fail "SIG$signal left the socket"
    ok "SIG$signal too"
done

# A killed server leaves its socket; the next one takes its place.
start_server -t -f raw "$dir/disk.img"
kill -KILL "$server_pid"
"$HELPERS/wait_server" gone "$server_pid" "$limit_s"
[ -S "$sock" ] || fail "nobody removes the socket of a killed server"
launch "$PLATTER" -k "$sock" -t -f raw "$dir/disk.img"
wait_ready "$sock"
stop_server
ok "a stale socket is replaced"
