#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What opening a qcow2 image may cost, whatever its size and whatever its header says: 64 MiB, and a
# tenth of a second (asserted ten times over and of processor time, since the machine has other work), for
# reading and for writing. And what describing one touches: its own file and nothing else.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-img python3
! is_stand_in || skip "the stand-in has its own bounds"
cd "$dir"

is_sanitized=no # then memory and time say nothing of the server

opens() { # OPTIONS... IMAGE
    local peak_kib cpu_ms
    start_server -t --threads=1 -f qcow2 "$@"
    peak_kib=$(awk '/VmHWM/ {print $2}' "/proc/$server_pid/status")
    cpu_ms=$(($(awk '{print $14 + $15}' "/proc/$server_pid/stat") * 1000 / $(getconf CLK_TCK)))
    echo "$*: $cpu_ms ms, $peak_kib KiB"
    case $(cat "/proc/$server_pid/maps") in
    *libasan* | *libtsan* | *valgrind*) is_sanitized=yes ;;
    esac
    if [ $is_sanitized = no ]; then
        [ "$peak_kib" -lt 65536 ] || fail "$*: $peak_kib KiB"
        [ "$cpu_ms" -lt 1000 ] || fail "$*: $cpu_ms ms"
    fi
    stop_server
}

opens_both_ways() { # IMAGE
    head -c 48M "$1" >/dev/null # into the page cache: header, refcount table, L1 table
    opens -r "$1"
    opens "$1"
}

full_image() { # NAME CLUSTER_BITS SIZE LAYOUT
    python3 "$here/qcow2_full_image.py" "$@"
}

qemu-img create -q -f qcow2 empty-64k.qcow2 16T
qemu-img create -q -f qcow2 -o cluster_size=2M empty-2M.qcow2 16T
qemu-img create -q -f qcow2 -o cluster_size=512 empty-512.qcow2 128G
full_image full-64k.qcow2 16 $((16 << 40)) scattered
full_image full-2M.qcow2 21 $((16 << 40)) packed
for image in empty-64k empty-2M empty-512 full-64k full-2M; do
    opens_both_ways $image.qcow2
done
ok "large images are opened in little time and memory"

# The most tables that there can be: 4 Mi L2 tables, as many as an L1 table has room for, and 1 Mi refcount
# blocks.
for layout in packed backward scattered; do
    full_image most.qcow2 12 $((8 << 40)) $layout
    opens_both_ways most.qcow2
done
ok "images with the most tables are opened in little time and memory"

# Of the last one, which is scattered: a table that two entries point to is found among all of them, whoever
# looks at it.
l1_offset=$(($(od -An -tu8 --endian=big -j 40 -N 8 most.qcow2)))
for entry in 5 2000000 4194303; do
    cp --sparse=always most.qcow2 twice.qcow2
    dd if=most.qcow2 of=twice.qcow2 bs=8 count=1 skip=$((l1_offset / 8 + entry)) \
        seek=$((l1_offset / 8 + (entry + 1000000) % 4194304)) conv=notrunc status=none
    ! timeout "$limit_s" "$PLATTER" -k "$dir/never" -f qcow2 twice.qcow2 >out 2>&1 || fail "entry $entry: served"
    grep -q 'an L2 table and an L2 table both have the cluster at 0x' out || fail "entry $entry: $(cat out)"
done
ok "a table that two entries point to, among the most"

# While a worker makes memory ready for those that come behind it.
printf '\200\177\377\377\377\377\360\000' |
    dd of=most.qcow2 bs=1 seek=$((l1_offset + 3000000 * 8)) conv=notrunc status=none
! timeout "$limit_s" "$PLATTER" -k "$dir/never" -f qcow2 most.qcow2 >out 2>&1 || fail "a table past the end: served"
grep -q 'entry 3000000 of the L1 table is 0x807ffffffffff000: it lies past the end of the file' out || fail "$(cat out)"
rm most.qcow2 twice.qcow2
ok "an entry that is wrong, among the most"

# --- headers that promise too much are refused as quickly ---
refused_soon() { # OFFSET BYTES
    local begin end
    cp --sparse=always empty-64k.qcow2 bad.qcow2
    # shellcheck disable=SC2059
    printf "$2" | dd of=bad.qcow2 bs=1 seek="$1" conv=notrunc status=none
    begin=$(date +%s%N)
    ! timeout "$limit_s" "$PLATTER" -k "$dir/never" -r -f qcow2 bad.qcow2 >out 2>&1 || fail "at $1: served"
    end=$(date +%s%N)
    grep -q "^platter: cannot open 'bad.qcow2': its " out || fail "at $1: $(cat out)"
    [ $is_sanitized = yes ] || [ $(((end - begin) / 1000000)) -lt 1000 ] || fail "at $1: $(((end - begin) / 1000000)) ms"
    [ $is_sanitized = no ] || return 0
    (ulimit -v $((256 << 10)) && "$PLATTER" --threads=1 -k "$dir/never" -r -f qcow2 bad.qcow2 >out 2>&1) && fail "at $1: served"
    ! grep -q 'no memory' out || fail "at $1: memory is taken for what the header says"
}
refused_soon 24 '\377\377\377\377\377\377\377\377' # size
refused_soon 36 '\377\377\377\377'                 # l1_size
refused_soon 56 '\177\377\377\377'                 # refcount_table_clusters
refused_soon 60 '\377\377\377\377'                 # nb_snapshots
refused_soon 100 '\377\377\377\370'                # header_length
ok "headers that promise too much"

# --- a check walks what the file has of a table, whatever number of entries it is said to have ---
qemu-img create -q -f qcow2 -o cluster_size=512 many.qcow2 1M
python3 - many.qcow2 <<'END'
import struct, sys
with open(sys.argv[1], "r+b") as file:
    count, begin = 60000, (file.seek(0, 2) + 511) // 512 * 512
    l1 = begin + (count * 64 + 511) // 512 * 512
    for number in range(count):  # 4 Mi entries each, all but 64 past the end
        file.seek(begin + number * 64)
        file.write(struct.pack(">QIHHIIQIIQQ8s", l1, 1 << 22, 5, 0, 0, 0, 0, 0, 16, 0, 1 << 20, b"%05d" % number))
    file.seek(60)
    file.write(struct.pack(">IQ", count, begin))
    file.truncate(l1 + 512)
END
timeout "$limit_s" "$HELPERS/image_tool" check qcow2 many.qcow2 >out || fail "check: status $?: $(tail -n 1 out)"
grep -q "a snapshot's L1 table at 0x.* lies past the end of the file" out || fail "check says $(head out)"
ok "tables past the end of the file are not walked"

# --- to describe an image, its header is read and nothing else is opened ---
if command -v strace >/dev/null; then
    qemu-img create -q -f raw base.raw 1M
    qemu-img create -q -f qcow2 -b base.raw -F raw -o data_file=data.img top.qcow2 1M
    for image in top.qcow2 full-64k.qcow2; do
        env "$no_leak_check" strace -f -e trace=openat,open,openat2,pread64,preadv,preadv2,read -o trace \
            "$HELPERS/image_tool" info qcow2 $image >out || fail "info $image: $(cat out)"
        [ "$(grep -c "$image" trace)" -ge 1 ] || fail "the trace does not name $image: $(cat trace)"
        ! grep -E 'base\.raw|data\.img' trace || fail "info opens another file"
    done
    grep -q 'backing base.raw format raw data-file data.img' <("$HELPERS/image_tool" info qcow2 top.qcow2) || fail "info says $(cat out)"
    ok "describing an image opens nothing else"
fi
