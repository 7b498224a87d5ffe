#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter record through real clients. Its logs are read by a reader of their own, and by qemu's driver
# blklogwrites, which goes on behind them; and the other way round.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-io qemu-img python3 openssl
! is_stand_in || skip "the stand-in is what ours is compared with"

size=4194304
log_writes() {
    python3 "$here/log_writes.py" "$@"
}

new_image() {
    truncate -s 0 "$dir/disk.img" "$dir/disk.log"
    truncate -s $size "$dir/disk.img"
}

# The log makes what is in the image.
replays_to_image() {
    truncate -s 0 "$dir/replayed"
    truncate -s $size "$dir/replayed"
    log_writes replay "$dir/disk.log" "$dir/replayed" || fail "the log cannot be replayed"
    same_bytes "$dir/replayed" "$dir/disk.img"
}

# count KIND: entries of that kind.
count() {
    log_writes show "$dir/disk.log" | awk -v kind="$1" '$2 == kind' | wc -l
}

graph=driver=record,file.driver=raw,file.file.filename=$dir/disk.img,log.filename=$dir/disk.log

# qemu-io writes through by itself: every write has FUA then.
io() {
    client qemu-io -t writeback "$@"
}

# Every kind of request, and what each is in the log.
new_image
start_server -t --discard=unmap --image-opts "$graph"
io -f raw -d unmap "$uri" -c 'write -P 1 0 64k' -c 'write -P 2 -f 64k 512' -c 'write -z 4k 8k' \
    -c 'discard 32k 4k' -c 'write -P 3 100 1000' -c flush -c 'read -P 1 1536 2048' >"$dir/io.out" ||
    fail "$(cat "$dir/io.out")"
stop_server
log_writes show "$dir/disk.log" >"$dir/shown"
head -n 6 "$dir/shown" | diff - <(cat <<TEXT
0 write 0 65536 
1 fua 65536 512 
2 write 4096 8192 
3 discard 32768 4096 
4 write 0 1536 
5 flush 0 0 
TEXT
) || fail "another log: $(cat "$dir/shown")"
replays_to_image
ok "each kind of request is in the log as the kernel has it"

# Many at a time, on several loops.
new_image
start_server -t -e 0 --threads=4 --discard=unmap --image-opts "$graph,log-super-update-interval=50"
writers=()
for client in 1 2 3 4; do
    commands=()
    for i in $(seq 60); do
        commands+=(-c "aio_write -P $((i % 250 + 1)) $(((i * 7919 * client) % 4000))k $((i % 9 + 1))k")
        [ $((i % 20)) -ne 0 ] || commands+=(-c flush)
    done
    timeout "$limit_s" qemu-io -t writeback -f raw "$uri" "${commands[@]}" -c aio_flush >"$dir/io.$client" 2>&1 &
    writers+=($!)
done
for pid in "${writers[@]}"; do wait "$pid" || fail "a writer failed: $(cat "$dir"/io.?)"; done
stop_server
[ "$(count write)" -ge 240 ] || fail "$(count write) writes are in the log"
[ "$(count flush)" -ge 4 ] || fail "$(count flush) flushes are in the log"
replays_to_image
ok "four clients' writes replay to the image"

# qemu goes on behind our log, and we behind qemu's.
qemu_graph=driver=blklogwrites,file.driver=file,file.filename=$dir/disk.img,log.driver=file,log.filename=$dir/disk.log
before=$(count write)
io --image-opts "$qemu_graph,log-append=on" -c 'write -P 9 1M 8k' -c flush >"$dir/io.out" ||
    fail "qemu does not take our log: $(cat "$dir/io.out")"
[ "$(count write)" -eq $((before + 1)) ] || fail "qemu's write is not behind ours"
replays_to_image
ok "qemu goes on behind our log"
start_server -t --discard=unmap --image-opts "$graph,log-append=on"
io -f raw "$uri" -c 'write -P 11 2M 12k' >/dev/null
stop_server
[ "$(count write)" -eq $((before + 2)) ] || fail "our write is not behind qemu's"
replays_to_image
ok "we go on behind qemu's"

# The peer writes the same log for the same requests.
requests=(-c 'write -P 1 0 4k' -c 'write -P 2 8k 512' -c 'write -z 4k 4k')
new_image
io --image-opts "$qemu_graph,log-sector-size=4096" "${requests[@]}" >/dev/null
log_writes show "$dir/disk.log" | grep -v flush >"$dir/theirs"
cp "$dir/disk.img" "$dir/their.img"
new_image
start_server -t --image-opts "$graph,log-sector-size=4096"
io -f raw "$uri" "${requests[@]}" >/dev/null
stop_server
log_writes show "$dir/disk.log" | grep -v flush >"$dir/ours"
same_bytes "$dir/their.img" "$dir/disk.img"
diff "$dir/theirs" "$dir/ours" || fail "qemu's log says something else"
ok "qemu's log of the same requests has the same entries"

refused "$PLATTER" -k "$dir/never" --image-opts "$graph,log-sector-size=100"
grep -q 'log-sector-size' "$dir/refused.out" || fail "$(cat "$dir/refused.out")"
refused "$PLATTER" -k "$dir/never" --image-opts "driver=record,file.filename=$dir/disk.img"
grep -q 'log' "$dir/refused.out" || fail "$(cat "$dir/refused.out")"
ok "a graph that makes no sense is refused"
