#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# gow1 images with real clients: gow1.sh [SERVER OPTIONS...]. No other program knows the format, so what
# is in the file is read by tests/lib/gow1.py, which goes by its description.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need nbdcopy nbdinfo qemu-io fio jq python3 openssl
options=("$@")
options_of_ours "$@"
case " $* " in *--cache=none*)
    dd if=/dev/zero of="$dir/direct" bs=4096 count=1 oflag=direct status=none 2>/dev/null ||
        skip "the file system of $dir has no O_DIRECT"
    ;;
esac

peer=$top/tests/lib/gow1.py
tool=$HELPERS/image_tool
cd "$dir"

# serve [OPTIONS] IMAGE
serve() {
    start_server -t -e 0 "${options[@]}" "$@"
}

# check IMAGE ERRORS LEAKS: by ours and by the peer.
check() {
    client "$tool" check gow1 "$1" | tail -n 1 | grep -q "^errors $2 leaks $3 " || fail "check $1"
    (client "$peer" check "$1" || true) | tail -n 1 | grep -q "^errors $2 leaks $3 " ||
        fail "the peer's check of $1: $("$peer" check "$1")"
}

io() {
    client qemu-io -f raw "$@" "$uri" >io.out || fail "qemu-io $*: $(cat io.out)"
    ! grep -E "verification failed|error" io.out || fail "qemu-io $*"
}

# --- new images ---

client "$tool" create gow1 filename=a.gow1,size=10000001
check a.gow1 0 0
[ "$("$tool" info gow1 a.gow1)" = "size 153 allocated 0" ] || fail "info: $("$tool" info gow1 a.gow1)"
[ "$("$peer" field a.gow1 size)" = 153 ] || fail "10000001 bytes are not 153 blocks"
for bad in size=0 size=64.5G size=70G "" size=1M,colour=red size=1M,magic=GOW1; do
    refused "$tool" create gow1 "filename=bad.gow1,$bad"
    [ ! -e bad.gow1 ] || fail "create $bad made a file"
done
client "$tool" create gow1 filename=max.gow1,size=64G
ok "images are made"

serve a.gow1 # found by its first bytes
[ "$(client nbdinfo --size "$uri")" = 10027008 ] || fail "the size is $(nbdinfo --size "$uri")"
io -c 'read -P 0 0 10027008' -c 'write -P 7 4096 4096' -c 'read -P 7 4096 4096' -c 'read -P 0 0 4096' \
    -c 'read -P 0 8192 100k' -c 'write -P 9 60k 200k' -c 'read -P 9 60k 200k' -c 'write -P 3 5M 3M' \
    -c 'write -z 5M 1M' -c 'discard 6M 512k' -c 'write -P 0 8M 1M' -c 'write -P 5 10026496 512' -c flush \
    -c 'read -P 0 5M 1M' -c 'read -P 3 6656k 1536k' -c 'read -P 0 8M 1M' -c 'read -P 5 10026496 512'
stop_server
check a.gow1 0 0
[ "$("$peer" field a.gow1 allocated)" = 54 ] || fail "allocated is $("$peer" field a.gow1 allocated)"
ok "what is written is read; zeroes allocate nothing"

# --- copies ---

sparse_image disk.raw
client "$tool" create gow1 filename=copy.gow1,size=64M
serve -f gow1 copy.gow1
client nbdcopy --connections=4 disk.raw "$uri"
client nbdcopy --flush "$uri" back.raw
same_bytes disk.raw back.raw
stop_server
check copy.gow1 0 0
client "$peer" compare copy.gow1 disk.raw || fail "the file has other bytes"
[ "$(stat -c %s copy.gow1)" -le $((4194316 + 33 * 65536)) ] || fail "it has $(stat -c %s copy.gow1) bytes"

client "$peer" make disk.raw theirs.gow1 4711
serve -r theirs.gow1
client nbdcopy --connections=4 "$uri" - >back.raw
same_bytes disk.raw back.raw
client nbdinfo --map=base:allocation --totals "$uri" | grep -q 'hole,zero' || fail "no holes"
stop_server
ok "a disk is copied in and out, and read from an image of another program"

# --- load ---

client "$tool" create gow1 filename=load.gow1,size=64M
serve load.gow1
cat >verify.fio <<JOB
[global]
ioengine=nbd
uri=$uri
iodepth=16
verify=crc32c
verify_fatal=1
do_verify=1
randseed=4711
size=16M
io_size=8M
offset_increment=16M
numjobs=4
[mixed]
rw=randwrite
bsrange=512-100k
bs_unaligned=1
JOB
client fio --output-format=json --output=fio.json verify.fio || fail "fio: $(tail -n 20 fio.json)"
jq -e '[.jobs[] | .error] | all(. == 0)' fio.json >/dev/null || fail "fio counted errors"
jq -e '[.jobs[] | .read.total_ios] | all(. > 0)' fio.json >/dev/null || fail "nothing verified"
client nbdcopy "$uri" - >load.raw
stop_server
check load.gow1 0 0
client "$peer" compare load.gow1 load.raw || fail "the file has other bytes than clients saw"
ok "four jobs of random writes verify, and the file has the same"

# --- killed ---

client "$tool" create gow1 filename=killed.gow1,size=64M
serve killed.gow1
io -c 'write -P 1 1M 100k' -c flush
(client fio --name=x --ioengine=nbd --uri="$uri" --rw=randwrite --bsrange=4k-200k --size=64M --loops=100 \
    --iodepth=16 --fsync=64 >/dev/null 2>&1 || true) &
writer=$!
tries=0
until [ "$(stat -c %s killed.gow1)" -gt 20000000 ]; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || fail "nothing is written"
    sleep 0.1
done
kill -KILL "$server_pid"
wait "$server_pid" || true
wait "$writer" || true
client "$peer" check killed.gow1 >check.out || fail "after a kill: $(cat check.out)"
serve killed.gow1
io -c 'write -P 2 100k 30k' -c 'read -P 2 100k 30k' -c flush
stop_server
client "$peer" check killed.gow1 || fail "after a kill and new writes"
client "$tool" check gow1 killed.gow1 read-only=off,repair=leaks >check.out
check killed.gow1 0 0
ok "a server that is killed leaves leaks at most"

# --- space ---

serve --discard=unmap copy.gow1
before=$(allocated_bytes copy.gow1)
io -c 'discard 0 64M' -c 'read -P 0 64k 900k'
after=$(allocated_bytes copy.gow1)
stop_server
# What is left is the header with its map.
[ "$after" -lt $((4194316 + 65536)) ] || fail "a trim of all gave back from $before to $after"
check copy.gow1 0 0
ok "a trim gives space back to the host"

# --- what is refused, and mended ---

# refuse IMAGE WORDS [OPTIONS]
refuse() {
    local image=$1 words=$2
    shift 2
    refused "$PLATTER" -k "$dir/refused" -f gow1 "$@" "$image"
    grep -qF "$words" refused.out || fail "no '$words' in: $(cat refused.out)"
}

# broken FIELD VALUE WORDS [OPTIONS]
broken() {
    local field=$1 value=$2 words=$3
    shift 3
    client "$peer" make disk.raw bad.gow1 1
    client "$peer" field bad.gow1 "$field" "$value"
    refuse bad.gow1 "$words" "$@"
}

broken size 0 "its size is 0" -r
broken size 1048577 "its size is 1048577" -r
broken allocated 1025 "its allocated is 1025" -r
broken magic 0x12345678 "its magic is 0x12345678" -r
head -c 4194315 theirs.gow1 >short.gow1
refuse short.gow1 "it has 4194315 bytes" -r
head -c 5 theirs.gow1 >short.gow1
refuse short.gow1 "it has 5 bytes" -r
client "$peer" make disk.raw bad.gow1 1
client "$peer" entry bad.gow1 100 33
refuse bad.gow1 "map[100] is 33, and the file, of 6357004 bytes, has 33 blocks"
client "$peer" entry bad.gow1 100 5
client "$peer" entry bad.gow1 99 6
refuse bad.gow1 "which another entry"
check bad.gow1 2 0
ok "headers and maps that make no sense are refused with field and value"

client "$peer" extract bad.gow1 bad.raw
start_server -t -e 0 "${options[@]}" --image-opts driver=gow1,repair=all,file.filename=bad.gow1
io -c 'read 0 64M'
stop_server
check bad.gow1 0 0
client "$peer" compare bad.gow1 bad.raw || fail "the repair lost something"
ok "repair=all mends them"

client "$tool" create gow1 filename=m.gow1,size=1M,magic=0x12345678
refuse m.gow1 "not 0x31574f47"
start_server -t -e 0 "${options[@]}" --image-opts driver=gow1,magic=0x12345678,file.filename=m.gow1
io -c 'write -P 1 0 1M' -c 'read -P 1 0 1M'
stop_server
ok "an image of another magic is served where it is named"

# --- sizes ---

client "$tool" resize gow1 bad.gow1 100000000
refused "$tool" resize gow1 bad.gow1 40000000
grep -q "blocks with data would be cut off; open it with the option shrink=on" refused.out || fail "$(cat refused.out)"
before=$(stat -c %s bad.gow1)
client "$tool" resize gow1 bad.gow1 35000000 shrink=on
check bad.gow1 0 0
head -c 35000000 bad.raw >cut.raw
client "$peer" extract bad.gow1 now.raw
cmp -n 34996224 cut.raw now.raw || fail "a resize lost something"
[ "$(stat -c %s bad.gow1)" -eq $((before - 65536)) ] || fail "the file has not become shorter"
ok "images grow, and shrink where they may"
