#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Without -f: a warning, and no client can make the image look like another format.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-io qemu-img strace
! is_stand_in || skip "the stand-in reads its warnings differently"

# io COMMAND...: qemu-io on the export; what it prints is in $dir/out.
io() {
    local words=() command
    for command in "$@"; do words+=(-c "$command"); done
    client qemu-io -t writeback -f raw "$uri" "${words[@]}" >"$dir/out" 2>&1
}

printf 'QFI\373' >"$dir/magic" # what a guest would write to name a file of the host
head -c 508 /dev/zero >>"$dir/magic"
header="write -s $dir/magic 0 512"

truncate -s 1M "$dir/disk.img"
start_server -t "$dir/disk.img"
grep -q "disk.img': no format was given" "$log" || fail "no warning: $(cat "$log")"
grep -q -- '-f raw' "$log" || fail "the warning does not say what to do: $(cat "$log")"
io "$header" && fail "a qcow2 header was written: $(cat "$dir/out")"
grep -q 'Operation not permitted' "$dir/out" || fail "not EPERM: $(cat "$dir/out")"
io "write -P 81 0 1" "write -P 70 1 1" "write -P 73 2 1" || fail "three bytes: $(cat "$dir/out")"
io "write -P 251 3 1" && fail "a header in four writes: $(cat "$dir/out")"
grep -q 'Operation not permitted' "$dir/out" || fail "not EPERM: $(cat "$dir/out")"
io "write -P 7 0 64k" "read -P 7 0 64k" "write -z 0 4k" "read -P 0 0 4k" "write -s $dir/magic 2k 512" ||
    fail "other data: $(cat "$dir/out")"
[ "$(qemu-img info -U --output=json "$dir/disk.img" | grep -c '"format": "raw"')" -ge 1 ] ||
    fail "the image is not raw any more"
[ "$(grep -c 'is refused, because' "$log")" -eq 1 ] || fail "not one line for the refusals: $(cat "$log")"
stop_server
ok "a header is refused with EPERM, whole or in pieces; other data is written"

: >"$log"
start_server -t -f raw "$dir/disk.img"
io "$header" || fail "-f raw: $(cat "$dir/out")"
grep -q 'no format' "$log" && fail "warns although -f raw was given"
stop_server
cmp -n 512 "$dir/magic" "$dir/disk.img" || fail "-f raw did not write the header"
ok "with -f raw it is written"

: >"$log"
truncate -s 0 "$dir/disk.img" && truncate -s 1M "$dir/disk.img"
start_server -t -o 512 "$dir/disk.img"
io "$header" || fail "behind an offset: $(cat "$dir/out")"
stop_server
ok "what lies behind the head may be anything"

# Without -f no second file is opened, whatever the image names.
echo secret >"$dir/second"
qemu-img create -q -f qcow2 -b "$dir/second" -F raw "$dir/names.qcow2" 1M
printf '# Disk DescriptorFile\nversion=1\nRW 8 FLAT "%s" 0\n' "$dir/second" >"$dir/names.vmdk"
for image in names.qcow2 names.vmdk; do
    status=0
    env "$no_leak_check" strace -f -qq -e trace=open,openat,openat2 -o "$dir/trace" \
        timeout "$limit_s" "$PLATTER" -k "$dir/never" "$dir/$image" 2>"$dir/err" || status=$?
    [ "$status" -eq 1 ] || fail "$image: status $status: $(cat "$dir/err")"
    grep -qF "$dir/$image" "$dir/trace" || fail "strace saw nothing"
    grep -qF "$dir/second" "$dir/trace" && fail "opened what $image names"
    ok "$image opens no second file"
done
