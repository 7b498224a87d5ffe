#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# New qcow2 images, judged by qemu-img; and our check of images, compared with qemu-img's.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io jq nbdcopy
tool=$HELPERS/image_tool
cd "$dir"

# judge IMAGE: qemu-img finds nothing wrong, and neither do we.
judge() {
    client qemu-img check -q -f qcow2 "$1" || fail "qemu-img check: $(qemu-img check "$1")"
    client "$tool" check qcow2 "$1" >out || fail "check: $(cat out)"
    grep -q '^errors 0 leaks 0 unreadable 0 ' out || fail "check: $(cat out)"
}

truncate -s 1M base.raw
for options in size=0 size=1 size=1M size=64G size=4M,cluster_size=512 size=1G,cluster_size=2M \
    size=3M,compat=0.10 size=3M,compat=v2,cluster_size=4K size=1M,lazy_refcounts=on \
    size=1M,refcount_bits=1 size=1M,refcount_bits=64,cluster_size=512 size=8M,extended_l2=on,cluster_size=16K \
    size=1M,compression_type=zstd size=1M,backing_file=base.raw,backing_fmt=raw size=1M,data_file=d.data \
    size=1M,data_file=d.data,data_file_raw=on size=9M,preallocation=metadata size=70M,cluster_size=512,preallocation=metadata \
    size=20M,preallocation=metadata,extended_l2=on,refcount_bits=32 size=9M,preallocation=falloc \
    size=9M,preallocation=full,cluster_size=4K size=9M,preallocation=full,data_file=d.data \
    size=9M,preallocation=falloc,data_file=d.data,data_file_raw=on \
    size=1M,preallocation=falloc,extended_l2=on,backing_file=base.raw,backing_fmt=raw \
    size=2G,cluster_size=1K,refcount_bits=64,preallocation=metadata; do
    rm -f new.qcow2
    client "$tool" create qcow2 "filename=new.qcow2,$options" || fail "create $options"
    judge new.qcow2
    size=${options#size=}
    size=$(numfmt --from=iec "${size%%,*}")
    [ "$(qemu-img info --output=json new.qcow2 | jq '.["virtual-size"]')" -eq $(((size + 511) / 512 * 512)) ] ||
        fail "$options: size"
    if [ "$size" -ge 1048576 ]; then
        qemu-io -c 'read -P 0 0 1M' -c 'write -P 7 100k 300k' -c 'read -P 7 100k 300k' -c 'read -P 0 400k 600k' \
            new.qcow2 >out 2>&1 || fail "$options: $(cat out)"
        ! grep -q 'verification failed' out || fail "$options: $(cat out)"
        case $options in
        *compat=0.10* | *v2*) ;;
        *) qemu-img check -q new.qcow2 || fail "$options: qemu-img check after a write" ;;
        esac
    fi
    ok "create $options"
done
qemu-img info --output=json new.qcow2 >/dev/null

refuse() { # OPTIONS WORDS
    rm -f new.qcow2
    if "$tool" create qcow2 "filename=new.qcow2,$1" 2>out; then fail "made: $1"; fi
    grep -qF -- "$2" out || fail "$1: not '$2' in: $(cat out)"
    [ ! -e new.qcow2 ] || fail "$1: something was made"
}
refuse size=1M,cluster_size=3K 'cluster_size is 3072; it must be a power of two from 512 to 2M'
refuse size=1M,cluster_size=8K,extended_l2=on 'with extended_l2=on it must be 16K or more'
refuse size=1M,refcount_bits=3 'refcount_bits is 3; it must be a power of two from 1 to 64'
refuse size=1M,refcount_bits=128 'refcount_bits is 128;'
refuse size=1M,compat=0.10,lazy_refcounts=on 'need compat=1.1'
refuse size=1M,data_file_raw=on 'data_file_raw=on needs a data_file'
refuse size=1M,backing_file=a 'without backing_fmt'
refuse size=1M,backing_fmt=raw 'without backing_file'
refuse size=1M,backing_file=a,backing_fmt=raw,preallocation=metadata 'excludes preallocation'
refuse size=1M,backing_file=a,backing_fmt=raw,data_file=d,data_file_raw=on 'excludes data_file_raw'
refuse size=1M,preallocation=some 'preallocation'
refuse size=129G,cluster_size=512 'is too large for a cluster_size of 512'
refuse size=1M,colour=red 'colour'
refuse compat=1.1 "needs the option 'size'"
ok "what makes no sense is refused before anything is made"

# --- preallocation: as much space as qemu-img gives, mapped in the same way ---
space() { # IMAGE [DATA_FILE]: KiB that its files have, in units of 512 KiB
    echo $(($(du -kc "$@" | tail -n 1 | cut -f1) / 512))
}
for options in preallocation=metadata preallocation=falloc preallocation=full preallocation=full,cluster_size=4K \
    preallocation=falloc,extended_l2=on,cluster_size=2M data_file=DATA,preallocation=metadata \
    data_file=DATA,preallocation=falloc data_file=DATA,preallocation=full,data_file_raw=on; do
    rm -f ours.* theirs.*
    client "$tool" create qcow2 "filename=ours.qcow2,size=20M,${options/DATA/ours.data}" || fail "create $options"
    client qemu-img create -q -f qcow2 -o "${options/DATA/theirs.data}" theirs.qcow2 20M
    judge ours.qcow2
    for name in ours theirs; do
        qemu-img map --output=json $name.qcow2 | jq -c '[.[] | {start, length, present, zero, data}]' >$name.map
        space $name.[dq]* >$name.space
    done
    same_bytes ours.map theirs.map
    difference=$(($(cat ours.space) - $(cat theirs.space))) # a table of theirs may be a hole
    [ "${difference#-}" -le 4 ] || fail "$options: $(cat ours.space) half MiB, qemu-img takes $(cat theirs.space)"
    case $options in
    *falloc* | *full*) [ "$(cat ours.space)" -ge 40 ] || fail "$options: $(cat ours.space)" ;;
    *) [ "$(cat ours.space)" -lt 4 ] || fail "$options: $(cat ours.space)" ;;
    esac
    ok "space: $options, $(cat ours.space) half MiB"
done
random_file base.bytes 1048576
for way in falloc full metadata; do
    rm -f top.qcow2
    client "$tool" create qcow2 "filename=top.qcow2,size=1M,preallocation=$way,extended_l2=on,backing_file=base.bytes,backing_fmt=raw"
    client qemu-img compare -f qcow2 -F raw top.qcow2 base.bytes >out || fail "$way: $(cat out)"
    client qemu-io -c 'write -P 5 10k 1k' top.qcow2 >/dev/null
    start_server -t -f qcow2 top.qcow2
    client nbdcopy "$uri" served.raw
    stop_server
    cp base.bytes wanted.raw
    head -c 1024 /dev/zero | tr '\0' '\5' | dd of=wanted.raw bs=1024 seek=10 conv=notrunc status=none
    same_bytes served.raw wanted.raw
    judge top.qcow2
done
ok "preallocation shows the backing file where there are subclusters"
if "$tool" create qcow2 "filename=none/a.qcow2,size=4M,preallocation=full,data_file=$PWD/given-back.data" 2>out; then
    fail "made in a directory that is not there"
fi
[ "$(stat -c %s given-back.data)" -eq 0 ] || fail "the space of a data file without an image is kept"
(
    trap '' XFSZ
    ulimit -f 1024
    ! "$tool" create qcow2 filename=large.qcow2,size=4M,preallocation=full 2>out || fail "made beyond the limit"
)
grep -q "cannot set the size of 'large.qcow2'" out || fail "the limit: $(cat out)"
[ ! -e large.qcow2 ] || fail "what could not be made whole is there"
ok "what was reserved for an image that cannot be made is given back"

client "$tool" create qcow2 filename=i.qcow2,size=1M,backing_file=base.raw,backing_fmt=raw
[ "$("$tool" info qcow2 i.qcow2)" = "version 3 cluster-bits 16 size 1048576 backing base.raw format raw data-file " ] ||
    fail "info: $("$tool" info qcow2 i.qcow2)"
qemu-img create -q -f qcow2 b.qcow2 64M
[ -z "$("$tool" bitmaps qcow2 b.qcow2)" ] || fail "bitmaps of an image that has none"
qemu-img bitmap --add b.qcow2 first
qemu-img bitmap --add --disable -g 512 b.qcow2 "fine, and not enabled"
qemu-img bitmap --add -g 2M b.qcow2 last
list_bitmaps() { # as image_tool says it
    qemu-img info --output=json "$1" | jq -r '.["format-specific"].data.bitmaps[]? |
        "\(.name) \(.granularity)\(if .flags | index("in-use") then " in-use" else "" end)\(if .flags | index("auto") then " auto" else "" end)"'
}
list_bitmaps b.qcow2 >wanted
[ "$(wc -l <wanted)" -eq 3 ] || fail "qemu-img lists $(cat wanted)"
"$tool" bitmaps qcow2 b.qcow2 >out
same_bytes out wanted
start_server -t -f qcow2 b.qcow2
client qemu-io -f raw -c 'write 0 1M' "$uri" >/dev/null
kill -KILL "$server_pid"
wait "$server_pid" || true
"$tool" bitmaps qcow2 b.qcow2 >out
grep -q '^first 65536 in-use auto$' out || fail "after a kill: $(cat out)"
list_bitmaps b.qcow2 | diff - out || fail "qemu-img lists others"
patch() { # FILE OFFSET BYTES
    # shellcheck disable=SC2059
    printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
cp b.qcow2 stale.qcow2
patch stale.qcow2 95 '\0' # autoclear feature bit 0
[ -z "$("$tool" bitmaps qcow2 stale.qcow2)" ] || fail "bitmaps that are out of date are listed"
ok "info"

# --- check: the same findings as qemu-img ---
same() { # IMAGE: errors, leaks as qemu-img counts them
    qemu-img check --output=json "$1" >theirs 2>/dev/null || true
    "$tool" check qcow2 "$1" >out || fail "check $1: $(cat out)"
    wanted="errors $(jq '.corruptions // 0' theirs) leaks $(jq '.leaks // 0' theirs)"
    grep -q "^$wanted " out || fail "$1: not '$wanted' but: $(cat out)"
}
for shape in $("$top/tests/images/make-qcow2" shapes cluster-9 v2-cluster-16 refcount-1 lazy zlib-16 zstd-9 \
    compressed-random extended-16 backing-base snapshots-1.1 snapshots-0.10 bitmaps dirty preallocation-metadata); do
    same "shapes/$shape.qcow2"
    ok "check $shape: $(tail -n 1 out)"
done
# A dirty image is repaired before it is written.
start_server -t -f qcow2 shapes/dirty.qcow2
grep -q 'its dirty bit is set); it is repaired' "$log" || fail "no warning: $(cat "$log")"
client qemu-io -f raw -c 'read -P 71 1M 1M' -c 'write -P 72 3M 1M' -c 'read -P 72 3M 1M' "$uri" >out || fail "$(cat out)"
! grep -q 'verification failed' out || fail "dirty: $(cat out)"
stop_server
judge shapes/dirty.qcow2
ok "a dirty image is repaired when it is opened for writing"

good=shapes/damaged.qcow2
qemu-img create -q -f qcow2 $good 1G
qemu-io -c 'write -P 1 0 256k' $good >/dev/null
truncate -s +128K $good
for damage in "$((0x20000 + 18)) \0\1" "$((0x20000 + 10)) \0\0" "$((0x20000 + 12)) \0\7" "$((0x20000 + 100)) \0\1\0\2" \
    "$((0x40000)) \0" "$((0x40000 + 13)) \5" "$((0x40000 + 20)) \177" "$((0x30000)) \0"; do
    cp $good damaged.qcow2
    # shellcheck disable=SC2086
    patch damaged.qcow2 $damage
    same damaged.qcow2
    found=$(tail -n 1 out)
    leaks_only=$(grep -c '^errors 0 leaks' out || true)
    cp damaged.qcow2 repaired.qcow2
    for mode in leaks all; do
        [ $mode = all ] || [ "$leaks_only" -eq 1 ] || continue
        cp damaged.qcow2 repaired.qcow2
        start_server -t --image-opts "driver=qcow2,file.filename=repaired.qcow2,repair=$mode"
        client qemu-io -f raw -c 'read -P 1 64k 192k' -c 'write -P 2 1M 1M' -c 'read -P 2 1M 1M' "$uri" >out 2>&1 || true
        [[ $damage == 2621* ]] || ! grep -q 'verification failed\|error' out || fail "after repair: $(cat out)"
        stop_server
        judge repaired.qcow2
    done
    ok "check after $damage: $found; repaired"
done
