#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The driver null through real clients: alone, and below a format.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need nbdinfo qemu-io nbdcopy

start_server -t -e 0 --image-opts driver=null-co,size=3G,read-zeroes=on
[ "$(client nbdinfo --size "$uri")" -eq $((3 << 30)) ] || fail "the size is not 3 GiB"
client qemu-io -f raw "$uri" -c 'write -P 7 1M 64k' -c 'read -P 0 1M 64k' -c 'write -z 0 1M' \
    -c 'discard 2M 1M' -c flush >"$dir/io.out" || fail "requests: $(cat "$dir/io.out")"
! grep -q 'verification failed' "$dir/io.out" || fail "it reads as something else than zeroes"
client nbdinfo --map "$uri" >"$dir/map"
grep -Eq '^ *0 +3221225472 +3 ' "$dir/map" || fail "it is not one hole: $(cat "$dir/map")"
stop_server
ok "a disk of 3 GiB that keeps nothing"

if ! is_stand_in; then
    start_server -t -e 0 --image-opts driver=raw,offset=1M,file.driver=null,file.size=3M
    [ "$(client nbdinfo --size "$uri")" -eq $((2 << 20)) ] || fail "the size is not 2 MiB"
    head -c 2M /dev/zero >"$dir/zeroes"
    client nbdcopy "$uri" "$dir/copy"
    same_bytes "$dir/copy" "$dir/zeroes"
    stop_server
    ok "below a format"

    start_server -t -e 0 --image-opts file.driver=null,file.size=3M
    [ "$(client nbdinfo --size "$uri")" -eq $((3 << 20)) ] || fail "the size is not 3 MiB"
    stop_server
    ok "below a format that is probed for"
fi

start_server -t -e 0 --image-opts driver=null-co,size=1M,latency-ns=200000000
begin=$(date +%s%N)
client qemu-io -f raw "$uri" -c 'read 0 4k' -c 'read 0 4k' >/dev/null
took=$((($(date +%s%N) - begin) / 1000000))
[ $took -ge 400 ] || fail "two reads of 200 ms each took $took ms"
stop_server
ok "latency-ns"

refused "$PLATTER" -k "$dir/never" --image-opts driver=null-co,size=1M,colour=red
grep -q colour "$dir/refused.out" || fail "the option is not named: $(cat "$dir/refused.out")"
ok "an unknown option is named"
