#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# --run: the server lives as long as its command, ends with its status, and leaves nothing behind.
# shellcheck source=tests/integration/lib.sh disable=SC2016
. "$(dirname "$0")/lib.sh"
need nbdcopy nbdinfo openssl
! is_stand_in || skip "the stand-in has no --run"

random_file "$dir/disk.img" 3000000
mkdir "$dir/tmp"
export TMPDIR=$dir/tmp

# runs STATUS OPTIONS...: the server ends by itself with this status; stdout is in $dir/out.
runs() {
    local wanted=$1 status=0
    shift
    timeout "$limit_s" "$PLATTER" "$@" >"$dir/out" 2>>"$log" </dev/null || status=$?
    [ "$status" -eq "$wanted" ] || fail "status $status, not $wanted: $*"
    [ -z "$(ls -A "$dir/tmp")" ] || fail "left behind: $(ls -AR "$dir/tmp")"
}
image=(-f raw "$dir/disk.img")

runs 0 "${image[@]}" --run 'nbdinfo --size "$uri" && nbdcopy "$uri" "'"$dir"'/copy"'
[ "$(cat "$dir/out")" = 3000000 ] || fail "size: $(cat "$dir/out")"
same_bytes "$dir/copy" "$dir/disk.img"
openssl enc -aes-128-ctr -nosalt -K 0f -iv 0f -in "$dir/disk.img" -out "$dir/new" 2>/dev/null
runs 0 "${image[@]}" --run 'nbdcopy "'"$dir"'/new" "$uri"'
same_bytes "$dir/new" "$dir/disk.img"
ok "nbdinfo and nbdcopy find the server by \$uri, and what they wrote is there"

(cd "$dir" && runs 0 -f raw disk.img --run 'pwd; test -S "$unixsocket" && ls -ld "${unixsocket%/*}"')
[ "$(head -n 1 "$dir/out")" = "$dir" ] || fail "another folder: $(cat "$dir/out")"
grep -q '^drwx------' "$dir/out" || fail "the folder is not private: $(cat "$dir/out")"
ok "the command starts where the person is; the socket is in a private folder"

runs 0 "${image[@]}" -x 'a b' -k "$dir/named" --run 'echo "$unixsocket|$exportname|$port|$nbd"
    nbdinfo --can multi-conn "$uri"'
grep -qxF "$dir/named|a b||nbd:unix:$dir/named:exportname=a b" "$dir/out" || fail "$(cat "$dir/out")"
[ ! -e "$dir/named" ] || fail "the socket of -k is left behind"
runs 0 "${image[@]}" -b 127.0.0.1 -p 0 --run 'test "$port" -gt 0 && nbdinfo --size "nbd://127.0.0.1:$port"'
[ "$(cat "$dir/out")" = 3000000 ] || fail "over TCP: $(cat "$dir/out")"
ok "-k and -p are used where they are given"

runs 0 "${image[@]}" --run true
runs 1 "${image[@]}" --run false
runs 42 "${image[@]}" --run 'exit 42'
runs 127 "${image[@]}" --run "$dir/no-such-command"
runs 143 "${image[@]}" --run 'kill -TERM $$'
runs 137 "${image[@]}" --run 'kill -KILL $$'
ok "the command's status is the server's, 128 and the signal where one ended it"

status=0
timeout "$limit_s" "$PLATTER" -f raw "$dir/absent.img" --run "touch $dir/ran" 2>"$dir/err" || status=$?
[ "$status" -eq 1 ] && [ ! -e "$dir/ran" ] || fail "a server that cannot start runs its command"
[ -z "$(ls -A "$dir/tmp")" ] || fail "left behind: $(ls -AR "$dir/tmp")"
ok "without a server there is no command"

# A signal to the server: the command gets it, all of it, and the server still serves meanwhile.
launch "$PLATTER" "${image[@]}" --run 'trap "nbdinfo --size \"$uri\" >'"$dir"'/late; exit 9" TERM
    echo $$ >'"$dir"'/pid; while :; do sleep 0.05; done'
for _ in $(seq 200); do [ -s "$dir/pid" ] && break || sleep 0.05; done
kill -TERM "$server_pid"
wait_exit "$server_pid" 9
[ "$(cat "$dir/late")" = 3000000 ] || fail "the command could not reach the server at the end"
kill -0 "$(cat "$dir/pid")" 2>/dev/null && fail "the command lives on"
[ -z "$(ls -A "$dir/tmp")" ] || fail "left behind: $(ls -AR "$dir/tmp")"
ok "SIGTERM goes to the command, and the server waits for it"

# gone PID: within a moment.
gone() {
    for _ in $(seq 100); do kill -0 "$1" 2>/dev/null || return 0; sleep 0.05; done
    fail "$2 is an orphan"
}
rm "$dir/pid"
launch "$PLATTER" "${image[@]}" --run 'sleep 1000 & echo $! >'"$dir"'/child
    (trap "" TERM; echo $$ >'"$dir"'/pid; sleep 1000); true'
for _ in $(seq 200); do [ -s "$dir/pid" ] && break || sleep 0.05; done
kill -TERM "$server_pid"
wait_exit "$server_pid" 143
gone "$(cat "$dir/child")" "a child of the command"
gone "$(cat "$dir/pid")" "the command"
pgrep -f "$dir/pid" >/dev/null && fail "a subshell of the command is an orphan"
ok "what the command started ends with it"

rm "$dir/pid"
launch "$PLATTER" "${image[@]}" --run 'trap "" TERM; echo $$ >'"$dir"'/pid; while :; do sleep 1; done'
for _ in $(seq 200); do [ -s "$dir/pid" ] && break || sleep 0.05; done
kill -TERM "$server_pid"
wait_exit "$server_pid" 137
gone "$(cat "$dir/pid")" "a stubborn command"
[ -z "$(ls -A "$dir/tmp")" ] || fail "left behind: $(ls -AR "$dir/tmp")"
ok "a command that does not listen is ended by force"
