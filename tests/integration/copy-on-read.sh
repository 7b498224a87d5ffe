#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# copy-on-read over a chain of qcow2 images: what a client reads is in the top image afterwards, what
# it did not read is not, and below the option "bottom" nothing is copied. Judged by qemu-img.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-io qemu-img jq
is_stand_in && skip "the stand-in has other node names"

# base.img <- mid.qcow2 (has the second MiB of its own) <- top.qcow2
new_chain() {
    rm -f "$dir"/*.qcow2 "$dir/base.img"
    random_file "$dir/base.img" 4194304
    qemu-img create -q -f qcow2 -b base.img -F raw "$dir/mid.qcow2"
    qemu-io -f qcow2 -c "write -P 7 1M 1M" "$dir/mid.qcow2" >/dev/null
    qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 "$dir/top.qcow2"
    qemu-img convert -O raw "$dir/top.qcow2" "$dir/expected"
}

# own_bytes: how much of the disk the top image has itself.
own_bytes() {
    qemu-img map --output=json "$dir/top.qcow2" | jq '[.[] | select(.depth == 0) | .length] | add // 0'
}

judge() { # BYTES OF ITS OWN
    qemu-img check -q "$dir/top.qcow2" || fail "qemu-img check has found something"
    qemu-img compare -q "$dir/top.qcow2" "$dir/expected" || fail "the disk reads differently"
    [ "$(own_bytes)" -eq "$1" ] || fail "the top image has $(own_bytes) bytes of its own, not $1"
}

read_by_client() {
    client qemu-io -f raw -c "$1" "$uri" >"$dir/out" 2>&1 || fail "$1: $(cat "$dir/out")"
    ! grep -qiE 'fail|error' "$dir/out" || fail "$1: $(cat "$dir/out")"
}

new_chain
start_server -t --image-opts "driver=copy-on-read,file.driver=qcow2,file.file.filename=$dir/top.qcow2"
read_by_client "read 100k 1k"
read_by_client "read -P 7 1M 128k"
stop_server
judge $((64 * 1024 + 128 * 1024))
ok "what was read is the image's own, by whole clusters, and nothing else is"

start_server -t --image-opts "driver=copy-on-read,file.driver=qcow2,file.file.filename=$dir/top.qcow2"
read_by_client "read 0 4M"
stop_server
judge $((4 * 1024 * 1024))
rm "$dir/base.img"
: >"$dir/base.img"
qemu-img compare -q "$dir/top.qcow2" "$dir/expected" || fail "it still needs its backing file"
ok "after all was read the backing files are not needed"

new_chain
start_server -t --image-opts "driver=copy-on-read,bottom=middle,file.driver=qcow2,\
file.file.filename=$dir/top.qcow2,file.backing.driver=qcow2,file.backing.node-name=middle,\
file.backing.file.filename=$dir/mid.qcow2"
read_by_client "read 0 4M"
stop_server
judge $((1024 * 1024))
ok "with bottom=, what comes from further down is not copied"
