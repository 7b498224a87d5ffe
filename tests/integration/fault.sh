#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter fault through real clients: rules above and below a format, from options and from a file.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-io openssl

random_file "$dir/disk.img" 1048576
below=driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename=$dir/disk.img

# io WANTED COMMANDS...: what qemu-io says of them, one line a command: ok, or the error's text.
io() {
    local wanted=$1 said
    shift
    said=$(timeout "$limit_s" qemu-io -f raw "$uri" "$@" 2>&1 |
        sed -nE 's/^(read|write|discard|aio_.*) failed: //p; s/^(read|wrote|discard) [0-9]+\/.*/ok/p' | paste -sd, || true)
    [ "$said" = "$wanted" ] || fail "$*: '$said', not '$wanted'"
}

start_server -t -e 0 --image-opts "$below,file.inject-error.0.event=write_aio,file.inject-error.0.errno=28,file.inject-error.0.once=on"
io "No space left on device,ok,ok" -c 'write 0 4k' -c 'write 0 4k' -c 'read 0 4k'
stop_server
ok "a write fails once, below the format"

if ! is_stand_in; then
    file=file.driver=raw,file.file.filename=$dir/disk.img
    start_server -t -e 0 --image-opts "driver=fault,inject-error.0.iotype=read,inject-error.0.sector=8,$file"
    io "ok,Input/output error,ok,ok" -c 'read 0 4k' -c 'read 0 8k' -c 'read 8k 4k' -c 'write 0 8k'
    stop_server
    ok "reads of a sector fail, above the format"

    start_server -t -e 0 --image-opts "driver=fault,inject-error.0.iotype=write,inject-error.0.nth=2,inject-error.0.errno=ENOSPC,inject-error.0.partial=512,inject-error.0.once=on,$file"
    io "ok,No space left on device,ok,ok" -c 'write -P 1 0 4k' -c 'write -P 2 0 4k' -c 'read -P 2 0 512' \
        -c 'read -P 1 512 3584'
    stop_server
    ok "the second write stops in the middle"
fi

cat >"$dir/rules" <<'END'
# the image is lost after the first flush
[set-state]
event = "flush_to_disk"
state = "1"
new_state = "2"

[inject-error]
event = "read_aio"
state = "2"
errno = "5"
END
start_server -t -e 0 --image-opts "$below,file.config=$dir/rules"
io "ok,ok,Input/output error" -c 'read 0 4k' -c 'write 0 4k' -c flush -c 'read 0 4k'
stop_server
ok "states, from a file"
