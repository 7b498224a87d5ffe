#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# --detect-zeroes: what a client writes as zeroes takes no space with unmap, and keeps it otherwise.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-io openssl

random_file "$dir/random" 8388608
cp "$dir/random" "$dir/probe"
before=$(allocated_bytes "$dir/probe")
fallocate -p -o 0 -l 4194304 "$dir/probe" 2>/dev/null || skip "no hole punching on this file system"

# after_zeroes OPTIONS...: bytes freed by a write of zeroes to the first half, with one byte in it.
after_zeroes() {
    cp "$dir/random" "$dir/disk.img"
    start_server -t -f raw "$@" "$dir/disk.img"
    client qemu-io -f raw -c 'write -P 0 0 1M' -c 'write -P 0 -f 1M 3M' -c 'write -P 7 2M 64k' \
        -c 'read -P 0 0 2M' -c 'read -P 7 2M 64k' -c flush "$uri" >"$dir/io.out" ||
        fail "write: $(cat "$dir/io.out")"
    grep -q 'Pattern verification failed' "$dir/io.out" && fail "read: $(cat "$dir/io.out")"
    stop_server
    cmp <(tail -c 4194304 "$dir/disk.img") <(tail -c 4194304 "$dir/random") || fail "the other half changed"
    cmp -n 2097152 "$dir/disk.img" /dev/zero || fail "not zero"
    cmp -n 2031616 -i 2162688:0 "$dir/disk.img" /dev/zero || fail "not zero behind the byte"
    freed=$((before - $(allocated_bytes "$dir/disk.img")))
}

after_zeroes --detect-zeroes=unmap --discard=unmap
[ $freed -ge 3900000 ] || fail "unmap freed $freed bytes of 4 MiB"
ok "unmap gives back what is written as zeroes"
for options in --detect-zeroes=on --detect-zeroes=off ''; do
    after_zeroes --discard=unmap ${options:+"$options"}
    [ $freed -le 65536 ] || fail "'$options' freed $freed bytes"
    ok "'${options:-no option}' keeps the space"
done

# By a node's own option.
cp "$dir/random" "$dir/disk.img"
start_server -t --image-opts "driver=raw,detect-zeroes=unmap,discard=unmap,file.filename=$dir/disk.img"
client qemu-io -f raw -c 'write -P 0 0 4M' "$uri" >/dev/null
stop_server
freed=$((before - $(allocated_bytes "$dir/disk.img")))
[ $freed -ge 4000000 ] || fail "the option of the node freed $freed bytes"
ok "detect-zeroes is an option of a node"

refused "$PLATTER" -k "$dir/never" --detect-zeroes=unmap -f raw "$dir/disk.img"
grep -q discard "$dir/refused.out" || fail "not said why: $(cat "$dir/refused.out")"
refused "$PLATTER" -k "$dir/never" --detect-zeroes=maybe -f raw "$dir/disk.img"
ok "unmap without --discard=unmap is refused, and so is another mode"
