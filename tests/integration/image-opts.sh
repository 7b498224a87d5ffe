#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# --image-opts and json: names: the image as qemu's programs let it be described.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need nbdcopy nbdinfo qemu-io openssl

random_file "$dir/disk.img" 100000
cp "$dir/disk.img" "$dir/with,comma.img"
dd if="$dir/disk.img" of="$dir/part" bs=4096 skip=1 count=2 status=none

# serves WANTED IMAGE-AND-OPTIONS...: the export holds what is in the file WANTED.
serves() {
    local wanted=$1
    shift
    start_server -t -e 0 "$@"
    client nbdcopy "$uri" "$dir/copy"
    stop_server
    same_bytes "$dir/copy" "$wanted"
    ok "$(echo "${*//"$dir"/DIR}" | cut -c1-150)"
}

file=file.filename=$dir/disk.img
serves "$dir/disk.img" --image-opts "driver=raw,file.driver=file,$file"
serves "$dir/disk.img" --image-opts "driver=raw,$file"
serves "$dir/disk.img" --image-opts "driver=file,filename=$dir/disk.img"
serves "$dir/disk.img" --image-opts "$file"
serves "$dir/part" --image-opts "driver=raw,offset=4096,size=8K,$file"
serves "$dir/part" --image-opts -o 96 "driver=raw,offset=4000,size=8288,$file"
serves "$dir/part" --image-opts "driver=raw,offset=96,file.driver=raw,file.offset=4000,file.size=8288,file.$file"
serves "$dir/disk.img" --image-opts "driver=raw,file.filename=$dir/with,,comma.img"
serves "$dir/disk.img" --image-opts "driver=raw,cache.direct=off,discard=unmap,file.aio=threads,file.locking=off,$file"
serves "$dir/part" "json:{\"driver\": \"raw\", \"offset\": 4096, \"size\": 8192,
    \"file\": {\"driver\": \"file\", \"filename\": \"$dir/disk.img\"}}"
serves "$dir/disk.img" "json:{\"file.filename\": \"$dir/disk.img\"}"
serves "$dir/disk.img" -f raw "json:{\"file\": {\"filename\": \"$dir/disk.img\"}}"
is_stand_in ||
    serves "$dir/disk.img" --image-opts "{\"driver\": \"raw\", \"file\": {\"filename\": \"$dir/disk.img\"}}"

start_server -t -r --image-opts "driver=raw,read-only=on,$file"
[ "$(client nbdinfo --is read-only "$uri" && echo yes)" = yes ] || fail "not read-only"
stop_server
ok "read-only=on is served with -r"

start_server -t --image-opts "$file"
client qemu-io -f raw "$uri" -c 'write -P 81 0 512' >/dev/null || fail "a write of plain data"
printf 'QFI\373' >"$dir/magic"
refused qemu-io -f raw "$uri" -c "write -s $dir/magic 0 512"
stop_server
ok "options without a driver are probed, and the head is guarded"
