#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Damage that a qcow2 image turns out to have while it is written: EIO, the corrupt bit in the
# header, and not one byte more. qemu-img is the judge.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io
! is_stand_in || skip "qemu-nbd finds other things corrupt"
cd "$dir"

# Where qemu-img puts things in a new image with clusters of 64 KiB.
refcounts=$((0x20000)) l1=$((0x30000)) l2=$((0x40000))

# patch OFFSET BYTES: of bad.qcow2; BYTES as printf understands them.
patch() {
    # shellcheck disable=SC2059
    printf "$2" | dd of=bad.qcow2 bs=1 seek="$1" conv=notrunc status=none
}

marked() {
    qemu-img info "$@" --output=json bad.qcow2 | grep -q '"corrupt": true'
}

io() {
    client qemu-io -f raw "$@" "$uri" >out 2>&1
}

# The status is 1 where something in memory could not be written any more.
stop_corrupt() {
    local status=0
    kill -TERM "$server_pid"
    "$HELPERS/wait_server" gone "$server_pid" "$limit_s" || fail "the server does not end"
    wait "$server_pid" || status=$?
    no_sanitizer_report
    [ "$status" -le 1 ] || fail "the server ended with status $status"
}

make_good() { # OPTIONS OF QEMU-IMG CREATE...: data in [0, 1M), and at 32M
    qemu-img create -q -f qcow2 "$@" good.qcow2 64M
    qemu-io -c 'write -P 1 0 1M' -c 'write -P 2 32M 64k' good.qcow2 >/dev/null
}

# damaged REPAIRED OFFSET BYTES WORDS REQUEST: who meets it gets EIO (or `later`, with a flush).
damaged() {
    local repaired=$1 offset=$2 bytes=$3 words=$4 request=$5
    cp good.qcow2 bad.qcow2
    patch "$offset" "$bytes"
    ! marked || fail "marked too early"
    : >"$log"
    start_server -t --discard=unmap -f qcow2 bad.qcow2
    if [ "${request#later }" = "$request" ]; then
        if io -c "$request"; then fail "$words: $request succeeds"; fi
        grep -q 'Input/output error' out || fail "$words: not EIO: $(cat out)"
    else
        io -c "${request#later }" -c flush || fail "$words: $(cat out)"
        for _ in $(seq 500); do
            ! marked -U || break
            sleep 0.02
        done
    fi
    marked -U || fail "$words: not marked while it is served"
    [ "$(grep -c 'the image is corrupt' "$log")" -eq 1 ] || fail "$words: not said once: $(cat "$log")"
    grep -q "the image is corrupt: $words" "$log" || fail "not '$words' in $(cat "$log")"
    cp bad.qcow2 then.qcow2
    for request in 'write 512k 4k' 'write 50M 64k' 'write -z 512k 64k' 'write -z -u 512k 64k' \
        'discard 576k 64k'; do
        ! io -c "$request" || [ "${request%% *}" = discard ] || fail "$words: $request after it"
    done
    io -r -c 'read -P 1 512k 512k' -c 'read -P 2 32M 64k' || fail "$words: the rest: $(cat out)"
    stop_corrupt
    same_bytes bad.qcow2 then.qcow2
    marked || fail "$words: not marked"

    refused "$PLATTER" -k "$dir/never" -f qcow2 bad.qcow2
    grep -q 'marked as corrupt' refused.out || fail "not refused for that: $(cat refused.out)"
    refused qemu-io -c 'write 0 4k' bad.qcow2
    start_server -r -t -f qcow2 bad.qcow2
    io -r -c 'read -P 2 32M 64k' || fail "$words: read-only: $(cat out)"
    stop_server
    if [ "$repaired" = no ]; then
        refused "$PLATTER" -k "$dir/never" \
            --image-opts driver=qcow2,file.filename=bad.qcow2,repair=all
        marked || fail "$words: the mark is gone, and the damage is not"
        return 0
    fi
    start_server -t --image-opts driver=qcow2,file.filename=bad.qcow2,repair=all
    io -c 'write -P 3 0 1M' -c 'write -P 4 40M 1M' -c flush -c 'read -P 2 32M 64k' ||
        fail "$words: after the repair: $(cat out)"
    stop_server
    ! marked || fail "$words: still marked after the repair"
    qemu-img check -q bad.qcow2 || fail "$words: the repair is not whole"
}

make_good
damaged no $((l2 + 6)) '\2' "a cluster's offset is no multiple of the cluster size" 'read 0 4k'
damaged no $((l2 + 6)) '\2' "a cluster's offset is no multiple of the cluster size" 'write -z 0 64k'
damaged no $l2 '\100\0\0\0\0\0\0\20' 'compressed data lies in the header' 'write 0 4k'
ok "an entry that makes no sense"

for place in '\1:the refcount table' '\4:an L2 table'; do
    damaged yes $((l2 + 5)) "${place%%:*}" "metadata would be overwritten (${place#*:} entry" \
        'write 0 4k'
done
ok "an entry that points to metadata"

damaged yes $((refcounts + 5 * 2)) '\0\0' 'a cluster in use has the refcount 0' \
    'later discard 0 64k'
for cluster in 0 3; do
    damaged yes $((refcounts + cluster * 2)) '\0\0' 'metadata would be overwritten' 'write 48M 64k'
done
ok "a refcount of 0"

make_good -o extended_l2=on
damaged no $((l2 + 8)) '\1' 'a subcluster is both allocated and zero' 'write 0 4k'
make_good -o data_file=good.data
damaged no $((l2 + 5)) '\5' 'a cluster is not at its guest offset in the external data file' \
    'write 0 4k'
ok "subclusters, an external data file"

make_good
qemu-img snapshot -c one good.qcow2
qemu-io -c 'write -P 1 0 1M' -c 'write -P 2 32M 64k' good.qcow2 >/dev/null
l2=$(od -An -tu8 --endian=big -j $l1 -N 8 good.qcow2)
l2=$((l2 & 0xfffffffffffe00))
snapshots=$(od -An -tu8 --endian=big -j 64 -N 8 good.qcow2)
snapshot_l1=$(od -An -tu8 --endian=big -j $((snapshots)) -N 8 good.qcow2)
for place in "$snapshots:the snapshot table" "$snapshot_l1:an L1 table"; do
    # shellcheck disable=SC2059
    damaged yes $((l2 + 4)) "$(printf '\\%o\\%o' $((${place%%:*} >> 24)) \
        $((${place%%:*} >> 16 & 255)))" "metadata would be overwritten (${place#*:} entry" 'write 0 4k'
done
ok "a snapshot's tables"

# Version 2 has no bit for it: nothing is written all the same.
make_good -o compat=0.10
l2=$((0x40000))
cp good.qcow2 bad.qcow2
patch $((l2 + 6)) '\2'
cp bad.qcow2 then.qcow2
start_server -t -f qcow2 bad.qcow2
! io -c 'write 0 4k' || fail "version 2: wrote"
! io -c 'write 512k 4k' || fail "version 2: wrote elsewhere"
io -r -c 'read -P 1 512k 512k' || fail "version 2: the rest: $(cat out)"
stop_server
same_bytes bad.qcow2 then.qcow2
ok "version 2"
