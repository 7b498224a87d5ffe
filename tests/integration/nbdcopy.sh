#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# nbdcopy, both ways, with checksums: a sparse image and sizes that are no multiple of 512.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need nbdcopy nbdinfo openssl

sparse_image "$dir/sparse-64M"
for size in 1 511 513 1048593; do
    random_file "$dir/odd-$size" "$size"
done

for from in sparse-64M odd-1 odd-511 odd-513 odd-1048593; do
    size=$(stat -c %s "$dir/$from")
    cp --sparse=always "$dir/$from" "$dir/served"
    start_server -t -e 0 -f raw "$dir/served"
    [ "$(client nbdinfo --size "$uri")" = "$size" ] || fail "$from is served with another size"
    client nbdcopy "$uri" "$dir/out"
    same_bytes "$dir/$from" "$dir/out"
    [ "$(sum_of "$dir/out")" = "$(sum_of "$dir/$from")" ] || fail "checksum of $from"
    ok "copied out: $from, $size bytes"
    stop_server

    rm "$dir/served"
    truncate -s "$size" "$dir/served"
    start_server -t -e 0 -f raw "$dir/served"
    client nbdcopy --flush "$dir/$from" "$uri"
    stop_server
    [ "$(stat -c %s "$dir/served")" = "$size" ] || fail "copying in changed the size of $from"
    same_bytes "$dir/$from" "$dir/served"
    ok "copied in: $from"
    rm "$dir/out" "$dir/served"
done

cp --sparse=always "$dir/sparse-64M" "$dir/served"
truncate -s 64M "$dir/copy"
start_server -t -e 0 -f raw "$dir/served"
from_uri=$uri
from_pid=$server_pid from_sock=$sock
start_server -t -e 0 -f raw --discard=unmap "$dir/copy"
client nbdcopy --flush "$from_uri" "$uri"
stop_server
server_pid=$from_pid sock=$from_sock
stop_server
same_bytes "$dir/served" "$dir/copy"
[ "$(allocated_bytes "$dir/copy")" -lt 8388608 ] || fail "the copy of a sparse image is not sparse"
ok "server to server, and the copy is sparse"
