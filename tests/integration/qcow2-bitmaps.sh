#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# -B and -A beside qemu-nbd: the same contexts, the same extents of the same images, and what is
# refused. What a session leaves in the image is in qcow2_bitmaps.py.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io qemu-nbd nbdinfo jq
cd "$dir"

quiet() {
    "$@" >"$dir/quiet.out" 2>&1 || { cat "$dir/quiet.out"; fail "$*"; }
}

# start_qemu OPTIONS...: as start_server.
start_qemu() {
    sock=$dir/q${#server_pids[@]}
    uri="nbd+unix:///?socket=$sock"
    launch qemu-nbd -t -e 8 -k "$sock" "$@"
    wait_ready "$sock"
}

stop_qemu() {
    kill -TERM "$server_pid"
    wait "$server_pid" || true
}

contexts() {
    client nbdinfo --list --json "$uri" | jq -r '.exports[0].contexts[]' | sort
}

# What a server says of each of its contexts but base:allocation, whose holes qemu looks for deeper.
maps() {
    local context
    for context in $(contexts | grep -v base:); do
        echo "$context"
        client nbdinfo --map="$context" "$uri"
        client qemu-img map --output=json --image-opts \
            "driver=nbd,server.type=unix,server.path=$sock,x-dirty-bitmap=$context"
    done
}

# A chain of three, the middle one shorter, the last one with zeroes of its own; bitmaps in each.
quiet qemu-img create -q -f qcow2 bottom.qcow2 8M
quiet qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -z 3M 192k' bottom.qcow2
quiet qemu-img bitmap --add -g 32k bottom.qcow2 below
quiet qemu-img bitmap --add bottom.qcow2 both
quiet qemu-io -f qcow2 -c 'write -P 2 2M 5' bottom.qcow2
quiet qemu-img create -q -f qcow2 -b bottom.qcow2 -F qcow2 middle.qcow2 4M
quiet qemu-io -f qcow2 -c 'write -P 2 512k 128k' middle.qcow2
quiet qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2 16M
quiet qemu-img bitmap --add -g 4k top.qcow2 both
quiet qemu-img bitmap --add -g 64k top.qcow2 changes
quiet qemu-img bitmap --add --disable top.qcow2 frozen
quiet qemu-io -f qcow2 -c 'write -P 3 640k 64k' -c 'write -z 1M 64k' -c 'discard 9M 100k' top.qcow2
quiet qemu-img bitmap --merge changes top.qcow2 frozen
quiet qemu-io -f qcow2 -c 'write -P 3 12M 64k' top.qcow2

both=(-f qcow2 -A -B changes -B both -B frozen -B below top.qcow2)
for rights in '' -r; do
    start_qemu ${rights:+$rights} "${both[@]}"
    contexts >qemu.contexts
    maps >qemu.maps
    stop_qemu
    start_server -t ${rights:+$rights} "${both[@]}"
    contexts >ours.contexts
    maps >ours.maps
    stop_server
    same_bytes qemu.contexts ours.contexts
    same_bytes qemu.maps ours.maps
    [ "$(grep -c dirty ours.maps)" -gt 8 ] || fail "no bitmap has anything"
    grep -q 'backing depth 3' ours.maps || fail "no depth of 3"
done
ok "contexts, bits and depths are those of qemu-nbd"

start_server -t "${both[@]}"
client qemu-io -f raw -c 'write 3M 10k' -c 'write -z 15M 3k' "$uri" >/dev/null
client nbdinfo --map=qemu:dirty-bitmap:changes "$uri" >live.map
grep -q '^ *3145728 *65536 *1 *dirty' live.map || fail "a write is not seen"
grep -q '^ *15728640 *65536 *1 *dirty' live.map || fail "a write of zeroes is not seen"
client nbdinfo --map=qemu:dirty-bitmap:frozen "$uri" >frozen.map
! grep -q '^ *3145728 ' frozen.map || fail "a bitmap that is not enabled has changed"
client nbdinfo --map=qemu:allocation-depth "$uri" | grep -q '^ *3145728 *65536 *1' ||
    fail "what was written is not the image's own"
stop_server
start_qemu -r -f qcow2 -B changes top.qcow2
client nbdinfo --map=qemu:dirty-bitmap:changes "$uri" >after.map
stop_qemu
same_bytes live.map after.map
quiet qemu-img check -f qcow2 top.qcow2
ok "what clients saw is what was stored"

# A name counts once; a filter is looked through; without -A there is no depth.
start_server -t -r -B both -B both --image-opts driver=delay,file.driver=qcow2,file.file.filename=top.qcow2
[ "$(contexts | grep -c both)" = 1 ] || fail "one context, for both"
[ "$(contexts | wc -l)" = 2 ] || fail "no other context"
stop_server
ok "a name counts once, and filters are looked through"

# Above the image lies a temporary one, which has no bitmaps; the image's stay as they are.
start_server -t -s -A -f qcow2 -B changes top.qcow2
client qemu-io -f raw -c 'write 5M 64k' "$uri" >/dev/null
client nbdinfo --map=qemu:dirty-bitmap:changes "$uri" >below.map
client nbdinfo --map=qemu:allocation-depth "$uri" >below.depth
stop_server
same_bytes live.map below.map
grep -q '^ *5242880 *65536 *1 ' below.depth || fail "what was written is not in the temporary image"
grep -q ' 4  backing depth 4' below.depth || fail "no depth of 4"
ok "-s looks for bitmaps below the temporary image"

# fails_to_start WORDS OPTIONS...
fails_to_start() {
    local words=$1
    shift
    refused "$PLATTER" -k "$dir/none" "$@"
    grep -q -e "$words" refused.out || { cat refused.out; fail "it does not say: $words"; }
}
fails_to_start "bitmap 'nobody' is not found in 'top.qcow2' or the images behind it" -f qcow2 -B nobody top.qcow2
fails_to_start "bitmap 'both' is not found" -f raw -B both top.qcow2
fails_to_start "the bitmap of -B is empty" -f qcow2 -B '' top.qcow2
quiet qemu-img create -q -f qcow2 snapshot.qcow2 1M
quiet qemu-img bitmap --add snapshot.qcow2 one
quiet qemu-img snapshot -c first snapshot.qcow2
fails_to_start "leave one of -B and -l out" -f qcow2 -l first -B one snapshot.qcow2
ok "a bitmap that is not there is refused by its name"

# Counted anew: the clusters of bitmaps too.
cp top.qcow2 dirty.qcow2
printf '\1' | dd of=dirty.qcow2 bs=1 seek=79 conv=notrunc status=none
block=$(od -An -tx8 --endian=big -j65536 -N8 dirty.qcow2 | tr -d ' ') # where the refcounts are
dd if=/dev/zero of=dirty.qcow2 bs=512 count=1 seek=$((0x$block / 512)) conv=notrunc status=none
start_server -t -f qcow2 -B changes dirty.qcow2
client nbdinfo --map=qemu:dirty-bitmap:changes "$uri" >repaired.map
client qemu-io -f raw -c 'write 0 1M' "$uri" >/dev/null
stop_server
grep -q "it is repaired" "$log" || fail "it was not repaired"
quiet qemu-img check -f qcow2 dirty.qcow2
same_bytes live.map repaired.map
start_qemu -r -f qcow2 -B changes dirty.qcow2
client nbdinfo --map=qemu:dirty-bitmap:changes "$uri" | grep -q '^ *0 *1114112 *1 ' ||
    fail "the repaired image's bitmap is not kept"
stop_qemu
ok "a repair keeps the clusters of bitmaps"

# As a program leaves it that does not know bitmaps: autoclear bit 0 is gone.
cp top.qcow2 stale.qcow2
printf '\0' | dd of=stale.qcow2 bs=1 seek=95 conv=notrunc status=none
fails_to_start "bitmap 'changes' is not found" -f qcow2 -r -B changes stale.qcow2
start_server -t -f qcow2 stale.qcow2
client qemu-io -f raw -c 'write 0 1M' "$uri" >/dev/null
stop_server
grep -q "its bitmaps are out of date" "$log" || fail "no warning of bitmaps that are out of date"
[ "$(dd if=stale.qcow2 bs=1 skip=95 count=1 status=none | od -An -tu1 | tr -d ' ')" = 0 ] ||
    fail "bitmaps that are out of date count again"
quiet qemu-img check -r leaks -f qcow2 stale.qcow2
quiet qemu-img check -f qcow2 stale.qcow2
ok "bitmaps that are out of date are not shown"

# Its bits can be read all the same, its data too.
cp top.qcow2 broken.qcow2
offset=$(python3 -c '
import struct
data = open("top.qcow2", "rb").read(1 << 16)
print(struct.unpack(">Q", data[data.index(b"\x23\x85\x28\x75\0\0\0\x18") + 24:][:8])[0])')
printf '\377' | dd of=broken.qcow2 bs=1 seek=$((offset + 16)) conv=notrunc status=none
fails_to_start "for writing, as its bitmaps would become untrue: a bitmap's type is 255" -f qcow2 broken.qcow2
start_server -t -f qcow2 -r broken.qcow2
client nbdinfo --map "$uri" >/dev/null
stop_server
ok "a directory that makes no sense is no reason not to read the data"
