#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A file that another program cuts while it is served: what is missing reads as zeroes, a write makes
# the file longer again, the size that clients see stays, nothing fails or hangs. file-grows.sh has
# what becomes longer than it was.
# Usage: file-shrinks.sh [OPTIONS OF THE SERVER]
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-io qemu-img nbdcopy nbdinfo
is_stand_in && skip "the stand-in fails reads past the new end"

size=$((16 * 1024 * 1024))
random_file "$dir/random" $size
cp "$dir/random" "$dir/disk.img"
start_server -t -e 0 -f raw "$@" "$dir/disk.img"

# qemu COMMAND...: each must succeed, and reads find what -P says.
qemu() {
    local commands=() command
    for command in "$@"; do
        commands+=(-c "$command")
    done
    client qemu-io -f raw --cache=writeback "${commands[@]}" "$uri" >"$dir/out" 2>&1 || {
        cat "$dir/out"
        fail "qemu-io: $*"
    }
    ! grep -qiE 'fail|error' "$dir/out" || fail "qemu-io $*: $(cat "$dir/out")"
}

# serves FILE: the export has the bytes of the file, and then zeroes up to its size.
serves() {
    cp "$1" "$dir/expected"
    truncate -s $size "$dir/expected"
    rm -f "$dir/back"
    client nbdcopy "$uri" "$dir/back"
    same_bytes "$dir/expected" "$dir/back"
    client nbdcopy --request-size=4096 --connections=1 "$uri" "$dir/back" # small reads go another way
    same_bytes "$dir/expected" "$dir/back"
}

client nbdinfo --map "$uri" >/dev/null # what is data is remembered
serves "$dir/random"
cut=5000001 # within a sector
truncate -s $cut "$dir/disk.img"
head -c $cut "$dir/random" >"$dir/short"
serves "$dir/short"
qemu "read -P 0 $((cut + 511)) 100000" "read -P 0 $((size - 512)) 512" "read -P 0 8M 2M"
client nbdinfo --map "$uri" >/dev/null || fail "no map of a file that was cut"
[ "$(client nbdinfo --size "$uri")" -eq $size ] || fail "the size changed"
ok "what was cut off reads as zeroes, to the byte"

qemu "write -P 7 10M 64k" "flush" "read -P 7 10M 64k" "read -P 0 8M 2M" "read -P 0 12M 1M"
[ "$(stat -c %s "$dir/disk.img")" -ge $((10 * 1024 * 1024 + 65536)) ] || fail "the file did not grow"
qemu "write -z 11M 1M" "discard 11M 1M" "read -P 0 11M 1M" "write -f -P 9 15M 1000" "read -P 9 15M 1000"
cp "$dir/disk.img" "$dir/longer"
serves "$dir/longer"
ok "a write past the new end makes the file longer again"

truncate -s 0 "$dir/disk.img"
: >"$dir/empty"
serves "$dir/empty"
qemu "write -z 0 16M" "write -P 3 512 512" "read -P 3 512 512" "discard 0 16M" "flush"
ok "an empty file"

# Cut and lengthened all the time, under reads, writes and maps.
stop=$dir/stop
(
    while [ ! -e "$stop" ]; do
        truncate -s $((RANDOM * 512)) "$dir/disk.img"
        truncate -s $size "$dir/disk.img"
    done
) &
changer=$!
for _ in 1 2 3 4; do
    client nbdcopy "$uri" null:
    client nbdcopy "$dir/random" "$uri"
    client nbdinfo --map "$uri" >/dev/null
done
touch "$stop"
wait $changer
truncate -s $size "$dir/disk.img"
client nbdcopy --flush "$dir/random" "$uri"
serves "$dir/random"
stop_server
ok "under load"
