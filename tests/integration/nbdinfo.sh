#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# nbdinfo sees the export as it is: list, JSON, and the map of data and holes.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need nbdinfo jq openssl

image=$dir/disk.img
sparse_image "$image"
start_server -t -e 0 -f raw -x "disk one" -D "a disk with holes" "$image"
uri="nbd+unix:///disk%20one?socket=$sock"

client nbdinfo --list "nbd+unix:///?socket=$sock" >"$dir/list"
grep -q 'export="disk one"' "$dir/list" || fail "--list lacks the export: $(cat "$dir/list")"
grep -q 'a disk with holes' "$dir/list" || fail "--list lacks the description"
ok "--list shows the export's name and description"

client nbdinfo --json "$uri" >"$dir/json"
json() {
    jq -e "$1" "$dir/json" >/dev/null || fail "not so: $1 in $(cat "$dir/json")"
}
json '.protocol == "newstyle-fixed" and .TLS == false and .structured == true'
json '.exports | length == 1'
json '.exports[0]["export-size"] == 67108864'
json '.exports[0].description == "a disk with holes"'
json '.exports[0].contexts | index("base:allocation") != null'
json '.exports[0].is_read_only == false'
json '.exports[0].can_flush and .exports[0].can_fua and .exports[0].can_df'
json '.exports[0].can_trim and .exports[0].can_zero'
json '.exports[0].can_multi_conn'
json '.exports[0].block_size_minimum == 1 and .exports[0].block_size_preferred >= 512'
json '.exports[0].block_size_maximum >= 1048576'
ok "--json has the size, the flags, the block sizes and the context"

client nbdinfo --map --json "$uri" >"$dir/map"
map() {
    jq -e "$1" "$dir/map" >/dev/null || fail "not so: $1 in $(cat "$dir/map")"
}
# Neighbours of one kind are joined first: a server may split an extent where it likes.
joined='reduce .[] as $e ([]; if length > 0 and .[-1].type == $e.type
    then .[-1].length += $e.length else . + [$e] end) | map([.offset, .length, .type])'
map "($joined) == [[0,1048576,0],[1048576,32505856,3],[33554432,1048576,0],
    [34603008,32501760,3],[67104768,4096,0]]"
ok "--map shows data and holes, exactly"

client nbdinfo --size "$uri" | grep -qx 67108864 || fail "--size is wrong"
refused nbdinfo "nbd+unix:///other?socket=$sock"
ok "an unknown export is refused"
client nbdinfo --is tls "$uri" && fail "says it has TLS"
stop_server

start_server -t -e 1 -f raw "$image"
client nbdinfo --can multi-conn "$uri" && fail "-e 1 announces multi-conn"
ok "-e 1 does not announce multi-conn"
stop_server
