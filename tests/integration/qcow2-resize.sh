#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# New sizes of qcow2 images of every shape, by the driver's call (image_tool), judged by qemu-img:
# check, the bytes (against a raw file that got the same sizes by truncate), map and info. What may
# not be resized is refused as qemu-img refuses it.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io
! is_stand_in || skip "the stand-in has no such tool"
cd "$dir"
tool=$HELPERS/image_tool

resize() { # IMAGE SIZE [shrink] [metadata], and the raw file beside it
    "$tool" resize qcow2 "$@" || fail "resize $*"
    truncate -s "$2" model.raw
}

judge() { # IMAGE SIZE
    qemu-img check -q -f qcow2 "$1" || fail "$1 at $2: $(qemu-img check -f qcow2 "$1")"
    [ "$("$tool" info qcow2 "$1" | sed 's/.* size \([0-9]*\) .*/\1/')" -eq "$2" ] || fail "$1: not $2 bytes"
    qemu-img compare -q -f qcow2 -F raw "$1" model.raw || fail "$1 at $2: other bytes"
}

create() { # SIZE OPTIONS IMAGE...: a new image, and an empty raw file
    local size=$1
    shift
    rm -f data.img model.raw
    truncate -s "$size" model.raw
    qemu-img create -q -f qcow2 "$@" "$size"
}

write() { # IMAGE PATTERN OFFSET LENGTH
    qemu-io -f qcow2 -c "write -P $2 $3 $4" "$1" >out || fail "write: $(cat out)"
    qemu-io -f raw -c "write -P $2 $3 $4" model.raw >out
}

mib=$((1 << 20))
round() { # IMAGE LARGE: with some MiB in it and in model.raw; up to LARGE MiB
    local image=$1 large=$2 size
    for size in $((20 * mib)) $((20 * mib + 512)) $((large * mib)); do
        resize "$image" "$size"
        judge "$image" "$size"
        write "$image" 7 $((size - 4608)) 4608
    done
    for size in $((large * mib - mib + 1536)) $((9 * mib + 512)) 512 $((10 * mib)); do
        resize "$image" "$size" shrink
        judge "$image" "$size"
    done
    write "$image" 8 $((5 * mib)) 3M
    judge "$image" $((10 * mib))
}

shapes=("" "cluster_size=512" "cluster_size=2M" "compat=0.10" "refcount_bits=1" "refcount_bits=64,cluster_size=1k"
    "extended_l2=on" "extended_l2=on,cluster_size=16k" "lazy_refcounts=on" "data_file=data.img"
    "data_file=data.img,data_file_raw=on" "preallocation=metadata" "compression_type=zstd")
for shape in "${shapes[@]}"; do
    create 10M ${shape:+-o "$shape"} image.qcow2
    write image.qcow2 1 100000 200000
    write image.qcow2 2 9M 1M
    case $shape in
    *data_file_raw*) round image.qcow2 200 ;; # it has no holes that are quick to compare
    *) round image.qcow2 3000 ;;
    esac
    case $shape in
    *data_file_raw*) cmp data.img model.raw || fail "the raw data file is not the disk" ;;
    esac
    echo "${shape:-plain}"
done
ok "every shape grows and shrinks"

# The end of a cluster, and clusters, that something else shows.
random_file base.raw $((30 * mib))
for shape in "" "cluster_size=4k" "compat=0.10" "extended_l2=on"; do
    qemu-img create -q -f qcow2 ${shape:+-o "$shape"} -b base.raw -F raw image.qcow2 $((10 * mib + 512))
    cp base.raw model.raw
    truncate -s $((10 * mib + 512)) model.raw
    write image.qcow2 3 1M 5000
    for size in $((10 * mib + 1024)) $((12 * mib)) $((25 * mib + 512)) $((80 * mib)); do
        resize image.qcow2 $size
        judge image.qcow2 $size
    done
    resize image.qcow2 $((7 * mib)) shrink
    resize image.qcow2 $((40 * mib))
    judge image.qcow2 $((40 * mib))
done
ok "a backing file that is longer does not show"

create 5M image.qcow2
qemu-io -f raw -c 'write -P 5 0 5M' model.raw >/dev/null
qemu-img convert -c -f raw -O qcow2 model.raw image.qcow2
resize image.qcow2 $((3 * mib + 512)) shrink
resize image.qcow2 $((6 * mib))
judge image.qcow2 $((6 * mib))
ok "compressed clusters"

# --- room for what is added ---
for shape in "" "compat=0.10" "extended_l2=on" "cluster_size=512" "data_file=data.img"; do
    create 3M ${shape:+-o "$shape"} image.qcow2
    write image.qcow2 4 0 3M
    resize image.qcow2 $((12 * mib)) metadata
    judge image.qcow2 $((12 * mib))
    qemu-img map --output=json image.qcow2 >out
    ! grep -q '"data": false' out || fail "$shape: not all has its place: $(cat out)"
    ! grep -q '"present": false' out || fail "$shape: not all is there: $(cat out)"
    before=$(stat -c %s image.qcow2)
    write image.qcow2 5 3M 9M
    judge image.qcow2 $((12 * mib))
    [ "$(stat -c %s image.qcow2)" -eq "$before" ] || fail "$shape: a write took new clusters"
done
ok "preallocation=metadata"

# --- space ---
create 200M image.qcow2
write image.qcow2 6 0 200M
resize image.qcow2 $((2 * mib)) shrink
[ "$(stat -c %s image.qcow2)" -lt $((4 * mib)) ] || fail "the file keeps $(stat -c %s image.qcow2) bytes"
judge image.qcow2 $((2 * mib))
ok "the file is cut"

# --- snapshots ---
create 10M image.qcow2
write image.qcow2 1 0 10M
cp model.raw then.raw
qemu-img snapshot -c one image.qcow2
write image.qcow2 2 5M 1M
resize image.qcow2 $((400 * mib))
judge image.qcow2 $((400 * mib))
resize image.qcow2 $((2 * mib)) shrink
judge image.qcow2 $((2 * mib))
start_server -r -t -f qcow2 -l one image.qcow2
client qemu-img compare -q -f raw -F raw "$uri" then.raw || fail "the snapshot has changed"
stop_server
ok "a snapshot keeps its size and its bytes"

# --- what is refused ---
refuse() { # SENTENCE ARGUMENTS
    local sentence=$1
    shift
    ! "$tool" resize qcow2 "$@" 2>out || fail "resize $* is not refused"
    [ "$(cat out)" = "image_tool: $sentence" ] || fail "not '$sentence' but $(cat out)"
}
qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 10M
qemu-img snapshot -c one old.qcow2
! qemu-img resize -q old.qcow2 20M 2>/dev/null || fail "qemu-img resizes version 2 with snapshots"
refuse "cannot resize 'old.qcow2': it has snapshots, and its version is 2, in which they have no size of their own; make it version 3 with qemu-img amend -o compat=v3" \
    old.qcow2 $((20 * mib))
qemu-img create -q -f qcow2 image.qcow2 10M
before=$(sum_of image.qcow2)
refuse "cannot resize 'image.qcow2' from 10485760 to 1048576 bytes: what lies beyond would be lost; allow it to shrink" \
    image.qcow2 $mib
refuse "cannot resize 'image.qcow2': preallocation is for a disk that grows, and it shrinks from 10485760 to 1048576 bytes" \
    image.qcow2 $mib shrink metadata
refuse "cannot resize 'image.qcow2' to 9223372036854775807 bytes: too many" image.qcow2 9223372036854775807
qemu-img create -q -f qcow2 -o cluster_size=512 small.qcow2 10M
refuse "cannot resize 'small.qcow2' to 1099511627776 bytes: too large for its clusters of 512 bytes" small.qcow2 1099511627776
[ "$(sum_of image.qcow2)" = "$before" ] || fail "a refused resize changed the image"
ok "what is refused"
