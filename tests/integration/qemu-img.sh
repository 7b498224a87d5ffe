#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# qemu-img over nbd+unix: info, convert both ways, compare, map.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-img jq openssl

sparse_image "$dir/disk.img"
start_server -t -e 0 -f raw "$dir/disk.img"

client qemu-img info --output=json "$uri" >"$dir/info"
jq -e '.["virtual-size"] == 67108864 and .format == "raw"' "$dir/info" >/dev/null ||
    fail "info: $(cat "$dir/info")"
ok "info"

client qemu-img map --output=json -f raw "$uri" >"$dir/map"
jq -e '[.[] | select(.data)] | map([.start, .length]) ==
    [[0,1048576],[33554432,1048576],[67104768,4096]]' "$dir/map" >/dev/null ||
    fail "map: $(cat "$dir/map")"
jq -e 'map(.length) | add == 67108864' "$dir/map" >/dev/null || fail "map has gaps"
ok "map shows the data and only the data"

client qemu-img convert -f raw -O qcow2 "$uri" "$dir/out.qcow2"
client qemu-img compare -f raw -F qcow2 "$dir/disk.img" "$dir/out.qcow2"
client qemu-img compare -f raw -F raw "$uri" "$dir/disk.img"
ok "convert out, and compare against the file"
stop_server

truncate -s 64M "$dir/target.img"
start_server -t -e 0 -f raw --discard=unmap "$dir/target.img"
client qemu-img convert -n -f qcow2 -O raw -W "$dir/out.qcow2" "$uri"
client qemu-img compare -f raw -F raw "$uri" "$dir/disk.img"
stop_server
same_bytes "$dir/disk.img" "$dir/target.img"
ok "convert in"

# A changed byte must be seen.
start_server -t -e 0 -f raw "$dir/target.img"
client qemu-io -f raw -c 'write -P 0x5a 40M 512' "$uri" >/dev/null
refused qemu-img compare -f raw -F raw "$uri" "$dir/disk.img"
ok "compare sees a change"
stop_server
