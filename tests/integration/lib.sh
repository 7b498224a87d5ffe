# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2034
# What every shell test sources. A test has a folder of its own ($dir), its own servers, and ends only
# those. The server command comes from PLATTER; the build sets PLATTER_BUILT.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
PLATTER=${PLATTER:-${PLATTER_BUILT:-$top/build/server/platter}}
HELPERS=${HELPERS:-$top/build/tests/integration}
limit_s=${LIMIT_S:-60} # for one client command; a sanitizer's build is slow

server_pid=
server_pids=()
sock=
uri=
step=start

skip() {
    echo "SKIP: $*"
    exit 77
}

# LeakSanitizer stops a process as strace does, so it fails in a server that is traced:
# env "$no_leak_check" strace ...
# shellcheck disable=SC2034 # used by the tests
no_leak_check=ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0

# The commands a test cannot do without.
need() {
    local command
    for command in "$@"; do
        command -v "$command" >/dev/null || skip "$command is not installed"
    done
}

command -v "$PLATTER" >/dev/null || skip "no server at $PLATTER"
dir=$(mktemp -d "${TMPDIR:-/tmp}/platter-test.XXXXXX")
log=$dir/server.log
: >"$log"

# A test that mounts something in $dir says here how it goes.
unmount_all() { :; }

# What a killed server has kept for the next one, named after the image's device and inode.
forget_kept() {
    find "$dir" -type f -printf '%D %i\n' | while read -r device inode; do
        rm -f "/dev/shm/platter-$(printf '%s-%x-%x' "$(id -u)" "$device" "$inode")"
    done
}

cleanup() {
    local status=$? pid
    trap - EXIT
    for pid in "${server_pids[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
        echo "FAILED in: $step (status $status); the server's log:"
        tail -n 60 "$log"
    fi
    ! compgen -G "/dev/shm/platter-*-*" >/dev/null || forget_kept
    unmount_all
    rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 143' TERM INT HUP

fail() {
    echo "FAIL: $*"
    exit 1
}

# What is being shown; the name a failure is reported under.
ok() {
    echo "ok: $*"
    step="after: $*"
}

# A client, bounded in time so that a hang has a name.
client() {
    timeout "$limit_s" "$@" || {
        local status=$?
        [ "$status" -ne 124 ] || echo "TIMEOUT after $limit_s s: $*"
        return "$status"
    }
}

# For what only ours has: not asked of the stand-in.
options_of_ours() {
    case " $* " in
    *--aio=sync* | *--threads=*) ! is_stand_in || skip "the stand-in has no such option" ;;
    esac
}

# The client must fail.
refused() {
    local status=0
    timeout "$limit_s" "$@" >"$dir/refused.out" 2>&1 || status=$?
    [ "$status" -ne 124 ] || fail "timeout: $*"
    [ "$status" -ne 0 ] || fail "succeeded, but must not: $*"
}

no_sanitizer_report() {
    if grep -E 'ERROR: (Address|Leak)Sanitizer|runtime error:|WARNING: ThreadSanitizer' "$log"; then
        fail "the server's sanitizer has a report"
    fi
}

# launch COMMAND...: a server in the background, not yet known to serve.
launch() {
    "$@" >>"$log" 2>&1 </dev/null &
    server_pid=$!
    server_pids+=("$server_pid")
}

wait_ready() {
    "$HELPERS/wait_server" ready "$server_pid" "$1" "$limit_s" || fail "the server does not serve at $1"
}

# start_server [OPTIONS] IMAGE, on a new UNIX socket: sets sock, uri, server_pid.
start_server() {
    sock=$dir/s${#server_pids[@]}
    uri="nbd+unix:///?socket=$sock"
    launch "$PLATTER" -k "$sock" "$@"
    wait_ready "$sock"
}

# A port that was free a moment ago; whoever loses the race tries the next.
some_port() {
    shuf -i 20000-32000 -n 1
}

# start_tcp_server ADDRESS [OPTIONS] IMAGE: sets port, address, uri, server_pid.
start_tcp_server() {
    local bind=$1 try
    shift
    for try in 1 2 3 4 5 6 7 8; do
        port=$(some_port)
        case $bind in
        *:*) address="[$bind]:$port" ;;
        *) address=$bind:$port ;;
        esac
        uri=nbd://$address
        launch "$PLATTER" -b "$bind" -p "$port" "$@"
        if "$HELPERS/wait_server" ready "$server_pid" "$address" "$limit_s" 2>/dev/null; then
            return 0
        fi
        echo "port $port did not do (try $try)"
    done
    fail "no port could be served on $bind"
}

# wait_exit PID STATUS: the server ends by itself with this status.
wait_exit() {
    local status=0
    "$HELPERS/wait_server" gone "$1" "$limit_s" || fail "the server (pid $1) does not end"
    wait "$1" || status=$?
    no_sanitizer_report
    [ "$status" -eq "$2" ] || fail "the server ended with status $status, not $2"
}

wait_for_file() { # FILE: until there is something in it
    local looks
    for ((looks = 0; looks < limit_s * 50; looks++)); do
        if [ -s "$1" ]; then return; fi
        sleep 0.02
    done
    fail "nothing is written to $1"
}

# wait_for_listener PATH: until a client is let in at that socket of somebody else. That its file is there
# is not enough; and a client would count.
wait_for_listener() {
    local looks
    for ((looks = 0; looks < limit_s * 50; looks++)); do
        if grep -q " 00010000 .* $1\$" /proc/net/unix; then return; fi
        sleep 0.02
    done
    fail "nobody listens on $1"
}

alive() {
    kill -0 "$server_pid" 2>/dev/null
}

# stop_server: SIGTERM; status 0, socket gone.
stop_server() {
    kill -TERM "$server_pid" 2>/dev/null || fail "the server is gone already"
    wait_exit "$server_pid" 0
    [ -z "$sock" ] || [ ! -e "$sock" ] || fail "the server left its socket behind"
}

# random_file PATH BYTES: the same bytes in every run.
random_file() {
    openssl enc -aes-128-ctr -nosalt -K 00112233445566778899aabbccddeeff \
        -iv 00000000000000000000000000000000 -in /dev/zero 2>/dev/null | head -c "$2" >"$1" || true
    [ "$(stat -c %s "$1")" -eq "$2" ] || fail "cannot make $1"
}

# sparse_image PATH: 64 MiB; data in [0, 1 MiB), [32 MiB, 33 MiB) and the last 4 KiB, holes between.
sparse_image() {
    random_file "$dir/pattern" 1048576
    truncate -s 64M "$1"
    dd if="$dir/pattern" of="$1" bs=1M conv=notrunc status=none
    dd if="$dir/pattern" of="$1" bs=1M seek=32 conv=notrunc status=none
    dd if="$dir/pattern" of="$1" bs=4096 count=1 seek=16383 conv=notrunc status=none
}

sum_of() {
    sha256sum "$1" | cut -d' ' -f1
}

same_bytes() {
    cmp "$1" "$2" || fail "$1 and $2 differ"
}

allocated_bytes() {
    echo $(($(stat -c %b "$1") * 512))
}

# True for the stand-in, which lacks what is only ours.
is_stand_in() {
    "$PLATTER" --version 2>/dev/null | head -n 1 | grep -q '^qemu-nbd'
}
