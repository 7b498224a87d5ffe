#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Sockets that somebody else opened: libnbd's programs in brackets, systemd's, and wrong ones.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need nbdinfo nbdcopy openssl

random_file "$dir/disk.img" 1000000
[ "$(client nbdinfo --size -- [ "$PLATTER" -f raw "$dir/disk.img" ] 2>>"$log")" = 1000000 ] || fail "nbdinfo --size"
client nbdinfo --json -- [ "$PLATTER" -f raw -r -x name -D "some text" "$dir/disk.img" ] >"$dir/out" 2>>"$log" ||
    client nbdinfo --list --json -- [ "$PLATTER" -f raw -r -x name -D "some text" "$dir/disk.img" ] >"$dir/out" 2>>"$log"
grep -q 'some text' "$dir/out" || fail "nbdinfo: $(cat "$dir/out")"
client nbdcopy -- [ "$PLATTER" -f raw -r "$dir/disk.img" ] "$dir/copy" 2>>"$log"
same_bytes "$dir/disk.img" "$dir/copy"
truncate -s 1000000 "$dir/new.img"
client nbdcopy -- "$dir/disk.img" [ "$PLATTER" -f raw "$dir/new.img" ] 2>>"$log"
same_bytes "$dir/disk.img" "$dir/new.img"
no_sanitizer_report
ok "programs of libnbd start the server in brackets, read by it and write by it"

# refuses NAMED DESCRIPTORS OPTIONS...: status 1 and one sentence.
refuses() {
    local status=0
    # shellcheck disable=SC2016 # the inner shell's number becomes the server's
    FDS=$2 timeout 20 bash -c 'export LISTEN_PID=$$ LISTEN_FDS=$FDS; exec "$@"' bash \
        "$PLATTER" "${@:3}" >"$dir/out" 2>"$dir/err" </dev/null || status=$?
    [ "$status" -eq 1 ] || fail "status $status, not 1: ${*:2}"
    [ "$(wc -l <"$dir/err")" -eq 1 ] || fail "not one sentence: $(cat "$dir/err")"
    grep -qF -- "$1" "$dir/err" || fail "does not name $1: $(cat "$dir/err")"
    ok "$(cat "$dir/err")"
}
refuses 'descriptor 3' 1 -f raw "$dir/disk.img" 3</dev/null
refuses 'descriptor 3' 1 -f raw "$dir/disk.img" 3<&-
if ! is_stand_in; then
    refuses "'9'" 9 -f raw "$dir/disk.img" 3</dev/null
    refuses "'many'" many -f raw "$dir/disk.img" 3</dev/null
    refuses "'-1'" -1 -f raw "$dir/disk.img" 3</dev/null
fi

# The variables of another process are none of ours.
sock=$dir/own
LISTEN_PID=1 LISTEN_FDS=1 launch "$PLATTER" -k "$sock" -t -f raw "$dir/disk.img"
wait_ready "$sock"
stop_server
ok "LISTEN_PID of another process is ignored"

command -v systemd-socket-activate >/dev/null || skip "systemd-socket-activate is not installed"
# It starts the server when somebody comes; the server answers who waits in the backlog.
launch systemd-socket-activate -l "$dir/a" -l "$dir/b" "$PLATTER" -t -e 0 -f raw "$dir/disk.img"
sock=
wait_for_listener "$dir/b"
for name in a b a; do
    [ "$(client nbdinfo --size "nbd+unix:///?socket=$dir/$name")" = 1000000 ] || fail "socket $name"
done
[ -S "$dir/a" ] || fail "a socket that is not ours was removed"
stop_server
[ -S "$dir/a" ] && [ -S "$dir/b" ] || fail "a socket that is not ours was removed at the end"
rm "$dir/a" "$dir/b"
ok "several sockets are served at once, and left to who made them"

for option in "--socket=$dir/never" --port=10899 --bind=::1 --run=true; do
    launch systemd-socket-activate -l "$dir/a" "$PLATTER" "$option" -f raw "$dir/disk.img"
    wait_for_listener "$dir/a"
    refused nbdinfo "nbd+unix:///?socket=$dir/a"
    wait_exit "$server_pid" 1
    grep -q 'LISTEN_FDS' "$log" || fail "no sentence about $option: $(cat "$log")"
    : >"$log"
    rm "$dir/a"
done
[ ! -e "$dir/never" ] || fail "a socket was made although one was handed over"
ok "-k, -p, -b and --run are refused with it"
