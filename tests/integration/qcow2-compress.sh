#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter compress: what clients write is stored compressed in qcow2 images of several shapes, and
# qemu-img is the judge. A file system is copied into it, several clients write at a time, clusters
# are written again, and the server is killed.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io nbdcopy mkfs.ext4
! is_stand_in || skip "qemu refuses to write a compressed cluster again"
cd "$dir"

serve() { # OPTIONS... IMAGE
    local image=${!#}
    start_server -t -e 0 "${@:1:$#-1}" --image-opts "driver=compress,file.driver=qcow2,file.file.filename=$image"
}

# A file system with texts in it, and some bytes that do not compress.
mkdir tree
for n in $(seq 200); do seq "$n" 4000 >"tree/$n"; done
random_file tree/random 3000000
truncate -s 40M plain.raw
mkfs.ext4 -q -F -d tree plain.raw 2>/dev/null || skip "mkfs.ext4 cannot fill a file system"

for shape in "" "compression_type=zstd" "cluster_size=4k" "cluster_size=2M,compression_type=zstd" "compat=0.10" \
    "extended_l2=on" "refcount_bits=1" "cluster_size=512"; do
    qemu-img create -q -f qcow2 ${shape:+-o "$shape"} image.qcow2 40M
    serve image.qcow2
    client nbdcopy --connections=4 plain.raw "$uri"
    client qemu-img compare -q -f raw -F raw "$uri" plain.raw || fail "$shape: served otherwise"
    stop_server
    qemu-img check -q image.qcow2 || fail "$shape: $(qemu-img check image.qcow2)"
    qemu-img compare -q image.qcow2 plain.raw || fail "$shape: other bytes"
    qemu-img check --output=json image.qcow2 | grep -q '"compressed-clusters": [1-9]' ||
        fail "$shape: nothing is compressed"
    echo "${shape:-plain}: $(stat -c %s image.qcow2) bytes of $(allocated_bytes plain.raw)"
done
ok "a file system is copied into images of every shape"

qemu-img create -q -f qcow2 image.qcow2 40M
serve image.qcow2
client nbdcopy plain.raw "$uri"
stop_server
[ "$(stat -c %s image.qcow2)" -lt $(($(allocated_bytes plain.raw) * 2 / 3)) ] || fail "it is not smaller"
ok "the image is smaller than what it holds"

# --- again, and in parts: qemu answers EIO where a cluster is not empty ---
qemu-img create -q -f qcow2 image.qcow2 1000448 # not a multiple of the cluster size
serve image.qcow2
truncate -s 1000448 model.raw
for command in "write -P 1 0 977k" "write -P 2 0 64k" "write -P 3 4k 1k" "write -P 4 100k 200k" \
    "write -P 5 959k 18k" "write -z 300k 100k" "discard 512k 64k" "write -z 512k 64k" "write -P 6 520k 512"; do
    client qemu-io -f raw -c "$command" "$uri" >out || fail "$command: $(cat out)"
    qemu-io -f raw -c "$command" model.raw >out
    client qemu-img compare -q -f raw -F raw "$uri" model.raw || fail "after $command"
done
stop_server
qemu-img check -q image.qcow2 || fail "$(qemu-img check image.qcow2)"
qemu-img compare -q image.qcow2 model.raw || fail "other bytes"
ok "clusters are written again, and in parts"

# --- killed: what was flushed is there, and clusters may leak ---
qemu-img create -q -f qcow2 image.qcow2 40M
serve image.qcow2
client qemu-io -t writeback -f raw -c "write -P 9 0 5M" -c flush -c "write -P 8 10M 5M" "$uri" >/dev/null
kill -KILL "$server_pid"
wait "$server_pid" 2>/dev/null || true
status=0
qemu-img check -q image.qcow2 || status=$?
[ $status -eq 0 ] || [ $status -eq 3 ] || fail "check: $(qemu-img check image.qcow2)"
qemu-io -r -c "read -P 9 0 5M" image.qcow2 >out || fail "$(cat out)"
! grep -q 'verification failed' out || fail "what was flushed is lost"
ok "killed"

# --- over a backing file, and with a snapshot ---
qemu-img create -q -f qcow2 -b plain.raw -F raw image.qcow2
serve image.qcow2
client qemu-io -f raw -c "write -P 7 1M 1k" -c "write -P 7 5M 100k" "$uri" >/dev/null
cp plain.raw model.raw
qemu-io -f raw -c "write -P 7 1M 1k" -c "write -P 7 5M 100k" model.raw >/dev/null
stop_server
qemu-img compare -q image.qcow2 model.raw || fail "over a backing file"
qemu-img snapshot -c one image.qcow2
serve image.qcow2
client qemu-io -f raw -c "write -P 6 1M 300k" "$uri" >/dev/null
stop_server
qemu-img check -q image.qcow2 || fail "$(qemu-img check image.qcow2)"
start_server -r -t -f qcow2 -l one image.qcow2
client qemu-img compare -q -f raw -F raw "$uri" model.raw || fail "the snapshot has changed"
stop_server
ok "a backing file, a snapshot"

# --- what is refused ---
refuse() { # SENTENCE IMAGE-OPTS
    local status=0
    timeout "$limit_s" "$PLATTER" -k "$dir/never" --image-opts "$2" >out 2>&1 || status=$?
    [ "$status" -eq 1 ] || fail "$2: status $status: $(cat out)"
    [ "$(cat out)" = "platter: $1" ] || fail "$2: not '$1' but $(cat out)"
}
why="put compress above an image of the format qcow2 that has no external data file"
refuse "file: 'plain.raw' cannot be compressed by the driver raw; $why" driver=compress,file.driver=raw,file.file.filename=plain.raw
qemu-img create -q -f qcow2 -o data_file=data.img image.qcow2 1M
refuse "file: 'image.qcow2' cannot be compressed by the driver qcow2; $why" driver=compress,file.driver=qcow2,file.file.filename=image.qcow2
ok "what is refused"
