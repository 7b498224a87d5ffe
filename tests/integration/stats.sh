#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# --stats: what real clients did is counted exactly, at SIGUSR1 and at the end.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-io qemu-img python3
! is_stand_in || skip "the stand-in has no statistics"

stats=$dir/stats.json

# field EXPRESSION: of the export x, or its whole s.
field() {
    python3 -c 'import json, sys
s = json.load(open(sys.argv[1])); x = s["exports"][0]; r = x["requests"]
print(eval(sys.argv[2]))' "$stats" "$1"
}

is() {
    local got
    got=$(field "$1")
    [ "$got" = "$2" ] || fail "$1 is $got, not $2: $(cat "$stats")"
}

some_io() {
    client qemu-io -t writeback -f raw -c 'write -P 1 0 4k' -c 'write -P 2 4k 64k' -c 'read -P 1 0 4k' \
        -c 'write -z 128k 4k' -c flush "$uri" >"$dir/io.out" || fail "qemu-io: $(cat "$dir/io.out")"
}

truncate -s 8M "$dir/disk.img"
start_server -t -e 0 -f raw -x name --stats="$stats" "$dir/disk.img"
uri="nbd+unix:///name?socket=$sock"
[ ! -e "$stats" ] || fail "there are statistics before anybody asked"
some_io
kill -USR1 "$server_pid"
for _ in $(seq 200); do
    [ ! -e "$stats" ] || break
    sleep 0.1
done
is 's["written_at"]' signal
is 's["pid"]' "$server_pid"
is 'x["name"]' name
is 'x["size_bytes"]' 8388608
is 'r["write"]["operations"]' 2
is 'r["write"]["bytes"]' 69632
is 'r["read"]["operations"]' 1
is 'r["read"]["bytes"]' 4096
is 'r["zero"]["bytes"]' 4096
ok "SIGUSR1 writes what was done while the server runs"

some_io
stop_server
is 's["written_at"]' exit
is 'r["write"]["operations"]' 4
is 'r["write"]["bytes"]' 139264
is 'r["read"]["operations"]' 2
is 'r["zero"]["operations"]' 2
is 'sum(r[k]["failed"] + r[k]["invalid"] + r[k]["merged"] for k in r)' 0
is 'all(r[k]["latency"]["life"]["count"] == r[k]["operations"] for k in ("read", "write", "zero", "flush"))' True
is 'all(0 < l["min_ns"] <= l["p50_ns"] <= l["p99_ns"] <= l["max_ns"] for k in r for l in r[k]["latency"].values())' True
is 'x["node"]["driver"] + ">" + x["node"]["children"][0]["driver"]' 'raw>file'
is 'x["node"]["children"][0]["requests"]["write"]["bytes"]' 139264
is 'x["error_policy"]["stopped"]' None
[ -z "$(find "$dir" -name 'stats.json.*')" ] || fail "a temporary file is left"
ok "the last ones are exact, and the file is replaced whole"

# 1 MiB reads go without a copy.
random_file "$dir/disk.img" 8388608
cat "$dir/disk.img" >/dev/null
start_server -t -r -f raw --stats="$stats" "$dir/disk.img"
client qemu-io -r -f raw -c 'read 0 1M' -c 'read 1M 1M' "$uri" >/dev/null
stop_server
is 'r["read"]["operations"]' 2
is 'r["read"]["bytes"]' 2097152
is 'r["read"]["failed"]' 0
ok "reads that are lent are counted"

# shellcheck disable=SC2016 # the server's shell expands them
client "$PLATTER" -f raw -r --stats=- --run 'nbdinfo --size "$uri" >/dev/null' "$dir/disk.img" >"$stats"
is 's["written_at"]' exit
ok "- is standard output"

# Below a filter, an image that is probed has the name that was given for it.
client "$PLATTER" -r --stats="$stats" --run true --image-opts \
    "driver=delay,node-name=top,file.filename=$dir/disk.img,file.node-name=disk" 2>/dev/null
is 'x["node"]["node_name"], x["node"]["children"][0]["node_name"]' "('top', 'disk')"
is 'x["node"]["children"][0]["driver"]' raw
is '"node_name" in x["node"]["children"][0]["children"][0]' False
ok "nodes have the names that they were given"

# shellcheck disable=SC2016
client "$PLATTER" -v -f raw -r --run 'qemu-io -r -f raw -c "read 0 4k" "$uri" >/dev/null' "$dir/disk.img" 2>"$dir/text"
grep -q '^  read     1, 4096 bytes; us: min ' "$dir/text" || fail "no text with -v: $(cat "$dir/text")"
ok "-v prints text at the end"

for path in "$dir/none/stats.json" "$dir" ''; do
    refused "$PLATTER" -f raw -k "$dir/refused.sock" --stats="$path" "$dir/disk.img"
    [ "$(wc -l <"$dir/refused.out")" -eq 1 ] || fail "not one sentence: $(cat "$dir/refused.out")"
done
refused "$PLATTER" -f raw -k "$dir/refused.sock" --fork --stats=- "$dir/disk.img"
ok "a place that cannot be written is refused at the start"

qemu-img create -q -f qcow2 "$dir/disk.qcow2" 64M
qemu-io -f qcow2 -c 'write 0 1M' "$dir/disk.qcow2" >/dev/null
start_server -t -f qcow2 --stats="$dir/qcow2.json" "$dir/disk.qcow2"
for _ in 1 2 3; do
    client qemu-io -f raw -c 'read 0 4k' -c 'read 512k 4k' "$uri" >"$dir/out" 2>&1 || fail "$(cat "$dir/out")"
done
stop_server
python3 -c 'import json, sys
c = json.load(open(sys.argv[1]))["exports"][0]["node"]["counters"]
assert c["l2_cache_hits"] >= 4 and 1 <= c["l2_cache_misses"] <= 2, c' "$dir/qcow2.json"
ok "the hits of a format's cache are told"
