#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The load generator's own check: what it writes is what it reads, and a changed byte is an error.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/../integration/lib.sh"
need jq

lean=$1
truncate -s 8M "$dir/disk.img"
start_server -t -e 0 -f raw "$dir/disk.img"

# lean_ok OPTIONS... MODE: no error counted, and figures that make sense.
lean_ok() {
    client "$lean" --json "$@" "$uri" >"$dir/result" || fail "lean $*: $(cat "$dir/result")"
    jq -e '.errors == 0 and .requests > 0 and .iops > 0 and .latency_us.max >= .latency_us.p50' \
        "$dir/result" >/dev/null || fail "lean $*: $(cat "$dir/result")"
}
lean_ok --verify -b64k -d8 -n128 write # the whole image, once
for mode in read randread; do
    for options in '-d1 -n500' '-d16 -n2000' '-d64 -c4 -n4000' '-d4 -b3000 -n1000' '-d8 -b1m -n64'; do
        for structured in '' -S; do
            # shellcheck disable=SC2086
            lean_ok --verify $options $structured $mode
        done
    done
done
jq -e '.requests == 64' "$dir/result" >/dev/null || fail "64 were asked for: $(cat "$dir/result")"
ok "what was written is read, at every depth, size and number of connections"
lean_ok --verify -d16 -c3 -n3000 randwrite
lean_ok --verify -d16 -n1000 -b512 writeflush
lean_ok --verify -d16 -n2000 -S randread
ok "random writes, and writes with flushes"
stop_server

printf x | dd of="$dir/disk.img" bs=1 seek=5000000 conv=notrunc status=none
start_server -t -e 0 -f raw "$dir/disk.img"
refused "$lean" --verify -b64k -n128 read "$uri"
grep -q '1 errors' "$dir/refused.out" || fail "one block is wrong: $(cat "$dir/refused.out")"
ok "a changed byte is found"
refused "$lean" randread "$uri" extra
refused "$lean" sideways "$uri"
refused "$lean" -d0 read "$uri"
refused "$lean" read "nbd+unix:///nosuch?socket=$sock"
ok "bad arguments are refused"
stop_server
