#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A file that another program makes longer while it is served: who comes is told the new size, who is
# there keeps the old one and goes on.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need nbdinfo qemu-io
! is_stand_in || skip "the stand-in keeps the size that the image had"

size_is() {
    local size
    size=$(client nbdinfo --size "$uri")
    [ "$size" -eq "$1" ] || fail "the size is $size, not $1"
}

truncate -s 1M "$dir/disk.img"
start_server -t -e 0 -f raw "$@" "$dir/disk.img"
size_is 1048576
mkfifo "$dir/orders"
exec 9<>"$dir/orders"
client qemu-io -f raw "$uri" <"$dir/orders" >"$dir/old.out" 2>&1 9>&- &
old=$!

# tell ORDER WANTED: the client that was there first does it, and prints WANTED in the end.
tell() {
    local try
    : >"$dir/old.out"
    echo "$1" >&9
    for try in $(seq $((limit_s * 10))); do
        ! grep -q "$2" "$dir/old.out" || return 0
        sleep 0.1
    done
    fail "$1 (try $try): $(cat "$dir/old.out")"
}
tell 'length' '1 MiB'
tell 'write -P 0x61 1044480 4096' 'wrote 4096/4096'
truncate -s 3000001 "$dir/disk.img"
size_is 3000001
ok "a new client sees the new size"

client qemu-io -f raw "$uri" -c 'write -P 0x63 2999808 193' >"$dir/out" 2>&1 || fail "$(cat "$dir/out")"
[ "$(tail -c 1 "$dir/disk.img")" = c ] || fail "a write to what was added went elsewhere"
ok "what was added is written"
tell 'length' '1 MiB'
tell 'read -P 0x61 1044480 4096' 'read 4096/4096'
tell 'write -P 0x62 0 512' 'wrote 512/512'
! grep -qi verification "$dir/old.out" || fail "the client that was there reads something else"
echo quit >&9
wait "$old" || fail "the client that was there: $(cat "$dir/old.out")"
[ "$(head -c 1 "$dir/disk.img")" = b ] || fail "its write is not there"
ok "the client that was there goes on with its own size"

truncate -s 2M "$dir/disk.img"
size_is 3000001
ok "a file that is cut keeps its size"
stop_server

start_server -t -e 0 --image-opts "driver=raw,size=1M,file.filename=$dir/disk.img"
truncate -s 4M "$dir/disk.img"
size_is 1048576
stop_server
ok "a size that was asked for stays"
