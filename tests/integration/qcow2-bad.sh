#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# qcow2 images that make no sense: refused in one sentence with the field and its value, or, found
# later, answered with EIO. What each field may be is in tests/unit/formats/qcow2; here is the whole.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io python3
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
create_encrypted() # FORMAT
{
    qemu-img create -q -f qcow2 --object secret,id=s,data=x \
        -o "encrypt.format=$1,encrypt.key-secret=s" crypt.qcow2 1M
}
for method in aes luks; do
    # It measures its own speed for luks, and gives up where the clock is too coarse.
    create_encrypted $method || create_encrypted $method || create_encrypted $method
    number=$([ $method = aes ] && echo 1 || echo 2)
    refuse "cannot open 'crypt.qcow2': it is encrypted with ${method^^} (crypt_method $number), which is not supported; make a plain copy with qemu-img convert" \
        -r -f qcow2 crypt.qcow2
done
ok "corrupt, encrypted"

# --- the other files' names, snapshots, tables that are looked at when it is opened ---
qemu-img create -q -f qcow2 -u -b base.raw -F raw named.qcow2 1M
offset=$(od -An -tu8 --endian=big -j 8 -N 8 named.qcow2)
patch named.qcow2 $((offset + 4)) '\0'
refuse "cannot open 'named.qcow2': the name of its backing file has a 0 in it" -r -f qcow2 named.qcow2
qemu-img create -q -f qcow2 -o data_file=named.data named.qcow2 1M
patch named.qcow2 79 '\0'
refuse "cannot open 'named.qcow2': it names the external data file 'named.data', but its incompatible feature bit 2 is clear" \
    -r -f qcow2 named.qcow2
patch crypt.qcow2 127 '\1' # of the image encrypted by LUKS: where the extension says its header is
refuse "cannot open 'crypt.qcow2': its encryption header lies at 0x$(printf %x "$(od -An -tu8 --endian=big -j 120 -N 8 crypt.qcow2)"); that must be a multiple of the cluster size" \
    -r -f qcow2 crypt.qcow2
ok "names of other files, an encryption header"

cp good.qcow2 snapshot.qcow2
qemu-img snapshot -c one snapshot.qcow2
snapshots=$(od -An -tu8 --endian=big -j 64 -N 8 snapshot.qcow2)
snapshots=$((snapshots))
bad_snapshot() { # SENTENCE OPTIONS...: of bad.qcow2
    refuse "cannot open 'bad.qcow2': $1" -r -f qcow2 "${@:2}" bad.qcow2
}
cp snapshot.qcow2 bad.qcow2
truncate -s $((snapshots + 10)) bad.qcow2
bad_snapshot "its snapshot table at 0x$(printf %x $snapshots) reaches past the end of the file"
cp snapshot.qcow2 bad.qcow2
patch bad.qcow2 $((snapshots + 4)) '\100\0'
table=$(od -An -tu8 --endian=big -j $snapshots -N 8 bad.qcow2)
bad_snapshot "the snapshot '1' has the l1_table_offset 0x$(printf %x $((table))): its 2 entries reach past the end of the file" -l one
cp snapshot.qcow2 bad.qcow2
patch bad.qcow2 $((snapshots + 7)) '\1'
table=$(od -An -tu8 --endian=big -j $snapshots -N 8 bad.qcow2)
refused "$PLATTER" -k "$dir/never" -r -f qcow2 bad.qcow2
grep -q "the snapshot '1' has the l1_table_offset 0x$(printf %x $((table)))" refused.out || fail "$(cat refused.out)"
cp snapshot.qcow2 bad.qcow2
python3 -c '
import struct, sys
with open("bad.qcow2", "r+b") as file:
    at = int(sys.argv[1])
    file.seek(at)
    head = bytearray(file.read(40))
    struct.pack_into(">HH", head, 12, 65535, 0)
    extra = struct.unpack_from(">I", head, 36)[0]
    for n in range(300):
        file.seek(at)
        file.write(head)
        at += -(-(40 + extra + 65535) // 8) * 8
    file.truncate(at)
    file.seek(60)
    file.write(struct.pack(">I", 300))
' "$snapshots"
bad_snapshot "its snapshot table has more than 16777216 bytes, which is the limit"
ok "snapshots that break a rule"

unwritable() { # OFFSET BYTES SENTENCE: the image is read, and refused for writing
    cp good.qcow2 bad.qcow2
    patch bad.qcow2 "$1" "$2"
    refuse "cannot open 'bad.qcow2' for writing: $3; repair it with qemu-img check -r all, or serve it with --read-only" \
        -f qcow2 bad.qcow2
    start_server -r -t -f qcow2 bad.qcow2
    stop_server
}
unwritable $((0x10006)) '\2' "entry 0 of the refcount table is 0x20200: a refcount block's offset is no multiple of the cluster size"
unwritable $((0x10000)) '\177' "entry 0 of the refcount table is 0x7f00000000020000: a refcount block's offset is past 2^62"
unwritable $((0x1000d)) '\1' "a refcount block and the refcount table both have the cluster at 0x10000"
unwritable $((0x30006)) '\2' "entry 0 of the L1 table is 0x8000000000040200: an L2 table's offset is no multiple of the cluster size"
unwritable $((0x30002)) '\1' "entry 0 of the L1 table is 0x8000010000040000: it lies past the end of the file"
ok "tables that break a rule, opened for writing"

# --- reserved bits: nothing depends on them, and a check says so ---
reserved() { # OFFSET BYTES SENTENCE
    cp good.qcow2 bad.qcow2
    patch bad.qcow2 "$1" "$2"
    "$HELPERS/image_tool" check qcow2 bad.qcow2 >out || fail "check: $(cat out)"
    grep -q "$3" out || fail "not '$3': $(cat out)"
    ! qemu-img check -q bad.qcow2 2>/dev/null || fail "qemu-img finds nothing after a change at $1"
}
reserved $((0x30000)) '\201' 'the L1 entry 0x8100000000040000 of 0x0 has reserved bits'
reserved $((0x40000)) '\201' 'the L2 entry 0x8100000000050000 of 0x0 has reserved bits'
reserved $((0x10007)) '\1' "the refcount table's entry 0 has reserved bits"
ok "reserved bits"

# --- a write to metadata: each kind of it ---
overwrites() { # CLUSTER WORDS
    cp good.qcow2 bad.qcow2
    patch bad.qcow2 $((0x40005)) "$1"
    : >"$log"
    start_server -t -f qcow2 bad.qcow2
    ! client qemu-io -f raw -c 'write 0 4k' "$uri" >out 2>&1 || fail "$2 is written to"
    grep -q "the image is corrupt: metadata would be overwritten ($2 entry at 0x${1#?}0000" "$log" || fail "$(cat "$log")"
    kill -TERM "$server_pid"
    wait "$server_pid" || true
}
overwrites '\1' 'the refcount table'
overwrites '\2' 'a refcount block'
overwrites '\3' 'an L1 table'
overwrites '\4' 'an L2 table'
ok "a cluster that is metadata"

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
