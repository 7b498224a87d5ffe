#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# -s: clients write, and the image stays as it was; nothing is left of what they wrote when the server
# ends, in whatever way. What goes with what is as in qemu-nbd.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io
! is_stand_in || skip "the stand-in has other sentences"
cd "$dir"
mkdir tmp
export TMPDIR=$dir/tmp

nothing_left() {
    [ -z "$(ls -A tmp)" ] || fail "left behind: $(ls -A tmp)"
}

random_file plain.raw 10485760
qemu-img create -q -f qcow2 -b plain.raw -F raw layered.qcow2
qemu-io -c 'write -P 7 1M 1M' layered.qcow2 >/dev/null
qemu-img convert -c -O qcow2 layered.qcow2 packed.qcow2
qemu-img convert -O raw layered.qcow2 layered.raw

# round IMAGE CONTENT OPTIONS...: two lives, each begins with what the image has
round() {
    local image=$1 content=$2 before life
    shift 2
    before=$(sum_of "$image")
    for life in 1 2; do
        cp "$content" model.raw
        start_server -t -e 0 -s "$@"
        nothing_left
        client qemu-img compare -q -f raw -F raw "$uri" model.raw || fail "life $life of $image begins otherwise"
        for command in "write -P 1 0 64k" "write -P 2 5000 100k" "write -P 3 8M 1M" "write -z 3M 1M" "flush" \
            "write -P 4 3500k 5k"; do
            client qemu-io -f raw -c "$command" "$uri" >out || fail "$command: $(cat out)"
            qemu-io -f raw -c "$command" model.raw >out
        done
        client qemu-img compare -q -f raw -F raw "$uri" model.raw || fail "$image: what was written is not there"
        [ "$(sum_of "$image")" = "$before" ] || fail "$image has changed"
        if [ $life -eq 1 ]; then
            stop_server
        else
            kill -KILL "$server_pid"
            wait "$server_pid" 2>/dev/null || true
        fi
        nothing_left
        [ "$(sum_of "$image")" = "$before" ] || fail "$image has changed"
    done
}
round plain.raw plain.raw -f raw plain.raw
round plain.raw plain.raw --cache=none --aio=native -f raw plain.raw
round layered.qcow2 layered.raw -f qcow2 layered.qcow2
round packed.qcow2 layered.raw packed.qcow2 # by its first bytes
round layered.qcow2 layered.raw --image-opts driver=qcow2,file.filename=layered.qcow2,l2-cache-size=64k
round packed.qcow2 layered.raw --discard=unmap --detect-zeroes=unmap --threads=4 -f qcow2 packed.qcow2
ok "images of several formats stay as they were"

tail -c +1048577 plain.raw >rest.raw
round plain.raw rest.raw -f raw -o 1048576 plain.raw
ok "-o"

chmod a-w plain.raw
start_server -t -s -f raw plain.raw
client qemu-io -f raw -c "write -P 1 0 64k" "$uri" >/dev/null || fail "a file that may not be written"
# Others may read it too, and be served it, but not write it.
qemu-io -r -f raw -c "read 0 4k" plain.raw >/dev/null || fail "it is locked for readers"
stop_server
chmod u+w plain.raw
start_server -t -s -f raw plain.raw
refused qemu-io -f raw -c "write 0 4k" plain.raw
stop_server
ok "the image is only read, and its lock is a reader's"

start_server -t -r -s -f raw plain.raw
refused qemu-io -f raw -c "write -P 1 0 64k" "$uri"
client qemu-io -r -f raw -c "read 0 64k" "$uri" >/dev/null || fail "-r"
stop_server
ok "-r"

timeout "$limit_s" "$PLATTER" -s -f raw --run 'qemu-io -f raw -c "write -P 9 0 1M" -c "read -P 9 0 1M" "$uri"' plain.raw >out 2>&1 ||
    fail "--run: $(cat out)"
nothing_left
ok "--run"

# --- what is refused ---
refuse() { # SENTENCE OPTIONS...
    local sentence=$1 status=0
    shift
    timeout "$limit_s" "$PLATTER" -k "$dir/never" "$@" >out 2>&1 || status=$?
    [ "$status" -eq 1 ] || fail "$*: status $status: $(cat out)"
    [ "$(cat out)" = "platter: $sentence" ] || fail "$*: not '$sentence' but $(cat out)"
}
refuse "-s and -l exclude each other: an internal snapshot is only read" -s -l one -f qcow2 layered.qcow2
TMPDIR=$dir/nowhere refuse "cannot make the temporary image of --snapshot in '$dir/nowhere': No such file or directory; set TMPDIR to a directory that has room for what will be written" \
    -s -f raw plain.raw
base=plain.raw format=raw
for n in $(seq 62); do
    qemu-img create -q -f qcow2 -u -b $base -F $format "$n.qcow2" 10M
    base=$n.qcow2 format=qcow2
done
start_server -r -t -f qcow2 62.qcow2
stop_server
refuse "cannot put a temporary image above '62.qcow2': '62.qcow2' has 64 nodes below each other already, which is the limit" \
    -s -f qcow2 62.qcow2
start_server -t -s -f qcow2 61.qcow2
client qemu-io -f raw -c "write -P 1 1k 1k" -c "read -P 1 1k 1k" "$uri" >/dev/null || fail "above a long chain"
stop_server
nothing_left
ok "what is refused"

if [ "$(id -u)" -eq 0 ] && mkdir full && mount -t tmpfs -o size=2M none full 2>/dev/null; then
    unmount_all() { umount "$dir/full" 2>/dev/null || true; }
    TMPDIR=$dir/full start_server -t -s -f raw plain.raw
    refused qemu-io -f raw -c "write -P 1 0 5M" "$uri"
    grep -q 'No space left on device' refused.out || fail "not ENOSPC: $(cat refused.out)"
    client qemu-io -r -f raw -c "read 6M 1M" "$uri" >/dev/null || fail "the image cannot be read any more"
    stop_server
    dd if=/dev/zero of=full/file bs=1M count=2 status=none 2>/dev/null || true
    TMPDIR=$dir/full refuse "cannot make the temporary image of --snapshot in '$dir/full': No space left on device; set TMPDIR to a directory that has room for what will be written" \
        -s -f raw plain.raw
    unmount_all
    ok "a full disk"
fi
