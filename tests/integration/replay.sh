#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Traces of guest requests, against a device model in this process and against the server over NBD, on
# images of their own: both must show the same, and nothing that nobody wrote. replay.sh PART:
#   shipped   tests/traces/ on raw, qcow2 and gow1
#   engines   a random trace on each AIO engine with each cache mode, a format each in turn
#   product   the same on every format, and with crashes; for tests/run --long
# SEED in the environment makes random traces again.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
: "${REPLAY:=$top/build/tests/replay/replay}"
[ -x "$REPLAY" ] || skip "no program at $REPLAY"
if is_stand_in; then skip "the stand-in has other options"; fi
part=${1:-shipped}
seed=${SEED:-$(date +%s)}
sock=$dir/replay.sock

# image FORMAT TRACE NAME: an empty one for that trace.
image() {
    local size
    size=$("$REPLAY" size "$2")
    rm -f "$dir/$3"
    if [ "$1" = raw ]; then
        truncate -s "$size" "$dir/$3"
    else
        "$HELPERS/image_tool" create "$1" "filename=$dir/$3,size=$size" >/dev/null
    fi
}

# replays FORMAT TRACE AIO CACHE [DEVICE]: in both ways; sets $said.
replays() {
    local format=$1 trace=$2 aio=$3 cache=$4 inside over
    local device=${5:+--device=$5}
    image "$format" "$trace" inside.img
    image "$format" "$trace" nbd.img
    # shellcheck disable=SC2086 # no device is no word
    inside=$(client "$REPLAY" inside "$trace" "$("$REPLAY" options "$trace" "$format" "$dir/inside.img")" \
        --aio="$aio" --cache="$cache" $device) || fail "$trace, $format, $aio, $cache: inside"
    over=$(client "$REPLAY" nbd "$trace" "$sock" "$PLATTER" -k "$sock" -t --discard=unmap --aio="$aio" \
        --cache="$cache" --image-opts "$("$REPLAY" options "$trace" "$format" "$dir/nbd.img")" 2>>"$log") ||
        fail "$trace, $format, $aio, $cache: over NBD"
    [ "$inside" = "$over" ] ||
        fail "$trace, $format, $aio, $cache: '$inside' inside, but over NBD '$over'"
    said=$inside
}

# O_DIRECT is not to be had on every file system.
direct=yes
truncate -s 4096 "$dir/direct"
dd if="$dir/direct" of=/dev/null bs=4096 iflag=direct status=none 2>/dev/null || direct=no

# The pairs of an engine and a cache mode that there are.
pairs() {
    local cache
    for cache in writeback writethrough unsafe; do
        printf '%s\n' "io_uring $cache" "threads $cache" "sync $cache"
    done
    [ "$direct" = yes ] || return 0
    for cache in none directsync; do
        printf '%s\n' "io_uring $cache" "native $cache" "threads $cache" "sync $cache"
    done
}

random_traces() {
    "$REPLAY" random "$seed" >"$dir/random.trace"
    "$REPLAY" random "$seed" crashes >"$dir/crashes.trace"
    "$REPLAY" random "$seed" overlap >"$dir/overlap.trace"
    "$REPLAY" random "$seed" ide >"$dir/ide.trace"
    echo "random traces: SEED=$seed"
}

case $part in
shipped)
    for trace in "$top"/tests/traces/*.trace; do
        for format in raw qcow2 gow1; do
            replays "$format" "$trace" io_uring writeback
        done
        ok "${trace##*/}: $said"
    done
    # The other device's trace is a guest's as well.
    replays raw "$top/tests/traces/pio-sector-0.trace" io_uring writeback virtio-blk
    ok "pio-sector-0.trace on virtio-blk: $said"
    replays qcow2 "$top/tests/traces/bad-sectors.trace" io_uring writeback ide
    ok "bad-sectors.trace on IDE: $said"
    random_traces
    for format in raw qcow2 gow1; do
        replays "$format" "$dir/crashes.trace" io_uring writeback
    done
    ok "crashes at any moment: $said"
    for format in raw qcow2 gow1; do
        for trace in overlap ide; do
            replays "$format" "$dir/$trace.trace" io_uring unsafe
        done
    done
    ok "requests that overlap, by the oracle, on both devices: $said"
    ;;
engines)
    random_traces
    formats=(raw qcow2 gow1)
    while read -r aio cache; do
        replays "${formats[0]}" "$dir/random.trace" "$aio" "$cache"
        ok "${formats[0]} --aio=$aio --cache=$cache: $said"
        formats=("${formats[@]:1}" "${formats[0]}")
    done < <(pairs)
    ;;
product)
    random_traces
    for format in raw qcow2 gow1; do
        while read -r aio cache; do
            for trace in random crashes overlap ide; do
                replays "$format" "$dir/$trace.trace" "$aio" "$cache"
            done
            ok "$format --aio=$aio --cache=$cache"
        done < <(pairs)
    done
    ;;
*) fail "there is no part '$part'" ;;
esac

# A tool that cannot fail shows nothing: a disk that is not empty is told from one that is.
# finds_a_byte TRACE PLACE SENTENCE
finds_a_byte() {
    image raw "$1" inside.img
    printf 'x' | dd of="$dir/inside.img" bs=1 seek="$2" conv=notrunc status=none
    refused "$REPLAY" inside "$1" "$("$REPLAY" options "$1" raw "$dir/inside.img")"
    grep -q "the disk in the end: $3" "$dir/refused.out" || fail "said: $(cat "$dir/refused.out")"
}

finds_a_byte "$top/tests/traces/pio-sector-0.trace" 4000000 "sector 7812 holds what nobody wrote there"
printf '%s\n' 'platter-trace 1' 'device virtio-blk' 'size 65536' overlap 'write 0 8 1' >"$dir/byte.trace"
finds_a_byte "$dir/byte.trace" 5000 "a read: the byte at 0x1388 is 0x78"
ok "a wrong byte is found by both judges"
