#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# -o: clients see the image from that byte on, and cannot reach what lies before it.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need nbdcopy nbdinfo qemu-io openssl

random_file "$dir/pattern" 1000003
for offset in 1 512 4097 1000003; do
    for mode in "" -n; do
        cp "$dir/pattern" "$dir/disk.img"
        tail -c +$((offset + 1)) "$dir/pattern" >"$dir/part"
        # shellcheck disable=SC2086 # an empty mode is no word
        start_server -t -e 0 -f raw -o $offset $mode "$dir/disk.img"
        [ "$(client nbdinfo --size "$uri")" = $((1000003 - offset)) ] || fail "size at offset $offset"
        if [ $offset -lt 1000003 ]; then
            client nbdcopy "$uri" "$dir/copy"
            same_bytes "$dir/copy" "$dir/part"
            # The other way round: what lies before the offset stays.
            openssl enc -aes-128-ctr -nosalt -K 0f -iv 0f -in "$dir/part" -out "$dir/new" 2>/dev/null
            client nbdcopy "$dir/new" "$uri"
            stop_server
            cmp <(head -c $offset "$dir/pattern"; cat "$dir/new") "$dir/disk.img" ||
                fail "the image after a copy to offset $offset"
        else
            stop_server
        fi
        ok "offset $offset ${mode:-buffered}: read, written, and nothing before it"
    done
done

rm "$dir/disk.img"
truncate -s 3M "$dir/disk.img"
start_server -t -f raw -o 0x100000 --discard=unmap "$dir/disk.img"
client qemu-io -f raw "$uri" -c 'write -P 7 0 2M' -c 'write -z 512 1M' -c 'discard 1M 64k' \
    -c 'read -P 7 0 512' -c 'read -P 0 512 1M' -c 'read -P 0 1M 64k' -c 'read -P 7 1114112 983040' \
    >"$dir/out" || fail "$(cat "$dir/out")"
grep -q 'verification failed' "$dir/out" && fail "$(cat "$dir/out")"
stop_server
cmp -n 1048576 "$dir/disk.img" /dev/zero || fail "something was written before the offset"
ok "writes, zeroes and trims stay behind the offset"
