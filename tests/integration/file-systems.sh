#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The tests of the driver "file" on file systems of other kinds, mounted for it: what zeroing,
# discarding, O_DIRECT and locks are there is the file system's matter. Usage: file-systems.sh KIND [SCRIPT]:
# with a script, that one is run there instead.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
kind=$1
script=${2:-}
is_stand_in && skip "the stand-in has no unit tests"
[ "$(id -u)" -eq 0 ] || skip "mounting needs root"
[ -n "${UNIT_TESTS:-}" ] || skip "no folder of unit tests (UNIT_TESTS)"
need mount unshare

# In a mount space of its own: nothing is left mounted, however this ends.
if [ "${MOUNTED_APART:-}" != 1 ]; then
    unshare -m true 2>/dev/null || skip "this container may not mount"
    status=0
    MOUNTED_APART=1 unshare -m --propagation private bash "$0" "$@" || status=$?
    exit "$status"
fi

mkdir "$dir/m"
trap 'status=$?; umount -l "$dir/m" 2>/dev/null; (exit $status); cleanup' EXIT
case $kind in
tmpfs) mount -t tmpfs -o size=512m none "$dir/m" || skip "no tmpfs can be mounted" ;;
*)
    need "mkfs.$kind"
    truncate -s 512M "$dir/volume"
    "mkfs.$kind" "$dir/volume" >/dev/null 2>&1 || skip "mkfs.$kind fails"
    mount -o loop "$dir/volume" "$dir/m" 2>/dev/null || skip "no $kind can be mounted here"
    ;;
esac
export TMPDIR=$dir/m
if [ -n "$script" ]; then
    status=0
    bash "$(dirname "$0")/$script" || status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq 77 ] || fail "$script on $kind"
    exit "$status"
fi

dd if=/dev/zero of="$TMPDIR/direct" bs=4096 count=1 oflag=direct status=none 2>/dev/null ||
    skip "this kernel's $kind has no O_DIRECT"
for name in posix posix_create posix_direct posix_lock posix_zero; do
    timeout "$limit_s" "$UNIT_TESTS/test_$name" >"$dir/out" 2>&1 || {
        cat "$dir/out"
        fail "test_$name on $kind"
    }
    ok "test_$name on $kind"
done
HELPERS=$HELPERS bash "$(dirname "$0")/discard.sh" || fail "discard.sh on $kind"
ok "discard.sh on $kind"
