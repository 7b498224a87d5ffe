#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What each --cache mode means, counted in system calls of the server: the descriptors of the image
# with O_DIRECT, and the syncs by the time of the last reply and at the close. The figures are those
# of qemu-nbd 7.2, command for command; with qemu-nbd on the machine it is counted beside.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need strace python3
strace -o "$dir/trace" true 2>/dev/null || skip "strace may not trace here"
[ "${CACHE_MODES_PEER:-}" != 1 ] || need qemu-nbd

truncate -s 1M "$dir/disk.img"
dd if=/dev/zero of="$dir/direct" bs=4096 count=1 oflag=direct status=none 2>/dev/null ||
    skip "the file system of $dir has no O_DIRECT"
tests=$(cd "$(dirname "$0")" && pwd)

# counts SERVER MODE WORD: prints "O_DIRECT-OPENS SYNCS SYNCS-AT-CLOSE".
counts() {
    local server=$1 mode=$2 word=$3 before all threads=()
    sock=$dir/s$((++number))
    [ "$server" = qemu-nbd ] || threads=(--aio=threads) # each sync a system call that strace sees
    env "$no_leak_check" strace -f -o "$dir/trace" -e signal=none \
        -e trace=openat,fdatasync,fsync,pwritev2 \
        "$server" --cache="$mode" "${threads[@]}" --discard=unmap -f raw -e 2 -t -k "$sock" \
        --pid-file="$dir/pid" "$dir/disk.img" >>"$log" 2>&1 </dev/null &
    local tracer=$!
    server_pids+=("$tracer")
    wait_socket "$tracer"
    "$tests/nbd_ops.py" "$sock" "$word" || fail "$server --cache=$mode: $word"
    before=$(grep -cE 'f(data)?sync\(|RWF_DSYNC' "$dir/trace" || true)
    kill -TERM "$(cat "$dir/pid")"
    wait "$tracer" || fail "$server --cache=$mode ended with status $?"
    rm -f "$dir/pid"
    all=$(grep -cE 'f(data)?sync\(|RWF_DSYNC' "$dir/trace" || true)
    echo "$(grep -c 'disk.img.*O_DIRECT' "$dir/trace") $before $((all - before))"
}

wait_socket() {
    "$HELPERS/wait_server" ready "$1" "$sock" "$limit_s" || fail "no server at $sock"
    local tries=0
    until [ -s "$dir/pid" ]; do
        [ $((++tries)) -lt 200 ] || fail "no pid file"
        sleep 0.05
    done
}

number=0
wrong=0
# expect MODE WORD DIRECT SYNCS AT-CLOSE
expect() {
    local mode=$1 word=$2 server found servers=("$PLATTER")
    shift 2
    [ "${CACHE_MODES_PEER:-}" != 1 ] || servers+=(qemu-nbd)
    for server in "${servers[@]}"; do
        found=$(counts "$server" "$mode" "$word")
        [ "$found" = "$*" ] && continue
        echo "WRONG: ${server##*/} --cache=$mode, '$word': $found (O_DIRECT, syncs, at close), not $*"
        wrong=$((wrong + 1))
    done
}

for mode in writeback none; do
    direct=0
    [ $mode = writeback ] || direct=1
    expect $mode r $direct 0 0
    expect $mode w $direct 0 1
    expect $mode wwf $direct 1 0
    expect $mode wff $direct 1 0
    expect $mode W $direct 1 0
    expect $mode Wf $direct 1 0
    expect $mode z $direct 0 1
    expect $mode Z $direct 1 0
    expect $mode t $direct 0 1
    expect $mode T $direct 1 0
    ok "$mode: a flush or FUA syncs once, a close what is left, and nothing else"
done
for mode in writethrough directsync; do
    direct=0
    [ $mode = writethrough ] || direct=1
    expect $mode r $direct 0 0
    expect $mode w $direct 1 0
    expect $mode wwf $direct 2 0
    expect $mode W $direct 1 0
    expect $mode z $direct 1 0
    expect $mode t $direct 0 1
    expect $mode T $direct 1 0
    ok "$mode: every write and zeroing is synced, a trim is not"
done
expect unsafe wwf 0 0 0
expect unsafe WZT 0 0 0
expect unsafe wc 0 0 0
ok "unsafe: nothing is ever synced, not even at the close"

[ $wrong -eq 0 ] || fail "$wrong counts are wrong"
