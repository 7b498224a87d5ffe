#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# --fork and --pid-file: ready when the parent has ended, and not silent about failure.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need nbdinfo

truncate -s 1M "$dir/disk.img"
sock=$dir/forked
uri="nbd+unix:///?socket=$sock"

# The command substitution ends only when the daemon has let go of its parent's standard output.
out=$(timeout "$limit_s" "$PLATTER" --fork --pid-file="$dir/pid" -t -k "$sock" -f raw "$dir/disk.img" 2>&1) ||
    fail "--fork: status $?, $out"
[ -z "$out" ] || fail "--fork printed: $out"
# No waiting from here: the parent's end is the promise.
[ "$(client nbdinfo --size "$uri")" = 1048576 ] || fail "not serving when the parent ended"
ok "the parent ends with 0 when the server serves, and the output is released"

server_pid=$(cat "$dir/pid")
[[ $server_pid =~ ^[0-9]+$ ]] || fail "the pid file holds: $server_pid"
server_pids+=("$server_pid")
[ "$(wc -l <"$dir/pid")" -eq 1 ] || fail "the pid file is not one line"
alive || fail "the pid file names no living process"
tr '\0' ' ' <"/proc/$server_pid/cmdline" | grep -qF "$sock" || fail "the pid is not the server's"
ok "the pid file is right"

[ "$(stat -c %d:%i "/proc/$server_pid/cwd/")" = "$(stat -c %d:%i /)" ] || fail "the daemon holds a folder"
for fd in 0 1; do
    [ "$(readlink "/proc/$server_pid/fd/$fd")" = /dev/null ] || fail "descriptor $fd is not /dev/null"
done
ok "the daemon holds no folder and no terminal"

kill -TERM "$server_pid"
"$HELPERS/wait_server" gone "$server_pid" "$limit_s" || fail "the daemon does not end"
[ ! -e "$sock" ] || fail "the daemon left its socket"
ok "SIGTERM ends the daemon and removes its socket"

status=0
timeout "$limit_s" "$PLATTER" --fork -k "$sock" -f raw "$dir/absent.img" 2>"$dir/err" || status=$?
[ "$status" -eq 1 ] || fail "--fork with a missing image: status $status"
grep -q absent.img "$dir/err" || fail "the sentence is lost: $(cat "$dir/err")"
ok "a failure to start reaches the parent: status 1 and the sentence"

# From the folder of the image: a relative name is this folder's, though the daemon leaves it.
(cd "$dir" && timeout "$limit_s" "$PLATTER" --fork --pid-file=pid2 -t -k "$sock" -f raw disk.img) ||
    fail "relative names with --fork"
server_pid=$(cat "$dir/pid2")
server_pids+=("$server_pid")
[ "$(client nbdinfo --size "$uri")" = 1048576 ] || fail "a relative image with --fork"
kill -TERM "$server_pid"
"$HELPERS/wait_server" gone "$server_pid" "$limit_s" || fail "the second daemon does not end"
ok "relative names work with --fork"

start_server -t --pid-file="$dir/pid3" -f raw "$dir/disk.img"
[ "$(cat "$dir/pid3")" = "$server_pid" ] || fail "--pid-file without --fork"
stop_server
ok "--pid-file without --fork"
