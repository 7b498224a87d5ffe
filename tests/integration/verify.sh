#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter verify through real clients: two images that are the same, and two that are not.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-io nbdcopy openssl

random_file "$dir/right.img" 3000000
cp "$dir/right.img" "$dir/tested.img"
both=raw.driver=file,raw.filename=$dir/right.img,test.driver=raw,test.file.driver=file,test.file.filename=$dir/tested.img

! is_stand_in || skip "the stand-in ends where images differ"

start_server -t -e 0 --image-opts "driver=blkverify,$both"
client nbdcopy "$uri" "$dir/copy"
same_bytes "$dir/copy" "$dir/right.img"
client qemu-io -f raw "$uri" -c 'write -P 7 1M 300k' -c 'write -z 1100k 10k' -c flush \
    -c 'discard 0 64k' -c 'read -P 7 1M 60k' >/dev/null || fail "requests"
random_file "$dir/new" 3000000
client nbdcopy "$dir/new" "$uri"
stop_server
same_bytes "$dir/right.img" "$dir/tested.img"
same_bytes "$dir/right.img" "$dir/new"
ok "both images get what is written"

printf '\252' | dd of="$dir/tested.img" bs=1 seek=1234567 conv=notrunc status=none
right=$(dd if="$dir/right.img" bs=1 skip=1234567 count=1 status=none | od -An -tx1 | tr -d ' ')
start_server -t -e 0 --image-opts "driver=verify,$both"
client qemu-io -f raw "$uri" -c 'read 0 1M' >/dev/null || fail "a read of what is the same"
refused qemu-io -f raw "$uri" -c 'read 1M 1M'
grep -Eq "offset 1234567: it has aa( ..)*, and should have $right" "$log" ||
    fail "the difference is not told: $(cat "$log")"
refused nbdcopy "$uri" "$dir/copy"
stop_server
ok "a byte that differs is told, and its read fails"

truncate -s 2999999 "$dir/tested.img"
refused "$PLATTER" -k "$dir/never" --image-opts "driver=verify,$both"
grep -q "2999999 bytes, and the reference" "$dir/refused.out" || fail "$(cat "$dir/refused.out")"
ok "images of two sizes are refused"
