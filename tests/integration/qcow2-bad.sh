#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# qcow2 images that make no sense: refused in one sentence with the field and its value, or, found
# later, answered with EIO. What each field may be is in tests/unit/formats/qcow2; here is the whole.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io
! is_stand_in || skip "the stand-in has other sentences"
cd "$dir"

# patch IMAGE OFFSET BYTES: BYTES as printf understands them.
patch() {
    # shellcheck disable=SC2059
    printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

refuse() { # SENTENCE OPTIONS...
    local sentence=$1 status=0
    shift
    timeout "$limit_s" "$PLATTER" -k "$dir/never" "$@" >out 2>&1 || status=$?
    [ "$status" -eq 1 ] || fail "$*: status $status: $(cat out)"
    [ "$(cat out)" = "platter: $sentence" ] || fail "$*: not '$sentence' but $(cat out)"
}

# bad OFFSET BYTES SENTENCE: a good image with that change is refused.
bad() {
    cp good.qcow2 bad.qcow2
    patch bad.qcow2 "$1" "$2"
    refuse "cannot open 'bad.qcow2': $3" -r -f qcow2 bad.qcow2
}

qemu-img create -q -f qcow2 good.qcow2 1G
qemu-io -c 'write -P 1 0 1M' -c 'write -P 2 600M 64k' good.qcow2 >/dev/null
bad 0 X 'it is not a qcow2 image: its magic is 0x584649fb, not 0x514649fb'
bad 7 '\1' 'its version is 1; versions 2 and 3 are supported'
bad 23 '\36' 'its cluster_bits is 30; it must be from 9 to 21'
bad 36 '\377' 'its l1_size is 4278190082 entries; at most 4194304 are supported'
bad 39 '\1' 'its l1_size is 1 entries; a disk with the size 1073741824 needs 2'
bad 56 '\377' 'its refcount_table_clusters is 4278190081, 280375465148416 bytes; at most 8388608 bytes are supported'
bad 60 '\377' 'its nb_snapshots is 4278190080; at most 65536 are supported'
bad 78 '\100' "it uses features that this version does not know (incompatible_features 0x4000): bit 14"
bad 99 '\7' 'its refcount_order is 7; it must be at most 6'
bad 103 '\0' 'its header_length is 0; it must be a multiple of 8 from 104 to the cluster size'
head -c 100 good.qcow2 >bad.qcow2
refuse "cannot open 'bad.qcow2': it has 100 bytes; a header of version 3 has 104" -r -f qcow2 bad.qcow2
: >bad.qcow2
refuse "cannot open 'bad.qcow2': it has 0 bytes; a qcow2 image has at least 72" -r -f qcow2 bad.qcow2
ok "a header that breaks a rule"

cp good.qcow2 bad.qcow2
patch bad.qcow2 79 '\2'
start_server -r -t -f qcow2 bad.qcow2
grep -q "'bad.qcow2' is marked as corrupt" "$log" || fail "no warning"
stop_server
for method in aes luks; do
    qemu-img create -q -f qcow2 --object secret,id=s,data=x \
        -o encrypt.format=$method,encrypt.key-secret=s crypt.qcow2 1M
    number=$([ $method = aes ] && echo 1 || echo 2)
    refuse "cannot open 'crypt.qcow2': it is encrypted with ${method^^} (crypt_method $number), which is not supported; make a plain copy with qemu-img convert" \
        -r -f qcow2 crypt.qcow2
done
ok "corrupt, encrypted"

# --- tables that break a rule: found when they are needed ---
l1=$((0x30000)) l2=$((0x40000))
io() {
    client qemu-io -f raw -r "$@" "$uri" >out 2>&1
}
broken() { # OFFSET BYTES WORDS: reading at 0 fails, and the log says why; the rest is read
    cp good.qcow2 bad.qcow2
    patch bad.qcow2 "$1" "$2"
    : >"$log"
    start_server -r -t -f qcow2 bad.qcow2
    io -c 'read 0 4k' && fail "read what is broken at $1: $(cat out)"
    grep -q 'Input/output error' out || fail "not EIO: $(cat out)"
    grep -q "the image is corrupt: $3" "$log" || fail "not '$3' in $(cat "$log")"
    io -c 'read -P 2 600M 64k' || fail "the rest: $(cat out)"
    stop_server
}
broken $((l1 + 6)) '\2' "an L2 table's offset is no multiple of the cluster size"
broken $((l1 + 2)) '\1' 'an L2 table lies past the end of the file'
broken $((l2 + 6)) '\2' "a cluster's offset is no multiple of the cluster size"
qemu-img create -q -f qcow2 -o extended_l2=on good.qcow2 2G
qemu-io -c 'write -P 1 0 1M' -c 'write -P 2 600M 64k' good.qcow2 >/dev/null
broken $((l2 + 8)) '\1' 'a subcluster is both allocated and zero'
qemu-img create -q -f qcow2 -o data_file=good.data good.qcow2 1G
qemu-io -c 'write -P 1 0 1M' -c 'write -P 2 600M 64k' good.qcow2 >/dev/null
broken $((l2 + 5)) '\5' 'a cluster is not at its guest offset in the external data file'
ok "a table that breaks a rule"

# --- what is past the end of the file reads as zeroes, as with QEMU ---
qemu-img create -q -f qcow2 good.qcow2 1G
qemu-io -c 'write -P 1 0 128k' good.qcow2 >/dev/null
truncate -s $((0x60000)) good.qcow2
start_server -r -t -f qcow2 good.qcow2
io -c 'read -P 1 0 64k' -c 'read -P 0 64k 64k' || fail "past the end: $(cat out)"
stop_server
ok "data past the end of the file"

# --- a compressed cluster that is not what it says ---
truncate -s 1M plain.raw
qemu-io -f raw -c 'write -P 9 0 1M' plain.raw >/dev/null
for type in zlib zstd; do
    qemu-img convert -q -c -O qcow2 -o compression_type=$type plain.raw packed.qcow2
    offset=$(qemu-img map --output=json packed.qcow2 >/dev/null; od -An -tu8 --endian=big -j $((0x40000)) -N 8 packed.qcow2)
    offset=$((offset & 0x3fffffffffffff))
    patch packed.qcow2 $offset '\377\377\377\377\377\377\377\377'
    start_server -r -t -f qcow2 packed.qcow2
    io -c 'read 0 4k' && fail "$type: read rubbish"
    io -c 'read -P 9 64k 64k' || fail "$type: the next cluster: $(cat out)"
    stop_server
done
ok "compressed data that is none"

# --- large images open at once, in little memory ---
qemu-img create -q -f qcow2 large.qcow2 16T
qemu-img create -q -f qcow2 -o cluster_size=512 small.qcow2 128G
for image in large.qcow2 small.qcow2; do
    start_server -r -t -f qcow2 $image
    peak_kib=$(awk '/VmHWM/ {print $2}' "/proc/$server_pid/status")
    case $(cat "/proc/$server_pid/maps") in
    *libasan* | *libtsan* | *valgrind*) ;;
    *) [ "$peak_kib" -lt 65536 ] || fail "$image: $peak_kib KiB" ;;
    esac
    stop_server
    echo "$image: $peak_kib KiB at most"
done
ok "large images"
