#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# --discard: unmap gives blocks back to the file system, ignore (the default) keeps them.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-io openssl

random_file "$dir/random" 8388608
cp "$dir/random" "$dir/probe"
before=$(allocated_bytes "$dir/probe")
fallocate -p -o 0 -l 4194304 "$dir/probe" 2>/dev/null || skip "no hole punching on this file system"

# after_discard OPTIONS...: allocated bytes after a discard of the first half.
after_discard() {
    cp "$dir/random" "$dir/disk.img"
    start_server -t -f raw "$@" "$dir/disk.img"
    client qemu-io -f raw -d unmap -c 'discard 0 4M' -c flush "$uri" >"$dir/io.out" ||
        fail "discard: $(cat "$dir/io.out")"
    stop_server
    cmp <(tail -c 4194304 "$dir/disk.img") <(tail -c 4194304 "$dir/random") || fail "the other half changed"
    freed=$((before - $(allocated_bytes "$dir/disk.img")))
}

after_discard --discard=unmap
[ $freed -ge 4000000 ] || fail "--discard=unmap freed $freed bytes of 4 MiB"
cmp -n 4194304 "$dir/disk.img" /dev/zero || fail "the hole is not zero"
ok "--discard=unmap frees the blocks"
after_discard --discard=on
[ $freed -ge 4000000 ] || fail "--discard=on freed $freed bytes"
ok "on is another name for unmap"
for options in --discard=ignore --discard=off ''; do
    after_discard ${options:+"$options"}
    [ $freed -le 65536 ] || fail "'$options' freed $freed bytes"
    same_bytes "$dir/random" "$dir/disk.img"
    ok "'${options:-no option}' keeps blocks and data"
done

# Zeroes that may make a hole, and zeroes that must not (NO_HOLE).
cp "$dir/random" "$dir/disk.img"
start_server -t -f raw --discard=unmap "$dir/disk.img"
client qemu-io -f raw -d unmap -c 'write -z 0 2M' -c flush "$uri" >/dev/null
kept=$(allocated_bytes "$dir/disk.img")
[ $((before - kept)) -le 65536 ] || fail "zeroes with NO_HOLE made a hole"
client qemu-io -f raw -d unmap -c 'write -z -u 2M 2M' -c flush "$uri" >/dev/null
freed=$((kept - $(allocated_bytes "$dir/disk.img")))
[ $freed -ge 2000000 ] || fail "zeroes that may unmap freed $freed bytes"
stop_server
cmp -n 4194304 "$dir/disk.img" /dev/zero || fail "not zero"
ok "write-zeroes frees blocks only where it may"
