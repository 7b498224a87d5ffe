#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# qcow2 images of every shape, made by qemu-img, read through the server: the same bytes as QEMU reads,
# and the same extents. qcow2-read.sh PART OF: every OF-th shape, from the PART-th on.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io jq openssl
part=${1:-0} of=${2:-1}

# data_of IMAGE OPTIONS...: what is data, neighbours put together, as lines "start length".
data_of() {
    local image=$1
    shift
    client qemu-img map -U --output=json "$@" "$image" | jq -r '
        reduce .[] as $e ([]; if (.[-1] // {}) as $l | $l.zero == $e.zero and $l.start + $l.length == $e.start
            then .[-1].length += $e.length else . + [$e] end) |
        .[] | select(.zero | not) | "\(.start) \(.length)"'
}

# check SHAPE [OPTIONS]: what is served by the options is what QEMU reads of the image.
check() {
    local shape=$1 image=$dir/images/$1.qcow2
    shift
    start_server -r -t -e 0 "$@" "$image"
    client qemu-img compare -q -U -f qcow2 -F raw "$image" "$uri" || fail "$shape: other bytes"
    case $shape in
    # QEMU looks below what was preallocated, and at the holes of a raw data file.
    preallocation-* | data-file-raw | extended-21 | empty) ;;
    *)
        data_of "$image" -f qcow2 >"$dir/map.qemu"
        data_of "$uri" -f raw >"$dir/map.ours"
        cmp "$dir/map.qemu" "$dir/map.ours" || {
            diff "$dir/map.qemu" "$dir/map.ours" | head -20
            fail "$shape: other extents"
        }
        ;;
    esac
    stop_server
    ok "$shape $*"
}

# In memory, where there is room: qemu-img syncs what it makes.
images=$dir/images
if [ -w /dev/shm ]; then
    images=$(mktemp -d /dev/shm/platter-test.XXXXXX)
    ln -s "$images" "$dir/images"
    trap 'rm -rf "$images"; cleanup' EXIT
fi
mapfile -t shapes < <("$top/tests/images/make-qcow2" --list | awk "NR % $of == $part")
[ "${#shapes[@]}" -gt 0 ] || fail "no shapes"
"$top/tests/images/make-qcow2" "$images" "${shapes[@]}" >/dev/null || fail "the images cannot be made"
cd "$images" # from where QEMU looks for a relative data file; we look beside the image
for shape in "${shapes[@]}"; do
    check "$shape" -f qcow2
done
