#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter throttle under a client: data arrives, no faster than the limit, and a server that is
# stopped does not wait for it. That it is no slower than the limit is for tests/bench/throttle.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-io nbdcopy openssl
! is_stand_in || skip "the stand-in is not asked for the filter throttle"

random_file "$dir/disk.img" 1048576
cp "$dir/disk.img" "$dir/before"
above=driver=throttle,throttle-group=g,file.driver=raw,file.file.filename=$dir/disk.img
below=driver=raw,file.driver=throttle,file.throttle-group=g,file.file.filename=$dir/disk.img

# takes_at_least SECONDS COMMAND...: no machine is so fast that it may be quicker.
takes_at_least() {
    local seconds=$1 begin=$EPOCHREALTIME
    shift
    client "$@" >"$dir/out" || fail "$*"
    local took_us=$((${EPOCHREALTIME/./} - ${begin/./}))
    [ $took_us -ge $((seconds * 1000000)) ] || fail "took $took_us us, not $seconds s: $*"
}

reads=()
for ((i = 0; i < 100; i++)); do
    reads+=(-c "read $((i * 4096)) 4k")
done
for where in "$above" "$below"; do
    start_server -t -e 0 --object throttle-group,id=g,x-iops-total=40 --image-opts "$where"
    # 100 reads; at most 5 at once.
    takes_at_least 2 qemu-io -f raw "$uri" "${reads[@]}"
    stop_server
    ok "40 a second: $(cut -d, -f1,2 <<<"$where")"
done

start_server -t -e 0 --object '{"qom-type": "throttle-group", "id": "g", "limits": {"bps-total": 500000}}' \
    --image-opts "$above"
# 1 MiB, of which a tenth of a second's worth and one request go at once.
takes_at_least 1 nbdcopy --request-size=65536 "$uri" "$dir/copy"
stop_server
same_bytes "$dir/copy" "$dir/before"
ok "a copy at 500000 bytes a second has every byte"

start_server -t -e 0 --object throttle-group,id=g,x-iops-write=100 --image-opts "$above"
client qemu-io -f raw "$uri" -c 'write -P 17 0 64k' -c 'write -z 64k 64k' -c 'discard 128k 64k' -c flush \
    -c 'read -P 17 0 64k' -c 'read -P 0 64k 64k' >"$dir/out" || fail "$(cat "$dir/out")"
! grep -q 'verification failed' "$dir/out" || fail "$(cat "$dir/out")"
stop_server
ok "writes, zeroes and trims arrive"

# A byte a second: the second request would wait for an hour.
start_server -t -e 0 --object throttle-group,id=g,x-bps-total=1 --image-opts "$above"
timeout "$limit_s" qemu-io -f raw "$uri" -c 'aio_write -P 33 0 4k' -c 'aio_write -P 34 4k 4k' \
    -c 'aio_write -P 35 8k 4k' -c aio_flush >"$dir/out" 2>&1 &
waiting=$!
for ((try = 0; try < 600; try++)); do
    cmp -s -n 1 "$dir/disk.img" <(printf '\041') && break
    sleep 0.1
done
sleep 0.5
kill -0 $waiting 2>/dev/null || fail "all of it went at once: $(cat "$dir/out")"
stop_server
wait $waiting || true
ok "a server that is stopped does not wait for the limit"
