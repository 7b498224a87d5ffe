#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The I/O suite: io-suite.sh [SERVER OPTIONS...]. Every engine and cache mode runs it.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-io qemu-img nbdcopy openssl

options=("$@")
options_of_ours "$@"
case " ${options[*]} " in
*--cache=none*)
    dd if=/dev/zero of="$dir/direct" bs=4096 count=1 oflag=direct status=none 2>/dev/null ||
        skip "the file system of $dir has no O_DIRECT"
    ;;
esac

# The size is odd on purpose: the last sector is 17 bytes long.
size=$((33554432 + 17))
truncate -s $size "$dir/disk.img"
start_server -t -e 0 -f raw "${options[@]}" "$dir/disk.img"

# io COMMANDS...: one qemu-io session. A pattern that does not verify is a failure, though qemu-io
# sometimes says so only in its output.
io() {
    local arguments=() command
    for command in "$@"; do
        arguments+=(-c "$command")
    done
    client qemu-io -f raw -d unmap "${arguments[@]}" "$uri" >"$dir/io.out" 2>&1 ||
        fail "qemu-io: $(cat "$dir/io.out")"
    if grep -iE 'verification failed|error|failed' "$dir/io.out"; then
        fail "qemu-io: $(cat "$dir/io.out")"
    fi
}

io 'read -P 0 0 32M'
ok "a new image reads as zeroes"
io 'write -P 0xa1 0 64k' 'write -P 0xb2 64k 1M' 'write -P 0xc3 2M 4k' 'flush' \
    'read -P 0xa1 0 64k' 'read -P 0xb2 64k 1M' 'read -P 0 1088k 960k' 'read -P 0xc3 2M 4k'
ok "patterns are read back"
io 'write -P 0x11 3M 64k' 'write -P 0x22 3145729 511' 'write -P 0x33 3146753 1025' \
    'read -P 0x11 3M 1' 'read -P 0x22 3145729 511' 'read -P 0x11 3146240 513' \
    'read -P 0x33 3146753 1025' 'read -P 0x11 3147778 5000'
ok "unaligned writes change their own bytes only"
io 'write -P 0x44 4M 1M' 'write -z 4259840 65536' 'read -P 0x44 4M 64k' \
    'read -P 0 4259840 65536' 'read -P 0x44 4325376 64k'
io 'write -z -u 4390912 65536' 'read -P 0 4390912 65536' 'write -z 4456449 777' \
    'read -P 0x44 4456448 1' 'read -P 0 4456449 777' 'read -P 0x44 4457226 1000'
ok "zeroes are written, aligned and not"
io 'write -P 0x55 6M 1M' 'discard 6356992 65536' 'read -P 0x55 6M 64k' 'read -P 0x55 6422528 64k' \
    'discard 6422529 100' 'read -P 0x55 6488064 4k'
ok "a discard leaves its neighbours alone"
io 'aio_write -P 0x61 8M 64k' 'aio_write -P 0x62 8454144 64k' 'aio_write -P 0x63 8519680 64k' \
    'aio_write -z 8585216 64k' 'aio_write -P 0x64 8650752 4096' 'aio_flush' \
    'read -P 0x61 8M 64k' 'read -P 0x62 8454144 64k' 'read -P 0x63 8519680 64k' \
    'read -P 0 8585216 64k' 'read -P 0x64 8650752 4096'
io 'aio_write -f -P 0x65 9M 64k' 'aio_read 0 1M' 'aio_write -P 0x66 9502720 100' 'aio_flush' \
    'read -P 0x65 9M 64k' 'read -P 0x66 9502720 100'
ok "many at once, with FUA, reads between"
io 'write -P 0x71 33554304 128' 'read -P 0x71 33554304 128'
client qemu-io -f raw -c 'read 32M 16' "$uri" >/dev/null || fail "the tail cannot be read"
ok "the end of the image"
stop_server

[ "$(stat -c %s "$dir/disk.img")" -eq $size ] || fail "the image changed its size"
cmp -n 65536 "$dir/disk.img" <(head -c 65536 /dev/zero | tr '\0' '\241') || fail "not on the disk"
ok "what was written is in the file"

random_file "$dir/random" $size
start_server -t -e 0 -f raw "${options[@]}" "$dir/disk.img"
client nbdcopy --flush "$dir/random" "$uri"
client nbdcopy "$uri" "$dir/back"
same_bytes "$dir/random" "$dir/back"
stop_server
same_bytes "$dir/random" "$dir/disk.img"
ok "a whole image with an odd tail, in and out by four connections"

start_server -t -e 0 -r -f raw "${options[@]}" "$dir/disk.img"
client nbdcopy "$uri" "$dir/again"
same_bytes "$dir/random" "$dir/again"
stop_server
ok "read-only"
