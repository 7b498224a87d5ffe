#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# --cache=none opens the image with O_DIRECT, and serves a tail that O_DIRECT cannot.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need nbdcopy python3 openssl fincore

dd if=/dev/zero of="$dir/direct" bs=4096 count=1 oflag=direct status=none 2>/dev/null ||
    skip "the file system of $dir has no O_DIRECT"

size=$((16777216 + 4096 + 513))
random_file "$dir/random" $size
cp "$dir/random" "$dir/disk.img" # data everywhere: a hole would not be read
start_server -t -e 0 -f raw --cache=none "$dir/disk.img"

o_direct=$(python3 -c 'import os; print(os.O_DIRECT)')
direct=0
for fd in /proc/"$server_pid"/fd/*; do
    if [ "$(readlink "$fd")" = "$dir/disk.img" ]; then
        flags=$(awk '$1 == "flags:" { print $2 }' "/proc/$server_pid/fdinfo/${fd##*/}")
        [ $((8#$flags & o_direct)) -eq 0 ] || direct=1
    fi
done
[ $direct -eq 1 ] || fail "no descriptor of the image has O_DIRECT"
ok "the image is open with O_DIRECT"

# And it is used: reading leaves (nearly) nothing of the image in the page cache; the tail may be there.
sync "$dir/disk.img"
dd if="$dir/disk.img" iflag=nocache count=0 status=none
client nbdcopy "$uri" "$dir/back"
resident=$(fincore --noheadings --bytes --output RES "$dir/disk.img")
if [ "$(stat -f -c %T "$dir")" = tmpfs ]; then
    ok "reads work (tmpfs takes O_DIRECT, and has nothing but its page cache)"
else
    [ "$resident" -le 1048576 ] || fail "reading brought $resident bytes into the page cache"
    ok "reads go past the page cache"
fi

tr "\0-\377" "\1-\377\0" <"$dir/random" >"$dir/new"
mv "$dir/new" "$dir/random"
client nbdcopy --flush "$dir/random" "$uri"
client nbdcopy "$uri" "$dir/back"
same_bytes "$dir/random" "$dir/back"
stop_server
[ "$(stat -c %s "$dir/disk.img")" -eq $size ] || fail "the size changed"
same_bytes "$dir/random" "$dir/disk.img"
ok "an image with an odd tail, in and out"
